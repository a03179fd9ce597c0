/* SPDX-License-Identifier: MIT */
/*
 * Decimal arithmetic: AAA AAS DAA DAS AAM AAD, and SALC. 64-bit mode does not have them, so
 * they cannot run on the host as they are.
 *
 * Flags that the manual calls undefined become what AMD's CPUs make of them: those of the
 * addition or subtraction that adjusts.
 *
 * Source: Intel SDM volume 2, the instructions' pages; SALC: AMD APM volume 3.
 */
#include "softkvm/interp/ops.h"

#define SZPO (X86_SF | X86_ZF | X86_PF | X86_OF)

/* The flags of a + b and a - b. */
static uint64_t flags_of_add(uint64_t a, uint64_t b, unsigned size)
{
	uint64_t r = a + b, f = flags_of_result(r, size);

	if (r >> (size * 8) & 1)
		f |= X86_CF;
	if ((a ^ b ^ r) & 0x10)
		f |= X86_AF;
	if ((a ^ r) & (b ^ r) & 1ull << (size * 8 - 1))
		f |= X86_OF;
	return f;
}

/* DAA, DAS */
static void adjust_packed(struct vcpu *c, bool subtract)
{
	unsigned old = (uint8_t)c->gpr[X86_RAX], by = 0;
	uint64_t flags = 0;

	if ((old & 15) > 9 || (c->rflags & X86_AF)) {
		by = 6;
		flags = X86_AF;
		if (subtract && old < 6)
			flags |= X86_CF;
	}
	if (old > 0x99 || (c->rflags & X86_CF)) {
		by += 0x60;
		flags |= X86_CF;
	}
	flags |= SZPO & (subtract ? flags_of_cmp(old, by, 1) : flags_of_add(old, by, 1));
	reg_set(c, X86_RAX, 1, subtract ? old - by : old + by);
	flags_put(c, X86_ARITH, flags);
}

/* AAA, AAS */
static void adjust_unpacked(struct vcpu *c, bool subtract)
{
	unsigned ax = (uint16_t)c->gpr[X86_RAX], by = 0;
	uint64_t flags = 0;

	if ((ax & 15) > 9 || (c->rflags & X86_AF)) {
		by = 0x106;
		flags = X86_AF | X86_CF;
	}
	flags |= SZPO & (subtract ? flags_of_cmp(ax, by, 2) : flags_of_add(ax, by, 2));
	reg_set(c, X86_RAX, 2, (subtract ? ax - by : ax + by) & 0xff0f);
	flags_put(c, X86_ARITH, flags);
}

static void divide(struct vcpu *c, unsigned al, unsigned base)
{
	reg_set(c, X86_RAX, 2, al / base << 8 | al % base);
	flags_put(c, X86_ARITH, flags_of_result(al % base, 1));
}

static void multiply(struct vcpu *c, unsigned al, unsigned ah, unsigned base)
{
	uint8_t by = (uint8_t)(ah * base);

	reg_set(c, X86_RAX, 2, (uint8_t)(al + by));
	flags_put(c, X86_ARITH, flags_of_add(al, by, 1));
}

enum step op_bcd(struct vcpu *c, const struct op *op)
{
	unsigned al = (uint8_t)c->gpr[X86_RAX], ah = (uint8_t)(c->gpr[X86_RAX] >> 8);
	unsigned base = (uint8_t)op->in->imm;

	switch (op->in->op) {
	case 0x27:
	case 0x2f:
		adjust_packed(c, op->in->op == 0x2f);
		break;
	case 0x37:
	case 0x3f:
		adjust_unpacked(c, op->in->op == 0x3f);
		break;
	case 0xd4:
		if (!base)
			return fault_set(c, X86_DE);
		divide(c, al, base);
		break;
	case 0xd5:
		multiply(c, al, ah, base);
		break;
	case 0xd6:
		reg_set(c, X86_RAX, 1, c->rflags & X86_CF ? 0xff : 0);
		break;
	default:
		return fault_set(c, X86_UDV);
	}
	return op_done(c, op);
}
