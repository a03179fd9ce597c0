/* SPDX-License-Identifier: MIT */
/*
 * What the translator did, for people: a dump of each translation, and a profile of the guest.
 *
 * SOFTKVM=dump writes every block to stderr as it is made, pass by pass: the guest's
 * instructions with their kinds (scan), the flags that are live before and after each
 * (liveness), the role in a group of accesses, and the host code (lower); tools/disasm
 * disassembles both sides. SOFTKVM=profile counts executions and, when the vCPU ends, lists the
 * blocks that ran most instructions.
 *
 * Nothing here runs while the guest's vector state is live: dump_block() saves it.
 */
#include <stdio.h>
#include <stdlib.h>

#include "softkvm/state/vector.h"
#include "softkvm/translate/translate.h"

static void hex(const uint8_t *p, unsigned n)
{
	while (n--)
		fprintf(stderr, "%02x", *p++);
}

static const char *flags_text(uint16_t live, char out[7])
{
	static const struct {
		uint16_t bit;
		char name;
	} flags[] = {{X86_OF, 'O'}, {X86_SF, 'S'}, {X86_ZF, 'Z'},
		     {X86_AF, 'A'}, {X86_PF, 'P'}, {X86_CF, 'C'}};
	unsigned i;

	for (i = 0; i < 6; i++)
		out[i] = live & flags[i].bit ? flags[i].name : '-';
	out[6] = 0;
	return out;
}

void dump_block(struct tr *t, const struct block *b)
{
	static const char *const places[] = {"dead", "eflags", "memory"};
	char before[7], after[7];
	int i;

	vec_save(t->e->c);
	fprintf(stderr, "block %u at %#llx (guest-physical %#llx), mode %#x, %d instructions\n",
		t->index, (unsigned long long)b->lin,
		(unsigned long long)t->page->gpa + t->at, t->mode, t->n);
	for (i = 0; i < t->n; i++) {
		unsigned from = t->map[i].host, to = t->map[i + 1].host;

		fprintf(stderr, "  +%03x %-16s live %s > %s, flags in %s%s\n", t->start[i],
			x86_kind_name((enum x86_kind)t->in[i].kind),
			flags_text(t->before[i], before), flags_text(t->after[i], after),
			places[t->map[i].flags], t->map[i].cb ? ", in a group" : "");
		fprintf(stderr, "       guest ");
		hex(t->code + (t->start[i] - t->at), t->in[i].len);
		fprintf(stderr, "\n       host  ");
		hex(t->e->code_rw + t->main + from, to - from);
		fputc('\n', stderr);
	}
	vec_load(t->e->c);
}

/* -- Profile ----------------------------------------------------------------------- */

static uint64_t weight(const struct engine *e, uint32_t n)
{
	return e->slots[e->block[n].counter] * e->block[n].n_insns;
}

static const struct engine *sorted; /* qsort() has no argument for it */

static int heavier(const void *a, const void *b)
{
	uint64_t x = weight(sorted, *(const uint32_t *)a);
	uint64_t y = weight(sorted, *(const uint32_t *)b);

	return (x < y) - (x > y);
}

#define PROFILE_ROWS 30

void profile_report(const struct engine *e)
{
	uint32_t *order = malloc((e->n_blocks + 1) * sizeof(*order)), i, n = 0;
	uint64_t total = 0;

	if (!order)
		return;
	for (i = 0; i < e->n_blocks; i++)
		if (e->block[i].counter) {
			order[n++] = i;
			total += weight(e, i);
		}
	sorted = e;
	qsort(order, n, sizeof(*order), heavier);
	fprintf(stderr, "vCPU %u, the blocks that ran most since the last cache flush:\n"
			"   share         runs  insns  bytes  host  address\n", e->c->id);
	for (i = 0; i < n && i < PROFILE_ROWS && total; i++) {
		const struct block *b = &e->block[order[i]];

		fprintf(stderr, "%6llu.%llu%% %12llu %6u %6u %5u  %#llx%s\n",
			(unsigned long long)(weight(e, order[i]) * 100 / total),
			(unsigned long long)(weight(e, order[i]) * 1000 / total % 10),
			(unsigned long long)e->slots[b->counter], b->n_insns, b->len,
			b->end - b->main, (unsigned long long)b->lin,
			b->mode & MODE_USER ? " user" : "");
	}
	free(order);
}
