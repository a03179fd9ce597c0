/* SPDX-License-Identifier: MIT */
/*
 * Sections to objects; state.h has the form. All that is read was perhaps written by somebody who
 * wants to get in: no length is believed, and no name is printed that is none.
 */
#include "state/private.h"

#include "base/bytes.h"
#include "base/err.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* -- Bytes ------------------------------------------------------------------------- */

struct cursor {
	const uint8_t *at, *end;
};

/* n bytes, or NULL if there are not so many. */
static const uint8_t *take(struct cursor *c, size_t n)
{
	const uint8_t *at = c->at;

	if ((size_t)(c->end - c->at) < n)
		return NULL;
	c->at += n;
	return at;
}

/* Letters, digits and what stands between them in names of C and of devices. */
static bool is_name(const uint8_t *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (text[i] <= ' ' || text[i] > '~')
			return false;
	return n > 0 && n <= STATE_NAME_MAX;
}

static bool take_name(struct cursor *c, char name[STATE_NAME_MAX + 1])
{
	const uint8_t *n = take(c, 1), *text = n ? take(c, *n) : NULL;

	if (!text || !is_name(text, *n))
		return false;
	memcpy(name, text, *n);
	name[*n] = 0;
	return true;
}

struct stored {
	char name[STATE_NAME_MAX + 1];
	uint8_t width;
	uint32_t count;
	const uint8_t *data;
};

static bool take_field(struct cursor *c, struct stored *f)
{
	const uint8_t *head;

	if (!take_name(c, f->name))
		return false;
	head = take(c, 1 + 4);
	if (!head)
		return false;
	f->width = head[0];
	f->count = le32_get(head + 1);
	if (f->width != 1 && f->width != 2 && f->width != 4 && f->width != 8)
		return false;
	f->data = take(c, (size_t)f->count * f->width);
	return f->data;
}

static uint64_t element(const struct stored *f, size_t i)
{
	uint8_t bytes[8] = {0};

	memcpy(bytes, f->data + i * f->width, f->width);
	return le64_get(bytes);
}

/* -- Sections ---------------------------------------------------------------------- */

int state_next(const struct state_in *in, size_t *at, struct state_section *section,
	       struct err *err)
{
	struct cursor c = {.at = in->bytes + *at, .end = in->bytes + in->len};
	const uint8_t *head;

	if (*at == in->len)
		return 0;
	head = take_name(&c, section->name) ? take(&c, 2 + 4) : NULL;
	section->fields = head ? take(&c, le32_get(head + 2)) : NULL;
	if (!section->fields)
		return err_set(err, EINVAL, "what is at byte %zu is no section, or is cut", *at);
	section->version = le16_get(head);
	section->len = le32_get(head + 2);
	*at = (size_t)(c.at - in->bytes);
	return 1;
}

int state_find(const struct state_in *in, const char *name, struct state_section *section,
	       struct err *err)
{
	size_t at = 0;
	int rc;

	while ((rc = state_next(in, &at, section, err)) > 0)
		if (strcmp(section->name, name) == 0)
			return 0;
	return rc < 0 ? rc : err_set(err, ENOENT, "there is no section '%s'", name);
}

/* -- Loading ----------------------------------------------------------------------- */

struct load {
	const struct state_section *section;
	struct cursor c;
	struct err *err;
};

static int refuse(const struct load *l, const char *what, const char *name)
{
	return err_set(l->err, EINVAL, "section '%s': %s '%s'", l->section->name, what, name);
}

static int check_shape(const struct load *l, const struct state_place *place,
		       const struct stored *f)
{
	uint32_t want = state_count(place);

	if (strcmp(f->name, place->name) != 0)
		return err_set(l->err, EINVAL, "section '%s' has '%s' where '%s' should be",
			       l->section->name, f->name, place->name);
	if (f->width != place->field->width || f->count != want)
		return err_set(l->err, EINVAL,
			       "section '%s': '%s' is %u times %u bytes, not %u times %u",
			       l->section->name, f->name, f->count, f->width, want,
			       place->field->width);
	return 0;
}

static int get_field(void *ctx, const struct state_place *place)
{
	struct load *l = ctx;
	unsigned width = place->field->width;
	uint64_t max = place->field->max;
	struct stored f;
	int rc;

	if (!take_field(&l->c, &f))
		return refuse(l, "it is cut, or makes no sense, at", place->name);
	rc = check_shape(l, place, &f);
	if (rc == 0 && width == 1 && !max) {
		memcpy(place->at, f.data, f.count); /* there may be many */
		return 0;
	}
	for (uint32_t i = 0; rc == 0 && i < f.count; i++) {
		uint64_t value = element(&f, i);

		if (max && value > max)
			return err_set(l->err, EINVAL,
				       "section '%s': '%s' is %" PRIu64 ": it can be %" PRIu64
				       " at most", l->section->name, f.name, value, max);
		memcpy(place->at + (size_t)i * width, &value, width);
	}
	return rc;
}

int state_load(const struct state_section *section, const struct state_table *table,
	       void *object, struct err *err)
{
	struct load l = {
		.section = section,
		.c = {.at = section->fields, .end = section->fields + section->len},
		.err = err,
	};
	struct stored more;
	int rc;

	if (section->version < 1 || section->version > table->version)
		return err_set(err, EINVAL,
			       "section '%s' has version %u: this lodge knows 1 to %u",
			       section->name, section->version, table->version);
	rc = state_walk(table, section->version, object, get_field, &l);
	if (rc < 0)
		return rc;
	if (l.c.at == l.c.end)
		return 0;
	return refuse(&l, "there is more behind the last field:",
		      take_field(&l.c, &more) ? more.name : "?");
}

/* -- For people -------------------------------------------------------------------- */

static void print_row(const struct stored *f, size_t from, FILE *to)
{
	for (size_t i = from; i < f->count && i < from + 16; i++)
		fprintf(to, " %0*" PRIx64, f->width * 2, element(f, i));
	fputc('\n', to);
}

static void print_field(const struct state_section *section, const struct stored *f, FILE *to)
{
	if (f->count == 1) {
		fprintf(to, "%s %s 0x%" PRIx64 "\n", section->name, f->name, element(f, 0));
		return;
	}
	for (size_t i = 0; i < f->count; i += 16) {
		fprintf(to, "%s %s[%zu]", section->name, f->name, i);
		print_row(f, i, to);
	}
}

int state_print(const struct state_section *section, FILE *to, struct err *err)
{
	struct cursor c = {.at = section->fields, .end = section->fields + section->len};
	struct stored f;

	while (c.at < c.end) {
		if (!take_field(&c, &f))
			return err_set(err, EINVAL, "section '%s' is cut, or makes no sense",
				       section->name);
		print_field(section, &f, to);
	}
	return 0;
}
