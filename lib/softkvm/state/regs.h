/* SPDX-License-Identifier: MIT */
/*
 * A vCPU's registers and events in the ABI's structures: the ioctls of the same names. Outside
 * KVM_RUN, with the vCPU locked.
 *
 *	struct kvm_regs r;
 *
 *	regs_get(c, &r);
 *	r.rip = 0x1000;
 *	regs_set(c, &r);
 *
 * What sets returns 0, or -EINVAL for a state that no processor can be in, and then nothing has
 * changed. Source: the kernel's KVM API document.
 */
#ifndef SOFTKVM_REGS_H
#define SOFTKVM_REGS_H

#include "softkvm/vcpu.h"

/* General registers, rip, rflags. Whatever the client sets is taken. */
void regs_get(const struct vcpu *c, struct kvm_regs *r);
void regs_set(struct vcpu *c, const struct kvm_regs *r);

/* Segments, tables, control registers. Setting tells the engine to look anew at everything that
 * it derived from them (REQ_TLB_FLUSH). */
void sregs_get(struct vcpu *c, struct kvm_sregs *s);
int sregs_set(struct vcpu *c, const struct kvm_sregs *s);
void sregs2_get(struct vcpu *c, struct kvm_sregs2 *s);
int sregs2_set(struct vcpu *c, const struct kvm_sregs2 *s);

/* DR0 to DR3, DR6, DR7. */
void debugregs_get(const struct vcpu *c, struct kvm_debugregs *d);
int debugregs_set(struct vcpu *c, const struct kvm_debugregs *d);

/* What waits to be delivered, and what holds it up: exceptions, interrupts, NMIs, shadows. */
void events_get(const struct vcpu *c, struct kvm_vcpu_events *e);
int events_set(struct vcpu *c, const struct kvm_vcpu_events *e);

/* Running, halted, waiting for INIT or SIPI. */
void mp_state_get(const struct vcpu *c, struct kvm_mp_state *m);
int mp_state_set(struct vcpu *c, const struct kvm_mp_state *m);

#endif
