/* SPDX-License-Identifier: MIT */
/*
 * Memory for translations, made before it is touched.
 *
 * Code and what is known of it lie in tables that grow from their beginnings and exist where they were touched.
 * A page fault for each 4 KiB of each costs more than filling it: a guest that has just been restored
 * translates some thousand blocks at once, which was a third of the time to its first answer. So they are
 * populated a piece ahead of where they are written.
 */
#include "softkvm/os/space.h"
#include "softkvm/translate/translate.h"

#define PIECE (32u << 10)

static void ahead(uint32_t *made, const void *base, size_t used, size_t all,
		  void (*touch)(void *at, size_t len))
{
	if ((uintptr_t)base & 4095) /* the host would refuse, and nobody would see it */
		__builtin_trap();
	while (*made < used + PIECE / 2 && *made + PIECE <= all) {
		touch((uint8_t *)(uintptr_t)base + *made, PIECE);
		*made += PIECE;
	}
}

/* The same pages of the code cache in both of its mappings, from the one in which the region begins; and what is known of
 * its blocks. */
static void region_ahead(struct engine *e, unsigned i)
{
	const struct region *r = &e->region[i];
	uint32_t begin = r->begin & ~4095u, used = r->at - begin, all = r->end - begin;

	ahead(&e->ahead.code_rw[i], e->code_rw + begin, used, all, space_touch);
	ahead(&e->ahead.code[i], e->code + begin, used, all, space_look);
	if (r->block)
		ahead(&e->ahead.extent[i], r->block, r->n * sizeof(*r->block), BLOCKS * sizeof(*r->block),
		      space_touch);
}

#define TABLE_AHEAD(table, used, all)                                                              \
	ahead(&e->ahead.table, e->table, (used) * sizeof(*e->table), (all) * sizeof(*e->table),    \
	      space_touch)

void translate_ahead(struct engine *e)
{
	for (unsigned i = 0; i < REGIONS; i++)
		region_ahead(e, i);
	TABLE_AHEAD(slots, e->n_slots, SLOTS);
	TABLE_AHEAD(site, e->n_slots, SLOTS);
	TABLE_AHEAD(block, e->n_blocks, BLOCKS);
	TABLE_AHEAD(exit, e->n_exits, EXITS);
	TABLE_AHEAD(map, e->n_maps, MAPS);
	TABLE_AHEAD(bytes, e->n_bytes, BYTES);
	TABLE_AHEAD(pool, e->n_pool, POOL);
	TABLE_AHEAD(page, e->n_pages, PAGES);
}
