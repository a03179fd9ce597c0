/* SPDX-License-Identifier: MIT */
/*
 * lodge-img measure: how large a file would be that has a disk: now, and when all of the disk has been written. For qcow2 that is
 * the header, an L1 table with its L2 tables, the refcount table with its blocks, and a cluster for each that is not zeros. A raw file
 * is as long as the disk.
 */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/json.h"
#include "base/macros.h"
#include "block/node.h"

#include <errno.h>
#include <stdio.h>

struct measure {
	const char *path, *format, *to_format, *options, *snapshot, *size, *output;
	bool shares, follow;
};

static const struct option options[] = {
	OPTION_FORMAT(offsetof(struct measure, format)),
	{"-O", "FORMAT", "of what would be made: raw (default) or qcow2", OPTION_TEXT, offsetof(struct measure, to_format), 0, 0, NULL},
	{"-o", "NAME=VALUE,...", "how that would be written down", OPTION_TEXT, offsetof(struct measure, options), 0, 0, NULL},
	{"-l", "SNAPSHOT", "what FILE was at one, by its name or number", OPTION_TEXT, offsetof(struct measure, snapshot), 0, 0, NULL},
	{"--size", "SIZE", "of a disk that is empty, in place of FILE", OPTION_TEXT, offsetof(struct measure, size), 0, 0, NULL},
	OPTION_OUTPUT(offsetof(struct measure, output)),
	OPTION_FOLLOW(offsetof(struct measure, follow)),
	OPTION_SHARE(offsetof(struct measure, shares)),
	{0},
};

struct measured {
	uint64_t required, full;
};

static uint64_t up(uint64_t n, uint64_t by)
{
	return (n + by - 1) / by;
}

/* Clusters of metadata for so many of data, with refcounts for both. */
static uint64_t metadata(const struct new_image *n, uint64_t data)
{
	uint64_t cluster = UINT64_C(1) << n->cluster_bits, counts = UINT64_C(1) << (n->cluster_bits + 3 - n->order);
	uint64_t l2 = up(data, cluster / 8), l1 = up(l2 * 8, cluster), blocks = 1, table = 1, all;

	for (;;) {
		all = 1 + l1 + l2 + data + blocks + table;
		if (up(all, counts) <= blocks && up(blocks * 8, cluster) <= table)
			return all - data;
		blocks = up(all, counts);
		table = up(blocks * 8, cluster);
	}
}

/* Bytes of an image that are not zeros, in units of so many. */
static int count_data(struct node *node, uint64_t size, uint64_t unit, uint64_t *bytes, struct err *err)
{
	uint64_t end = 0; /* of what was counted */
	struct node_status s;

	*bytes = 0;
	for (uint64_t at = 0; at < size; at += s.len) {
		int rc = node->ops->status(node, at, size - at, &s);
		uint64_t from = align_down(at, unit), to = align_up(at + s.len, unit);

		if (rc < 0)
			return err_sys(err, -rc, "looking at byte %llu", (unsigned long long)at);
		if (s.zero)
			continue;
		*bytes += to - (from > end ? from : end);
		end = to;
	}
	return 0;
}

static int measure(const struct measure *m, struct image *image, uint64_t size, struct measured *result, struct err *err)
{
	struct new_image n;
	enum disk_format format = DISK_RAW;
	uint64_t cluster, data = 0;
	int rc = m->to_format ? img_format(&format, m->to_format, err) : 0;

	new_image_init(&n, NULL, format);
	if (rc == 0)
		rc = new_image_options(&n, m->options, err);
	cluster = UINT64_C(1) << n.cluster_bits;
	if (rc == 0 && image->node)
		rc = count_data(image->node, size, cluster, &data, err);
	if (n.room >= ROOM_FALLOC)
		data = align_up(size, cluster);
	new_image_fini(&n);
	if (rc)
		return rc;
	*result = (struct measured){size, size};
	if (format == DISK_QCOW2) {
		uint64_t more = metadata(&n, up(size, cluster)) * cluster;

		*result = (struct measured){more + data, more + align_up(size, cluster)};
	}
	return 0;
}

static int open_or_size(const struct measure *m, struct image *image, uint64_t *size, struct err *err)
{
	struct want want = {.path = m->path, .format = m->format, .snapshot = m->snapshot, .how = img_how(m->shares, m->follow)};
	int rc;

	if (!m->path == !m->size)
		return err_set(err, EINVAL, "either an image is measured, or --size");
	rc = m->size ? img_number(size, m->size, "--size", err) : img_open(image, &want, err);
	if (rc == 0)
		*size = m->size ? align_up(*size, UINT64_C(512)) : img_size(image);
	return rc;
}

static int measure_main(void *parsed)
{
	const struct measure *m = parsed;
	struct json j = {.out = stdout};
	struct image image = {.fd = -1};
	struct measured r = {0, 0};
	struct err err = {0};
	uint64_t size;
	int rc = open_or_size(m, &image, &size, &err);

	if (rc == 0)
		rc = measure(m, &image, size, &r, &err);
	node_close(image.node);
	if (rc)
		return rc < 0 ? img_fail(&err) : EXIT_OK;
	if (!wants_json(m->output)) {
		printf("required size: %llu\nfully allocated size: %llu\n", (unsigned long long)r.required,
		       (unsigned long long)r.full);
		return EXIT_OK;
	}
	json_open(&j, NULL, '{');
	json_uint(&j, "required", r.required);
	json_uint(&j, "fully-allocated", r.full);
	json_close(&j);
	return EXIT_OK;
}

const struct verb verb_measure = {
	.name = "measure",
	.summary = "how large a file would be that has a disk",
	.text = FORMAT_TEXT,
	.operand = "[FILE]",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct measure),
	.main = measure_main,
};
