/* SPDX-License-Identifier: MIT */
/*
 * Instructions that ask about a selector without using it: LAR, LSL, VERR, VERW; and ARPL.
 *
 * They answer in ZF. A selector that is null, beyond its table, of the wrong type or out of
 * reach is no fault but ZF = 0 and the destination unchanged; only the reading of the
 * descriptor may fault.
 * Source: Intel SDM volume 2.
 */
#include "softkvm/interp/segload.h"
#include "softkvm/interp/system.h"

/* System descriptors that LAR and LSL know, a bit for each type. */
#define LAR_LEGACY (1u << SYS_TSS16 | 1u << SYS_LDT | 1u << SYS_TSS16_BUSY | 1u << SYS_CALL16 | \
		    1u << SYS_TASK | 1u << SYS_TSS32 | 1u << SYS_TSS32_BUSY | 1u << SYS_CALL32)
#define LAR_LONG (1u << SYS_LDT | 1u << SYS_TSS32 | 1u << SYS_TSS32_BUSY | 1u << SYS_CALL32)
#define LSL_LEGACY (LAR_LEGACY & ~(1u << SYS_CALL16 | 1u << SYS_TASK | 1u << SYS_CALL32))
#define LSL_LONG (LAR_LONG & ~(1u << SYS_CALL32))

static void set_zf(struct vcpu *c, bool zf)
{
	c->rflags = (c->rflags & ~(uint64_t)X86_ZF) | (zf ? X86_ZF : 0);
}

/* Reads the descriptor; *found is false for selectors that name none. */
static enum step look(struct vcpu *c, uint16_t sel, struct desc *d, bool *found)
{
	enum step rc;

	*found = false;
	if (sel_is_null(sel))
		return STEP_OK;
	rc = desc_read(c, sel, BLAME_GP, d);
	if (rc == STEP_FAULT && c->fault.vector == X86_GP)
		return STEP_OK;
	*found = !rc;
	return rc;
}

static bool in_reach(const struct vcpu *c, uint16_t sel, const struct desc *d)
{
	if (desc_s(d) && desc_is_conforming(d))
		return true;
	return desc_dpl(d) >= c->cpl && desc_dpl(d) >= (sel & 3u);
}

/* LAR and LSL: the descriptor of the source, if it may be looked at. */
static enum step inspect(struct vcpu *c, const struct insn *in, uint64_t next,
			 uint32_t types, struct desc *d, bool *good)
{
	uint16_t sel;
	enum step rc = sys_read16(c, in, next, &sel);

	if (!rc)
		rc = look(c, sel, d, good);
	if (!rc && *good)
		*good = in_reach(c, sel, d) && (desc_s(d) || (types >> desc_type(d) & 1));
	return rc;
}

enum step sys_lar(struct vcpu *c, const struct insn *in, uint64_t next)
{
	struct desc d;
	bool good;
	enum step rc = inspect(c, in, next, is_long_mode(c) ? LAR_LONG : LAR_LEGACY, &d, &good);

	if (rc)
		return rc;
	if (good)
		gpr_set(c, in->reg, d.raw >> 32 & 0x00f0ff00, in->opsize);
	set_zf(c, good);
	return STEP_OK;
}

enum step sys_lsl(struct vcpu *c, const struct insn *in, uint64_t next)
{
	struct desc d;
	bool good;
	enum step rc = inspect(c, in, next, is_long_mode(c) ? LSL_LONG : LSL_LEGACY, &d, &good);

	if (rc)
		return rc;
	if (good)
		gpr_set(c, in->reg, desc_limit(&d), in->opsize);
	set_zf(c, good);
	return STEP_OK;
}

static enum step verify(struct vcpu *c, const struct insn *in, uint64_t next, bool write)
{
	struct desc d;
	uint16_t sel;
	bool good = false;
	enum step rc = sys_read16(c, in, next, &sel);

	if (!rc)
		rc = look(c, sel, &d, &good);
	if (rc)
		return rc;
	if (good && write)
		good = desc_is_writable_data(&d);
	else if (good)
		good = desc_s(&d) && (!desc_is_code(&d) || (desc_type(&d) & SEG_READABLE));
	set_zf(c, good && in_reach(c, sel, &d));
	return STEP_OK;
}

enum step sys_verr(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return verify(c, in, next, false);
}

enum step sys_verw(struct vcpu *c, const struct insn *in, uint64_t next)
{
	return verify(c, in, next, true);
}

/* Raises the RPL of a selector to that of another. Where it is high enough nothing is stored, and
 * the segment need not be writable. */
enum step sys_arpl(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const unsigned rpl = c->gpr[in->reg] & 3;
	uint64_t lin = 0;
	uint16_t sel;
	enum step rc = STEP_OK;

	if (in->mod != 3)
		rc = sys_linear(c, in, next, 2, false, &lin);
	if (!rc)
		rc = sys_read16(c, in, next, &sel);
	if (rc)
		return rc;
	if ((sel & 3u) >= rpl) {
		set_zf(c, false);
		return STEP_OK;
	}
	sel = (uint16_t)((sel & ~3u) | rpl);
	if (in->mod == 3)
		gpr_set(c, in->rm, sel, 2);
	else
		rc = sys_linear(c, in, next, 2, true, &lin);
	if (!rc && in->mod != 3)
		rc = mmu_write(c, lin, &sel, 2, ACC_WRITE);
	if (!rc)
		set_zf(c, true);
	return rc;
}
