/* SPDX-License-Identifier: MIT */
/*
 * A decoding under way: what decode.c, which reads an instruction from left to right,
 * shares with rules.c, which judges it.
 */
#ifndef X86_DECODER_H
#define X86_DECODER_H

#include "x86/decode.h"
#include "x86/optable.h"

enum { LONGEST = 15 };

/*
 * Code that few instructions need. The rest, which nearly all run through, then lies
 * together: translation starts with cold caches.
 */
#define RARE __attribute__((noinline, cold))

/* What goes from step to step beside struct insn. */
struct decoder {
	unsigned __int128 bytes; /* our copy; zeros behind those that count */
	unsigned at;             /* the next byte */
	enum x86_mode mode;
	const struct state *state; /* of the mode and the prefixes */
	uint64_t operands;         /* the row, with its group's row */
	uint64_t effects;
	bool ud;
	/* VEX and EVEX only */
	uint8_t ll, aaa;
	bool z, b, high_reg, high_vvvv; /* R' and V' name registers 16 to 31 */
};

/* The next eight bytes. Any will do beyond the longest: it is too long already. */
static inline uint64_t next_bytes(const struct decoder *d)
{
	return d->bytes >> 8 * (d->at & LONGEST);
}

static inline uint8_t next_byte(const struct decoder *d)
{
	return ((const uint8_t *)&d->bytes)[d->at & LONGEST];
}

static inline uint8_t take_byte(struct decoder *d)
{
	uint8_t byte = next_byte(d);

	d->at++;
	return byte;
}

static inline unsigned field(uint64_t word, unsigned at, unsigned bits)
{
	return word >> at & ((1u << bits) - 1);
}

static inline enum op_care care_of(const struct decoder *d)
{
	return field(d->effects, OPE_CARE_AT, 5);
}

/* The size of a memory operand that is the vector or a part of it; 0: of another. */
static inline unsigned vector_memory(enum op_mem code, unsigned vl)
{
	switch (code) {
	case MS_x: return vl;
	case MS_h: return vl / 2;
	case MS_f: return vl / 4;
	case MS_e: return vl / 8;
	case MS_dup: return vl == 16 ? 8 : vl;
	default: return 0;
	}
}

/* -- rules.c --------------------------------------------------------------------------- */

/* in->vl of a SIMD row, from it and L'L. */
RARE void rules_vector_length(const struct decoder *d, struct insn *in);

/* VEX and EVEX: vvvv where the row does not use it is undefined, or to be ignored. */
RARE void rules_vvvv(struct decoder *d, struct insn *in);

/* What the row's CARE asks for beyond its bits; may set d->ud. After all bytes are read. */
RARE void rules_care(struct decoder *d, struct insn *in);

/* Whether a VEX or EVEX encoding keeps the rules of its row. */
RARE bool rules_vex_ok(const struct decoder *d, const struct insn *in);

#endif
