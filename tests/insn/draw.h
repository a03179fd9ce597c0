/* SPDX-License-Identifier: MIT */
/*
 * Between the drawing of one instruction (draw_insn.c), of sequences of them (draw.c) and of
 * the registers before (draw_state.c).
 */
#ifndef INSN_DRAW_H
#define INSN_DRAW_H

#include "insn.h"

/* What the drawing knows of the case so far. */
struct draw {
	struct rng rng;
	struct test_case *t;
	bool tame;               /* addresses that are mapped, nothing that surely faults */
	uint16_t pointers;       /* registers that hold addresses of data, a bit each */
	uint16_t small;          /* registers that hold small numbers */
	uint16_t known;          /* registers that are as in t->start */
	uint16_t kept;           /* registers that no instruction may change: loop counters */
	uint16_t objects;        /* registers through which fields are accessed now; 0: anything */
	uint64_t object_at[16];  /* by register: where its fields begin */
};

struct drawn {
	uint8_t bytes[24];
	unsigned len;
	struct insn in;
	unsigned disp_at;        /* of a RIP-relative operand's displacement; 0: none */
	uint64_t target;         /* what it is to reach */
};

/* Draws until `want` is true (NULL: anything goes). False if luck ran out. */
bool insn_draw(struct draw *g, struct drawn *d, bool (*want)(const struct insn *in));

/* The general registers that it writes, a bit each. */
uint16_t insn_writes(const struct insn *in);

/* Draws registers and vector state. */
void state_draw(struct draw *g);
uint64_t value_draw(struct rng *r);
/* An address in or around the data pages. */
uint64_t target_draw(struct draw *g, unsigned size);
/* The same for who reaches what lies around the code. */
uint64_t near_draw(struct draw *g, unsigned size);
/* draw_mask.c: instructions whose operand lies under a mask. */
bool is_masked(const struct insn *in);
/* Where a field of 96 bytes begins that ends at an edge. */
uint64_t mask_target(struct draw *g);
/* Draws the mask, and what else it has of vectors, for an instruction that was drawn. */
void mask_draw(struct draw *g, const struct insn *in);
/* The same for MASKMOVDQU and its like; where rDI is to lead. */
uint32_t mask_bytes(struct draw *g, const struct insn *in);
/* Fills an XSAVE image. */
void vectors_draw(struct rng *r, uint8_t *image);

static inline unsigned pick(struct draw *g, unsigned n)
{
	return rng_below(&g->rng, n);
}

static inline bool chance(struct draw *g, unsigned percent)
{
	return rng_percent(&g->rng, percent);
}

/* A register of the set, or X86_REG_NONE. */
static inline unsigned pick_of(struct draw *g, uint16_t set)
{
	unsigned n = (unsigned)__builtin_popcount(set), k;

	if (!n)
		return X86_REG_NONE;
	for (k = pick(g, n); k; k--)
		set &= (uint16_t)(set - 1);
	return (unsigned)__builtin_ctz(set);
}

#endif
