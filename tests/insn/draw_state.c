/* SPDX-License-Identifier: MIT */
/*
 * Random registers, vector state and memory, with a liking for the edges of things.
 */
#include "draw.h"

#include <string.h>

/* -- Numbers -------------------------------------------------------------------------------- */

static const uint64_t integers[] = {
	0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
	0x100000000, 0x7fffffffffffffff, 0x8000000000000000, (uint64_t)-1, (uint64_t)-2,
	0x5555555555555555, 0xaaaaaaaaaaaaaaaa, 0x0123456789abcdef,
};

static const uint64_t doubles[] = {
	0, 0x8000000000000000, 0x3ff0000000000000, 0xbff0000000000000, /* 0 -0 1 -1 */
	0x7ff0000000000000, 0xfff0000000000000,                        /* infinities */
	0x7ff8000000000000, 0x7ff0000000000001, 0xfff4000000000000,    /* NaNs, quiet or not */
	0x0000000000000001, 0x800fffffffffffff, 0x0010000000000000,    /* around denormal */
	0x7fefffffffffffff, 0x4330000000000000, 0x41dfffffffc00000, 0x43e0000000000000,
	0x3fe0000000000000, 0x4009 << 16 | 0x21fb, 0x400921fb54442d18,
};

static const uint32_t floats[] = {
	0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
	0xffa00000, 0x00000001, 0x807fffff, 0x00800000, 0x7f7fffff, 0x4b000000, 0x4effffff,
	0x4f000000, 0x3f000000, 0x40490fdb,
};

#define SOME(r, list) (list)[rng_below(r, sizeof(list) / sizeof((list)[0]))]

static uint64_t two_floats(struct rng *r)
{
	uint64_t hi = SOME(r, floats);

	return hi << 32 | SOME(r, floats);
}

uint64_t value_draw(struct rng *r)
{
	switch (rng_below(r, 8)) {
	case 0: return SOME(r, integers);
	case 1: return rng_below(r, 256);
	case 2: return rng_next(r) >> 32;
	case 3: return SOME(r, doubles);
	case 4: return two_floats(r);
	case 5: return -(uint64_t)rng_below(r, 256);
	default: return rng_next(r);
	}
}

/* -- Addresses -------------------------------------------------------------------------------- */

/* Where something begins or ends. */
static const uint64_t edges[] = {
	DATA, DATA + PAGE, DATA + 2 * PAGE, RDPG, RDPG + PAGE, RDPG + 2 * PAGE, STACK,
	STACK + PAGE, STACK + 2 * PAGE, TOP, ABOVE, CODE + 4 * PAGE,
};

static const uint64_t noncanonical[] = {
	0x0000800000000000, 0x8000000000000000, 0xffff7ffffffffff8, 0x7ffffffffffc,
	0x7ffffffffffffff8, 0x1234567812345678, 0xfffffffffffffffc, 0x0001000010010000,
	0x8000000010010000, 0xffff000010011000,
};

static uint64_t inside(struct draw *g)
{
	static const uint32_t areas[] = {DATA, DATA, DATA + PAGE, RDPG + PAGE, STACK + PAGE};
	uint64_t at = SOME(&g->rng, areas) + pick(g, PAGE - 64);

	return chance(g, 60) ? at & ~63ull : at;
}

uint64_t target_draw(struct draw *g, unsigned size)
{
	unsigned what = pick(g, 100);

	if (what < 60)
		return inside(g);
	if (what < 70 || g->tame) /* across the middle of two pages */
		return SOME(&g->rng, ((const uint32_t[]){DATA, STACK})) + PAGE - pick(g, 64);
	if (what < 95)
		return SOME(&g->rng, edges) - pick(g, 2 * size) + pick(g, size);
	if (what < 98)
		return RDPG + pick(g, PAGE);
	return SOME(&g->rng, ((const uint32_t[]){0, 0x10020000, 0x7ffff000, DATA + 2 * PAGE}));
}

/* The displacement of an operand that is relative to RIP has 32 bits. */
uint64_t near_draw(struct draw *g, unsigned size)
{
	const struct layout *l = &layouts[g->t->layout];
	unsigned what = pick(g, 100);

	if (g->t->layout == HOME || (l->code < STACK && what < 50))
		return target_draw(g, size);
	if (what < 80)
		return l->around + pick(g, NEAR_PAGES * PAGE - 64);
	if (what < 90 || g->tame)
		return l->around + PAGE - pick(g, 64);
	return l->code + pick(g, 2) * CODE_PAGES * PAGE - pick(g, 2 * size) + pick(g, size);
}

/* -- Vectors -------------------------------------------------------------------------------------- */

enum pattern { RANDOM, DOUBLES, FLOATS, INTEGERS, ZERO, OFFSETS32, OFFSETS64, SIGNS, PATTERNS };

static uint64_t element(struct rng *r, enum pattern p)
{
	uint64_t v;

	switch (p) {
	case DOUBLES: return SOME(r, doubles);
	case FLOATS: return two_floats(r);
	case INTEGERS: return SOME(r, integers);
	case ZERO: return 0;
	case OFFSETS32: v = rng_next(r) & 0x000000ff000000ff; return v - (v & 0x8000000080);
	case OFFSETS64: return rng_below(r, 1024);
	case SIGNS: return rng_next(r) & 0x8080808080808080;
	default: return rng_next(r);
	}
}

static void fill(struct rng *r, uint8_t *p, unsigned len, enum pattern pattern)
{
	for (unsigned i = 0; i + 8 <= len; i += 8) {
		uint64_t v = element(r, pattern);

		memcpy(p + i, &v, 8);
	}
}

static void fill_registers(struct rng *r, uint8_t *p, unsigned len, unsigned size)
{
	for (unsigned i = 0; i < len; i += size)
		fill(r, p + i, size, rng_below(r, PATTERNS));
}

/* An 80-bit number: sign and exponent, then the integer bit, which must fit it. */
static void st_draw(struct rng *r, uint8_t *p)
{
	static const uint16_t exponents[] = {0, 1, 0x3fff, 0x4000, 0x3ffe, 0x7fff, 0x7ffe, 0x403e,
					     0x3c01, 0x43fe, 0x401f};
	uint64_t m = rng_next(r);
	uint16_t e = (uint16_t)SOME(r, exponents);

	if (rng_percent(r, 40))
		m = SOME(r, integers);
	if (rng_percent(r, 90)) /* else unnormal: invalid since the 387 */
		m = e ? m | 1ull << 63 : m & ~(1ull << 63);
	if (rng_percent(r, 40))
		e |= 0x8000;
	memcpy(p, &m, 8);
	memcpy(p + 8, &e, 2);
}

static void x87_draw(struct rng *r, uint8_t *image)
{
	uint16_t fcw = 0x37f, fsw = 0;

	if (rng_percent(r, 40))
		fcw = (uint16_t)(0x7f | rng_below(r, 16) << 8);
	if (rng_percent(r, 10))
		fcw &= (uint16_t)~(1u << rng_below(r, 6));
	if (rng_percent(r, 60))
		fsw = (uint16_t)(rng_below(r, 8) << 11 | (rng_next(r) & 0x4700));
	if (rng_percent(r, 15)) /* exceptions that were met, masked or not */
		fsw |= (uint16_t)(1u << rng_below(r, 6));
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080;
	memcpy(image, &fcw, 2);
	memcpy(image + 2, &fsw, 2);
	image[4] = (uint8_t)(rng_percent(r, 30) ? 0 : rng_percent(r, 30) ? 0xff : rng_next(r));
	for (unsigned i = 0; i < 8; i++)
		st_draw(r, image + 32 + 16 * i);
}

static uint32_t mxcsr_draw(struct rng *r)
{
	uint32_t v = 0x1f80;

	if (rng_percent(r, 40)) /* rounding, FTZ, DAZ, flags */
		v |= (uint32_t)rng_next(r) & 0xe07f;
	if (rng_percent(r, 12))
		v &= ~(1u << (7 + rng_below(r, 6)));
	return v;
}

/* Masks: often full or with few bits, so that elements at page edges come and go. */
static uint64_t kmask_draw(struct rng *r)
{
	switch (rng_below(r, 4)) {
	case 0: return rng_next(r);
	case 1: return (1ull << rng_below(r, 64)) - 1;
	case 2: return 1ull << rng_below(r, 16);
	default: return SOME(r, integers);
	}
}

void vectors_draw(struct rng *r, uint8_t *image)
{
	uint32_t mxcsr = mxcsr_draw(r);
	uint64_t have = vector_features & 0xe7;

	memset(image, 0, VECTOR_STATE);
	x87_draw(r, image);
	memcpy(image + 24, &mxcsr, 4);
	fill_registers(r, image + 160, 256, 16);
	for (unsigned i = 2; i < 8; i++) {
		const struct component *c = &components[i];

		if (!c->len)
			continue;
		if (i == 5)
			for (unsigned k = 0; k < 8; k++) {
				uint64_t v = kmask_draw(r);

				memcpy(image + c->at + 8 * k, &v, 8);
			}
		else
			fill_registers(r, image + c->at, c->len, i == 2 ? 16 : i == 6 ? 32 : 64);
	}
	if (rng_percent(r, 10)) /* something is in its initial state */
		have &= ~(1ull << (2 + rng_below(r, 6)));
	memcpy(image + 512, &have, 8);
}

/* -- Memory ------------------------------------------------------------------------------------------- */

uint8_t templates[TEMPLATES][PAGES][PAGE];

static uint64_t word(struct rng *r)
{
	switch (rng_below(r, 12)) {
	case 0: return SOME(r, edges) - rng_below(r, 64);
	case 1: return DATA + rng_below(r, 2 * PAGE);
	case 2: return CODE + rng_below(r, CODE_PAGES * PAGE);
	case 3: return SOME(r, noncanonical);
	case 4: return SOME(r, ((const uint64_t[]){0x23, 0x2b, 0x33, 0, 3, 0x1b}));
	default: return value_draw(r);
	}
}

void templates_draw(uint64_t seed)
{
	struct rng r = rng_for(seed, ~0ull);

	for (unsigned t = 0; t < TEMPLATES; t++)
		for (unsigned p = CODE_PAGES; p < PAGES; p++)
			for (unsigned i = 0; i < PAGE; i += 8) {
				uint64_t v = word(&r);

				memcpy(templates[t][p] + i, &v, 8);
			}
}

/* -- Registers -------------------------------------------------------------------------------------------- */

static uint64_t segment_base(struct draw *g)
{
	switch (pick(g, 4)) {
	case 0: return 0;
	case 1: return pick(g, 1 << 20);
	case 2: return DATA + pick(g, 2 * PAGE);
	default: return (int64_t)(int32_t)(rng_next(&g->rng) & 0x3fffffff) - 0x20000000;
	}
}

static void general_registers(struct draw *g)
{
	struct start *s = &g->t->start;
	unsigned n = g->t->is_32bit ? 8 : 16, i;

	for (i = 0; i < n; i++)
		s->gpr[i] = value_draw(&g->rng);
	for (i = 3 + pick(g, 4); i; i--) {
		unsigned r = pick(g, n);

		g->pointers |= (uint16_t)(1u << r);
		s->gpr[r] = inside(g);
		if (!g->tame && chance(g, 6))
			s->gpr[r] = SOME(&g->rng, noncanonical);
	}
	for (i = 2; i; i--) {
		unsigned r = pick(g, n);

		if (g->pointers & 1u << r)
			continue;
		g->small |= (uint16_t)(1u << r);
		s->gpr[r] = chance(g, 80) ? pick(g, 128) : -(uint64_t)pick(g, 128);
	}
	s->gpr[X86_RSP] = STACK + PAGE + 8 * (pick(g, 256));
	if (chance(g, 15))
		s->gpr[X86_RSP] = STACK + PAGE + pick(g, 64) - 32;
	if (!g->tame && chance(g, 8))
		s->gpr[X86_RSP] = target_draw(g, 16);
	g->pointers |= 1u << X86_RSP;
	g->known = 0xffff;
	if (g->t->is_32bit)
		for (i = 0; i < 8; i++)
			s->gpr[i] = (uint32_t)s->gpr[i];
}

static void string_registers(struct draw *g)
{
	struct start *s = &g->t->start;

	if (!chance(g, 40))
		return;
	s->gpr[X86_RSI] = target_draw(g, 32);
	s->gpr[X86_RDI] = target_draw(g, 32);
	if (!(g->pointers & 1u << X86_RCX))
		s->gpr[X86_RCX] = chance(g, 70) ? pick(g, 40) : chance(g, 50) ? pick(g, 5000) : 0;
	g->pointers |= 1u << X86_RSI | 1u << X86_RDI;
	g->small &= (uint16_t)~(1u << X86_RSI | 1u << X86_RDI);
}

void state_draw(struct draw *g)
{
	struct test_case *t = g->t;
	struct start *s = &t->start;

	s->flags = 0x202 | (rng_next(&g->rng) & X86_ARITH) | (chance(g, 10) ? 0x400 : 0);
	s->cs = t->is_32bit ? 0x23 : 0x33;
	s->ss = 0x2b;
	s->fs = segment_base(g);
	s->gs = segment_base(g);
	if (t->is_32bit) {
		s->sel_ds = s->sel_es = s->sel_fs = s->sel_gs = 0x2b;
		s->fs &= 0xffffffff;
		s->gs &= 0xffffffff;
		if (chance(g, 20))
			s->sel_gs = 0;
	}
	general_registers(g);
	string_registers(g);
	vectors_draw(&g->rng, t->vectors);
}
