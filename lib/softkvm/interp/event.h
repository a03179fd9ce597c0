/* SPDX-License-Identifier: MIT */
/*
 * Traps and shadows around one instruction: what the run loop calls besides the functions of
 * interp.h.
 *
 *	uint64_t flags = c->rflags;
 *	uint8_t shadow = c->event.shadow;
 *
 *	if (event_breakpoints(c) && event_code_breakpoint(c, lin))
 *		return event_fault(c);
 *	rc = interp_step(c);
 *	if (rc == STEP_OK || rc == STEP_HALT) {
 *		event_shadow_step(c, shadow);
 *		if (event_after_insn(c, flags) == STEP_FAULT)
 *			return event_fault(c);
 *	}
 *
 * Code may run translated, without these calls, while event_stepping() and event_breakpoints() are
 * false and no shadow is set.
 */
#ifndef SOFTKVM_EVENT_H
#define SOFTKVM_EVENT_H

#include "softkvm/hooks.h"
#include "softkvm/interp/interp.h"

#define DR6_FIXED 0xffff0ff0ull
#define DR6_BD 0x2000ull
#define DR6_BS 0x4000ull
#define DR7_FIXED 0x400ull
#define DR7_GD 0x2000ull

/* An instruction breakpoint at linear address lin (and RF clear): true, #DB in c->fault. */
bool event_code_breakpoint(struct vcpu *c, uint64_t lin);

/* After an instruction, or an iteration of REP: STEP_FAULT with #DB in c->fault when TF was
 * set or a watched address was touched, else STEP_OK. Clears RF. */
enum step event_after_insn(struct vcpu *c, uint64_t rflags_before);

/* Is a #DB, or the INT3 of this length at rip, the client's, who debugs? Then KVM_RUN tells it. */
bool event_debug_trap(struct vcpu *c, uint64_t dr6);
bool event_debug_int3(struct vcpu *c, unsigned len);

/* IF was just set, or NMIs unmasked: makes the run loop call event_inject() if anything waits.
 * What arrives from now on sets REQ_EVENT itself. */
static inline void event_opened(struct vcpu *c)
{
	if (c->event.window || c->event.nmi_pending)
		atomic_fetch_or(&c->requests, REQ_EVENT);
}

/* An instruction completed that began under this shadow: it ends. */
static inline void event_shadow_step(struct vcpu *c, uint8_t before)
{
	c->event.shadow &= (uint8_t)~before;
}

#endif
