/* SPDX-License-Identifier: MIT */
/*
 * KVM_GET/SET_FPU and KVM_GET/SET_XSAVE. Outside KVM_RUN, where c->xsave holds the state.
 *
 * c->xsave is in the standard format:
 *
 *	0    FXSAVE image: FCW FSW FTW FOP FIP FDP MXCSR mask | 8 x ST | 16 x XMM | unused
 *	512  header: XSTATE_BV, XCOMP_BV (0 here), zeros
 *	576  other components at the host's places
 *
 * A component whose bit in XSTATE_BV is clear is in its initial state whatever its bytes say.
 * XRSTOR faults if XSTATE_BV names a component outside the host's XCR0, XCOMP_BV is not 0, other
 * header bytes are not 0, or MXCSR has reserved bits: what comes from the client is checked
 * for that first, and then can be loaded.
 */
#include "softkvm/state/xsave.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

struct fx_image {
	uint16_t fcw, fsw;
	uint8_t ftw, zero;
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16];
	uint8_t xmm[16][16];
	uint8_t unused[96];
};

struct xsave_header {
	uint64_t xstate_bv, xcomp_bv, zero[6];
};

#define HEADER 512u
#define EXTENDED 576u
#define MXCSR_INIT 0x1f80u
#define FCW_INIT 0x37fu
#define PKRU (1ull << 9) /* kernels save their own, also of a guest that has none: it is left out */
#define SW_BYTES 48u /* of the FXSAVE image's unused end: for software */

static struct fx_image *image(struct vcpu *c)
{
	return (void *)c->xsave;
}

static struct xsave_header *header(struct vcpu *c)
{
	return (void *)(c->xsave + HEADER);
}

static uint32_t mxcsr_mask(void)
{
	static uint32_t mask;
	struct fx_image fx __attribute__((aligned(16)));

	if (!mask) {
		memset(&fx, 0, sizeof(fx));
		__asm__ volatile("fxsave64 %0" : "=m"(fx));
		mask = fx.mxcsr_mask ? fx.mxcsr_mask : 0xffbf;
	}
	return mask;
}

/* Makes the legacy part say everything even where XSTATE_BV says "initial". MXCSR is always
 * what is written there: XRSTOR loads it whatever XSTATE_BV says. */
static void spell_out(struct vcpu *c)
{
	struct fx_image *fx = image(c);
	struct xsave_header *h = header(c);

	if (!(h->xstate_bv & XCR0_X87)) {
		memset(fx, 0, offsetof(struct fx_image, mxcsr));
		fx->fcw = FCW_INIT;
		memset(fx->st, 0, sizeof(fx->st));
	}
	if (!(h->xstate_bv & XCR0_SSE))
		memset(fx->xmm, 0, sizeof(fx->xmm));
	fx->mxcsr_mask = mxcsr_mask();
	h->xstate_bv |= XCR0_X87 | XCR0_SSE;
}

void xsave_reset(struct vcpu *c)
{
	memset(c->xsave, 0, sizeof(c->xsave));
	image(c)->mxcsr = MXCSR_INIT;
	spell_out(c);
}

void xsave_get_fpu(const struct vcpu *const_c, struct kvm_fpu *fpu)
{
	struct vcpu *c = (struct vcpu *)const_c; /* spelling out changes no state */
	const struct fx_image *fx = image(c);

	spell_out(c);
	memset(fpu, 0, sizeof(*fpu));
	memcpy(fpu->fpr, fx->st, sizeof(fpu->fpr));
	memcpy(fpu->xmm, fx->xmm, sizeof(fpu->xmm));
	fpu->fcw = fx->fcw;
	fpu->fsw = fx->fsw;
	fpu->ftwx = fx->ftw;
	fpu->last_opcode = fx->fop;
	fpu->last_ip = fx->fip;
	fpu->last_dp = fx->fdp;
	fpu->mxcsr = fx->mxcsr;
}

void xsave_set_fpu(struct vcpu *c, const struct kvm_fpu *fpu)
{
	struct fx_image *fx = image(c);

	spell_out(c);
	memcpy(fx->st, fpu->fpr, sizeof(fx->st));
	memcpy(fx->xmm, fpu->xmm, sizeof(fx->xmm));
	fx->fcw = fpu->fcw;
	fx->fsw = fpu->fsw;
	fx->ftw = fpu->ftwx;
	fx->fop = fpu->last_opcode;
	fx->fip = fpu->last_ip;
	fx->fdp = fpu->last_dp;
	fx->mxcsr = fpu->mxcsr & mxcsr_mask();
}

void xsave_get(const struct vcpu *const_c, void *area, uint32_t size)
{
	struct vcpu *c = (struct vcpu *)const_c;

	spell_out(c);
	memset(area, 0, size);
	memcpy(area, c->xsave, size < sizeof(c->xsave) ? size : sizeof(c->xsave));
}

static bool loadable(const uint8_t *area, uint32_t size)
{
	struct fx_image fx;
	struct xsave_header h;

	if (size < EXTENDED)
		return false;
	memcpy(&fx, area, sizeof(fx));
	memcpy(&h, area + HEADER, sizeof(h));
	if (h.xstate_bv & ~(vec_features() | PKRU) || h.xcomp_bv || fx.mxcsr & ~mxcsr_mask())
		return false;
	for (unsigned i = 0; i < 6; i++)
		if (h.zero[i])
			return false;
	return true;
}

int xsave_set(struct vcpu *c, const void *area, uint32_t size)
{
	if (!loadable(area, size))
		return -EINVAL;
	memcpy(c->xsave, area, size < sizeof(c->xsave) ? size : sizeof(c->xsave));
	memset(c->xsave + HEADER - SW_BYTES, 0, SW_BYTES);
	header(c)->xstate_bv &= ~PKRU;
	if (!vec_has_xsave()) /* FXRSTOR does not read the header */
		spell_out(c);
	return 0;
}
