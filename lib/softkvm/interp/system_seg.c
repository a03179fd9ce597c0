/* SPDX-License-Identifier: MIT */
/*
 * Instructions that move segment registers and descriptor table registers.
 *
 * GDTR and IDTR in memory: a 16-bit limit, then the base, 8 bytes in 64-bit mode, else 4 of
 * which a 16-bit operand size loads three. LDTR and TR name system descriptors, which have 16
 * bytes in long mode; loading TR marks its descriptor busy.
 * Source: Intel SDM volume 2: MOV, LDS, LGDT, LLDT, LTR, SGDT, SLDT, STR.
 */
#include "softkvm/interp/far.h"
#include "softkvm/interp/segload.h"
#include "softkvm/interp/system.h"

#include "softkvm/os/bytes.h"

/* -- Segment registers -------------------------------------------------------------------- */

/* 8C: MOV r/m, Sreg. */
enum step sys_mov_from_seg(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const unsigned seg = in->modrm >> 3 & 7;

	if (seg > X86_GS)
		return ud(c);
	return sys_write16(c, in, next, c->seg[seg].selector);
}

/* 8E: MOV Sreg, r/m. */
enum step sys_mov_to_seg(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const unsigned seg = in->modrm >> 3 & 7;
	uint16_t sel;
	enum step rc;

	if (seg > X86_GS || seg == X86_CS)
		return ud(c);
	rc = sys_read16(c, in, next, &sel);
	if (!rc)
		rc = seg_load(c, (enum x86_seg)seg, sel);
	if (!rc && seg == X86_SS)
		c->event.shadow |= KVM_X86_SHADOW_INT_MOV_SS;
	return rc;
}

static enum x86_seg far_segment(const struct insn *in)
{
	if (in->map == X86_MAP_1B)
		return in->op == 0xc4 ? X86_ES : X86_DS;
	return in->op == 0xb2 ? X86_SS : in->op == 0xb4 ? X86_FS : X86_GS;
}

/* LES, LDS, LSS, LFS, LGS: a register and a segment register out of a far pointer. */
enum step sys_load_far(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const unsigned size = far_size(c, in);
	uint64_t lin, off = 0;
	uint16_t sel;
	enum step rc = sys_linear(c, in, next, size + 2, false, &lin);

	if (!rc)
		rc = mmu_read(c, lin, &off, size, ACC_READ);
	if (!rc)
		rc = mmu_read(c, lin + size, &sel, 2, ACC_READ);
	if (!rc)
		rc = seg_load(c, far_segment(in), sel);
	if (!rc)
		gpr_set(c, in->reg, off, size);
	return rc;
}

/* -- GDTR, IDTR --------------------------------------------------------------------------- */

static bool is_16bit_operand(const struct vcpu *c, const struct insn *in)
{
	const enum x86_mode mode = code_mode(c);
	const bool prefix = in->prefix & X86_PFX_66;

	return mode != X86_MODE_64 && (mode == X86_MODE_16) != prefix;
}

static enum step load_table(struct vcpu *c, const struct insn *in, uint64_t next,
			    struct kvm_dtable *t)
{
	const unsigned width = in->mem_size - 2u;
	uint8_t buf[10];
	uint64_t lin, base;
	enum step rc = sys_linear(c, in, next, in->mem_size, false, &lin);

	if (!rc)
		rc = mmu_read(c, lin, buf, in->mem_size, ACC_READ);
	if (rc)
		return rc;
	base = bytes_load(buf + 2, width);
	if (is_16bit_operand(c, in))
		base &= 0xffffff;
	if (!is_canonical(base))
		return gp0(c);
	t->limit = (uint16_t)bytes_load(buf, 2);
	t->base = base;
	return STEP_OK;
}

static enum step store_table(struct vcpu *c, const struct insn *in, uint64_t next,
			     const struct kvm_dtable *t)
{
	const unsigned width = in->mem_size - 2u;
	uint8_t buf[10];
	uint64_t lin;
	enum step rc = sys_linear(c, in, next, in->mem_size, true, &lin);

	if (rc)
		return rc;
	bytes_store(buf, t->limit, 2);
	bytes_store(buf + 2, t->base, width);
	return mmu_write(c, lin, buf, in->mem_size, ACC_WRITE);
}

enum step sys_lgdt(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return load_table(c, in, next, &c->gdt);
}

enum step sys_lidt(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return load_table(c, in, next, &c->idt);
}

enum step sys_sgdt(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return store_table(c, in, next, &c->gdt);
}

enum step sys_sidt(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return store_table(c, in, next, &c->idt);
}

/* -- LDTR, TR ----------------------------------------------------------------------------- */

/* A system descriptor in the GDT, both halves in long mode. */
static enum step read_system(struct vcpu *c, uint16_t sel, struct desc *d)
{
	enum step rc;

	if (sel & 4)
		return sel_fault(c, X86_GP, sel, 0);
	rc = desc_read(c, sel, BLAME_GP, d);
	if (!rc && is_long_mode(c))
		rc = desc_read_high(c, sel, BLAME_GP, d);
	if (!rc && !is_canonical(desc_base(d)))
		return sel_fault(c, X86_GP, sel, 0);
	return rc;
}

enum step sys_lldt(struct vcpu *c, const struct insn *in, uint64_t next)
{
	struct desc d;
	uint16_t sel;
	enum step rc = sys_read16(c, in, next, &sel);

	if (rc)
		return rc;
	if (sel_is_null(sel)) {
		seg_set_null(&c->ldt, sel, 0);
		return STEP_OK;
	}
	rc = read_system(c, sel, &d);
	if (rc)
		return rc;
	if (desc_s(&d) || desc_type(&d) != SYS_LDT)
		return sel_fault(c, X86_GP, sel, 0);
	if (!desc_present(&d))
		return sel_fault(c, X86_NP, sel, 0);
	seg_from_desc(&c->ldt, sel, &d);
	return STEP_OK;
}

static bool is_free_tss(const struct vcpu *c, const struct desc *d)
{
	const unsigned type = desc_type(d);

	return !desc_s(d) && (type == SYS_TSS32 || (type == SYS_TSS16 && !is_long_mode(c)));
}

enum step sys_ltr(struct vcpu *c, const struct insn *in, uint64_t next)
{
	struct desc d;
	uint16_t sel;
	uint8_t byte;
	enum step rc = sys_read16(c, in, next, &sel);

	if (rc)
		return rc;
	if (sel_is_null(sel))
		return gp0(c);
	rc = read_system(c, sel, &d);
	if (rc)
		return rc;
	if (!is_free_tss(c, &d))
		return sel_fault(c, X86_GP, sel, 0);
	if (!desc_present(&d))
		return sel_fault(c, X86_NP, sel, 0);
	d.raw |= 2ull << 40; /* busy */
	byte = (uint8_t)(d.raw >> 40);
	rc = mmu_write(c, d.lin + 5, &byte, 1, ACC_WRITE | ACC_SYSTEM);
	if (!rc)
		seg_from_desc(&c->tr, sel, &d);
	return rc;
}

enum step sys_sldt(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return sys_write16(c, in, next, c->ldt.selector);
}

enum step sys_str(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return sys_write16(c, in, next, c->tr.selector);
}
