/* SPDX-License-Identifier: MIT */
/* MSRs that the client keeps from its guest: KVM_X86_SET_MSR_FILTER. */
#ifndef SOFTKVM_MSR_FILTER_H
#define SOFTKVM_MSR_FILTER_H

#include "softkvm/vcpu.h"

/* May RDMSR (KVM_MSR_FILTER_READ) or WRMSR reach it? No libc. */
bool msr_filter_allows(struct vm *vm, uint32_t msr, uint32_t kind);

/* The request: 0 or -errno. With the VM's lock held; not from a vCPU's KVM_RUN. */
int msr_filter_set(struct vm *vm, const struct kvm_msr_filter *args);
void msr_filter_destroy(struct vm *vm);

#endif
