/* SPDX-License-Identifier: MIT */
/*
 * The host form of a guest instruction that may run as it is.
 *
 * Both sides are x86-64, so an ordinary instruction keeps its opcode, its immediates and its
 * vector registers. Three things change: the memory operand becomes [S1 + disp] or [CB + disp],
 * of which the caller has made a checked host address; general register numbers go through
 * host_reg[]; and prefixes that have been acted upon (segment, address size) disappear.
 *
 * Guest r8-r11 live in memory. An instruction that names one in ModRM.rm, or can, names its place
 * in struct vcpu instead, as a memory operand, if that means the same (fold()). Another gets a
 * scratch register: loaded before if the old value can matter, stored after if it is written. At most two such
 * registers are read beside a memory operand's address; a register that is only written may
 * share the scratch of one that is only read, because x86 reads before it writes.
 *
 * AH, CH, DH, BH cannot be encoded in an instruction with a REX prefix. Their instructions can
 * come to need one only through MOVZX, MOVSX and CRC32 to rsp, rsi or rdi: these go through S1.
 */
#include "softkvm/translate/emit.h"

const int8_t host_reg[16] = {
	[X86_RAX] = 0, [X86_RCX] = 1, [X86_RDX] = 2, [X86_RBX] = 3,
	[X86_RSP] = H_GSP, [X86_RBP] = 5, [X86_RSI] = H_GSI, [X86_RDI] = H_GDI,
	[X86_R8] = -1, [X86_R9] = -1, [X86_R10] = -1, [X86_R11] = -1,
	[X86_R12] = 12, [X86_R13] = 13, [X86_R14] = 14, [X86_R15] = 15,
};

int emit_use(struct as *a, uint8_t r, int scratch)
{
	if (host_reg[r] >= 0)
		return host_reg[r];
	mov_rv(a, scratch, VGPR(r));
	return scratch;
}

/* -- Which host register stands for each field ------------------------------------------- */

struct field {
	uint8_t *number;  /* in `struct plan`: the host register */
	uint8_t guest;
	bool reads, writes;
};

struct plan {
	uint8_t reg, rm, vvvv;        /* host numbers */
	bool mem_form;                /* rm is a memory operand: the guest's own, or folded */
	bool swap;                    /* reg and rm change places, and the opcode its direction */
	struct place mem;
	struct field spilled[3];
	int n_spilled;
	uint8_t guest_of[8];          /* by scratch register: what is loaded there */
};

static bool wants(uint8_t field)
{
	return field == X86_F_GPR || field == X86_F_GPR8;
}

/* AH..BH: byte registers 4..7 without REX. */
static bool is_high(const struct insn *in, uint8_t field, uint8_t r)
{
	return field == X86_F_GPR8 && r >= 4 && r < 8 && in->enc == X86_LEGACY &&
	       !(in->rex & 0x40);
}

static void plan_field(struct plan *p, const struct insn *in, uint8_t *number, uint8_t field,
		       uint8_t guest, bool reads, bool writes)
{
	*number = guest;
	if (!wants(field) || is_high(in, field, guest))
		return;
	if (host_reg[guest] >= 0) {
		*number = (uint8_t)host_reg[guest];
		return;
	}
	/* A narrow write keeps the rest of the register. */
	if (writes && in->opsize < 4)
		reads = true;
	p->spilled[p->n_spilled++] = (struct field){number, guest, reads, writes};
}

static int take(struct plan *p, const struct field *f, bool has_mem)
{
	static const uint8_t order[2] = {H_S2, H_S1};
	int i;

	for (i = 0; i < 2; i++) /* the same register, named twice */
		if (p->guest_of[order[i]] == f->guest)
			return order[i];
	for (i = 0; i < (has_mem && f->reads ? 1 : 2); i++)
		if (p->guest_of[order[i]] == 0xff)
			return order[i];
	return H_S2;
}

__attribute__((noinline)) static void load_spilled(struct as *a, struct plan *p, bool has_mem)
{
	int i, host;

	p->guest_of[H_S1] = p->guest_of[H_S2] = 0xff;
	for (i = 0; i < p->n_spilled; i++) {
		struct field *f = &p->spilled[i];

		if (!f->reads)
			continue;
		host = take(p, f, has_mem);
		if (p->guest_of[host] == 0xff)
			mov_rv(a, host, VGPR(f->guest));
		p->guest_of[host] = f->guest;
		*f->number = (uint8_t)host;
	}
	/* What is only written takes a scratch that nothing else will write. */
	for (i = 0; i < p->n_spilled; i++) {
		struct field *f = &p->spilled[i];
		bool s2_taken = false;
		int k;

		if (f->reads)
			continue;
		for (k = 0; k < p->n_spilled; k++)
			if (k != i && p->spilled[k].writes &&
			    (p->spilled[k].reads || k < i))
				s2_taken |= *p->spilled[k].number == H_S2;
		*f->number = s2_taken ? H_S1 : H_S2;
	}
}

static void store_spilled(struct as *a, const struct plan *p)
{
	int i;

	/* MULX with one register for both halves: ModRM.reg, the high one, counts. */
	for (i = p->n_spilled; i-- > 0;)
		if (p->spilled[i].writes)
			mov_vr(a, VGPR(p->spilled[i].guest), *p->spilled[i].number);
}

/* -- Encoding ------------------------------------------------------------------------------ */

static void emit_operands(struct as *a, const struct insn *in, const struct plan *p, unsigned reg)
{
	if (p->mem_form)
		emit_mem_as(a, (int)reg, p->mem.reg, p->mem.disp, in->enc != X86_EVEX);
	else
		emit8(a, 0xc0u | (reg & 7) << 3 | (p->rm & 7));
}

static void emit_imm(struct as *a, const struct insn *in)
{
	emit_n(a, in->imm, in->imm_len);
	if (in->imm_len && in->imm_at + in->imm_len < in->len) /* EXTRQ, INSERTQ */
		emit8(a, in->imm2);
}

static bool byte_needs_rex(const struct insn *in, uint8_t field, uint8_t guest, uint8_t host)
{
	return field == X86_F_GPR8 && !is_high(in, field, guest) && host >= 4;
}

static void emit_prefixes(struct as *a, const struct insn *in)
{
	/* ADCX (66 0F 38 F6) has general registers, and yet its 66 is part of the opcode. */
	bool adx = in->map == X86_MAP_0F38 && in->op == 0xf6;
	bool sixteen = in->simd || adx ? in->prefix & X86_PFX_66 : in->opsize == 2;
	/* XCHG ESI, EAX is F3 96. The host's form would be F3 41 90, which is PAUSE for Intel. */
	bool xchg = in->map == X86_MAP_1B && (in->op & 0xf8) == 0x90;

	if (in->prefix & X86_PFX_LOCK)
		emit8(a, 0xf0);
	if (sixteen)
		emit8(a, 0x66);
	if (in->prefix & X86_PFX_F2)
		emit8(a, 0xf2);
	if (in->prefix & X86_PFX_F3 && !xchg)
		emit8(a, 0xf3);
}

/* The opcode's escape bytes, and how many. */
static const struct escape {
	uint16_t bytes;
	uint8_t n;
} escape[] = {
	[X86_MAP_1B] = {0, 0},
	[X86_MAP_0F] = {0x0f, 1},
	[X86_MAP_0F38] = {0x380f, 2},
	[X86_MAP_0F3A] = {0x3a0f, 2},
};

/*
 * Opcodes without ModRM that get one: INC and DEC r of 16- and 32-bit code, as FF /0 and /1; MOV
 * to and from an absolute address (moffs) as 8A 8B 88 89. Others name a register in their low bits.
 */
static bool needs_modrm(const struct insn *in, uint8_t *op, uint8_t *reg)
{
	static const uint8_t of_moffs[4] = {0x8a, 0x8b, 0x88, 0x89};

	if (in->map != X86_MAP_1B)
		return false;
	if ((in->op & 0xfc) == 0xa0) {
		*op = of_moffs[in->op & 3];
		*reg = 0;
		return true;
	}
	if ((in->op & 0xf0) == 0x40) {
		*op = 0xff;
		*reg = in->op >> 3 & 1;
		return true;
	}
	return false;
}

static bool rex_for_byte(const struct insn *in, const struct plan *p)
{
	if (in->oreg != X86_REG_NONE)
		return byte_needs_rex(in, in->f_rm, in->oreg, p->rm);
	return in->has_modrm &&
	       (byte_needs_rex(in, in->f_reg, in->reg, p->reg) ||
		(!p->mem_form && byte_needs_rex(in, in->f_rm, in->rm, p->rm)));
}

static void emit_legacy(struct as *a, const struct insn *in, const struct plan *p)
{
	const struct escape *esc = &escape[in->map];
	uint8_t op = in->op, reg = p->reg, base = p->mem_form ? (uint8_t)p->mem.reg : p->rm;
	bool modrm = in->has_modrm;
	unsigned rex;

	if (!modrm && needs_modrm(in, &op, &reg))
		modrm = true;
	else if (in->oreg != X86_REG_NONE)
		op = (uint8_t)((op & 0xf8) | (p->rm & 7));
	else if (in->map == X86_MAP_1B && op == 0x82) /* 80, outside 64-bit mode */
		op = 0x80;
	if (p->swap)
		op ^= 2;
	emit_prefixes(a, in);
	rex = rex_of(in->rex & 8, modrm && in->f_reg != X86_F_NONE ? reg : 0, 0, base);
	*a->p = (uint8_t)rex;
	a->p += rex != 0x40 || rex_for_byte(in, p);
	emit_n(a, esc->bytes | (unsigned)op << 8 * esc->n, esc->n + 1u);
	if (modrm)
		emit_operands(a, in, p, reg);
	emit_imm(a, in);
}

/* W, where it counts: 32-bit code ignores one that would make a general register 64 bits wide. */
static unsigned wide_bit(const struct as *a, const struct insn *in)
{
	bool general = wants(in->f_reg) || wants(in->f_rm) || wants(in->f_vvvv) ||
		       in->gpr_r /* VPCMPESTRI */;

	return general && !is_64bit_code(a->e->c) ? 0 : 0x80;
}

/* VZEROUPPER and VZEROALL of 32-bit code, which has only the first eight registers. */
static void emit_zero_eight(struct as *a, const struct insn *in)
{
	unsigned r;

	for (r = 0; r < 8; r++) {
		emit8(a, 0xc5);
		emit8(a, in->vl == 16 ? 0xf8 : 0x80 | (~r & 15) << 3);
		emit8(a, in->vl == 16 ? 0x28 : 0x57); /* vmovaps r, r; vxorps r, r, r */
		emit8(a, 0xc0 | r << 3 | r);
	}
}

/* VBLENDVPS, VBLENDVPD, VPBLENDVB: the immediate's upper half is a register number. */
static bool names_register(const struct insn *in)
{
	return in->map == X86_MAP_0F3A && in->op >= 0x4a && in->op <= 0x4c;
}

static void emit_vex(struct as *a, const struct insn *in, const struct plan *p)
{
	uint8_t last = in->vexlen == 2 ? in->vex[0] : in->vex[1]; /* W vvvv L pp */
	unsigned w = in->vexlen == 2 ? 0 : last & wide_bit(a, in);
	unsigned reg = p->reg, base = p->mem_form ? (unsigned)p->mem.reg : p->rm;

	emit8(a, 0xc4);
	emit8(a, (reg & 8 ? 0 : 0x80u) | 0x40u | (base & 8 ? 0 : 0x20u) | in->map);
	emit8(a, w | (~(unsigned)p->vvvv & 15) << 3 | (last & 7u));
	emit8(a, in->op);
	if (in->has_modrm) /* VZEROUPPER has none */
		emit_operands(a, in, p, reg);
	if (names_register(in) && !is_64bit_code(a->e->c))
		emit8(a, in->imm & 0x7f); /* of eight */
	else
		emit_imm(a, in);
}

static void emit_evex(struct as *a, const struct insn *in, const struct plan *p)
{
	unsigned p0 = in->vex[0] & 0x1fu; /* R' and the map */
	unsigned p1 = in->vex[1] & (wide_bit(a, in) | 7); /* W, 1, pp */
	unsigned reg = p->reg, base = in->has_mem ? (unsigned)p->mem.reg : p->rm;

	if (wants(in->f_rm) && !in->has_mem)
		p0 |= 0x40;
	else if (in->has_mem)
		p0 |= 0x40;
	else
		p0 |= in->vex[0] & 0x40u; /* X: bit 4 of a vector register */
	p0 |= (reg & 8 ? 0 : 0x80u) | (base & 8 ? 0 : 0x20u);
	emit8(a, 0x62);
	emit8(a, p0);
	emit8(a, p1 | (~(unsigned)p->vvvv & 15) << 3);
	emit8(a, in->vex[2]);
	emit8(a, in->op);
	emit_operands(a, in, p, reg);
	emit_imm(a, in);
}

static void emit_plain(struct as *a, const struct insn *in, const struct plan *p)
{
	if (in->enc == X86_LEGACY)
		emit_legacy(a, in, p);
	else if (in->enc == X86_VEX && !in->has_modrm && !is_64bit_code(a->e->c))
		emit_zero_eight(a, in);
	else if (in->enc == X86_VEX)
		emit_vex(a, in, p);
	else
		emit_evex(a, in, p);
}

/* AH..BH beside a register whose host number needs REX: MOVZX, MOVSX, CRC32. */
static bool is_high_extend(const struct insn *in, const struct plan *p)
{
	return in->enc == X86_LEGACY && in->f_reg == X86_F_GPR && !in->has_mem &&
	       is_high(in, in->f_rm, in->rm) && p->reg >= 8;
}

/* AH..BH cannot be named beside CB, which needs REX. */
static void settle_place(struct as *a, const struct insn *in, struct plan *p)
{
	if (!in->has_mem || p->mem.reg == H_S1 || !in->has_modrm ||
	    !is_high(in, in->f_reg, in->reg))
		return;
	lea_rm(a, true, H_S1, p->mem.reg, p->mem.disp);
	p->mem = (struct place){H_S1, 0};
}

/* -- Folding ------------------------------------------------------------------------------- */

/* Opcodes whose form with a memory operand does what the one with a register does. Not XCHG,
 * which would lock, nor BT with a register, which would reach far. */
static bool folds_opcode(const struct insn *in)
{
	uint8_t op = in->op;

	if (in->enc == X86_VEX) /* ANDN, BLSR and its like, BZHI, MULX, BEXTR, SHLX; RORX */
		return (in->map == X86_MAP_0F38 && op >= 0xf2 && op <= 0xf7) ||
		       (in->map == X86_MAP_0F3A && op == 0xf0);
	if (in->enc != X86_LEGACY || in->simd || in->x87)
		return false;
	switch (in->map) {
	case X86_MAP_1B:
		return (op < 0x40 && (op & 7) < 4) || op == 0x63 || op == 0x69 || op == 0x6b ||
		       (op >= 0x80 && op <= 0x85 && op != 0x82) || (op >= 0x88 && op <= 0x8b) ||
		       op == 0xc0 || op == 0xc1 || op == 0xc6 || op == 0xc7 ||
		       (op >= 0xd0 && op <= 0xd3) || op == 0xf6 || op == 0xf7 || op >= 0xfe;
	case X86_MAP_0F:
		return (op & 0xf0) == 0x40 || (op & 0xf0) == 0x90 || op == 0xa4 || op == 0xa5 ||
		       op == 0xac || op == 0xad || op == 0xaf || op == 0xb6 || op == 0xb7 ||
		       op == 0xbc || op == 0xbd || op == 0xbe || op == 0xbf || op == 0xb8;
	case X86_MAP_0F38: /* ADCX, ADOX */
		return op == 0xf6;
	default:
		return false;
	}
}

/* A store of 32 bits would leave the upper half, which the register's write clears. */
static bool folds_width(const struct insn *in, bool writes)
{
	return in->opsize != 4 || !writes;
}

static bool in_memory(uint8_t field, uint8_t guest)
{
	return wants(field) && host_reg[guest] < 0;
}

/* ALU operations and MOV between two registers exist in both directions. */
static bool swaps(const struct insn *in)
{
	bool alu = in->op < 0x40 && (in->op & 7) < 4;

	return in->enc == X86_LEGACY && in->map == X86_MAP_1B &&
	       (alu || (in->op >= 0x88 && in->op <= 0x8b));
}

/* Can a guest register that lives in memory be the memory operand? */
static void fold(struct as *a, const struct insn *in, struct plan *p)
{
	uint8_t guest = in->rm;

	bool rm = in_memory(in->f_rm, in->rm), reg = in_memory(in->f_reg, in->reg);

	if (!(rm | reg) || !a->framed || !in->has_modrm || !folds_opcode(in))
		return;
	if (rm && folds_width(in, in->rm_w)) {
		p->mem_form = true;
	} else if (reg && !rm && swaps(in) &&
		   folds_width(in, in->reg_w) && !is_high(in, in->f_rm, in->rm)) {
		p->mem_form = p->swap = true;
		guest = in->reg;
	}
	if (p->mem_form)
		p->mem = (struct place){H_RSP, VGPR(guest) - FRAME};
}

/* Through S1, which needs no REX. */
static void emit_high_extend(struct as *a, const struct insn *in, struct plan *p)
{
	int to = p->reg;

	p->reg = H_S1;
	if (in->map == X86_MAP_0F38) /* CRC32 reads it, and writes 32 bits */
		mov_rr(a, H_S1, to);
	emit_plain(a, in, p);
	if (in->opsize == 2 && in->map == X86_MAP_0F) { /* the upper part stays */
		emit8(a, 0x66);
		mov_rr32(a, to, H_S1);
	} else {
		mov_rr(a, to, H_S1);
	}
}

/* rax rcx rdx rbx rbp r12-r15: host_reg[r] == r */
#define KEPT_REGISTERS 0xf02fu

bool is_host_form(const struct insn *in)
{
	uint8_t rm = in->oreg != X86_REG_NONE ? in->oreg : in->rm;
	unsigned named = (unsigned)wants(in->f_reg) << in->reg | (unsigned)wants(in->f_rm) << rm |
			 (unsigned)wants(in->f_vvvv) << in->vvvv;

	return !in->has_mem && !(named & ~KEPT_REGISTERS);
}

void emit_native(struct as *a, const struct insn *in, const struct place *m)
{
	uint8_t rm = in->oreg != X86_REG_NONE ? in->oreg : in->rm;
	struct plan p;

	p.reg = in->reg;
	p.rm = in->rm;
	p.vvvv = in->vvvv;
	p.mem = *m;
	p.mem_form = in->has_mem;
	p.swap = false;
	p.n_spilled = 0;
	if (!in->has_mem)
		fold(a, in, &p);
	if (p.swap)
		plan_field(&p, in, &p.reg, in->f_rm, in->rm, in->rm_r, in->rm_w);
	else if (in->has_modrm)
		plan_field(&p, in, &p.reg, in->f_reg, in->reg, in->reg_r, in->reg_w);
	if (!p.mem_form)
		plan_field(&p, in, &p.rm, in->f_rm, rm, in->rm_r, in->rm_w);
	if (in->f_vvvv != X86_F_NONE)
		plan_field(&p, in, &p.vvvv, in->f_vvvv, in->vvvv, in->vvvv_r, in->vvvv_w);
	if (is_high_extend(in, &p)) {
		emit_high_extend(a, in, &p);
		return;
	}
	settle_place(a, in, &p);
	if (p.n_spilled)
		load_spilled(a, &p, in->has_mem && p.mem.reg == H_S1);
	emit_plain(a, in, &p);
	if (p.n_spilled)
		store_spilled(a, &p);
}
