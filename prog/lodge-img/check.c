/* SPDX-License-Identifier: MIT */
/*
 * lodge-img check: whether an image contradicts itself, and mends it. Exit codes, as qemu-img's: 0 clean, 1 not completed,
 * 2 corrupt, 3 only leaks, 63 a format that has nothing to check.
 */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/json.h"
#include "block/node.h"
#include "block/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { CHECK_CORRUPT = 2, CHECK_LEAKS = 3, CHECK_NOTHING = 63 };

struct check {
	const char *path, *format, *output, *repair, *source_cache;
	bool quiet, shares;
};

static const struct option options[] = {
	OPTION_FORMAT(offsetof(struct check, format)),
	{"-r", "leaks|all", "mends it: what only takes room, or all that can be", OPTION_WORD, offsetof(struct check, repair), 0, 0, NULL},
	OPTION_OUTPUT(offsetof(struct check, output)),
	OPTION_QUIET(offsetof(struct check, quiet)),
	OPTION_SOURCE_CACHE(offsetof(struct check, source_cache)),
	OPTION_SHARE(offsetof(struct check, shares)),
	{0},
};

/* Lines of a stranger's image have numbers, and no text of it. */
static void say(const char *line)
{
	fprintf(stderr, "%s\n", line);
}

static void put_some(struct json *j, const char *key, uint64_t n)
{
	if (n)
		json_uint(j, key, n);
}

static void put_json(const struct check *c, const struct qcow2_check *f)
{
	struct json j = {.out = stdout};

	json_open(&j, NULL, '{');
	json_uint(&j, "image-end-offset", f->end);
	json_uint(&j, "total-clusters", f->total);
	json_uint(&j, "check-errors", 0);
	put_some(&j, "corruptions", f->corruptions);
	put_some(&j, "leaks", f->leaks);
	put_some(&j, "corruptions-fixed", f->corruptions_fixed);
	put_some(&j, "leaks-fixed", f->leaks_fixed);
	put_some(&j, "allocated-clusters", f->allocated);
	put_some(&j, "fragmented-clusters", f->fragmented);
	put_some(&j, "compressed-clusters", f->packed);
	json_str(&j, "filename", c->path);
	json_str(&j, "format", "qcow2");
	json_close(&j);
}

static double percent(uint64_t n, uint64_t of)
{
	return of ? 100.0 * (double)n / (double)of : 0;
}

static void put_human(const struct qcow2_check *f)
{
	if (f->leaks_fixed || f->corruptions_fixed)
		printf("Repaired: %llu leaked clusters, %llu corruptions.\n", (unsigned long long)f->leaks_fixed,
		       (unsigned long long)f->corruptions_fixed);
	if (!f->corruptions && !f->leaks)
		printf("No errors were found on the image.\n");
	if (f->corruptions)
		printf("\n%llu errors were found on the image: it is corrupt, and writing to it may lose data.\n",
		       (unsigned long long)f->corruptions);
	if (f->leaks)
		printf("\n%llu leaked clusters were found on the image: they take room, and nothing is lost.\n",
		       (unsigned long long)f->leaks);
	if (f->total)
		printf("%llu/%llu = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed clusters\n",
		       (unsigned long long)f->allocated, (unsigned long long)f->total, percent(f->allocated, f->total),
		       percent(f->fragmented, f->allocated), percent(f->packed, f->allocated));
	printf("Image end offset: %llu\n", (unsigned long long)f->end);
}

static int tell(const struct check *c, const struct qcow2_check *f)
{
	if (wants_json(c->output))
		put_json(c, f);
	else if (!c->quiet)
		put_human(f);
	return f->corruptions ? CHECK_CORRUPT : f->leaks ? CHECK_LEAKS : EXIT_OK;
}

static int check_image(const struct check *c, struct image *image)
{
	enum qcow2_mend mend = !c->repair ? QCOW2_MEND_NOTHING
					  : strcmp(c->repair, "all") == 0 ? QCOW2_MEND_ALL : QCOW2_MEND_LEAKS;
	bool speaks = !c->quiet && !wants_json(c->output);
	struct qcow2_check found;
	struct err err = {0};
	int rc = qcow2_check(image->node, mend, &found, speaks ? say : NULL, &err);

	if (rc < 0)
		err_at(&err, rc, "'%s'", c->path);
	return rc < 0 ? img_fail(&err) : tell(c, &found);
}

static int check_main(void *parsed)
{
	const struct check *c = parsed;
	struct want want = {.path = c->path, .format = c->format, .writes = c->repair != NULL,
			    .how = img_how(c->shares, false) | IMAGE_BARE | IMAGE_UNCHECKED};
	struct err err = {0};
	struct image image;
	int code = CHECK_NOTHING;

	if (c->shares && c->repair)
		err_set(&err, EINVAL, "-U is for reading, and -r mends");
	if (err.code || img_open(&image, &want, &err) < 0)
		return img_fail(&err);
	if (image.format == DISK_QCOW2) {
		code = check_image(c, &image);
	} else if (!c->quiet) {
		err_set(&err, ENOTSUP, "'%s' is %s, in which there is nothing to check", c->path, disk_formats[image.format]);
		img_fail(&err);
	}
	return img_close(&image, c->path, true, &err) < 0 ? img_fail(&err) : code;
}

const struct verb verb_check = {
	.name = "check",
	.summary = "whether an image contradicts itself; mends it",
	.text = "Exit codes: 0 clean, 1 not completed, 2 corrupt, 3 leaks and nothing else, 63 nothing to check in that format.\n" FORMAT_TEXT,
	.operand = "FILE",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct check),
	.main = check_main,
};
