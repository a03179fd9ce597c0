/* SPDX-License-Identifier: MIT */
/*
 * One x86 instruction, taken apart as far as an engine on the same architecture needs it.
 *
 * softkvm re-emits most guest instructions with another memory operand and other register
 * numbers, so the decoder's product is not a mnemonic with operands but the *encoding*, field
 * by field, with notes: which fields name general registers, what memory is touched and how,
 * which arithmetic flags are read and certainly written, and what kind of care it needs.
 *
 *	struct insn in;
 *	int rc = x86_decode(&in, bytes, n, X86_MODE_64);
 *	if (rc < 0) ...                  // -EINVAL: #UD, -E2BIG: over 15 bytes: #GP,
 *	                                 // -ENODATA: goes on after bytes[n - 1]
 *	if (in.kind == X86_NATIVE && !in.mem_size) ...   // a pure register instruction
 *
 * Thread-safe, no allocation, no libc (it runs while the guest's vector registers are live).
 * Sources: Intel SDM volume 2 (chapter 2 and appendix A), AMD APM volume 3.
 */
#ifndef X86_DECODE_H
#define X86_DECODE_H

#include <stdbool.h>
#include <stdint.h>

enum x86_mode { X86_MODE_16, X86_MODE_32, X86_MODE_64 };

enum x86_enc { X86_LEGACY, X86_VEX, X86_EVEX, X86_XOP };

/* Opcode maps; the numbers are VEX.mmmmm's. */
enum x86_map { X86_MAP_1B = 0, X86_MAP_0F = 1, X86_MAP_0F38 = 2, X86_MAP_0F3A = 3,
	       X86_MAP_5 = 5, X86_MAP_6 = 6, X86_MAP_0F0F = 15 /* 3DNow! */ };

/* insn.prefix */
#define X86_PFX_66   0x01
#define X86_PFX_67   0x02
#define X86_PFX_F2   0x04 /* the last of F2 and F3 wins */
#define X86_PFX_F3   0x08
#define X86_PFX_LOCK 0x10

/* Segment numbers as the manual counts them. */
enum x86_seg { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_SEG_NONE = 0xff };

/* General registers as encoded. As a base, X86_RIP stands for RIP-relative. */
enum x86_reg { X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI,
	       X86_R8, X86_R9, X86_R10, X86_R11, X86_R12, X86_R13, X86_R14, X86_R15,
	       X86_RIP, X86_REG_NONE = 0xff };

/* The six arithmetic flags at their places in RFLAGS. */
#define X86_CF 0x001
#define X86_PF 0x004
#define X86_AF 0x010
#define X86_ZF 0x040
#define X86_SF 0x080
#define X86_OF 0x800
#define X86_ARITH (X86_CF | X86_PF | X86_AF | X86_ZF | X86_SF | X86_OF)

/*
 * What an instruction needs.
 *
 * X86_NATIVE: it may be executed as it is at CPL 3 with registers renumbered and its memory
 * operand (if any: see mem_size) replaced; the effect on registers, flags and vector state is
 * then the guest's. Everything else is named below; an engine has a case for each, and what
 * no engine offers (VMX, SGX, ...) is X86_UD.
 * Kinds come out of lib/x86/opcodes.def; where one kind covers several opcodes, `map`, `op`
 * and `reg` tell them apart.
 */
enum x86_kind {
	X86_NATIVE,
	X86_UD,         /* undefined here, or not offered: #UD (UD0, UD1, UD2 too) */
	X86_NOP,        /* NOP, the hint NOPs 0F 18..1F, ENDBR, PREFETCHx, 90, PAUSE is X86_PAUSE */
	X86_PAUSE,
	X86_LEA,        /* address arithmetic only */
	/* stack */
	X86_PUSH_R, X86_PUSH_M, X86_PUSH_I, X86_POP_R, X86_POP_M,
	X86_PUSH_SEG, X86_POP_SEG, X86_PUSHA, X86_POPA, X86_PUSHF, X86_POPF,
	X86_ENTER, X86_LEAVE,
	/* control flow inside a code segment; imm is the displacement, sign-extended */
	X86_JMP_REL, X86_JMP_RM, X86_JCC, X86_CALL_REL, X86_CALL_RM, X86_RET /* C2, C3: imm */,
	X86_LOOP /* E0..E2 */, X86_JCXZ /* E3 */,
	/* far transfers and interrupts */
	X86_JMP_FAR_I, X86_JMP_FAR_M, X86_CALL_FAR_I, X86_CALL_FAR_M, X86_RETF, X86_IRET,
	X86_INT3, X86_INT_I, X86_INTO, X86_INT1,
	X86_SYSCALL, X86_SYSRET, X86_SYSENTER, X86_SYSEXIT,
	/* string and port; X86_PFX_F2/F3 tell repetition; opsize is the element */
	X86_MOVS, X86_CMPS, X86_STOS, X86_LODS, X86_SCAS, X86_INS, X86_OUTS, X86_IN, X86_OUT,
	/* flags and small state */
	X86_CLI, X86_STI, X86_CLD, X86_STD, X86_CLC_STC_CMC /* F8 F9 F5: plain native */,
	X86_HLT, X86_CPUID, X86_RDTSC, X86_RDTSCP, X86_RDPMC, X86_RDPID, X86_RDMSR, X86_WRMSR,
	X86_MOV_SEG_R /* 8C */, X86_MOV_R_SEG /* 8E */, X86_LOAD_FAR /* LES LDS LSS LFS LGS */,
	X86_MOV_CR, X86_MOV_DR, X86_CLTS, X86_LMSW, X86_SMSW,
	X86_LGDT, X86_LIDT, X86_SGDT, X86_SIDT, X86_LLDT, X86_LTR, X86_SLDT, X86_STR,
	X86_LAR, X86_LSL, X86_VERR, X86_VERW, X86_ARPL,
	X86_INVLPG, X86_INVPCID, X86_INVD, X86_WBINVD, X86_SWAPGS, X86_RDFSGSBASE /* 0F AE /0../3 */,
	X86_XGETBV, X86_XSETBV, X86_CLAC_STAC, X86_MONITOR, X86_MWAIT, X86_VMCALL, X86_CLFLUSH,
	X86_FXSAVE, X86_FXRSTOR, X86_XSAVE, X86_XSAVEOPT, X86_XSAVEC, X86_XSAVES, X86_XRSTOR,
	X86_XRSTORS, X86_FSAVE, X86_FRSTOR, X86_FSTENV, X86_FLDENV,
	X86_XLAT, X86_BT_MEM /* BT BTS BTR BTC m,r: the bit offset reaches outside the operand */,
	X86_BOUND, X86_MASKMOV /* MASKMOVQ, MASKMOVDQU: implicit DS:rDI */,
	X86_MASKED_MEM /* VMASKMOV, VPMASKMOV, and EVEX memory operands under a mask, whose
			* suppressed elements must not fault; compress and expand too */,
	X86_GATHER /* VSIB: gathers and scatters */,
	X86_BCD /* AAA AAS DAA DAS AAM AAD SALC: 16- and 32-bit modes only */,
	X86_MOVDIR /* MOVDIR64B, ENQCMD, and other stores to a register address: not offered */,
	X86_KINDS
};

/* How a field names a register. */
enum x86_field {
	X86_F_NONE, /* the field is absent or an opcode extension */
	X86_F_GPR,  /* a general register of opsize (or of the width that the opcode says) */
	X86_F_GPR8, /* a byte register: without REX, 4..7 are AH, CH, DH, BH */
	X86_F_OTHER /* vector, mask, MMX, x87, segment, control, debug: never renumbered */
};

/*
 * 64 bytes: a block's instructions lie in the cache a line each. The notes at the end are the
 * two words of the table's row (optable.h), under names; the decoder stores them whole.
 */
struct insn {
	uint8_t len;    /* bytes, 1 to 15 */
	uint8_t op;     /* opcode byte; for 3DNow! the trailing byte */
	uint8_t map;    /* enum x86_map */
	uint8_t enc;    /* enum x86_enc */
	uint8_t prefix; /* X86_PFX_* seen (VEX/EVEX: from pp, with 67 if there) */
	uint8_t rex;    /* legacy: the REX byte or 0; VEX/EVEX: W R X B in the same bits, no 0x40 */
	uint8_t opsize; /* 1, 2, 4 or 8: operand size after prefixes and defaults (push in 64-bit
			 * mode: 8); byte opcodes: 1 */
	uint8_t adsize; /* 2, 4 or 8 */

	uint8_t seg;    /* the segment of the memory operand: override or default, enum x86_seg;
			 * in 64-bit mode all but FS and GS read as X86_SEG_NONE */
	uint8_t seg_override; /* the override prefix as written, X86_SEG_NONE if none */
	uint8_t oreg;   /* opcodes with a register in their low bits (50+r, B8+r, 0F C8+r, 90+r):
			 * that register with B, else X86_REG_NONE */

	/* memory operand; valid when has_modrm && mod != 3, and for moffs (A0..A3) */
	uint8_t base;   /* enum x86_reg, X86_RIP, or X86_REG_NONE */
	uint8_t index;  /* enum x86_reg or X86_REG_NONE (VSIB: a vector register) */
	uint8_t scale;  /* 1, 2, 4, 8 */
	bool has_mem;   /* the encoding has a memory operand (LEA and NOP too) */

	uint8_t modrm_at; /* offset of the ModRM byte; has_modrm is among the notes */
	uint8_t modrm;  /* the byte as written */
	uint8_t mod;    /* modrm >> 6 */
	uint8_t reg;    /* modrm.reg with R (EVEX R' not included) */
	uint8_t rm;     /* modrm.rm with B when mod == 3; else the raw three bits */

	uint8_t imm_len;/* bytes of the first immediate, 0 if none */
	uint8_t imm_at; /* offset in the instruction where the immediates begin (for moffs: the
			 * address), all that follows belongs to them */
	uint16_t imm2;  /* ENTER's level, a far pointer's selector */
	uint64_t imm;   /* first immediate, sign-extended to 64 bits where the instruction does */
	int64_t disp;   /* sign-extended; EVEX disp8 already scaled; moffs: the address */

	/* VEX and EVEX payload, as written (inverted bits not undone except vvvv) */
	uint8_t vex[3];  /* bytes after C4 (two used) or C5 (one used) or 62 (three used) */
	uint8_t vexlen;  /* 2 (C5), 3 (C4), 4 (62), 0 legacy */
	uint8_t vvvv;    /* register number, 0..15 (V' not included) */
	uint8_t vl;      /* vector bytes: 16, 32, 64; 0 where there is none */

	/* notes */
	uint16_t mem_size; /* bytes accessed at the memory operand, 0: none (LEA, NOP, CLFLUSH);
			    * of one element for gathers and scatters and with EVEX broadcast;
			    * XSAVE family: 576, of which XCR0 may make more */
	uint32_t row;   /* of the opcode table; x86_insn_name() names it */
	/* f_: enum x86_field; f_rm speaks of mod == 3. _r, _w: GPR fields: read; written. For oreg
	 * the notes stand in f_rm, rm_r and rm_w. A write of 1 or 2 bytes, or one that may not
	 * happen (CMOV, BSF), reads as well */
	union {
		uint32_t operands; /* OPF_ */
		struct {
			uint8_t f_reg : 2;
			bool reg_r : 1, reg_w : 1, has_modrm : 1;
			uint8_t : 3;
			uint8_t f_rm : 2;
			bool rm_r : 1, rm_w : 1;
			bool mem_r : 1, mem_w : 1; /* the memory operand is read, written */
			bool simd : 1; /* uses MMX, SSE, AVX or mask state: CR0.TS and CR4.OSFXSR
					* matter */
			bool x87 : 1;  /* uses x87 or MMX state */
			uint8_t f_vvvv : 2;
			bool vvvv_r : 1, vvvv_w : 1;
		};
	};
	union {
		uint64_t effects; /* OPE_ */
		struct {
			uint8_t kind;          /* enum x86_kind */
			bool flags_touch : 1;  /* it may change arithmetic flags at all */
			bool lockable : 1;     /* a read-modify-write that LOCK may precede (XCHG
						* m: always locked) */
			bool can_trap : 1;     /* may raise an exception by itself on register
						* values (DIV, x87, SSE floating point) */
			uint64_t : 5;
			uint64_t gpr_r : 12;   /* implicit general registers, a bit each (RAX of */
			uint64_t gpr_w : 12;   /* MUL, RCX of a shift by CL, RDX:RAX of DIV, ...) */
			uint64_t flags_r : 12; /* arithmetic flags whose old value can matter */
			uint64_t flags_w : 12; /* arithmetic flags certainly replaced whatever the
						* operands are, in a way that does not depend on the
						* old flags (a shift by CL: none, since a count of 0
						* keeps them; undefined results: not listed) */
		};
	};
};

/*
 * Decodes the instruction that starts at code[0]; at most n bytes are looked at.
 * Returns its length (> 0, also in out->len), or
 *   -ENODATA  the n bytes are a proper beginning and the instruction goes on after them
 *   -E2BIG    it would be longer than 15 bytes (#GP on hardware)
 * after which *out says nothing.
 * code may change meanwhile (guest memory): each byte is read once, and the result is that of
 * bytes which were there; an emitter takes all but immediates from *out.
 * An undefined opcode is no error: kind is X86_UD and len covers what hardware would consume.
 */
int x86_decode(struct insn *out, const uint8_t *code, unsigned n, enum x86_mode mode);

/*
 * The memory operand of an instruction under a mask (X86_MASKED_MEM), as elements that the mask
 * has a bit for. Elements whose bits are clear are not accessed.
 */
enum x86_masking {
	X86_BY_ELEMENT, /* bit i is for element i, modulo n: a broadcast has more bits than elements */
	X86_PACKED,     /* as many elements as there are bits set, from the first on */
	X86_STRICT,     /* by element, but it faults as if all were accessed */
	X86_WHOLE,      /* one element, accessed whatever the mask */
};

struct x86_lanes {
	uint8_t bytes, n; /* size and number of the elements in memory */
	uint8_t bits;     /* of the mask that count */
	enum x86_masking masking;
};

/* Of an instruction whose kind is X86_MASKED_MEM; bytes * n is its mem_size. No allocation, no libc. */
void x86_lanes(const struct insn *in, struct x86_lanes *out);

/* Is its memory access atomic? By LOCK, or as XCHG's is always. */
static inline bool x86_is_atomic(const struct insn *in)
{
	bool xchg = in->enc == X86_LEGACY && in->map == X86_MAP_1B && (in->op & 0xfe) == 0x86;

	return in->has_mem && (in->prefix & X86_PFX_LOCK || xchg);
}

/* KAND and its relatives: VEX-coded, but AVX-512 state. */
static inline bool x86_uses_masks(const struct insn *in)
{
	if (in->enc != X86_VEX)
		return false;
	if (in->map == X86_MAP_0F)
		return (in->op >= 0x41 && in->op <= 0x4b) ||
		       (in->op >= 0x90 && in->op <= 0x93) || in->op == 0x98 || in->op == 0x99;
	return in->map == X86_MAP_0F3A && in->op >= 0x30 && in->op <= 0x33;
}

/* The mnemonic, of an instruction or a family: "imul", "vmovd/q", "j(be)"; for traces. */
const char *x86_insn_name(const struct insn *in);

/* A static English name of a kind, for traces: "call rel". */
const char *x86_kind_name(enum x86_kind kind);

#endif
