/* SPDX-License-Identifier: MIT */
/*
 * Masks: which elements of a memory operand an instruction may access, drawn for where they lie.
 *
 *	VMASKMOVPD [m], ymm2, ymm3        signs of a vector register
 *	VADDPS zmm1 {k3}, zmm2, [m]       a mask register; VADDPS .. [m]{1to16}, one element for all
 *	VPCOMPRESSD [m] {k3}, zmm1        as many elements as it has bits
 *	VPGATHERDD, VSCATTERQPD           an address for each
 *	MASKMOVDQU                        bytes at rDI
 *
 * An element that the mask leaves out must not be accessed: it may lie in a page that is not there, or not to
 * be written. So the operand lies across the edge of something, and the mask is made for it, so that
 * exactly the good elements are accessed, some of them, one that is not, none, all.
 *
 * Masks and indices are start values of registers. An instruction ahead that writes them spoils the case, which is
 * then one like others.
 */
#include "draw.h"

#include <string.h>

/* Where what may be read or written changes. */
static const uint64_t edges[] = {DATA, DATA + PAGE, DATA + 2 * PAGE, RDPG, RDPG + PAGE,
				 RDPG + 2 * PAGE, STACK, STACK + 2 * PAGE};

static uint64_t some_edge(struct draw *g)
{
	return edges[pick(g, sizeof(edges) / sizeof(edges[0]))];
}

static bool may_access(uint64_t at, unsigned len, bool write)
{
	for (uint64_t end = at + len; at != end; at++) {
		unsigned i = CODE_PAGES;

		while (i < PAGES && (page_moves(i) || at - pages[i].at >= PAGE))
			i++;
		if (i == PAGES || (write && !pages[i].write))
			return false;
	}
	return true;
}

/* -- The vector state of the case ----------------------------------------------------------- */

/* Byte i of a vector register. */
static uint8_t *vector_byte(struct test_case *t, unsigned reg, unsigned i)
{
	if (reg >= 16)
		return t->vectors + components[7].at + 64 * (reg - 16) + i;
	if (i < 16)
		return t->vectors + 160 + 16 * reg + i;
	if (i < 32)
		return t->vectors + components[2].at + 16 * reg + i - 16;
	return t->vectors + components[6].at + 32 * reg + i - 32;
}

static void vector_put(struct test_case *t, unsigned reg, unsigned at, uint64_t v, unsigned len)
{
	for (unsigned i = 0; i < len; i++, v >>= 8)
		*vector_byte(t, reg, at + i) = (uint8_t)v;
}

/* None is in its initial state. */
static void use_all(struct test_case *t)
{
	uint64_t have = vector_features & 0xe7;

	memcpy(t->vectors + 512, &have, 8);
}

/* A mask of n elements, of which `good` may be accessed. */
static uint64_t mask_for(struct draw *g, uint64_t good, unsigned n)
{
	uint64_t all = n >= 64 ? ~0ull : (1ull << n) - 1, some = rng_next(&g->rng) & all;

	switch (pick(g, g->tame ? 5 : 8)) {
	case 0: case 1: return good;
	case 2: case 3: return good & some;
	case 4: return 0;
	case 5: return all;
	case 6: return (good & some) | 1ull << pick(g, n);
	default: return some;
	}
}

/* Its elements are bits of a mask register, or signs; above them there is anything. */
static void put_mask(struct draw *g, const struct insn *in, uint64_t mask, unsigned bytes, unsigned n)
{
	struct test_case *t = g->t;

	if (in->enc == X86_EVEX) {
		uint64_t above = n < 64 && chance(g, 50) ? rng_next(&g->rng) << n : 0;

		mask |= above;
		memcpy(t->vectors + components[5].at + 8 * (in->vex[2] & 7), &mask, 8);
		return;
	}
	for (unsigned i = 0; i < n; i++) {
		uint8_t *sign = vector_byte(t, in->vvvv, (i + 1) * bytes - 1);

		*sign = (uint8_t)((*sign & 0x7f) | (mask >> i & 1) << 7);
	}
}

/* -- Instructions ----------------------------------------------------------------------------- */

bool is_masked(const struct insn *in)
{
	return in->kind == X86_MASKED_MEM || in->kind == X86_GATHER;
}

static uint64_t register_of(const struct draw *g, unsigned reg)
{
	return reg == X86_REG_NONE ? 0 : g->t->start.gpr[reg];
}

static uint64_t segment_of(const struct draw *g, const struct insn *in)
{
	return in->seg == X86_FS ? g->t->start.fs : in->seg == X86_GS ? g->t->start.gs : 0;
}

static uint64_t address_of(const struct draw *g, const struct insn *in, uint64_t index)
{
	uint64_t ea = register_of(g, in->base) + index + (uint64_t)in->disp;

	return segment_of(g, in) + (in->adsize == 4 ? (uint32_t)ea : ea);
}

/* Bits of the first elements, as many as there are good ones from the first on. */
static uint64_t packed(struct draw *g, uint64_t good, unsigned bits)
{
	unsigned n = 0;
	uint64_t mask = 0;

	while (n < bits && good >> n & 1)
		n++;
	n = (unsigned)__builtin_popcountll(mask_for(g, n < 64 ? (1ull << n) - 1 : ~0ull, bits));
	while (n && (unsigned)__builtin_popcountll(mask) < n)
		mask |= 1ull << pick(g, bits);
	return mask;
}

static void mask_operand(struct draw *g, const struct insn *in)
{
	uint64_t at = address_of(g, in, register_of(g, in->index) * in->scale), good = 0, mask;
	struct x86_lanes l;

	x86_lanes(in, &l);
	for (unsigned i = 0; i < l.n; i++)
		good |= (uint64_t)may_access(at + i * l.bytes, l.bytes, in->mem_w) << i;
	if (l.masking == X86_PACKED) {
		mask = packed(g, good, l.bits);
	} else {
		for (unsigned n = l.n; n < l.bits; n *= 2) /* a broadcast */
			good |= good << n;
		mask = mask_for(g, good, l.bits ? l.bits : 1);
	}
	put_mask(g, in, mask, l.bytes, l.bits ? l.bits : 64);
}

/* Each index leads to the middle of a page, around an edge, or anywhere. */
static void mask_gather(struct draw *g, const struct insn *in)
{
	unsigned size = in->op & 1 ? 8 : 4, n = in->vl / (size > in->mem_size ? size : in->mem_size);
	unsigned reg = in->index | (in->enc == X86_EVEX && !(in->vex[2] & 8) ? 16 : 0);
	uint64_t from = address_of(g, in, 0), good = 0;

	for (unsigned i = 0; i < n; i++) {
		uint64_t to = chance(g, 60) ? DATA + pick(g, 2 * PAGE - 8) : some_edge(g) - pick(g, 12);
		uint64_t index = chance(g, 90) ? (to - from) / in->scale : rng_next(&g->rng);

		if (size == 4)
			index = (uint64_t)(int32_t)index;
		vector_put(g->t, reg, i * size, index, size);
		good |= (uint64_t)may_access(address_of(g, in, index * in->scale), in->mem_size,
					     in->mem_w) << i;
	}
	put_mask(g, in, mask_for(g, good, n), in->mem_size, n);
}

/* MASKMOVQ and MASKMOVDQU: mov edi, a place at an edge, comes first. */
uint32_t mask_bytes(struct draw *g, const struct insn *in)
{
	unsigned n = in->x87 ? 8 : 16;
	uint64_t at = some_edge(g) - pick(g, 2 * n), good = 0, mask;

	for (unsigned i = 0; i < n; i++)
		good |= (uint64_t)may_access(at + i, 1, true) << i;
	mask = mask_for(g, good, n);
	for (unsigned i = 0; i < n; i++) {
		uint8_t *byte = in->x87 ? g->t->vectors + 32 + 16 * (in->rm & 7) + i
					: vector_byte(g->t, in->rm, i);

		*byte = (uint8_t)((*byte & 0x7f) | (mask >> i & 1) << 7);
	}
	use_all(g->t);
	return (uint32_t)at;
}

uint64_t mask_target(struct draw *g)
{
	return some_edge(g) - 96;
}

void mask_draw(struct draw *g, const struct insn *in)
{
	if (in->kind == X86_GATHER)
		mask_gather(g, in);
	else
		mask_operand(g, in);
	use_all(g->t);
}
