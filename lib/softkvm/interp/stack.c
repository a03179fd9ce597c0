/* SPDX-License-Identifier: MIT */
/*
 * PUSH, POP and their relatives.
 *
 * Two sizes are at work. The operand size says how many bytes move. The size of the stack
 * pointer (64-bit mode: RSP; else SS.B chooses ESP or SP) says how addresses are computed and how
 * much of rSP changes: a 16-bit stack wraps at 64 KiB and leaves the upper half alone.
 *
 * Subtle, all after the manual:
 *  - PUSH rSP pushes the old value; POP rSP keeps what was popped.
 *  - POP [rSP+n] computes the address with rSP already incremented; PUSH [rSP+n] with the old.
 *  - PUSH of a segment register writes the whole operand with zeros above the selector (AMD's
 *    way; recent Intel CPUs write two bytes only).
 *  - POPF changes silently only what the privilege level permits.
 *
 * Source: Intel SDM volume 2, the instructions' pages.
 */
#include "softkvm/interp/event.h"
#include "softkvm/interp/ops.h"
#include "softkvm/interp/segload.h"

/* What POPF may change at CPL 0. RF is cleared by it; VM, VIF and VIP stay. */
#define POPF_ANY                                                                                 \
	(X86_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC | RFLAGS_ID | RFLAGS_IF |      \
	 RFLAGS_IOPL)

uint64_t stack_mask(const struct vcpu *c)
{
	if (is_64bit_code(c))
		return ~0ull;
	return c->seg[X86_SS].db ? 0xffffffffu : 0xffffu;
}

static void sp_set(struct vcpu *c, uint64_t sp)
{
	uint64_t mask = stack_mask(c);

	reg_set(c, X86_RSP, mask == 0xffff ? 2 : mask == 0xffffffff ? 4 : 8, sp);
}

void sp_add(struct vcpu *c, uint64_t n)
{
	sp_set(c, c->gpr[X86_RSP] + n);
}

static enum step stack_write(struct vcpu *c, uint64_t sp, uint64_t v, unsigned size)
{
	uint64_t lin;
	enum step s = seg_linear(c, X86_SS, sp & stack_mask(c), size, true, &lin);

	return s == STEP_OK ? mmu_write(c, lin, &v, size, ACC_WRITE) : s;
}

static enum step stack_read(struct vcpu *c, uint64_t sp, uint64_t *v, unsigned size)
{
	uint64_t lin;
	enum step s = seg_linear(c, X86_SS, sp & stack_mask(c), size, false, &lin);

	*v = 0;
	return s == STEP_OK ? mmu_read(c, lin, v, size, ACC_READ) : s;
}

enum step push_value(struct vcpu *c, uint64_t v, unsigned size)
{
	enum step s = stack_write(c, c->gpr[X86_RSP] - size, v, size);

	if (s == STEP_OK)
		sp_add(c, -(uint64_t)size);
	return s;
}

enum step top_value(struct vcpu *c, unsigned size, uint64_t *v)
{
	return stack_read(c, c->gpr[X86_RSP], v, size);
}

static enum step push_done(struct vcpu *c, const struct op *op, uint64_t v)
{
	enum step s = push_value(c, v, op->in->opsize);

	return s == STEP_OK ? op_done(c, op) : s;
}

enum step op_push_r(struct vcpu *c, const struct op *op)
{
	return push_done(c, op, c->gpr[op->in->oreg & 15]);
}

enum step op_push_i(struct vcpu *c, const struct op *op)
{
	return push_done(c, op, op->in->imm);
}

enum step op_push_m(struct vcpu *c, const struct op *op)
{
	uint64_t v;
	enum step s = op_read_rm(c, op, op->in->opsize, &v);

	return s == STEP_OK ? push_done(c, op, v) : s;
}

/* 06 0E 16 1E, 0F A0 A8: the register's number lies at the same place in all of them. */
static enum x86_seg opcode_seg(const struct insn *in)
{
	return in->op >> 3 & 7;
}

/* Intel's CPUs leave the upper half of a doubleword as it was. */
enum step op_push_seg(struct vcpu *c, const struct op *op)
{
	uint16_t selector = c->seg[opcode_seg(op->in)].selector;
	enum step s;

	if (c->amd || op->in->opsize != 4)
		return push_done(c, op, selector);
	s = stack_write(c, c->gpr[X86_RSP] - 4, selector, 2);
	if (s != STEP_OK)
		return s;
	sp_add(c, -4ull);
	return op_done(c, op);
}

enum step op_pop_seg(struct vcpu *c, const struct op *op)
{
	enum x86_seg seg = opcode_seg(op->in);
	uint64_t sp = c->gpr[X86_RSP] + op->in->opsize;
	uint64_t mask = stack_mask(c), v;
	enum step s = top_value(c, c->amd ? op->in->opsize : 2, &v); /* Intel's CPUs read no more */

	if (s != STEP_OK)
		return s;
	s = seg_load(c, seg, (uint16_t)v);
	if (s != STEP_OK)
		return s;
	/* in the width that the stack had before the load */
	c->gpr[X86_RSP] = (mask == 0xffff ? c->gpr[X86_RSP] & ~mask : 0) | (sp & mask);
	if (seg == X86_SS)
		c->event.shadow = KVM_X86_SHADOW_INT_MOV_SS;
	return op_done(c, op);
}

enum step op_pop_r(struct vcpu *c, const struct op *op)
{
	uint64_t v;
	enum step s = top_value(c, op->in->opsize, &v);

	if (s != STEP_OK)
		return s;
	sp_add(c, op->in->opsize);
	reg_set(c, op->in->oreg, op->in->opsize, v);
	return op_done(c, op);
}

enum step op_pop_m(struct vcpu *c, const struct op *op)
{
	unsigned size = op->in->opsize;
	uint64_t sp = c->gpr[X86_RSP], v, lin;
	enum step s = top_value(c, size, &v);

	if (s != STEP_OK)
		return s;
	sp_add(c, size);
	if (op->in->mod == 3) {
		reg_set(c, op->in->rm, size, v);
		return op_done(c, op);
	}
	s = op_linear(c, op, size, true, &lin);
	if (s == STEP_OK)
		s = mmu_write(c, lin, &v, size, ACC_WRITE);
	if (s == STEP_OK)
		return op_done(c, op);
	c->gpr[X86_RSP] = sp;
	return s;
}

enum step op_pusha(struct vcpu *c, const struct op *op)
{
	unsigned size = op->in->opsize;
	uint64_t sp = c->gpr[X86_RSP];

	for (unsigned r = X86_RAX; r <= X86_RDI; r++) {
		enum step s = stack_write(c, sp - (r + 1) * size, c->gpr[r], size);

		if (s != STEP_OK)
			return s;
	}
	sp_add(c, -8 * (uint64_t)size);
	return op_done(c, op);
}

enum step op_popa(struct vcpu *c, const struct op *op)
{
	unsigned size = op->in->opsize;
	uint64_t v[8];

	for (unsigned i = 0; i < 8; i++) {
		enum step s = stack_read(c, c->gpr[X86_RSP] + i * size, &v[i], size);

		if (s != STEP_OK)
			return s;
	}
	for (unsigned i = 0; i < 8; i++)
		if (7 - i != X86_RSP)
			reg_set(c, 7 - i, size, v[i]);
	sp_add(c, 8 * (uint64_t)size);
	return op_done(c, op);
}

static unsigned iopl(const struct vcpu *c)
{
	return c->rflags >> 12 & 3;
}

enum step op_pushf(struct vcpu *c, const struct op *op)
{
	if (is_vm86(c) && iopl(c) < 3)
		return fault_code(c, X86_GP, 0);
	return push_done(c, op, (c->rflags | RFLAGS_FIXED) & ~(RFLAGS_RF | RFLAGS_VM));
}

static uint64_t popf_mask(const struct vcpu *c)
{
	if (!is_protected(c) || (c->cpl == 0 && !is_vm86(c)))
		return POPF_ANY;
	return c->cpl <= iopl(c) ? POPF_ANY & ~RFLAGS_IOPL :
				   POPF_ANY & ~(RFLAGS_IOPL | RFLAGS_IF);
}

enum step op_popf(struct vcpu *c, const struct op *op)
{
	unsigned size = op->in->opsize;
	uint64_t v, mask = popf_mask(c);
	enum step s;

	if (is_vm86(c) && iopl(c) < 3)
		return fault_code(c, X86_GP, 0);
	s = top_value(c, size, &v);
	if (s != STEP_OK)
		return s;
	if (size == 2)
		mask &= 0xffff;
	sp_add(c, size);
	if (v & mask & ~c->rflags & RFLAGS_IF)
		event_opened(c);
	flags_put(c, mask, v);
	c->rflags &= ~RFLAGS_RF;
	return op_done(c, op);
}

/* The display: level - 1 saved frame pointers, then the new one. */
static enum step enter_display(struct vcpu *c, unsigned level, unsigned size, uint64_t frame)
{
	for (unsigned i = 1; i < level; i++) {
		uint64_t v;
		enum step s = stack_read(c, c->gpr[X86_RBP] - i * size, &v, size);

		if (s == STEP_OK)
			s = push_value(c, v, size);
		if (s != STEP_OK)
			return s;
	}
	return level ? push_value(c, frame, size) : STEP_OK;
}

enum step op_enter(struct vcpu *c, const struct op *op)
{
	unsigned size = op->in->opsize, level = op->in->imm2 & 31;
	uint64_t old = c->gpr[X86_RSP], frame, lin;
	enum step s = push_value(c, c->gpr[X86_RBP], size);

	frame = c->gpr[X86_RSP];
	if (s == STEP_OK)
		s = enter_display(c, level, size, frame);
	if (s == STEP_OK) {
		sp_add(c, -(op->in->imm & 0xffff));
		/* the manual: it faults where a push with the final rSP would */
		s = seg_linear(c, X86_SS, c->gpr[X86_RSP] & stack_mask(c), size, true, &lin);
	}
	if (s == STEP_OK)
		s = mmu_probe_write(c, lin, size, ACC_WRITE);
	if (s != STEP_OK) {
		c->gpr[X86_RSP] = old;
		return s;
	}
	reg_set(c, X86_RBP, size, frame);
	return op_done(c, op);
}

enum step op_leave(struct vcpu *c, const struct op *op)
{
	unsigned size = op->in->opsize;
	uint64_t v;
	enum step s = stack_read(c, c->gpr[X86_RBP], &v, size);

	if (s != STEP_OK)
		return s;
	sp_set(c, c->gpr[X86_RBP] + size);
	reg_set(c, X86_RBP, size, v);
	return op_done(c, op);
}
