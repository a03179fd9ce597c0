/* SPDX-License-Identifier: MIT */
/* See catalogue.h. */
#include "catalogue.h"

#include "base/err.h"
#include "base/macros.h"
#include "prog/lodge/place.h"
#include "prog/lodge/userdir.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define ENTRIES_MAX 1000
#define SPACE " \t\r\n"

static const char *const ours[] = {
	"debian build debian bookworm",
};

static bool is_sum(const char *text)
{
	return strlen(text) == 64 && strspn(text, "0123456789abcdefABCDEF") == 64;
}

static int check(struct catalogue_entry *e, const char *stray, struct err *err)
{
	if (!place_is_name(e->name))
		return err_set(err, EINVAL, "'%.80s' is no name: letters, digits, '.', '_' and '-', a letter first", e->name);
	if (!e->from)
		return err_set(err, EINVAL, "'%s' wants three words: a name, build or pull, and from what", e->name);
	e->builds = strcmp(e->how, "build") == 0;
	if (!e->builds && strcmp(e->how, "pull") != 0)
		return err_set(err, EINVAL, "'%s': build or pull, not '%.80s'", e->name, e->how);
	if (e->builds && strchr(e->from, '/') && e->from[0] != '/')
		return err_set(err, EINVAL, "'%s': a recipe of ours has no '/', and one of yours begins with it", e->name);
	if (!e->builds && e->more && !is_sum(e->more))
		return err_set(err, EINVAL, "'%s': '%.80s' is no SHA-256, which has 64 hexadecimal digits", e->name, e->more);
	if (stray)
		return err_set(err, EINVAL, "'%s': '%.80s' is one word too many", e->name, stray);
	return 1;
}

int catalogue_parse(struct catalogue_entry *e, const char *line, struct err *err)
{
	char *rest;

	if (strlen(line) >= sizeof(e->line))
		return err_set(err, EINVAL, "a line has %d bytes at most", CATALOGUE_LINE - 1);
	strcpy(e->line, line); /* SAFE: it fits */
	e->name = strtok_r(e->line, SPACE, &rest);
	if (!e->name || e->name[0] == '#')
		return 0;
	e->how = strtok_r(NULL, SPACE, &rest);
	e->from = e->how ? strtok_r(NULL, SPACE, &rest) : NULL;
	e->more = e->from ? strtok_r(NULL, SPACE, &rest) : NULL;
	return check(e, e->more ? strtok_r(NULL, SPACE, &rest) : NULL, err);
}

/* -- All lines ---------------------------------------------------------------------------- */

/* Each line of all, until `take` has found what it looks for: 1, or 0, or -errno. */
typedef int take_entry(void *ctx, const struct catalogue_entry *entry);

static int read_file(const char *path, take_entry *take, void *ctx, struct err *err)
{
	FILE *in = fopen(path, "re");
	struct catalogue_entry entry;
	char line[CATALOGUE_LINE + 1];
	unsigned n = 0;
	int rc = 0;

	if (!in)
		return errno == ENOENT ? 0 : err_sys(err, errno, "'%s'", path);
	while (rc == 0 && fgets(line, sizeof(line), in)) {
		n++;
		rc = catalogue_parse(&entry, line, err);
		if (rc < 0)
			err_at(err, rc, "'%s', line %u", path, n);
		else if (rc > 0)
			rc = take(ctx, &entry);
	}
	fclose(in);
	return rc;
}

static int read_all(take_entry *take, void *ctx, struct err *err)
{
	struct catalogue_entry entry;
	char path[PATH_MAX];
	struct err none;
	int rc = 0;

	if (userdir_find(path, "XDG_CONFIG_HOME", ".config", "lodge/catalogue", &none) == 0)
		rc = read_file(path, take, ctx, err);
	if (rc == 0)
		rc = read_file("/etc/lodge/catalogue", take, ctx, err);
	for (unsigned i = 0; rc == 0 && i < ARRAY_SIZE(ours); i++) {
		catalogue_parse(&entry, ours[i], &none);
		rc = take(ctx, &entry);
	}
	return rc;
}

/* The words of a copy are in the copy. */
static void copy_entry(struct catalogue_entry *to, const struct catalogue_entry *from)
{
	*to = *from;
	to->name = to->line + (from->name - from->line);
	to->how = to->line + (from->how - from->line);
	to->from = to->line + (from->from - from->line);
	to->more = from->more ? to->line + (from->more - from->line) : NULL;
}

struct search {
	struct catalogue_entry *entry;
	const char *name;
};

static int find_one(void *ctx, const struct catalogue_entry *entry)
{
	struct search *s = ctx;

	if (strcmp(entry->name, s->name) != 0)
		return 0;
	copy_entry(s->entry, entry);
	return 1;
}

int catalogue_find(struct catalogue_entry *entry, const char *name, struct err *err)
{
	int rc = read_all(find_one, &(struct search){entry, name}, err);

	if (rc == 0)
		return err_set(err, ENOENT, "there is no image '%s', and none in the catalogue: lodge image list", name);
	return rc < 0 ? rc : 0;
}

struct walk {
	void (*each)(void *ctx, const struct catalogue_entry *entry);
	void *ctx;
	char seen[ENTRIES_MAX][PLACE_NAME_MAX];
	unsigned n;
};

static int call_each(void *ctx, const struct catalogue_entry *entry)
{
	struct walk *w = ctx;

	for (unsigned i = 0; i < w->n; i++)
		if (strcmp(w->seen[i], entry->name) == 0)
			return 0;
	if (w->n < ENTRIES_MAX)
		strcpy(w->seen[w->n++], entry->name); /* SAFE: place_is_name() */
	w->each(w->ctx, entry);
	return 0;
}

int catalogue_each(void (*each)(void *ctx, const struct catalogue_entry *entry), void *ctx, struct err *err)
{
	static struct walk w;

	w = (struct walk){.each = each, .ctx = ctx};
	return read_all(call_each, &w, err);
}
