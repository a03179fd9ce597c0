/* SPDX-License-Identifier: MIT */
/*
 * Far jumps, calls, returns, and IRET.
 *
 * A far pointer is a selector and an offset. In real and virtual-8086 mode that is an address.
 * In protected mode the selector may name
 *
 *   a code segment     conforming: callable from the same or an outer level, which stays the
 *                      current one; else the levels must be equal;
 *   a call gate        which holds the real target, the offset being ignored; CALL may go to a
 *                      more privileged level through it, on a stack out of the TSS, to which
 *                      parameters are copied (not in long mode);
 *   a TSS, a task gate a task switch (task.c), and #GP in long mode.
 *
 * Returns go to the same or an outer level, never inwards. What a return to an outer level
 * restores besides: SS:SP, and data segments that the outer level may not use become null.
 * IRET of 64-bit code always pops SS:RSP, and SS may be null there, level 3 excepted.
 *
 * Order in every function: read, check, write memory, then registers. The text of the checks
 * is that of the operation sections in the Intel SDM, volume 2 (CALL, JMP, RET, IRET).
 */
#include "softkvm/interp/far.h"

#include "softkvm/interp/event.h"
#include "softkvm/interp/frame.h"
#include "softkvm/interp/segload.h"
#include "softkvm/interp/task.h"

/* A checked place to go to. */
struct target {
	uint16_t sel;
	struct desc cs;
	uint64_t rip;
	unsigned cpl; /* afterwards */
};

static uint64_t truncate(uint64_t value, unsigned opsize)
{
	return opsize == 2 ? value & 0xffff : opsize == 4 ? value & 0xffffffff : value;
}

/* -- Checks ------------------------------------------------------------------------------- */

static bool is_64bit_target(const struct vcpu *c, const struct desc *d)
{
	return is_long_mode(c) && desc_l(d);
}

/* L and D together are reserved in long mode. */
static bool is_bad_width(const struct vcpu *c, const struct desc *d)
{
	return is_long_mode(c) && desc_l(d) && desc_db(d);
}

static enum step check_rip(struct vcpu *c, const struct target *t)
{
	const bool good = is_64bit_target(c, &t->cs) ? is_canonical(t->rip)
						     : t->rip <= desc_limit(&t->cs);

	return good ? STEP_OK : fault_code(c, X86_GP, 0);
}

/* A code segment that JMP or CALL names directly: the level stays. t->cs was read. */
static enum step check_direct(struct vcpu *c, struct target *t)
{
	const bool level = desc_is_conforming(&t->cs)
				   ? desc_dpl(&t->cs) <= c->cpl
				   : (t->sel & 3) <= c->cpl && desc_dpl(&t->cs) == c->cpl;

	if (!level || is_bad_width(c, &t->cs))
		return sel_fault(c, X86_GP, t->sel, 0);
	if (!desc_present(&t->cs))
		return sel_fault(c, X86_NP, t->sel, 0);
	t->cpl = c->cpl;
	return check_rip(c, t);
}

/* A code segment that a return names: the same or an outer level. */
static enum step check_return(struct vcpu *c, struct target *t)
{
	const unsigned rpl = t->sel & 3;
	enum step rc;

	t->cpl = rpl;
	if (sel_is_null(t->sel))
		return fault_code(c, X86_GP, 0);
	rc = desc_read(c, t->sel, BLAME_GP, &t->cs);
	if (rc)
		return rc;
	if (!desc_is_code(&t->cs) || rpl < c->cpl || is_bad_width(c, &t->cs))
		return sel_fault(c, X86_GP, t->sel, 0);
	if (desc_is_conforming(&t->cs) ? desc_dpl(&t->cs) > rpl : desc_dpl(&t->cs) != rpl)
		return sel_fault(c, X86_GP, t->sel, 0);
	if (!desc_present(&t->cs))
		return sel_fault(c, X86_NP, t->sel, 0);
	return STEP_OK;
}

static void go(struct vcpu *c, const struct target *t)
{
	seg_from_desc(&c->seg[X86_CS], (uint16_t)((t->sel & ~3u) | t->cpl), &t->cs);
	c->rip = t->rip;
	cpl_set(c, t->cpl);
}

/* -- Real and virtual-8086 mode ----------------------------------------------------------- */

static bool is_realish(const struct vcpu *c)
{
	return !is_protected(c) || is_vm86(c);
}

static void go_real(struct vcpu *c, uint16_t sel, uint64_t off)
{
	seg_load(c, X86_CS, sel);
	c->rip = off;
}

static enum step check_real(struct vcpu *c, uint64_t off)
{
	return off > c->seg[X86_CS].limit ? fault_code(c, X86_GP, 0) : STEP_OK;
}

/* -- Call gates --------------------------------------------------------------------------- */

struct gate {
	unsigned params; /* values to copy between stacks */
	unsigned size;   /* of what is pushed */
};

/* From the gate in t->cs to its target, in t. */
static enum step open_gate(struct vcpu *c, struct target *t, struct gate *g)
{
	const unsigned type = desc_type(&t->cs);
	struct desc gate = t->cs;
	enum step rc;

	if (desc_dpl(&gate) < c->cpl || desc_dpl(&gate) < (t->sel & 3u))
		return sel_fault(c, X86_GP, t->sel, 0);
	if (is_long_mode(c)) {
		rc = desc_read_high(c, t->sel, BLAME_GP, &gate);
		if (rc)
			return rc;
	}
	if (!desc_present(&gate))
		return sel_fault(c, X86_NP, t->sel, 0);
	g->params = is_long_mode(c) ? 0 : gate.raw >> 32 & 31;
	g->size = is_long_mode(c) ? 8 : type == SYS_CALL32 ? 4 : 2;
	t->rip = gate.raw & 0xffff;
	if (g->size > 2)
		t->rip |= gate.raw >> 32 & 0xffff0000;
	if (g->size == 8)
		t->rip |= gate.high << 32;

	t->sel = (uint16_t)(gate.raw >> 16);
	if (sel_is_null(t->sel))
		return fault_code(c, X86_GP, 0);
	rc = desc_read(c, t->sel, BLAME_GP, &t->cs);
	if (rc)
		return rc;
	if (!desc_is_code(&t->cs) || desc_dpl(&t->cs) > c->cpl ||
	    (is_long_mode(c) && (!desc_l(&t->cs) || desc_db(&t->cs))))
		return sel_fault(c, X86_GP, t->sel, 0);
	if (!desc_present(&t->cs))
		return sel_fault(c, X86_NP, t->sel, 0);
	return STEP_OK;
}

/* Is it a call gate? Everything else that is no code segment ends here. */
static enum step check_system(struct vcpu *c, const struct target *t)
{
	const unsigned type = desc_type(&t->cs);

	if (!desc_s(&t->cs) &&
	    (type == SYS_CALL32 || (type == SYS_CALL16 && !is_long_mode(c))))
		return STEP_OK;
	return sel_fault(c, X86_GP, t->sel, 0);
}

static enum step jump_gate(struct vcpu *c, struct target *t)
{
	struct gate g;
	enum step rc = check_system(c, t);

	if (!rc)
		rc = open_gate(c, t, &g);
	if (rc)
		return rc;
	if (!desc_is_conforming(&t->cs) && desc_dpl(&t->cs) != c->cpl)
		return sel_fault(c, X86_GP, t->sel, 0);
	t->cpl = c->cpl;
	return check_rip(c, t);
}

/* The stack of the level that a gate leads to. */
static enum step gate_stack(struct vcpu *c, const struct target *t, struct stack *st)
{
	enum step rc;

	if (!is_long_mode(c))
		return stack_inner(c, t->cpl, 0, st);
	rc = tss_pointer(c, 4 + 8 * t->cpl, 0, &st->sp);
	st->flat = true;
	st->acc = ACC_SYSTEM;
	st->code = 0;
	seg_set_null(&st->ss, (uint16_t)t->cpl, t->cpl);
	return rc;
}

/* To a more privileged level: SS:SP, parameters, CS:IP on the new stack. */
static enum step call_inner(struct vcpu *c, const struct target *t, const struct gate *g,
			    uint64_t next)
{
	const uint64_t old[2] = {c->seg[X86_SS].selector, c->gpr[X86_RSP]};
	const uint64_t ret[2] = {c->seg[X86_CS].selector, next};
	uint64_t param[32];
	struct stack st;
	enum step rc = gate_stack(c, t, &st);

	if (!rc)
		rc = stack_peek(c, 0, param, g->params, g->size);
	if (!rc)
		rc = stack_push(c, &st, old, 2, g->size);
	for (unsigned i = g->params; i > 0 && !rc; i--)
		rc = stack_push(c, &st, &param[i - 1], 1, g->size);
	if (!rc)
		rc = stack_push(c, &st, ret, 2, g->size);
	if (rc)
		return rc;

	c->seg[X86_SS] = st.ss;
	stack_commit(c, &st);
	go(c, t);
	return STEP_OK;
}

static enum step call_same(struct vcpu *c, const struct target *t, unsigned size,
			   uint64_t next)
{
	const uint64_t v[2] = {c->seg[X86_CS].selector, next};
	struct stack st;
	enum step rc;

	stack_current(c, &st);
	rc = stack_push(c, &st, v, 2, size);
	if (rc)
		return rc;
	stack_commit(c, &st);
	go(c, t);
	return STEP_OK;
}

static enum step call_gate(struct vcpu *c, struct target *t, uint64_t next)
{
	struct gate g;
	enum step rc = check_system(c, t);

	if (!rc)
		rc = open_gate(c, t, &g);
	if (rc)
		return rc;
	t->cpl = desc_is_conforming(&t->cs) ? c->cpl : desc_dpl(&t->cs);
	rc = check_rip(c, t);
	if (!rc)
		rc = desc_mark_accessed(c, &t->cs);
	if (rc)
		return rc;
	return t->cpl < c->cpl ? call_inner(c, t, &g, next)
			       : call_same(c, t, g.size, next);
}

/* -- Tasks -------------------------------------------------------------------------------- */

static bool is_task(const struct vcpu *c, const struct desc *d)
{
	const unsigned type = desc_type(d);

	return !desc_s(d) && !is_long_mode(c) &&
	       (type == SYS_TASK || type == SYS_TSS16 || type == SYS_TSS32);
}

static enum step to_task(struct vcpu *c, const struct target *t, enum task_way way,
			 uint64_t next)
{
	const struct task_switch how = {.way = way, .rip = next, .flags = c->rflags};
	uint16_t tss = t->sel;

	if (desc_dpl(&t->cs) < c->cpl || desc_dpl(&t->cs) < (t->sel & 3u))
		return sel_fault(c, X86_GP, t->sel, 0);
	if (desc_type(&t->cs) == SYS_TASK) {
		if (!desc_present(&t->cs))
			return sel_fault(c, X86_NP, t->sel, 0);
		tss = (uint16_t)(t->cs.raw >> 16);
	}
	return task_switch(c, tss, &how);
}

/* -- JMP, CALL ---------------------------------------------------------------------------- */

static enum step find_target(struct vcpu *c, uint16_t sel, uint64_t off, unsigned opsize,
			     struct target *t)
{
	t->sel = sel;
	t->rip = truncate(off, opsize);
	if (sel_is_null(sel))
		return fault_code(c, X86_GP, 0);
	return desc_read(c, sel, BLAME_GP, &t->cs);
}

enum step far_jump(struct vcpu *c, uint16_t sel, uint64_t off, unsigned opsize,
		   uint64_t next)
{
	struct target t;
	enum step rc;

	if (is_realish(c)) {
		rc = check_real(c, truncate(off, opsize));
		if (!rc)
			go_real(c, sel, truncate(off, opsize));
		return rc;
	}
	rc = find_target(c, sel, off, opsize, &t);
	if (!rc && is_task(c, &t.cs))
		return to_task(c, &t, TASK_JUMP, next);
	if (!rc)
		rc = desc_is_code(&t.cs) ? check_direct(c, &t) : jump_gate(c, &t);
	if (!rc)
		rc = desc_mark_accessed(c, &t.cs);
	if (!rc)
		go(c, &t);
	return rc;
}

static enum step call_real(struct vcpu *c, uint16_t sel, uint64_t off, unsigned opsize,
			   uint64_t next)
{
	const uint64_t v[2] = {c->seg[X86_CS].selector, next};
	struct stack st;
	enum step rc = check_real(c, off);

	stack_current(c, &st);
	if (!rc)
		rc = stack_push(c, &st, v, 2, opsize);
	if (rc)
		return rc;
	stack_commit(c, &st);
	go_real(c, sel, off);
	return STEP_OK;
}

enum step far_call(struct vcpu *c, uint16_t sel, uint64_t off, unsigned opsize,
		   uint64_t next)
{
	struct target t;
	enum step rc;

	if (is_realish(c))
		return call_real(c, sel, truncate(off, opsize), opsize, next);
	rc = find_target(c, sel, off, opsize, &t);
	if (rc)
		return rc;
	if (is_task(c, &t.cs))
		return to_task(c, &t, TASK_CALL, next);
	if (!desc_is_code(&t.cs))
		return call_gate(c, &t, next);
	rc = check_direct(c, &t);
	if (!rc)
		rc = desc_mark_accessed(c, &t.cs);
	return rc ? rc : call_same(c, &t, opsize, next);
}

/* -- RETF --------------------------------------------------------------------------------- */

/* The stack that a return to an outer level restores. */
struct outer {
	uint16_t ss;
	uint64_t sp;
	bool null;
	struct desc d;
};

/* Checks SS for level `cpl`. Null is permitted when 64-bit code of level 0 to 2 follows. */
static enum step check_outer(struct vcpu *c, const struct target *t, struct outer *o)
{
	o->null = sel_is_null(o->ss);
	if (!o->null)
		return seg_check_stack(c, o->ss, t->cpl, BLAME_GP, &o->d);
	if (!is_64bit_target(c, &t->cs) || t->cpl == 3 || (o->ss & 3u) != t->cpl)
		return fault_code(c, X86_GP, 0);
	return STEP_OK;
}

static void set_outer(struct vcpu *c, const struct target *t, const struct outer *o)
{
	if (o->null)
		seg_set_null(&c->seg[X86_SS], o->ss, t->cpl);
	else
		seg_from_desc(&c->seg[X86_SS], o->ss, &o->d);
	stack_set_sp(c, is_64bit_target(c, &t->cs), c->seg[X86_SS].db, o->sp);
}

static enum step return_outer(struct vcpu *c, const struct target *t, unsigned opsize,
			      unsigned release)
{
	struct outer o;
	uint64_t v[2];
	enum step rc = stack_peek(c, 2 * opsize + release, v, 2, opsize);

	if (rc)
		return rc;
	o.sp = v[0] + release;
	o.ss = (uint16_t)v[1];
	rc = check_outer(c, t, &o);
	if (rc)
		return rc;
	set_outer(c, t, &o);
	go(c, t);
	segs_drop_inner(c);
	return STEP_OK;
}

static enum step return_real(struct vcpu *c, const uint64_t v[2], unsigned opsize,
			     unsigned release)
{
	enum step rc = check_real(c, v[0]);

	if (rc)
		return rc;
	stack_release(c, 2 * opsize + release);
	go_real(c, (uint16_t)v[1], v[0]);
	return STEP_OK;
}

enum step far_return(struct vcpu *c, unsigned opsize, unsigned release)
{
	struct target t;
	uint64_t v[2];
	enum step rc = stack_peek(c, 0, v, 2, opsize);

	if (rc)
		return rc;
	if (is_realish(c))
		return return_real(c, v, opsize, release);
	t.rip = v[0];
	t.sel = (uint16_t)v[1];
	rc = check_return(c, &t);
	if (!rc)
		rc = check_rip(c, &t);
	if (!rc)
		rc = desc_mark_accessed(c, &t.cs);
	if (rc)
		return rc;
	if (t.cpl > c->cpl)
		return return_outer(c, &t, opsize, release);
	stack_release(c, 2 * opsize + release);
	go(c, &t);
	return STEP_OK;
}

/* -- IRET --------------------------------------------------------------------------------- */

/* The bits of RFLAGS that IRET may change at this level. */
static uint64_t iret_mask(const struct vcpu *c, unsigned opsize)
{
	uint64_t mask = X86_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT;

	if (opsize > 2)
		mask |= RFLAGS_RF | RFLAGS_AC | RFLAGS_ID;
	if (c->cpl <= (c->rflags & RFLAGS_IOPL) >> 12)
		mask |= RFLAGS_IF;
	if (c->cpl == 0)
		mask |= RFLAGS_IOPL | (opsize > 2 ? RFLAGS_VIF | RFLAGS_VIP : 0);
	return mask;
}

/* The end of every IRET: flags, NMIs. */
static void finish_iret(struct vcpu *c, uint64_t flags, uint64_t mask)
{
	c->rflags = (c->rflags & ~mask) | (flags & mask) | RFLAGS_FIXED;
	c->event.nmi_masked = false;
	event_opened(c);
}

static enum step iret_real(struct vcpu *c, unsigned opsize)
{
	uint64_t v[3], mask = iret_mask(c, opsize) | RFLAGS_IF | RFLAGS_IOPL;
	enum step rc;

	if (is_vm86(c)) {
		if ((c->rflags & RFLAGS_IOPL) != RFLAGS_IOPL)
			return fault_code(c, X86_GP, 0);
		mask &= ~RFLAGS_IOPL;
	}
	mask &= ~(RFLAGS_VIF | RFLAGS_VIP);
	rc = stack_peek(c, 0, v, 3, opsize);
	if (!rc)
		rc = check_real(c, v[0]);
	if (rc)
		return rc;
	stack_release(c, 3 * opsize);
	go_real(c, (uint16_t)v[1], v[0]);
	finish_iret(c, v[2], mask);
	return STEP_OK;
}

/* From level 0 to virtual-8086 mode: EIP CS EFLAGS ESP SS ES DS FS GS. */
static enum step iret_to_vm86(struct vcpu *c)
{
	static const uint8_t order[] = {X86_SS, X86_ES, X86_DS, X86_FS, X86_GS};
	uint64_t v[9];
	enum step rc = stack_peek(c, 0, v, 9, 4);

	if (rc)
		return rc;
	c->gpr[X86_RSP] = (uint32_t)v[3];
	seg_set_vm86(&c->seg[X86_CS], (uint16_t)v[1]);
	for (unsigned i = 0; i < sizeof(order); i++)
		seg_set_vm86(&c->seg[order[i]], (uint16_t)v[4 + i]);
	c->rip = v[0] & 0xffff;
	finish_iret(c, v[2], iret_mask(c, 4) | RFLAGS_VM);
	cpl_set(c, 3);
	return STEP_OK;
}

enum step far_iret(struct vcpu *c, unsigned opsize, uint64_t next)
{
	const bool code64 = is_64bit_code(c);
	struct target t;
	struct outer o;
	uint64_t v[5], mask;
	bool outer;
	enum step rc;

	if (is_realish(c))
		return iret_real(c, opsize);
	if (c->rflags & RFLAGS_NT)
		return is_long_mode(c) ? fault_code(c, X86_GP, 0) : task_return(c, next);
	rc = stack_peek(c, 0, v, code64 ? 5 : 3, opsize);
	if (rc)
		return rc;
	if (opsize == 4 && (v[2] & RFLAGS_VM) && c->cpl == 0 && !is_long_mode(c))
		return iret_to_vm86(c);

	t.rip = v[0];
	t.sel = (uint16_t)v[1];
	rc = check_return(c, &t);
	outer = t.cpl > c->cpl;
	if (!rc) /* before SS is looked at, as AMD's CPUs do */
		rc = check_rip(c, &t);
	if (!rc && outer && !code64)
		rc = stack_peek(c, 3 * opsize, v + 3, 2, opsize);
	if (!rc && (outer || code64)) {
		o.sp = v[3];
		o.ss = (uint16_t)v[4];
		rc = check_outer(c, &t, &o);
	}
	if (!rc)
		rc = desc_mark_accessed(c, &t.cs);
	if (rc)
		return rc;

	mask = iret_mask(c, opsize); /* by the level before */
	if (outer || code64)
		set_outer(c, &t, &o);
	else
		stack_release(c, 3 * opsize);
	go(c, &t);
	finish_iret(c, v[2], mask);
	if (outer)
		segs_drop_inner(c);
	return STEP_OK;
}
