/* SPDX-License-Identifier: MIT */
/*
 * See truth.h. The walk shares nothing with mmu/walk.c but the manual: Intel SDM volume 3,
 * chapter 4.5; what an event covers is chapter 4.10.4.
 */
#include "tests/hostile/truth.h"

#include <stdlib.h>
#include <string.h>

#include "tests/hostile/hostile.h"

enum { FIXED = 3, PAGES = FIXED + TABLES, EVENTS = 256 };

_Static_assert(PD_AT == PML4_AT + 2 * PAGE, "the fixed tables are three pages in a row");

struct truth {
	unsigned phys_bits, n_events;
	uint32_t last; /* number of the newest version */
	struct event event[EVENTS];
	uint64_t table[VERSIONS][PAGES][PAGE / 8];
};

struct truth *truth_create(unsigned phys_bits)
{
	struct truth *t = calloc(1, sizeof(*t));

	if (!t)
		abort();
	t->phys_bits = phys_bits;
	return t;
}

void truth_destroy(struct truth *t)
{
	free(t);
}

void truth_see(struct truth *t, const uint8_t *ram)
{
	uint64_t (*to)[PAGE / 8] = t->table[t->last];

	memcpy(to, ram + PML4_AT, FIXED * PAGE);
	memcpy(to + FIXED, ram + TABLES_AT, TABLES * PAGE);
}

void truth_begin(struct truth *t, const uint8_t *ram)
{
	t->last = 0;
	t->n_events = 0;
	truth_see(t, ram);
}

bool truth_is_full(const struct truth *t)
{
	return t->last + 1 == VERSIONS;
}

void truth_change(struct truth *t, const uint8_t *ram)
{
	t->last++;
	truth_see(t, ram);
}

/* Should there be too many for the table, the audit becomes milder. */
void truth_event(struct truth *t, struct event e)
{
	e.at = t->last;
	if (t->n_events < EVENTS)
		t->event[t->n_events++] = e;
}

static bool entry_of(const struct truth *t, uint32_t version, uint64_t at, uint64_t *entry)
{
	const uint64_t (*table)[PAGE / 8] = t->table[version];

	if (at >= PML4_AT && at < PML4_AT + FIXED * PAGE)
		*entry = table[(at - PML4_AT) / PAGE][at % PAGE / 8];
	else if (at >= TABLES_AT && at < TABLES_AT + TABLES * PAGE)
		*entry = table[FIXED + (at - TABLES_AT) / PAGE][at % PAGE / 8];
	else
		return false;
	return true;
}

static bool is_reserved(const struct truth *t, uint64_t entry, int level, bool leaf)
{
	uint64_t bad = ((1ull << 52) - 1) & ~((1ull << t->phys_bits) - 1);

	if (level == 4)
		bad |= 0x80;
	else if (leaf && level > 1)
		bad |= (1ull << (3 + 9 * level)) - 0x2000;
	return entry & bad;
}

static bool walk(const struct truth *t, uint32_t version, uint64_t root, uint64_t lin,
		 struct answer *a)
{
	uint64_t at = root & 0xffffffffff000, entry;

	*a = (struct answer){.user = true, .writable = true, .accessed = true};
	for (int level = 4; ; level--) {
		unsigned shift = 3 + 9 * (unsigned)level;
		bool leaf;

		if (!entry_of(t, version, at + (lin >> shift & 511) * 8, &entry) || !(entry & 1))
			return false;
		leaf = level == 1 || (level < 4 && entry & 0x80);
		if (is_reserved(t, entry, level, leaf))
			return false;
		a->writable &= entry >> 1 & 1;
		a->user &= entry >> 2 & 1;
		a->accessed &= entry >> 5 & 1;
		a->nx |= entry >> 63;
		at = entry & 0xffffffffff000;
		if (!leaf)
			continue;
		a->size = 1ull << shift;
		a->dirty = entry & 0x40;
		a->global = entry & 0x100;
		a->gpa = (at & ~(a->size - 1)) | (lin & (a->size - 1) & ~4095ull);
		return true;
	}
}

static bool covers(const struct event *e, const struct answer *a, uint32_t pcid, uint64_t lin)
{
	bool same_page = !((e->lin ^ lin) & ~(a->size - 1));

	switch (e->kind) {
	case EVENT_ALL: return true;
	case EVENT_NOT_GLOBAL: return !a->global;
	case EVENT_PCID: return !a->global && e->pcid == pcid;
	case EVENT_PAGE: return same_page && (a->global || e->pcid == pcid);
	case EVENT_PAGE_PCID: return same_page && !a->global && e->pcid == pcid;
	}
	return true;
}

int truth_find(const struct truth *t, uint64_t root, uint32_t pcid, uint64_t lin,
	       truth_wants *wants, void *arg)
{
	for (uint32_t v = t->last + 1; v--;) {
		struct answer a;
		bool gone = false;

		if (!walk(t, v, root, lin, &a) || !wants(&a, arg))
			continue;
		for (unsigned i = 0; i < t->n_events && !gone; i++)
			gone = t->event[i].at > v && covers(&t->event[i], &a, pcid, lin);
		if (!gone)
			return (int)(t->last - v);
	}
	return -1;
}
