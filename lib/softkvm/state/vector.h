/* SPDX-License-Identifier: MIT */
/*
 * The guest's vector, x87 and MXCSR state: live in the host's registers, or saved.
 *
 * KVM_RUN loads it once and saves it once. In between, C that must call libc or touch vector
 * registers (the list is lib/softkvm/HEAVY) is bracketed:
 *
 *	vec_save(c);
 *	... pthread, malloc, memcpy, anything ...
 *	vec_load(c);
 *
 * The vCPU's thread only. vec_save() leaves MXCSR and the x87 control word as C expects them.
 * Source: Intel SDM volume 1, chapter 13 (XSAVE).
 */
#ifndef SOFTKVM_VECTOR_H
#define SOFTKVM_VECTOR_H

#include "softkvm/vcpu.h"

/* Live registers to c->xsave; and back. */
void vec_save(struct vcpu *c);
void vec_load(struct vcpu *c);

#endif
