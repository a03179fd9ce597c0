/* SPDX-License-Identifier: MIT */
/*
 * Does this engine work? Not "is there a node", but "does a guest run".
 *
 *	struct probe_report report;
 *	probe_engine(&kvm_host, &report);
 *	if (report.fault)
 *		printf("%s: %s\n", probe_fault_name(report.fault), report.text);
 *
 * A probe opens the engine, asks for what the board needs, and runs probe_guest.S with a
 * limit of PROBE_MS milliseconds of CPU time.
 */
#ifndef ENGINE_PROBE_H
#define ENGINE_PROBE_H

#include <stdint.h>

struct kvm_face;

#define PROBE_MS         300 /* of CPU time, for the whole guest; ten times that if it sleeps */
#define PROBE_SOFT_MS    3000 /* the same of our own engine, which works in emulators, too */
#define PROBE_SPEED_MS   10  /* of it, for the loop at its end: twenty times what it needs */
#define PROBE_TURNS      100000
#define PROBE_MIN_MIPS   50 /* million instructions a second in ring 0; less is an emulator */

/* Why an engine cannot be used. The names (probe.c) are part of doctor's JSON: stable. */
enum probe_fault {
	PROBE_OK,
	PROBE_NO_NODE,       /* /dev/kvm does not exist */
	PROBE_NO_MODULE,     /* it does, but nobody is behind it */
	PROBE_NO_PERMISSION, /* it may not be opened */
	PROBE_NO_CPU,        /* the host CPU lacks what the engine is made of */
	PROBE_CANNOT_OPEN,   /* other failures of opening */
	PROBE_OLD_API,       /* not version 12 */
	PROBE_NO_CAPABILITY, /* an extension is missing */
	PROBE_NO_VM,         /* a VM or vCPU cannot be made */
	PROBE_DIED,          /* the guest ended where it should not */
	PROBE_WRONG,         /* an instruction gave a wrong result */
	PROBE_STUCK,         /* the time was up */
	PROBE_SLOW,          /* it works, at a speed that no kernel should be run at */
	PROBE_FAULTS
};

struct probe_report {
	enum probe_fault fault;
	char text[256];   /* one sentence; of PROBE_OK too */
	const char *hint; /* what to try; NULL if there is nothing */
	double ms;        /* how long the probe took */
	double mips;      /* million instructions a second in ring 0; 0: not measured */
};

/* Fills *report, whose text is a sentence whatever happened. Takes up to PROBE_MS of CPU
 * time, and as long as the host needs to give it that. Any thread. */
void probe_engine(const struct kvm_face *face, struct probe_report *report);

/* "no-node" and so on; for JSON and scripts. */
const char *probe_fault_name(enum probe_fault fault);

#endif
