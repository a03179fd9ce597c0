/* SPDX-License-Identifier: MIT */
/*
 * lodge-img rebase: another image behind an image. Its disk stays the same: what was behind it and would not be any more is written
 * into it first, and is on the disk before the header names the other one. With -u only the header changes.
 */
#include "prog/lodge-img/img.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/node.h"
#include "block/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART MiB

struct rebase {
	const char *path;
	const char *format, *backing, *backing_format, *cache, *source_cache;
	bool unsafe, progress, quiet, follow;
};

static const struct option options[] = {
	{"-b", "FILE", "the image that is to be behind it; '': none", OPTION_TEXT, offsetof(struct rebase, backing), 0, 0, NULL},
	{"-F", "FORMAT", "of that", OPTION_TEXT, offsetof(struct rebase, backing_format), 0, 0, NULL},
	{"-u", NULL, "changes the name and no more: who uses it knows that nothing else is missing", OPTION_FLAG, offsetof(struct rebase, unsafe), 0, 0, NULL},
	OPTION_FORMAT(offsetof(struct rebase, format)),
	OPTION_CACHE(offsetof(struct rebase, cache)),
	OPTION_SOURCE_CACHE(offsetof(struct rebase, source_cache)),
	OPTION_FOLLOW(offsetof(struct rebase, follow)),
	OPTION_PROGRESS(offsetof(struct rebase, progress)),
	OPTION_QUIET(offsetof(struct rebase, quiet)),
	{0},
};

struct rebasing {
	const struct rebase *r;
	struct image top, new; /* new.node: NULL, there is none */
	uint64_t cluster;
	bool alone; /* nothing is behind top: what it does not have is zeros, and cannot be told from what would show through */
	uint8_t *was, *is;
};

/* Of what is to be behind it; behind its end are zeros. */
static int look_at_new(struct rebasing *b, uint64_t at, uint64_t *len, bool *zero)
{
	struct node *n = b->new.node;
	struct node_status s;
	int rc;

	*zero = !n || at >= n->size;
	if (*zero)
		return 0;
	rc = n->ops->status(n, at, *len < n->size - at ? *len : n->size - at, &s);
	*len = s.len;
	*zero = s.zero;
	return rc;
}

static int get_new(struct rebasing *b, uint64_t at, uint64_t len)
{
	uint64_t there = b->new.node && at < b->new.node->size ? b->new.node->size - at : 0;

	if (there > len)
		there = len;
	memset(b->is + there, 0, len - there);
	return there ? node_get(b->new.node, at, b->is, there) : 0;
}

/* By clusters, for in each that is written all must be right. */
static int keep_difference(struct rebasing *b, uint64_t at, uint64_t len)
{
	struct node *top = b->top.node;
	int rc = node_get(top, at, b->was, len);

	if (rc == 0)
		rc = get_new(b, at, len);
	for (uint64_t c = 0, n; rc == 0 && c < len; c += n) {
		n = b->cluster - ((at + c) & (b->cluster - 1));
		if (n > len - c)
			n = len - c;
		if (memcmp(b->was + c, b->is + c, n) == 0)
			continue;
		rc = !b->alone && is_all_zero(b->was + c, n) ? top->ops->zero(top, at + c, n)
							     : node_put(top, at + c, b->was + c, n);
	}
	return rc;
}

static int keep_part(struct rebasing *b, uint64_t at, uint64_t *len)
{
	struct node *top = b->top.node;
	struct node_status s;
	bool zero = false;
	int rc = top->ops->status(top, at, *len, &s);

	if (rc < 0)
		return rc;
	*len = s.len;
	if (s.here && s.depth == 0)
		return 0;
	rc = look_at_new(b, at, len, &zero);
	if (rc < 0 || (zero && s.zero))
		return rc;
	if (*len > PART)
		*len = PART;
	*len = align_up(at + *len, UINT64_C(512)) - at;
	if (*len > top->size - at)
		*len = top->size - at;
	return keep_difference(b, at, *len);
}

static int keep_differences(struct rebasing *b, struct err *err)
{
	uint64_t size = b->top.node->size, len;
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < size; at += len) {
		len = size - at;
		rc = keep_part(b, at, &len);
		img_progress(b->r->progress, at + len, size);
	}
	img_progress_end(b->r->progress);
	if (rc == 0)
		rc = node_flush(b->top.node);
	return rc < 0 ? err_sys(err, -rc, "keeping what was behind it") : 0;
}

static int open_new(struct rebasing *b, struct err *err)
{
	const struct rebase *r = b->r;
	char real[PATH_MAX];
	int rc;

	if (!r->backing[0])
		return 0;
	rc = image_may_have_behind(r->path, r->backing, r->backing_format, img_how(false, r->follow), real, err);
	if (rc < 0)
		return err_at(err, rc, "'%s'", r->path);
	return img_open(&b->new, &(struct want){.path = real, .format = r->backing_format, .how = img_how(false, r->follow)}, err);
}

static int rebase(struct rebasing *b, struct err *err)
{
	char name[1024], format[16];
	struct qcow2_form form;
	int rc;

	if (b->top.format != DISK_QCOW2)
		return err_set(err, ENOTSUP, "is %s, which has nothing behind it", disk_formats[b->top.format]);
	qcow2_form(b->top.node, &form);
	b->cluster = form.cluster;
	rc = qcow2_backing_of(b->top.node, name, format, err);
	b->alone = !name[0];
	if (rc == 0 && !b->r->unsafe)
		rc = keep_differences(b, err);
	return rc < 0 ? rc : qcow2_set_backing(b->top.node, b->r->backing[0] ? b->r->backing : NULL, b->r->backing_format, err);
}

static int check_words(const struct rebase *r, struct err *err)
{
	enum disk_format format;

	if (!r->backing)
		return err_set(err, EINVAL, "-b is missing: the image that is to be behind it, or -b ''");
	if (r->backing[0] && !r->backing_format)
		return err_set(err, EINVAL, "the format of '%s' is missing: -F raw or -F qcow2", r->backing);
	return r->backing_format ? img_format(&format, r->backing_format, err) : 0;
}

static int rebase_main(void *parsed)
{
	struct rebasing b = {.r = parsed, .was = malloc(PART), .is = malloc(PART)};
	const struct rebase *r = parsed;
	struct want want = {.path = r->path, .format = r->format, .writes = true,
			    .how = img_how(false, r->follow) | (r->unsafe ? IMAGE_BARE : 0)};
	struct err err = {0};
	int rc = b.was && b.is ? check_words(r, &err) : err_set(&err, ENOMEM, "no memory");

	if (rc == 0)
		rc = img_open(&b.top, &want, &err);
	if (rc == 0 && !r->unsafe)
		rc = open_new(&b, &err);
	if (rc == 0) {
		rc = rebase(&b, &err);
		if (rc < 0)
			err_at(&err, rc, "'%s'", r->path);
		else
			rc = img_close(&b.top, r->path, true, &err);
	}
	node_close(b.top.node);
	node_close(b.new.node);
	free(b.was);
	free(b.is);
	return rc < 0 ? img_fail(&err) : EXIT_OK;
}

const struct verb verb_rebase = {
	.name = "rebase",
	.summary = "another image behind an image, whose disk stays the same",
	.text = FORMAT_TEXT,
	.operand = "FILE",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct rebase),
	.main = rebase_main,
};
