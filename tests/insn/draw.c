/* SPDX-License-Identifier: MIT */
/*
 * Random cases: sequences of instructions, and idioms in which a translator can go wrong.
 *
 *	plain       any instruction
 *	liveness    one that sets flags, one that touches memory, one that reads flags
 *	fields      accesses through a few registers in turn, with small distances
 *	moving      the same through a register that other instructions change in between
 *	masked      one whose operand lies across an edge, under a mask made for it (draw_mask.c)
 *	carry       adc, sbb, adcx and adox in a row, through memory
 *	branch      a conditional or other jump or call forward, over the next few
 *	indirect    the same through a register or memory
 *	loop        a counter around a few others
 *	string      with or without REP
 *	stack       push, pop and relatives
 *	rewrite     a store into an instruction that comes later
 *	excursion   a call into another page
 *	IRET        to a place nearby
 *
 * Jumps lead forward (or back in a loop whose counter nothing else writes), so most cases end.
 * Their displacements are filled in when all positions are known.
 */
#include "draw.h"

#include <string.h>

#define LABELS 24

struct fixup {
	unsigned at, size;       /* of a displacement, in the span */
	unsigned label;          /* of the target */
	bool absolute;           /* an address instead */
};

struct sequence {
	struct draw g;
	struct span *span;
	unsigned n_labels, label_at[LABELS];
	unsigned n_fixups;
	struct fixup fixup[LABELS];
	unsigned open;           /* jumps forward: labels that wait for a place ... */
	unsigned wait[LABELS];   /* ... in so many items */
	unsigned depth;
};

/* -- Emission ------------------------------------------------------------------------------ */

static bool has_room(const struct sequence *q)
{
	return q->span->len + 40 < sizeof(q->span->bytes) && q->g.t->n_pieces + 6 < PIECES &&
	       q->n_labels + 4 < LABELS && q->n_fixups + 4 < LABELS;
}

static void add(struct sequence *q, const uint8_t *bytes, unsigned len)
{
	struct test_case *t = q->g.t;

	t->piece[t->n_pieces++] =
		(struct piece){.at = q->span->at + q->span->len, .len = (uint8_t)len};
	memcpy(q->span->bytes + q->span->len, bytes, len);
	q->span->len += len;
}

#define ADD(q, ...)                                                  \
	add(q, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void add_drawn(struct sequence *q, const struct drawn *d)
{
	unsigned at = q->span->len;
	uint32_t disp;

	add(q, d->bytes, d->len);
	if (!d->disp_at)
		return;
	disp = (uint32_t)(d->target - (q->span->at + q->span->len));
	memcpy(q->span->bytes + at + d->disp_at, &disp, 4);
}

/* A displacement or address of `size` bytes at the end of what was added last. */
static void add_fixup(struct sequence *q, unsigned size, unsigned label, bool absolute)
{
	q->fixup[q->n_fixups++] = (struct fixup){
		.at = q->span->len - size, .size = size, .label = label, .absolute = absolute};
}

static void resolve(struct sequence *q)
{
	for (unsigned i = 0; i < q->n_fixups; i++) {
		const struct fixup *f = &q->fixup[i];
		int64_t v = (int64_t)q->label_at[f->label] - (f->at + f->size);

		if (f->absolute)
			v = (int64_t)(q->span->at + q->label_at[f->label]);
		if (f->size == 1 && v != (int8_t)v)
			v = 0;
		memcpy(q->span->bytes + f->at, &v, f->size);
	}
}

static unsigned label_here(struct sequence *q)
{
	q->label_at[q->n_labels] = q->span->len;
	q->wait[q->n_labels] = 0;
	return q->n_labels++;
}

/* A label that comes after a few more items. */
static unsigned label_ahead(struct sequence *q)
{
	q->wait[q->n_labels] = 1 + pick(&q->g, 3);
	q->label_at[q->n_labels] = ~0u;
	return q->n_labels++;
}

static void item_done(struct sequence *q)
{
	for (unsigned i = 0; i < q->n_labels; i++)
		if (q->wait[i] && --q->wait[i] == 0)
			q->label_at[i] = q->span->len;
}

static void place_all(struct sequence *q)
{
	for (unsigned i = 0; i < q->n_labels; i++) {
		if (q->label_at[i] == ~0u)
			q->label_at[i] = q->span->len;
		q->wait[i] = 0;
	}
}

/* -- What to draw -------------------------------------------------------------------------------- */

static bool sets_flags(const struct insn *in)
{
	return in->flags_w && in->kind == X86_NATIVE;
}

static bool touches_memory(const struct insn *in)
{
	return !in->flags_touch && ((in->has_mem && in->mem_size) || in->kind == X86_PUSH_R ||
				    in->kind == X86_POP_R || in->kind == X86_LEAVE);
}

static bool reads_flags(const struct insn *in)
{
	return in->flags_r != 0;
}

static bool carries(const struct insn *in)
{
	if (in->enc != X86_LEGACY)
		return false;
	if (in->map == X86_MAP_0F38)
		return in->op == 0xf6;
	return in->map == X86_MAP_1B && (in->op < 0x40 ? (in->op & 0x30) == 0x10 && (in->op & 7) < 6
						       : (in->op & 0xfc) == 0x80 &&
								 (in->reg & 6) == 2);
}

static bool is_string(const struct insn *in)
{
	return in->kind >= X86_MOVS && in->kind <= X86_SCAS;
}

static bool is_stack(const struct insn *in)
{
	return in->kind >= X86_PUSH_R && in->kind <= X86_LEAVE;
}

static bool is_rotate_by_cl(const struct insn *in)
{
	return in->enc == X86_LEGACY && ((in->map == X86_MAP_1B && (in->op & 0xfe) == 0xd2) ||
					 (in->map == X86_MAP_0F && (in->op & 0xf7) == 0xa5));
}

static bool is_shift(const struct insn *in)
{
	if (in->enc != X86_LEGACY)
		return false;
	return in->map == X86_MAP_1B ? (in->op & 0xfe) == 0xc0
				     : in->map == X86_MAP_0F && (in->op & 0xf7) == 0xa4;
}

/* One that may be rewritten. Not a shift's count: flags that no instruction read before the store
 * are gone when the new count of 0 keeps them; ERRATA has this. */
static bool has_immediate(const struct insn *in)
{
	return in->kind == X86_NATIVE && in->imm_len && in->len - in->imm_at == in->imm_len &&
	       !is_shift(in);
}

static bool add_one(struct sequence *q, bool (*want)(const struct insn *in))
{
	struct drawn d;

	if (!has_room(q) || !insn_draw(&q->g, &d, want))
		return false;
	add_drawn(q, &d);
	return true;
}

/* -- Items ------------------------------------------------------------------------------------------- */

static void plain(struct sequence *q)
{
	add_one(q, NULL);
}

static void liveness(struct sequence *q)
{
	add_one(q, sets_flags);
	for (unsigned n = 1 + pick(&q->g, 2); n; n--)
		add_one(q, touches_memory);
	add_one(q, reads_flags);
}

static void fields(struct sequence *q)
{
	struct draw *g = &q->g;

	for (unsigned n = 2 + pick(g, 2); n; n--) {
		unsigned reg = pick_of(g, g->pointers & g->known);

		if (reg == X86_REG_NONE)
			return;
		g->objects |= (uint16_t)(1u << reg);
		g->object_at[reg] = reg == X86_RSP ? g->t->start.gpr[reg] - 32 :
						     target_draw(g, 128);
	}
	for (unsigned n = 4 + pick(g, 5); n; n--)
		add_one(q, touches_memory);
	g->objects = 0;
}

static unsigned free_register(struct sequence *q);

/* -- A base register that changes between accesses ------------------------------------------ */

static uint16_t the_bases;
static unsigned the_base;

static bool writes_the_base(const struct insn *in)
{
	return (insn_writes(in) & the_bases) == 1u << the_base;
}

/* mov base, a place in the middle of some page, or where two meet */
static void set_base(struct sequence *q, unsigned base)
{
	static const uint32_t areas[] = {DATA, DATA + PAGE, STACK, STACK + PAGE};
	unsigned from = chance(&q->g, 25) ? 0 : 256, len = from ? PAGE - 512 : 64;
	uint32_t at = areas[from ? pick(&q->g, 4) : 1 + pick(&q->g, 2) * 2] - 32 + from +
		      pick(&q->g, len);
	uint8_t b[6] = {0x41, (uint8_t)(0xb8 | (base & 7))};

	memcpy(b + 2, &at, 4);
	add(q, base & 8 ? b : b + 1, base & 8 ? 6 : 5);
	q->g.known &= (uint16_t)~(1u << base);
}

/* op reg, [base + a little], or the other way round. safe: no store, nobody knows where to */
static void access_through(struct sequence *q, unsigned base, bool safe)
{
	static const uint8_t forms[][3] = { /* with reg: prefix, 0F, opcode; the first six only read */
		{0, 0, 0x8b}, {0, 0, 0x8a}, {0, 0, 0x33}, {0, 0, 0x39}, {0, 0x0f, 0xb6},
		{0, 0x0f, 0x10}, {0, 0x0f, 0x11}, {0, 0x0f, 0xc1}, {0, 0, 0x89}, {0, 0, 0x88},
		{0, 0, 0x01}, {0x66, 0, 0x89}, {0, 0, 0xff},
	};
	struct draw *g = &q->g;
	const uint8_t *f = forms[pick(g, safe ? 6 : sizeof(forms) / sizeof(forms[0]))];
	unsigned reg = free_register(q), n = 0;
	uint8_t b[12];

	if (reg == X86_REG_NONE || the_bases >> reg & 1)
		return;
	if (f[0])
		b[n++] = f[0];
	b[n] = (uint8_t)(0x40 | pick(g, 2) << 3 | reg >> 3 << 2 | base >> 3);
	n += b[n] != 0x40;
	if (f[1])
		b[n++] = f[1];
	b[n++] = f[2];
	b[n++] = (uint8_t)(0x40 | (f[2] == 0xff ? 0 : reg & 7) << 3 | (base & 7));
	if ((base & 7) == 4)
		b[n++] = 0x24;
	b[n++] = (uint8_t)(pick(g, 96) - 48);
	add(q, b, n);
	g->known &= (uint16_t)~(1u << reg);
}

/* What moves the base by a little, or to the same place in another page. */
static void change_base(struct sequence *q, unsigned base)
{
	struct draw *g = &q->g;
	unsigned low = base & 7, b = base >> 3, w = chance(g, 70) ? 8 : 0;
	unsigned digit = chance(g, 50) ? 0 : 5 + pick(g, 2), modrm = 0xc0 | digit << 3 | low;
	uint8_t by = (uint8_t)(pick(g, 128) - 64);

	switch (pick(g, 12)) {
	case 0: case 1: /* add, sub, xor; with 32 bits, 16, 8 */
		ADD(q, (uint8_t)(0x40 | w | b), 0x83, (uint8_t)modrm, by);
		break;
	case 2: ADD(q, (uint8_t)(0x40 | w | b), 0x81, (uint8_t)modrm, by, 1, 0, 0); break;
	case 3: ADD(q, 0x66, (uint8_t)(0x40 | b), 0x83, (uint8_t)modrm, by); break;
	case 4: ADD(q, (uint8_t)(0x40 | b), 0x80, (uint8_t)modrm, by); break;
	case 5: case 6: /* lea base, [base + by]; with a 32-bit address */
		ADD(q, (uint8_t)(chance(g, 20) ? 0x67 : 0x3e), (uint8_t)(0x40 | w | b * 5), 0x8d,
		    (uint8_t)(0x44 | low << 3), (uint8_t)(0x20 | low), by);
		break;
	case 7: /* inc, dec */
		ADD(q, (uint8_t)(0x40 | w | b), 0xff, (uint8_t)(0xc0 | pick(g, 2) << 3 | low));
		break;
	case 8: ADD(q, (uint8_t)(0x40 | b), (uint8_t)(0xb0 | low), by); break; /* mov r8, by */
	case 9: /* mov ah, .. */
		if (base < 4)
			ADD(q, (uint8_t)(0xb4 | low), (uint8_t)pick(g, 32));
		break;
	case 10: /* xor base, the distance of DATA and STACK */
		ADD(q, (uint8_t)(0x48 | b), 0x81, (uint8_t)(0xf0 | low), 0, 0x80, 0, 0);
		break;
	default: ADD(q, (uint8_t)(0x40 | b), 0x0f, 0x90, (uint8_t)(0xc0 | low)); break; /* seto */
	}
}

/* Some instruction that changes it: an access that follows will often fault. */
static void spoil_base(struct sequence *q, unsigned base)
{
	the_base = base;
	if (!add_one(q, writes_the_base) || !has_room(q))
		return;
	access_through(q, base, true);
	set_base(q, base);
}

static void moving(struct sequence *q)
{
	struct draw *g = &q->g;
	uint16_t others = (uint16_t)~(g->kept | 1u << X86_RSP);
	unsigned base[2], n;

	base[0] = !(g->kept >> X86_RSP & 1) && chance(g, 15) ? X86_RSP : pick_of(g, others);
	base[1] = pick_of(g, others);
	if (g->t->is_32bit || base[1] == X86_REG_NONE || !has_room(q))
		return;
	the_bases = (uint16_t)(1u << base[0] | 1u << base[1]);
	set_base(q, base[0]);
	set_base(q, base[1]);
	for (n = 3 + pick(g, 8); n && has_room(q); n--) {
		unsigned b = base[chance(g, 30)], what = pick(g, 100);

		if (what < 60)
			access_through(q, b, false);
		else if (what < 80)
			change_base(q, b);
		else if (what < 90)
			spoil_base(q, b);
		else
			ADD(q, (uint8_t)(0x70 | pick(g, 16)), 0);
	}
}

static bool is_maskmov(const struct insn *in)
{
	return in->kind == X86_MASKMOV;
}

static void masked(struct sequence *q)
{
	struct draw *g = &q->g;
	unsigned reg = pick_of(g, g->pointers & g->known & (g->t->is_32bit ? 0xff : 0xffff));
	struct drawn d;

	if (!has_room(q))
		return;
	if (!(g->kept >> X86_RDI & 1) && chance(g, 8) && insn_draw(g, &d, is_maskmov)) {
		uint32_t at = mask_bytes(g, &d.in);
		uint8_t mov[5] = {0xb8 | X86_RDI};

		memcpy(mov + 1, &at, 4);
		add(q, mov, 5);
		g->known &= (uint16_t)~(1u << X86_RDI);
		add_drawn(q, &d);
		return;
	}
	if (reg == X86_REG_NONE)
		return;
	g->objects = (uint16_t)(1u << reg);
	g->object_at[reg] = mask_target(g);
	if (insn_draw(g, &d, is_masked)) {
		mask_draw(g, &d.in);
		add_drawn(q, &d);
	}
	g->objects = 0;
}

static void carry(struct sequence *q)
{
	for (unsigned n = 2 + pick(&q->g, 3); n; n--)
		add_one(q, carries);
}

static void rotate(struct sequence *q)
{
	if (!(q->g.kept & 2) && pick(&q->g, 2)) {
		ADD(q, 0xb1, (uint8_t)(pick(&q->g, 3) ? 0 : 32)); /* mov cl, imm */
		q->g.known &= (uint16_t)~2u;
	}
	add_one(q, sets_flags);
	add_one(q, is_rotate_by_cl);
	add_one(q, reads_flags);
}

static void string(struct sequence *q)
{
	add_one(q, is_string);
}

static void stack(struct sequence *q)
{
	for (unsigned n = 1 + pick(&q->g, 3); n; n--)
		add_one(q, is_stack);
}

static void branch(struct sequence *q)
{
	struct draw *g = &q->g;
	unsigned to = label_ahead(q), what = pick(g, 100), cc = pick(g, 16);

	if (what < 45) {
		ADD(q, (uint8_t)(0x70 | cc), 0);
		add_fixup(q, 1, to, false);
	} else if (what < 70) {
		ADD(q, 0x0f, (uint8_t)(0x80 | cc), 0, 0, 0, 0);
		add_fixup(q, 4, to, false);
	} else if (what < 78) {
		ADD(q, 0xeb, 0);
		add_fixup(q, 1, to, false);
	} else if (what < 83) {
		ADD(q, 0xe9, 0, 0, 0, 0);
		add_fixup(q, 4, to, false);
	} else if (what < 92 || g->kept & 2) {
		ADD(q, 0xe8, 0, 0, 0, 0);
		add_fixup(q, 4, to, false);
	} else { /* LOOPNE, LOOPE, LOOP, JrCXZ */
		if (chance(g, 20)) {
			ADD(q, 0x67, (uint8_t)(0xe0 | (cc & 3)), 0);
		} else {
			ADD(q, (uint8_t)(0xe0 | (cc & 3)), 0);
		}
		add_fixup(q, 1, to, false);
		g->known &= (uint16_t)~2u;
	}
}

/* Are there labels that do not fit into 32 bits? */
static bool is_far(const struct sequence *q)
{
	return layouts[q->g.t->layout].code + CODE_PAGES * PAGE > 1ull << 32;
}

/* mov reg, label */
static void load_label(struct sequence *q, unsigned reg, unsigned label)
{
	uint8_t op = (uint8_t)(0xb8 | (reg & 7));

	if (is_far(q))
		ADD(q, (uint8_t)(0x48 | reg >> 3), op, 0, 0, 0, 0, 0, 0, 0, 0);
	else if (reg & 8)
		ADD(q, 0x41, op, 0, 0, 0, 0);
	else
		ADD(q, op, 0, 0, 0, 0);
	add_fixup(q, is_far(q) ? 8 : 4, label, true);
	q->g.known &= (uint16_t)~(1u << reg);
}

/* push label; reg may be used */
static void push_label(struct sequence *q, unsigned reg, unsigned label)
{
	if (!is_far(q)) {
		ADD(q, 0x68, 0, 0, 0, 0);
		add_fixup(q, 4, label, true);
		return;
	}
	load_label(q, reg, label);
	ADD(q, (uint8_t)(0x40 | reg >> 3), (uint8_t)(0x50 | (reg & 7)));
}

/* jmp or call reg */
static void transfer_reg(struct sequence *q, unsigned reg)
{
	unsigned modrm = 0xc0 | (chance(&q->g, 50) ? 4 : 2) << 3 | (reg & 7);

	if (reg & 8)
		ADD(q, 0x41, 0xff, (uint8_t)modrm);
	else
		ADD(q, 0xff, (uint8_t)modrm);
}

static unsigned free_register(struct sequence *q)
{
	uint16_t all = q->g.t->is_32bit ? 0xff : 0xffff;

	return pick_of(&q->g, all & ~(q->g.kept | q->g.pointers | 1u << X86_RSP));
}

static void indirect(struct sequence *q)
{
	struct draw *g = &q->g;
	unsigned to = label_ahead(q), reg = free_register(q), what = pick(g, 3);

	if (reg == X86_REG_NONE)
		return;
	if (what == 0) {
		load_label(q, reg, to);
		transfer_reg(q, reg);
	} else if (what == 1) { /* push label; ret */
		push_label(q, reg, to);
		if (chance(g, 70))
			ADD(q, 0xc3);
		else
			ADD(q, 0xc2, 8, 0);
	} else { /* store the label, jump through it */
		uint32_t at = DATA + pick(g, 2 * PAGE - 8);
		uint8_t b[7] = {0xff, 0x24, 0x25};

		if (g->t->is_32bit && reg > 7)
			return;
		load_label(q, reg, to);
		memcpy(b + 3, &at, 4);
		b[1] = (uint8_t)(4 | (reg & 7) << 3);
		{ /* mov [at], reg */
			uint8_t s[8] = {(uint8_t)(0x48 | (reg & 8) >> 1), 0x89, b[1], 0x25};

			memcpy(s + 4, &at, 4);
			if (g->t->is_32bit)
				add(q, s + 1, 7);
			else
				add(q, s, 8);
		}
		b[1] = (uint8_t)(4 | (chance(g, 50) ? 4 : 2) << 3);
		add(q, b, 7);
	}
}

/* A store to the immediate of an instruction that comes right after, or a little later. */
static void rewrite(struct sequence *q)
{
	struct draw *g = &q->g;
	struct drawn d;
	unsigned store, between = pick(g, 3), at;
	uint32_t disp;

	if (!has_room(q) || !insn_draw(g, &d, has_immediate))
		return;
	if (q->span->at + q->span->len - layouts[g->t->layout].code + 60 >= 3 * PAGE)
		return;
	ADD(q, 0xc6, 0x05, 0, 0, 0, 0, (uint8_t)rng_next(&g->rng));
	store = q->span->len;
	while (between--)
		add_one(q, touches_memory);
	at = q->span->len;
	add_drawn(q, &d);
	disp = at + d.len - 1 - store;
	if (g->t->is_32bit)
		disp = (uint32_t)q->span->at + at + d.len - 1;
	memcpy(q->span->bytes + store - 5, &disp, 4);
}

/* Through IRET: to a label, in the same ring. */
static void interrupt_return(struct sequence *q)
{
	unsigned to = label_ahead(q), reg = free_register(q);

	if (reg >= 8)
		return;
	ADD(q, (uint8_t)(q->g.t->is_32bit ? 0x90 : 0x48), 0x89, (uint8_t)(0xe0 | reg));
	ADD(q, 0x6a, 0x2b);              /* push SS, RSP */
	ADD(q, (uint8_t)(0x50 | reg));
	ADD(q, 0x9c);                    /* pushf */
	ADD(q, 0x6a, (uint8_t)(q->g.t->is_32bit ? 0x23 : 0x33));
	push_label(q, reg, to);
	if (q->g.t->is_32bit)
		ADD(q, 0xcf);
	else
		ADD(q, 0x48, 0xcf);
	q->g.known &= (uint16_t)~(1u << reg);
}

/* A call into another page, and what is there: the second span, or a new entry into it. */
static void excursion(struct sequence *q)
{
	struct test_case *t = q->g.t;
	struct span *home = q->span, *away = &t->span[1];
	uint64_t code = layouts[t->layout].code, first;
	uint32_t disp;

	if (!has_room(q) || away->len + 80 > sizeof(away->bytes))
		return;
	if (t->n_spans == 1) {
		t->n_spans = 2;
		away->at = code + (home->at - code + 2 * PAGE) % (CODE_PAGES * PAGE) / PAGE * PAGE +
			   pick(&q->g, PAGE - sizeof(away->bytes));
	}
	first = away->at + away->len;
	if (chance(&q->g, 60) || is_far(q)) {
		ADD(q, 0xe8, 0, 0, 0, 0);
	} else { /* push the return address, jump */
		ADD(q, 0x68, 0, 0, 0, 0);
		disp = (uint32_t)home->at + home->len + 5;
		memcpy(home->bytes + home->len - 4, &disp, 4);
		ADD(q, 0xe9, 0, 0, 0, 0);
	}
	disp = (uint32_t)(first - (home->at + home->len));
	memcpy(home->bytes + home->len - 4, &disp, 4);
	q->span = away;
	for (unsigned n = pick(&q->g, 3); n; n--)
		add_one(q, chance(&q->g, 30) ? touches_memory : NULL);
	ADD(q, 0xc3);
	q->span = home;
}

static void item(struct sequence *q);

static void loop(struct sequence *q)
{
	struct draw *g = &q->g;
	unsigned reg = free_register(q), top, n = 1 + pick(g, 4);
	uint16_t kept = g->kept;

	if (reg == X86_REG_NONE || q->depth > 1 || g->t->is_32bit != (reg < 8 && g->t->is_32bit))
		return;
	q->depth++;
	place_all(q); /* who jumped into the loop would have no counter */
	if (reg & 8)
		ADD(q, 0x41, (uint8_t)(0xb8 | (reg & 7)), (uint8_t)(2 + pick(g, 6)), 0, 0, 0);
	else
		ADD(q, (uint8_t)(0xb8 | reg), (uint8_t)(2 + pick(g, 6)), 0, 0, 0);
	g->kept |= (uint16_t)(1u << reg);
	top = label_here(q);
	while (n--)
		item(q);
	place_all(q); /* jumps inside stay inside */
	if (!has_room(q)) {
		g->kept = kept;
		q->depth--;
		return;
	}
	if (reg == X86_RCX && chance(g, 60)) {
		ADD(q, 0xe2, 0);
		add_fixup(q, 1, top, false);
	} else {
		if (reg & 8)
			ADD(q, 0x41, 0xff, (uint8_t)(0xc8 | (reg & 7))); /* dec */
		else
			ADD(q, 0xff, (uint8_t)(0xc8 | reg));
		if (chance(g, 50)) {
			ADD(q, 0x75, 0);
			add_fixup(q, 1, top, false);
		} else {
			ADD(q, 0x0f, 0x85, 0, 0, 0, 0);
			add_fixup(q, 4, top, false);
		}
	}
	g->known &= (uint16_t)~(1u << reg);
	g->kept = kept;
	q->depth--;
}

static void item(struct sequence *q)
{
	static const struct {
		void (*draw)(struct sequence *q);
		unsigned weight;
	} kinds[] = {
		{plain, 46}, {masked, 4}, {liveness, 7}, {fields, 5}, {moving, 4}, {carry, 3}, {rotate, 2}, {string, 4}, {stack, 5},
		{branch, 8}, {indirect, 4}, {rewrite, 1}, {loop, 4}, {excursion, 2},
		{interrupt_return, 1},
	};
	unsigned n = pick(&q->g, 100), i = 0;

	if (!has_room(q))
		return;
	while (n >= kinds[i].weight)
		n -= kinds[i++].weight;
	kinds[i].draw(q);
	item_done(q);
}

/* -- A case -------------------------------------------------------------------------------------------- */

/* Runs of cases are in one mode and have one layout: to change it costs the native side some system calls. */
static enum where layout_of(uint64_t number, bool is_32bit)
{
	static const enum where narrow[] = {AT_0, TOP_32};
	uint64_t run = number / 32;

	if (run % 4 != 3)
		return HOME;
	return is_32bit ? narrow[run / 4 % 2] : 1 + run / 4 % (LAYOUTS - 1);
}

static uint64_t place(struct draw *g, unsigned n)
{
	uint64_t code = layouts[g->t->layout].code;

	if (g->t->layout == AT_0 && chance(g, 30))
		return 0;
	if (g->t->layout != HOME && chance(g, 50)) /* up to the last byte, or too far */
		return code + CODE_PAGES * PAGE - 1 - pick(g, 8 * n);
	if (chance(g, 30)) /* across the pages, if it is as long as is likely */
		return code + PAGE * (1 + pick(g, 3)) - 1 - pick(g, 8 * n);
	return code + pick(g, CODE_PAGES * PAGE - 260);
}

void case_draw(struct test_case *t, uint64_t seed, uint64_t number)
{
	struct sequence q = {.g = {.rng = rng_for(seed, number), .t = t}};
	unsigned n;

	if (number / 32 % 8 == 5 && mode_draw(t, seed, number))
		return;
	memset(t, 0, offsetof(struct test_case, vectors));
	t->number = number;
	t->template = number / 64 % TEMPLATES;
	t->is_32bit = chance(&q.g, 15);
	t->layout = layout_of(number, t->is_32bit);
	q.g.tame = chance(&q.g, 50);
	n = chance(&q.g, 35) ? 1 : 2 + pick(&q.g, 11);
	state_draw(&q.g);
	t->n_spans = 1;
	q.span = &t->span[0];
	q.span->at = place(&q.g, n);
	t->start.rip = q.span->at;
	if (chance(&q.g, 6)) /* before anything could write its registers */
		masked(&q);
	while (n--)
		item(&q);
	place_all(&q);
	resolve(&q);
	if (chance(&q.g, 4)) /* another end than INT3 */
		ADD(&q, 0xf4);
}
