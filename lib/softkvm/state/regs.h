/* SPDX-License-Identifier: MIT */
/*
 * A vCPU's registers and events in the ABI's structures. Outside KVM_RUN, with the vCPU locked.
 */
#ifndef SOFTKVM_REGS_H
#define SOFTKVM_REGS_H

#include "softkvm/vcpu.h"

void regs_get(const struct vcpu *c, struct kvm_regs *r);
void regs_set(struct vcpu *c, const struct kvm_regs *r);

/* 0, or -EINVAL: a state that no processor can be in. Setting tells the engine to look anew
 * at everything that it derived from control registers (REQ_TLB_FLUSH). */
void sregs_get(struct vcpu *c, struct kvm_sregs *s);
int sregs_set(struct vcpu *c, const struct kvm_sregs *s);
void sregs2_get(struct vcpu *c, struct kvm_sregs2 *s);
int sregs2_set(struct vcpu *c, const struct kvm_sregs2 *s);

void debugregs_get(const struct vcpu *c, struct kvm_debugregs *d);
int debugregs_set(struct vcpu *c, const struct kvm_debugregs *d);

void events_get(const struct vcpu *c, struct kvm_vcpu_events *e);
int events_set(struct vcpu *c, const struct kvm_vcpu_events *e);

void mp_state_get(const struct vcpu *c, struct kvm_mp_state *m);
int mp_state_set(struct vcpu *c, const struct kvm_mp_state *m);

#endif
