/* SPDX-License-Identifier: MIT */
/* lodge-img resize: a disk becomes longer, by zeros, or shorter, which loses what was there. */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/macros.h"
#include "block/node.h"
#include "block/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct resize {
	const char *path, *size;
	const char *format, *room;
	bool shrink, quiet, follow;
};

static const struct option options[] = {
	OPTION_FORMAT(offsetof(struct resize, format)),
	{"--shrink", NULL, "it may become shorter", OPTION_FLAG, offsetof(struct resize, shrink), 0, 0, NULL},
	{"--preallocation", "off|metadata|falloc|full", "whether what is new has its place in the file at once (default: off)", OPTION_WORD, offsetof(struct resize, room), 0, 0, NULL},
	OPTION_FOLLOW(offsetof(struct resize, follow)),
	OPTION_QUIET(offsetof(struct resize, quiet)),
	{0},
};

static int find_size(const struct resize *r, uint64_t before, uint64_t *size, struct err *err)
{
	bool more = r->size[0] == '+', less = r->size[0] == '-';
	uint64_t n;
	int rc = img_number(&n, r->size + (more || less), "the size", err);

	if (rc < 0)
		return rc;
	if (less && n >= before)
		return err_set(err, EINVAL, "the disk has %llu bytes, from which %llu cannot be taken",
			       (unsigned long long)before, (unsigned long long)n);
	*size = less ? before - n : more ? before + n : n;
	if (*size > INT64_MAX - 511)
		return err_set(err, EFBIG, "the size is more than a file can have");
	*size = align_up(*size, UINT64_C(512));
	if (*size < before && !r->shrink)
		return err_set(err, EINVAL, "%llu bytes are less than the disk has, which would lose what is behind them: --shrink "
			       "does that", (unsigned long long)*size);
	return 0;
}

static bool allocates(const struct resize *r, uint64_t from, uint64_t to)
{
	return r->room && strcmp(r->room, "off") != 0 && to > from;
}

/* Whether that can be, before anything is changed. */
static int check_room(const struct resize *r, const struct image *image, struct err *err)
{
	char name[1024] = "", format[16];
	int rc = 0;

	if (image->format == DISK_RAW && strcmp(r->room, "metadata") == 0)
		return err_set(err, EINVAL, "--preallocation of a raw image is off, falloc or full");
	if (image->format == DISK_QCOW2)
		rc = qcow2_backing_of(image->node, name, format, err);
	if (rc == 0 && name[0])
		rc = err_set(err, EINVAL, "what has an image behind it is not allocated in advance");
	return rc;
}

/* What is new, in the file. A qcow2 image is allocated as a whole: the rest of it was meant to be small. */
static int allocate(const struct resize *r, struct image *image, uint64_t from, uint64_t to, struct err *err)
{
	int rc;

	if (image->format == DISK_QCOW2)
		return qcow2_allocate(image->node, strcmp(r->room, "metadata") != 0, err);
	rc = image->node->ops->zero(image->node, from, to - from);
	return rc < 0 ? err_sys(err, -rc, "allocating what is new") : 0;
}

static int resize(const struct resize *r, struct image *image, struct err *err)
{
	uint64_t before = img_size(image), size = before;
	int rc = find_size(r, before, &size, err);

	if (rc == 0 && allocates(r, before, size))
		rc = check_room(r, image, err);
	if (rc == 0)
		rc = image->node->ops->resize(image->node, size, err);
	return rc == 0 && allocates(r, before, size) ? allocate(r, image, before, size, err) : rc;
}

static int resize_main(void *parsed)
{
	const struct resize *r = parsed;
	struct want want = {.path = r->path, .format = r->format, .writes = true, .how = img_how(false, r->follow)};
	struct image image = {.fd = -1};
	struct err err = {0};
	int rc = r->size ? 0 : err_set(&err, EINVAL, "the size is missing: lodge-img resize disk.qcow2 +10G");

	if (rc == 0)
		rc = img_open(&image, &want, &err);
	if (rc == 0) {
		rc = resize(r, &image, &err);
		if (rc < 0)
			err_at(&err, rc, "'%s'", r->path);
		else
			rc = img_close(&image, r->path, true, &err);
		node_close(image.node);
	}
	if (rc == 0 && !r->quiet)
		printf("Image resized.\n");
	return rc < 0 ? img_fail(&err) : EXIT_OK;
}

const struct verb verb_resize = {
	.name = "resize",
	.summary = "a disk becomes longer, or shorter",
	.text = "SIZE is the new one, or with + or - before it by how much it changes.\n" FORMAT_TEXT,
	.operand = "FILE SIZE",
	.n_operands = 2,
	.options = options,
	.size = sizeof(struct resize),
	.main = resize_main,
};
