/* SPDX-License-Identifier: MIT */
/* A thread's seccomp filter, made of calls.def. */
#ifndef SANDBOX_FILTER_H
#define SANDBOX_FILTER_H

#include <stdbool.h>

struct filter_config {
	bool makes_code; /* the main thread may map code for new vCPUs */
	bool removes;    /* and remove files */
};

/* The words of base/thread.h are the names of roles; "main" is the thread that starts the others. Which
 * one: -1 for a word that calls.def does not know. */
int filter_role(const char *name);

/* From here on this thread, and those that it starts, may do what the role may. 0 or -errno. */
int filter_enter(int role, const struct filter_config *config);

#endif
