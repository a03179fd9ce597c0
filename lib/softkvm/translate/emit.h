/* SPDX-License-Identifier: MIT */
/*
 * A small assembler for the host: bytes go to the code cache's writable view.
 *
 * Names follow the manual: op first, destination before source. Operand kinds: r a register
 * number, m a [base + disp] operand, v a field of struct vcpu (RIP-relative), i an immediate.
 * All of them are 64-bit unless the name says otherwise.
 *
 * In blocks host RSP is FRAME: twelve bytes into struct vcpu, so that the fields that are used
 * most are reached with a one-byte displacement, and in a place where the low 16 bits of RSP
 * are 0x240c. To BEXTR that says "36 bits from bit 12 on": the page number, in one cycle and
 * without an operand in memory. (Without BMI1 two shifts do it.) Below it is a stack: thunks are called, and host signals
 * arrive. C runs on the thread's own.
 */
#ifndef SOFTKVM_EMIT_H
#define SOFTKVM_EMIT_H

#include "softkvm/translate/code.h"

extern const int8_t host_reg[16]; /* by guest register; -1: in memory */

struct as {
	struct engine *e;
	uint8_t *base;   /* of the writable view */
	uint8_t *p;      /* next byte */
	bool framed;     /* host RSP is FRAME: blocks, not thunks */
};

#define VCPU(field) ((int)offsetof(struct vcpu, field))
#define VGPR(r) (VCPU(gpr) + 8 * (r))
#define VSCR(n) (VCPU(scratch) + 8 * (n))

#define FRAME 12
_Static_assert(VCPU_AT + FRAME == (36 << 8 | 12), "BEXTR: length, start");

/*
 * Nobody asks for room byte by byte: who begins a piece of code sees to it that ROOM bytes are left
 * for it (has_room(), entry_get()), which is more than it takes.
 */
#define INSN_ROOM 512u                           /* a guest instruction */
#define BLOCK_ROOM ((BLOCK_INSNS + 1) * INSN_ROOM) /* a block, its gate and its exits */
#define STUBS_ROOM 4096u                         /* the stubs of a block */
#define ENTRY_ROOM 256u                          /* an entry of a block; an instruction by itself */

static inline void as_init(struct as *a, struct engine *e, uint32_t at)
{
	*a = (struct as){.e = e, .base = e->code_rw, .p = e->code_rw + at, .framed = true};
}

static inline uint32_t as_at(const struct as *a)
{
	return (uint32_t)(a->p - a->base);
}

/* The n lowest bytes of v. All eight are written, for what lies behind the next byte is free. */
static inline void emit_n(struct as *a, uint64_t v, unsigned n)
{
	*(uint64_t *)(void *)a->p = v;
	a->p += n;
}

static inline void emit8(struct as *a, unsigned b)
{
	*a->p++ = (uint8_t)b;
}

static inline void emit32(struct as *a, uint32_t v)
{
	emit_n(a, v, 4);
}

static inline void emit64(struct as *a, uint64_t v)
{
	emit_n(a, v, 8);
}

/* n bytes, 16 at most: so many are read, and written. */
static inline void emit_bytes(struct as *a, const uint8_t *bytes, unsigned n)
{
	const uint64_t *from = (const void *)bytes;
	uint64_t *to = (void *)a->p;

	to[0] = from[0];
	to[1] = from[1];
	a->p += n;
}

/* The byte, 0x40: none */
static inline unsigned rex_of(bool w, int reg, int index, int base)
{
	return 0x40u | w << 3 | (unsigned)(reg & 8) >> 1 | (unsigned)(index & 8) >> 2 |
	       (unsigned)(base & 8) >> 3;
}

static inline void emit_rex(struct as *a, bool w, int reg, int index, int base)
{
	unsigned rex = rex_of(w, reg, index, base);

	*a->p = (uint8_t)rex;
	a->p += rex != 0x40;
}

/* Opcode `op`, then ModRM with a register. */
static inline void emit_op_rr(struct as *a, unsigned op, int reg, int rm)
{
	emit_n(a, op | (0xc0u | (unsigned)(reg & 7) << 3 | (rm & 7)) << 8, 2);
}

/* ModRM (and SIB) for [base + disp]. EVEX scales a displacement of one byte: not `brief`. */
static inline void emit_mem_as(struct as *a, int reg, int base, int32_t disp, bool brief)
{
	static const uint8_t disp_len[3] = {0, 1, 4};
	unsigned rm = base & 7, r = (unsigned)(reg & 7) << 3, sib = rm == 4;
	unsigned mod = disp == 0 && rm != 5 ? 0 : brief && disp == (int8_t)disp ? 1 : 2;

	emit_n(a, (mod << 6 | r | rm) | sib * 0x2400 | (uint64_t)(uint32_t)disp << (8 + 8 * sib),
	       1 + sib + disp_len[mod]);
}

static inline void emit_mem(struct as *a, int reg, int base, int32_t disp)
{
	emit_mem_as(a, reg, base, disp, true);
}

/* ModRM for [RIP + ...] to address `to` (in the arena), when `after` bytes follow the disp32. */
static inline void emit_rip(struct as *a, int reg, const void *to, int after)
{
	intptr_t next = (intptr_t)(a->e->code + as_at(a) + 5 + after);

	emit_n(a, 0x05u | (unsigned)(reg & 7) << 3 | (uint64_t)(uint32_t)((intptr_t)to - next) << 8, 5);
}

static inline const void *vcpu_at(const struct as *a, int offset)
{
	return (const uint8_t *)a->e->c + offset;
}

/* ModRM for the field of struct vcpu at offset `off`. */
static inline void emit_vcpu(struct as *a, int reg, int off, int after)
{
	if (!a->framed || off < FRAME || off > FRAME + 127) {
		emit_rip(a, reg, vcpu_at(a, off), after);
		return;
	}
	emit_n(a, 0x2444u | (unsigned)(reg & 7) << 3 | (unsigned)(off - FRAME) << 16, 3); /* [rsp + disp8] */
}

/* op r64, [vcpu + off] and op [vcpu + off], r64 for one-byte opcodes */
static inline void emit_op_rv(struct as *a, unsigned op, int r, int off)
{
	emit_n(a, rex_of(true, r, 0, 0) | op << 8, 2);
	emit_vcpu(a, r, off, 0);
}

static inline void mov_rv(struct as *a, int r, int off) { emit_op_rv(a, 0x8b, r, off); }
static inline void mov_vr(struct as *a, int off, int r) { emit_op_rv(a, 0x89, r, off); }

static inline void mov_rv32(struct as *a, int r, int off)
{
	emit_rex(a, false, r, 0, 0);
	emit8(a, 0x8b);
	emit_vcpu(a, r, off, 0);
}

static inline void mov_rr(struct as *a, int d, int s)
{
	emit_rex(a, true, s, 0, d);
	emit_op_rr(a, 0x89, s, d);
}

static inline void mov_rr32(struct as *a, int d, int s)
{
	emit_rex(a, false, s, 0, d);
	emit_op_rr(a, 0x89, s, d);
}

/* mov r, imm with the shortest encoding that leaves flags alone */
static inline void mov_ri(struct as *a, int r, uint64_t v)
{
	if (v == (uint32_t)v) {
		emit_rex(a, false, 0, 0, r);
		emit_n(a, 0xb8u | (r & 7) | v << 8, 5);
	} else if ((int64_t)v == (int32_t)v) {
		emit_rex(a, true, 0, 0, r);
		emit_op_rr(a, 0xc7, 0, r);
		emit32(a, (uint32_t)v);
	} else {
		emit_rex(a, true, 0, 0, r);
		emit8(a, 0xb8u | (r & 7));
		emit64(a, v);
	}
}

static inline void lea_rm(struct as *a, bool w, int d, int base, int32_t disp)
{
	emit_rex(a, w, d, 0, base);
	emit8(a, 0x8d);
	emit_mem(a, d, base, disp);
}

/* lea d, [base + index * scale + disp]; base or index may be -1 */
static inline void lea_sib(struct as *a, bool w, int d, int base, int index, int scale,
			   int32_t disp)
{
	static const uint8_t disp_len[3] = {0, 1, 4};
	unsigned ss = (unsigned)__builtin_ctz((unsigned)scale) << 6;
	unsigned mod = 0, x = (index < 0 ? 4u : (unsigned)(index & 7)) << 3, len = 4;
	unsigned b = base < 0 ? 5 : (unsigned)(base & 7);

	emit_rex(a, w, d, index < 0 ? 0 : index, base < 0 ? 0 : base);
	if (base >= 0) {
		mod = disp == 0 && b != 5 ? 0 : disp == (int8_t)disp ? 1 : 2;
		len = disp_len[mod];
	}
	emit_n(a, 0x8du | (mod << 6 | (unsigned)(d & 7) << 3 | 4) << 8 | (ss | x | b) << 16 |
		  (uint64_t)(uint32_t)disp << 24, 3 + len);
}

/* mov d, [base + disp] and back */
static inline void mov_rm(struct as *a, bool w, int d, int base, int32_t disp)
{
	emit_rex(a, w, d, 0, base);
	emit8(a, 0x8b);
	emit_mem(a, d, base, disp);
}

static inline void mov_mr(struct as *a, bool w, int base, int32_t disp, int s)
{
	emit_rex(a, w, s, 0, base);
	emit8(a, 0x89);
	emit_mem(a, s, base, disp);
}

/* op r, [index * 8 + disp], relative to GS base if that is in use */
static inline void emit_scaled(struct as *a, unsigned op, int r, int index, int32_t disp)
{
	if (a->e->gs != GS_UNUSED)
		emit8(a, 0x65);
	emit_n(a, rex_of(true, r, index, 0) | op << 8 | (0x04u | (unsigned)(r & 7) << 3) << 16 |
		  (0xc0u | (unsigned)(index & 7) << 3 | 5) << 24, 4);
	emit32(a, (uint32_t)disp);
}

/* What stands for GS base where that is not in use: index += an eighth of the table's address. */
static inline void emit_base(struct as *a, int index)
{
	if (a->e->gs == GS_UNUSED)
		emit_op_rv(a, 0x03, index, VCPU(table));
}

/* op r, the view's entry for page number `index`, which may be lost */
static inline void emit_entry_op(struct as *a, unsigned op, int r, int index)
{
	emit_base(a, index);
	emit_scaled(a, op, r, index, 0);
}

/* bextr d, s, control */
static inline void bextr_rrr(struct as *a, int d, int s, int control)
{
	emit_n(a, 0xc4u | ((d & 8 ? 0 : 0x80u) | 0x40u | (s & 8 ? 0 : 0x20u) | 2) << 8 |
		  (0x80u | (~(unsigned)control & 15) << 3) << 16 | 0xf7u << 24 |
		  (uint64_t)(0xc0u | (unsigned)(d & 7) << 3 | (s & 7)) << 32, 5);
}


/* movzx d, s16 */
static inline void movzx_rr16(struct as *a, int d, int s)
{
	emit_rex(a, false, d, 0, s);
	emit8(a, 0x0f);
	emit_op_rr(a, 0xb7, d, s);
}

/* op r, imm8 of the groups 80-83 and C0-C1 */
static inline void op_ri8(struct as *a, bool wide, unsigned op, unsigned digit, int r,
			  unsigned imm)
{
	emit_rex(a, wide, 0, 0, r);
	emit_op_rr(a, op, (int)digit, r);
	emit8(a, imm);
}

/* r = page number of address r */
static inline void emit_page_number(struct as *a, int r)
{
	op_ri8(a, true, 0xc1, 4, r, 16); /* shl */
	op_ri8(a, true, 0xc1, 5, r, 28); /* shr */
}

/* d = page number of address s; `control` has FRAME's low bits */
static inline void emit_page_number_of(struct as *a, int d, int s, int control)
{
	if (a->e->bextr) {
		bextr_rrr(a, d, s, control);
		return;
	}
	mov_rr(a, d, s);
	emit_page_number(a, d);
}

/* one-byte ALU op r, r (00..3f family, r/m64, r64) */
static inline void alu_rr(struct as *a, unsigned op, int d, int s)
{
	emit_rex(a, true, s, 0, d);
	emit_op_rr(a, op, s, d);
}

static inline void imul_rr(struct as *a, int d, int s)
{
	emit_rex(a, true, d, 0, s);
	emit8(a, 0x0f);
	emit_op_rr(a, 0xaf, d, s);
}

/* cmp [base + disp], s */
static inline void cmp_mr(struct as *a, int base, int32_t disp, int s)
{
	emit_rex(a, true, s, 0, base);
	emit8(a, 0x39);
	emit_mem(a, s, base, disp);
}

static inline void alu_rr32(struct as *a, unsigned op, int d, int s)
{
	emit_rex(a, false, s, 0, d);
	emit_op_rr(a, op, s, d);
}

/* bt r, imm */
static inline void bt_ri(struct as *a, int r, unsigned bit)
{
	emit_rex(a, true, 0, 0, r);
	emit_n(a, 0xba0fu | (0xe0u | (r & 7)) << 16 | bit << 24, 4);
}

static inline void push_r(struct as *a, int r)
{
	emit_rex(a, false, 0, 0, r);
	emit8(a, 0x50u | (r & 7));
}

static inline void pop_r(struct as *a, int r)
{
	emit_rex(a, false, 0, 0, r);
	emit8(a, 0x58u | (r & 7));
}

/* rel32 transfers to an offset in the code cache */
static inline void emit_rel(struct as *a, uint32_t to)
{
	emit32(a, to - (as_at(a) + 4));
}

static inline void jmp_to(struct as *a, uint32_t to)
{
	emit_n(a, 0xe9u | (uint64_t)(to - (as_at(a) + 5)) << 8, 5);
}

static inline void call_to(struct as *a, uint32_t to)
{
	emit_n(a, 0xe8u | (uint64_t)(to - (as_at(a) + 5)) << 8, 5);
}

enum { CC_O = 0, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_S, CC_NS, CC_P, CC_NP, CC_L,
       CC_GE, CC_LE, CC_G };

static inline void jcc_to(struct as *a, unsigned cc, uint32_t to)
{
	emit_n(a, 0x800fu | cc << 8 | (uint64_t)(to - (as_at(a) + 6)) << 16, 6);
}

/* The rel32 at offset `site` of the code cache leads to offset `to`. */
static inline void patch_rel(struct engine *e, uint32_t site, uint32_t to)
{
	*(uint32_t *)(void *)(e->code_rw + site) = to - (site + 4);
}

/* ZF: the guest's DF is clear. */
static inline void emit_test_df(struct as *a)
{
	emit8(a, 0xf6); /* test byte [rflags + 1], DF */
	emit_vcpu(a, 0, VCPU(rflags) + 1, 1);
	emit8(a, RFLAGS_DF >> 8);
}

/* A jump that is patched later: returns where its rel32 is. */
static inline uint32_t jcc_far(struct as *a, unsigned cc)
{
	jcc_to(a, cc, 0);
	return as_at(a) - 4;
}

/* A short forward jump, to be landed: returns where its rel8 is. */
static inline uint32_t jcc_short(struct as *a, unsigned cc)
{
	emit_n(a, 0x70u | cc, 2);
	return as_at(a) - 1;
}

static inline uint32_t jmp_short(struct as *a)
{
	emit_n(a, 0xeb, 2);
	return as_at(a) - 1;
}

static inline void land(struct as *a, uint32_t at)
{
	uint32_t distance = as_at(a) - (at + 1);

	if (distance > 127) /* a mistake of ours, which every test that comes here shows */
		__builtin_trap();
	a->base[at] = (uint8_t)distance;
}

/* ZF is clear if S1 and S2 lie in two pages, less than one apart. S2 is lost. */
static inline void test_same_page(struct as *a)
{
	emit_op_rr(a, 0x31, H_S1, H_S2); /* xor s2d, s1d */
	emit_op_rr(a, 0xf7, 0, H_S2); /* test s2d, 0x1000 */
	emit32(a, 0x1000);
}

/* The least k with 1 << k >= size */
static inline unsigned log2_up(unsigned size)
{
	return size > 1 ? 32u - (unsigned)__builtin_clz(size - 1) : 0;
}

/* Sequences shared by the lowering files. */

/* EFLAGS -> vcpu.arith; S2 is lost, EFLAGS too. */
void emit_save_flags(struct as *a);
/* vcpu.arith -> EFLAGS; S2 is lost. */
void emit_load_flags(struct as *a);

/* A thunk that is called: its return address goes to SCR_RET. flags: EFLAGS are the guest's. */
uint32_t emit_called(struct as *a, uint64_t (*fn)(struct vcpu *), bool flags);
/* One that is jumped to. */
uint32_t emit_jumped(struct as *a, uint64_t (*fn)(struct vcpu *));

/* The thunks of gates.c, checks.c, rep.c. */
void gates_emit(struct as *a);
void checks_emit(struct as *a);
void rep_emit(struct as *a);

/* -- rep.c -- */

bool string_repeats(const struct insn *in);
/* In this mode, are all addresses of a string instruction registers as they are? */
bool string_is_flat(uint16_t mode, const struct insn *in);
/* Is it one that a thunk may do? */
bool rep_has_thunk(uint16_t mode, const struct insn *in);

/* ZF: nobody asks for anything (cmp dword [vcpu.requests], 0). */
void emit_poll_test(struct as *a);

/* Goes on at guest address S1; the guest's flags are in vcpu.arith. */
void emit_gate_jump(struct as *a);

/* The entry for indirect jumps of the block at offset `at` in its page: invariant 3 in thunks.c.
 * Falls into the block's code, or its poll. */
void emit_gate(struct as *a, uint16_t at, bool poll, bool load_flags);

/* -- reencode.c -- */

/* A memory operand as host code sees it: [S1 or CB + disp]. */
struct place {
	int reg;
	int32_t disp;
};

/* Is a native instruction of 64-bit code its own host form? Enough of them are to look first. */
bool is_host_form(const struct insn *in);

/* Emits the host form of a native instruction: general registers renumbered, the memory
 * operand (if it has one) replaced by *m. Guest registers that live in memory are loaded and
 * stored around it. S2, and S1 unless m is in it, are lost. */
void emit_native(struct as *a, const struct insn *in, const struct place *m);

/* The guest's general register r in a host register: its own, or `scratch` loaded with it. */
int emit_use(struct as *a, uint8_t r, int scratch);

#endif
