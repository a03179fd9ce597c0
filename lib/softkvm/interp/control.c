/* SPDX-License-Identifier: MIT */
/*
 * Jumps, calls and returns inside one code segment.
 *
 * The operand size decides how many bits of the target count: 16-bit branches clear the
 * rest of rip. A target outside the code segment's limit, or not canonical in 64-bit mode, is a
 * #GP(0) of the branch itself: rip and rSP are still the old ones. (AMD's CPUs take a few of
 * these branches and fault at the target; the guest sees another rip in its frame then.)
 *
 * Source: Intel SDM volume 2, pages of JMP, Jcc, CALL, RET, LOOP.
 */
#include "softkvm/interp/ops.h"

static enum step check_target(struct vcpu *c, const struct op *op, uint64_t *target)
{
	if (op->in->opsize == 2)
		*target = (uint16_t)*target;
	if (is_64bit_code(c))
		return is_canonical(*target) ? STEP_OK : fault_code(c, X86_GP, 0);
	*target = (uint32_t)*target;
	return *target <= c->seg[X86_CS].limit ? STEP_OK : fault_code(c, X86_GP, 0);
}

static enum step jump(struct vcpu *c, const struct op *op, uint64_t target)
{
	enum step s = check_target(c, op, &target);

	if (s == STEP_OK)
		c->rip = target;
	return s;
}

static enum step call(struct vcpu *c, const struct op *op, uint64_t target)
{
	enum step s = check_target(c, op, &target);

	if (s == STEP_OK)
		s = push_value(c, op->next, op->in->opsize);
	if (s == STEP_OK)
		c->rip = target;
	return s;
}

/* Condition codes in the order of the opcodes' low four bits; odd ones negate. */
bool flags_meet(uint64_t f, unsigned cc)
{
	bool less = !(f & X86_SF) != !(f & X86_OF);
	bool met = false;

	switch (cc >> 1 & 7) {
	case 0:
		met = f & X86_OF;
		break;
	case 1:
		met = f & X86_CF;
		break;
	case 2:
		met = f & X86_ZF;
		break;
	case 3:
		met = f & (X86_CF | X86_ZF);
		break;
	case 4:
		met = f & X86_SF;
		break;
	case 5:
		met = f & X86_PF;
		break;
	case 6:
		met = less;
		break;
	case 7:
		met = less || (f & X86_ZF);
		break;
	}
	return met != (cc & 1);
}

enum step op_jmp_rel(struct vcpu *c, const struct op *op)
{
	return jump(c, op, op->next + op->in->imm);
}

enum step op_jmp_rm(struct vcpu *c, const struct op *op)
{
	uint64_t target;
	enum step s = op_read_rm(c, op, op->in->opsize, &target);

	return s == STEP_OK ? jump(c, op, target) : s;
}

enum step op_jcc(struct vcpu *c, const struct op *op)
{
	if (!flags_meet(c->rflags, op->in->op))
		return op_done(c, op);
	return jump(c, op, op->next + op->in->imm);
}

enum step op_call_rel(struct vcpu *c, const struct op *op)
{
	return call(c, op, op->next + op->in->imm);
}

enum step op_call_rm(struct vcpu *c, const struct op *op)
{
	uint64_t target;
	enum step s = op_read_rm(c, op, op->in->opsize, &target);

	return s == STEP_OK ? call(c, op, target) : s;
}

enum step op_ret(struct vcpu *c, const struct op *op)
{
	uint64_t target;
	enum step s = top_value(c, op->in->opsize, &target);

	if (s == STEP_OK)
		s = jump(c, op, target);
	if (s == STEP_OK)
		sp_add(c, op->in->opsize + (op->in->imm_len ? op->in->imm & 0xffff : 0));
	return s;
}

/* E0 LOOPNE, E1 LOOPE, E2 LOOP: the address size is the counter's. */
enum step op_loop(struct vcpu *c, const struct op *op)
{
	const struct insn *in = op->in;
	uint64_t count = (c->gpr[X86_RCX] - 1) & size_mask(in->adsize);
	bool again = count != 0;
	enum step s;

	if (in->op == 0xe0)
		again = again && !(c->rflags & X86_ZF);
	else if (in->op == 0xe1)
		again = again && (c->rflags & X86_ZF);
	s = again ? jump(c, op, op->next + in->imm) : op_done(c, op);
	if (s == STEP_OK)
		reg_set(c, X86_RCX, in->adsize, count);
	return s;
}

enum step op_jcxz(struct vcpu *c, const struct op *op)
{
	if (reg_get(c, X86_RCX, op->in->adsize))
		return op_done(c, op);
	return jump(c, op, op->next + op->in->imm);
}
