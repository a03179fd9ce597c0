/* SPDX-License-Identifier: MIT */
/*
 * Decimal arithmetic: AAA AAS DAA DAS AAM AAD, and SALC. 64-bit mode does not have them, so
 * they cannot run on the host as they are.
 *
 * The manual leaves flags undefined. Here they are what AMD's CPUs make of them, which has a
 * rule: those of the addition or subtraction that adjusts (16 bits wide in AAA and AAS), of
 * AH * base + AL in AAD, and of the remainder in AAM, with CF, AF and OF clear.
 *
 * Source: Intel SDM volume 2, the instructions' pages; SALC: AMD APM volume 3. The rule: all
 * inputs run on a Zen 5.
 */
#include "softkvm/interp/ops.h"

static uint64_t flags_of_add(uint64_t a, uint64_t b, unsigned size)
{
	uint64_t r = a + b, mask = size_mask(size);
	uint64_t f = flags_of_result(r, size);

	if ((r & mask) < (a & mask))
		f |= X86_CF;
	if ((a ^ b ^ r) & 0x10)
		f |= X86_AF;
	if ((~(a ^ b) & (a ^ r)) >> (size * 8 - 1) & 1)
		f |= X86_OF;
	return f;
}

/* Adds to (takes from) AL or AX; CF and AF are the instruction's own. */
static uint64_t adjust(struct vcpu *c, uint64_t by, unsigned size, bool subtract, uint64_t own)
{
	uint64_t old = reg_get(c, X86_RAX, size);
	uint64_t f = subtract ? flags_of_cmp(old, by, size) : flags_of_add(old, by, size);

	flags_put(c, X86_ARITH, (f & ~(uint64_t)(X86_CF | X86_AF)) | own);
	return subtract ? old - by : old + by;
}

/* DAA, DAS */
static void adjust_packed(struct vcpu *c, bool subtract)
{
	unsigned old = (uint8_t)c->gpr[X86_RAX], by = 0;
	uint64_t own = c->rflags & X86_CF;

	if ((old & 15) > 9 || (c->rflags & X86_AF)) {
		by = 6;
		own |= X86_AF;
		if (subtract && old < 6)
			own |= X86_CF;
	}
	if (old > 0x99 || (c->rflags & X86_CF)) {
		by += 0x60;
		own |= X86_CF;
	}
	reg_set(c, X86_RAX, 1, adjust(c, by, 1, subtract, own));
}

/* AAA, AAS */
static void adjust_unpacked(struct vcpu *c, bool subtract)
{
	bool carry = (c->gpr[X86_RAX] & 15) > 9 || (c->rflags & X86_AF);
	uint64_t ax = adjust(c, carry ? 0x106 : 0, 2, subtract, carry ? X86_AF | X86_CF : 0);

	reg_set(c, X86_RAX, 2, ax & 0xff0f);
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
		reg_set(c, X86_RAX, 2, al / base << 8 | al % base);
		flags_put(c, X86_ARITH, flags_of_result(al % base, 1));
		break;
	case 0xd5:
		reg_set(c, X86_RAX, 2, (al + ah * base) & 0xff);
		flags_put(c, X86_ARITH, flags_of_add(al, ah * base, 1));
		break;
	case 0xd6:
		reg_set(c, X86_RAX, 1, c->rflags & X86_CF ? 0xff : 0);
		break;
	default:
		return fault_set(c, X86_UDV);
	}
	return op_done(c, op);
}
