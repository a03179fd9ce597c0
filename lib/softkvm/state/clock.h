/* SPDX-License-Identifier: MIT */
/*
 * Time: the guest's TSC and KVM's paravirtual clock.
 *
 * The guest's TSC is the host's plus c->tsc_offset, at the host's frequency. kvmclock is a page
 * in guest memory from which the guest computes nanoseconds out of its TSC; the VM's clock is
 * CLOCK_BOOTTIME plus vm->clock_offset, and is read and set by KVM_GET_CLOCK, KVM_SET_CLOCK.
 */
#ifndef SOFTKVM_CLOCK_H
#define SOFTKVM_CLOCK_H

#include "softkvm/vcpu.h"

static inline uint64_t host_tsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

/* What RDTSC gives the guest now. */
static inline uint64_t vcpu_tsc(const struct vcpu *c)
{
	return host_tsc() + c->tsc_offset;
}

/* The host's TSC frequency; measured once a process. May take 20 ms the first time. */
uint64_t host_tsc_khz(void);

/* Nanoseconds of the VM's clock now. No libc. */
uint64_t kvmclock_now(struct vm *vm);
void kvmclock_set(struct vm *vm, uint64_t ns);

/* REQ_CLOCK: writes the vCPU's clock page, if the guest asked for one. The vCPU's thread, no
 * libc. */
void kvmclock_update(struct vcpu *c);

/* The guest wrote the wall clock's MSR: fills in the date of the clock's zero. No libc. */
void kvmclock_wall(struct vcpu *c, uint64_t gpa);

#endif
