/* SPDX-License-Identifier: MIT */
/*
 * What control groups leave to this process, whichever of their two versions the host has.
 *
 *	uint64_t bytes = cgroup_limit("", CGROUP_MEMORY);        // UINT64_MAX: no limit
 */
#ifndef ENGINE_CGROUP_H
#define ENGINE_CGROUP_H

#include <stdint.h>

enum cgroup_limit {
	CGROUP_MEMORY, /* bytes that it may have */
	CGROUP_PIDS,   /* threads that it may still make */
};

/* The least of what the group and those above it allow; UINT64_MAX if there is no limit, or none
 * that can be seen. `root` is "", or a directory that stands for / in a test. */
uint64_t cgroup_limit(const char *root, enum cgroup_limit what);

#endif
