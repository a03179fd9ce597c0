/* SPDX-License-Identifier: MIT */
/*
 * lodge-img compare: whether two images are the same disk. Exit codes: 0 they are, 1 they are not, 2 one cannot be opened, 3 or
 * looked at, 4 or read.
 */
#include "prog/lodge-img/img.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/node.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAME, DIFFERENT, NOT_OPENED, NOT_LOOKED_AT, NOT_READ };

#define PART MiB

struct compare {
	const char *path[2];
	const char *format[2], *source_cache;
	bool progress, quiet, strict, shares, follow;
};

static const struct option options[] = {
	{"-f", "FORMAT", "of the first: raw or qcow2 (default: see below)", OPTION_TEXT, offsetof(struct compare, format[0]), 0, 0, NULL},
	{"-F", "FORMAT", "of the second", OPTION_TEXT, offsetof(struct compare, format[1]), 0, 0, NULL},
	{"-s", NULL, "other sizes, and other places that are allocated, are differences, too", OPTION_FLAG, offsetof(struct compare, strict), 0, 0, NULL},
	OPTION_SOURCE_CACHE(offsetof(struct compare, source_cache)),
	OPTION_PROGRESS(offsetof(struct compare, progress)),
	OPTION_QUIET(offsetof(struct compare, quiet)),
	OPTION_FOLLOW(offsetof(struct compare, follow)),
	OPTION_SHARE(offsetof(struct compare, shares)),
	{0},
};

struct comparing {
	const struct compare *c;
	struct image image[2];
	uint64_t size[2];
	uint8_t *bytes[2];
};

__attribute__((format(printf, 2, 3)))
static int say(const struct comparing *k, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (!k->c->quiet)
		vprintf(fmt, ap);
	va_end(ap);
	return DIFFERENT;
}

/* Of the nth image; behind its end are zeros. */
static int status(struct comparing *k, unsigned n, uint64_t at, uint64_t len, struct node_status *s)
{
	struct node *node = k->image[n].node;

	*s = (struct node_status){.len = len, .zero = true};
	if (at >= node->size)
		return 0;
	return node->ops->status(node, at, node->size - at < len ? node->size - at : len, s);
}

static int get(struct comparing *k, unsigned n, uint64_t at, uint64_t len)
{
	struct node *node = k->image[n].node;
	uint64_t there = at >= node->size ? 0 : node->size - at;

	if (there > len)
		there = len;
	memset(k->bytes[n] + there, 0, len - there);
	return there ? node_get(node, at, k->bytes[n], there) : 0;
}

static int compare_bytes(struct comparing *k, uint64_t at, uint64_t len)
{
	if (get(k, 0, at, len) < 0 || get(k, 1, at, len) < 0)
		return NOT_READ;
	if (memcmp(k->bytes[0], k->bytes[1], len) == 0)
		return SAME;
	for (uint64_t s = 0; s < len; s += 512) {
		uint64_t n = len - s < 512 ? len - s : 512;

		if (memcmp(k->bytes[0] + s, k->bytes[1] + s, n) != 0)
			return say(k, "Content mismatch at offset %llu!\n", (unsigned long long)(at + s));
	}
	return SAME;
}

static int compare_part(struct comparing *k, uint64_t at, uint64_t *len)
{
	struct node_status s[2];

	if (status(k, 0, at, *len, &s[0]) < 0 || status(k, 1, at, *len, &s[1]) < 0)
		return NOT_LOOKED_AT;
	*len = s[0].len < s[1].len ? s[0].len : s[1].len;
	if (k->c->strict && (s[0].here != s[1].here || s[0].data != s[1].data || s[0].zero != s[1].zero))
		return say(k, "Strict mode: Offset %llu block status mismatch!\n", (unsigned long long)at);
	if (s[0].zero && s[1].zero)
		return SAME;
	if (*len > PART)
		*len = PART;
	return compare_bytes(k, at, *len);
}

static int compare_all(struct comparing *k)
{
	uint64_t end = k->size[0] > k->size[1] ? k->size[0] : k->size[1], len;
	uint64_t both = k->size[0] < k->size[1] ? k->size[0] : k->size[1];
	int code = SAME;

	if (k->c->strict && k->size[0] != k->size[1])
		return say(k, "Strict mode: Image size mismatch!\n");
	for (uint64_t at = 0; code == SAME && at < end; at += len) {
		if (at == both)
			say(k, "Warning: Image size mismatch!\n");
		len = at < both ? both - at : end - at;
		code = compare_part(k, at, &len);
		img_progress(k->c->progress, at + len, end);
	}
	img_progress_end(k->c->progress);
	if (code == SAME)
		say(k, "Images are identical.\n");
	return code;
}

static int open_both(struct comparing *k, struct err *err)
{
	int rc = k->c->path[1] ? 0 : err_set(err, EINVAL, "two names are needed, of the images to compare");

	for (unsigned i = 0; rc == 0 && i < 2; i++) {
		rc = img_open(&k->image[i], &(struct want){.path = k->c->path[i], .format = k->c->format[i],
							   .how = img_how(k->c->shares, k->c->follow)}, err);
		k->size[i] = rc == 0 ? img_size(&k->image[i]) : 0;
		k->bytes[i] = malloc(PART);
		if (!k->bytes[i])
			rc = err_set(err, ENOMEM, "no memory");
	}
	return rc;
}

static int compare_main(void *parsed)
{
	struct comparing k = {.c = parsed};
	struct err err = {0};
	int code = NOT_OPENED;

	if (open_both(&k, &err) == 0) {
		code = compare_all(&k);
		if (code > DIFFERENT)
			err_set(&err, EIO, "'%s' and '%s': an image cannot be read", k.c->path[0], k.c->path[1]);
	}
	if (code > DIFFERENT)
		img_fail(&err);
	for (unsigned i = 0; i < 2; i++) {
		node_close(k.image[i].node);
		free(k.bytes[i]);
	}
	return code;
}

const struct verb verb_compare = {
	.name = "compare",
	.summary = "whether two images are the same disk",
	.text = "Exit codes: 0 they are, 1 they are not, 2 to 4 nobody knows.\n" FORMAT_TEXT,
	.operand = "FILE FILE",
	.n_operands = 2,
	.options = options,
	.size = sizeof(struct compare),
	.main = compare_main,
};
