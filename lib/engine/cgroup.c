/* SPDX-License-Identifier: MIT */
/*
 * Limits of control groups.
 *
 * /proc/self/cgroup has a line for each hierarchy that the process is in:
 *
 *	8:pids:/system.slice/x          version 1: below /sys/fs/cgroup/pids
 *	0::/user.slice/y                version 2: below /sys/fs/cgroup, or its folder `unified`
 *
 * A limit of any group on the way up holds, so all of them are read. In a container the path may be
 * one of the host, which is not there; then only what is there counts, in the end the mount's root,
 * which is the container's own group. Without /proc it is all that can be asked.
 */
#include "engine/cgroup.h"

#include "base/macros.h"
#include "base/size.h"
#include "base/word.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the software engine, beside the guest's memory: 34 MiB after a boot with one vCPU, 87 MiB with
 * four. */
#define OWN (96 * MiB)

#define LINES_MAX 1000 /* a host has a dozen hierarchies */

#define NONE      UINT64_MAX
#define UNLIMITED (UINT64_C(1) << 60) /* version 1 writes the largest multiple of a page */

static const struct {
	const char *controller;
	const char *max[2], *now[2]; /* files of version 1 and 2; now: taken off, or NULL */
} limits[] = {
	[CGROUP_MEMORY] = {"memory", {"memory.limit_in_bytes", "memory.max"}, {NULL, NULL}},
	[CGROUP_PIDS] = {"pids", {"pids.max", "pids.max"}, {"pids.current", "pids.current"}},
};

/* The number in a file; NONE for "max", and for what cannot be read. */
static uint64_t number_in(const char *directory, const char *file)
{
	char path[1024];
	unsigned long long n;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", directory, file);
	f = fopen(path, "re");
	if (!f)
		return NONE;
	if (fscanf(f, "%llu", &n) != 1 || n >= UNLIMITED)
		n = NONE;
	fclose(f);
	return n;
}

static uint64_t limit_at(const char *directory, enum cgroup_limit what, int version)
{
	uint64_t max = number_in(directory, limits[what].max[version - 1]), now = 0;

	if (max != NONE && limits[what].now[version - 1])
		now = number_in(directory, limits[what].now[version - 1]);
	if (now == NONE)
		now = 0;
	return max == NONE ? NONE : max > now ? max - now : 0;
}

/* Of the group at `path` below a mount, and of those above. */
static uint64_t limit_of(const char *mount, char *path, enum cgroup_limit what, int version)
{
	uint64_t least = NONE;
	char directory[1024];

	for (;;) {
		char *slash = strrchr(path, '/');
		uint64_t limit;

		snprintf(directory, sizeof(directory), "%s%s", mount, path);
		limit = limit_at(directory, what, version);
		least = limit < least ? limit : least;
		if (!slash)
			return least;
		*slash = 0;
	}
}

static uint64_t limit_of_line(const char *root, char *line, enum cgroup_limit what)
{
	static const char *const mounts[] = {"", "/unified"};
	char *controllers = strchr(line, ':'), *path = NULL, mount[512], copy[512];
	uint64_t least = NONE;

	if (controllers)
		path = strchr(++controllers, ':');
	if (!path)
		return NONE;
	*path++ = 0;
	path[strcspn(path, "\n")] = 0;
	if (word_in(limits[what].controller, controllers, ',')) {
		snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup/%s", root,
			 limits[what].controller);
		return limit_of(mount, path, what, 1);
	}
	for (unsigned i = 0; !controllers[0] && i < ARRAY_SIZE(mounts); i++) {
		uint64_t limit;

		snprintf(mount, sizeof(mount), "%s/sys/fs/cgroup%s", root, mounts[i]);
		snprintf(copy, sizeof(copy), "%s", path);
		limit = limit_of(mount, copy, what, 2);
		least = limit < least ? limit : least;
	}
	return least;
}

/* Of the mount's root, in either version, where nothing says what this process is in. */
static uint64_t limit_unseen(const char *root, enum cgroup_limit what)
{
	char one[32], two[] = "0::";
	uint64_t a, b;

	snprintf(one, sizeof(one), "1:%s:", limits[what].controller);
	a = limit_of_line(root, one, what);
	b = limit_of_line(root, two, what);
	return a < b ? a : b;
}

uint64_t cgroup_limit(const char *root, enum cgroup_limit what)
{
	char path[512], line[1024];
	uint64_t least = NONE;
	FILE *f;

	snprintf(path, sizeof(path), "%s/proc/self/cgroup", root);
	f = fopen(path, "re");
	if (!f)
		return limit_unseen(root, what);
	for (int i = 0; i < LINES_MAX && fgets(line, sizeof(line), f); i++) {
		uint64_t limit = limit_of_line(root, line, what);

		least = limit < least ? limit : least;
	}
	fclose(f);
	return least;
}

bool cgroup_is_short(const char *root, uint64_t memory, char text[CGROUP_TEXT])
{
	uint64_t limit = cgroup_limit(root, CGROUP_MEMORY);
	char limit_text[SIZE_TEXT], memory_text[SIZE_TEXT], own_text[SIZE_TEXT];

	if (limit == NONE || (limit >= OWN && limit - OWN >= memory))
		return false;
	snprintf(text, CGROUP_TEXT,
		 "the cgroup's limit is %s; the guest's %s and up to %s of the engine's own are more, "
		 "and the kernel ends lodge without a word if it comes to use them",
		 size_text(limit_text, limit), size_text(memory_text, memory),
		 size_text(own_text, OWN));
	return true;
}
