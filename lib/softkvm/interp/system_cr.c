/* SPDX-License-Identifier: MIT */
/*
 * Control registers: MOV to and from CR0, CR2, CR3, CR4, CR8; CLTS, LMSW, SMSW.
 *
 * How a processor gets from real to 64-bit mode, which is what most rules here guard:
 *
 *	CR0.PE           protected mode; CPL is 0 already
 *	CR4.PAE, CR3     tables of four levels
 *	EFER.LME         long mode wanted (wrmsr)
 *	CR0.PG           EFER.LMA := LME: long mode is active, code still runs with CS as it is
 *	JMP FAR          to a segment with L set: 64-bit code
 *
 * and the way back in reverse. While LMA is set, PAE cannot be cleared, and PG only from a
 * compatibility segment.
 *
 * What a change does to translations is told to the MMU: mmu_flush_all() where cached
 * translations become wrong, mmu_mode_changed() where others apply.
 * Source: Intel SDM volume 3, chapters 2.5, 4.10.4 and 10.8.5 (initializing IA-32e mode).
 */
#include "softkvm/interp/segload.h"
#include "softkvm/interp/system.h"

#include "softkvm/irqchip/irqchip.h"

#define CR0_BITS (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | \
		  CR0_NW | CR0_CD | CR0_PG)
#define CR4_PKE 0x400000ull
#define CR4_FLUSHES (CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PKE)
#define CR3_KEEP (1ull << 63)

/* Address bits that do not exist. */
static uint64_t beyond_memory(const struct vcpu *c)
{
	return ~0ull << (c->max_phys_bits ? c->max_phys_bits : 36);
}

/* -- PAE's four page directory pointers --------------------------------------------------- */

/* With PAE paging outside long mode they are loaded, and checked, with CR3. */
static enum step check_pdptes(struct vcpu *c, uint64_t cr3)
{
	const uint64_t reserved = beyond_memory(c) | 0x1e6;
	uint64_t pdpte;

	for (unsigned i = 0; i < 4; i++) {
		if (phys_read(c->vm, (cr3 & 0xffffffe0) + 8 * i, &pdpte, 8))
			return gp0(c);
		if ((pdpte & 1) && (pdpte & reserved))
			return gp0(c);
	}
	return STEP_OK;
}

static bool uses_pdptes(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
	return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LMA);
}

/* -- CR0 ---------------------------------------------------------------------------------- */

/* Paging is switched on: with LME that activates long mode. */
static enum step enter_paging(struct vcpu *c, uint64_t *efer)
{
	if (!(c->efer & EFER_LME))
		return c->cr4 & CR4_PAE ? check_pdptes(c, c->cr3) : STEP_OK;
	if (!(c->cr4 & CR4_PAE) || c->seg[X86_CS].l || !(c->tr.type & 8))
		return gp0(c);
	*efer |= EFER_LMA;
	return STEP_OK;
}

static enum step leave_paging(struct vcpu *c, uint64_t *efer)
{
	if (is_64bit_code(c) || (c->cr4 & CR4_PCIDE))
		return gp0(c);
	*efer &= ~EFER_LMA;
	return STEP_OK;
}

static void cr0_changed(struct vcpu *c, uint64_t changed)
{
	if (!(c->cr0 & CR0_PE))
		c->cpl = 0;
	if (changed & (CR0_PG | CR0_WP))
		mmu_flush_all(c);
	if (changed & (CR0_PG | CR0_PE))
		mmu_mode_changed(c);
}

static enum step write_cr0(struct vcpu *c, uint64_t value)
{
	uint64_t changed, efer = c->efer;
	enum step rc = STEP_OK;

	if (value >> 32)
		return gp0(c);
	value = (value & CR0_BITS) | CR0_ET;
	if ((value & CR0_PG) && !(value & CR0_PE))
		return gp0(c);
	if ((value & CR0_NW) && !(value & CR0_CD))
		return gp0(c);
	changed = value ^ c->cr0;
	if (changed & CR0_PG)
		rc = value & CR0_PG ? enter_paging(c, &efer) : leave_paging(c, &efer);
	if (rc)
		return rc;
	c->efer = efer;
	c->cr0 = value;
	cr0_changed(c, changed);
	return STEP_OK;
}

/* -- CR3, CR4 ----------------------------------------------------------------------------- */

static enum step write_cr3(struct vcpu *c, uint64_t value)
{
	const bool pcid = c->cr4 & CR4_PCIDE;
	const bool keep = pcid && (value & CR3_KEEP);
	enum step rc = STEP_OK;

	if (pcid)
		value &= ~CR3_KEEP;
	if (is_long_mode(c) && (value & beyond_memory(c)))
		return gp0(c);
	if (uses_pdptes(c->cr0, c->cr4, c->efer))
		rc = check_pdptes(c, value);
	if (rc)
		return rc;
	mmu_load_cr3(c, value, keep);
	c->cr3 = value;
	return STEP_OK;
}

static enum step check_cr4(struct vcpu *c, uint64_t value, uint64_t changed)
{
	if (value & ~c->cr4_allowed)
		return gp0(c);
	if (is_long_mode(c) && !(value & CR4_PAE))
		return gp0(c);
	if ((changed & value & CR4_PCIDE) && (!is_long_mode(c) || (c->cr3 & 0xfff)))
		return gp0(c);
	if (uses_pdptes(c->cr0, value, c->efer) && (changed & (CR4_PAE | CR4_PGE | CR4_PSE)))
		return check_pdptes(c, c->cr3);
	return STEP_OK;
}

static enum step write_cr4(struct vcpu *c, uint64_t value)
{
	const uint64_t changed = value ^ c->cr4;
	enum step rc = check_cr4(c, value, changed);

	if (rc)
		return rc;
	c->cr4 = value;
	if ((changed & CR4_FLUSHES) || (changed & ~value & CR4_PCIDE))
		mmu_flush_all(c);
	if (changed & (CR4_PAE | CR4_PSE | CR4_SMEP | CR4_SMAP))
		mmu_mode_changed(c);
	return STEP_OK;
}

/* -- CR8 ---------------------------------------------------------------------------------- */

static enum step write_cr8(struct vcpu *c, uint64_t value)
{
	if (value & ~15ull)
		return gp0(c);
	if (c->lapic) {
		lapic_set_cr8(c, value);
		return STEP_OK;
	}
	if (value < c->run->cr8) { /* the client's APIC may have something for it now */
		c->event.tpr_lowered = true;
		atomic_fetch_or(&c->requests, REQ_EVENT);
	}
	c->run->cr8 = value;
	return STEP_OK;
}

/* -- MOV CR ------------------------------------------------------------------------------- */

static enum step read_cr(struct vcpu *c, unsigned cr, uint64_t *value)
{
	switch (cr) {
	case 0: *value = c->cr0; break;
	case 2: *value = c->cr2; break;
	case 3: *value = c->cr3; break;
	case 4: *value = c->cr4; break;
	case 8: *value = c->lapic ? lapic_get_cr8(c) : c->run->cr8; break;
	default: return ud(c);
	}
	return STEP_OK;
}

static enum step write_cr(struct vcpu *c, unsigned cr, uint64_t value)
{
	switch (cr) {
	case 0: return write_cr0(c, value);
	case 2: c->cr2 = value; return STEP_OK;
	case 3: return write_cr3(c, value);
	case 4: return write_cr4(c, value);
	case 8: return write_cr8(c, value);
	default: return ud(c);
	}
}

/* 0F 20: MOV r, CRn; 0F 22: MOV CRn, r. The operand is always a register, of 8 bytes in 64-bit
 * mode and 4 elsewhere. */
enum step sys_mov_cr(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const unsigned reg = (in->modrm & 7) | (in->rex & 1) << 3;
	const bool wide = is_64bit_code(c);
	uint64_t value;
	enum step rc;

	(void)next;
	if (in->op == 0x22)
		return write_cr(c, in->reg, wide ? c->gpr[reg] : (uint32_t)c->gpr[reg]);
	rc = read_cr(c, in->reg, &value);
	if (!rc)
		gpr_set(c, reg, value, wide ? 8 : 4);
	return rc;
}

enum step sys_clts(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)in;
	(void)next;
	c->cr0 &= ~CR0_TS;
	return STEP_OK;
}

/* The low four bits of CR0, of which PE can only be set. */
enum step sys_lmsw(struct vcpu *c, const struct insn *in, uint64_t next)
{
	uint16_t value;
	enum step rc = sys_read16(c, in, next, &value);

	if (rc)
		return rc;
	return write_cr0(c, (c->cr0 & ~(CR0_MP | CR0_EM | CR0_TS)) | (value & 15));
}

enum step sys_smsw(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return sys_write16(c, in, next, c->cr0);
}
