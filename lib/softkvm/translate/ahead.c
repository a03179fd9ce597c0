/* SPDX-License-Identifier: MIT */
/*
 * Memory for translations, made before it is touched.
 *
 * Code and what is known of it lie in tables that grow from their beginnings and exist where they were touched.
 * A page fault for each 4 KiB of each costs more than filling it: a guest that has just been restored
 * translates some thousand blocks at once, which was a third of the time to its first answer. So they are
 * populated a piece ahead of where they are written.
 */
#include "softkvm/state/space.h"
#include "softkvm/translate/translate.h"

#define PIECE (64u << 10)

static void ahead(uint32_t *made, const void *base, size_t used, size_t all,
		  void (*touch)(void *at, size_t len))
{
	while (*made < used + PIECE / 2 && *made + PIECE <= all) {
		touch((uint8_t *)(uintptr_t)base + *made, PIECE);
		*made += PIECE;
	}
}

/* The same pages of the code cache in both of its mappings. */
static void code_ahead(struct engine *e, unsigned region)
{
	const struct region *r = &e->region[region];
	uint32_t used = r->at - r->begin, all = r->end - r->begin;

	ahead(&e->ahead.code_rw[region], e->code_rw + r->begin, used, all, space_touch);
	ahead(&e->ahead.code[region], e->code + r->begin, used, all, space_look);
}

void translate_ahead(struct engine *e)
{
	struct ahead *a = &e->ahead;
	unsigned i;

	for (i = 0; i < REGIONS; i++)
		code_ahead(e, i);
	ahead(&a->slots, e->slots, e->n_slots * sizeof(*e->slots), SLOTS * sizeof(*e->slots),
	      space_touch);
	ahead(&a->site, e->site, e->n_slots * sizeof(*e->site), SLOTS * sizeof(*e->site),
	      space_touch);
	ahead(&a->block, e->block, e->n_blocks * sizeof(*e->block), BLOCKS * sizeof(*e->block),
	      space_touch);
	ahead(&a->exit, e->exit, e->n_exits * sizeof(*e->exit), EXITS * sizeof(*e->exit),
	      space_touch);
	ahead(&a->map, e->map, e->n_maps * sizeof(*e->map), MAPS * sizeof(*e->map), space_touch);
	ahead(&a->bytes, e->bytes, e->n_bytes, BYTES, space_touch);
}
