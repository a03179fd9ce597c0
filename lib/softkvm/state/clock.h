/* SPDX-License-Identifier: MIT */
/*
 * Time: the guest's TSC and KVM's paravirtual clock.
 *
 * The guest's TSC is the host's plus c->tsc_offset, at the host's frequency. kvmclock is a page
 * in guest memory from which the guest computes nanoseconds out of its TSC. The VM's clock runs
 * on the host's TSC from one anchor (vm->clock_ns at vm->clock_tsc), the same for all vCPUs, so
 * that their pages never disagree; KVM_GET_CLOCK and KVM_SET_CLOCK read and set it.
 */
#ifndef SOFTKVM_CLOCK_H
#define SOFTKVM_CLOCK_H

#include "softkvm/os/syscall.h"
#include "softkvm/vcpu.h"

/* What RDTSC gives the guest now. */
static inline uint64_t vcpu_tsc(const struct vcpu *c)
{
	return host_tsc() + c->tsc_offset;
}

/* The host's TSC frequency, measured once a process between clock_begin() and now; waits until
 * that are 4 ms at least. */
void clock_begin(void);
uint64_t host_tsc_khz(void);

/* The host's frequency, but for what measuring and crystals differ by? */
bool tsc_khz_is_ours(uint64_t khz);

/* Nanoseconds of the VM's clock now. No libc. */
uint64_t kvmclock_now(struct vm *vm);
void kvmclock_set(struct vm *vm, uint64_t ns);

/* REQ_CLOCK: writes the vCPU's clock page, if the guest asked for one. The vCPU's thread, no
 * libc. */
void kvmclock_update(struct vcpu *c);

/* The guest wrote the wall clock's MSR: fills in the date of the clock's zero. No libc. */
void kvmclock_wall(struct vcpu *c, uint64_t gpa);

#endif
