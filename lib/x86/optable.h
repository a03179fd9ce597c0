/* SPDX-License-Identifier: MIT */
/*
 * The opcode table as the decoder sees it: rows of facts, and how to find a row.
 *
 *	const struct oprow *row = &op_rows[op_index[OP_AT_0F + (0xaf << 2 | pp)]];
 *
 * Rows are written down in opcodes.def and its sisters. op_index[] maps a place in
 * an opcode map to a row number; 0 is the row of undefined opcodes. Places are
 * counted like this, pp being 0 for no prefix, 1 for 66, 2 for F3, 3 for F2:
 *
 *	legacy maps    opcode << 2 | pp
 *	VEX and EVEX   opcode << 3 | pp << 1 | W
 *	groups         modrm.reg << 1 | (modrm.mod == 3)
 *	rm groups      modrm.rm
 *
 * A row may name a group; the row found there is added (ORed) to it, as the manual
 * gives the operands of 80..83 in the map, and what becomes of them in the table of
 * group 1.
 */
#ifndef X86_OPTABLE_H
#define X86_OPTABLE_H

#include <stdint.h>

/* What one row says; the bits are OPF_ (operands, encoding) and OPE_ (effects). */
struct oprow {
	uint64_t operands;
	uint64_t effects;
};

extern const struct oprow op_rows[];
extern const uint16_t op_index[];
extern const char *const op_names[];

/* -- Places in op_index[] ---------------------------------------------------------- */

enum {
	OP_LEGACY_MAP = 256 << 2,
	OP_VEX_MAP = 256 << 3,
	OP_AT_1B = 0,
	OP_AT_0F = OP_AT_1B + OP_LEGACY_MAP,
	OP_AT_0F38 = OP_AT_0F + OP_LEGACY_MAP,
	OP_AT_0F3A = OP_AT_0F38 + OP_LEGACY_MAP,
	OP_AT_VEX = OP_AT_0F3A + OP_LEGACY_MAP,  /* maps 1 to 3 */
	OP_AT_EVEX = OP_AT_VEX + 3 * OP_VEX_MAP, /* maps 1 to 6; 4 is empty */
	OP_AT_GROUP = OP_AT_EVEX + 6 * OP_VEX_MAP,
};

/* Groups that modrm.reg and mod select, as the manual numbers them, ... */
/* clang-format off */
enum {
	G_none,
	G_1, G_1A, G_2, G_3b, G_3v, G_4, G_5, G_6, G_7, G_7x, G_8, G_9, G_9x66, G_9xF3,
	G_9xF2, G_11b, G_11v, G_12, G_13, G_14, G_12x, G_13x, G_14x, G_15, G_15x66,
	G_15xF3, G_78,
	G_D8, G_D9, G_DA, G_DB, G_DC, G_DD, G_DE, G_DF,
	G_V12, G_V13, G_V14, G_V15, G_V17, G_E12, G_E13W0, G_E13W1, G_E14W0, G_E14W1,
	G_END,
	/* ... then those that modrm.rm selects, ... */
	R_7_0 = G_END, R_7_1, R_7_2, R_7_3, R_7_7,
	R_D9_2, R_D9_4, R_D9_5, R_D9_6, R_D9_7, R_DA_5, R_DB_4, R_DE_3, R_DF_4,
	R_END,
	/* ... and those that the mode selects: 0 outside 64-bit mode, 1 in it. */
	M_63 = R_END,
	OP_GROUPS,
};
/* clang-format on */

enum { OP_INDEX_SIZE = OP_AT_GROUP + OP_GROUPS * 16 };

/* -- The operands word: bits 0 to 19 are laid out as in struct insn ----------------- */

#define OPF_REG_AT   0 /* two bits: enum x86_field of modrm.reg */
#define OPF_REG_R    (1ull << 2)
#define OPF_REG_W    (1ull << 3)
#define OPF_MODRM    (1ull << 4)
#define OPF_MEM_ONLY (1ull << 5)
#define OPF_REG_ONLY (1ull << 6)
#define OPF_OREG     (1ull << 7) /* a register in the opcode's low bits */
#define OPF_RM_AT    8 /* of modrm.rm, or of the register in the opcode's low bits */
#define OPF_RM_R     (1ull << 10)
#define OPF_RM_W     (1ull << 11)
#define OPF_MEM_R    (1ull << 12)
#define OPF_MEM_W    (1ull << 13)
#define OPF_SIMD     (1ull << 14)
#define OPF_X87      (1ull << 15)
#define OPF_VVVV_AT  16
#define OPF_VVVV_R   (1ull << 18)
#define OPF_VVVV_W   (1ull << 19)
#define OPF_NO64     (1ull << 20) /* undefined in 64-bit mode */
#define OPF_ONLY64   (1ull << 21) /* undefined elsewhere */
#define OPF_NO_MOD   (1ull << 22) /* mod is ignored: always registers */
#define OPF_JUDGE    (1ull << 23) /* SIMD, limits, CARE, odd sizes: judge() has to look */
#define OPF_MEM_AT   24           /* five bits: enum op_mem */
#define OPF_SIZE_AT  29           /* three bits: enum op_size, ... */
#define OPF_BYTE     (1ull << 32) /* ... 1 unless the row names another: a fourth */
#define OPF_IMM_AT   33           /* four bits: enum op_imm */
#define OPF_NDS      (1ull << 37) /* VEX.vvvv is an operand; otherwise it must be 1111 */
#define OPF_L128     (1ull << 38) /* the vector lengths that exist; for LIG all three */
#define OPF_L256     (1ull << 39)
#define OPF_L512     (1ull << 40)
#define OPF_LIG      (1ull << 41) /* a scalar: length ignored */
#define OPF_BC_AT    42 /* two bits: broadcast element, 1: 2 bytes, 2: 4, 3: 8; 0: none */
#define OPF_ER       (1ull << 44) /* EVEX.b with registers: embedded rounding */
#define OPF_SAE      (1ull << 45) /* ... suppresses exceptions */
#define OPF_K        (1ull << 46) /* a write mask may be given */
#define OPF_Z        (1ull << 47) /* ... that zeroes */
#define OPF_KREQ     (1ull << 48) /* ... must be given */
#define OPF_N_AT     49 /* three bits: disp8 scale is 1 << (N - 1), not the memory size */
#define OPF_VSIB     (1ull << 52)
#define OPF_KREG     (1ull << 53) /* modrm.reg is a mask register: 0 to 7 only */
#define OPF_KVVVV    (1ull << 54)
#define OPF_B_ANY    (1ull << 55) /* EVEX.b with registers is allowed and means nothing */
#define OPF_NDS_REG  (1ull << 56) /* OPF_NDS holds in the register form only: VMOVSS */
#define OPF_GROUP_AT 57 /* seven bits: the group to look into, 0: this row is all */

/*
 * What a mask means for the row's memory operand; a byte for each row, beside the table: only
 * x86_lanes() asks. 0: the elements are those that may be broadcast, or disp8's unit, or the memory
 * operand is one.
 */
extern const uint8_t op_masking[];

#define OPM_SIZE   7 /* an element is 1 << (OPM_SIZE - 1) bytes, ... */
#define OPM_W      (1 << 3) /* ... with W twice that */
#define OPM_WHOLE  (1 << 4) /* read whole, whatever the mask */
#define OPM_REPEAT (1 << 5) /* the vector is the memory operand again and again */
#define OPM_PACK   (1 << 6) /* as many elements as the mask has bits, from the first on */
#define OPM_STRICT (1 << 7) /* faults as without a mask */

/* The operand size. */
enum op_size {
	OS_none, /* 1 for byte instructions, else 8 with W and 4 without */
	OS_v,    /* 2, 4 or 8 */
	OS_z,    /* 2 or 4 */
	OS_y,    /* 4, or 8 with W in 64-bit mode */
	OS_d64,  /* as v, but 64-bit mode has 8 in the place of 4 */
	OS_f64,  /* as v, but always 8 in 64-bit mode */
	OS_m,    /* 8 in 64-bit mode, else 4 */
	OS_w,    /* 2 */
	OS_BYTE, /* OPF_BYTE: added to one of these */
};

/* The size of the memory operand. */
enum op_mem {
	MS_0,
	MS_b,
	MS_w,
	MS_d,
	MS_q,
	MS_dq,
	MS_qq,
	MS_oq,
	MS_t,
	MS_512,
	MS_576,
	MS_v, /* the operand size */
	MS_p, /* a far pointer: the operand size and two */
	MS_a, /* two of the operand size: BOUND */
	MS_ODD,
	MS_s = MS_ODD, /* a descriptor table: 6, in 64-bit mode 10 */
	MS_2y,         /* 8, or 16 with W: CMPXCHG8B */
	MS_env,        /* FSTENV: 14 or 28 */
	MS_save,       /* FSAVE: 94 or 108 */
	MS_x,          /* the vector; ... */
	MS_h,
	MS_f,
	MS_e,   /* ... its half, quarter, eighth */
	MS_dup, /* MOVDDUP: half of 16, else the vector */
	MS_END,
};

/* Immediates. */
enum op_imm {
	IM_0,
	IM_bs, /* a byte, sign-extended */
	IM_jb, /* a relative branch */
	IM_z,  /* 2 or 4 bytes (1 if the operand size is 1), sign-extended */
	IM_jz,
	IM_UNSIGNED,
	IM_b = IM_UNSIGNED, /* a byte, zero-extended */
	IM_w,               /* two bytes */
	IM_v,               /* as many bytes as the operand size */
	IM_TWO,
	IM_ap = IM_TWO, /* a far pointer: z and two bytes */
	IM_wb,          /* ENTER */
	IM_bb,          /* EXTRQ, INSERTQ */
	IM_o,  /* a memory offset of the address size: no immediate to the caller */
	IM_op, /* 3DNow!: the opcode comes last */
	IM_END,
};

/* -- The effects word: laid out as in struct insn ----------------------------------- */

#define OPE_KIND_AT 0           /* eight bits: enum x86_kind */
#define OPE_TOUCH   (1ull << 8) /* changes flags at all */
#define OPE_LOCK    (1ull << 9)
#define OPE_TRAP    (1ull << 10)
#define OPE_CARE_AT 11 /* five bits: enum op_care */
#define OPE_IR_AT   16 /* implicit registers read, a bit each, RAX to R11 */
#define OPE_IW_AT   28 /* ... written */
#define OPE_FR_AT   40 /* twelve bits as in RFLAGS: flags read */
#define OPE_FW_AT   52 /* ... certainly written */

/*
 * Rows whose last facts depend on more than the place: the decoder has a case for each.
 */
enum op_care {
	CARE_none,
	CARE_shift_1,  /* shift by one */
	CARE_shift_i,  /* by an immediate, which may be 0 */
	CARE_shift_cl, /* by CL, which may be 0 */
	CARE_shd_i,    /* SHLD, SHRD */
	CARE_rep,      /* F2 and F3 repeat: RCX counts, and no iteration may happen */
	CARE_prefetch, /* the register form: undefined (AMD) or nothing (Intel) */
	CARE_nop,      /* 90: XCHG with REX.B */
	CARE_bt,       /* the memory form reaches outside its operand */
	CARE_crdr,     /* not all of the registers exist */
	CARE_seg,      /* modrm.reg is a segment register, ES to GS */
	CARE_seg_load, /* ... and not CS */
	CARE_gather,   /* index, mask and destination must differ */
	CARE_scatter,
	CARE_distinct, /* complex FP16 arithmetic: destination differs from sources */
	CARE_syscall,  /* R11 too */
	CARE_sysret,
};

#endif
