/* SPDX-License-Identifier: MIT */
/* lodge image: operating systems for `lodge run NAME`. */
#include "prog/lodge/lodge.h"

#include "base/err.h"
#include "base/json.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "base/size.h"
#include "build.h"
#include "catalogue.h"
#include "disk.h"
#include "prog/lodge/client.h"
#include "prog/lodge/failure.h"
#include "pull.h"
#include "store.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct image {
	const char *action, *what; /* operands */
	const char *name, *suite, *include, *sum, *format;
	uint64_t size;
};

#define AT(member) offsetof(struct image, member)

static const struct option options[] = {
	{"--name", "NAME", "of build and pull: what the image is called (default: by what it is of)", OPTION_TEXT, AT(name), 0, 0, NULL},
	{"--suite", "SUITE", "of build: which Debian, as bookworm or sid", OPTION_TEXT, AT(suite), 0, 0, NULL},
	{"--size", "SIZE", "of build: of the disk, with a unit (default: 8G)", OPTION_SIZE, AT(size), 0, 0, NULL},
	{"--include", "PACKAGE,...", "of build: what is to be installed besides", OPTION_TEXT, AT(include), 0, 0, NULL},
	{"--sha256", "SUM", "of pull: of what the URL leads to, in hexadecimal", OPTION_TEXT, AT(sum), 0, 0, NULL},
	OPTION_JSON(AT(format)),
	{0},
};

/* -- Build and pull ------------------------------------------------------------------------ */

static int check_name(const char *name, struct err *err)
{
	if (place_is_name(name))
		return 0;
	return err_set(err, ERANGE, "'%s' is no name: letters, digits, '.', '_' and '-', with a letter first, at most %d", name,
		       PLACE_NAME_MAX - 1);
}

/* Both end up in a command line of others, mmdebstrap's: words, and nothing that it takes for something else. */
static int check_words(const char *option, const char *value, const char *more, struct err *err)
{
	char set[80];

	snprintf(set, sizeof(set), "abcdefghijklmnopqrstuvwxyz0123456789.+-%s", more);
	if (!value || (value[0] != '-' && value[0] && !value[strspn(value, set)]))
		return 0;
	return err_set(err, ERANGE, "%s: '%s' is not made of names of Debian's", option, value);
}

static int check_build(const struct image *i, struct err *err)
{
	char least[SIZE_TEXT], most[SIZE_TEXT], text[SIZE_TEXT];
	int rc = check_words("--suite", i->suite, "", err);

	if (rc == 0)
		rc = check_words("--include", i->include, ",:", err);
	if (rc == 0 && (i->size < PARTS_SIZE_LEAST || i->size > PARTS_SIZE_MOST || i->size % (1 << 20)))
		return err_set(err, ERANGE, "--size: a disk has whole MiB, %s to %s, not %s", size_text(least, PARTS_SIZE_LEAST),
			       size_text(most, PARTS_SIZE_MOST), size_text(text, i->size));
	return rc;
}

static int build(struct image *i, struct err *err)
{
	struct catalogue_entry entry;
	const char *name = i->name ? i->name : i->what;
	scoped_fd int lock = -1;
	int rc = check_build(i, err);

	if (rc == 0)
		rc = catalogue_find(&entry, i->what, err);
	if (rc < 0)
		return rc;
	if (!entry.builds)
		return err_set(err, ERANGE, "'%s' is not built, but pulled: lodge image pull %s", i->what, i->what);
	lock = store_lock(name, err);
	return lock < 0 ? lock : build_run(&(struct build){.name = name, .recipe = entry.from, .suite = i->suite ? i->suite : entry.more,
							  .include = i->include, .size = i->size}, err);
}

/* "https://example.org/images/debian-12.qcow2.xz?x=1" is debian-12. */
static void name_of_url(const char *url, char name[PLACE_NAME_MAX])
{
	static const char *const ends[] = {".xz", ".gz", ".zst", ".qcow2", ".img", ".raw"};
	const char *slash = strrchr(url, '/');

	snprintf(name, PLACE_NAME_MAX, "%.*s", (int)strcspn(slash ? slash + 1 : url, "?#"), slash ? slash + 1 : url);
	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
		size_t len = strlen(name), end = strlen(ends[i]);

		if (len > end && strcmp(name + len - end, ends[i]) == 0)
			name[len - end] = 0;
	}
}

static int pull(struct image *i, struct err *err)
{
	struct catalogue_entry entry;
	struct pull p = {.name = i->name, .url = i->what, .sum = i->sum};
	char name[PLACE_NAME_MAX];
	scoped_fd int lock = -1;
	int rc = 0;

	if (place_is_name(i->what)) {
		rc = catalogue_find(&entry, i->what, err);
		if (rc == 0 && entry.builds)
			rc = err_set(err, ERANGE, "'%s' is not pulled, but built: lodge image build %s", i->what, i->what);
		p.url = rc == 0 ? entry.from : NULL;
		p.sum = i->sum ? i->sum : rc == 0 ? entry.more : NULL;
		p.name = i->name ? i->name : i->what;
	}
	if (rc == 0)
		rc = pull_check(&p, err);
	if (rc < 0)
		return rc;
	if (!p.name) {
		name_of_url(p.url, name);
		p.name = name;
		if (!place_is_name(name))
			return err_set(err, ERANGE, "'%s' of the URL is no name for an image: --name NAME says one", name);
	}
	lock = store_lock(p.name, err);
	return lock < 0 ? lock : pull_run(&p, err);
}

/* -- List, info, remove -------------------------------------------------------------------- */

static const char *date_text(char text[24], int64_t at)
{
	time_t t = (time_t)at;
	struct tm tm;

	text[0] = 0;
	if (localtime_r(&t, &tm))
		strftime(text, 24, "%Y-%m-%d %H:%M", &tm);
	return text;
}

/* In a column, so with one digit behind the point. */
static const char *short_size(char text[SIZE_TEXT], uint64_t bytes)
{
	if (bytes >= 1ull << 30)
		snprintf(text, SIZE_TEXT, "%.1f GiB", (double)bytes / (1ull << 30));
	else
		snprintf(text, SIZE_TEXT, "%.1f MiB", (double)bytes / (1ull << 20));
	return text;
}

static void print_row(const struct image_facts *f)
{
	char size[SIZE_TEXT], stored[SIZE_TEXT], date[24];

	printf("%-20s %-7s %10s %10s  %s\n", f->name, f->why[0] ? "error" : disk_formats[f->format], short_size(size, f->size),
	       short_size(stored, f->stored), date_text(date, f->made));
}

static void put_facts(struct json *j, const struct image_facts *f)
{
	json_open(j, NULL, '{');
	json_str(j, "name", f->name);
	json_str(j, "path", f->path);
	json_str(j, "format", disk_formats[f->format]);
	json_uint(j, "size", f->size);
	json_uint(j, "stored", f->stored);
	json_uint(j, "made", (uint64_t)f->made);
	if (f->why[0])
		json_str(j, "error", f->why);
	json_close(j);
}

struct listing {
	struct json *json; /* NULL: for people */
	const struct image_facts *images;
	int n;
};

/* What is in the catalogue, and not there yet. */
static void list_entry(void *ctx, const struct catalogue_entry *e)
{
	const struct listing *l = ctx;

	for (int i = 0; i < l->n; i++)
		if (strcmp(l->images[i].name, e->name) == 0)
			return;
	if (!l->json) {
		printf("%-20s %-7s %10s %10s  %s %s\n", e->name, "-", "-", "-", e->how, e->from);
		return;
	}
	json_open(l->json, NULL, '{');
	json_str(l->json, "name", e->name);
	json_str(l->json, e->how, e->from);
	json_close(l->json);
}

static int list(struct image *i, struct err *err)
{
	struct json j = {.out = stdout};
	struct image_facts *images;
	struct listing l;
	int n = store_list(&images, err), rc;

	if (n < 0)
		return n;
	l = (struct listing){wants_json(i->format) ? &j : NULL, images, n};
	if (l.json)
		json_open(&j, NULL, '[');
	else
		printf("%-20s %-7s %10s %10s  %s\n", "NAME", "FORMAT", "SIZE", "STORED", "MADE");
	for (int k = 0; k < n; k++) {
		if (l.json)
			put_facts(&j, &images[k]);
		else
			print_row(&images[k]);
	}
	rc = catalogue_each(list_entry, &l, err);
	if (l.json)
		json_close(&j);
	free(images);
	return rc;
}

static int info(struct image *i, struct err *err)
{
	struct json j = {.out = stdout};
	struct image_facts f;
	char text[SIZE_TEXT];
	int rc = store_look(&f, i->what, err);

	if (rc < 0)
		return rc;
	if (wants_json(i->format)) {
		put_facts(&j, &f);
		return 0;
	}
	client_print("name", f.name);
	client_print("path", f.path);
	client_print("format", disk_formats[f.format]);
	client_print("size", f.why[0] ? f.why : size_text(text, f.size));
	client_print("stored", short_size(text, f.stored));
	client_print("made", date_text((char[24]){0}, f.made));
	return 0;
}

static int remove_image(struct image *i, struct err *err)
{
	struct image_facts f;
	int rc = store_look(&f, i->what, err);

	if (rc == 0 && unlink(f.path) < 0)
		return err_sys(err, errno, "'%s'", f.path);
	return rc;
}

/* -- The verb ------------------------------------------------------------------------------- */

static const struct action {
	const char *name, *what; /* what its word is called; NULL: it takes none */
	int (*act)(struct image *i, struct err *err);
	bool makes; /* has a --name */
} actions[] = {
	{"build", "a name of the catalogue, as debian", build, true},
	{"pull", "a URL, or a name of the catalogue", pull, true},
	{"list", NULL, list, false},
	{"info", "the image's name", info, false},
	{"remove", "the image's name", remove_image, false},
};

static const struct action *find_action(const char *word)
{
	for (unsigned k = 0; word && k < ARRAY_SIZE(actions); k++)
		if (strcmp(actions[k].name, word) == 0)
			return &actions[k];
	return NULL;
}

/* An option that is another action's. */
static int check_options(const struct image *i, const struct action *a, struct err *err)
{
	const struct {
		const char *option;
		bool given, fits;
	} rows[] = {
		{"--name", i->name, a->makes},
		{"--suite", i->suite, a->act == build},
		{"--include", i->include, a->act == build},
		{"--size", i->size != BUILD_SIZE, a->act == build},
		{"--sha256", i->sum, a->act == pull},
		{"-o", i->format, a->act == list || a->act == info},
	};

	for (unsigned k = 0; k < ARRAY_SIZE(rows); k++)
		if (rows[k].given && !rows[k].fits)
			return err_set(err, ERANGE, "%s is not for `lodge image %s`", rows[k].option, a->name);
	return i->name ? check_name(i->name, err) : 0;
}

static int check(const struct image *i, const struct action *a, struct err *err)
{
	if (!a)
		return err_set(err, ERANGE, "build, pull, list, info or remove is %s%s%s: lodge help image",
			       i->action ? "wanted, not '" : "missing", i->action ? i->action : "", i->action ? "'" : "");
	if (a->what && !i->what)
		return err_set(err, ERANGE, "%s is missing: lodge help image", a->what);
	if (!a->what && i->what)
		return err_set(err, ERANGE, "'%s' is one word too many: lodge image %s", i->what, a->name);
	return check_options(i, a, err);
}

static int image_main(void *parsed)
{
	struct image *i = parsed;
	const struct action *a = find_action(i->action);
	struct err err = {0};

	if (check(i, a, &err) < 0 || a->act(i, &err) < 0)
		return report_failure(&err);
	return EXIT_OK;
}

static const struct image defaults = {.size = BUILD_SIZE};

const struct verb verb_image = {
	.name = "image",
	.summary = "operating systems for lodge run: build, pull, list, remove",
	.text = "`build debian` makes a disk image from Debian's packages, which boots by BIOS and by UEFI. `pull URL`\n"
		"fetches one, unpacks it if it is gz, xz or zst, and goes on where it was interrupted. Then `lodge run NAME`\n"
		"starts guests from it, which do not change it; it does the one or the other itself for what is in the catalogue\n"
		"and not there yet. `list` has both. `info` and `remove` are for one that is there; guests that\n"
		"run go on without it.\n\n"
		"Images are in ~/.local/share/lodge/images; lines `NAME build RECIPE [SUITE]` and\n"
		"`NAME pull URL [SHA256]` in ~/.config/lodge/catalogue are the user's own.\n",
	.operand = "build NAME | pull URL | list | info NAME | remove NAME",
	.n_operands = 2,
	.options = options,
	.size = sizeof(struct image),
	.defaults = &defaults,
	.main = image_main,
};
