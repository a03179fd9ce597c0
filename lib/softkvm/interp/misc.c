/* SPDX-License-Identifier: MIT */
/*
 * Small instructions that are neither plain native ones nor system ones.
 *
 * BT, BTS, BTR, BTC with a register offset and a memory operand address a bit string: the
 * signed offset selects an operand near the one that ModRM names. The operand is checked in
 * full, but in RAM only the byte that has the bit is changed: one byte is always aligned
 * and inside one page, so LOCK is atomic wherever the operand lies.
 *
 * Source: Intel SDM volume 2, the instructions' pages.
 */
#include "softkvm/interp/ops.h"

#include <stddef.h>

enum step op_ud(struct vcpu *c, const struct op *op)
{
	(void)op;
	return fault_set(c, X86_UDV);
}

enum step op_nop(struct vcpu *c, const struct op *op)
{
	return op_done(c, op);
}

enum step op_lea(struct vcpu *c, const struct op *op)
{
	reg_set(c, op->in->reg, op->in->opsize, insn_ea(c, op->in, op->next));
	return op_done(c, op);
}

/* No bytes move, but a load's faults are raised. */
enum step op_clflush(struct vcpu *c, const struct op *op)
{
	uint64_t lin, gpa;
	enum step s = op_linear(c, op, 1, false, &lin);

	if (s == STEP_OK)
		s = mmu_translate(c, lin, ACC_READ, &gpa);
	return s == STEP_OK ? op_done(c, op) : s;
}

enum step op_xlat(struct vcpu *c, const struct op *op)
{
	uint64_t ea = (c->gpr[X86_RBX] + (uint8_t)c->gpr[X86_RAX]) & size_mask(op->in->adsize);
	uint64_t lin;
	uint8_t v = 0;
	enum step s = seg_linear(c, op_data_seg(c, op->in), ea, 1, false, &lin);

	if (s == STEP_OK)
		s = mmu_read(c, lin, &v, 1, ACC_READ);
	if (s != STEP_OK)
		return s;
	reg_set(c, X86_RAX, 1, v);
	return op_done(c, op);
}

enum step op_bound(struct vcpu *c, const struct op *op)
{
	unsigned size = op->in->opsize;
	int64_t index = sign_extend(c->gpr[op->in->reg & 15], size);
	uint64_t lin, low = 0, high = 0;
	enum step s = op_linear(c, op, 2 * size, false, &lin);

	if (s == STEP_OK)
		s = mmu_read(c, lin, &low, size, ACC_READ);
	if (s == STEP_OK)
		s = mmu_read(c, lin + size, &high, size, ACC_READ);
	if (s != STEP_OK)
		return s;
	if (index < sign_extend(low, size) || index > sign_extend(high, size))
		return fault_set(c, X86_BR);
	return op_done(c, op);
}

/* -- Flags ---------------------------------------------------------------------------------- */

/* FC CLD, FD STD */
enum step op_df(struct vcpu *c, const struct op *op)
{
	flags_put(c, RFLAGS_DF, op->in->op & 1 ? RFLAGS_DF : 0);
	return op_done(c, op);
}

/* F8 CLC, F9 STC, F5 CMC */
enum step op_cf(struct vcpu *c, const struct op *op)
{
	if (op->in->op == 0xf5)
		c->rflags ^= X86_CF;
	else
		flags_put(c, X86_CF, op->in->op & 1);
	return op_done(c, op);
}

/* -- Bit strings ---------------------------------------------------------------------------- */

enum bit_op { BIT_TEST, BIT_SET, BIT_RESET, BIT_COMPLEMENT }; /* bits 4..3 of the opcode */

static uint64_t bit_changed(enum bit_op what, uint64_t v, uint64_t bit)
{
	switch (what) {
	case BIT_SET:
		return v | bit;
	case BIT_RESET:
		return v & ~bit;
	case BIT_COMPLEMENT:
		return v ^ bit;
	default:
		return v;
	}
}

/* Returns the old byte. */
static uint8_t change_byte(uint8_t *p, enum bit_op what, uint8_t bit, bool lock)
{
	uint8_t old = *(volatile uint8_t *)p;

	if (!lock) {
		if (what != BIT_TEST)
			*(volatile uint8_t *)p = (uint8_t)bit_changed(what, old, bit);
		return old;
	}
	switch (what) {
	case BIT_SET:
		return __atomic_fetch_or(p, bit, __ATOMIC_SEQ_CST);
	case BIT_RESET:
		return __atomic_fetch_and(p, (uint8_t)~bit, __ATOMIC_SEQ_CST);
	case BIT_COMPLEMENT:
		return __atomic_fetch_xor(p, bit, __ATOMIC_SEQ_CST);
	default:
		return old;
	}
}

/* To a device the operand goes whole; so does one across pages that is only read. */
static enum step change_whole(struct vcpu *c, uint64_t lin, unsigned size, enum bit_op what,
			       unsigned bit, bool *was)
{
	uint64_t v = 0;
	enum step s = mmu_read(c, lin, &v, size, ACC_READ);

	*was = v >> bit & 1;
	if (s != STEP_OK || what == BIT_TEST)
		return s;
	v = bit_changed(what, v, 1ull << bit);
	return mmu_write(c, lin, &v, size, ACC_WRITE);
}

enum step op_bt_mem(struct vcpu *c, const struct op *op)
{
	const struct insn *in = op->in;
	unsigned size = in->opsize, bit;
	enum bit_op what = in->op >> 3 & 3;
	unsigned acc = what == BIT_TEST ? ACC_READ : ACC_WRITE;
	int64_t offset = sign_extend(c->gpr[in->reg & 15], size);
	uint64_t ea = insn_ea(c, in, op->next), lin;
	void *whole, *p;
	bool was;
	enum step s;

	bit = (unsigned)offset & (size * 8 - 1);
	ea += (uint64_t)((offset - bit) / 8);
	s = seg_linear(c, op_seg(in), ea & size_mask(in->adsize), size, acc == ACC_WRITE, &lin);
	if (s == STEP_OK)
		s = mmu_pointer(c, lin, size, acc, &whole);
	if (s != STEP_OK)
		return s;
	if (!whole && what != BIT_TEST) /* a crossing operand is checked in full */
		s = mmu_probe_write(c, lin, size, acc);
	p = NULL;
	if (s == STEP_OK && (whole || what != BIT_TEST))
		s = mmu_pointer(c, lin + bit / 8, 1, acc, &p);
	if (s != STEP_OK)
		return s;
	if (p) {
		uint8_t mask = (uint8_t)(1u << (bit & 7));

		was = change_byte(p, what, mask, in->prefix & X86_PFX_LOCK) & mask;
	} else {
		s = change_whole(c, lin, size, what, bit, &was);
		if (s != STEP_OK)
			return s;
	}
	flags_put(c, X86_CF, was ? X86_CF : 0);
	return op_done(c, op);
}
