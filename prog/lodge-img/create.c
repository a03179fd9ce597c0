/* SPDX-License-Identifier: MIT */
/* lodge-img create: a new image, empty or with another one behind it. */
#include "prog/lodge-img/img.h"

#include "base/err.h"

#include <errno.h>
#include <stdio.h>

struct create {
	const char *path, *size;
	const char *format, *backing, *backing_format, *options;
	bool unsafe, quiet, follow;
};

static const struct option options[] = {
	{"-f", "FORMAT", "of the image: raw (default) or qcow2", OPTION_TEXT, offsetof(struct create, format), 0, 0, NULL},
	{"-b", "FILE", "an image behind it: what it does not have is that one's", OPTION_TEXT, offsetof(struct create, backing), 0, 0, NULL},
	{"-F", "FORMAT", "of that", OPTION_TEXT, offsetof(struct create, backing_format), 0, 0, NULL},
	{"-u", NULL, "does not look at that", OPTION_FLAG, offsetof(struct create, unsafe), 0, 0, NULL},
	{"-o", "NAME=VALUE,...", "how it is written down; -o help lists them", OPTION_TEXT, offsetof(struct create, options), 0, 0, NULL},
	OPTION_FOLLOW(offsetof(struct create, follow)),
	OPTION_QUIET(offsetof(struct create, quiet)),
	{0},
};

static int set(char **to, const char *text, struct err *err)
{
	int rc = 0;

	if (text && asprintf(to, "%s", text) < 0) {
		*to = NULL;
		rc = err_set(err, ENOMEM, "no memory");
	}
	return rc;
}

static int prepare(const struct create *c, struct new_image *n, struct err *err)
{
	enum disk_format format = DISK_RAW;
	int rc = c->format ? img_format(&format, c->format, err) : 0;

	new_image_init(n, c->path, format);
	n->unsafe = c->unsafe;
	n->how = img_how(false, c->follow);
	if (rc == 0)
		rc = new_image_options(n, c->options, err);
	if (rc == 0 && c->backing)
		rc = set(&n->backing, c->backing, err);
	if (rc == 0 && c->backing_format)
		rc = set(&n->backing_format, c->backing_format, err);
	if (rc == 0 && c->size) {
		n->has_size = true;
		rc = img_number(&n->size, c->size, "the size", err);
	}
	return rc;
}

static void tell(const struct new_image *n)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "%s", n->path);
	err_harmless(name);
	printf("Formatting '%s', fmt=%s size=%llu", name, disk_formats[n->format], (unsigned long long)n->size);
	if (n->backing)
		printf(" backing_file=%s backing_fmt=%s", n->backing, n->backing_format);
	if (n->format == DISK_QCOW2)
		printf(" cluster_size=%u compression_type=%s lazy_refcounts=%s refcount_bits=%u", 1u << n->cluster_bits,
		       n->zstd ? "zstd" : "zlib", n->lazy ? "on" : "off", 1u << n->order);
	printf("\n");
}

static int create_main(void *parsed)
{
	struct create *c = parsed;
	struct new_image n = {0};
	struct err err = {0};
	int rc = prepare(c, &n, &err);

	if (rc == 0 && !c->path)
		rc = err_set(&err, EINVAL, "the name of the image is missing");
	if (rc == 0)
		rc = new_image_write(&n, &err);
	if (rc == 0 && !c->quiet)
		tell(&n);
	new_image_fini(&n);
	return rc < 0 ? img_fail(&err) : EXIT_OK;
}

const struct verb verb_create = {
	.name = "create",
	.summary = "a new image, empty or with another one behind it",
	.operand = "FILE [SIZE]",
	.n_operands = 2,
	.options = options,
	.size = sizeof(struct create),
	.main = create_main,
};
