/* SPDX-License-Identifier: MIT */
/*
 * Vector, x87 and MXCSR state between the host's registers and c->xsave.
 *
 *	vec_load:  client's MXCSR, x87 CW -> c->host_fp;  XRSTOR c->xsave
 *	vec_save:  XSAVE c->xsave;  clean registers for C;  client's MXCSR, x87 CW back
 *
 * The requested-feature bitmap is vec_features(), all that a guest can ever have, not the
 * guest's XCR0: state of components that the guest disabled and enables again is kept, as
 * hardware keeps it, and what a component holds when the guest never used it is its initial
 * state (XRSTOR initialises what XSTATE_BV does not name), never something of the host's.
 *
 * Where the host has no XSAVE, FXSAVE and FXRSTOR do the same for x87 and SSE, which is all that a
 * guest has there; the area's header, which they leave alone, says that both are in it.
 *
 * XSAVE, not XSAVEOPT: that one may leave parts of the area as they were when it thinks that
 * they did not change since the last XRSTOR, but the client may have written there in between
 * (KVM_SET_XSAVE). The area's image must be valid or XRSTOR faults: xsave_set() and
 * xsave_reset() (state/xsave_io.c) see to it.
 *
 * The x87 unit's notes of its last instruction and operand are addresses of the host's, which neither a saved machine nor
 * another guest has to know: zeros take their place.
 *
 * C expects after vec_save() what the ABI says at a call: x87 empty and in MMX-free state, DF
 * clear (not our business), upper halves of vector registers clear for speed.
 */
#include "softkvm/state/vector.h"

#include "softkvm/os/bytes.h"
#include "softkvm/state/xsave.h"

#define HOST_MXCSR 0
#define HOST_FCW   4
#define X87_POINTERS 8 /* FIP and FDP in the FXSAVE image */

void vec_load(struct vcpu *c)
{
	uint64_t rfbm = vec_features();

	__asm__ volatile("stmxcsr %0\n\tfnstcw %1"
			 : "=m"(*(uint32_t *)(c->host_fp + HOST_MXCSR)),
			   "=m"(*(uint16_t *)(c->host_fp + HOST_FCW)));
	if (!vec_has_xsave()) {
		__asm__ volatile("fxrstor64 (%0)" : : "r"(c->xsave) : "memory");
		return;
	}
	__asm__ volatile("xrstor64 (%0)"
			 :
			 : "r"(c->xsave), "a"((uint32_t)rfbm), "d"((uint32_t)(rfbm >> 32))
			 : "memory");
}

void vec_save(struct vcpu *c)
{
	uint64_t rfbm = vec_features();

	if (vec_has_xsave())
		__asm__ volatile("xsave64 (%0)"
				 :
				 : "r"(c->xsave), "a"((uint32_t)rfbm), "d"((uint32_t)(rfbm >> 32))
				 : "memory");
	else
		__asm__ volatile("fxsave64 (%0)" : : "r"(c->xsave) : "memory");
	bytes_zero(c->xsave + X87_POINTERS, 16);
	if (rfbm & XCR0_AVX)
		__asm__ volatile("vzeroupper" ::: "memory");
	__asm__ volatile("fninit\n\tfldcw %1\n\tldmxcsr %0"
			 :
			 : "m"(*(uint32_t *)(c->host_fp + HOST_MXCSR)),
			   "m"(*(uint16_t *)(c->host_fp + HOST_FCW))
			 : "memory");
}
