/* SPDX-License-Identifier: MIT */
/*
 * The opcode table, made from opcodes.def at compile time.
 *
 * opcodes.def is a list of rows, one for each cell of the opcode maps in appendix A
 * of the Intel SDM volume 2 (and of the group tables behind them), written in that
 * appendix's letters. It is included four times here: each row becomes two words of
 * facts, an entry of the index, a byte about memory under a mask, and a name. The number
 * of a row is the number of its line in the list, which the compiler counts for us with
 * __COUNTER__: the inclusions count alike.
 *
 * How a row reads:
 *
 *	OP(0F, any, AF, imul, G(v,rw) | E(v,r), FW(CO))
 *
 * "two-byte opcode 0F AF with any prefix is IMUL; modrm.reg names a general register
 * of the operand size that is read and written, modrm.rm such a register or memory
 * that is read; CF and OF certainly get new values and the other flags may". The
 * place comes first:
 *
 *	OP(map, prefix, opcode, ...)       legacy; prefix is NP, 66, F3, F2, N6 (NP or 66), any
 *	OPS(map, first, last, ...)         a range of opcodes with any prefix
 *	VX(map, prefix, W, opcode, ...)    VEX; W is W0, W1 or WIG
 *	EV(map, prefix, W, opcode, ...)    EVEX
 *	GR(group, reg, ...)                a row of a group; GM: of its memory form only, GU: of
 *	                                   its register form only
 *	RR(rmgroup, rm, ...)               a row of a group of register forms told apart by rm
 *	MD(modegroup, is64, ...)           a row that depends on the mode
 *
 * Then the name, the operands in any order, for VX and EV the vector rules, and the
 * effects. The letters are the manual's where it has one:
 *
 *	E G    modrm.rm (register or memory), modrm.reg: general registers
 *	R M    modrm.rm, a general register only; memory only, of any kind of data
 *	RM     as E, but the memory has a size of its own, and the register is a whole one
 *	B Z    VEX.vvvv; the low bits of the opcode: general registers
 *	V W U  modrm.reg; modrm.rm, register or memory; modrm.rm, register: vectors
 *	H      VEX.vvvv: a vector
 *	P Q N  the same as V W U for MMX
 *	Kg Kh Ke Km  mask registers in modrm.reg, vvvv, modrm.rm; Km: or memory
 *	Ib Ibs Iw Iz Iv Jb Jz Ap  immediates
 *
 * with sizes b w d q (1 2 4 8 bytes), dq qq oq (16 32 64), t (10), v z y (operand
 * size: 2 4 8, 2 4, 4 8), x h f e (the vector, its half, quarter, eighth), and
 * accesses r, w, rw.
 *
 * The vector rules are the lengths L; K, KZ: may be masked, and zeroed; B2 B4 B8: an element
 * of so many bytes may be broadcast; N: the unit of disp8 where it is not the memory operand;
 * and where a mask is for other elements than those of B or N:
 *
 *	E1 E2 E4 E8    elements of so many bytes; E1W, E4W: with W twice as many
 *	NF             no fault is suppressed: the operand is read whole (the manual's
 *	               exception types E4NF and others)
 *	RPT PACK EXT   broadcasts; compress and expand; extractions
 */
#include "x86/optable.h"

#include "x86/decode.h"

/* -- Operands ---------------------------------------------------------------------- */

#define FIELD(at, what) ((uint64_t)(what) << (at))

/* An operand's size letter says the size of memory, and may set the operand size. */
#define SIZE_b   FIELD(OPF_MEM_AT, MS_b) | OPF_BYTE
#define SIZE_w   FIELD(OPF_MEM_AT, MS_w)
#define SIZE_d   FIELD(OPF_MEM_AT, MS_d)
#define SIZE_q   FIELD(OPF_MEM_AT, MS_q)
#define SIZE_v   FIELD(OPF_MEM_AT, MS_v) | OS(v)
#define SIZE_y   FIELD(OPF_MEM_AT, MS_v) | OS(y)
#define SIZE_d64 FIELD(OPF_MEM_AT, MS_v) | OS(d64)
#define SIZE_f64 FIELD(OPF_MEM_AT, MS_v) | OS(f64)

/* Only the operand size, for registers. */
#define RSIZE_b   OPF_BYTE
#define RSIZE_w   0
#define RSIZE_d   0
#define RSIZE_q   0
#define RSIZE_v   OS(v)
#define RSIZE_y   OS(y)
#define RSIZE_m   OS(m)
#define RSIZE_d64 OS(d64)

#define OS(size)  FIELD(OPF_SIZE_AT, OS_##size)
#define MEM(size) FIELD(OPF_MEM_AT, MS_##size)

/* A byte operand names a byte register. */
#define GPR_b   X86_F_GPR8
#define GPR_w   X86_F_GPR
#define GPR_d   X86_F_GPR
#define GPR_q   X86_F_GPR
#define GPR_v   X86_F_GPR
#define GPR_y   X86_F_GPR
#define GPR_m   X86_F_GPR
#define GPR_d64 X86_F_GPR
#define GPR_f64 X86_F_GPR

#define REG_n   0
#define REG_r   OPF_REG_R
#define REG_w   OPF_REG_W
#define REG_rw  OPF_REG_R | OPF_REG_W
#define RM_n    0
#define RM_r    OPF_RM_R
#define RM_w    OPF_RM_W
#define RM_rw   OPF_RM_R | OPF_RM_W
#define VVVV_r  OPF_VVVV_R
#define VVVV_w  OPF_VVVV_W
#define VVVV_rw OPF_VVVV_R | OPF_VVVV_W
#define MEM_n   0
#define MEM_r   OPF_MEM_R
#define MEM_w   OPF_MEM_W
#define MEM_rw  OPF_MEM_R | OPF_MEM_W

#define ACC(acc)     (RM_##acc | MEM_##acc)
#define E(size, acc) (OPF_MODRM | FIELD(OPF_RM_AT, GPR_##size) | SIZE_##size | ACC(acc))
#define G(size, acc) \
	(OPF_MODRM | FIELD(OPF_REG_AT, GPR_##size) | RSIZE_##size | REG_##acc)
#define R(size, acc)                                                              \
	(OPF_MODRM | OPF_REG_ONLY | FIELD(OPF_RM_AT, GPR_##size) | RSIZE_##size | \
	 RM_##acc)
#define RM(mem, acc)  (OPF_MODRM | FIELD(OPF_RM_AT, X86_F_GPR) | MEM(mem) | ACC(acc))
#define RvM(mem, acc) (RM(mem, acc) | OS(v))
#define B(size, acc) \
	(OPF_NDS | FIELD(OPF_VVVV_AT, X86_F_GPR) | RSIZE_##size | VVVV_##acc)
#define Z(size, acc)  (OPF_OREG | FIELD(OPF_RM_AT, GPR_##size) | RSIZE_##size | RM_##acc)
#define M(mem, acc)   (OPF_MODRM | OPF_MEM_ONLY | MEM(mem) | MEM_##acc)
#define Ma            (OPF_MODRM | OPF_MEM_ONLY) /* an address that is not accessed */
#define Mo(size, acc) (SIZE_##size | MEM_##acc | IM(o)) /* A0..A3 */
#define S             FIELD(OPF_REG_AT, X86_F_OTHER)
#define C_D           (OPF_MODRM | OPF_NO_MOD | FIELD(OPF_REG_AT, X86_F_OTHER))
#define MODRM         OPF_MODRM

#define V            (OPF_SIMD | OPF_MODRM | FIELD(OPF_REG_AT, X86_F_OTHER))
#define W(mem, acc)  (V_RM | MEM(mem) | MEM_##acc)
#define U            (V_RM | OPF_REG_ONLY)
#define V_RM         (OPF_SIMD | OPF_MODRM | FIELD(OPF_RM_AT, X86_F_OTHER))
#define H            (OPF_SIMD | OPF_NDS | FIELD(OPF_VVVV_AT, X86_F_OTHER))
#define Hr           (H | OPF_NDS_REG) /* in the register form only */
#define P            (V | OPF_X87)
#define Q(mem, acc)  (W(mem, acc) | OPF_X87)
#define N            (U | OPF_X87)
#define Kg           (V | OPF_KREG)
#define Kh           (H | OPF_KVVVV)
#define Ke           U
#define Km(mem, acc) W(mem, acc)

#define IM(kind) FIELD(OPF_IMM_AT, IM_##kind)
#define Ib       IM(b)
#define Ibs      IM(bs)
#define Iw       IM(w)
#define Iz       IM(z)
#define Iv       IM(v)
#define Jb       (IM(jb) | OS(f64))
#define Jz       (IM(jz) | OS(f64))
#define Ap       (IM(ap) | OS(v))
#define I4       IM(b)

#define BYTE       OPF_BYTE
#define SIMD       OPF_SIMD
#define FPU        OPF_X87
#define NO64       OPF_NO64
#define ONLY64     OPF_ONLY64
#define GRP(n)     FIELD(OPF_GROUP_AT, G_##n)
#define BY_RM(n)   FIELD(OPF_GROUP_AT, R_##n)
#define BY_MODE(n) FIELD(OPF_GROUP_AT, M_##n)

/* x87: memory of a size; registers. All may raise #MF. */
#define FM(mem, acc) (OPF_X87 | M(mem, acc))
#define FR_          (OPF_X87 | OPF_MODRM | FIELD(OPF_RM_AT, X86_F_OTHER))

/* Vector rules. */
#define L0   OPF_L128
#define L1   OPF_L256
#define L2   OPF_L512
#define L01  (OPF_L128 | OPF_L256)
#define L12  (OPF_L256 | OPF_L512)
#define L012 (OPF_L128 | OPF_L256 | OPF_L512)
#define LIG  (OPF_LIG | L012)
#define B2   FIELD(OPF_BC_AT, 1)
#define B4   FIELD(OPF_BC_AT, 2)
#define B8   FIELD(OPF_BC_AT, 3)
#define ER   OPF_ER
#define SAE  OPF_SAE
#define BANY OPF_B_ANY
#define K    OPF_K
#define KZ   (OPF_K | OPF_Z)
#define KREQ (OPF_K | OPF_KREQ)
#define N1   FIELD(OPF_N_AT, 1)
#define N2   FIELD(OPF_N_AT, 2)
#define N4   FIELD(OPF_N_AT, 3)
#define N8   FIELD(OPF_N_AT, 4)
#define VSIB OPF_VSIB

/* Above the 64 bits of the operands word: op_masking[]. */
#define MASKING(what) ((unsigned __int128)(what) << 64)
#define E1   MASKING(1)
#define E2   MASKING(2)
#define E4   MASKING(3)
#define E8   MASKING(4)
#define E1W  MASKING(1 | OPM_W)
#define E4W  MASKING(3 | OPM_W)
#define NF   MASKING(OPM_WHOLE)
#define RPT  MASKING(OPM_REPEAT)
#define PACK MASKING(OPM_PACK)
#define EXT  MASKING(OPM_STRICT)

/* -- Effects ----------------------------------------------------------------------- */

#define KIND(kind)     FIELD(OPE_KIND_AT, X86_##kind)
#define CARE(care)     FIELD(OPE_CARE_AT, CARE_##care)
#define IMPL(reg, acc) IMPL_##acc(1 << X86_##reg)
#define IMPL_r(bit)    FIELD(OPE_IR_AT, bit)
#define IMPL_w(bit)    FIELD(OPE_IW_AT, bit)
#define IMPL_rw(bit)   (IMPL_r(bit) | IMPL_w(bit))
#define AX(acc)        IMPL(RAX, acc)
#define CX(acc)        IMPL(RCX, acc)
#define DX(acc)        IMPL(RDX, acc)
#define BX(acc)        IMPL(RBX, acc)
#define SP(acc)        IMPL(RSP, acc)
#define BP(acc)        IMPL(RBP, acc)
#define SI(acc)        IMPL(RSI, acc)
#define DI(acc)        IMPL(RDI, acc)

#define F_C       X86_CF
#define F_P       X86_PF
#define F_Z       X86_ZF
#define F_S       X86_SF
#define F_O       X86_OF
#define F_CZ      (X86_CF | X86_ZF)
#define F_CO      (X86_CF | X86_OF)
#define F_SO      (X86_SF | X86_OF)
#define F_ZSO     (X86_ZF | X86_SF | X86_OF)
#define F_PZS     (X86_PF | X86_ZF | X86_SF)
#define F_CPZ     (X86_CF | X86_PF | X86_ZF)
#define F_CZO     (X86_CF | X86_ZF | X86_OF)
#define F_CZSO    (X86_CF | X86_ZF | X86_SF | X86_OF)
#define F_CPZS    (X86_CF | F_PZS)
#define F_CPZSO   (F_CPZS | X86_OF)
#define F_CPAZS   (F_CPZS | X86_AF)
#define F_PAZSO   (F_PZS | X86_AF | X86_OF)
#define F_CA      (X86_CF | X86_AF)
#define F_ALL     X86_ARITH
#define FR(flags) FIELD(OPE_FR_AT, F_##flags)
#define FW(flags) (FIELD(OPE_FW_AT, F_##flags) | OPE_TOUCH)
#define FT        OPE_TOUCH /* flags may change, none certainly */
#define LOCK      OPE_LOCK
#define TRAP      OPE_TRAP
#define FP        OPE_TRAP /* SSE and AVX floating point: #XM */
#define UD        KIND(UD)

/* -- Places ------------------------------------------------------------------------ */

#define PP_NP(at)  [(at)]
#define PP_66(at)  [(at) + 1]
#define PP_F3(at)  [(at) + 2]
#define PP_F2(at)  [(at) + 3]
#define PP_N6(at)  [(at)...(at) + 1]
#define PP_any(at) [(at)...(at) + 3]

#define W_W0(at)            [(at)]
#define W_W1(at)            [(at) + 1]
#define W_WIG(at)           [(at)...(at) + 1]
#define VPP_NP              0
#define VPP_66              1
#define VPP_F3              2
#define VPP_F2              3
#define VMAP_0F             0
#define VMAP_0F38           1
#define VMAP_0F3A           2
#define VMAP_M5             4
#define VMAP_M6             5
#define VPLACE(map, pp, op) (VMAP_##map * OP_VEX_MAP + ((op) << 3 | VPP_##pp << 1))
#define GPLACE(group, at)   (OP_AT_GROUP + (group)*16 + (at))

/* -- The rows ---------------------------------------------------------------------- */

/* What uses the x87 may raise #MF, whatever else it does. */
/* clang-format off */
#define ROW(operands, effects)                                     \
	{(uint64_t)(operands) | (IS_ODD(operands, effects) ? OPF_JUDGE : 0), \
	 (effects) | ((operands) & OPF_X87 ? OPE_TRAP : 0)},

#define IS_ODD(operands, effects)                                              \
	((operands) & (OPF_MEM_ONLY | OPF_REG_ONLY | OPF_ONLY64 | OPF_SIMD) || \
	 ((operands) >> OPF_MEM_AT & 31) >= MS_ODD || (effects) & CARE_MASK)
#define CARE_MASK FIELD(OPE_CARE_AT, 31)

const struct oprow op_rows[] = {
	ROW(0, KIND(UD))
/* clang-format on */
#define OP(map, pp, op, name, operands, effects)  ROW(operands, effects)
#define OPS(map, lo, hi, name, operands, effects) ROW(operands, effects)
#define VX(map, pp, w, op, name, operands, rules, effects) \
	ROW((operands) | (rules), effects)
#define EV(map, pp, w, op, name, operands, rules, effects) \
	ROW((operands) | (rules), effects)
#define GR(group, reg, name, operands, effects)  ROW(operands, effects)
#define GM(group, reg, name, operands, effects)  ROW(operands, effects)
#define GU(group, reg, name, operands, effects)  ROW(operands, effects)
#define RR(group, rm, name, operands, effects)   ROW(operands, effects)
#define MD(group, is64, name, operands, effects) ROW(operands, effects)
#include "x86/opcodes.def"
#include "x86/opcodes_clear.h"
};

/* -- The index --------------------------------------------------------------------- */

enum { FIRST = __COUNTER__ };
#define NEXT (__COUNTER__ - FIRST)

const uint16_t op_index[OP_INDEX_SIZE] = {
#define OP(map, pp, op, name, operands, effects) \
	PP_##pp(OP_AT_##map + (0x##op << 2)) = NEXT,
#define OPS(map, lo, hi, name, operands, effects) \
	[OP_AT_##map + (0x##lo << 2)... OP_AT_##map + (0x##hi << 2) + 3] = NEXT,
#define VX(map, pp, w, op, name, operands, rules, effects) \
	W_##w(OP_AT_VEX + VPLACE(map, pp, 0x##op)) = NEXT,
#define EV(map, pp, w, op, name, operands, rules, effects) \
	W_##w(OP_AT_EVEX + VPLACE(map, pp, 0x##op)) = NEXT,
#define GR(group, reg, name, operands, effects) \
	[GPLACE(G_##group, reg * 2)... GPLACE(G_##group, reg * 2 + 1)] = NEXT,
#define GM(group, reg, name, operands, effects)  [GPLACE(G_##group, reg * 2)] = NEXT,
#define GU(group, reg, name, operands, effects)  [GPLACE(G_##group, reg * 2 + 1)] = NEXT,
#define RR(group, rm, name, operands, effects)   [GPLACE(R_##group, rm)] = NEXT,
#define MD(group, is64, name, operands, effects) [GPLACE(M_##group, is64)] = NEXT,
#include "x86/opcodes.def"
#include "x86/opcodes_clear.h"
};

/* -- Masks ------------------------------------------------------------------------- */

#define ABOVE(rules) (uint8_t)((unsigned __int128)(rules) >> 64),

const uint8_t op_masking[] = {
	0,
#define OP(map, pp, op, name, operands, effects)           0,
#define OPS(map, lo, hi, name, operands, effects)          0,
#define VX(map, pp, w, op, name, operands, rules, effects) ABOVE(rules)
#define EV(map, pp, w, op, name, operands, rules, effects) ABOVE(rules)
#define GR(group, reg, name, operands, effects)            ABOVE(operands)
#define GM(group, reg, name, operands, effects)            ABOVE(operands)
#define GU(group, reg, name, operands, effects)            ABOVE(operands)
#define RR(group, rm, name, operands, effects)             0,
#define MD(group, is64, name, operands, effects)           0,
#include "x86/opcodes.def"
#include "x86/opcodes_clear.h"
};

/* -- The names --------------------------------------------------------------------- */

const char *const op_names[] = {
	"ud",
#define OP(map, pp, op, name, operands, effects)           #name,
#define OPS(map, lo, hi, name, operands, effects)          #name,
#define VX(map, pp, w, op, name, operands, rules, effects) #name,
#define EV(map, pp, w, op, name, operands, rules, effects) #name,
#define GR(group, reg, name, operands, effects)            #name,
#define GM(group, reg, name, operands, effects)            #name,
#define GU(group, reg, name, operands, effects)            #name,
#define RR(group, rm, name, operands, effects)             #name,
#define MD(group, is64, name, operands, effects)           #name,
#include "x86/opcodes.def"
#include "x86/opcodes_clear.h"
};
