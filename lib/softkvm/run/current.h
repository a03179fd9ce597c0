/* SPDX-License-Identifier: MIT */
/*
 * The vCPU whose KVM_RUN this thread is in, for signal handlers; NULL outside.
 */
#ifndef SOFTKVM_CURRENT_H
#define SOFTKVM_CURRENT_H

#include "softkvm/vcpu.h"

extern __thread struct vcpu *current_vcpu;

#endif
