/* SPDX-License-Identifier: MIT */
/*
 * See host.h. A table of checks, in the order in which they are of use to somebody: what no setting
 * can change comes first.
 *
 * What can be tried is tried, because there are more ways to forbid a thing than one could
 * look for. Limits are read only to name the one that was in the way.
 */
#include "softkvm/state/host.h"

#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/macros.h"
#include "base/memfile.h"
#include "base/size.h"
#include "softkvm/state/slots.h"
#include "softkvm/state/space.h"
#include "softkvm/state/upper.h"
#include "softkvm/translate/engine.h"

#define PAGE 4096

__attribute__((format(printf, 3, 4)))
static int say(char why[HOST_WHY], int rc, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, HOST_WHY, fmt, ap);
	va_end(ap);
	return rc;
}

/* -- The CPU ----------------------------------------------------------------------------- */

/* What translated code is made of: without one of these rows the first guest would end with an
 * illegal instruction, which is no way to tell anybody. */
static const struct {
	size_t word; /* which of struct host_cpu */
	unsigned bit;
	const char *name;
} needed[] = {
	{offsetof(struct host_cpu, leaf1_ecx), 13, "CMPXCHG16B"},
	{offsetof(struct host_cpu, leaf80000001_ecx), 0, "LAHF in 64-bit mode"},
};

const char *host_lacks(const struct host_cpu *cpu)
{
	for (unsigned i = 0; i < ARRAY_SIZE(needed); i++) {
		uint32_t word;

		memcpy(&word, (const char *)cpu + needed[i].word, sizeof(word));
		if (!(word >> needed[i].bit & 1))
			return needed[i].name;
	}
	return NULL;
}

static int check_cpu(char why[HOST_WHY])
{
	struct host_cpu cpu = {0};
	const char *lacks;
	uint32_t a, b, d;

	__get_cpuid(1, &a, &b, &cpu.leaf1_ecx, &d);
	__get_cpuid(0x80000001, &a, &b, &cpu.leaf80000001_ecx, &d);
	lacks = host_lacks(&cpu);
	return lacks ? say(why, -ENODEV, "this computer lacks %s", lacks) : 0;
}

/* -- Addresses --------------------------------------------------------------------------- */

static int check_upper(char why[HOST_WHY])
{
	int rc = upper_reserve();

	if (rc == -EADDRINUSE)
		return say(why, rc, "this process has memory above 47 bits of address, where a "
				    "guest could reach it");
	return rc ? say(why, rc, "the addresses above 47 bits cannot be reserved: %s",
			strerror(-rc)) : 0;
}

/* Of a file's size, too: tables may have to be one (space.c). */
static const struct {
	__rlimit_resource_t resource;
	const char *name;
} limits[] = {{RLIMIT_AS, "ulimit -v"}, {RLIMIT_FSIZE, "ulimit -f"}};

#define SPACE (VIEWS_SPACE + VIEW_ARENA_LEN)

static int no_space(char why[HOST_WHY])
{
	const unsigned tib = (SPACE >> 40) + 1;
	struct rlimit limit;
	char size[SIZE_TEXT];

	for (unsigned i = 0; i < ARRAY_SIZE(limits); i++)
		if (getrlimit(limits[i].resource, &limit) == 0 && limit.rlim_cur < SPACE)
			return say(why, -ENOMEM, "the engine needs %u TiB of address space, of "
				   "which it uses little, and %s allows %s: raise it, to unlimited",
				   tib, limits[i].name, size_text(size, limit.rlim_cur));
	return say(why, -ENOMEM, "the engine needs %u TiB of address space, of which it uses "
		   "little, and this process cannot have as much", tib);
}

/* Room for a second mapping of guest memory, without which all accesses would be slow; and what a
 * vCPU's tables take. */
static int check_space(char why[HOST_WHY])
{
	void *tables = views_reserve() ? space_create(VIEW_ARENA_LEN) : NULL;

	if (!tables)
		return no_space(why);
	munmap(tables, VIEW_ARENA_LEN);
	return 0;
}

/* -- Code -------------------------------------------------------------------------------- */

static bool map_page(int fd, int prot)
{
	void *p = mmap(NULL, PAGE, prot, MAP_SHARED, fd, 0);
	int reason = errno;

	if (p != MAP_FAILED)
		munmap(p, PAGE);
	errno = reason;
	return p != MAP_FAILED;
}

/* As translate/cache.c does it. */
static int check_code(char why[HOST_WHY])
{
	int fd = memfile_create("softkvm-check", PAGE);
	int reason;

	if (fd < 0)
		return say(why, fd, "no memory for translated code, a memfd: %s", strerror(-fd));
	reason = map_page(fd, PROT_READ | PROT_WRITE) && map_page(fd, PROT_READ | PROT_EXEC)
			 ? 0 : errno;
	close(fd);
	if (reason)
		return say(why, -EACCES, "a memfd cannot be mapped to be executed (%s), and "
			   "translated code is kept in one: allow it in this process's "
			   "seccomp filter or security policy", strerror(reason));
	return 0;
}

/* -- Time -------------------------------------------------------------------------------- */

/* Each vCPU has a timer, and each timer counts as a signal that waits. */
static int check_timer(char why[HOST_WHY])
{
	struct sigevent none = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG};
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &none, &timer) == 0) {
		timer_delete(timer);
		return 0;
	}
	if (errno == EAGAIN)
		return say(why, -EAGAIN, "no timer can be made, and each CPU of a guest has one: "
			   "ulimit -i is too low");
	return say(why, -errno, "no timer can be made: %s", strerror(errno));
}

int host_check(char why[HOST_WHY])
{
	static int (*const checks[])(char *) = {check_cpu, check_upper, check_space, check_code,
						check_timer};
	int rc = 0;

	why[0] = 0;
	for (unsigned i = 0; i < ARRAY_SIZE(checks) && !rc; i++)
		rc = checks[i](why);
	return rc;
}
