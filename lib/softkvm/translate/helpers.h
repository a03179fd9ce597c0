/* SPDX-License-Identifier: MIT */
/*
 * C functions that translated code calls through thunks (thunks.c).
 *
 * Each finds the guest's registers in *c; c->rip is not current: the helper derives it from
 * where it was called. Each returns the host address at which execution goes on. They run with
 * the guest's vector state live.
 */
#ifndef SOFTKVM_HELPERS_H
#define SOFTKVM_HELPERS_H

#include "softkvm/vcpu.h"

uint64_t helper_insn(struct vcpu *c);      /* execute a pooled instruction in C */
uint64_t helper_exit(struct vcpu *c);      /* an exit that is not chained */
uint64_t helper_gate_miss(struct vcpu *c); /* an indirect jump to SCR_S1 */
uint64_t helper_poll(struct vcpu *c);      /* c->requests was seen at a block's entry */
uint64_t helper_miss(struct vcpu *c);      /* a memory access that the table does not answer */
uint64_t helper_check(struct vcpu *c);     /* the same of a cold block: SCR_ACCESS */
uint64_t helper_sample(struct vcpu *c);    /* a cold block becomes hot */
uint64_t helper_fault(struct vcpu *c);     /* a host signal at SCR_FAULT_PC */

#endif
