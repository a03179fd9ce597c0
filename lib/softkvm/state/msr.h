/* SPDX-License-Identifier: MIT */
/*
 * Model-specific registers, as RDMSR and WRMSR and as KVM_GET_MSRS and KVM_SET_MSRS see them.
 *
 *	uint64_t value;
 *	if (msr_read(c, c->gpr[X86_RCX], &value) < 0)
 *		return fault_code(c, X86_GP, 0);
 *
 * The vCPU's thread, or with the vCPU locked outside KVM_RUN. No libc.
 * Source: Intel SDM volume 4; AMD APM volume 2, appendix A; the kernel's x86/msr.rst for KVM's.
 */
#ifndef SOFTKVM_MSR_H
#define SOFTKVM_MSR_H

#include "softkvm/vcpu.h"

#define MSR_TSC             0x10u
#define MSR_APIC_BASE       0x1bu
#define MSR_FEATURE_CONTROL 0x3au
#define MSR_TSC_ADJUST      0x3bu
#define MSR_SPEC_CTRL       0x48u
#define MSR_PRED_CMD        0x49u
#define MSR_UCODE_REV       0x8bu
#define MSR_PLATFORM_INFO   0xceu
#define MSR_MTRRCAP         0xfeu
#define MSR_ARCH_CAPS       0x10au
#define MSR_SYSENTER_CS     0x174u
#define MSR_SYSENTER_ESP    0x175u
#define MSR_SYSENTER_EIP    0x176u
#define MSR_MISC_ENABLE     0x1a0u
#define MSR_PAT             0x277u
#define MSR_TSC_DEADLINE    0x6e0u
#define MSR_X2APIC_FIRST    0x800u
#define MSR_X2APIC_LAST     0x8ffu
#define MSR_EFER            0xc0000080u
#define MSR_STAR            0xc0000081u
#define MSR_LSTAR           0xc0000082u
#define MSR_CSTAR           0xc0000083u
#define MSR_SFMASK          0xc0000084u
#define MSR_FS_BASE         0xc0000100u
#define MSR_GS_BASE         0xc0000101u
#define MSR_KERNEL_GS_BASE  0xc0000102u
#define MSR_TSC_AUX         0xc0000103u

/* MCG_CAP: 32 banks; errors are software recoverable, no CMCI. */
#define MCG_CAP (32ull | 1ull << 8 | 1ull << 24)

/* 0, or -1 for #GP(0). */
int msr_read(struct vcpu *c, uint32_t msr, uint64_t *value);
int msr_write(struct vcpu *c, uint32_t msr, uint64_t value);

/* Is there such a register? */
bool msr_is_known(const struct vcpu *c, uint32_t msr);

/* The same for the client (KVM_GET_MSRS, KVM_SET_MSRS), which may also write registers that
 * the guest can only read. 0, or -1: no such register, or no such value. */
int msr_get(struct vcpu *c, uint32_t msr, uint64_t *value);
int msr_set(struct vcpu *c, uint32_t msr, uint64_t value);

/* The numbers for KVM_GET_MSR_INDEX_LIST (feature: KVM_GET_MSR_FEATURE_INDEX_LIST). Fills at
 * most max and returns how many there are. */
unsigned msr_list(uint32_t *out, unsigned max, bool feature);

/* The value a feature register (ARCH_CAPABILITIES, ...) has before anybody sets it: 0 or -1. */
int msr_feature(uint32_t msr, uint64_t *value);

/* EFER with all its rules; WRMSR and KVM_SET_SREGS share it. 0 or -1. */
int efer_write(struct vcpu *c, uint64_t value, bool from_client);

#endif
