/* SPDX-License-Identifier: MIT */
/*
 * Cases in order: every place of the opcode maps, with each prefix, vector length and form.
 *
 *	number    legacy   map, opcode, prefix, W, ModRM.reg, the rm field or memory, mode, LOCK
 *	          VEX      map, opcode, prefix, W, L, ModRM.reg, register or memory
 *	          EVEX     map, opcode, prefix, W, L, b, mask, register or memory
 *
 * A case is one instruction between NOPs. Its memory operand has exactly one page to lie in: it
 * begins where a page begins behind a hole, ends where one ends before a hole, or is a byte too
 * far; so an operand that is longer than the decoder says, or begins earlier, comes out. The code lies
 * at 0, so that who looks for an operand in memory where there is none finds something. What is
 * not in the table is left out, it is #UD and nothing else.
 */
#include "draw.h"

#include <string.h>

#include "x86/optable.h"

enum {
	WIDTHS = 2,
	LOCKS = 2,
	RM_MEMORY = 8, RMS,
	LEGACY = 4 * 256 * 4 * 2 * 8 * RMS * WIDTHS * LOCKS,
	VEX = 3 * 256 * 4 * 2 * 2 * 8 * 2,
	EVEX = 6 * 256 * 4 * 2 * 3 * 2 * 3 * 8 * 2,
};

const uint64_t sweep_length = LEGACY + VEX + EVEX;

struct code {
	uint8_t bytes[24];
	unsigned len;
};

static void put(struct code *c, unsigned byte)
{
	c->bytes[c->len++] = (uint8_t)byte;
}

/* Takes a digit off a number that is written in mixed radix. */
static unsigned digit(uint64_t *number, unsigned radix)
{
	unsigned d = (unsigned)(*number % radix);

	*number /= radix;
	return d;
}

/* [rsi], with an index for vectors of addresses. */
static void put_modrm(struct code *c, const struct oprow *row, unsigned reg, unsigned rm)
{
	if (rm < RM_MEMORY) {
		put(c, 0xc0 | reg << 3 | rm);
	} else if (row->operands & OPF_VSIB) {
		put(c, reg << 3 | 4);
		put(c, 1 << 3 | X86_RSI);
	} else {
		put(c, reg << 3 | X86_RSI);
	}
}

/* Only where they choose the instruction are all values of ModRM's fields tried. */
static bool is_worth_it(const struct oprow *row, unsigned reg, unsigned rm)
{
	bool chooses = row->operands >> OPF_GROUP_AT;

	if (!(row->operands & OPF_MODRM))
		return reg == 0 && rm == 0;
	return chooses || (reg == 2 && (rm == 3 || rm == RM_MEMORY));
}

static bool make_legacy(struct code *c, uint64_t n, bool *is_32bit)
{
	static const unsigned start[] = {OP_AT_1B, OP_AT_0F, OP_AT_0F38, OP_AT_0F3A};
	static const uint8_t pp_byte[] = {0, 0x66, 0xf3, 0xf2};
	unsigned rm = digit(&n, RMS), reg = digit(&n, 8), w = digit(&n, 2), pp = digit(&n, 4);
	unsigned op = digit(&n, 256), map = digit(&n, 4), place = start[map] + (op << 2 | pp);
	const struct oprow *row = &op_rows[op_index[place]];
	bool lock;

	*is_32bit = digit(&n, WIDTHS);
	lock = digit(&n, LOCKS);
	if (!op_index[place] || !is_worth_it(row, reg, rm) || (w && *is_32bit) ||
	    (lock && rm != RM_MEMORY))
		return false;
	if (lock)
		put(c, 0xf0);
	if (pp)
		put(c, pp_byte[pp]);
	if (w)
		put(c, 0x48);
	if (map)
		put(c, 0x0f);
	if (map > 1)
		put(c, map == 2 ? 0x38 : 0x3a);
	put(c, op);
	if (row->operands & OPF_MODRM)
		put_modrm(c, row, reg, rm);
	return true;
}

static bool make_vex(struct code *c, uint64_t n)
{
	unsigned rm = digit(&n, 2) ? RM_MEMORY : 3, reg = digit(&n, 8), l = digit(&n, 2);
	unsigned w = digit(&n, 2), pp = digit(&n, 4), op = digit(&n, 256), map = digit(&n, 3);
	unsigned place = OP_AT_VEX + map * OP_VEX_MAP + (op << 3 | pp << 1 | w);
	const struct oprow *row = &op_rows[op_index[place]];
	unsigned vvvv = row->operands & OPF_NDS || row->operands >> OPF_GROUP_AT ? 4 : 0;

	if (!op_index[place] || !(is_worth_it(row, reg, rm) || rm == 3))
		return false;
	put(c, 0xc4);
	put(c, 0xe0 | (map + 1));
	put(c, w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
	put(c, op);
	if (row->operands & OPF_MODRM)
		put_modrm(c, row, reg, rm);
	return true;
}

static bool make_evex(struct code *c, uint64_t n)
{
	unsigned rm = digit(&n, 2) ? RM_MEMORY : 3, reg = digit(&n, 8), mask = digit(&n, 3);
	unsigned b = digit(&n, 2), l = digit(&n, 3), w = digit(&n, 2), pp = digit(&n, 4);
	unsigned op = digit(&n, 256), map = digit(&n, 6);
	unsigned place = OP_AT_EVEX + map * OP_VEX_MAP + (op << 3 | pp << 1 | w);
	const struct oprow *row = &op_rows[op_index[place]];
	unsigned vvvv = row->operands & OPF_NDS || row->operands >> OPF_GROUP_AT ? 4 : 0;

	if (!op_index[place] || !is_worth_it(row, reg, rm == 3 ? 3 : rm))
		return false;
	put(c, 0x62);
	put(c, 0xf0 | (map + 1));
	put(c, w << 7 | (~vvvv & 15) << 3 | 4 | pp);
	put(c, (mask == 2) << 7 | l << 5 | b << 4 | 8 | (mask ? 3 : 0));
	put(c, op);
	put_modrm(c, row, reg, rm);
	return true;
}

static bool make(struct code *c, uint64_t n, bool *is_32bit)
{
	*is_32bit = false;
	if (n < LEGACY)
		return make_legacy(c, n, is_32bit);
	n -= LEGACY;
	return n < VEX ? make_vex(c, n) : make_evex(c, n - VEX);
}

/* Where the operand lies: at the begin of what is mapped, at the end, across it. */
static uint64_t operand_at(struct draw *g, const struct insn *in)
{
	uint64_t end = (chance(g, 50) ? DATA : STACK) + 2 * PAGE;
	unsigned size = in->mem_size ? in->mem_size : 1;

	switch (pick(g, 4)) {
	case 0: return end - 2 * PAGE;
	case 1: return end - size + 1 + pick(g, size);
	default: return end - size;
	}
}

static bool is_jump(const struct insn *in)
{
	return in->kind >= X86_JMP_REL && in->kind <= X86_IRET;
}

bool sweep_draw(struct test_case *t, uint64_t seed, uint64_t number)
{
	struct draw g = {.rng = rng_for(seed, number), .t = t, .tame = true};
	struct code c = {.len = 0};
	struct insn in;
	unsigned len;

	if (!make(&c, number, &t->is_32bit))
		return false;
	for (len = c.len; len < 15; len++)
		c.bytes[len] = (uint8_t)(len == c.len ? pick(&g, 256) : 0);
	if (x86_decode(&in, c.bytes, 15, t->is_32bit ? X86_MODE_32 : X86_MODE_64) <= 0 ||
	    excluded(&in, t->is_32bit) || is_jump(&in))
		return false;
	{
		bool is_32bit = t->is_32bit;

		memset(t, 0, offsetof(struct test_case, vectors));
		t->is_32bit = is_32bit;
	}
	t->number = number;
	t->template = number / 64 % TEMPLATES;
	t->layout = AT_0;
	state_draw(&g);
	t->start.gpr[X86_RSI] = operand_at(&g, &in);
	t->start.rip = layouts[t->layout].code + 256;
	t->n_spans = t->n_pieces = 1;
	t->span[0] = (struct span){.at = t->start.rip, .len = in.len};
	memcpy(t->span[0].bytes, c.bytes, in.len);
	t->piece[0] = (struct piece){.at = t->start.rip, .len = in.len};
	return true;
}
