/* SPDX-License-Identifier: MIT */
/*
 * Tiny guests: one vCPU, a little memory, a time limit.
 *
 * The probe and the tests of engines run a few hundred bytes of guest at a time and look at
 * how it comes out of KVM_RUN. This is the part they share.
 *
 *	struct tiny t;
 *	if (tiny_open(&t, &kvm_soft, &(struct tiny_config){.memory = 2 * MiB}, &err) < 0)
 *		...
 *	memcpy(t.mem + 0x1000, code, len);
 *	tiny_enter(&t, TINY_REAL, 0x1000);
 *	rc = tiny_run(&t, 100);         // milliseconds, 0: no limit; t.run->exit_reason
 *	                                // says why, if rc is 0
 *	tiny_close(&t);
 *
 * The address space that TINY_LONG and TINY_USER start with: the first 2 MiB mapped to
 * themselves in 4 KiB pages, for everybody (user bit set), writable and executable, by
 * tables at TINY_TABLES. What of them is behind mem_size is MMIO. A GDT is at TINY_GDT with
 * the selectors below.
 */
#ifndef ENGINE_TINY_H
#define ENGINE_TINY_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "engine/kvm.h"

struct err;

#define TINY_GDT    0x800   /* 64 bytes */
#define TINY_TABLES 0x10000 /* PML4, PDPT, PD, PT: four pages */
#define TINY_STACK  0x8000  /* rsp at entry, of all modes */

/* Selectors of the GDT; code and data in every mode, and for the ring that SYSRET wants. */
enum {
	TINY_CODE32 = 0x08,
	TINY_DATA = 0x10,
	TINY_CODE64 = 0x18,
	TINY_USER32 = 0x20, /* never loaded; SYSRET counts from here */
	TINY_USER_DATA = 0x28,
	TINY_USER_CODE = 0x30,
};

enum tiny_mode {
	TINY_REAL,      /* 16-bit, all segments 0 */
	TINY_PROTECTED, /* 32-bit, flat, paging off */
	TINY_LONG,      /* 64-bit, ring 0 */
	TINY_USER,      /* 64-bit, ring 3 */
};

struct tiny_config {
	size_t memory; /* in bytes, whole pages, at least 128 KiB */
	int chips;     /* one of these: */
};

enum {
	TINY_NO_CHIPS,
	TINY_CHIPS, /* PIC, IOAPIC, local APIC and PIT on the engine's side; HLT sleeps then */
	TINY_SPLIT, /* the local APIC alone (KVM_CAP_SPLIT_IRQCHIP), and 24 pins of an IOAPIC that is the client's */
};

struct tiny {
	const struct kvm_face *face;
	int sys, vm, vcpu;
	struct kvm_run *run;
	size_t run_size;
	uint8_t *mem; /* guest-physical 0 and up */
	size_t mem_size;
	timer_t timer;
	int has_timer;
};

/* Makes the guest, memory zeroed but for page tables and GDT. On failure nothing is left, and
 * err names the call that failed. */
int tiny_open(struct tiny *t, const struct kvm_face *face,
	      const struct tiny_config *config, struct err *err);
void tiny_close(struct tiny *t);

/* Sets all registers for a start at rip in that mode. 0 or -errno. */
int tiny_enter(struct tiny *t, enum tiny_mode mode, uint64_t rip);

/* KVM_RUN until an exit that is not an interruption: 0 and t->run tells; -ETIME: the time was
 * up, the guest is stopped between two instructions; or what KVM_RUN failed with. */
int tiny_run(struct tiny *t, unsigned ms);

/* An ioctl on the vCPU. */
int tiny_call(struct tiny *t, unsigned long request, void *arg);

#endif
