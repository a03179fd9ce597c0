/* SPDX-License-Identifier: MIT */
/*
 * Calls upwards: what a lower part of softkvm calls of a higher one, all of it.
 *
 * LAYERS says which part stands on which. But the lower ones know things that the higher ones must hear at
 * once: an interrupt arrives while the vCPU is in translated code, a page that was translated is written,
 * a TLB entry goes from which jumps were learned. These calls are declared here, defined where the
 * comments say, and bound by the linker: no table of pointers, for they are made where guests wait,
 * and there is one engine. tools/layers sees that there is no other.
 *
 * A test of a lower part defines them itself (tests/interp_cpu.h, tests/irqchip_machine.h).
 */
#ifndef SOFTKVM_HOOKS_H
#define SOFTKVM_HOOKS_H

#include "softkvm/vcpu.h"

struct view;

/* -- run/run.c ---------------------------------------------------------------------------- */

/* Makes the vCPU look at its requests soon: sets `bits`, wakes it from HLT, and, when it is in
 * translated code, is seen at the next poll. Any thread. */
void vcpu_kick(struct vcpu *c, uint32_t bits);

/* -- run/gsbase.c ------------------------------------------------------------------------- */

/* In KVM_RUN: GS base is the current view's table. When the view changes; and after a sleep, when the
 * kernel is likely to have put it back, which saves a signal. */
void gs_select(const struct engine *e);

/* -- translate/smc.c ---------------------------------------------------------------------- */

/* Bytes of guest RAM at gpa (one page) were changed by the engine's own hand: drops translations
 * made from them, marks the dirty log. Every store in C goes through it, after the store: a
 * vCPU that is told before could translate the old bytes again, a client that harvests the log
 * could copy them. Between the store and the call there must be a full memory barrier, against
 * a vCPU that is just marking the page as code. Stores through writable TLB entries need
 * none of this. */
void page_changed(struct vcpu *c, struct slot *slot, uint64_t gpa, unsigned len);

/* Every vCPU that may read the page at gpa from a layer gives that up (mmu/layer.c); c is who asks, NULL: the
 * client. A turn of waiting for somebody who does so. */
void sync_readers(struct vm *vm, struct vcpu *c, struct slot *slot, uint64_t gpa);
void sync_turn(struct vcpu *c, unsigned turn);

/* Slots or their flags changed (the change is visible to vm_slot()): every vCPU gives up what
 * it derived from them before this returns. Not from a vCPU's own KVM_RUN. */
void slots_changed(struct vm *vm);

/* -- translate/dispatch.c ----------------------------------------------------------------- */

/* Where the code at lin is; NULL: *step says what happened, STEP_OK: it is no RAM. */
const uint8_t *fetch_pointer(struct vcpu *c, uint64_t lin, enum step *step);

/* What the vCPU's state makes of code now: enum mode_bits (engine.h). */
uint8_t current_mode(const struct vcpu *c);

/* Entries of the view are gone: those of one page, or all. So are the ways that jumps and fetches have
 * learned through them. */
void jc_forget_page(struct engine *e, struct view *v, uint64_t lin);
void jc_flush(struct engine *e, struct view *v);
void itlb_flush(struct engine *e, struct view *v);

/* -- translate/native.c ------------------------------------------------------------------- */

/* X86_NATIVE, X86_CLC_STC_CMC and other plain instructions on the host: registers and flags
 * from and to c, vector state live, memory operand at mem (NULL if it has none; mem must have
 * in->mem_size valid bytes). `bytes` are the instruction's. STEP_OK or STEP_FAULT (#DE, #XM, #MF,
 * #UD, #AC raised by the instruction itself). Does not move rip. */
enum step native_exec(struct vcpu *c, const struct insn *in, const uint8_t *bytes, void *mem);

/* -- interp/event.c ----------------------------------------------------------------------- */

/* The client's breakpoints, or else the guest's. */
static inline uint64_t event_dr7(const struct vcpu *c)
{
	return c->debug.control & KVM_GUESTDBG_USE_HW_BP ? c->debug.dr7 : c->dr7;
}

/* Any of DR0 to DR3 armed? */
static inline bool event_breakpoints(const struct vcpu *c)
{
	return event_dr7(c) & 0xff;
}

/* Does the client or the guest want a trap behind each instruction? */
static inline bool event_stepping(const struct vcpu *c)
{
	return c->rflags & RFLAGS_TF || c->debug.control & KVM_GUESTDBG_SINGLESTEP;
}

/* A data access for which a breakpoint may be armed; call where event_breakpoints(). Remembers
 * the hit for event_after_insn(). */
void event_watch(struct vcpu *c, uint64_t lin, unsigned len, bool write);

#endif
