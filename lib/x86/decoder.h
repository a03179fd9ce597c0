/* SPDX-License-Identifier: MIT */
/*
 * A decoding under way: what decode.c, which reads an instruction from left to right,
 * shares with rules.c, which judges it.
 */
#ifndef X86_DECODER_H
#define X86_DECODER_H

#include "x86/decode.h"
#include "x86/optable.h"

enum { LOOKAHEAD = 48, LONGEST = 15 };

/* What goes from step to step beside struct insn. */
struct decoder {
	const uint8_t *p; /* our copy of the bytes, LOOKAHEAD long */
	unsigned at;      /* the next byte */
	enum x86_mode mode;
	uint64_t operands; /* the row, with its group's row */
	uint64_t effects;
	bool ud;
	bool w; /* REX.W, VEX.W */
	/* EVEX */
	uint8_t ll, aaa;
	bool z, b, high_reg, high_vvvv; /* R' and V' name registers 16 to 31 */
};

static inline unsigned field(uint64_t word, unsigned at, unsigned bits)
{
	return word >> at & ((1u << bits) - 1);
}

/* -- rules.c --------------------------------------------------------------------------- */

/* in->vl, from the row and L'L. ModRM, if there is one, is still to come. */
void rules_vector_length(const struct decoder *d, struct insn *in);

/* vvvv where the row does not use it: undefined, or to be ignored. */
void rules_vvvv(struct decoder *d, struct insn *in);

/* What the row's CARE asks for beyond its bits; may set d->ud. After all bytes are read. */
void rules_care(struct decoder *d, struct insn *in);

/* Whether a VEX or EVEX encoding keeps the rules of its row. */
bool rules_vex_ok(const struct decoder *d, const struct insn *in);

#endif
