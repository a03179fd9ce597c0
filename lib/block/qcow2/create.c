/* SPDX-License-Identifier: MIT */
/*
 * A new image, in an empty file:
 *
 *	cluster 0                header, extensions, the backing file's name
 *	1                        refcount table, a cluster; it grows when that is too short
 *	2 ...                    refcount blocks, as many as it takes to count all of these
 *	...                      L1 table, zeros
 *
 * The header is the last that is written.
 */
#include "block/qcow2.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "block/qcow2/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct plan {
	uint64_t cluster, l1_n, l1_clusters, blocks, used;
};

static int too_large(const struct qcow2_new *n, const struct plan *p, struct err *err)
{
	return err_set(err, EINVAL, "a disk of %llu bytes is too large for clusters of %llu", (unsigned long long)n->size,
		       (unsigned long long)p->cluster);
}

static int check(const struct qcow2_new *n, struct plan *p, struct err *err)
{
	uint64_t counts = UINT64_C(1) << (n->cluster_bits + 3 - n->order), covers;

	p->cluster = UINT64_C(1) << n->cluster_bits;
	covers = p->cluster * (p->cluster / 8);
	if (n->size == 0 || n->size % 512)
		return err_set(err, EINVAL, "a disk of %llu bytes: not a multiple of 512", (unsigned long long)n->size);
	p->l1_n = (n->size - 1) / covers + 1;
	if (p->l1_n > L1_MAX / 8)
		return too_large(n, p, err);
	p->l1_clusters = (p->l1_n * 8 + p->cluster - 1) / p->cluster;
	for (p->blocks = 1;; p->blocks++) {
		p->used = 2 + p->blocks + p->l1_clusters;
		if (p->blocks * counts >= p->used)
			break;
	}
	if (p->blocks * 8 > p->cluster)
		return too_large(n, p, err);
	return 0;
}

/* Each of the first `used` clusters is used once; bits of less than a byte begin at the lowest. */
static void fill_block(uint8_t *bytes, unsigned order, uint64_t first, uint64_t used, uint64_t counts)
{
	for (uint64_t i = 0; i < counts && first + i < used; i++) {
		uint64_t bit = i << order;

		if (order < 3)
			bytes[bit / 8] |= (uint8_t)(1u << bit % 8);
		else
			bytes[bit / 8 + (1u << (order - 3)) - 1] = 1; /* big-endian */
	}
}

static uint64_t put_extension(uint8_t *header, uint64_t at, uint32_t type, const char *text)
{
	uint32_t len = (uint32_t)strlen(text);

	be32_put(header + at, type);
	be32_put(header + at + 4, len);
	memcpy(header + at + 8, text, len);
	return at + 8 + ((len + 7) & ~7u);
}

static int fill_header(uint8_t *h, const struct qcow2_new *n, const struct plan *p, struct err *err)
{
	uint64_t at = n->version >= 3 ? HEADER_NEW : HEADER_V2;
	const char *format = n->backing_format ? n->backing_format : "";
	size_t len = n->backing ? strlen(n->backing) : 0;

	be32_put(h + AT_MAGIC, QCOW2_MAGIC);
	be32_put(h + AT_VERSION, n->version);
	be32_put(h + AT_CLUSTER_BITS, n->cluster_bits);
	be64_put(h + AT_SIZE, n->size);
	be32_put(h + AT_L1_N, (uint32_t)p->l1_n);
	be64_put(h + AT_L1, (2 + p->blocks) * p->cluster);
	be64_put(h + AT_TABLE, p->cluster);
	be32_put(h + AT_TABLE_CLUSTERS, 1);
	if (n->version >= 3) {
		be32_put(h + AT_ORDER, n->order);
		be32_put(h + AT_HEADER_LEN, (uint32_t)at);
		be64_put(h + AT_COMPATIBLE, n->lazy ? COMPATIBLE_LAZY : 0);
		be64_put(h + AT_INCOMPATIBLE, n->zstd ? INCOMPATIBLE_COMPRESSION : 0);
		h[AT_COMPRESSION] = n->zstd;
	}
	if (!len)
		return 0;
	if (len > BACKING_NAME_MAX || strlen(format) > 15 || at + 32 + len > p->cluster)
		return err_set(err, EINVAL, "the name of the image behind it is too long");
	at = put_extension(h, at, EXTENSION_BACKING_FORMAT, format) + 8; /* and the end of them */
	be64_put(h + AT_BACKING, at);
	be32_put(h + AT_BACKING_LEN, (uint32_t)len);
	memcpy(h + at, n->backing, len);
	return 0;
}

static int write_blocks(struct node *file, const struct qcow2_new *n, const struct plan *p, uint8_t *bytes)
{
	uint64_t counts = UINT64_C(1) << (n->cluster_bits + 3 - n->order);
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < p->blocks; i++) {
		memset(bytes, 0, p->cluster);
		fill_block(bytes, n->order, i * counts, p->used, counts);
		rc = node_put(file, (2 + i) * p->cluster, bytes, p->cluster);
	}
	memset(bytes, 0, p->cluster);
	for (uint64_t i = 0; i < p->blocks; i++)
		be64_put(bytes + i * 8, (2 + i) * p->cluster);
	return rc < 0 ? rc : node_put(file, p->cluster, bytes, p->cluster);
}

int qcow2_create(struct node *file, const struct qcow2_new *n, struct err *err)
{
	struct plan p = {0};
	int rc = check(n, &p, err);
	scoped_mem uint8_t *bytes = rc < 0 ? NULL : calloc(1, p.cluster), *header = rc < 0 ? NULL : calloc(1, p.cluster);

	if (rc < 0)
		return rc;
	if (!bytes || !header)
		return err_set(err, ENOMEM, "out of memory");
	rc = fill_header(header, n, &p, err);
	if (rc < 0)
		return rc;
	if ((rc = write_blocks(file, n, &p, bytes)) < 0 ||
	    (rc = file->ops->zero(file, (2 + p.blocks) * p.cluster, p.l1_clusters * p.cluster)) < 0 ||
	    (rc = node_flush(file)) < 0 || (rc = node_put(file, 0, header, p.cluster)) < 0 ||
	    (rc = node_flush(file)) < 0)
		return err_sys(err, -rc, "writing a new image");
	file->size = p.used * p.cluster;
	return 0;
}
