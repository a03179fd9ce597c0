/* SPDX-License-Identifier: MIT */
/*
 * Segmentation: from an operand's offset to a linear address.
 *
 *	offset ---(segment limit and type)---> + base ---> linear address ---> walk.c
 *
 * In 64-bit mode only FS and GS have a base, nothing has a limit, and what is checked is
 * that each byte's address is canonical: bits 63..47 all alike. Elsewhere the hidden part of
 * the segment register decides, as the last load of it left it: that is why "unreal mode"
 * works without a word about it here, and why real mode has limits, too (an access at offset
 * FFFF of two bytes faults). Type checks belong to protected mode alone: in real and
 * virtual-8086 mode one may write through CS.
 *
 * kvm_segment.limit is in bytes whatever G says: the ABI scales it.
 *
 * Linear addresses outside 64-bit mode have 32 bits and wrap.
 *
 * Source: Intel SDM volume 3, chapter 5; volume 1, chapter 3 (address calculation).
 */
#include "softkvm/mmu/mmu.h"

/* kvm_segment.type, for code and data segments (s = 1) */
#define TYPE_CODE 8
#define TYPE_EXPAND_DOWN 4 /* data */
#define TYPE_WRITE 2       /* data; for code: readable */

static uint64_t reg_value(const struct vcpu *c, uint8_t reg, uint64_t rip_next)
{
	if (reg == X86_REG_NONE)
		return 0;
	return reg == X86_RIP ? rip_next : c->gpr[reg & 15];
}

uint64_t insn_ea(const struct vcpu *c, const struct insn *in, uint64_t rip_next)
{
	uint64_t ea = (uint64_t)in->disp + reg_value(c, in->base, rip_next);

	if (in->index != X86_REG_NONE)
		ea += c->gpr[in->index & 15] * in->scale;
	if (in->adsize == 8)
		return ea;
	return in->adsize == 4 ? (uint32_t)ea : (uint16_t)ea;
}

static enum step violation(struct vcpu *c, enum x86_seg seg)
{
	return fault_code(c, seg == X86_SS ? X86_SSV : X86_GP, 0);
}

static bool type_permits(const struct kvm_segment *s, bool write)
{
	if (s->unusable)
		return false;
	if (s->type & TYPE_CODE)
		return !write && (s->type & TYPE_WRITE);
	return !write || (s->type & TYPE_WRITE);
}

static bool limit_permits(const struct kvm_segment *s, uint64_t first, uint64_t last)
{
	if ((s->type & (TYPE_CODE | TYPE_EXPAND_DOWN)) == TYPE_EXPAND_DOWN)
		return first > s->limit && last <= (s->db ? 0xffffffffu : 0xffffu);
	return last <= s->limit;
}

enum step seg_linear(struct vcpu *c, enum x86_seg seg, uint64_t ea, unsigned len, bool write,
		     uint64_t *lin)
{
	uint64_t last = ea + (len ? len - 1 : 0);

	if (is_64bit_code(c)) {
		uint64_t base = seg == X86_FS || seg == X86_GS ? c->seg[seg].base : 0;

		*lin = base + ea;
		if (!is_canonical(*lin) || !is_canonical(base + last))
			return violation(c, seg);
		return STEP_OK;
	}

	const struct kvm_segment *s = &c->seg[seg > X86_GS ? X86_DS : seg];

	if (is_protected(c) && !is_vm86(c) && !type_permits(s, write))
		return violation(c, seg);
	if (!limit_permits(s, ea, last))
		return violation(c, seg);
	*lin = (uint32_t)(s->base + ea);
	return STEP_OK;
}
