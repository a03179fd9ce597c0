/* SPDX-License-Identifier: MIT */
/*
 * lodge-img convert: copies an image into a new one, of whatever format, compressed or not. What is behind the old one is in the
 * new one.
 */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/macros.h"
#include "block/node.h"
#include "block/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct convert {
	const char *from, *to;
	const char *from_format, *to_format, *options, *sparse, *snapshot, *cache, *source_cache;
	unsigned threads;
	bool packs, progress, quiet, no_create, to_is_zero, any_order, shares, follow;
};

static const struct convert defaults = {.threads = 8};

static const struct option options[] = {
	{"-f", "FORMAT", "of FILE: raw or qcow2 (default: see below)", OPTION_TEXT, offsetof(struct convert, from_format), 0, 0, NULL},
	{"-O", "FORMAT", "of what is made: raw (default) or qcow2", OPTION_TEXT, offsetof(struct convert, to_format), 0, 0, NULL},
	{"-o", "NAME=VALUE,...", "how that is written down; -o help lists them", OPTION_TEXT, offsetof(struct convert, options), 0, 0, NULL},
	{"-c", NULL, "compresses it (qcow2)", OPTION_FLAG, offsetof(struct convert, packs), 0, 0, NULL},
	{"-l", "SNAPSHOT", "what FILE was at one, by its name or number", OPTION_TEXT, offsetof(struct convert, snapshot), 0, 0, NULL},
	{"-S", "SIZE", "zeros of so many bytes are left out (default: 4k); 0: none are", OPTION_TEXT, offsetof(struct convert, sparse), 0, 0, NULL},
	{"-n", NULL, "the target is there already, and is written over", OPTION_FLAG, offsetof(struct convert, no_create), 0, 0, NULL},
	{"--target-is-zero", NULL, "with -n: it reads as zeros, so they are not written", OPTION_FLAG, offsetof(struct convert, to_is_zero), 0, 0, NULL},
	{"-m", "N", "threads, 1 to 16 (default: 8, or as many as there are CPUs)", OPTION_NUMBER, offsetof(struct convert, threads), 1, 16, NULL},
	{"-W", NULL, "writes in any order", OPTION_FLAG, offsetof(struct convert, any_order), 0, 0, NULL},
	OPTION_CACHE(offsetof(struct convert, cache)),
	OPTION_SOURCE_CACHE(offsetof(struct convert, source_cache)),
	OPTION_PROGRESS(offsetof(struct convert, progress)),
	OPTION_QUIET(offsetof(struct convert, quiet)),
	OPTION_FOLLOW(offsetof(struct convert, follow)),
	OPTION_SHARE(offsetof(struct convert, shares)),
	{0},
};

static int make_target(const struct convert *c, uint64_t size, struct err *err)
{
	enum disk_format format = DISK_RAW;
	struct new_image n;
	int rc = c->to_format ? img_format(&format, c->to_format, err) : 0;

	if (rc < 0)
		return rc;
	new_image_init(&n, c->to, format);
	rc = new_image_options(&n, c->options, err);
	if (rc == 0 && n.backing)
		rc = err_set(err, ENOTSUP, "-o backing_file: convert makes images that have all; create and rebase make others");
	if (rc == 0 && c->packs && format != DISK_QCOW2)
		rc = err_set(err, EINVAL, "-c needs -O qcow2: raw images are not compressed");
	n.size = n.has_size && n.size > size ? n.size : size;
	n.has_size = true;
	if (rc == 0)
		rc = new_image_write(&n, err);
	new_image_fini(&n);
	return rc;
}

/* Which has the size of `from`, or more. */
static int open_target(const struct convert *c, struct image *to, uint64_t size, struct err *err)
{
	struct want want = {.path = c->to, .format = c->to_format ? c->to_format : "raw", .writes = true,
			    .how = img_how(false, c->follow)};
	int rc = c->no_create ? 0 : make_target(c, size, err);

	if (rc == 0)
		rc = img_open(to, &want, err);
	if (rc == 0 && img_size(to) < size) {
		rc = err_set(err, ENOSPC, "'%s' has %llu bytes, and '%s' has %llu", c->to, (unsigned long long)img_size(to),
			     c->from, (unsigned long long)size);
		node_close(to->node);
	}
	return rc;
}

/* Zeros in pieces that the target can do without. */
static int find_grain(const struct convert *c, const struct image *to, struct copy *copy, struct err *err)
{
	struct qcow2_form form = {.cluster = 512};
	int rc;

	copy->grain = 4096;
	rc = c->sparse ? img_number(&copy->grain, c->sparse, "-S", err) : 0;
	if (rc == 0 && copy->grain && (copy->grain < 512 || copy->grain > 2 * MiB || (copy->grain & (copy->grain - 1))))
		return err_set(err, EINVAL, "-S is 0 or a power of two from 512 to 2M, not '%s'", c->sparse);
	if (to->format == DISK_QCOW2)
		qcow2_form(to->node, &form);
	if (copy->grain && copy->grain < form.cluster)
		copy->grain = form.cluster;
	copy->cluster = form.cluster;
	return rc;
}

static unsigned count_threads(const struct convert *c)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	return cpus > 0 && (unsigned)cpus < c->threads ? (unsigned)cpus : c->threads;
}

static int convert(const struct convert *c, struct image *from, struct image *to, struct err *err)
{
	struct copy copy = {
		.from = from->node, .to = to->node, .size = img_size(from), .to_is_zero = c->to_is_zero || (!c->no_create && new_image_is_zero(to)), .packs = c->packs,
		.any_order = c->any_order, .threads = count_threads(c), .progress = c->progress && !c->quiet,
	};
	int rc = find_grain(c, to, &copy, err);

	return rc < 0 ? rc : img_copy(&copy, err);
}

static int convert_main(void *parsed)
{
	const struct convert *c = parsed;
	struct want want = {.path = c->from, .format = c->from_format, .snapshot = c->snapshot, .how = img_how(c->shares, c->follow)};
	struct image from = {.fd = -1}, to = {.fd = -1};
	struct err err = {0};
	int rc = 0;

	if (!c->to)
		rc = err_set(&err, EINVAL, "two names are needed: of the image, and of what is made of it");
	else if (c->to_is_zero && !c->no_create)
		rc = err_set(&err, EINVAL, "--target-is-zero is for -n");
	else if (c->packs && c->to_format && strcmp(c->to_format, "raw") == 0)
		rc = err_set(&err, EINVAL, "-c needs -O qcow2: raw images are not compressed");
	if (rc == 0)
		rc = img_open(&from, &want, &err);
	if (rc == 0)
		rc = open_target(c, &to, img_size(&from), &err);
	if (rc == 0) {
		rc = convert(c, &from, &to, &err);
		if (rc < 0)
			err_at(&err, rc, "'%s' to '%s'", c->from, c->to);
		else
			rc = img_close(&to, c->to, !c->cache || strcmp(c->cache, "unsafe") != 0, &err);
		node_close(to.node);
	}
	node_close(from.node);
	return rc < 0 ? img_fail(&err) : EXIT_OK;
}

const struct verb verb_convert = {
	.name = "convert",
	.summary = "copies an image into a new one, of whatever format",
	.text = FORMAT_TEXT,
	.operand = "FILE NEW",
	.n_operands = 2,
	.options = options,
	.size = sizeof(struct convert),
	.defaults = &defaults,
	.main = convert_main,
};
