/* SPDX-License-Identifier: MIT */
/*
 * Which instruction forms the cases executed: rows of the opcode table, by family.
 *
 * An instruction counts as executed if the case got past it (natively), as faulted if it ended
 * there. Behind a jump this is a guess; the sum is not.
 */
#include "insn.h"

#include <stdio.h>

enum { ROWS = 4096 };

static struct {
	const char *name;
	const char *family;
	unsigned long done, faulted;
} rows[ROWS];

static const char *family_of(const struct insn *in)
{
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

void coverage_add(const struct test_case *t, const struct outcome *o)
{
	for (unsigned i = 0; i < t->n_pieces; i++) {
		const struct piece *p = &t->piece[i];
		struct insn in;
		unsigned row;

		if (!case_insn(t, p->at, &in))
			continue;
		row = in.row % ROWS;
		rows[row].name = x86_insn_name(&in);
		rows[row].family = family_of(&in);
		if (p->at < o->rip)
			rows[row].done++;
		else if (p->at == o->rip)
			rows[row].faulted++;
	}
}

static void print_family(const char *family, bool all)
{
	unsigned forms = 0, column = 0;
	unsigned long done = 0, faulted = 0;

	for (unsigned i = 0; i < ROWS; i++) {
		if (rows[i].family != family)
			continue;
		forms += rows[i].done != 0;
		done += rows[i].done;
		faulted += rows[i].faulted;
	}
	printf("# %-14s %5u forms %10lu executed %8lu faulted\n", family, forms, done, faulted);
	if (!all)
		return;
	for (unsigned i = 0; i < ROWS; i++)
		if (rows[i].family == family)
			printf("%s%-16s%8lu+%-6lu", column++ % 3 ? " " : "\n#   ", rows[i].name,
			       rows[i].done, rows[i].faulted);
	putchar('\n');
}

void coverage_print(bool all)
{
	const char *seen[32];
	unsigned n = 0, k;

	for (unsigned i = 0; i < ROWS; i++) {
		for (k = 0; k < n && seen[k] != rows[i].family; k++)
			;
		if (!rows[i].family || k < n)
			continue;
		seen[n++] = rows[i].family;
		print_family(rows[i].family, all);
	}
}
