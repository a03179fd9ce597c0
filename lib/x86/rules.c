/* SPDX-License-Identifier: MIT */
/*
 * What an encoding may be, beyond its row's bits: the rules that VEX and EVEX have in
 * common, and the few instructions that need care.
 *
 * A row of the table says what an instruction is, and most are no more than that. A
 * rule that is only one instruction's business is a CARE of its row, and a case of
 * rules_care(): a shift by 0 leaves the flags alone, a gather's three registers differ,
 * CR1 does not exist.
 *
 * VEX and EVEX carry bits that must have one value where the row has no use for them:
 * vvvv, L'L, the mask, zeroing, broadcast. rules_vex_ok() looks at each. After the
 * Intel SDM, volume 2.
 */
#include "x86/decoder.h"

/* -- The rules of VEX and EVEX ----------------------------------------------------- */

/* With registers, EVEX.b takes L'L for the rounding mode; the vector is whole. */
static bool is_rounding(const struct decoder *d, unsigned mod)
{
	return d->b && mod == 3 && d->operands & (OPF_ER | OPF_SAE | OPF_B_ANY);
}

static bool length_ok(const struct decoder *d, const struct insn *in)
{
	static const uint64_t bit[3] = {OPF_L128, OPF_L256, OPF_L512};

	if (is_rounding(d, in->mod))
		return true;
	return d->ll < 3 && d->operands & bit[d->ll];
}

void rules_vector_length(const struct decoder *d, struct insn *in)
{
	if (in->enc == X86_LEGACY)
		in->vl = d->operands & OPF_X87 &&
					 field(d->operands, OPF_MEM_AT, 5) != MS_x
				 ? 0
				 : 16;
	else if (d->operands & OPF_LIG)
		in->vl = 16;
	else if (is_rounding(d, in->mod))
		in->vl = 64;
	else if (d->ll < 3)
		in->vl = 16 << d->ll;
}

static bool uses_vvvv(const struct decoder *d, const struct insn *in)
{
	return d->operands & OPF_NDS && !(d->operands & OPF_NDS_REG && in->has_mem);
}

/*
 * Without a use it must be 1111; outside 64-bit mode its fourth bit says nothing else.
 */
void rules_vvvv(struct decoder *d, struct insn *in)
{
	if (in->vvvv && !uses_vvvv(d, in))
		d->ud = true;
	if (d->mode != X86_MODE_64)
		in->vvvv &= 7;
}

static bool mask_ok(const struct decoder *d, const struct insn *in)
{
	if (d->aaa == 0)
		return !d->z && !(d->operands & OPF_KREQ);
	if (!(d->operands & OPF_K))
		return false;
	return !d->z ||
	       (d->operands & OPF_Z && !(in->has_mem && d->operands & OPF_MEM_W));
}

static bool evex_ok(const struct decoder *d, const struct insn *in)
{
	uint64_t with_b =
		in->has_mem ? 3ull << OPF_BC_AT : OPF_ER | OPF_SAE | OPF_B_ANY;

	if (d->b && !(d->operands & with_b))
		return false;
	/* V' is the index's fifth bit under VSIB; else it belongs to vvvv. */
	if (d->high_vvvv && !uses_vvvv(d, in) && !(d->operands & OPF_VSIB))
		return false;
	if (d->high_reg && field(d->operands, OPF_REG_AT, 2) == X86_F_GPR)
		return false;
	return mask_ok(d, in);
}

bool rules_vex_ok(const struct decoder *d, const struct insn *in)
{
	uint64_t operands = d->operands;

	if (operands & OPF_KREG && (in->reg > 7 || d->high_reg))
		return false;
	if (operands & OPF_KVVVV && in->vvvv > 7)
		return false;
	if (!length_ok(d, in))
		return false;
	return in->enc != X86_EVEX || evex_ok(d, in);
}

/* -- Care -------------------------------------------------------------------------- */

/*
 * An immediate count is masked; 0 leaves all flags alone, and OF is defined for 1 only.
 */
static void care_shift_i(struct insn *in)
{
	unsigned count = in->imm & (in->opsize == 8 ? 63 : 31), bits = in->opsize * 8;
	unsigned reg = in->modrm >> 3 & 7;
	bool rotate = reg < 4, through_carry = rotate && reg >= 2;

	if (count == 0) {
		in->flags_w = 0;
		in->flags_r = 0;
		in->flags_touch = false;
		return;
	}
	if (count != 1)
		in->flags_w &= ~X86_OF;
	if (through_carry && count % (bits + 1) == 0)
		in->flags_w = 0;
	/*
	 * SHL and SHR by the operand's size or more leave CF undefined; SAR does not.
	 */
	if (!rotate && reg != 7 && count >= bits)
		in->flags_w &= ~X86_CF;
}

static void care_shd_i(struct insn *in)
{
	unsigned count = in->imm & (in->opsize == 8 ? 63 : 31);

	if (count == 0)
		in->flags_touch = false;
	if (count == 0 || count > in->opsize * 8u)
		in->flags_w = 0;
	else if (count == 1)
		in->flags_w |= X86_OF;
}

static void care_rep(struct insn *in)
{
	if (in->prefix & (X86_PFX_F2 | X86_PFX_F3)) {
		in->gpr_r |= 1 << X86_RCX;
		in->gpr_w |= 1 << X86_RCX;
		in->flags_w = 0;
	}
}

static void care_string_segment(const struct decoder *d, struct insn *in)
{
	bool source = in->gpr_r & 1 << X86_RSI;

	if (d->mode == X86_MODE_64 && (!source || in->seg < X86_FS))
		in->seg = X86_SEG_NONE;
	else if (d->mode != X86_MODE_64 && !source)
		in->seg = X86_ES;
	else if (in->seg == X86_SEG_NONE && d->mode != X86_MODE_64)
		in->seg = X86_DS;
}

static void care_nop(struct insn *in)
{
	if (!(in->rex & 1))
		return;
	in->kind = X86_NATIVE;
	in->oreg = X86_R8;
	in->f_rm = X86_F_GPR;
	in->rm_r = in->rm_w = true;
	in->gpr_r = in->gpr_w = 1 << X86_RAX;
}

/* CR0, CR2, CR3, CR4, CR8 and DR0 to DR7 exist. */
static bool is_control_reg(const struct insn *in)
{
	return in->op & 1 ? in->reg < 8 : 0x11d >> in->reg & 1;
}

/*
 * A gather's destination, index and mask must be three registers; EVEX has k for a
 * mask.
 */
static bool gather_ok(const struct decoder *d, const struct insn *in, bool scatter)
{
	unsigned dst = in->reg | d->high_reg << 4;
	unsigned index = in->index | (in->enc == X86_EVEX ? d->high_vvvv << 4 : 0);

	if (in->index == X86_REG_NONE || in->adsize == 2)
		return false; /* VSIB needs SIB */
	if (in->enc == X86_EVEX)
		return in->vvvv == 0 && (scatter || dst != index);
	return dst != index && dst != in->vvvv && index != in->vvvv;
}

static bool is_distinct(const struct decoder *d, const struct insn *in)
{
	unsigned dst = in->reg | d->high_reg << 4, vvvv = in->vvvv | d->high_vvvv << 4;
	unsigned rm = in->rm | (in->rex & 2) << 3;

	return dst != vvvv && (in->mod != 3 || dst != rm);
}

void rules_care(struct decoder *d, struct insn *in)
{
	switch (care_of(d)) {
	case CARE_shift_i: care_shift_i(in); break;
	case CARE_shift_cl: in->flags_w = 0; break;
	case CARE_shd_i: care_shd_i(in); break;
	case CARE_rep:
		care_rep(in);
		care_string_segment(d, in);
		break;
	case CARE_prefetch:
		if (in->mod == 3)
			in->kind = X86_NATIVE;
		break;
	case CARE_nop: care_nop(in); break;
	case CARE_bt:
		if (in->mod != 3)
			in->kind = X86_BT_MEM;
		break;
	case CARE_crdr: d->ud |= !is_control_reg(in); break;
	case CARE_seg: d->ud |= (in->modrm >> 3 & 7) > X86_GS; break;
	case CARE_seg_load:
		d->ud |=
			(in->modrm >> 3 & 7) > X86_GS || (in->modrm >> 3 & 7) == X86_CS;
		break;
	case CARE_gather:
	case CARE_scatter:
		d->ud |= !gather_ok(d, in, care_of(d) == CARE_scatter);
		break;
	case CARE_distinct: d->ud |= !is_distinct(d, in); break;
	case CARE_syscall: in->gpr_w |= 1 << X86_R11; break;
	case CARE_sysret: in->gpr_r |= 1 << X86_R11; break;
	default: break;
	}
}
