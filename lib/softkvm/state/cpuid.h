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

/* The entry as the client gave it, or NULL. No libc. */
const struct kvm_cpuid_entry2 *cpuid_find(const struct vcpu *c, uint32_t leaf, uint32_t sub);

/* Has the guest this feature? leaf and sub as given; reg is CPUID_EAX..CPUID_EDX. No libc. */
bool cpuid_has(const struct vcpu *c, uint32_t leaf, uint32_t sub, int reg, int bit);

/* KVM_GET_SUPPORTED_CPUID. Fills at most max entries; how many there are. */
unsigned cpuid_supported(struct kvm_cpuid_entry2 *out, unsigned max);

/* KVM_SET_CPUID2: 0 or -errno. Copies, and derives what depends on it. */
int cpuid_set(struct vcpu *c, const struct kvm_cpuid_entry2 *entries, unsigned n);

/* Recomputes what depends on c->cpuid: cr4_allowed, efer_allowed, xcr0_allowed, amd,
 * max_phys_bits. */
void cpuid_derive(struct vcpu *c);

/* The host has BMI1, of which BEXTR is used. No libc. */
bool host_has_bmi1(void);

/* The extensions of the instruction set that a list has, 1 << enum x86_isa each. */
uint32_t cpuid_isa(const struct kvm_cpuid_entry2 *list, unsigned n);

/* The host's vendor is AMD or Hygon. No libc. */
bool host_is_amd(void);

#endif
