/* SPDX-License-Identifier: MIT */
/*
 * Cases about addresses that nobody may use: not canonical, or right beside what is mapped.
 *
 * A guest's address selects an entry of a table, and what it becomes is an address of the host's
 * (docs/why/tlb.md). An attacker would try every instruction that accesses memory, in every form
 * of address, with an address whose lower 48 bits are those of a page that is mapped, after the
 * instruction has been made to expect that page. So a case is a loop, three times around:
 *
 *	mov rsi, [r15]          the table: two good addresses, then the one in question
 *	add r15, 8
 *	lea rsi, [rsi - ...]    so that the form below makes that address of it
 *	op  [form]
 *	dec r14d ; jne
 *
 * The CPU says what must come of it.
 */
#include "draw.h"

#include <string.h>

/* -- Addresses --------------------------------------------------------------------------------- */

#define BITS(from, to) ((2ull << (to)) - (1ull << (from)))
#define GOOD (DATA + 0x840)

static const uint64_t addresses[] = {
	/* the page that is mapped, with other upper bits: one, some, all, a sign that is wrong */
	GOOD | 1ull << 47, GOOD | 1ull << 48, GOOD | 1ull << 49, GOOD | 1ull << 52,
	GOOD | 1ull << 55, GOOD | 1ull << 56, GOOD | 1ull << 57, GOOD | 1ull << 61,
	GOOD | 1ull << 62, GOOD | 1ull << 63, GOOD | BITS(48, 63), GOOD | BITS(47, 62),
	GOOD | BITS(48, 56), GOOD | BITS(57, 63), GOOD | BITS(52, 63), GOOD | 0x5555ull << 48,
	GOOD | BITS(47, 63),
	/* the edges of the two halves, before, across and behind */
	0x00007ffffffffff8, 0x00007fffffffffff, 0x00007ffffffffff1, 0x0000800000000000,
	0x00007fffffffffc1, 0xffff7fffffffffff, 0xffff7ffffffffff8, 0xffff800000000000,
	0xfffffffffffffff8, 0xfffffffffffffff1, 0xffffffffffffffff, 0xffffffffffffffc0,
	0x8000000000000000, 0x7fffffffffffffff,
	/* around what is mapped: with holes before and behind */
	DATA - 1, DATA - 7, DATA + 2 * PAGE, DATA + 2 * PAGE - 1, DATA + 2 * PAGE - 7,
	DATA + 2 * PAGE - 63, RDPG, RDPG + PAGE - 3, STACK + 2 * PAGE - 31, 0,
};

enum { ADDRESSES = sizeof(addresses) / sizeof(addresses[0]) };

/* -- Instructions ------------------------------------------------------------------------------ */

enum {
	/* else ModRM follows, with an address of the form; `reg` is its middle field */
	SP = 1,    /* the address is RSP's */
	STRING = 2, /* it is RSI's, and RDI's as well */
	VSIB = 4,  /* an index of vectors: zeros */
	AT_RBX = 8, /* it is RBX's */
};

#define BYTES(s) .bytes = s, .len = sizeof(s) - 1

static const struct op {
	const char *bytes;
	uint8_t len;
	uint8_t flags, reg;
	uint8_t imm;              /* bytes that follow */
} ops[] = {
	{BYTES("\x8a")},             {BYTES("\x66\x8b")},         {BYTES("\x8b")},
	{BYTES("\x48\x8b")},         {BYTES("\x88")},             {BYTES("\x66\x89")},
	{BYTES("\x89")},             {BYTES("\x48\x89")},         {BYTES("\x48\x01")},
	{BYTES("\x48\x03")},         {BYTES("\x48\x3b")},         {BYTES("\xf0\x48\x0f\xc1")},
	{BYTES("\x48\x87")},         {BYTES("\x86")},             {BYTES("\xc6"), .imm = 1},
	{BYTES("\x48\x83"), .imm = 1}, {BYTES("\xc1"), .imm = 1}, {BYTES("\x48\x63")},
	{BYTES("\x0f\xb6")},         {BYTES("\x48\xf7"), .reg = 4}, {BYTES("\x48\xf7"), .reg = 6},
	{BYTES("\xff"), .reg = 6},   {BYTES("\x8f"), .reg = 0},   {BYTES("\x48\x0f\x44")},
	{BYTES("\x0f\x92")},         {BYTES("\x48\x0f\xa3")},     {BYTES("\xf0\x48\x0f\xab")},
	{BYTES("\x48\x0f\xba"), .reg = 5, .imm = 1},              {BYTES("\x0f\xc7"), .reg = 1},
	{BYTES("\x48\x0f\xc7"), .reg = 1}, {BYTES("\x48\x0f\xc3")}, {BYTES("\x0f\x38\xf0")},
	{BYTES("\x48\x8d")},         {BYTES("\x0f\x1f")},         {BYTES("\x0f\x18"), .reg = 1},
	{BYTES("\x0f\xae"), .reg = 7}, {BYTES("\x8c")},           {BYTES("\x8e"), .reg = 3},
	{BYTES("\xff"), .reg = 2},   {BYTES("\xff"), .reg = 4},   {BYTES("\x0f\xae"), .reg = 2},
	{BYTES("\x0f\xae"), .reg = 3}, {BYTES("\x0f\xae"), .reg = 1}, {BYTES("\x0f\xae"), .reg = 5},
	/* x87, MMX, SSE */
	{BYTES("\xd9"), .reg = 0},   {BYTES("\xdd"), .reg = 3},   {BYTES("\xdb"), .reg = 5},
	{BYTES("\xdb"), .reg = 7},   {BYTES("\xdf"), .reg = 4},   {BYTES("\xdf"), .reg = 6},
	{BYTES("\xd9"), .reg = 4},   {BYTES("\xd9"), .reg = 7},   {BYTES("\xdd"), .reg = 4},
	{BYTES("\x0f\x6f")},         {BYTES("\x0f\x7f")},         {BYTES("\x0f\x10")},
	{BYTES("\x0f\x11")},         {BYTES("\x0f\x28")},         {BYTES("\x66\x0f\xe7")},
	{BYTES("\xf2\x0f\x10")},     {BYTES("\xf3\x0f\x58")},     {BYTES("\x66\x0f\xef")},
	{BYTES("\x0f\x13")},         {BYTES("\x66\x0f\x3a\x63"), .imm = 1},
	/* AVX: plain, wide, masked, gathers; AVX-512: the same, broadcasts, scatters, compression */
	{BYTES("\xc5\xfc\x10")},     {BYTES("\xc5\xfc\x11")},     {BYTES("\xc5\xfd\x6f")},
	{BYTES("\xc4\xe2\x6d\x2c")}, {BYTES("\xc4\xe2\x6d\x2e")}, {BYTES("\xc4\xe2\xed\x8c")},
	{BYTES("\xc4\xe2\x7d\x18")}, {BYTES("\xc4\xe2\x7d\x1a")},
	{BYTES("\xc4\xe2\x6d\x90"), .flags = VSIB}, {BYTES("\xc4\xe2\xed\x93"), .flags = VSIB},
	{BYTES("\x62\xf1\x7c\x48\x10")}, {BYTES("\x62\xf1\x7c\x48\x11")},
	{BYTES("\x62\xf1\x7c\x49\x10")}, {BYTES("\x62\xf1\x7c\x49\x11")},
	{BYTES("\x62\xf1\xfd\xc9\x6f")}, {BYTES("\x62\xf1\x6c\x58\x58")},
	{BYTES("\x62\xf1\xed\x39\x58")}, {BYTES("\x62\xf2\x7d\x49\x88")},
	{BYTES("\x62\xf2\x7d\x49\x8a")}, {BYTES("\x62\xf2\x7d\x49\x90"), .flags = VSIB},
	{BYTES("\x62\xf2\xfd\x49\x92"), .flags = VSIB},
	{BYTES("\x62\xf2\x7d\x49\xa0"), .flags = VSIB},
	{BYTES("\x62\xf2\xfd\x49\xa3"), .flags = VSIB}, {BYTES("\x62\xf2\x7e\x49\x31")},
	/* the stack */
	{BYTES("\x50"), .flags = SP}, {BYTES("\x58"), .flags = SP}, {BYTES("\x6a\x01"), .flags = SP},
	{BYTES("\x66\x50"), .flags = SP}, {BYTES("\x66\x58"), .flags = SP},
	{BYTES("\x68\x01\x02\x03\x04"), .flags = SP}, {BYTES("\x9c"), .flags = SP},
	{BYTES("\x9d"), .flags = SP}, {BYTES("\xe8\0\0\0\0"), .flags = SP},
	{BYTES("\xff\xd0"), .flags = SP}, {BYTES("\xc3"), .flags = SP},
	{BYTES("\xc2\x10\0"), .flags = SP}, {BYTES("\xc8\x20\0\0"), .flags = SP},
	{BYTES("\xc8\x20\0\x02"), .flags = SP}, {BYTES("\x48\x89\xe5\xc9"), .flags = SP},
	{BYTES("\x0f\xa0"), .flags = SP}, {BYTES("\x0f\xa9"), .flags = SP},
	{BYTES("\x48\xcf"), .flags = SP}, {BYTES("\xcb"), .flags = SP},
	{BYTES("\x50\x53\x51\x52"), .flags = SP}, {BYTES("\x58\x5b\x59\x5a"), .flags = SP},
	/* strings */
	{BYTES("\xa4"), .flags = STRING}, {BYTES("\x48\xa5"), .flags = STRING},
	{BYTES("\xa6"), .flags = STRING}, {BYTES("\x48\xa7"), .flags = STRING},
	{BYTES("\xaa"), .flags = STRING}, {BYTES("\x48\xab"), .flags = STRING},
	{BYTES("\xac"), .flags = STRING}, {BYTES("\x48\xaf"), .flags = STRING},
	{BYTES("\xf3\xa4"), .flags = STRING}, {BYTES("\xf3\x48\xa5"), .flags = STRING},
	{BYTES("\xf3\xa6"), .flags = STRING}, {BYTES("\xf3\xaa"), .flags = STRING},
	{BYTES("\xf3\x48\xab"), .flags = STRING}, {BYTES("\xf3\x48\xad"), .flags = STRING},
	{BYTES("\xf2\x48\xaf"), .flags = STRING}, {BYTES("\x67\xf3\xa4"), .flags = STRING},
	{BYTES("\xfd\xf3\xaa\xfc"), .flags = STRING}, {BYTES("\x66\x0f\xf7\xd1"), .flags = STRING},
	{BYTES("\xd7"), .flags = AT_RBX}, {BYTES("\xff\xe3"), .flags = AT_RBX},
	{BYTES("\xff\xd3"), .flags = AT_RBX}, {BYTES("\x53\xc3"), .flags = AT_RBX},
};

enum { OPS = sizeof(ops) / sizeof(ops[0]) };

/* -- Forms --------------------------------------------------------------------------------------- */

#define DISP 0x1230

/* ModRM, SIB and displacement, middle field 0; rm is changed to a SIB for vectors. */
static const struct form {
	const char *bytes;
	uint8_t len;
	uint8_t prefix;           /* 64, 65 or 67 */
	bool rbp, rsp;            /* the base, instead of RSI */
	uint8_t scale;            /* log2: RSI is the index */
	int64_t plus;             /* what is added to RSI, with SEGMENT and R13 */
} forms[] = {
	{BYTES("\x06")},
	{BYTES("\x46\x10"), .plus = 0x10},
	{BYTES("\x86\x30\x12\0\0"), .plus = DISP},
	{BYTES("\x86\xf0\xff\xff\xff"), .plus = -16},
	{BYTES("\x04\x35\0\0\0\0")},
	{BYTES("\x04\x75\0\0\0\0"), .scale = 1},
	{BYTES("\x04\xb5\0\0\0\0"), .scale = 2},
	{BYTES("\x04\xf5\x40\0\0\0"), .scale = 3, .plus = 0x40},
	{BYTES("\x04\x33"), .plus = DATA},     /* [rbx + rsi], RBX below */
	{BYTES("\x44\x33\x08"), .plus = DATA + 8},
	{BYTES("\x45\0"), .rbp = true},
	{BYTES("\x04\x24"), .rsp = true},
	{BYTES("\x06"), .prefix = 0x64, .plus = GOOD},
	{BYTES("\x86\x30\x12\0\0"), .prefix = 0x65, .plus = DISP - GOOD},
	{BYTES("\x06"), .prefix = 0x67},
};

enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

const uint64_t address_length = (uint64_t)OPS * FORMS * ADDRESSES;

/* -- Code ----------------------------------------------------------------------------------------- */

static void add(struct test_case *t, const void *bytes, unsigned len)
{
	struct span *s = &t->span[0];

	t->piece[t->n_pieces++] = (struct piece){.at = s->at + s->len, .len = (uint8_t)len};
	memcpy(s->bytes + s->len, bytes, len);
	s->len += len;
}

#define ADD(t, s) add(t, s, sizeof(s) - 1)

/* RSI to where the form wants it. */
static void add_register(struct test_case *t, const struct op *op, const struct form *f)
{
	uint8_t lea[7] = {0x48, 0x8d, 0xb6};
	int32_t minus = (int32_t)-f->plus;
	uint8_t shift[4] = {0x48, 0xc1, 0xee, f->scale};

	ADD(t, "\x49\x8b\x37\x49\x83\xc7\x08"); /* mov rsi, [r15]; add r15, 8 */
	if (op->flags & SP)
		ADD(t, "\x48\x89\xf4");
	else if (op->flags & STRING)
		ADD(t, "\x48\x89\xf7");
	else if (op->flags & AT_RBX)
		ADD(t, "\x48\x89\xf3");
	if (op->flags & (SP | STRING | AT_RBX))
		return;
	memcpy(lea + 3, &minus, 4);
	if (f->plus)
		add(t, lea, 7);
	if (f->scale)
		add(t, shift, 4);
	if (f->rbp)
		ADD(t, "\x48\x89\xf5");
	if (f->rsp)
		ADD(t, "\x48\x89\xf4");
}

static void add_op(struct test_case *t, const struct op *op, const struct form *f)
{
	uint8_t b[24];
	unsigned n = 0;

	if (op->flags & VSIB) /* masks of ones, indices of zero */
		ADD(t, "\xc5\xed\x76\xd2\xc5\xf4\x46\xc9\xc5\xfc\x46\xc9\xc5\xe1\xef\xdb");
	if (op->flags & (SP | STRING | AT_RBX)) {
		add(t, op->bytes, op->len);
		return;
	}
	if (f->prefix)
		b[n++] = f->prefix;
	memcpy(b + n, op->bytes, op->len);
	n += op->len;
	if (op->flags & VSIB) { /* [rsi + vector 3] */
		b[n++] = 0x04 | op->reg << 3;
		b[n++] = 3 << 3 | X86_RSI;
	} else {
		b[n++] = (uint8_t)((uint8_t)f->bytes[0] | op->reg << 3);
		memcpy(b + n, f->bytes + 1, f->len - 1u);
		n += f->len - 1u;
	}
	for (unsigned i = 0; i < op->imm; i++)
		b[n++] = 3;
	add(t, b, n);
}

static bool has_form(const struct op *op, unsigned form)
{
	if (op->flags & VSIB)
		return form == 0 || forms[form].prefix;
	return form == 0 || !op->flags;
}

bool address_draw(struct test_case *t, uint64_t seed, uint64_t number)
{
	struct draw g = {.rng = rng_for(seed, number), .t = t, .tame = true};
	uint64_t at = addresses[number % ADDRESSES];
	unsigned form = (unsigned)(number / ADDRESSES % FORMS);
	const struct op *op = &ops[number / ADDRESSES / FORMS % OPS];
	const struct form *f = &forms[form];
	int8_t back;

	if (!has_form(op, form))
		return false;
	memset(t, 0, offsetof(struct test_case, vectors));
	t->number = number;
	state_draw(&g);
	t->start.fs = GOOD;
	t->start.gs = -(uint64_t)GOOD;
	t->start.gpr[X86_RBX] = DATA;
	t->start.gpr[X86_RCX] = 2;
	t->start.gpr[X86_R14] = 3;
	t->start.gpr[X86_R15] = STACK + 0x100;
	t->start.gpr[X86_RDX] = 0;
	t->start.flags &= ~(uint64_t)0x400;
	for (unsigned i = 0; i < 3; i++)
		t->patch[i] = (struct patch){STACK + 0x100 + 8 * i, i < 2 ? GOOD : at};
	t->n_patches = 3;
	t->n_spans = 1;
	t->span[0].at = CODE + 0x200;
	t->start.rip = CODE + 0x200;
	add_register(t, op, f);
	add_op(t, op, f);
	ADD(t, "\x41\xff\xce");                  /* dec r14d */
	back = (int8_t)-(int)(t->span[0].len + 2);
	add(t, (uint8_t[]){0x75, (uint8_t)back}, 2);
	return true;
}
