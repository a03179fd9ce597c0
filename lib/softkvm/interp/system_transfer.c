/* SPDX-License-Identifier: MIT */
/*
 * Far transfers and software interrupts as instructions; far.c and event.c do the work.
 */
#include "softkvm/interp/event.h"
#include "softkvm/interp/far.h"
#include "softkvm/interp/system.h"

/* -- INT n, INT3, INTO, INT1 -------------------------------------------------------------- */

/* The handler returns behind the instruction; if it cannot be entered, the instruction has not
 * been executed. */
static enum step soft_event(struct vcpu *c, uint8_t vector, uint64_t next)
{
	const uint64_t rip = c->rip;
	enum step rc;

	c->rip = next;
	rc = event_deliver(c, vector, EVENT_SOFT, 0);
	if (rc)
		c->rip = rip;
	return rc;
}

enum step sys_int(struct vcpu *c, const struct insn *in, uint64_t next)
{
	if (is_vm86(c) && (c->rflags & RFLAGS_IOPL) != RFLAGS_IOPL)
		return gp0(c);
	return soft_event(c, (uint8_t)in->imm, next);
}

enum step sys_int3(struct vcpu *c, const struct insn *in, uint64_t next)
{
	if (event_debug_int3(c, in->len))
		return STEP_EXIT;
	return soft_event(c, X86_BP, next);
}

enum step sys_into(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)in;
	if (c->rflags & X86_OF)
		return soft_event(c, X86_OFV, next);
	c->rip = next;
	return STEP_OK;
}

/* A trap of its own, without a look at the gate's DPL, and with DR6 as it was; a breakpoint that
 * MOV SS held back is reported together with it. */
enum step sys_int1(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const struct fault trap = {.vector = X86_DB};
	const bool stepping = c->rflags & RFLAGS_TF;
	enum step rc;

	(void)in;
	c->rip = next;
	if (c->event.watch_hits)
		c->dr6 = (c->dr6 & ~0xfull) | c->event.watch_hits;
	c->event.watch_hits = 0;
	if (event_debug_trap(c, 0))
		return STEP_EXIT;
	rc = event_deliver(c, X86_DB, EVENT_EXCEPTION, &trap);
	c->event.no_trap = stepping && rc == STEP_OK;
	return rc;
}

/* -- Far jumps, calls, returns ------------------------------------------------------------ */

enum step sys_iret(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return far_iret(c, in->opsize, next);
}

enum step sys_retf(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)next;
	return far_return(c, in->opsize, in->imm_len ? (uint16_t)in->imm : 0);
}

enum step sys_jmp_far_i(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return far_jump(c, in->imm2, in->imm, in->opsize, next);
}

enum step sys_call_far_i(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return far_call(c, in->imm2, in->imm, in->opsize, next);
}

/* A far pointer in memory: offset, then selector. */
static enum step read_pointer(struct vcpu *c, const struct insn *in, uint64_t next,
			      uint64_t *off, uint16_t *sel)
{
	const unsigned size = far_size(c, in);
	uint64_t lin;
	enum step rc = sys_linear(c, in, next, size + 2, false, &lin);

	*off = 0;
	if (!rc)
		rc = mmu_read(c, lin, off, size, ACC_READ);
	if (!rc)
		rc = mmu_read(c, lin + size, sel, 2, ACC_READ);
	return rc;
}

enum step sys_jmp_far_m(struct vcpu *c, const struct insn *in, uint64_t next)
{
	uint64_t off;
	uint16_t sel;
	enum step rc = read_pointer(c, in, next, &off, &sel);

	return rc ? rc : far_jump(c, sel, off, far_size(c, in), next);
}

enum step sys_call_far_m(struct vcpu *c, const struct insn *in, uint64_t next)
{
	uint64_t off;
	uint16_t sel;
	enum step rc = read_pointer(c, in, next, &off, &sel);

	return rc ? rc : far_call(c, sel, off, far_size(c, in), next);
}
