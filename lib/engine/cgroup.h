/* SPDX-License-Identifier: MIT */
/*
 * What control groups leave to this process, whichever of their two versions the host has.
 *
 *	uint64_t bytes = cgroup_limit("", CGROUP_MEMORY);        // UINT64_MAX: no limit
 *
 *	if (cgroup_is_short("", guest_memory, text))
 *		log_warn("memory", "%s", text);
 */
#ifndef ENGINE_CGROUP_H
#define ENGINE_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

enum cgroup_limit {
	CGROUP_MEMORY, /* bytes that it may have */
	CGROUP_PIDS,   /* threads that it may still make */
};

/* The least of what the group and those above it allow; UINT64_MAX if there is no limit, or none
 * that can be seen. `root` is "", or a directory that stands for / in a test. */
uint64_t cgroup_limit(const char *root, enum cgroup_limit what);

#define CGROUP_TEXT 256

/* Is the limit less than what a guest of so much memory may come to have? Then the kernel may end this
 * process without a word when it does, and the sentence in text says so. */
bool cgroup_is_short(const char *root, uint64_t memory, char text[CGROUP_TEXT]);

#endif
