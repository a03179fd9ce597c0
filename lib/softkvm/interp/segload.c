/* SPDX-License-Identifier: MIT */
/*
 * Loading segment registers.
 *
 *	 15              3  2  1 0
 *	+-----------------+--+----+     TI: 0 the global table, 1 the local one
 *	|      index      |TI| RPL|     RPL: privilege that the requester claims
 *	+-----------------+--+----+
 *
 * In protected mode a selector names a descriptor, which is checked against the use that is to
 * be made of it and then copied into the hidden part of the register (struct kvm_segment),
 * where it stays whatever becomes of the table. In real and virtual-8086 mode the base is
 * simply the selector times 16; real mode leaves limit and attributes as they were ("unreal
 * mode" lives on that), virtual-8086 mode sets them to fixed values.
 *
 * The checks follow the operation section of MOV in the Intel SDM, volume 2. Null selectors
 * clear the base also of FS and GS, as Intel's processors do and current ones of AMD.
 */
#include "softkvm/interp/segload.h"

enum step desc_read(struct vcpu *c, uint16_t sel, struct blame blame, struct desc *d)
{
	uint32_t at = sel & 0xfff8u;
	uint64_t base = c->gdt.base;
	uint32_t limit = c->gdt.limit;

	if (sel & 4) {
		if (c->ldt.unusable || !c->ldt.present)
			return sel_fault(c, blame.vector, sel, blame.ext);
		base = c->ldt.base;
		limit = c->ldt.limit;
	}
	if (at + 7 > limit)
		return sel_fault(c, blame.vector, sel, blame.ext);
	d->lin = base + at;
	d->high = 0;
	return mmu_read(c, d->lin, &d->raw, 8, ACC_READ | ACC_SYSTEM);
}

enum step desc_read_high(struct vcpu *c, uint16_t sel, struct blame blame, struct desc *d)
{
	const uint32_t limit = sel & 4 ? c->ldt.limit : c->gdt.limit;
	enum step rc;

	if ((sel & 0xfff8u) + 15 > limit)
		return sel_fault(c, blame.vector, sel, blame.ext);
	rc = mmu_read(c, d->lin + 8, &d->high, 8, ACC_READ | ACC_SYSTEM);
	if (!rc && (d->high >> 40 & 0x1f))
		return sel_fault(c, blame.vector, sel, blame.ext);
	return rc;
}

enum step desc_mark_accessed(struct vcpu *c, struct desc *d)
{
	uint8_t byte;

	if (d->raw >> 40 & SEG_ACCESSED)
		return STEP_OK;
	d->raw |= (uint64_t)SEG_ACCESSED << 40;
	byte = (uint8_t)(d->raw >> 40);
	return mmu_write(c, d->lin + 5, &byte, 1, ACC_WRITE | ACC_SYSTEM);
}

void seg_from_desc(struct kvm_segment *s, uint16_t sel, const struct desc *d)
{
	s->base = desc_base(d);
	s->limit = desc_limit(d);
	s->selector = sel;
	s->type = (uint8_t)desc_type(d);
	s->s = desc_s(d);
	s->dpl = (uint8_t)desc_dpl(d);
	s->present = desc_present(d);
	s->avl = d->raw >> 52 & 1;
	s->l = desc_l(d);
	s->db = desc_db(d);
	s->g = d->raw >> 55 & 1;
	s->unusable = 0;
	s->padding = 0;
}

void seg_set_null(struct kvm_segment *s, uint16_t sel, unsigned dpl)
{
	*s = (struct kvm_segment){
		.selector = sel,
		.dpl = (uint8_t)dpl,
		.unusable = 1,
	};
}

void seg_set_vm86(struct kvm_segment *s, uint16_t sel)
{
	*s = (struct kvm_segment){
		.base = (uint64_t)sel << 4,
		.limit = 0xffff,
		.selector = sel,
		.type = SEG_ACCESSED | SEG_WRITABLE,
		.present = 1,
		.dpl = 3,
		.s = 1,
	};
}

enum step seg_check_stack(struct vcpu *c, uint16_t sel, unsigned cpl, struct blame blame,
			  struct desc *d)
{
	enum step rc = desc_read(c, sel, blame, d);

	if (rc)
		return rc;
	if ((sel & 3u) != cpl || !desc_is_writable_data(d) || desc_dpl(d) != cpl)
		return sel_fault(c, blame.vector, sel, blame.ext);
	if (!desc_present(d))
		return sel_fault(c, X86_SSV, sel, blame.ext);
	return desc_mark_accessed(c, d);
}

void seg_load_real(struct kvm_segment *s, uint16_t sel)
{
	if (s->unusable) {
		seg_set_vm86(s, sel);
		s->dpl = 0;
	}
	s->selector = sel;
	s->base = (uint64_t)sel << 4;
}

static enum step load_null(struct vcpu *c, enum x86_seg seg, uint16_t sel)
{
	if (seg == X86_SS && (!is_64bit_code(c) || c->cpl == 3 || (sel & 3) != c->cpl))
		return fault_code(c, X86_GP, 0);
	seg_set_null(&c->seg[seg], sel, seg == X86_SS ? c->cpl : 0);
	return STEP_OK;
}

/* Checks sel for DS, ES, FS, GS. */
static enum step check_data(struct vcpu *c, uint16_t sel, struct desc *d)
{
	const unsigned rpl = sel & 3;
	enum step rc = desc_read(c, sel, BLAME_GP, d);

	if (rc)
		return rc;
	if (!desc_s(d) || (desc_type(d) & (SEG_CODE | SEG_READABLE)) == SEG_CODE)
		return sel_fault(c, X86_GP, sel, 0);
	if (!desc_is_conforming(d) && (rpl > desc_dpl(d) || c->cpl > desc_dpl(d)))
		return sel_fault(c, X86_GP, sel, 0);
	if (!desc_present(d))
		return sel_fault(c, X86_NP, sel, 0);
	return desc_mark_accessed(c, d);
}

enum step seg_load(struct vcpu *c, enum x86_seg seg, uint16_t sel)
{
	struct desc d;
	enum step rc;

	if (!is_protected(c)) {
		seg_load_real(&c->seg[seg], sel);
		return STEP_OK;
	}
	if (is_vm86(c)) {
		seg_set_vm86(&c->seg[seg], sel);
		return STEP_OK;
	}
	if (sel_is_null(sel))
		return load_null(c, seg, sel);
	rc = seg == X86_SS ? seg_check_stack(c, sel, c->cpl, BLAME_GP, &d)
			   : check_data(c, sel, &d);
	if (!rc)
		seg_from_desc(&c->seg[seg], sel, &d);
	return rc;
}

void segs_drop_inner(struct vcpu *c)
{
	static const uint8_t data[] = {X86_ES, X86_DS, X86_FS, X86_GS};

	for (unsigned i = 0; i < sizeof(data); i++) {
		struct kvm_segment *s = &c->seg[data[i]];
		const bool conforming = s->type >= (SEG_CODE | SEG_CONFORMING);
		const uint64_t base = s->base;

		/* The base stays (64-bit code uses that of FS and GS without a look at the
		 * selector): processors do so, and kvm-unit-tests' emulator test asks for it. */
		if (!s->unusable && s->dpl < c->cpl && !conforming) {
			seg_set_null(s, 0, 0);
			s->base = base;
		} else if (sel_is_null(s->selector)) {
			s->selector = 0; /* of the four that are null this one */
		}
	}
}
