/* SPDX-License-Identifier: MIT */
/*
 * Sections that are kept as text, SECTION.VERSION.hex (with '.' for the section's '/'), one for each version that
 * there ever was. Rows of 32 bytes, as `xxd -r -p` takes them. A file is written once and never changed: what it says
 * was written by somebody's lodge.
 *
 *	frozen_check(directory, "uart/16550", &state, freeze);     // today's table is that of the newest text
 *	for (v = 1; frozen_replace(directory, "uart/16550", v, &state, &old); v++)
 *		...                                                // each is loaded
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

static inline FILE *frozen_open(const char *directory, const char *section, unsigned version, const char *mode)
{
	char path[1024];
	int at = snprintf(path, sizeof(path), "%s/", directory);

	snprintf(path + at, sizeof(path) - (size_t)at, "%s.%u.hex", section, version);
	for (char *p = path + at; *p; p++)
		if (*p == '/')
			*p = '.';
	return fopen(path, mode);
}

static inline bool frozen_read(const char *directory, const char *section, unsigned version, struct frozen *f)
{
	FILE *file = frozen_open(directory, section, version, "re");

	f->len = 0;
	if (!file)
		return false;
	while (f->len < FROZEN_MAX && fscanf(file, "%2hhx", &f->bytes[f->len]) == 1)
		f->len++;
	fclose(file);
	return true;
}

static inline bool frozen_write(const char *directory, const char *section, unsigned version,
				const uint8_t *bytes, size_t len)
{
	FILE *file = frozen_open(directory, section, version, "wxe");

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

/* What is in the sections of some computers more often than of others. */
static inline bool frozen_is_counted(const struct field *f)
{
	return !strcmp(f->section, "vcpu0") && (!strcmp(f->name, "msr") || !strcmp(f->name, "value"));
}

/* The next field that is not of the second or a later element of an array of parts: how many there are is seen
 * when old versions are loaded. */
static inline bool frozen_next(uint8_t *bytes, size_t len, struct field *f)
{
	const char *dot;

	while (next_field(bytes, len, f)) {
		dot = strchr(f->name, '.');
		if (!dot || dot[1] < '1' || dot[1] > '9')
			return true;
	}
	return false;
}

/* Names, widths and counts. */
static inline bool frozen_same_shape(uint8_t *a, size_t a_len, uint8_t *b, size_t b_len)
{
	struct field fa = {0}, fb = {0};
	bool more;

	while ((more = frozen_next(a, a_len, &fa)) == frozen_next(b, b_len, &fb)) {
		if (!more)
			return true;
		if (fa.version != fb.version || strcmp(fa.name, fb.name) != 0 || fa.width != fb.width ||
		    (fa.count != fb.count && !frozen_is_counted(&fa))) {
			note("'%s' %u times %u bytes was '%s' %u times %u", fa.name, fa.count, fa.width,
			     fb.name, fb.count, fb.width);
			return false;
		}
	}
	return false;
}

/* Whether what a section in `state` looks like is frozen; writes it, if it is to be and was not yet. */
static inline void frozen_check(const char *directory, const char *section, const struct state_out *state,
				bool freeze)
{
	static struct frozen f;
	struct field now = {0};
	size_t len = 0;
	uint8_t *bytes = frozen_find(state, section, &len);

	if (!ok(bytes && next_field(bytes, len, &now), "%s has a section", section))
		return;
	if (freeze && !frozen_read(directory, section, now.version, &f))
		ok(frozen_write(directory, section, now.version, bytes, len), "%s: version %u is frozen now",
		   section, now.version);
	if (!ok(frozen_read(directory, section, now.version, &f), "%s: version %u is frozen (else: --freeze)",
		section, now.version))
		return;
	ok(frozen_same_shape(bytes, len, f.bytes, f.len),
	   "%s: the table is as it was when version %u was frozen (else: a new version)", section, now.version);
}

/* `state` with the section as it was in that version; false: there was none, or is none yet. */
static inline bool frozen_replace(const char *directory, const char *section, unsigned version,
				  const struct state_out *state, struct state_out *old)
{
	static struct frozen f;
	size_t len = 0, before;
	uint8_t *now = frozen_find(state, section, &len);

	if (!now || !frozen_read(directory, section, version, &f))
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
