/* SPDX-License-Identifier: MIT */
/*
 * One random instruction.
 *
 * A place of the opcode maps is drawn first (lib/x86/optable.h), so that rare instructions come
 * as often as MOV; then prefixes, registers, an addressing form, and immediates around it. The
 * decoder says what has come out, and the exclusions, the caller's wish and the registers that
 * later instructions still need decide whether it is taken.
 *
 * Memory operands: the target is chosen first, then a base (and index) register whose value is
 * known, and the displacement is what is missing.
 */
#include "draw.h"

#include <string.h>

#include "x86/optable.h"

struct code {
	struct drawn *d;
	struct draw *g;
};

static void put(struct drawn *d, unsigned byte)
{
	d->bytes[d->len++] = (uint8_t)byte;
}

static void put32(struct drawn *d, uint32_t v)
{
	memcpy(d->bytes + d->len, &v, 4);
	d->len += 4;
}

/* -- Memory operands --------------------------------------------------------------------- */

struct form {
	unsigned reg;            /* of ModRM, three bits */
	unsigned r_x_b;          /* as in REX: 4 R, 2 X, 1 B; what may be changed */
	bool extended;           /* registers 8 to 15 can be named */
	bool narrow;             /* 32-bit addresses: 67, or 32-bit code */
	bool vsib, must_mem, must_reg;
	uint64_t segment;        /* base that the override adds */
};

/* A base or index that the encoding can name. */
static unsigned usable(struct draw *g, const struct form *f, uint16_t set)
{
	return pick_of(g, f->extended ? set : set & 0xff);
}

static uint64_t value_of(const struct draw *g, const struct form *f, unsigned reg)
{
	uint64_t v = reg == X86_REG_NONE ? 0 : g->t->start.gpr[reg];

	return f->narrow ? (uint32_t)v : v;
}

static unsigned random_reg(struct draw *g, const struct form *f)
{
	return pick(g, f->extended ? 16 : 8);
}

static void choose_registers(struct draw *g, const struct form *f, unsigned *base,
			     unsigned *index)
{
	*base = usable(g, f, g->pointers & g->known);
	*index = X86_REG_NONE;
	if (!g->tame && chance(g, 8))
		*base = random_reg(g, f);
	if (chance(g, 35))
		*index = usable(g, f, g->small & g->known & 0xffef);
	if (*index == X86_REG_NONE && chance(g, 4))
		*index = random_reg(g, f);
	if (chance(g, 6))
		*base = X86_REG_NONE;
	if (f->vsib)
		*index = random_reg(g, f);
	if (*index == X86_RSP && !f->vsib)
		*index = X86_REG_NONE;
}

/* ModRM, SIB and displacement; returns the bits of r_x_b. */
static unsigned put_memory(struct draw *g, struct drawn *d, struct form *f)
{
	uint64_t target = target_draw(g, 16), disp;
	unsigned base, index, scale = pick(g, 4), reg = f->reg << 3, bits = 0;
	bool is_field = g->objects && !f->vsib;

	if (!f->vsib && !is_field && !g->t->is_32bit && chance(g, 12)) { /* RIP-relative */
		put(d, reg | 5);
		d->disp_at = d->len;
		d->target = near_draw(g, 16) - f->segment;
		put32(d, 0);
		return 0;
	}
	choose_registers(g, f, &base, &index);
	if (is_field) {
		base = usable(g, f, g->objects & g->known);
		index = X86_REG_NONE;
		if (base != X86_REG_NONE)
			target = g->object_at[base] + pick(g, 96);
	}
	disp = target - f->segment - value_of(g, f, base);
	if (!f->vsib)
		disp -= value_of(g, f, index) << scale;
	if (index != X86_REG_NONE)
		bits |= index >> 3 << 1;
	if (base == X86_REG_NONE) { /* disp32 alone, or with an index */
		put(d, reg | 4);
		put(d, scale << 6 | (index == X86_REG_NONE ? 4 : index & 7) << 3 | 5);
		put32(d, (uint32_t)disp);
		return bits;
	}
	bits |= base >> 3;
	if (index != X86_REG_NONE || (base & 7) == 4 || chance(g, 10)) {
		unsigned mod = disp == (uint64_t)(int8_t)disp ? 1 : 2;

		if (chance(g, 10) && (base & 7) != 5)
			mod = 0;
		put(d, mod << 6 | reg | 4);
		put(d, scale << 6 | (index == X86_REG_NONE ? 4 : index & 7) << 3 | (base & 7));
		if (mod == 1)
			put(d, (uint8_t)disp);
		else if (mod == 2)
			put32(d, (uint32_t)disp);
		return bits;
	}
	if (!is_field && chance(g, 15) && (base & 7) != 5) {
		put(d, reg | (base & 7));
	} else if (disp == (uint64_t)(int8_t)disp || (!is_field && chance(g, 10))) {
		put(d, 0x40 | reg | (base & 7));
		put(d, (uint8_t)disp);
	} else {
		put(d, 0x80 | reg | (base & 7));
		put32(d, (uint32_t)disp);
	}
	return bits;
}

/* ModRM and what follows; f->r_x_b is changed in X and B. */
static void put_operand(struct draw *g, struct drawn *d, struct form *f)
{
	bool mem = f->must_mem || (!f->must_reg && chance(g, 60));

	if (chance(g, 1))
		mem = !mem;
	f->reg = pick(g, 8);
	if (!mem) {
		put(d, 0xc0 | f->reg << 3 | pick(g, 8));
		return;
	}
	f->r_x_b = (f->r_x_b & 4) | put_memory(g, d, f);
}

/* What A0 to A3 have: an address as long as addresses are. */
static void put_offset(struct draw *g, struct drawn *d, const struct form *f)
{
	uint64_t at = target_draw(g, 8) - f->segment;

	put32(d, (uint32_t)at);
	if (!f->narrow)
		put32(d, (uint32_t)(at >> 32));
}

/* As many as any instruction has; often they are wasted, so they have to be cheap. */
static void put_immediates(struct draw *g, struct drawn *d)
{
	static const uint8_t edge[16] = {0, 1, 2, 0x1f, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0xff, 0, 0xff, 4, 8, 16, 64};
	uint64_t what = rng_next(&g->rng), plain = rng_next(&g->rng);

	for (unsigned i = 0; i < 8 && d->len < sizeof(d->bytes); i++, what >>= 8, plain >>= 8)
		put(d, what & 16 ? edge[what & 15] : (unsigned)plain & 0xff);
}

/* -- Prefixes ------------------------------------------------------------------------------- */

static void put_segment(struct draw *g, struct drawn *d, struct form *f)
{
	static const uint8_t others[] = {0x26, 0x2e, 0x36, 0x3e};

	if (chance(g, 5)) {
		put(d, 0x64);
		f->segment = g->t->start.fs;
	} else if (chance(g, 5)) {
		put(d, 0x65);
		f->segment = g->t->start.gs;
	} else if (chance(g, 2)) {
		put(d, others[pick(g, 4)]);
	}
	f->narrow = g->t->is_32bit;
	if (chance(g, g->t->is_32bit ? 1 : 5)) {
		put(d, 0x67);
		f->narrow = true;
	}
}

static void set_form(struct form *f, const struct oprow *row)
{
	f->must_mem = row->operands & (OPF_MEM_ONLY | OPF_VSIB);
	f->must_reg = row->operands & OPF_REG_ONLY;
	f->vsib = row->operands & OPF_VSIB;
}

/* -- Legacy encodings -------------------------------------------------------------------------- */

static const struct oprow *row_at(unsigned place)
{
	return op_index[place] ? &op_rows[op_index[place]] : NULL;
}

static unsigned draw_pp(struct draw *g)
{
	unsigned n = pick(g, 100);

	return n < 50 ? 0 : n < 72 ? 1 : n < 86 ? 2 : 3;
}

static void draw_legacy(struct draw *g, struct drawn *d, unsigned map)
{
	static const unsigned start[] = {OP_AT_1B, OP_AT_0F, OP_AT_0F38, OP_AT_0F3A};
	static const uint8_t pp_byte[] = {0, 0x66, 0xf3, 0xf2};
	struct form f = {.extended = !g->t->is_32bit};
	const struct oprow *row;
	unsigned op, pp, rex = 0, rex_at = 0;

	do {
		op = map == 0 && chance(g, 12) ? 0xd8 + pick(g, 8) : pick(g, 256);
		pp = map == 0 && chance(g, 60) ? 0 : draw_pp(g);
		row = row_at(start[map] + (op << 2 | pp));
	} while (!row);
	set_form(&f, row);
	put_segment(g, d, &f);
	if (chance(g, row->effects & OPE_LOCK ? 25 : 1))
		put(d, 0xf0);
	if (pp_byte[pp])
		put(d, pp_byte[pp]);
	if (pp > 1 && chance(g, 8))
		put(d, 0x66);
	if (!g->t->is_32bit) {
		rex = chance(g, 65) ? 0x40 | pick(g, 16) : 0;
		rex_at = d->len;
		put(d, rex);
	}
	if (map)
		put(d, 0x0f);
	if (map > 1)
		put(d, map == 2 ? 0x38 : 0x3a);
	put(d, op);
	if (map == 0 && (op & 0xfc) == 0xa0 && chance(g, 90))
		put_offset(g, d, &f);
	if (row->operands & OPF_MODRM) {
		f.r_x_b = rex & 7;
		put_operand(g, d, &f);
		if (f.r_x_b != (rex & 7))
			rex = (rex & 8) | 0x40 | f.r_x_b;
	}
	put_immediates(g, d);
	if (!rex && !g->t->is_32bit) { /* the byte kept free for it goes */
		memmove(d->bytes + rex_at, d->bytes + rex_at + 1, d->len - rex_at - 1);
		d->disp_at -= d->disp_at != 0;
	} else if (!g->t->is_32bit) {
		d->bytes[rex_at] = (uint8_t)rex;
	}
}

/* -- VEX and EVEX --------------------------------------------------------------------------------- */

static unsigned draw_length(struct draw *g, const struct oprow *row)
{
	unsigned l = pick(g, 3);
	uint64_t o = row->operands;

	if (o & OPF_LIG || !(o & (OPF_L128 | OPF_L256 | OPF_L512)) || chance(g, 2))
		return l;
	while (!(o & (OPF_L128 << l)))
		l = (l + 1) % 3;
	return l;
}

static void draw_vex(struct draw *g, struct drawn *d)
{
	struct form f = {.extended = !g->t->is_32bit};
	const struct oprow *row;
	unsigned map, op, pp, w, l, vvvv = 0, at, r_x_b;

	do {
		map = pick(g, 3);
		op = pick(g, 256);
		pp = pick(g, 4);
		w = pick(g, 2);
		row = row_at(OP_AT_VEX + map * OP_VEX_MAP + (op << 3 | pp << 1 | w));
	} while (!row);
	set_form(&f, row);
	l = draw_length(g, row) & 1;
	if (row->operands & OPF_NDS || row->operands >> OPF_GROUP_AT || chance(g, 2))
		vvvv = pick(g, row->operands & OPF_KVVVV || !f.extended ? 8 : 16);
	put_segment(g, d, &f);
	at = d->len;
	put(d, 0xc4);
	put(d, 0);
	put(d, w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
	put(d, op);
	f.r_x_b = f.extended ? pick(g, 8) : 0;
	if (row->operands & OPF_KREG)
		f.r_x_b &= 3;
	if (row->operands & OPF_MODRM)
		put_operand(g, d, &f);
	r_x_b = f.r_x_b;
	d->bytes[at + 1] = (uint8_t)((~r_x_b & 7) << 5 | (map + 1));
	put_immediates(g, d);
	if (map == 0 && !w && !(r_x_b & 3) && chance(g, 60)) { /* the short form */
		d->bytes[at] = 0xc5;
		d->bytes[at + 1] = (uint8_t)((d->bytes[at + 2] & 0x7f) | (r_x_b & 4 ? 0 : 0x80));
		memmove(d->bytes + at + 2, d->bytes + at + 3, d->len - at - 3);
		d->disp_at -= d->disp_at != 0;
	}
}

static void draw_evex(struct draw *g, struct drawn *d)
{
	struct form f = {.extended = !g->t->is_32bit};
	const struct oprow *row;
	unsigned map, op, pp, w, l, b, z, aaa, vvvv = 0, at, high = 0;

	do {
		map = pick(g, 6);
		op = pick(g, 256);
		pp = pick(g, 4);
		w = pick(g, 2);
		row = row_at(OP_AT_EVEX + map * OP_VEX_MAP + (op << 3 | pp << 1 | w));
	} while (!row);
	set_form(&f, row);
	l = draw_length(g, row);
	b = row->operands & (3ull << OPF_BC_AT | OPF_ER | OPF_SAE) && chance(g, 30);
	aaa = row->operands & (OPF_K | OPF_KREQ) && chance(g, 60) ? 1 + pick(g, 7) : 0;
	z = aaa && row->operands & OPF_Z && chance(g, 40);
	if (row->operands & OPF_NDS || row->operands >> OPF_GROUP_AT)
		vvvv = pick(g, f.extended ? 32 : 8);
	else if (f.vsib && f.extended)
		vvvv = pick(g, 2) << 4;
	if (f.extended && !(row->operands & OPF_KREG))
		high = pick(g, 2) << 4; /* R' */
	put_segment(g, d, &f);
	at = d->len;
	put(d, 0x62);
	put(d, 0);
	put(d, w << 7 | (~vvvv & 15) << 3 | 4 | pp);
	put(d, z << 7 | l << 5 | b << 4 | (vvvv & 16 ? 0 : 8) | aaa);
	put(d, op);
	f.r_x_b = f.extended ? pick(g, 8) : 0;
	if (row->operands & OPF_KREG)
		f.r_x_b &= 3;
	put_operand(g, d, &f);
	d->bytes[at + 1] =
		(uint8_t)((~f.r_x_b & 7) << 5 | (high ? 0 : 0x10) | (map + 1));
	put_immediates(g, d);
}

/* -- Choice ------------------------------------------------------------------------------------------ */

uint16_t insn_writes(const struct insn *in)
{
	unsigned set = in->gpr_w, rm = in->oreg != X86_REG_NONE ? in->oreg : in->rm;

	if (in->reg_w)
		set |= 1u << (in->f_reg == X86_F_GPR8 && !in->rex ? in->reg & 3 : in->reg);
	if (in->rm_w && !in->has_mem)
		set |= 1u << (in->f_rm == X86_F_GPR8 && !in->rex ? rm & 3 : rm);
	if (in->vvvv_w)
		set |= 1u << in->vvvv;
	return (uint16_t)set;
}

/* Sequences place these themselves, with targets that make sense. */
static bool is_transfer(const struct insn *in)
{
	switch (in->kind) {
	case X86_JMP_REL: case X86_JCC: case X86_CALL_REL: case X86_LOOP: case X86_JCXZ:
	case X86_RET: case X86_JMP_RM: case X86_CALL_RM:
		return true;
	default:
		return false;
	}
}

/* What always faults in ring 3, or is likely to. */
static bool is_wild(const struct insn *in)
{
	switch (in->kind) {
	case X86_UD: case X86_HLT: case X86_CLI: case X86_STI: case X86_MOV_CR: case X86_MOV_DR:
	case X86_RDMSR: case X86_WRMSR: case X86_IN: case X86_OUT: case X86_INS: case X86_OUTS:
	case X86_LGDT: case X86_LIDT: case X86_LLDT: case X86_LTR: case X86_LMSW: case X86_CLTS:
	case X86_INVLPG: case X86_INVPCID: case X86_INVD: case X86_WBINVD: case X86_SWAPGS:
	case X86_XSETBV: case X86_CLAC_STAC: case X86_INT_I: case X86_INT3: case X86_INT1:
	case X86_INTO: case X86_JMP_FAR_I: case X86_JMP_FAR_M: case X86_CALL_FAR_I:
	case X86_CALL_FAR_M: case X86_RETF: case X86_IRET: case X86_SYSRET: case X86_SYSEXIT:
	case X86_XSAVES: case X86_XRSTORS: case X86_MOVDIR: case X86_MONITOR: case X86_MWAIT:
	case X86_BOUND: case X86_RDPMC: case X86_LOAD_FAR: case X86_POP_SEG: case X86_MOV_R_SEG:
		return true;
	default:
		return false;
	}
}

static bool acceptable(struct draw *g, const struct drawn *d)
{
	const struct insn *in = &d->in;
	uint16_t w = insn_writes(in);

	if (excluded(in, g->t->is_32bit) || is_transfer(in))
		return false;
	if (w & g->kept || (g->kept & 1u << X86_RSP && in->kind == X86_ENTER))
		return false;
	if (w & g->pointers && chance(g, 80))
		return false;
	if (is_wild(in) && (g->tame || chance(g, in->kind == X86_UD ? 95 : 70)))
		return false;
	return true;
}

/* Prefixes that others make idle, or that mean nothing here; often too many. */
static void put_noise(struct draw *g, struct drawn *d)
{
	static const uint8_t idle[] = {0x26, 0x2e, 0x36, 0x3e, 0x66, 0x66, 0x67, 0xf2, 0xf3, 0x40};
	unsigned n = 1 + pick(g, 3), end = sizeof(d->bytes) - n;

	memmove(d->bytes + n, d->bytes, end);
	d->disp_at += d->disp_at ? n : 0;
	for (unsigned i = 0; i < n; i++) {
		d->bytes[i] = idle[pick(g, sizeof(idle))];
		if (d->bytes[i] == 0x40 && !g->t->is_32bit)
			d->bytes[i] |= pick(g, 16);
	}
}

static void draw_any(struct draw *g, struct drawn *d)
{
	unsigned what = pick(g, 100);

	*d = (struct drawn){0};
	if (what < 34)
		draw_legacy(g, d, 0);
	else if (what < 58)
		draw_legacy(g, d, 1);
	else if (what < 63)
		draw_legacy(g, d, 2);
	else if (what < 67)
		draw_legacy(g, d, 3);
	else if (what < 82)
		draw_vex(g, d);
	else
		draw_evex(g, d);
	if (chance(g, 3))
		put_noise(g, d);
}

bool insn_draw(struct draw *g, struct drawn *d, bool (*want)(const struct insn *in))
{
	enum x86_mode mode = g->t->is_32bit ? X86_MODE_32 : X86_MODE_64;

	for (unsigned tries = 0; tries < 4000; tries++) {
		draw_any(g, d);
		if (x86_decode(&d->in, d->bytes, 15, mode) <= 0)
			continue;
		d->len = d->in.len;
		if (d->in.base != X86_RIP || !d->in.has_mem)
			d->disp_at = 0;
		if ((want && !want(&d->in)) || !acceptable(g, d))
			continue;
		g->known &= (uint16_t)~insn_writes(&d->in);
		return true;
	}
	return false;
}
