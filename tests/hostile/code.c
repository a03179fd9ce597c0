/* SPDX-License-Identifier: MIT */
/*
 * The code cache from inside, after an attack: does everything that leads to translated code lead to the
 * beginning of a living block of the right page and mode?
 *
 *	extents       the blocks of a region, ascending, side by side
 *	lists         a living block is in the table, in its page's list, in that of the page it crosses into;
 *	              no dead one is
 *	exits         chained: to a living block of the same page and mode, at the entry that the flags
 *	              want, with a poll if it goes backward; else to their stub or thunk
 *	jump caches   an entry is empty, or the gate of a block at this address and of the view's mode, in
 *	              the page that the instruction TLB has; a dead block's gate leads to C. All that are not
 *	              empty are in the log.
 *	jumped        the same, where its age is that of a view
 *	instruction   an entry that is some view's is where that view looks for it
 *	TLB
 */
#include "tests/hostile/hostile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "softkvm/translate/code.h"

#define NOBODY ~0u

struct gate {
	uint32_t at, block;
};

struct audit {
	struct engine *e;
	struct gate *gates; /* ascending */
	size_t n_gates;
	uint8_t *logged;
};

static bool wrong(const char *what, uint64_t which, uint64_t value)
{
	printf("# %s %llx: %llx\n", what, (unsigned long long)which, (unsigned long long)value);
	return false;
}

/* -- Blocks ---------------------------------------------------------------------------- */

static bool check_extents(const struct engine *e, const struct region *r)
{
	uint32_t end = r->begin;

	for (uint32_t i = 0; i < r->n; i++) {
		const struct block *b = &e->block[r->block[i].block];

		if (r->block[i].block >= e->n_blocks || b->end != r->block[i].end ||
		    b->main < end || b->end <= b->main || b->end > r->at)
			return wrong("the extent of block", r->block[i].block, b->main);
		end = b->end;
	}
	return true;
}

static bool check_entries(struct engine *e, const struct block *b)
{
	const struct region *r = region_at(e, b->main);

	for (unsigned k = 0; k < ENTRIES; k++) {
		const struct block *in = b->entry[k] ? block_at_host(e, b->entry[k]) : NULL;

		if (b->entry[k] && (b->entry[k] < r->begin || b->entry[k] >= r->at || (in && in != b)))
			return wrong("an entry of block", (uint64_t)(b - e->block), b->entry[k]);
	}
	return true;
}

static bool check_blocks(struct engine *e, uint32_t *living, uint32_t *crossing)
{
	for (uint32_t i = 0; i < e->n_blocks; i++) {
		const struct block *b = &e->block[i];

		if (!check_entries(e, b))
			return false;
		if (b->page >= e->n_pages || (b->over && b->page2 >= e->n_pages))
			return wrong("the page of block", i, b->page);
		if (b->dead)
			continue;
		if (block_find(e, &e->page[b->page], b->at, b->mode) != b)
			return wrong("the table does not have block", i, b->at);
		++*living;
		*crossing += b->over != 0;
	}
	return true;
}

static bool check_lists(const struct engine *e, uint32_t living, uint32_t crossing)
{
	for (uint32_t p = 0; p < e->n_pages; p++) {
		for (uint32_t i = e->page[p].blocks; i != NOBODY; i = e->block[i].next)
			if (e->block[i].dead || e->block[i].page != p || !living--)
				return wrong("a page's list has block", p, i);
		for (uint32_t i = e->page[p].crossing; i != NOBODY; i = e->block[i].next2)
			if (e->block[i].dead || !e->block[i].over || e->block[i].page2 != p ||
			    !crossing--)
				return wrong("the list of what crosses into a page has block", p, i);
	}
	return !living && !crossing ? true : wrong("blocks that are in no list", living, crossing);
}

/* -- Exits ----------------------------------------------------------------------------- */

static uint32_t leads_to(const struct engine *e, uint32_t site)
{
	int32_t rel;

	memcpy(&rel, e->code + site, 4);
	return site + 4 + (uint32_t)rel;
}

/* What exit_chain() says, from the other end. */
static uint32_t right_entry(const struct exit_rec *x, const struct block *to)
{
	const bool polls = x->backward;

	if (to->over)
		return to->entry[x->flags == FLAGS_MEM ? ENTRY_MEM : ENTRY_POLL];
	if (x->flags == FLAGS_MEM && to->live_in)
		return to->entry[polls ? ENTRY_MEM_POLL : ENTRY_MEM];
	return polls ? to->entry[ENTRY_POLL] : to->main;
}

static bool check_exit(const struct engine *e, uint32_t i)
{
	const struct exit_rec *x = &e->exit[i];
	const struct block *from = &e->block[x->block], *to;
	uint32_t at = leads_to(e, x->site);

	if (x->block >= e->n_blocks || x->site < from->main || x->site + 4 > from->end)
		return wrong("the site of exit", i, x->site);
	if (x->to == NOBODY)
		return at == (x->stub ? x->stub : x->flags == FLAGS_MEM ? e->thunk.exit_mem : e->thunk.exit) ?
			       true : wrong("unchained exit", i, at);
	to = &e->block[x->to];
	if (x->to >= e->n_blocks || to->dead || to->page != from->page || to->at != x->target ||
	    to->mode != (from->mode & ~MODE_SINGLE))
		return wrong("chained exit", i, x->to);
	if (!at || at != right_entry(x, to))
		return wrong("the entry of exit", i, at);
	return x->backward || to->over || x->target >= from->at + from->len ?
		       true : wrong("no poll on the way back", i, at);
}

static bool check_exits(const struct engine *e)
{
	uint32_t chained = 0;

	for (uint32_t i = 0; i < e->n_exits; i++) {
		if (!check_exit(e, i))
			return false;
		chained += e->exit[i].to != NOBODY;
	}
	for (uint32_t i = 0; i < e->n_blocks; i++)
		for (uint32_t x = e->block[i].in; x != NOBODY; x = e->exit[x].next_in)
			if (e->exit[x].to != i || !chained--)
				return wrong("a list of exits", i, x);
	return !chained ? true : wrong("chained exits in no list", chained, 0);
}

/* -- Jump caches ----------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
	const struct gate *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

static bool find_gates(struct audit *a)
{
	a->gates = calloc(a->e->n_blocks + 1, sizeof(*a->gates));
	a->logged = malloc(JC_SIZE);
	if (!a->gates || !a->logged)
		return false;
	for (uint32_t i = 0; i < a->e->n_blocks; i++)
		if (a->e->block[i].entry[ENTRY_GATE])
			a->gates[a->n_gates++] = (struct gate){a->e->block[i].entry[ENTRY_GATE], i};
	qsort(a->gates, a->n_gates, sizeof(*a->gates), by_place);
	return true;
}

static const struct block *block_of_gate(const struct audit *a, uint32_t at)
{
	const struct gate key = {.at = at};
	const struct gate *g = bsearch(&key, a->gates, a->n_gates, sizeof(key), by_place);

	return g ? &a->e->block[g->block] : NULL;
}

/* A gate by which S1 = lin may go on in this view: alive and right, or dead. */
static bool is_right_gate(const struct audit *a, uint32_t at, uint64_t lin, const struct view *v)
{
	const struct block *b = block_of_gate(a, at);

	if (!b)
		return false;
	if (b->dead)
		return a->e->code[at] == 0xe9 && leads_to(a->e, at + 1) == a->e->thunk.gate_miss;
	return b->at == (lin & 4095) && b->mode == v->jc_mode;
}

static bool is_right_page(const struct audit *a, uint32_t at, uint64_t lin, const struct view *v)
{
	const struct block *b = block_of_gate(a, at);

	for (unsigned i = 0; i < ITLB && !b->dead; i++)
		if (a->e->itlb[i].lin == ((lin & ~4095ull) | 1) && a->e->itlb[i].age == v->age)
			return a->e->itlb[i].page == b->page;
	return true; /* it was evicted, which the view's filter knows */
}

static bool check_jumps(const struct audit *a, const struct view *v)
{
	const struct engine *e = a->e;

	if (!v->begun)
		return true;
	memset(a->logged, 0, JC_SIZE);
	for (uint32_t i = 0; i < v->n_jc; i++)
		a->logged[v->jc_log[i]] = 1;
	for (unsigned i = 0; i < JC_SIZE; i++) {
		const uint64_t lin = v->jc[i].lin, at = v->jc[i].code - code_addr(e, 0);

		if (lin == JC_NONE ? at != e->thunk.gate_miss :
				     (lin & (JC_SIZE - 1)) != i || !a->logged[i] ||
					     !is_right_gate(a, (uint32_t)at, lin, v) ||
					     !is_right_page(a, (uint32_t)at, lin, v))
			return wrong("a jump cache, for", lin, at);
	}
	return true;
}

static const struct view *view_aged(const struct engine *e, uint64_t age)
{
	if (e->kernel.begun && e->kernel.jc_age == age)
		return &e->kernel;
	for (unsigned i = 0; i < USER_VIEWS; i++)
		if (e->user[i].begun && e->user[i].jc_age == age)
			return &e->user[i];
	return NULL;
}

static bool check_jumped(const struct audit *a)
{
	const struct engine *e = a->e;

	for (unsigned i = 0; i < JUMPED; i++) {
		const struct jumped *j = &e->jumped[i];
		const struct view *v = j->gate || j->lin || j->age ? view_aged(e, j->age) : NULL;

		if (v && (j->flushes != (uint32_t)e->c->stat.cache_flushes ||
			  j->lin * JUMPED_HASH >> (64 - JUMPED_BITS) != i ||
			  !is_right_gate(a, j->gate, j->lin, v)))
			return wrong("the second jump cache, for", j->lin, j->gate);
	}
	return true;
}

/* -- The instruction TLB ----------------------------------------------------------------- */

static bool is_aged(const struct engine *e, uint64_t age)
{
	bool is = e->kernel.age == age;

	for (unsigned i = 0; i < USER_VIEWS; i++)
		is |= e->user[i].age == age;
	return is;
}

static bool check_itlb(const struct engine *e)
{
	for (unsigned i = 0; i < ITLB; i++) {
		const struct itlb *t = &e->itlb[i];

		if (t->lin && is_aged(e, t->age) &&
		    ((((t->lin >> 12) + t->age * 67) & (ITLB - 1)) != i || t->page >= e->n_pages))
			return wrong("the instruction TLB, for", t->lin, i);
	}
	return true;
}

/* -- All ------------------------------------------------------------------------------- */

bool code_sound(struct engine *e)
{
	struct audit a = {.e = e};
	uint32_t living = 0, crossing = 0;
	bool fine = find_gates(&a) && check_extents(e, &e->region[REGION_COLD]) &&
		    check_extents(e, &e->region[REGION_HOT]) && check_blocks(e, &living, &crossing) &&
		    check_lists(e, living, crossing) && check_exits(e) && check_jumps(&a, &e->kernel) &&
		    check_jumped(&a) && check_itlb(e);

	for (unsigned i = 0; i < USER_VIEWS; i++)
		fine = fine && check_jumps(&a, &e->user[i]);
	free(a.gates);
	free(a.logged);
	return fine;
}
