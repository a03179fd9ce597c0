/* SPDX-License-Identifier: MIT */
/*
 * The vector and x87 state in memory: c->xsave, XSAVE's standard format.
 *
 * Features the engine uses at all: vec_features(), the host's XCR0 less what is hidden (PKRU,
 * AMX). What the guest enabled is c->xcr0, a subset.
 */
#ifndef SOFTKVM_XSAVE_H
#define SOFTKVM_XSAVE_H

#include "softkvm/vcpu.h"

#define XCR0_X87 0x1ull
#define XCR0_SSE 0x2ull
#define XCR0_AVX 0x4ull
#define XCR0_AVX512 0xe0ull

/* The bits of XCR0 that a guest may have, from the host's CPU and system: x87 and SSE at least. No
 * libc, but for the first time (words.h). */
uint64_t vec_features(void);

/* Has the host XSAVE? Else state is kept by FXSAVE, and guests have neither XSAVE nor AVX. */
bool vec_has_xsave(void);

/* Bytes of a standard-format (compacted: of an XSAVEC) area that holds `features`. No libc. */
uint32_t xsave_size(uint64_t features);
uint32_t xsave_size_compacted(uint64_t features);

/* Where a component (2 and up) lies in the standard format, and its length; 0: not there. */
uint32_t xsave_place(unsigned component, uint32_t *len);

/* XSETBV of register 0 and KVM_SET_XCRS: 0, or -1 for #GP. No libc. */
int xcr0_write(struct vcpu *c, uint64_t value);

/* c->xsave as after reset: x87 and SSE in their initial configuration, the rest init. */
void xsave_reset(struct vcpu *c);

/* The ioctls of the same names; outside KVM_RUN. 0 or -errno. */
void xsave_get_fpu(const struct vcpu *c, struct kvm_fpu *fpu);
void xsave_set_fpu(struct vcpu *c, const struct kvm_fpu *fpu);
void xsave_get(const struct vcpu *c, void *area, uint32_t size);
int xsave_set(struct vcpu *c, const void *area, uint32_t size);

#endif
