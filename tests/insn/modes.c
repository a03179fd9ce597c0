/* SPDX-License-Identifier: MIT */
/*
 * Cases in modes that the host cannot run: real, virtual-8086, protected and compatibility mode with 16- and 32-bit
 * code, and segments with a base, a limit and a type.
 *
 * What an instruction does is the same in all modes once its operand's size and linear address are the same. So
 * the CPU is asked about a twin, 64-bit code:
 *
 *	in 16-bit code           81 46 fe 34 12        add word [bp - 2], 0x1234
 *	its twin                 66 67 81 04 25 .. 34 12   add word [SS's base + (bp - 2) % 65536], 0x1234
 *
 * and what the mode adds is said here, by the manual (SDM volume 3, chapter 5; volume 1, 3.3.7), independently of the
 * engine: offsets wrap around at 64 KiB or 4 GiB; an operand that is not inside the limit, or of whose kind the
 * segment does not permit accesses, is #GP or, with SS, #SS, without any effect; so is
 * code that does not lie inside CS, when it is fetched.
 *
 *	base      the linear address that is wanted, minus the offset: anything in 32 bits, so sums wrap, too
 *	offset    at 0, around the limit, around 64 KiB and 4 GiB, anywhere
 *	limit     where the operand ends, a byte less, a byte more, all; expand-down segments the other way round
 *	flat      half of the 32-bit cases have bases of 0, and most of their segments no limit: what is translated
 *	code      ends at the limit, a byte behind it, or is the last thing before it
 *
 * In virtual-8086 mode bases are 16 times selectors, so all of it lies in the first megabyte. In real mode there
 * is no paging; segments keep the bases of protected mode ("unreal" mode).
 */
#include "draw.h"

#include <string.h>

const uint64_t mode_length = 200000;
const char *const mode_names[MODES] = {"flat", "compatibility, 32-bit", "compatibility, 16-bit", "protected, 32-bit",
				       "protected, 16-bit", "virtual-8086", "real"};

static bool is_16bit(enum mode mode)
{
	return mode == COMPAT_16 || mode == PROTECTED_16 || mode >= VM86;
}

static bool has_types(enum mode mode)
{
	return mode < VM86;
}

/* -- The instruction and its forms --------------------------------------------------------------- */

/* VBLENDVPS and its like: the highest bit of the register in their immediate is for 64-bit code. */
static bool has_register_immediate(const struct insn *in)
{
	return in->enc == X86_VEX && in->map == X86_MAP_0F3A && in->op >= 0x4a && in->op <= 0x4c;
}

/* W makes a general register one of 64 bits, but only in 64-bit code. */
static bool is_wide(const struct insn *in)
{
	return in->enc != X86_LEGACY && in->rex & 8 && (in->f_reg == X86_F_GPR || in->f_vvvv == X86_F_GPR ||
						       in->gpr_r);
}

/* Whose form can be put together anew: an opcode, ModRM, immediates. */
static bool is_plain(const struct insn *in)
{
	return in->kind == X86_NATIVE && in->has_mem && in->has_modrm && in->mem_size &&
	       (in->simd || in->x87 || in->enc != X86_LEGACY || in->map <= X86_MAP_0F) &&
	       !(in->prefix & X86_PFX_LOCK) && !has_register_immediate(in) && !is_wide(in);
}

struct form {
	uint8_t bytes[32];
	unsigned len;
};

static void put(struct form *f, unsigned byte)
{
	f->bytes[f->len++] = (uint8_t)byte;
}

static void put_number(struct form *f, uint32_t v, unsigned len)
{
	for (; len; len--, v >>= 8)
		put(f, v & 0xff);
}

/* All before the opcode but what concerns addresses; 66 means an operand's size or another instruction. */
static void put_prefixes(struct form *f, const struct insn *in, bool code_is_16bit)
{
	bool small = in->prefix & X86_PFX_66;

	if (in->enc != X86_LEGACY)
		return;
	if (!in->simd && !in->x87 && code_is_16bit)
		small = !small;
	if (small)
		put(f, 0x66);
	if (in->prefix & X86_PFX_F2)
		put(f, 0xf2);
	if (in->prefix & X86_PFX_F3)
		put(f, 0xf3);
}

static void put_opcode(struct form *f, const struct insn *in, const uint8_t *bytes)
{
	unsigned at = in->modrm_at - 1;

	if (in->enc != X86_LEGACY)
		at -= in->vexlen;
	else if (in->map != X86_MAP_1B)
		at -= in->map == X86_MAP_0F ? 1 : 2;
	while (at < in->modrm_at)
		put(f, bytes[at++]);
}

static void put_immediate(struct form *f, const struct insn *in, const uint8_t *bytes)
{
	for (unsigned i = in->imm_at; in->imm_len && i < in->len; i++)
		put(f, bytes[i]);
}

static struct form make_twin(const struct insn *in, const uint8_t *bytes, uint32_t linear)
{
	struct form f = {.len = 0};

	put(&f, 0x67);
	put_prefixes(&f, in, false);
	put_opcode(&f, in, bytes);
	put(&f, (in->modrm & 0x38) | 4);
	put(&f, 0x25);
	put_number(&f, linear, 4);
	put_immediate(&f, in, bytes);
	return f;
}

/* Registers of 16-bit addresses; 6 is BP. */
static uint16_t sum_16(const struct start *s, unsigned rm)
{
	static const uint8_t regs[8][2] = {{X86_RBX, X86_RSI}, {X86_RBX, X86_RDI}, {X86_RBP, X86_RSI},
					   {X86_RBP, X86_RDI}, {X86_RSI, X86_REG_NONE},
					   {X86_RDI, X86_REG_NONE}, {X86_RBP, X86_REG_NONE},
					   {X86_RBX, X86_REG_NONE}};
	unsigned second = regs[rm][1];

	return (uint16_t)(s->gpr[regs[rm][0]] + (second == X86_REG_NONE ? 0 : s->gpr[second]));
}

/* An address that comes to `offset`; the segment that goes with it is *by_default. */
static void put_address(struct draw *g, struct form *f, unsigned reg, uint32_t offset, bool wide, bool is_disp8_scaled,
			unsigned *by_default)
{
	const struct start *s = &g->t->start;
	unsigned rm = pick(g, 8), form = pick(g, 3);

	*by_default = X86_DS;
	if (form == 0) { /* a displacement alone */
		put(f, reg << 3 | (wide ? 5 : 6));
		put_number(f, offset, wide ? 4 : 2);
		return;
	}
	if (!wide) {
		int16_t disp = (int16_t)(offset - sum_16(s, rm));

		*by_default = rm == 2 || rm == 3 || rm == 6 ? X86_SS : X86_DS;
		if (disp == (int8_t)disp && !is_disp8_scaled) {
			put(f, 0x40 | reg << 3 | rm);
			put(f, (uint8_t)disp);
		} else {
			put(f, 0x80 | reg << 3 | rm);
			put_number(f, (uint16_t)disp, 2);
		}
		return;
	}
	*by_default = rm == X86_RBP || rm == X86_RSP ? X86_SS : X86_DS;
	if (form == 1 && rm != X86_RSP) {
		put(f, 0x80 | reg << 3 | rm);
		put_number(f, offset - (uint32_t)s->gpr[rm], 4);
	} else {
		unsigned index = pick(g, 8), scale = pick(g, 4);
		uint32_t sum = (uint32_t)s->gpr[rm];

		if (index != X86_RSP)
			sum += (uint32_t)s->gpr[index] << scale;
		put(f, 0x80 | reg << 3 | 4);
		put(f, scale << 6 | index << 3 | rm);
		put_number(f, offset - sum, 4);
	}
}

static struct form make_form(struct draw *g, const struct insn *in, const uint8_t *bytes, uint32_t offset,
			     bool wide, unsigned *seg)
{
	static const uint8_t prefix[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65}; /* by enum x86_seg */
	bool small_code = is_16bit(g->t->other.mode);
	struct form f = {.len = 0}, address = {.len = 0};
	unsigned by_default;

	put_address(g, &address, in->modrm >> 3 & 7, offset, wide, in->enc == X86_EVEX, &by_default);
	*seg = chance(g, 50) ? by_default : pick(g, 6);
	if (*seg != by_default)
		put(&f, prefix[*seg]);
	if (wide == small_code)
		put(&f, 0x67);
	put_prefixes(&f, in, small_code);
	put_opcode(&f, in, bytes);
	for (unsigned i = 0; i < address.len; i++)
		put(&f, address.bytes[i]);
	put_immediate(&f, in, bytes);
	return f;
}

/* Is it the same instruction, to the decoder? */
static bool is_form_of(const struct form *f, const struct insn *in, enum x86_mode mode)
{
	struct insn now;

	return f->len <= 15 && x86_decode(&now, f->bytes, f->len, mode) == (int)f->len && now.row == in->row &&
	       now.kind == in->kind && now.mem_size == in->mem_size &&
	       (in->simd || in->x87 || now.opsize == in->opsize);
}

/* -- Segments ------------------------------------------------------------------------------------- */

enum { READABLE_CODE = 11, ONLY_CODE = 9, WRITABLE = 3, READ_ONLY = 1, DOWN = 4 };

/* Inside the limit? Bytes of an operand do not wrap around, only its beginning does. */
static bool is_inside(const struct segment *s, uint32_t from, unsigned len)
{
	uint64_t last = (uint64_t)from + len - 1;

	if (!(s->type & 8) && s->type & DOWN)
		return from > s->limit && last <= (s->db ? 0xffffffff : 0xffff);
	return last <= s->limit;
}

static bool permits(const struct segment *s, const struct insn *in)
{
	bool code = s->type & 8, second = s->type & 2; /* readable code, writable data */

	if (s->unusable)
		return false;
	return code ? second && !in->mem_w : second || !in->mem_w;
}

/* A limit around what is needed; 64 KiB in the modes of the 8086. */
static void draw_limit(struct draw *g, struct segment *s, uint32_t offset, unsigned size)
{
	int64_t end = (int64_t)offset + size - 1 + pick(g, 3) - 1;

	s->limit = ~0u;
	if (g->t->other.mode >= VM86) {
		s->limit = 0xffff;
	} else if (s->type & DOWN && !(s->type & 8)) {
		s->limit = offset ? offset - 1 + pick(g, 3) - 1 : 0;
		if (s->limit > offset + 1)
			s->limit = 0;
	} else if (chance(g, 60) && end >= 0 && end <= 0xffffffff) {
		s->limit = (uint32_t)end;
		if (s->limit > 0xfffff) /* in pages */
			s->limit |= 0xfff;
	}
}

static void draw_segment(struct draw *g, unsigned seg, uint32_t offset, uint32_t linear, unsigned size)
{
	static const uint8_t types[] = {WRITABLE, WRITABLE, WRITABLE, READ_ONLY, WRITABLE | DOWN,
					WRITABLE | DOWN, READ_ONLY | DOWN, READABLE_CODE, ONLY_CODE};
	struct segment *s = &g->t->other.seg[seg];

	s->base = linear - offset;
	if (g->t->other.mode == VM86)
		s->selector = (uint16_t)(s->base >> 4);
	if (has_types(g->t->other.mode)) {
		s->type = types[pick(g, seg == X86_SS ? 3 : sizeof(types))];
		s->db = chance(g, 70);
		s->unusable = seg != X86_SS && chance(g, 3);
	}
	draw_limit(g, s, offset, size);
}

/* -- A case ---------------------------------------------------------------------------------------- */

static uint32_t draw_offset(struct draw *g, unsigned size, bool wide)
{
	uint32_t top = wide && chance(g, 50) ? 0 : 0x10000; /* 4 GiB */

	switch (pick(g, 6)) {
	case 0: return pick(g, 3);
	case 1: case 2: return (top - size + pick(g, 5) - 2) & (wide ? 0xffffffff : 0xffff);
	case 3: return (top - pick(g, 2 * size)) & (wide ? 0xffffffff : 0xffff);
	default: return (uint32_t)rng_next(&g->rng) & (wide && chance(g, 50) ? 0xffffffff : 0xffff);
	}
}

static uint32_t draw_linear(struct draw *g, unsigned size)
{
	uint32_t around = (uint32_t)layouts[g->t->layout].around, at;

	if (g->t->other.mode == REAL) /* no faults of pages, no holes */
		return DATA + pick(g, 2 * PAGE - size);
	if (g->t->other.mode == VM86)
		return chance(g, 80) ? around + pick(g, 2 * PAGE - size) : around + 2 * PAGE - pick(g, 2 * size);
	at = (uint32_t)target_draw(g, size);
	return at > -size ? -size : at; /* the twin would go on above 4 GiB */
}

static void place_code(struct draw *g, const struct form *form, const struct form *twin)
{
	struct test_case *t = g->t;
	uint64_t code = layouts[t->layout].code;
	struct segment *cs = &t->other.seg[X86_CS];
	bool at_end = t->other.mode != VM86 && chance(g, 30);
	bool flat = t->other.flat;

	t->n_spans = 2;
	t->n_pieces = 1;
	t->span[0] = (struct span){.at = code + 2 * PAGE + pick(g, PAGE - 64), .len = twin->len};
	t->span[1] = (struct span){.at = code + pick(g, 2 * PAGE - 64), .len = form->len + 1};
	memcpy(t->span[0].bytes, twin->bytes, twin->len);
	memcpy(t->span[1].bytes, form->bytes, form->len);
	t->span[1].bytes[form->len] = t->other.mode == REAL ? 0xf4 : 0xcc; /* hlt, or int3 */
	t->start.rip = t->span[0].at;
	t->piece[0] = (struct piece){.at = t->start.rip, .len = (uint8_t)twin->len};
	t->other.len = (uint8_t)form->len;
	t->other.ip = flat ? (uint32_t)t->span[1].at : (uint32_t)rng_next(&g->rng) % 0xff00;
	if (t->other.mode == VM86)
		t->other.ip = (uint32_t)t->span[1].at % (PAGE - 32) & ~15u;
	cs->limit = flat || (has_types(t->other.mode) && chance(g, 50)) ? ~0u : 0xffff;
	if (at_end && is_16bit(t->other.mode)) { /* nothing fits behind 64 KiB */
		cs->limit = 0xffff;
		t->other.ip = 0x10000 - form->len + pick(g, 2);
		if (t->other.ip > 0xffff) /* no place for IP */
			t->other.ip = 0xffff;
	} else if (at_end) {
		cs->limit = t->other.ip + form->len - 1 - pick(g, 2);
	}
	if (t->other.mode == VM86)
		cs->selector = (uint16_t)((t->span[1].at - t->other.ip) >> 4);
	if (t->other.mode == VM86 && t->span[1].at % 16) /* bases are multiples of 16 */
		t->other.ip += (uint32_t)t->span[1].at % 16;
	cs->base = (uint32_t)t->span[1].at - t->other.ip;
	if (!is_inside(cs, t->other.ip, form->len)) {
		t->other.verdict = REFUSED;
		t->other.vector = 13;
	} else if (t->other.verdict == EXECUTED && !is_inside(cs, t->other.ip + form->len, 1)) {
		t->other.verdict = AT_LIMIT;
	}
}

static void draw_start(struct draw *g, enum mode mode)
{
	struct test_case *t = g->t;

	t->is_32bit = true; /* for eight registers of 32 bits */
	t->other.mode = mode;
	t->layout = mode == VM86 ? AT_0 : HOME;
	state_draw(g);
	t->start.gpr[X86_RSP] = 0x800; /* REAL pushes there */
	t->start.flags &= ~(uint64_t)0x400;
	t->other.flat = !is_16bit(mode) && chance(g, 50);
	for (unsigned i = 0; i < 6; i++)
		t->other.seg[i] = (struct segment){
			.base = t->other.flat ? 0 : i == X86_SS ? STACK : DATA, .limit = mode >= VM86 ? 0xffff : ~0u, .db = true,
			.type = i == X86_CS ? READABLE_CODE : WRITABLE,
			.selector = mode == VM86 ? (0x18000 >> 4) : i == X86_CS ? 0x23 : 0x2b};
	if (mode == VM86)
		for (unsigned i = 0; i < 6; i++)
			t->other.seg[i].base = 0x18000;
	t->other.seg[X86_CS].db = !is_16bit(mode);
	if (mode == REAL)
		t->other.seg[X86_CS].db = false;
}

static bool draw_forms(struct draw *g, struct form *form, struct form *twin)
{
	enum mode mode = g->t->other.mode;
	struct other *o = &g->t->other;
	uint32_t offset, linear;
	struct drawn d;
	unsigned seg;
	bool wide = chance(g, is_16bit(mode) ? 35 : 80);

	if (!insn_draw(g, &d, is_plain) || (mode >= VM86 && d.in.enc != X86_LEGACY))
		return false;
	if (mode == REAL && insn_writes(&d.in) >> X86_RSP & 1) /* a fault wants a stack */
		return false;
	offset = draw_offset(g, d.in.mem_size, wide);
	linear = draw_linear(g, d.in.mem_size);
	if (o->flat) {
		wide = true;
		offset = linear;
	}
	if (mode == VM86) {
		if (offset > linear)
			offset %= linear;
		offset = (offset & ~15u) | (linear & 15); /* what a selector cannot say */
		if (offset > linear)
			return false;
	}
	*form = make_form(g, &d.in, d.bytes, offset, wide, &seg);
	*twin = make_twin(&d.in, d.bytes, linear);
	if (seg == X86_CS || (mode == REAL && seg == X86_SS)) /* their bases are the code's, and the stack's */
		return false;
	if (!o->flat || seg >= X86_FS || chance(g, 30))
		draw_segment(g, seg, offset, linear, d.in.mem_size);
	if (!permits(&o->seg[seg], &d.in) || !is_inside(&o->seg[seg], offset, d.in.mem_size)) {
		o->verdict = REFUSED;
		o->vector = seg == X86_SS ? 12 : 13;
	}
	return is_form_of(form, &d.in, is_16bit(mode) ? X86_MODE_16 : X86_MODE_32) &&
	       is_form_of(twin, &d.in, X86_MODE_64);
}

bool mode_draw(struct test_case *t, uint64_t seed, uint64_t number)
{
	struct draw g = {.rng = rng_for(seed, number), .t = t};
	struct form form, twin;

	memset(t, 0, offsetof(struct test_case, vectors));
	t->number = number;
	t->template = number / 64 % TEMPLATES;
	draw_start(&g, 1 + number / 256 % (MODES - 1));
	for (unsigned tries = 0; tries < 20; tries++) {
		t->other.verdict = EXECUTED;
		if (!draw_forms(&g, &form, &twin))
			continue;
		place_code(&g, &form, &twin);
		t->is_32bit = false;
		t->start.cs = 0x33; /* the twin's */
		t->start.sel_ds = t->start.sel_es = t->start.sel_fs = t->start.sel_gs = 0;
		return true;
	}
	return false;
}

void mode_expect(const struct test_case *t, struct outcome *o)
{
	bool has_run = o->vector == 3;

	bool is_open = o->vector == 6 || o->vector == 7 || o->vector == 16 ||
		       (o->vector == 13 && t->other.vector == 12); /* not aligned, too */

	if (t->other.verdict == REFUSED && is_open) {
		o->status = UNDECIDED;
	} else if (t->other.verdict == REFUSED) {
		*o = (struct outcome){.status = RAN, .vector = t->other.vector, .rip = t->start.rip,
				      .cs = t->start.cs, .ss = t->start.ss, .flags = t->start.flags | 0x10000,
				      .fs = t->start.fs, .gs = t->start.gs};
		memcpy(o->gpr, t->start.gpr, sizeof(o->gpr));
		memcpy(o->vectors, t->vectors, sizeof(o->vectors));
		vectors_normalize(o->vectors);
	} else if (t->other.verdict == AT_LIMIT && has_run) {
		o->vector = 13;
		o->rip--;
		o->flags |= 0x10000;
	}
}
