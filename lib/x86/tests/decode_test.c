/* SPDX-License-Identifier: MIT */
/*
 * Encodings that decoders get wrong, each with what the manual says, and the
 * properties that hold for all of them: nothing after the n bytes is read, a
 * beginning is recognised as one, and what comes after an instruction does not
 * matter.
 *
 * An instruction is shown as one line, so that a row of the table can be read:
 *
 *	add os8 rm:0rw reg:3r >CPAZSO           a native instruction; operand size 8; modrm.rm
 *	                                        is register 0, read and written; reg is 3, read;
 *	                                        all six flags are certainly written
 *	add os4 m4rw[3+1*4+8] ...               4 bytes of memory at RBX + RCX * 4 + 8
 *	CF>... and <...                         flags read; a trailing ~: flags may change
 *	{kind}                                  what it is if it is not native
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/tap.h"
#include "x86/decode.h"

/* -- Showing ----------------------------------------------------------------------- */

struct text {
	char s[200];
	unsigned n;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *t, const char *fmt,
						      ...)
{
	va_list ap;

	va_start(ap, fmt);
	t->n += vsnprintf(t->s + t->n, sizeof(t->s) - t->n, fmt, ap);
	va_end(ap);
}

static void show_field(struct text *t, const char *name, uint8_t f, unsigned reg,
		       bool r, bool w)
{
	if (f == X86_F_NONE)
		return;
	add(t, " %s:%u%s%s%s", name, reg,
	    f == X86_F_GPR8    ? "b"
	    : f == X86_F_OTHER ? "v"
			       : "",
	    r ? "r" : "", w ? "w" : "");
}

static void show_memory(struct text *t, const struct insn *in)
{
	static const char *const seg[] = {"es:", "cs:", "ss:", "ds:", "fs:", "gs:"};

	if (!in->has_mem)
		return;
	add(t, " m%u%s%s[%s", in->mem_size, in->mem_r ? "r" : "", in->mem_w ? "w" : "",
	    in->seg < 6 ? seg[in->seg] : "");
	if (in->base == X86_RIP)
		add(t, "rip");
	else if (in->base != X86_REG_NONE)
		add(t, "%u", in->base);
	if (in->index != X86_REG_NONE)
		add(t, "+%u*%u", in->index, in->scale);
	if (in->disp)
		add(t, "%s%lld", in->disp < 0 ? "" : "+", (long long)in->disp);
	add(t, "]");
}

static void show_registers(struct text *t, const char *name, unsigned set)
{
	if (!set)
		return;
	add(t, " %s", name);
	for (unsigned i = 0; i < 16; i++)
		if (set & 1u << i)
			add(t, ",%u", i);
}

static void show_flags(struct text *t, char dir, unsigned flags)
{
	static const struct {
		unsigned bit;
		char name;
	} flag[] = {{X86_CF, 'C'}, {X86_PF, 'P'}, {X86_AF, 'A'},
		    {X86_ZF, 'Z'}, {X86_SF, 'S'}, {X86_OF, 'O'}};

	if (!flags)
		return;
	add(t, " %c", dir);
	for (unsigned i = 0; i < 6; i++)
		if (flags & flag[i].bit)
			add(t, "%c", flag[i].name);
}

static const char *show(const struct insn *in, int rc)
{
	static struct text t;

	t.n = 0;
	if (rc == -ENODATA)
		return "more";
	if (rc == -E2BIG)
		return "too long";
	if (in->kind == X86_UD) {
		add(&t, "{undefined} %u", in->len);
		return t.s;
	}
	add(&t, "%s", x86_insn_name(in));
	if (in->kind != X86_NATIVE)
		add(&t, " {%s}", x86_kind_name(in->kind));
	add(&t, " os%u", in->opsize);
	if (in->vl)
		add(&t, " vl%u", in->vl);
	show_memory(&t, in);
	if (in->oreg != X86_REG_NONE)
		show_field(&t, "oreg", in->f_rm, in->oreg, in->rm_r, in->rm_w);
	else if (!in->has_mem)
		show_field(&t, "rm", in->f_rm, in->rm, in->rm_r, in->rm_w);
	show_field(&t, "reg", in->f_reg, in->reg, in->reg_r, in->reg_w);
	show_field(&t, "vvvv", in->f_vvvv, in->vvvv, in->vvvv_r, in->vvvv_w);
	if (in->imm_len)
		add(&t, " i%u:%lld", in->imm_len, (long long)in->imm);
	if (in->imm2)
		add(&t, ",%u", in->imm2);
	show_registers(&t, "in", in->gpr_r);
	show_registers(&t, "out", in->gpr_w);
	show_flags(&t, '<', in->flags_r);
	show_flags(&t, '>', in->flags_w);
	if (in->flags_touch)
		add(&t, " ~");
	if (in->lockable)
		add(&t, " lock");
	if (in->x87)
		add(&t, " x87");
	if (in->can_trap)
		add(&t, " trap");
	return t.s;
}

static unsigned from_hex(const char *hex, uint8_t *bytes)
{
	unsigned n = 0, byte;
	int used;

	for (; sscanf(hex, "%x%n", &byte, &used) == 1; hex += used)
		bytes[n++] = byte;
	return n;
}

/* -- The table --------------------------------------------------------------------- */

enum { M16 = X86_MODE_16, M32 = X86_MODE_32, M64 = X86_MODE_64 };

static const struct {
	uint8_t mode;
	const char *hex, *want;
} cases[] = {
#include "decode_cases.h"
};

static void test_table(void)
{
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		static const int bits[] = {16, 32, 64};
		uint8_t bytes[32];
		unsigned n = from_hex(cases[i].hex, bytes);
		struct insn in;
		int rc = x86_decode(&in, bytes, n, cases[i].mode);

		is_str(show(&in, rc), cases[i].want, "%d: %s", bits[cases[i].mode],
		       cases[i].hex);
		if (rc > 0 && in.kind != X86_UD)
			is_int(rc, n, "and all of it");
	}
}

/* -- Properties -------------------------------------------------------------------- */

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* Bytes that often mean something: prefixes, escapes, ModRM with SIB. */
static void draw(uint8_t *p, unsigned n)
{
	static const uint8_t often[] = {0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x0f, 0x0f, 0x38,
					0x3a, 0x48, 0x41, 0xc4, 0xc5, 0x62, 0x2e, 0x84};

	for (unsigned i = 0; i < n; i++) {
		uint64_t r = rnd();

		p[i] = r & 0x300 ? r : often[r >> 16 & 15];
	}
}

/* The end of a page with nothing behind it: a read past n bytes ends the test. */
static uint8_t *make_cliff(void)
{
	long page = sysconf(_SC_PAGESIZE);
	uint8_t *p = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + page, page, PROT_NONE))
		return NULL;
	return p + page;
}

static bool same(const struct insn *a, const struct insn *b)
{
	return !memcmp(a, b, sizeof(*a));
}

static void test_beginnings(void)
{
	uint8_t *cliff = make_cliff(), bytes[64];
	unsigned long wrong_begin = 0, wrong_same = 0, tried = 0;

	if (!ok(cliff != NULL, "a page with nothing behind it"))
		return;
	for (int i = 0; i < 200000; i++) {
		enum x86_mode mode = rnd() % 3;
		struct insn whole = {0}, part = {0};
		int rc;

		draw(bytes, sizeof(bytes));
		rc = x86_decode(&whole, bytes, sizeof(bytes), mode);
		for (int n = 0; n <= 20; n++) {
			int got;

			memcpy(cliff - n, bytes, n);
			got = x86_decode(&part, cliff - n, n, mode);
			if (rc > 0 && n >= rc)
				wrong_same += got != rc || !same(&whole, &part);
			else if (rc > 0 || n < 15)
				wrong_begin += got != -ENODATA;
			else
				wrong_begin += got != -E2BIG;
			tried++;
		}
	}
	is_int(wrong_begin, 0, "%lu beginnings are known as such", tried);
	is_int(wrong_same, 0, "what follows an instruction does not matter");
}

static void test_names(void)
{
	bool all = true;

	for (int k = 0; k < X86_KINDS; k++)
		all &= x86_kind_name(k) && *x86_kind_name(k);
	ok(all, "every kind has a name");
}

int main(void)
{
	test_table();
	test_beginnings();
	test_names();
	return done_testing();
}
