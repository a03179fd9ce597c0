/* SPDX-License-Identifier: MIT */
/*
 * Sections that are kept as text, OWNER.TABLE.VERSION.hex, one for each version that there ever was. Rows of 32 bytes,
 * as `xxd -r -p` takes them. A file is written once and never changed: what it says was written by somebody's lodge.
 */
#ifndef STATE_TESTS_FROZEN_H
#define STATE_TESTS_FROZEN_H

#include "base/err.h"
#include "state/tests/fields.h"
#include "tests/tap.h"

#include <stdlib.h>

#define FROZEN_MAX 32768u

struct frozen {
	uint8_t bytes[FROZEN_MAX];
	size_t len;
};

static inline FILE *frozen_open(const char *directory, const char *owner, const char *table, unsigned version,
				const char *mode)
{
	char path[1024];

	snprintf(path, sizeof(path), "%s/%s.%s.%u.hex", directory, owner, table, version);
	return fopen(path, mode);
}

static inline bool frozen_read(const char *directory, const char *owner, const char *table,
			       unsigned version, struct frozen *f)
{
	FILE *file = frozen_open(directory, owner, table, version, "re");

	f->len = 0;
	if (!file)
		return false;
	while (f->len < FROZEN_MAX && fscanf(file, "%2hhx", &f->bytes[f->len]) == 1)
		f->len++;
	fclose(file);
	return true;
}

static inline bool frozen_write(const char *directory, const char *owner, const char *table,
				unsigned version, const uint8_t *bytes, size_t len)
{
	FILE *file = frozen_open(directory, owner, table, version, "wxe");

	for (size_t i = 0; file && i < len; i++)
		fprintf(file, "%02x%s", bytes[i], i % 32 == 31 || i == len - 1 ? "\n" : "");
	return file && fclose(file) == 0;
}

/* Where the section of this name is among others; its length. */
static inline uint8_t *frozen_find(const struct state_out *state, const char *name, size_t *len)
{
	size_t at = 0;

	while (at < state->len) {
		char is[STATE_NAME_MAX + 1];
		size_t head = field_name(state->bytes, at, is), n = head + 6 - at +
			le32_get(state->bytes + head + 2);

		*len = n;
		if (!strcmp(is, name))
			return state->bytes + at;
		at += n;
	}
	return NULL;
}

/* Names, widths and counts, but for counts of what has a counter. */
static inline bool frozen_same_shape(uint8_t *a, size_t a_len, uint8_t *b, size_t b_len)
{
	struct field fa = {0}, fb = {0};
	bool more;

	while ((more = next_field(a, a_len, &fa)) == next_field(b, b_len, &fb)) {
		if (!more)
			return true;
		if (fa.version != fb.version || strcmp(fa.name, fb.name) != 0 || fa.width != fb.width ||
		    fa.count != fb.count) {
			note("'%s' %u times %u bytes was '%s' %u times %u", fa.name, fa.count, fa.width,
			     fb.name, fb.count, fb.width);
			return false;
		}
	}
	return false;
}

/* Whether what the table's section in `state` looks like is frozen. */
static inline void frozen_check(const char *directory, const char *owner, const struct state_table *table,
				const struct state_out *state, bool freeze)
{
	static struct frozen f;
	char name[STATE_NAME_MAX + 1];
	uint8_t *now;
	size_t len = 0;

	snprintf(name, sizeof(name), "%s/%s", owner, table->name);
	now = frozen_find(state, name, &len);
	if (!ok(now, "%s has a section", name))
		return;
	if (freeze && !frozen_read(directory, owner, table->name, table->version, &f))
		ok(frozen_write(directory, owner, table->name, table->version, now, len),
		   "%s: version %u is frozen now", name, table->version);
	if (!ok(frozen_read(directory, owner, table->name, table->version, &f),
		"%s: version %u is frozen (else: --freeze)", name, table->version))
		return;
	ok(frozen_same_shape(now, len, f.bytes, f.len),
	   "%s: the table is as it was when version %u was frozen (else: a new version)", name,
	   table->version);
}

/* `state` with the table's section as it was in that version. */
static inline bool frozen_replace(const char *directory, const char *owner, const struct state_table *table,
				  unsigned version, const struct state_out *state, struct state_out *old)
{
	static struct frozen f;
	char name[STATE_NAME_MAX + 1];
	size_t len = 0, before;
	uint8_t *now;

	snprintf(name, sizeof(name), "%s/%s", owner, table->name);
	now = frozen_find(state, name, &len);
	if (!ok(now && frozen_read(directory, owner, table->name, version, &f), "%s: version %u is there",
		name, version))
		return false;
	before = (size_t)(now - state->bytes);
	old->bytes = realloc(old->bytes, state->len + f.len);
	memcpy(old->bytes, state->bytes, before);
	memcpy(old->bytes + before, f.bytes, f.len);
	memcpy(old->bytes + before + f.len, now + len, state->len - before - len);
	old->len = old->room = state->len - len + f.len;
	return true;
}

#endif
