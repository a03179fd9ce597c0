/* SPDX-License-Identifier: MIT */
/*
 * A virtual CPU of the board: what it is told about itself, how it starts, its thread.
 */
#ifndef MACHINE_VCPU_H
#define MACHINE_VCPU_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct boot_entry;
struct cpu_table;
struct err;
struct kvm_run;
struct machine;
struct vm;

#define VCPU_REASONS 40 /* exit reasons that are counted apart */

struct vcpu {
	struct machine *m;
	const struct vm *vm;
	unsigned id; /* and its APIC id */
	int fd;      /* -1: none */
	struct kvm_run *run;
	unsigned phys_bits; /* of its physical addresses */
	pthread_t thread;
	bool has_thread;
	atomic_int tid; /* of its thread, for who asks; 0: it has not begun */
	_Atomic uint64_t exits[VCPU_REASONS]; /* written by its thread only */
	_Atomic uint64_t interrupted;         /* KVM_RUN came back with EINTR */
};

/* One of n. In its reset state, with CPUID of this model. */
int vcpu_open(struct vcpu *v, struct machine *m, const struct vm *vm, unsigned id,
	      unsigned n, const struct cpu_table *model, struct err *err);
void vcpu_close(struct vcpu *v);

/* Firmware's few settings, where there is none. */
int vcpu_set_up(struct vcpu *v, struct err *err);

/* Gives the boot processor the registers that the kernel is entered with. */
int vcpu_set_entry(struct vcpu *v, const struct boot_entry *entry, struct err *err);

/* Its thread: runs until the machine ends. */
void *vcpu_main(void *vcpu);

/* Makes KVM_RUN come back. Any thread, and signal handlers. */
void vcpu_nudge(struct vcpu *v);

/* Prepares the signal that kicks; once, before the first thread. */
void vcpu_kick_init(void);

/* For vcpu_open(): the model's table as CPU id of n sees it. Notes phys_bits. */
int vcpu_set_cpuid(struct vcpu *v, unsigned n, const struct cpu_table *model, struct err *err);

#endif
