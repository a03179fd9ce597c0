/* SPDX-License-Identifier: MIT */
/*
 * The state of a paused machine's parts that the engine has: vCPUs, interrupt controllers, timers,
 * clocks; read and written by the KVM ABI's requests, so that what one engine saved the other loads.
 *
 *	rc = vcpu_save(&m->vcpus[0], &out, &err);
 *	...
 *	rc = vcpu_load(&m->vcpus[0], &in, away, &err);      // a vCPU that was just made
 *
 * The order of loading: guest memory, devices, vm_load(), vCPUs. `away`: as many ns have passed since
 * the machine was saved, and its clocks go on by that.
 */
#ifndef MACHINE_SAVED_PARTS_H
#define MACHINE_SAVED_PARTS_H

#include <stdint.h>

struct cpu_table;
struct err;
struct state_in;
struct state_out;
struct vcpu;
struct vm;

/* The section "vcpuN". 0 or -errno; nothing in KVM_RUN. */
int vcpu_save(const struct vcpu *v, struct state_out *out, struct err *err);
int vcpu_load(const struct vcpu *v, const struct state_in *in, uint64_t away, struct err *err);

/* The sections "vm/chips" and "vm/clock". */
int vm_save(const struct vm *vm, struct state_out *out, struct err *err);
int vm_load(const struct vm *vm, const struct state_in *in, struct err *err);

/* How many ns ago the date was that "vm/clock" was saved at; 0 where the date lies ahead. */
int vm_away(const struct state_in *in, uint64_t *away, struct err *err);

/* The section "cpuid": what all vCPUs have in common. */
int cpuid_save(const struct cpu_table *t, struct state_out *out);
int cpuid_load(struct cpu_table *t, const struct state_in *in, struct err *err);

#endif
