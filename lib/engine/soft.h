/* SPDX-License-Identifier: MIT */
/*
 * What the software engine asks of the computer it runs on.
 */
#ifndef ENGINE_SOFT_H
#define ENGINE_SOFT_H

#include <stddef.h>
#include <stdint.h>

/* The words of CPUID in which it is said. */
struct soft_host {
	uint32_t leaf1_ecx;
	uint32_t leaf80000001_ecx;
};

/* The first thing that host lacks, in words for "this computer lacks ..."; NULL: nothing. */
const char *soft_lacks(const struct soft_host *host);

#endif
