/* SPDX-License-Identifier: MIT */
/*
 * Operands of interpreted instructions: registers, memory, arithmetic flags.
 *
 * Source: Intel SDM volume 1, chapter 3 (operand addressing).
 */
#include "softkvm/interp/ops.h"
#include "softkvm/os/bytes.h"

uint64_t reg_get(const struct vcpu *c, unsigned reg, unsigned size)
{
	return c->gpr[reg & 15] & size_mask(size);
}

void reg_set(struct vcpu *c, unsigned reg, unsigned size, uint64_t value)
{
	uint64_t *r = &c->gpr[reg & 15];
	uint64_t mask = size_mask(size);

	if (size >= 4)
		*r = value & mask;
	else
		*r = (*r & ~mask) | (value & mask);
}

void reg_add(struct vcpu *c, unsigned reg, unsigned adsize, uint64_t n)
{
	reg_set(c, reg, adsize, c->gpr[reg & 15] + n);
}

enum x86_seg op_seg(const struct insn *in)
{
	if (in->seg != X86_SEG_NONE)
		return in->seg;
	return in->base == X86_RSP || in->base == X86_RBP ? X86_SS : X86_DS;
}

enum x86_seg op_data_seg(const struct vcpu *c, const struct insn *in)
{
	if (in->seg != X86_SEG_NONE)
		return in->seg;
	if (in->seg_override == X86_SEG_NONE ||
	    (is_64bit_code(c) && in->seg_override < X86_FS)) /* means nothing there */
		return X86_DS;
	return in->seg_override;
}

enum step op_linear(struct vcpu *c, const struct op *op, unsigned len, bool write,
		    uint64_t *lin)
{
	return seg_linear(c, op_seg(op->in), insn_ea(c, op->in, op->next), len, write, lin);
}

enum step op_read_rm(struct vcpu *c, const struct op *op, unsigned size, uint64_t *v)
{
	uint64_t lin;
	enum step s;

	*v = 0;
	if (op->in->mod == 3) {
		*v = reg_get(c, op->in->rm, size);
		return STEP_OK;
	}
	s = op_linear(c, op, size, false, &lin);
	return s == STEP_OK ? mmu_read(c, lin, v, size, ACC_READ) : s;
}

uint64_t flags_of_result(uint64_t v, unsigned size)
{
	uint64_t f = 0;

	v &= size_mask(size);
	if (!(__builtin_popcount(v & 0xff) & 1))
		f |= X86_PF;
	if (!v)
		f |= X86_ZF;
	if (v >> (size * 8 - 1))
		f |= X86_SF;
	return f;
}

uint64_t flags_of_cmp(uint64_t a, uint64_t b, unsigned size)
{
	uint64_t r = a - b;
	uint64_t f = flags_of_result(r, size);

	if ((a & size_mask(size)) < (b & size_mask(size)))
		f |= X86_CF;
	if ((a ^ b ^ r) & 0x10)
		f |= X86_AF;
	if (((a ^ b) & (a ^ r)) >> (size * 8 - 1) & 1)
		f |= X86_OF;
	return f;
}
