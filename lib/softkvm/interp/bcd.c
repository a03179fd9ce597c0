/* SPDX-License-Identifier: MIT */
/*
 * Decimal arithmetic: AAA AAS DAA DAS AAM AAD, and SALC. 64-bit mode does not have them, so
 * they cannot run on the host as they are.
 *
 * Flags that the manual calls undefined keep their values.
 *
 * Source: Intel SDM volume 2, the instructions' pages; SALC: AMD APM volume 3.
 */
#include "softkvm/interp/ops.h"

static void put_al(struct vcpu *c, unsigned al, uint64_t carry)
{
	reg_set(c, X86_RAX, 1, al);
	flags_put(c, X86_CF | X86_AF | X86_PF | X86_ZF | X86_SF,
		  carry | flags_of_result(al, 1));
}

/* DAA, DAS */
static void adjust_packed(struct vcpu *c, bool subtract)
{
	unsigned old = (uint8_t)c->gpr[X86_RAX], al = old;
	uint64_t flags = 0;

	if ((old & 15) > 9 || (c->rflags & X86_AF)) {
		al = subtract ? al - 6 : al + 6;
		flags |= X86_AF;
		if (al > 0xff) /* a borrow shows as a large number, too */
			flags |= X86_CF;
		flags |= c->rflags & X86_CF;
	}
	if (old > 0x99 || (c->rflags & X86_CF)) {
		al = subtract ? al - 0x60 : al + 0x60;
		flags |= X86_CF;
	} else if (!subtract) {
		flags &= ~(uint64_t)X86_CF;
	}
	put_al(c, al & 0xff, flags);
}

/* AAA, AAS */
static void adjust_unpacked(struct vcpu *c, bool subtract)
{
	unsigned ax = (uint16_t)c->gpr[X86_RAX];
	uint64_t flags = 0;

	if ((ax & 15) > 9 || (c->rflags & X86_AF)) {
		ax = subtract ? ax - 0x106 : ax + 0x106;
		flags = X86_AF | X86_CF;
	}
	reg_set(c, X86_RAX, 2, ax & 0xff0f);
	flags_put(c, X86_AF | X86_CF, flags);
}

static void put_ax(struct vcpu *c, unsigned ah, unsigned al)
{
	reg_set(c, X86_RAX, 2, ah << 8 | (al & 0xff));
	flags_put(c, X86_PF | X86_ZF | X86_SF, flags_of_result(al, 1));
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
		put_ax(c, al / base, al % base);
		break;
	case 0xd5:
		put_ax(c, 0, al + ah * base);
		break;
	case 0xd6:
		reg_set(c, X86_RAX, 1, c->rflags & X86_CF ? 0xff : 0);
		break;
	default:
		return fault_set(c, X86_UDV);
	}
	return op_done(c, op);
}
