/* SPDX-License-Identifier: MIT */
/*
 * What the engine asks of the computer and of the process that it is opened in.
 *
 *	char why[HOST_WHY];
 *	int rc = host_check(why);
 *
 * Here, and not in a program above, because each user of the engine needs the answer before
 * the first guest runs: those that link it, and those that preload it. `lodge doctor` asks for
 * each thing by itself.
 */
#ifndef SOFTKVM_HOST_H
#define SOFTKVM_HOST_H

#include "x86/feature.h"

#define HOST_WHY 256

/* In the order in which they are of use to somebody: what no setting can change comes first. */
enum host_need {
	HOST_CMPXCHG16B,
	HOST_LAHF,
	HOST_UPPER, /* nothing above 47 bits of address (upper.h) */
	HOST_SPACE, /* address space for the views, and for the tables of a vCPU */
	HOST_CODE,  /* memory that is written at one address and executed at another */
	HOST_TIMER,
	HOST_NEEDS
};

struct host_answer {
	int rc;              /* 0, or one of softkvm_open()'s errors */
	char text[HOST_WHY]; /* what was found: a sentence */
	const char *remedy;  /* what to do about it; NULL: nothing, or nothing is known */
};

/* Asks by trying. Changes nothing but what is reserved once a process (slots.h, upper.h). Any
 * thread. */
void host_ask(enum host_need need, struct host_answer *a);

/* The remedy where a system call failed with this errno; NULL: none is known. */
const char *host_remedy(int reason);

/* All of it: 0 and ""; or the first error, and a sentence that tells the remedy, too. */
int host_check(char why[HOST_WHY]);

/* What a need asks of a CPU that has such features: the name of what it lacks, or NULL. */
const char *host_lacks(enum host_need need, bool (*has)(enum cpu_feature_id));

#endif
