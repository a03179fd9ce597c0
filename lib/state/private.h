/* SPDX-License-Identifier: MIT */
/* The walk over a table that saving and loading share. */
#ifndef STATE_PRIVATE_H
#define STATE_PRIVATE_H

#include "state/state.h"

/* A field of an object, or of a part of it: its whole name, and where it is. */
struct state_place {
	char name[STATE_NAME_MAX + 1];
	const struct state_field *field;
	uint8_t *at;
	uint8_t *object; /* of which `n_at` counts */
};

/* Calls visit() for each field that is no part, in order, until it returns other than 0. Fields that
 * are younger than `version` are left out. -ENAMETOOLONG for a table that is wrong. */
int state_walk(const struct state_table *table, unsigned version, void *object,
	       int (*visit)(void *ctx, const struct state_place *place), void *ctx);

/* How many elements there are. */
static inline uint32_t state_count(const struct state_place *place)
{
	uint32_t most = place->field->count ? place->field->count : 1, n = most;

	if (place->field->counted)
		__builtin_memcpy(&n, place->object + place->field->n_at, sizeof(n));
	return n < most ? n : most;
}

#endif
