/* SPDX-License-Identifier: MIT */
/*
 * All forms of all instructions, out of the opcode table:
 *
 *	static void each(const uint8_t bytes[FORM_LEN]) { ... }
 *	forms(each);
 *
 * Each place of each map, with each prefix and W, each row of its group; of VEX and EVEX each
 * vector length, with and without broadcast, mask and zeroing: once with the memory operand
 * [rbx + disp8], disp8 being 1, once with registers. The others are register 1, vvvv 2 (1111
 * where it is not used), mask 1, an immediate that begins with 27. What is undefined among
 * these is for the caller to skip.
 */
#ifndef X86_FORMS_H
#define X86_FORMS_H

#include <string.h>

#include "x86/decode.h"
#include "x86/optable.h"

enum { FORM_LEN = 16 };

typedef void form_fn(const uint8_t bytes[FORM_LEN]);

static bool form_is_defined(const uint8_t bytes[FORM_LEN])
{
	struct insn in;

	return x86_decode(&in, bytes, FORM_LEN, X86_MODE_64) > 0 && in.kind != X86_UD;
}

/* ModRM and what follows; for a place that has a group, each of its rows. */
static void forms_modrm(uint8_t bytes[FORM_LEN], unsigned n, unsigned place, form_fn *each)
{
	bool group = op_rows[op_index[place]].operands >> OPF_GROUP_AT;

	for (unsigned reg = group ? 0 : 1; reg < (group ? 8 : 2); reg++) {
		static const uint8_t tail[] = {0x23, 1, 27, 1, 2, 3};

		memset(bytes + n, 0, FORM_LEN - n);
		bytes[n] = 0x44 | reg << 3;
		memcpy(bytes + n + 1, tail, sizeof(tail));
		each(bytes);
		memcpy(bytes + n + 1, tail + 2, sizeof(tail) - 2);
		for (unsigned rm = group ? 0 : 3; rm < (group ? 8 : 4); rm++) {
			bytes[n] = 0xc0 | reg << 3 | rm;
			each(bytes);
		}
	}
}

static void forms_legacy(unsigned place, form_fn *each)
{
	static const uint8_t prefix[] = {0, 0x66, 0xf3, 0xf2}, escape[] = {0, 0, 0x38, 0x3a};
	unsigned map = place / OP_LEGACY_MAP, pp = place & 3;

	for (unsigned w = 0; w < 2; w++) {
		uint8_t bytes[FORM_LEN];
		unsigned n = 0;

		if (pp)
			bytes[n++] = prefix[pp];
		if (w)
			bytes[n++] = 0x48;
		if (map)
			bytes[n++] = 0x0f;
		if (map > 1)
			bytes[n++] = escape[map];
		bytes[n++] = place >> 2 & 255;
		forms_modrm(bytes, n, place, each);
	}
}

static uint8_t *form_vex; /* the byte with vvvv */
static form_fn *form_each;

static void form_with_vvvv(const uint8_t bytes[FORM_LEN])
{
	*form_vex = (*form_vex & ~0x78) | 0x68;
	if (!form_is_defined(bytes))
		*form_vex |= 0x78;
	form_each(bytes);
}

static void forms_vex(unsigned place, unsigned map, uint8_t w_pp, form_fn *each)
{
	for (unsigned l = 0; l < 2; l++) {
		uint8_t bytes[FORM_LEN] = {0xc4, 0xe0 | map, w_pp | l << 2, place >> 3 & 255};

		form_vex = bytes + 2;
		form_each = each;
		forms_modrm(bytes, 4, place, form_with_vvvv);
	}
}

static void forms_evex(unsigned place, unsigned map, uint8_t w_pp, form_fn *each)
{
	static const uint8_t b[] = {0, 0x10}, mask[] = {0, 1, 0x81};

	for (unsigned i = 0; i < 4 * 3 * 2; i++) {
		uint8_t last = (i / 6) << 5 | 8 | mask[i / 2 % 3] | b[i % 2];
		uint8_t bytes[FORM_LEN] = {0x62, 0xf0 | map, w_pp | 4, last, place >> 3 & 255};

		form_vex = bytes + 2;
		form_each = each;
		forms_modrm(bytes, 5, place, form_with_vvvv);
	}
}

static void forms(form_fn *each)
{
	for (unsigned place = OP_AT_1B; place < OP_AT_GROUP; place++) {
		bool evex = place >= OP_AT_EVEX;
		unsigned at = place - (evex ? OP_AT_EVEX : OP_AT_VEX);
		unsigned map = at / OP_VEX_MAP + 1;
		uint8_t w_pp = (at & 1) << 7 | (at >> 1 & 3);

		if (place < OP_AT_VEX)
			forms_legacy(place, each);
		else if (evex)
			forms_evex(place, map, w_pp, each);
		else
			forms_vex(place, map, w_pp, each);
	}
}

#endif
