/* SPDX-License-Identifier: MIT */
/*
 * What the engine asks of the computer and of the process that it is opened in.
 *
 *	char why[HOST_WHY];
 *	int rc = host_check(why);
 *
 * Here, and not in a program above, because each user of the engine needs the answer before
 * the first guest runs: those that link it, and those that preload it.
 */
#ifndef SOFTKVM_HOST_H
#define SOFTKVM_HOST_H

#include <stdint.h>

#define HOST_WHY 256

/* 0, or one of softkvm_open()'s errors and a sentence that names the limit and what to do. Changes
 * nothing but what is reserved once a process (views.h, upper.h). Any thread. */
int host_check(char why[HOST_WHY]);

/* The words of CPUID that tell whether a CPU will do. */
struct host_cpu {
	uint32_t leaf1_ecx;
	uint32_t leaf80000001_ecx;
};

/* The first feature that it lacks; NULL: none. */
const char *host_lacks(const struct host_cpu *cpu);

#endif
