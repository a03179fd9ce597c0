/* SPDX-License-Identifier: MIT */
/* Objects to sections; state.h has the form. */
#include "state/private.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -- Walking a table --------------------------------------------------------------- */

struct walk {
	unsigned version;
	int (*visit)(void *ctx, const struct state_place *place);
	void *ctx;
};

static int walk_fields(const struct walk *w, const struct state_field *fields,
		       const char *prefix, uint8_t *object);

/* The elements of a part, the names of whose fields begin with its own. */
static int walk_part(const struct walk *w, const struct state_place *place)
{
	const struct state_field *f = place->field;
	char prefix[STATE_NAME_MAX + 12];
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < state_count(place); i++) {
		if (f->count)
			snprintf(prefix, sizeof(prefix), "%s.%u.", place->name, i);
		else
			snprintf(prefix, sizeof(prefix), "%s.", place->name);
		rc = walk_fields(w, f->part, prefix, place->at + (size_t)i * f->size);
	}
	return rc;
}

static int walk_fields(const struct walk *w, const struct state_field *fields,
		       const char *prefix, uint8_t *object)
{
	size_t before = strlen(prefix);
	int rc = 0;

	for (const struct state_field *f = fields; rc == 0 && f->name; f++) {
		struct state_place place = {.field = f, .at = object + f->offset, .object = object};
		size_t own = strlen(f->name) + 1;

		if (f->since > w->version)
			continue;
		if (before + own > sizeof(place.name))
			return -ENAMETOOLONG;
		memcpy(place.name, prefix, before);
		memcpy(place.name + before, f->name, own);
		rc = f->part ? walk_part(w, &place) : w->visit(w->ctx, &place);
	}
	return rc;
}

int state_walk(const struct state_table *table, unsigned version, void *object,
	       int (*visit)(void *ctx, const struct state_place *place), void *ctx)
{
	const struct walk w = {.version = version, .visit = visit, .ctx = ctx};

	return walk_fields(&w, table->fields, "", object);
}

/* -- Writing ----------------------------------------------------------------------- */

/* Room for so many bytes more; NULL when there is no memory. */
static uint8_t *append(struct state_out *out, size_t n)
{
	size_t room = out->room ? out->room : 4096;
	uint8_t *more, *at;

	while (room - out->len < n)
		room *= 2;
	if (room != out->room) {
		more = realloc(out->bytes, room);
		if (!more)
			return NULL;
		out->bytes = more;
		out->room = room;
	}
	at = out->bytes + out->len;
	out->len += n;
	return at;
}

static uint64_t element(const uint8_t *at, unsigned width)
{
	uint64_t value = 0;

	memcpy(&value, at, width); /* of a host that is little-endian, too */
	return value;
}

static int put_field(void *ctx, const struct state_place *place)
{
	unsigned width = place->field->width;
	size_t name = strlen(place->name), n = state_count(place);
	uint8_t *to = append(ctx, 1 + name + 1 + 4 + n * width);

	if (!to)
		return -ENOMEM;
	*to++ = (uint8_t)name;
	memcpy(to, place->name, name);
	to += name;
	*to++ = (uint8_t)width;
	le32_put(to, (uint32_t)n);
	to += 4;
	if (width == 1) {
		memcpy(to, place->at, n); /* there may be many */
		return 0;
	}
	for (size_t i = 0; i < n; i++, to += width) {
		uint8_t bytes[8];

		le64_put(bytes, element(place->at + i * width, width));
		memcpy(to, bytes, width);
	}
	return 0;
}

int state_save(struct state_out *out, const char *name, const struct state_table *table,
	       const void *object)
{
	size_t before = out->len, n = strlen(name), begin;
	uint8_t *head = n <= STATE_NAME_MAX ? append(out, 1 + n + 2 + 4) : NULL;
	int rc;

	if (!head)
		return n > STATE_NAME_MAX ? -ENAMETOOLONG : -ENOMEM;
	head[0] = (uint8_t)n;
	memcpy(head + 1, name, n);
	le16_put(head + 1 + n, table->version);
	begin = out->len;
	/* SAFE: put_field() only reads the object. */
	rc = state_walk(table, table->version, (void *)(uintptr_t)object, put_field, out);
	if (rc < 0)
		out->len = before;
	else
		le32_put(out->bytes + begin - 4, (uint32_t)(out->len - begin));
	return rc;
}
