/* SPDX-License-Identifier: MIT */
/*
 * The decoder: from bytes to struct insn.
 *
 * An instruction is decoded from left to right, as volume 2 chapter 2 of the Intel
 * SDM draws it; each step is a function below and leaves what it found in a struct
 * decoder:
 *
 *	prefixes | REX | 0F, 0F 38, 0F 3A, or VEX/EVEX | opcode | ModRM SIB disp | immediate
 *	  read_prefixes()   find_place()           find_row()      read_modrm()  read_imm()
 *
 * All knowledge about opcodes is in the table (optable.h); this file knows the
 * encoding, rules.c what may not be encoded. When the row is known, its bits become the
 * fields and notes of struct insn, and the few rows with a `care` get their last facts
 * from rules_care().
 *
 * The bytes are copied first, for two reasons. The code can be a guest's memory, which
 * another processor changes at this moment: were a byte looked at twice, the group's row
 * could be found by one ModRM byte and the instruction emitted with another, and a guest
 * would have its way with the host. And with zeros behind the copy nothing has to be
 * checked for the end: a length that turns out to be more than was given means that the
 * instruction goes on (the first byte that was missing belongs to it). The longest
 * possible read is 15 prefixes, 5 bytes of VEX or escape and opcode, ModRM, SIB, 8 bytes
 * of displacement, and 8 of immediates.
 *
 * Where Intel and AMD differ we decode as Intel does: a 66 prefix does not shorten
 * near branches in 64-bit mode, LSS with REX.W loads 10 bytes, F6 /1 is TEST. MOV
 * CR8 through LOCK MOV CR0 is AMD's and not offered.
 *
 * Undefined is: a place without a row, an encoding that breaks a rule of its row,
 * LOCK where it is not allowed. The bytes of an undefined instruction are consumed
 * as far as its row says what follows.
 */
#include "x86/decoder.h"

#include <errno.h>

static uint64_t load(const uint8_t *p, unsigned len)
{
	uint64_t v = 0;

	switch (len) {
	case 1: return *p;
	case 2: return p[0] | p[1] << 8;
	case 4: return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
	default:
		for (unsigned i = 0; i < len; i++)
			v |= (uint64_t)p[i] << 8 * i;
		return v;
	}
}

static int64_t load_signed(const uint8_t *p, unsigned len)
{
	switch (len) {
	case 1: return (int8_t)*p;
	case 2: return (int16_t)load(p, 2);
	case 4: return (int32_t)load(p, 4);
	default: return load(p, len);
	}
}

/* -- Prefixes ---------------------------------------------------------------------- */

enum prefix_class { PC_none, PC_seg, PC_66, PC_67, PC_lock, PC_f2, PC_f3, PC_rex };

static const uint8_t prefix_class[256] = {
	[0x26] = PC_seg,  [0x2e] = PC_seg, [0x36] = PC_seg, [0x3e] = PC_seg,
	[0x64] = PC_seg,  [0x65] = PC_seg, [0x66] = PC_66,  [0x67] = PC_67,
	[0xf0] = PC_lock, [0xf2] = PC_f2,  [0xf3] = PC_f3,  [0x40 ... 0x4f] = PC_rex,
};

static enum x86_seg seg_of_prefix(uint8_t byte)
{
	return byte >= 0x64 ? X86_FS + (byte & 1) : (byte >> 3 & 3);
}

/* REX counts only directly before the opcode; of F2 and F3 the last one counts. */
static void read_prefixes(struct decoder *d, struct insn *in)
{
	for (; d->at < LONGEST; d->at++) {
		uint8_t byte = d->p[d->at];
		enum prefix_class class = prefix_class[byte];

		if (class == PC_none || (class == PC_rex && d->mode != X86_MODE_64))
			return;
		in->rex = 0;
		switch (class) {
		case PC_seg:
			in->seg_override = seg_of_prefix(byte);
			/* In 64-bit mode the four old ones are not there at all. */
			if (d->mode != X86_MODE_64 || in->seg_override >= X86_FS)
				in->seg = in->seg_override;
			break;
		case PC_66: in->prefix |= X86_PFX_66; break;
		case PC_67: in->prefix |= X86_PFX_67; break;
		case PC_lock: in->prefix |= X86_PFX_LOCK; break;
		case PC_f2: in->prefix = (in->prefix & ~X86_PFX_F3) | X86_PFX_F2; break;
		case PC_f3: in->prefix = (in->prefix & ~X86_PFX_F2) | X86_PFX_F3; break;
		default: in->rex = byte; break;
		}
	}
}

/* -- Opcode ------------------------------------------------------------------------ */

/* The mandatory prefix as the table counts it: none, 66, F3, F2. */
static unsigned mandatory_prefix(const struct insn *in)
{
	if (in->prefix & X86_PFX_F2)
		return 3;
	if (in->prefix & X86_PFX_F3)
		return 2;
	return !!(in->prefix & X86_PFX_66);
}

static unsigned legacy_place(struct decoder *d, struct insn *in)
{
	uint8_t byte = d->p[d->at++];
	unsigned map = OP_AT_1B;

	if (byte == 0x0f) {
		byte = d->p[d->at++];
		in->map = X86_MAP_0F;
		map = OP_AT_0F;
		if (byte == 0x38) {
			byte = d->p[d->at++];
			in->map = X86_MAP_0F38;
			map = OP_AT_0F38;
		} else if (byte == 0x3a) {
			byte = d->p[d->at++];
			in->map = X86_MAP_0F3A;
			map = OP_AT_0F3A;
		} else if (byte == 0x0f) {
			in->map = X86_MAP_0F0F;
		}
	}
	in->op = byte;
	d->w = in->rex & 8;
	return map + (byte << 2 | mandatory_prefix(in));
}

/* W, vvvv, pp: the same byte in C5, C4 and 62; C5 has R in the place of W. */
static void take_vvvv_pp(struct decoder *d, struct insn *in, uint8_t byte)
{
	static const uint8_t prefix_of_pp[4] = {0, X86_PFX_66, X86_PFX_F3, X86_PFX_F2};

	if (in->prefix & ~X86_PFX_67 || in->rex)
		d->ud = true;
	in->prefix = (in->prefix & X86_PFX_67) | prefix_of_pp[byte & 3];
	in->vvvv = ~byte >> 3 & 15;
}

static unsigned vex_place(struct decoder *d, struct insn *in)
{
	const uint8_t *p = d->p + d->at;
	unsigned map = X86_MAP_0F;
	uint8_t last;

	in->enc = X86_VEX;
	in->vex[0] = p[1];
	if (p[0] == 0xc5) {
		in->vexlen = 2;
		last = p[1];
		take_vvvv_pp(d, in, last);
		in->rex = ~p[1] >> 5 & 4;
	} else {
		in->vexlen = 3;
		last = in->vex[1] = p[2];
		map = p[1] & 31;
		take_vvvv_pp(d, in, last);
		in->rex = (~p[1] >> 5 & 7) | (last >> 4 & 8);
		if (d->mode != X86_MODE_64)
			in->rex &= 8;
	}
	d->w = in->rex & 8;
	d->ll = last >> 2 & 1;
	d->at += in->vexlen;
	in->map = map;
	in->op = d->p[d->at++];
	if (map < X86_MAP_0F || map > X86_MAP_0F3A)
		return 0;
	return OP_AT_VEX + (map - 1) * OP_VEX_MAP +
	       (in->op << 3 | (last & 3) << 1 | d->w);
}

static unsigned evex_place(struct decoder *d, struct insn *in)
{
	const uint8_t *p = d->p + d->at;
	unsigned map = p[1] & 7;

	in->enc = X86_EVEX;
	in->vexlen = 4;
	for (int i = 0; i < 3; i++)
		in->vex[i] = p[1 + i];
	take_vvvv_pp(d, in, p[2]);
	in->rex = (~p[1] >> 5 & 7) | (p[2] >> 4 & 8);
	d->high_reg = !(p[1] & 0x10);
	d->high_vvvv = !(p[3] & 8);
	if (d->mode != X86_MODE_64) {
		in->rex &= 8;
		d->high_reg = false;
		d->ud |= d->high_vvvv;
	}
	d->w = in->rex & 8;
	d->ll = p[3] >> 5 & 3;
	d->aaa = p[3] & 7;
	d->z = p[3] & 0x80;
	d->b = p[3] & 0x10;
	if (p[1] & 8 || !(p[2] & 4))
		d->ud = true;
	d->at += 4;
	in->map = map;
	in->op = d->p[d->at++];
	if (map < X86_MAP_0F || map > X86_MAP_6)
		return 0;
	return OP_AT_EVEX + (map - 1) * OP_VEX_MAP +
	       (in->op << 3 | (p[2] & 3) << 1 | d->w);
}

/*
 * C5, C4 and 62 are LDS, LES and BOUND outside 64-bit mode, if a memory operand
 * follows.
 */
static unsigned find_place(struct decoder *d, struct insn *in)
{
	uint8_t byte = d->p[d->at];

	if (byte == 0xc5 || byte == 0xc4 || byte == 0x62) {
		if (d->mode == X86_MODE_64 || d->p[d->at + 1] >= 0xc0)
			return byte == 0x62 ? evex_place(d, in) : vex_place(d, in);
	}
	return legacy_place(d, in);
}

static void add_row(struct decoder *d, unsigned row)
{
	const struct oprow *r = &op_rows[row];

	d->operands = (d->operands & ((1ull << OPF_GROUP_AT) - 1)) | r->operands;
	d->effects |= r->effects;
}

static void find_row(struct decoder *d, struct insn *in)
{
	unsigned place = find_place(d, in);
	unsigned row = op_index[place], group;

	if (place == 0 && in->enc != X86_LEGACY)
		row = 0;
	in->row = row;
	add_row(d, row);
	/* What the mode does not have is undefined by its opcode alone. */
	if (d->mode == X86_MODE_64 && d->effects & OPE_NO64) {
		d->operands = 0;
		d->ud = true;
	}
	while ((group = field(d->operands, OPF_GROUP_AT, 8)) != 0) {
		uint8_t modrm = d->p[d->at];
		unsigned at = (modrm >> 2 & 14) | (modrm >= 0xc0);

		if (group >= M_63)
			at = d->mode == X86_MODE_64;
		else if (group >= G_END)
			at = modrm & 7;
		in->row = op_index[OP_AT_GROUP + group * 16 + at];
		add_row(d, in->row);
	}
}

/* -- Sizes ------------------------------------------------------------------------- */

static uint8_t operand_size(const struct decoder *d, const struct insn *in)
{
	bool is64 = d->mode == X86_MODE_64;
	bool small = (d->mode == X86_MODE_16) != !!(in->prefix & X86_PFX_66);
	bool w = d->w && is64;

	switch (field(d->operands, OPF_SIZE_AT, 3)) {
	case OS_v: return w ? 8 : small ? 2 : 4;
	case OS_z: return small && !w ? 2 : 4;
	case OS_y: return w ? 8 : 4;
	case OS_d64: return is64 ? (small && !w ? 2 : 8) : small ? 2 : 4;
	case OS_f64: return is64 ? 8 : small ? 2 : 4;
	case OS_m: return is64 ? 8 : 4;
	case OS_w: return 2;
	default: return d->operands & OPF_BYTE ? 1 : w ? 8 : 4;
	}
}

static uint8_t address_size(const struct decoder *d, const struct insn *in)
{
	bool other = in->prefix & X86_PFX_67;

	if (d->mode == X86_MODE_64)
		return other ? 4 : 8;
	return (d->mode == X86_MODE_32) != other ? 4 : 2;
}

static unsigned memory_size(const struct decoder *d, const struct insn *in)
{
	static const uint16_t fixed[MS_FIXED] = {
		[MS_b] = 1,   [MS_w] = 2,   [MS_d] = 4,  [MS_q] = 8,     [MS_dq] = 16,
		[MS_qq] = 32, [MS_oq] = 64, [MS_t] = 10, [MS_512] = 512, [MS_576] = 576,
	};
	unsigned code = field(d->operands, OPF_MEM_AT, 5);
	unsigned broadcast = field(d->operands, OPF_BC_AT, 2);

	if (d->b && broadcast)
		return 1 << broadcast;
	if (code < MS_FIXED)
		return fixed[code];
	switch (code) {
	case MS_v: return in->opsize;
	case MS_p: return in->opsize + 2;
	case MS_s: return d->mode == X86_MODE_64 ? 10 : 6;
	case MS_a: return 2 * in->opsize;
	case MS_2y: return d->w ? 16 : 8;
	case MS_env: return in->opsize == 2 ? 14 : 28;
	case MS_save: return in->opsize == 2 ? 94 : 108;
	case MS_h: return in->vl / 2;
	case MS_f: return in->vl / 4;
	case MS_e: return in->vl / 8;
	case MS_dup: return in->vl == 16 ? 8 : in->vl;
	default: return in->vl;
	}
}

/* -- ModRM, SIB, displacement ------------------------------------------------------ */

/* BX+SI, BX+DI, BP+SI, BP+DI, SI, DI, BP, BX */
static void read_address16(struct decoder *d, struct insn *in)
{
	static const uint8_t base[8] = {X86_RBX, X86_RBX, X86_RBP, X86_RBP,
					X86_RSI, X86_RDI, X86_RBP, X86_RBX};
	static const uint8_t index[8] = {X86_RSI,      X86_RDI,      X86_RSI,
					 X86_RDI,      X86_REG_NONE, X86_REG_NONE,
					 X86_REG_NONE, X86_REG_NONE};
	unsigned rm = in->modrm & 7, len = in->mod;

	in->base = base[rm];
	in->index = index[rm];
	if (in->mod == 0 && rm == 6) {
		in->base = X86_REG_NONE;
		len = 2;
	}
	if (len) {
		in->disp = load_signed(d->p + d->at, len);
		d->at += len;
	}
}

/* Returns whether the displacement is a byte. */
static void read_address(struct decoder *d, struct insn *in)
{
	unsigned rm = in->modrm & 7, len = in->mod == 2 ? 4 : in->mod;
	unsigned ext_b = (in->rex & 1) << 3, ext_x = (in->rex & 2) << 2;

	in->base = rm | ext_b;
	if (rm == 4) {
		uint8_t sib = d->p[d->at++];

		in->base = (sib & 7) | ext_b;
		in->index = (sib >> 3 & 7) | ext_x;
		in->scale = 1 << (sib >> 6);
		if (in->index == X86_RSP && !(d->operands & OPF_VSIB))
			in->index = X86_REG_NONE;
		if ((sib & 7) == 5 && in->mod == 0) {
			in->base = X86_REG_NONE;
			len = 4;
		}
	} else if (rm == 5 && in->mod == 0) {
		in->base = d->mode == X86_MODE_64 ? X86_RIP : X86_REG_NONE;
		len = 4;
	}
	if (len) {
		in->disp = load_signed(d->p + d->at, len);
		d->at += len;
	}
}

/* EVEX counts a byte displacement in units of what is accessed. */
static void scale_disp8(const struct decoder *d, struct insn *in)
{
	unsigned element = field(d->operands, OPF_N_AT, 3);

	in->disp *= element ? 1u << (element - 1) : memory_size(d, in);
}

static void default_segment(const struct decoder *d, struct insn *in)
{
	if (d->mode == X86_MODE_64 || in->seg != X86_SEG_NONE)
		return;
	in->seg = in->base == X86_RSP || in->base == X86_RBP ? X86_SS : X86_DS;
}

static void read_modrm(struct decoder *d, struct insn *in)
{
	in->has_modrm = true;
	in->modrm_at = d->at;
	in->modrm = d->p[d->at++];
	in->mod = in->modrm >> 6;
	in->reg = (in->modrm >> 3 & 7) | (in->rex & 4) << 1;
	in->rm = in->modrm & 7;
	if (field(d->effects, OPE_CARE_AT, 5) == CARE_crdr)
		in->mod = 3;
	if (in->mod == 3) {
		in->rm |= (in->rex & 1) << 3;
		return;
	}
	in->has_mem = true;
	if (in->adsize == 2)
		read_address16(d, in);
	else
		read_address(d, in);
	if (in->enc == X86_EVEX && in->mod == 1)
		scale_disp8(d, in);
	default_segment(d, in);
}

/* -- Immediates -------------------------------------------------------------------- */

static void take_imm(struct decoder *d, struct insn *in, unsigned len, bool sign)
{
	in->imm_len = len;
	in->imm = sign ? (uint64_t)load_signed(d->p + d->at, len)
		       : load(d->p + d->at, len);
	d->at += len;
}

static void take_offset(struct decoder *d, struct insn *in)
{
	in->has_mem = true;
	in->disp = load(d->p + d->at, in->adsize);
	d->at += in->adsize;
	default_segment(d, in);
}

static void take_second_imm(struct decoder *d, struct insn *in, unsigned len)
{
	in->imm2 = load(d->p + d->at, len);
	d->at += len;
}

static void read_imm(struct decoder *d, struct insn *in)
{
	unsigned z = in->opsize == 8 ? 4 : in->opsize;

	in->imm_at = d->at;
	switch (field(d->operands, OPF_IMM_AT, 4)) {
	case IM_0: break;
	case IM_b: take_imm(d, in, 1, false); break;
	case IM_bs:
	case IM_jb: take_imm(d, in, 1, true); break;
	case IM_w: take_imm(d, in, 2, false); break;
	case IM_z:
	case IM_jz: take_imm(d, in, z, true); break;
	case IM_v: take_imm(d, in, in->opsize, false); break;
	case IM_ap:
		take_imm(d, in, z, false);
		take_second_imm(d, in, 2);
		break;
	case IM_wb:
		take_imm(d, in, 2, false);
		take_second_imm(d, in, 1);
		break;
	case IM_bb:
		take_imm(d, in, 1, false);
		take_second_imm(d, in, 1);
		break;
	case IM_o: take_offset(d, in); break;
	}
}

/* -- Notes ------------------------------------------------------------------------- */

/*
 * The row's bits become fields. A write of 1 or 2 bytes keeps the rest: it reads, too.
 */
static void take_notes(const struct decoder *d, struct insn *in)
{
	uint64_t operands = d->operands, effects = d->effects;
	bool narrow = in->opsize <= 2;

	in->kind = field(effects, OPE_KIND_AT, 8);
	in->f_reg = field(operands, OPF_REG_AT, 2);
	in->f_rm = field(operands, OPF_RM_AT, 2);
	in->f_vvvv = field(operands, OPF_VVVV_AT, 2);
	in->reg_w = operands & OPF_REG_W;
	in->reg_r = operands & OPF_REG_R || (in->reg_w && narrow);
	in->rm_w = operands & OPF_RM_W;
	in->rm_r = operands & OPF_RM_R || (in->rm_w && narrow);
	in->vvvv_r = operands & OPF_VVVV_R;
	in->vvvv_w = operands & OPF_VVVV_W;
	in->gpr_r = field(effects, OPE_IR_AT, 8);
	in->gpr_w = field(effects, OPE_IW_AT, 8);
	if (narrow)
		in->gpr_r |= in->gpr_w;
	in->flags_r = field(effects, OPE_FR_AT, 12);
	in->flags_w = field(effects, OPE_FW_AT, 12);
	in->flags_touch = effects & OPE_TOUCH;
	in->simd = operands & OPF_SIMD;
	in->x87 = operands & OPF_X87;
	in->can_trap = effects & OPE_TRAP || in->x87;
	if (in->has_mem) {
		in->mem_size = memory_size(d, in);
		in->mem_r = operands & OPF_MEM_R;
		in->mem_w = operands & OPF_MEM_W;
		in->lockable = effects & OPE_LOCK;
		if (!(in->mem_r | in->mem_w))
			in->mem_size = 0;
		if (d->aaa && in->mem_size && in->kind == X86_NATIVE)
			in->kind = X86_MASKED_MEM;
	}
}

static bool is_undefined(const struct decoder *d, const struct insn *in)
{
	if (d->ud || (d->effects & OPE_ONLY64 && d->mode != X86_MODE_64))
		return true;
	if (d->operands & (in->has_mem ? OPF_REG_ONLY : OPF_MEM_ONLY))
		return true;
	if (in->prefix & X86_PFX_LOCK && !in->lockable)
		return true;
	return in->enc != X86_LEGACY && !rules_vex_ok(d, in);
}

/* XLAT and MASKMOV access memory without ModRM; the manual gives them DS. */
static void implicit_segment(const struct decoder *d, struct insn *in)
{
	if (in->has_mem || field(d->effects, OPE_CARE_AT, 5) == CARE_rep)
		return;
	if (in->kind == X86_XLAT || in->kind == X86_MASKMOV)
		default_segment(d, in);
	else
		in->seg = X86_SEG_NONE;
}

/* 3DNow!: the opcode comes last. */
static void read_3dnow(struct decoder *d, struct insn *in)
{
	d->operands |= OPF_MODRM;
	read_modrm(d, in);
	in->imm_at = d->at;
	in->op = d->p[d->at++];
}

static void decode(struct decoder *d, struct insn *in)
{
	read_prefixes(d, in);
	find_row(d, in);
	in->opsize = operand_size(d, in);
	in->adsize = address_size(d, in);
	rules_vector_length(d, in);
	if (in->map == X86_MAP_0F0F)
		read_3dnow(d, in);
	else if (d->operands & OPF_MODRM)
		read_modrm(d, in);
	read_imm(d, in);
	if (d->operands & OPF_OREG)
		in->oreg = (in->op & 7) | (in->rex & 1) << 3;
	take_notes(d, in);
	rules_vvvv(d, in);
	rules_care(d, in);
	implicit_segment(d, in);
	if (is_undefined(d, in))
		in->kind = X86_UD;
}

typedef volatile uint64_t __attribute__((may_alias, aligned(1))) any_word;

/* Takes the n bytes, 15 at most, that count, each once; zeros follow. */
static void take_bytes(uint64_t taken[LOOKAHEAD / 8], const uint8_t *code, unsigned n)
{
	volatile uint8_t *to = (uint8_t *)taken;
	const volatile uint8_t *from = code;

	for (unsigned i = 0; i < LOOKAHEAD / 8; i++)
		taken[i] = 0;
	if (n == LONGEST) {
		taken[0] = *(const any_word *)from;
		taken[1] = *(const any_word *)(from + 7) >> 8;
		return;
	}
	for (unsigned i = 0; i < n; i++)
		to[i] = from[i];
}

int x86_decode(struct insn *out, const uint8_t *code, unsigned n, enum x86_mode mode)
{
	uint64_t taken[LOOKAHEAD / 8];
	struct decoder d = {.p = (const uint8_t *)taken, .mode = mode};
	unsigned most = n < LONGEST ? n : LONGEST;

	take_bytes(taken, code, most);
	*out = (struct insn){
		.seg = X86_SEG_NONE,
		.seg_override = X86_SEG_NONE,
		.oreg = X86_REG_NONE,
		.base = X86_REG_NONE,
		.index = X86_REG_NONE,
		.scale = 1,
	};
	decode(&d, out);
	out->len = d.at;
	if (d.at > most)
		return n < LONGEST ? -ENODATA : -E2BIG;
	return d.at;
}

const char *x86_insn_name(const struct insn *in)
{
	return op_names[in->row];
}
