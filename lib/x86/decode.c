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
 * encoding, rules.c what may not be encoded. When the row is known, its bits are the
 * notes of struct insn, and judge() has the last word where something is not as simple as
 * in most instructions: a row says that with OPF_JUDGE, prefixes and modes in their way.
 *
 * The bytes are copied first, for two reasons. The code can be a guest's memory, which
 * another processor changes at this moment: were a byte looked at twice, the group's row
 * could be found by one ModRM byte and the instruction emitted with another, and a guest
 * would have its way with the host. And with zeros behind the copy nothing has to be
 * checked for the end: a length that turns out to be more than was given means that the
 * instruction goes on (the first byte that was missing belongs to it). An instruction
 * has 15 bytes at most, so the copy is a number of 16; what goes on behind them is too
 * long, whatever it is.
 *
 * A translator decodes each instruction once, with cold caches and a branch predictor that
 * knows nothing: a choice is a table where it can be, and what is RARE lies elsewhere.
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

/* -- Prefixes ---------------------------------------------------------------------- */

/* What a first byte can be but an opcode: a prefix, by its X86_PFX bit if it has one, ... */
enum {
	FIRST_seg = 0x20,
	FIRST_rex = 0x40, /* in 64-bit mode */
	FIRST_vex = 0x80, /* ... or the beginning of VEX or EVEX */
};

static const uint8_t first_byte[256] = {
	[0x26] = FIRST_seg,  [0x2e] = FIRST_seg,  [0x36] = FIRST_seg,
	[0x3e] = FIRST_seg,  [0x64] = FIRST_seg,  [0x65] = FIRST_seg,
	[0x66] = X86_PFX_66, [0x67] = X86_PFX_67, [0xf0] = X86_PFX_LOCK,
	[0xf2] = X86_PFX_F2, [0xf3] = X86_PFX_F3, [0x40 ... 0x4f] = FIRST_rex,
	[0x62] = FIRST_vex,  [0xc4] = FIRST_vex,  [0xc5] = FIRST_vex,
};

static enum x86_seg seg_of_prefix(uint8_t byte)
{
	return byte >= 0x64 ? X86_FS + (byte & 1) : (byte >> 3 & 3);
}

static void take_segment(struct decoder *d, struct insn *in, uint8_t byte)
{
	in->seg_override = seg_of_prefix(byte);
	/* In 64-bit mode the four old ones are not there at all. */
	if (d->mode != X86_MODE_64 || in->seg_override >= X86_FS)
		in->seg = in->seg_override;
}

/*
 * REX counts only directly before the opcode; of F2 and F3 the last one counts. Returns
 * the bytes behind the prefixes.
 */
RARE static uint32_t read_prefixes(struct decoder *d, struct insn *in)
{
	for (d->at = 0; d->at < LONGEST; d->at++) {
		uint8_t byte = next_byte(d), is = first_byte[byte];

		if (!is || is == FIRST_vex ||
		    (is == FIRST_rex && d->mode != X86_MODE_64))
			break;
		in->rex = is == FIRST_rex ? byte : 0;
		if (is == FIRST_seg)
			take_segment(d, in, byte);
		else if (is != FIRST_rex)
			in->prefix |= is;
		if (is == X86_PFX_F2)
			in->prefix &= ~X86_PFX_F3;
		if (is == X86_PFX_F3)
			in->prefix &= ~X86_PFX_F2;
	}
	return next_bytes(d);
}

/* -- Modes ------------------------------------------------------------------------- */

/* What a mode, 66 and 67 decide; a line of the cache. */
struct state {
	uint32_t operands; /* of any row: OPF_JUDGE but in plain 64-bit mode */
	uint8_t rex;       /* the high half of REX, or what is none */
	uint8_t adsize;
	uint8_t opsize[2 * 2 * OS_BYTE]; /* by enum op_size; W is the highest bit */
} __attribute__((aligned(64)));

enum { NO_REX = 1, JUDGE = OPF_JUDGE };

/* OS_none is as OS_y; then all again with OPF_BYTE, where it is 1. */
/* clang-format off */
#define SIZES(y, v, z, d64, f64, m) y, v, z, y, d64, f64, m, 2, 1, v, z, y, d64, f64, m, 2
#define ALL_2 {SIZES(4, 2, 2, 2, 2, 4), /* W */ SIZES(4, 2, 2, 2, 2, 4)}
#define ALL_4 {SIZES(4, 4, 4, 4, 4, 4), /* W */ SIZES(4, 4, 4, 4, 4, 4)}
#define LONG  {SIZES(4, 4, 4, 8, 8, 8), /* W */ SIZES(8, 8, 4, 8, 8, 8)}
#define SHORT {SIZES(4, 2, 2, 2, 8, 8), /* W */ SIZES(8, 8, 4, 8, 8, 8)}

static const struct state states[3][4] = { /* by mode; with nothing, 66, 67, both */
	[X86_MODE_16] = {
		{JUDGE, NO_REX, 2, ALL_2}, {JUDGE, NO_REX, 2, ALL_4},
		{JUDGE, NO_REX, 4, ALL_2}, {JUDGE, NO_REX, 4, ALL_4},
	},
	[X86_MODE_32] = {
		{JUDGE, NO_REX, 4, ALL_4}, {JUDGE, NO_REX, 4, ALL_2},
		{JUDGE, NO_REX, 2, ALL_4}, {JUDGE, NO_REX, 2, ALL_2},
	},
	[X86_MODE_64] = {
		{0,     0x40, 8, LONG}, {JUDGE, 0x40, 8, SHORT},
		{JUDGE, 0x40, 4, LONG}, {JUDGE, 0x40, 4, SHORT},
	},
};
/* clang-format on */

/* -- Opcode ------------------------------------------------------------------------ */

/* The mandatory prefix as the table counts it: none, 66, F3, F2. */
static unsigned mandatory_prefix(const struct insn *in)
{
	if (in->prefix & X86_PFX_F2)
		return 3;
	if (in->prefix & X86_PFX_F3)
		return 2;
	return in->prefix & X86_PFX_66;
}

RARE static unsigned three_byte_place(struct decoder *d, struct insn *in)
{
	unsigned at = in->op == 0x38 ? OP_AT_0F38 : OP_AT_0F3A;

	in->map = in->op == 0x38 ? X86_MAP_0F38 : X86_MAP_0F3A;
	in->op = take_byte(d);
	return at + (in->op << 2);
}

/* 3DNow! has no rows, but an end. */
RARE static unsigned amd_place(struct decoder *d, struct insn *in)
{
	in->map = X86_MAP_0F0F;
	d->operands |= OPF_MODRM | (uint64_t)IM_op << OPF_IMM_AT;
	return OP_AT_0F + (0x0f << 2);
}

/* The opcode is in these bytes, or 0F and the opcode. */
static unsigned legacy_place(struct decoder *d, struct insn *in, uint32_t bytes)
{
	in->op = bytes;
	d->at++;
	if (in->op != 0x0f)
		return OP_AT_1B + (in->op << 2);
	in->map = X86_MAP_0F;
	in->op = bytes >> 8;
	d->at++;
	if (in->op == 0x38 || in->op == 0x3a)
		return three_byte_place(d, in);
	if (in->op == 0x0f)
		return amd_place(d, in);
	return OP_AT_0F + (in->op << 2);
}

/* REX.W, VEX.W */
static unsigned has_w(const struct insn *in)
{
	return in->rex >> 3 & 1;
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

static unsigned vex_place(struct decoder *d, struct insn *in, uint32_t bytes)
{
	uint8_t p[3] = {bytes, bytes >> 8, bytes >> 16}, last;
	unsigned map = X86_MAP_0F;

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
	d->ll = last >> 2 & 1;
	d->aaa = 0;
	d->z = d->b = d->high_reg = d->high_vvvv = false;
	d->at += in->vexlen;
	in->map = map;
	in->op = take_byte(d);
	if (map < X86_MAP_0F || map > X86_MAP_0F3A)
		return OP_AT_GROUP; /* no row */
	return OP_AT_VEX + (map - 1) * OP_VEX_MAP +
	       (in->op << 3 | (last & 3) << 1 | has_w(in));
}

static unsigned evex_place(struct decoder *d, struct insn *in, uint32_t bytes)
{
	uint8_t p[4] = {bytes, bytes >> 8, bytes >> 16, bytes >> 24};
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
	d->ll = p[3] >> 5 & 3;
	d->aaa = p[3] & 7;
	d->z = p[3] & 0x80;
	d->b = p[3] & 0x10;
	if (p[1] & 8 || !(p[2] & 4))
		d->ud = true;
	d->at += 4;
	in->map = map;
	in->op = take_byte(d);
	if (map < X86_MAP_0F || map > X86_MAP_6)
		return OP_AT_GROUP; /* no row */
	return OP_AT_EVEX + (map - 1) * OP_VEX_MAP +
	       (in->op << 3 | (p[2] & 3) << 1 | has_w(in));
}

/*
 * C5, C4 and 62 are LDS, LES and BOUND outside 64-bit mode, if a memory operand
 * follows. Returns 0 if they are that, or others.
 */
RARE static unsigned any_vex_place(struct decoder *d, struct insn *in, uint32_t bytes)
{
	if (first_byte[bytes & 0xff] != FIRST_vex ||
	    (d->mode != X86_MODE_64 && (bytes >> 8 & 0xff) < 0xc0))
		return 0;
	return (bytes & 0xff) == 0x62 ? evex_place(d, in, bytes)
				      : vex_place(d, in, bytes);
}

/*
 * Nine instructions of ten have no prefix but REX; whether they have that one is hard to
 * predict, and not asked with a branch.
 */
static unsigned find_place(struct decoder *d, struct insn *in)
{
	uint32_t bytes = d->bytes;
	unsigned pp = 0, place;
	bool is_rex = (bytes & 0xf0) == d->state->rex;

	d->at = is_rex;
	in->rex = bytes & -(unsigned)is_rex;
	bytes >>= 8 * is_rex;
	if (first_byte[bytes & 0xff]) {
		bytes = read_prefixes(d, in);
		place = any_vex_place(d, in, bytes);
		d->state += in->prefix & (X86_PFX_66 | X86_PFX_67);
		d->operands = OPF_JUDGE;
		if (place)
			return place;
		pp = mandatory_prefix(in);
	}
	return legacy_place(d, in, bytes) | pp;
}

static unsigned group_of(const struct decoder *d)
{
	return field(d->operands, OPF_GROUP_AT, 7);
}

/* A group's row may have a group. */
static void add_groups(struct decoder *d, struct insn *in)
{
	uint8_t modrm = next_byte(d);
	unsigned group;

	while ((group = group_of(d)) != 0) {
		unsigned at = (modrm >> 2 & 14) | (modrm >= 0xc0);
		const struct oprow *r;

		if (group >= M_63)
			at = d->mode == X86_MODE_64;
		else if (group >= G_END)
			at = modrm & 7;
		r = &op_rows[in->row = op_index[OP_AT_GROUP + group * 16 + at]];
		d->operands &= (1ull << OPF_GROUP_AT) - 1;
		d->operands |= r->operands;
		d->effects |= r->effects;
	}
}

/* What the mode does not have is undefined by its opcode alone. */
RARE static void check_mode(struct decoder *d)
{
	if (d->mode == X86_MODE_64) {
		d->operands = OPF_JUDGE;
		d->ud = true;
	}
}

static void find_row(struct decoder *d, struct insn *in, unsigned place)
{
	const struct oprow *r = &op_rows[in->row = op_index[place]];

	d->operands |= r->operands;
	d->effects = r->effects;
	if (d->operands & OPF_NO64)
		check_mode(d);
	if (group_of(d))
		add_groups(d, in);
}

/* -- Sizes ------------------------------------------------------------------------- */

static void take_sizes(const struct decoder *d, struct insn *in)
{
	unsigned size = field(d->operands, OPF_SIZE_AT, 4);

	in->adsize = d->state->adsize;
	in->opsize = d->state->opsize[(in->rex & 8) << 1 | size];
}

/* Bytes, and times the operand size; 0 for MS_ODD and behind. */
static unsigned plain_memory_size(const struct decoder *d, const struct insn *in)
{
	static const uint16_t sizes[32][2] = {
		[MS_b] = {1},     [MS_w] = {2},     [MS_d] = {4},    [MS_q] = {8},
		[MS_dq] = {16},   [MS_qq] = {32},   [MS_oq] = {64},  [MS_t] = {10},
		[MS_512] = {512}, [MS_576] = {576}, [MS_v] = {0, 1}, [MS_p] = {2, 1},
		[MS_a] = {0, 2},
	};
	unsigned code = field(d->operands, OPF_MEM_AT, 5);

	return sizes[code][0] + sizes[code][1] * in->opsize;
}

static unsigned memory_size(const struct decoder *d, const struct insn *in)
{
	unsigned broadcast = field(d->operands, OPF_BC_AT, 2);

	if (in->enc == X86_EVEX && d->b && broadcast)
		return 1 << broadcast;
	switch (field(d->operands, OPF_MEM_AT, 5)) {
	case MS_s: return d->mode == X86_MODE_64 ? 10 : 6;
	case MS_2y: return has_w(in) ? 16 : 8;
	case MS_env: return in->opsize == 2 ? 14 : 28;
	case MS_save: return in->opsize == 2 ? 94 : 108;
	case MS_x:
	case MS_h:
	case MS_f:
	case MS_e:
	case MS_dup: return vector_memory(field(d->operands, OPF_MEM_AT, 5), in->vl);
	default: return plain_memory_size(d, in);
	}
}

/* The first len of the bytes as a number. */
static uint64_t number(uint64_t bytes, unsigned len, bool is_signed)
{
	static const uint64_t low[9] = {
		[1] = 0xff, [2] = 0xffff, [4] = 0xffffffff, [8] = ~0ull};
	uint64_t sign = is_signed ? low[len] ^ low[len] >> 1 : 0;

	return ((bytes & low[len]) ^ sign) - sign;
}

/* -- ModRM, SIB, displacement ------------------------------------------------------ */

/* BX+SI, BX+DI, BP+SI, BP+DI, SI, DI, BP, BX. Returns the displacement's length. */
RARE static unsigned read_address16(struct insn *in)
{
	static const uint8_t base[8] = {X86_RBX, X86_RBX, X86_RBP, X86_RBP,
					X86_RSI, X86_RDI, X86_RBP, X86_RBX};
	static const uint8_t index[8] = {X86_RSI,      X86_RDI,      X86_RSI,
					 X86_RDI,      X86_REG_NONE, X86_REG_NONE,
					 X86_REG_NONE, X86_REG_NONE};

	in->base = base[in->rm];
	in->index = index[in->rm];
	if (in->mod == 0 && in->rm == 6) {
		in->base = X86_REG_NONE;
		return 2;
	}
	return in->mod;
}

/* Returns the displacement's length. */
static unsigned read_address(struct decoder *d, struct insn *in)
{
	unsigned ext_b = (in->rex & 1) << 3, ext_x = (in->rex & 2) << 2, low = in->rm;

	if (low == 4) {
		uint8_t sib = take_byte(d);
		unsigned index = (sib >> 3 & 7) | ext_x;

		low = sib & 7;
		if (index != X86_RSP || d->operands & OPF_VSIB)
			in->index = index;
		in->scale = 1 << (sib >> 6);
	}
	in->base = low | ext_b;
	if (low != 5 || in->mod)
		return in->mod == 2 ? 4 : in->mod;
	in->base = in->rm == 5 && d->mode == X86_MODE_64 ? X86_RIP : X86_REG_NONE;
	return 4;
}

static void read_memory(struct decoder *d, struct insn *in)
{
	unsigned len;

	in->has_mem = true;
	len = in->adsize == 2 ? read_address16(in) : read_address(d, in);
	in->disp = number(next_bytes(d), len, true);
	d->at += len;
}

static void read_modrm(struct decoder *d, struct insn *in)
{
	uint8_t modrm = next_byte(d);

	in->modrm_at = d->at++;
	in->modrm = modrm;
	in->mod = d->operands & OPF_NO_MOD ? 3 : modrm >> 6;
	in->reg = (modrm >> 3 & 7) | (in->rex & 4) << 1;
	in->rm = modrm & 7;
	if (in->mod == 3)
		in->rm |= (in->rex & 1) << 3;
	else
		read_memory(d, in);
}

/* -- Immediates -------------------------------------------------------------------- */

/* Of the first immediate, with an operand size of 1, 2, 4 and 8. */
#define LENGTHS(b, w, d, q)                        \
	{                                          \
		[1] = b, [2] = w, [4] = d, [8] = q \
	}

static const uint8_t imm_length[IM_END][9] = {
	[IM_bs] = LENGTHS(1, 1, 1, 1), [IM_jb] = LENGTHS(1, 1, 1, 1),
	[IM_z] = LENGTHS(1, 2, 4, 4),  [IM_jz] = LENGTHS(1, 2, 4, 4),
	[IM_b] = LENGTHS(1, 1, 1, 1),  [IM_w] = LENGTHS(2, 2, 2, 2),
	[IM_v] = LENGTHS(1, 2, 4, 8),  [IM_ap] = LENGTHS(1, 2, 4, 4),
	[IM_wb] = LENGTHS(2, 2, 2, 2), [IM_bb] = LENGTHS(1, 1, 1, 1),
};

/* A second immediate, and what is none. */
RARE static void read_odd_imm(struct decoder *d, struct insn *in, enum op_imm kind)
{
	unsigned len = kind == IM_o ? in->adsize : kind == IM_ap ? 2 : 1;
	uint64_t value = number(next_bytes(d), len, false);

	d->at += len;
	if (kind == IM_o) {
		in->has_mem = true;
		in->disp = value;
	} else if (kind == IM_op) {
		in->op = value;
		in->imm_at = d->at;
	} else {
		in->imm2 = value;
	}
}

static void read_imm(struct decoder *d, struct insn *in)
{
	enum op_imm kind = field(d->operands, OPF_IMM_AT, 4);

	in->imm_at = d->at;
	if (kind == IM_0)
		return;
	in->imm_len = imm_length[kind][in->opsize];
	in->imm = number(next_bytes(d), in->imm_len, kind < IM_UNSIGNED);
	d->at += in->imm_len;
	if (kind >= IM_TWO)
		read_odd_imm(d, in, kind);
}

/* -- Notes ------------------------------------------------------------------------- */

#define IMPLICIT_R (0xfffull << OPE_IR_AT)

/*
 * The row's bits are the notes. A write of 1 or 2 bytes keeps the rest: it reads, too.
 */
static void take_notes(const struct decoder *d, struct insn *in)
{
	uint64_t operands = d->operands, effects = d->effects;

	if (in->opsize <= 2) {
		operands |= operands >> 1 & (OPF_REG_R | OPF_RM_R);
		effects |= effects >> (OPE_IW_AT - OPE_IR_AT) & IMPLICIT_R;
	}
	if (!in->has_mem) {
		operands &= ~(OPF_MEM_R | OPF_MEM_W);
		effects &= ~OPE_LOCK;
	} else if (operands & (OPF_MEM_R | OPF_MEM_W)) {
		in->mem_size = plain_memory_size(d, in);
	}
	in->operands = operands;
	in->effects = effects;
}

static bool is_undefined(const struct decoder *d, const struct insn *in)
{
	if (d->ud || (d->operands & OPF_ONLY64 && d->mode != X86_MODE_64))
		return true;
	if (d->operands & (in->has_mem ? OPF_REG_ONLY : OPF_MEM_ONLY))
		return true;
	if (in->prefix & X86_PFX_LOCK && !in->lockable)
		return true;
	return in->enc != X86_LEGACY && !rules_vex_ok(d, in);
}

/*
 * A memory operand without an override has the segment that its base says; XLAT and
 * MASKMOV access memory without ModRM, and the manual gives them DS.
 */
static void settle_segment(const struct decoder *d, struct insn *in)
{
	bool has_mem = in->has_mem || in->kind == X86_XLAT || in->kind == X86_MASKMOV;

	if (care_of(d) == CARE_rep)
		return;
	if (!has_mem)
		in->seg = X86_SEG_NONE;
	else if (d->mode != X86_MODE_64 && in->seg == X86_SEG_NONE)
		in->seg = in->base == X86_RSP || in->base == X86_RBP ? X86_SS : X86_DS;
}

/* EVEX counts a byte displacement in units of what is accessed. */
static void scale_disp8(const struct decoder *d, struct insn *in)
{
	unsigned element = field(d->operands, OPF_N_AT, 3);

	in->disp *= element ? 1u << (element - 1) : memory_size(d, in);
}

static void judge_vex(struct decoder *d, struct insn *in)
{
	if (in->enc == X86_EVEX && in->mod == 1)
		scale_disp8(d, in);
	if (d->aaa && in->mem_size && in->kind == X86_NATIVE)
		in->kind = X86_MASKED_MEM;
	rules_vvvv(d, in);
}

/* What is not as simple as in most instructions, and so was left. */
RARE static void judge(struct decoder *d, struct insn *in)
{
	if (in->simd)
		rules_vector_length(d, in);
	if (in->mem_r || in->mem_w)
		in->mem_size = memory_size(d, in);
	if (in->enc != X86_LEGACY)
		judge_vex(d, in);
	rules_care(d, in);
	settle_segment(d, in);
	if (is_undefined(d, in))
		in->kind = X86_UD;
}

static void decode(struct decoder *d, struct insn *in)
{
	find_row(d, in, find_place(d, in));
	take_sizes(d, in);
	if (d->operands & OPF_MODRM)
		read_modrm(d, in);
	read_imm(d, in);
	if (d->operands & OPF_OREG)
		in->oreg = (in->op & 7) | (in->rex & 1) << 3;
	take_notes(d, in);
	if (d->operands & OPF_JUDGE)
		judge(d, in);
}

typedef const volatile uint64_t __attribute__((may_alias, aligned(1))) any_word;

RARE static unsigned __int128 take_few(const volatile uint8_t *code, unsigned n)
{
	unsigned __int128 bytes = 0;

	for (unsigned i = 0; i < n; i++)
		bytes |= (unsigned __int128)code[i] << 8 * i;
	return bytes;
}

/* Takes the n bytes, 15 at most, that count, each once; zeros follow. */
static unsigned __int128 take_bytes(const uint8_t *code, unsigned n)
{
	uint64_t low, high;

	if (n < LONGEST)
		return take_few(code, n);
	low = *(any_word *)code;
	high = *(any_word *)(code + 7) >> 8;
	return (unsigned __int128)high << 64 | low;
}

/*
 * Field by field, which compilers join to words; where much is cleared at once, gcc has
 * REP STOS.
 */
static void start(struct decoder *d, struct insn *in)
{
	d->operands = d->state->operands;
	d->ud = false;
	in->map = in->enc = in->prefix = 0;
	in->seg = in->seg_override = X86_SEG_NONE;
	in->oreg = in->base = in->index = X86_REG_NONE;
	in->scale = 1;
	in->has_mem = false;
	in->modrm_at = in->modrm = in->mod = in->reg = in->rm = 0;
	in->imm_len = in->imm_at = 0;
	in->imm2 = 0;
	in->imm = 0;
	in->disp = 0;
	in->vex[0] = in->vex[1] = in->vex[2] = in->vexlen = in->vvvv = in->vl = 0;
	in->mem_size = 0;
}

int x86_decode(struct insn *out, const uint8_t *code, unsigned n, enum x86_mode mode)
{
	struct decoder d;

	d.bytes = take_bytes(code, n);
	d.mode = mode;
	d.state = states[mode];
	start(&d, out);
	decode(&d, out);
	out->len = d.at;
	if (d.at <= n && d.at <= LONGEST)
		return d.at;
	return n < LONGEST ? -ENODATA : -E2BIG;
}

const char *x86_insn_name(const struct insn *in)
{
	return op_names[in->row];
}
