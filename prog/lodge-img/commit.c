/* SPDX-License-Identifier: MIT */
/*
 * lodge-img commit: what an image has is written into the one behind it, and the image is empty then. That is in this order, so
 * whatever ends it, the image's disk is the same: data, on the disk; only then is the image emptied.
 *
 * The image is opened alone, so what it does not have is told apart from what is behind it; and that one with all behind it, for a part of
 * a cluster may be written.
 */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/macros.h"
#include "block/node.h"
#include "block/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct commit {
	const char *path;
	const char *format, *base, *cache;
	bool keep, progress, quiet, follow;
};

static const struct option options[] = {
	OPTION_FORMAT(offsetof(struct commit, format)),
	{"-b", "FILE", "the image behind it, which is the only one that it can be", OPTION_TEXT, offsetof(struct commit, base), 0, 0, NULL},
	{"-d", NULL, "the image is not emptied", OPTION_FLAG, offsetof(struct commit, keep), 0, 0, NULL},
	OPTION_CACHE(offsetof(struct commit, cache)),
	OPTION_FOLLOW(offsetof(struct commit, follow)),
	OPTION_PROGRESS(offsetof(struct commit, progress)),
	OPTION_QUIET(offsetof(struct commit, quiet)),
	{0},
};

static int find_base(const struct commit *c, char real[PATH_MAX], enum disk_format *format, struct err *err)
{
	char said[PATH_MAX];
	int rc = image_behind(c->path, img_how(false, c->follow), real, format, err);

	if (rc == 0 && !real[0])
		return err_set(err, EINVAL, "has no image behind it");
	if (rc < 0 || !c->base)
		return rc;
	if (image_may_have_behind(c->path, c->base, disk_formats[*format], IMAGE_ANYWHERE, said, NULL) == 0 && strcmp(said, real) == 0)
		return 0;
	return err_set(err, EINVAL, "has '%s' behind it, not '%s': only that can be committed to", real, c->base);
}

static int copy(const struct commit *c, struct image *top, struct image *base, struct err *err)
{
	struct copy k = {.from = top->node, .to = base->node, .size = top->node->size, .grain = 512, .only_here = true, .threads = 1,
			 .progress = c->progress && !c->quiet};
	int rc = 0;

	if (img_size(base) < top->node->size)
		rc = base->node->ops->resize(base->node, top->node->size, err);
	if (rc == 0)
		rc = img_copy(&k, err);
	if (rc < 0)
		return rc;
	rc = node_flush(base->node);
	return rc < 0 ? err_sys(err, -rc, "flushing what is behind it") : 0;
}

static int commit(const struct commit *c, struct image *top, struct err *err)
{
	char real[PATH_MAX];
	struct image base;
	enum disk_format format = DISK_RAW;
	int rc;

	if (top->format != DISK_QCOW2)
		return err_set(err, ENOTSUP, "is %s, which has nothing behind it", disk_formats[top->format]);
	rc = find_base(c, real, &format, err);
	if (rc == 0)
		rc = img_open(&base, &(struct want){.path = real, .format = disk_formats[format], .writes = true,
						    .how = img_how(false, c->follow)}, err);
	if (rc < 0)
		return rc;
	rc = copy(c, top, &base, err);
	node_close(base.node);
	return rc < 0 || c->keep ? rc : qcow2_empty(top->node, err);
}

static int commit_main(void *parsed)
{
	const struct commit *c = parsed;
	struct want want = {.path = c->path, .format = c->format, .writes = true, .how = IMAGE_BARE};
	struct image top;
	struct err err = {0};
	int rc = img_open(&top, &want, &err);

	if (rc == 0) {
		rc = commit(c, &top, &err);
		if (rc < 0)
			err_at(&err, rc, "'%s'", c->path);
		else
			rc = img_close(&top, c->path, true, &err);
		node_close(top.node);
	}
	if (rc == 0 && !c->quiet)
		printf("Image committed.\n");
	return rc < 0 ? img_fail(&err) : EXIT_OK;
}

const struct verb verb_commit = {
	.name = "commit",
	.summary = "writes what an image has into the one behind it",
	.text = FORMAT_TEXT,
	.operand = "FILE",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct commit),
	.main = commit_main,
};
