/* SPDX-License-Identifier: MIT */
/*
 * What this computer, its kernel and whatever is around this process say when they are asked.
 *
 *	struct answers a;
 *
 *	ask_host(&a);                           // first: an open engine takes addresses
 *	probe_engine(&kvm_host, &a.kvm);
 *	facts_judge(&a, facts);                 // engine/facts.h
 *
 * Whether an answer is good or bad is said in facts.c alone; but what softkvm_open() asks of a host
 * is asked, and answered in words, by the same function (softkvm/state/host.h).
 */
#ifndef ENGINE_ASK_H
#define ENGINE_ASK_H

#include "engine/probe.h"
#include "softkvm/os/words.h"
#include "softkvm/softkvm.h"
#include "softkvm/state/host.h"
#include "x86/feature.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/utsname.h>

#define NO_LIMIT UINT64_MAX

struct answers {
	struct probe_report kvm; /* if it was probed */

	/* the CPU */
	struct cpu_set cpu;  /* what it and the kernel give to programs */
	uint32_t signature;  /* family, model, stepping: EAX of leaf 1 */
	char vendor[13];     /* "GenuineIntel" */
	char brand[49];      /* "" if it has no name */
	char hypervisor[13]; /* what leaf 0x40000000 calls itself; "" without one, "?" if unnamed */
	struct softkvm_ways ways;

	/* the kernel, and what is around this process */
	struct utsname os;
	bool has_proc;
	bool in_namespaces;    /* of processes or users, other than the host's */
	const char *container; /* what left its mark: "docker"; NULL: nothing */
	bool clock_is_tsc;     /* the kernel's own clock is the TSC */
	int seccomp;           /* SECCOMP_MODE_*, or -1 if that may not be asked */
	bool no_new_privs, mdwe;
	const char *softkvm_words; /* the environment's SOFTKVM, or NULL; and what it says */
	struct words words;

	/* what was tried */
	struct host_answer needs[HOST_NEEDS]; /* the software engine's */
	int thread; /* 0 or errno */
	bool wide;  /* there are user addresses above 2^47 */
	bool has_node;
	uint32_t node_mode, node_uid, node_gid; /* of /dev/kvm */

	/* limits: NO_LIMIT, or so many */
	uint64_t limit_nproc, limit_sigpending;
	uint64_t cgroup_memory, cgroup_pids;
	uint64_t memory, memory_total; /* bytes; memory: what can be had without swapping */
};

/* Fills *a, with a report that says nothing. A few milliseconds. Never fails: what cannot be asked
 * has the value that is told above. Any thread. */
void ask_host(struct answers *a);

#endif
