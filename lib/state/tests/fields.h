/* SPDX-License-Identifier: MIT */
/*
 * Sections as tests take them apart: by the form of state.h, and not by the code that is tested.
 *
 *	struct field f = {0};
 *
 *	while (next_field(bytes, len, &f))
 *		f.data[0] ^= 1;              // of f.count elements of f.width bytes in f.section
 *
 * The bytes are our own, so lengths are believed.
 */
#ifndef STATE_TESTS_FIELDS_H
#define STATE_TESTS_FIELDS_H

#include "base/bytes.h"
#include "state/state.h"

#include <stdio.h>
#include <string.h>

struct field {
	char section[STATE_NAME_MAX + 1], name[STATE_NAME_MAX + 1];
	unsigned version, width;
	uint32_t count;
	uint8_t *data;
	size_t end, section_end; /* where the next one begins */
};

static inline size_t field_name(const uint8_t *bytes, size_t at, char *name)
{
	snprintf(name, STATE_NAME_MAX + 1, "%.*s", bytes[at], (const char *)bytes + at + 1);
	return at + 1 + bytes[at];
}

/* Begins at the front with a struct of zeros. Sections without fields are not seen. */
static inline bool next_field(uint8_t *bytes, size_t len, struct field *f)
{
	size_t at = f->end;

	while (at == f->section_end) {
		if (at == len)
			return false;
		at = field_name(bytes, at, f->section);
		f->version = le16_get(bytes + at);
		f->section_end = at + 6 + le32_get(bytes + at + 2);
		at += 6;
	}
	at = field_name(bytes, at, f->name);
	f->width = bytes[at];
	f->count = le32_get(bytes + at + 1);
	f->data = bytes + at + 5;
	f->end = at + 5 + (size_t)f->count * f->width;
	return true;
}

/* "section name[3]" of the element that has this byte of two states of one shape; for messages. */
static inline void field_at(uint8_t *bytes, size_t len, size_t at, char text[192])
{
	struct field f = {0};

	while (next_field(bytes, len, &f))
		if (bytes + at < bytes + f.end) {
			snprintf(text, 192, "%s %s[%zu]", f.section, f.name,
				 bytes + at < f.data ? 0 : (size_t)(bytes + at - f.data) / f.width);
			return;
		}
	snprintf(text, 192, "?");
}

#endif
