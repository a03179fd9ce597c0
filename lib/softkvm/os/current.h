/* SPDX-License-Identifier: MIT */
/*
 * The vCPU whose KVM_RUN this thread is in, for signal handlers; NULL outside.
 *
 * At a fixed distance from FS base also in the preload library: elsewhere the first look at a
 * thread's variable may allocate memory, which is nothing for a handler, nor for code that runs
 * with the guest's vector registers.
 */
#ifndef SOFTKVM_CURRENT_H
#define SOFTKVM_CURRENT_H

#include "softkvm/vcpu.h"

#define CURRENT_TLS __attribute__((tls_model("initial-exec")))

extern __thread struct vcpu *current_vcpu CURRENT_TLS;

#endif
