/* SPDX-License-Identifier: MIT */
/*
 * CPUID: what the guest is told that it runs on.
 *
 * KVM_GET_SUPPORTED_CPUID offers what this host's CPU has, less what translated code cannot
 * give (cpuid_supported()); KVM_SET_CPUID2 stores what the client chose of it in c->cpuid, and
 * the CPUID instruction answers from there. docs/why/cpu-model.md argues each bit.
 */
#ifndef SOFTKVM_CPUID_H
#define SOFTKVM_CPUID_H

#include "softkvm/vcpu.h"

enum { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

/* The CPUID instruction: out is EAX, EBX, ECX, EDX. Leaves that the client did not give answer
 * as Intel's CPUs do (the highest basic leaf) or with zeros. No libc. */
void cpuid_query(struct vcpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4]);

/* Makes of an entry that the client gave what the guest finds there now. */
void cpuid_now(const struct vcpu *c, struct kvm_cpuid_entry2 *e);

/* The entry as the client gave it, or NULL. No libc. */
const struct kvm_cpuid_entry2 *cpuid_find(const struct vcpu *c, uint32_t leaf, uint32_t sub);

/* Has the guest this feature? One whose instructions run natively it has only where the host does,
 * whatever the client said. No libc. */
static inline bool cpuid_has(const struct vcpu *c, enum cpu_feature_id feature)
{
	return cpu_set_has(&c->features, feature);
}

/* The features of a list. */
struct cpu_set cpuid_features(const struct kvm_cpuid_entry2 *list, unsigned n);

/* KVM_GET_SUPPORTED_CPUID. Fills at most max entries; how many there are. */
unsigned cpuid_supported(struct kvm_cpuid_entry2 *out, unsigned max);

/* KVM_SET_CPUID2: 0 or -errno. Copies, and derives what depends on it. */
int cpuid_set(struct vcpu *c, const struct kvm_cpuid_entry2 *entries, unsigned n);

/* Recomputes what depends on c->cpuid: features, cr4_allowed, efer_allowed, xcr0_allowed, amd,
 * max_phys_bits. */
void cpuid_derive(struct vcpu *c);

/* The host has BMI1, of which BEXTR is used. No libc. */
bool host_has_bmi1(void);

/* Those of them that are extensions of the instruction set, 1 << enum x86_isa each. */
uint32_t cpuid_isa(const struct cpu_set *features);

/* The host's vendor is AMD or Hygon. No libc. */
bool host_is_amd(void);

#endif
