/* SPDX-License-Identifier: MIT */
/*
 * Which instruction forms the cases executed: rows of the opcode table (a form is an opcode with
 * its prefix, W and group, whatever the operands), by family.
 *
 * An instruction counts as executed if the case got past it (natively), as faulted if it ended
 * there. Behind a jump this is a guess; the sum is not.
 */
#include "insn.h"

#include <stdio.h>
#include <string.h>

enum { ROWS = 4096 };

static struct {
	const char *name;
	const char *family;
	unsigned long done, faulted;
} rows[ROWS];

static const char *family_of(const struct insn *in)
{
	if (in->kind == X86_UD)
		return "undefined";
	if (in->enc == X86_EVEX)
		return "AVX-512";
	if (in->enc == X86_VEX)
		return in->simd ? "AVX" : "bit";
	if (in->kind >= X86_PUSH_R && in->kind <= X86_LEAVE)
		return "stack";
	if (in->kind >= X86_JMP_REL && in->kind <= X86_SYSEXIT)
		return "control flow";
	if (in->kind >= X86_MOVS && in->kind <= X86_OUTS)
		return "string";
	if (in->simd)
		return in->x87 ? "MMX" : "SSE";
	if (in->x87)
		return "x87";
	if (in->prefix & X86_PFX_LOCK)
		return "atomics";
	if (in->kind == X86_BT_MEM ||
	    (in->map == X86_MAP_0F && ((in->op & 0xc7) == 0x83 || in->op == 0xba ||
				       (in->op >= 0xb8 && in->op <= 0xbd))))
		return "bit";
	if (in->kind != X86_NATIVE && in->kind != X86_LEA && in->kind != X86_NOP &&
	    in->kind != X86_CLC_STC_CMC)
		return "system";
	return "integer";
}

static struct {
	unsigned long natively, interpreted, over; /* over: of both, those that ended at the end of the code */
} places[LAYOUTS];

static unsigned long verdicts[MODES][3];

void coverage_add(const struct test_case *t, const struct outcome *o)
{
	uint64_t left = layouts[t->layout].code + CODE_PAGES * PAGE - o->rip;

	if (t->other.mode != FLAT) {
		verdicts[t->other.mode][t->other.verdict]++;
		return;
	}
	places[t->layout].natively += !t->elsewhere;
	places[t->layout].interpreted += t->elsewhere;
	places[t->layout].over += left < 15 && o->vector != 3;
	for (unsigned i = 0; i < t->n_pieces; i++) {
		const struct piece *p = &t->piece[i];
		struct insn in;
		unsigned row;

		if (!case_insn(t, p->at, &in))
			continue;
		row = in.kind == X86_UD ? 0 : in.row % ROWS; /* 0: the undefined */
		rows[row].name = x86_insn_name(&in);
		rows[row].family = family_of(&in);
		if (p->at < o->rip)
			rows[row].done++;
		else if (p->at == o->rip)
			rows[row].faulted++;
	}
}

/* -- The table ---------------------------------------------------------------------------- */

/* In this order; family_of() names them. */
static const char *const families[] = {
	"integer", "bit", "atomics", "string", "stack", "control flow", "x87", "MMX", "SSE", "AVX",
	"AVX-512", "system", "undefined",
};

enum { FAMILIES = sizeof(families) / sizeof(families[0]) };

struct sum {
	unsigned forms;
	unsigned long done, faulted;
};

static void add_row(struct sum *s, unsigned i)
{
	s->forms += rows[i].done || rows[i].faulted;
	s->done += rows[i].done;
	s->faulted += rows[i].faulted;
}

static void print_line(const char *name, const struct sum *s)
{
	printf("# | %-12s | %5u | %10lu | %10lu |\n", name, s->forms, s->done, s->faulted);
}

static void print_summary(void)
{
	struct sum all = {0};

	printf("# | %-12s | %5s | %10s | %10s |\n", "family", "forms", "executed", "faulted");
	for (unsigned f = 0; f < FAMILIES; f++) {
		struct sum s = {0};

		for (unsigned i = 0; i < ROWS; i++)
			if (rows[i].family && !strcmp(rows[i].family, families[f])) {
				add_row(&s, i);
				add_row(&all, i);
			}
		print_line(families[f], &s);
	}
	print_line("all", &all);
}

/* Forms of one mnemonic follow each other: they share an entry. */
static bool is_same(unsigned i, unsigned k)
{
	return rows[i].family == rows[k].family && !strcmp(rows[i].name, rows[k].name);
}

static bool is_first(unsigned i)
{
	for (unsigned k = 0; k < i; k++)
		if (rows[k].family && is_same(i, k))
			return false;
	return true;
}

static void print_forms(const char *family)
{
	unsigned column = 0;

	printf("#\n# %s: executed+faulted (forms, where a name has several)\n", family);
	for (unsigned i = 0; i < ROWS; i++) {
		struct sum s = {0};
		char count[48];

		if (!rows[i].family || strcmp(rows[i].family, family) || !is_first(i))
			continue;
		for (unsigned k = i; k < ROWS; k++)
			if (rows[k].family && is_same(i, k))
				add_row(&s, k);
		snprintf(count, sizeof(count), s.forms > 1 ? "%lu+%lu (%u)" : "%lu+%lu", s.done,
			 s.faulted, s.forms);
		printf("%s%-17s%-15s", column++ % 3 ? " " : "#   ", rows[i].name, count);
		if (column % 3 == 0)
			putchar('\n');
	}
	if (column % 3)
		putchar('\n');
}

static void print_places(void)
{
	printf("# | %-30s | %10s | %11s | %8s |\n", "code", "natively", "interpreted", "over end");
	for (unsigned l = 0; l < LAYOUTS; l++)
		printf("# | %-30s | %10lu | %11lu | %8lu |\n", layouts[l].name, places[l].natively,
		       places[l].interpreted, places[l].over);
}

static void print_modes(void)
{
	printf("# | %-30s | %10s | %11s | %8s |\n", "mode, beside a twin", "executed", "refused", "at limit");
	for (unsigned m = FLAT + 1; m < MODES; m++)
		printf("# | %-30s | %10lu | %11lu | %8lu |\n", mode_names[m], verdicts[m][EXECUTED],
		       verdicts[m][REFUSED], verdicts[m][AT_LIMIT]);
}

void coverage_print(bool all)
{
	if (all)
		for (unsigned f = 0; f < FAMILIES; f++)
			print_forms(families[f]);
	print_summary();
	print_places();
	print_modes();
}
