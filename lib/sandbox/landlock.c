/* SPDX-License-Identifier: MIT */
/*
 * See landlock.h. The kernel's Documentation/userspace-api/landlock.rst: a rule set says which rights it
 * handles, and what it handles is denied but where a rule allows it. Which rights there are, a kernel
 * says by the number of its ABI; one that is asked for more refuses all.
 */
#include "sandbox/landlock.h"

#include "base/macros.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* <linux/landlock.h>, of which a distribution may have an old one. */
#define SYS_CREATE_RULESET 444
#define SYS_ADD_RULE       445
#define SYS_RESTRICT_SELF  446
#define ASK_VERSION        1u
#define RULE_PATH_BENEATH  1
#define MAY_WRITE_FILE     (1ull << 1)
#define MAY_READ_FILE      (1ull << 2)
#define MAY_READ_DIR       (1ull << 3)
#define MAY_REMOVE_DIR     (1ull << 4)
#define MAY_REMOVE_FILE    (1ull << 5)
#define MAY_MAKE_DIR       (1ull << 7)
#define MAY_MAKE_FILE      (1ull << 8)
#define MAY_MAKE_SYMLINK   (1ull << 12)
#define MAY_REFER          (1ull << 13) /* rename and link from one directory to another */
#define MAY_TRUNCATE       (1ull << 14)

/* Of a shared directory. Devices, pipes and sockets are made in none. */
#define MAY_READ   (MAY_READ_FILE | MAY_READ_DIR)
#define MAY_CHANGE                                                                              \
	(MAY_WRITE_FILE | MAY_REMOVE_DIR | MAY_REMOVE_FILE | MAY_MAKE_DIR | MAY_MAKE_FILE |     \
	 MAY_MAKE_SYMLINK | MAY_REFER | MAY_TRUNCATE)

struct ruleset {
	uint64_t files, net, scopes;
};

struct path_rule {
	uint64_t may;
	int32_t dir;
} __attribute__((packed));

/* From which ABI on the kernel knows which bits, and how long a struct ruleset. */
static const struct {
	unsigned abi;
	uint64_t files, net, scopes;
	size_t size;
} abis[] = {
	{1, 0x1fff, 0, 0, 8},
	{2, 0x3fff, 0, 0, 8},    /* REFER */
	{3, 0x7fff, 0, 0, 8},    /* TRUNCATE */
	{4, 0x7fff, 3, 0, 16},   /* TCP: bind, connect */
	{5, 0xffff, 3, 0, 16},   /* IOCTL_DEV */
	{6, 0xffff, 3, 3, 24},   /* abstract sockets, signals */
};

/* *files: which rights this kernel knows. */
static int create_ruleset(bool network, uint64_t *files)
{
	long abi = syscall(SYS_CREATE_RULESET, NULL, 0, ASK_VERSION);
	struct ruleset all;
	unsigned i = 0;
	long fd;

	if (abi < 1)
		return abi < 0 ? -errno : -EOPNOTSUPP;
	while (i + 1 < ARRAY_SIZE(abis) && abis[i + 1].abi <= (unsigned)abi)
		i++;
	all = (struct ruleset){abis[i].files, network ? 0 : abis[i].net, abis[i].scopes};
	*files = all.files;
	fd = syscall(SYS_CREATE_RULESET, &all, abis[i].size, 0);
	return fd < 0 ? -errno : (int)fd;
}

static int allow_dir(int ruleset, int dir, uint64_t may)
{
	struct path_rule rule = {.may = may, .dir = dir};

	return syscall(SYS_ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) ? -errno : 0;
}

static int allow(int ruleset, const char *path, uint64_t may)
{
	scoped_fd int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return dir < 0 ? -errno : allow_dir(ruleset, dir, may);
}

/*
 * The kernel writes a core file with the rights of who died. Where: core(5). A program that it
 * is given to is not ours.
 */
static void allow_core(int ruleset)
{
	scoped_fd int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
	struct rlimit limit;
	char dir[256] = "";
	char *end;

	if (getrlimit(RLIMIT_CORE, &limit) < 0 || !limit.rlim_cur)
		return;
	if (fd >= 0 && read(fd, dir, sizeof(dir) - 1) < 0)
		return;
	if (dir[0] == '|' || dir[0] == '@')
		return;
	dir[strcspn(dir, "%\n")] = 0;
	end = strrchr(dir, '/');
	if (end)
		end[end == dir] = 0;
	allow(ruleset, end ? dir : ".", MAY_READ_FILE | MAY_WRITE_FILE | MAY_MAKE_FILE);
}

int landlock_enter(const struct landlock_left *left)
{
	uint64_t known = 0;
	scoped_fd int ruleset = create_ruleset(left->network, &known);
	int rc = 0;

	if (ruleset < 0)
		return ruleset;
	allow_core(ruleset);
	if (left->removes)
		rc = allow(ruleset, left->removes, MAY_REMOVE_FILE);
	for (unsigned i = 0; i < ARRAY_SIZE(left->reads); i++)
		if (rc == 0 && left->reads[i])
			rc = allow(ruleset, left->reads[i], MAY_READ_FILE);
	if (rc == 0 && left->shares)
		rc = allow_dir(ruleset, *left->shares, (MAY_READ | (left->readonly ? 0 : MAY_CHANGE)) & known);
	if (rc == 0 && syscall(SYS_RESTRICT_SELF, ruleset, 0))
		rc = -errno;
	return rc;
}
