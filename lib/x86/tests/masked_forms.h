/* SPDX-License-Identifier: MIT */
/*
 * All forms of all instructions that access memory under a mask, out of the opcode table:
 *
 *	static void each(const struct form *f) { ... f->bytes, f->in ... }
 *	masked_forms(each);
 *
 * A form is EVEX with mask k1 and the operands [rbx + disp8], 1 and 2, of each vector length, with and
 * without broadcast and zeroing; or VEX's VMASKMOV and VPMASKMOV, with mask 2. An immediate is 27.
 */
#ifndef X86_MASKED_FORMS_H
#define X86_MASKED_FORMS_H

#include <string.h>

#include "x86/decode.h"
#include "x86/optable.h"

struct form {
	uint8_t bytes[12];
	struct insn in;
	bool broadcast;
};

/* vvvv is 2, but 1111 where it is not used. */
static bool form_decode(struct form *f)
{
	static const uint8_t vvvv[] = {0x68, 0x78};

	for (unsigned i = 0; i < 2; i++) {
		f->bytes[2] = (f->bytes[2] & ~0x78) | vvvv[i];
		if (x86_decode(&f->in, f->bytes, sizeof(f->bytes), X86_MODE_64) > 0 &&
		    f->in.kind == X86_MASKED_MEM)
			return true;
	}
	return false;
}

static void form_write(struct form *f, bool evex, unsigned place, unsigned reg, unsigned length)
{
	uint8_t map = place / OP_VEX_MAP + 1, op = place >> 3 & 255;
	uint8_t w_pp = (place & 1) << 7 | (place >> 1 & 3), modrm = 0x43 | reg << 3;
	uint8_t v[] = {0xc4, 0xe0 | map, w_pp | length << 2, op, modrm, 1, 27};
	uint8_t e[] = {0x62, 0xf0 | map, w_pp | 4, length << 5 | 8 | 1, op, modrm, 1, 27};

	*f = (struct form){0};
	memcpy(f->bytes, evex ? e : v, evex ? sizeof(e) : sizeof(v));
}

static void forms_at(bool evex, unsigned place, unsigned reg, void (*each)(const struct form *))
{
	enum { BROADCAST = 0x10, ZEROING = 0x80 };
	struct form f;

	for (unsigned i = 0; i < (evex ? 3 * 4 : 2); i++) {
		form_write(&f, evex, place, reg, evex ? i / 4 : i);
		f.broadcast = evex && i & 1;
		if (evex)
			f.bytes[3] |= (i & 1) * BROADCAST | (i >> 1 & 1) * ZEROING;
		if (form_decode(&f))
			each(&f);
	}
}

static void masked_forms(void (*each)(const struct form *))
{
	for (unsigned i = 0; i < (6 + 3) * OP_VEX_MAP; i++) {
		bool evex = i < 6 * OP_VEX_MAP;
		unsigned place = evex ? i : i - 6 * OP_VEX_MAP;
		unsigned row = op_index[(evex ? OP_AT_EVEX : OP_AT_VEX) + place];

		if (!(op_rows[row].operands >> OPF_GROUP_AT))
			forms_at(evex, place, 1, each);
		else
			for (unsigned reg = 0; reg < 8; reg++)
				forms_at(evex, place, reg, each);
	}
}

#endif
