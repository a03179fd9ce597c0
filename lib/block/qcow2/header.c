/* SPDX-License-Identifier: MIT */
/*
 * The header of a qcow2 image: what is read of it once, and checked, with a sentence for all that we cannot do. Whatever is
 * allocated by what it says has a bound here.
 *
 * The first sector is the only thing that is written in place and decides about all others, so it is one write of one sector,
 * which disks do wholly or not at all. What is behind it (extensions, the backing file's name) stays as it is.
 */
#include "block/qcow2.h"
#include "block/qcow2/inside.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- Extensions ------------------------------------------------------------------------ */

int header_extensions(struct qcow2 *q, see_extension *see, void *ctx, struct err *err)
{
	uint32_t at = q->version >= 3 ? be32_get(q->header + AT_HEADER_LEN) : HEADER_V2;
	uint64_t backing = be64_get(q->header + AT_BACKING);
	uint32_t end = (uint32_t)(backing && backing < q->cluster ? backing : q->cluster);
	scoped_mem uint8_t *bytes = malloc(q->cluster);
	int rc = bytes ? node_get(q->file, 0, bytes, q->cluster) : -ENOMEM;

	if (rc < 0)
		return err_sys(err, -rc, "reading its header");
	while (at <= end && end - at >= 8) {
		uint32_t type = be32_get(bytes + at), len = be32_get(bytes + at + 4);

		if (type == 0)
			return 0;
		at += 8;
		if (len > end - at)
			return err_set(err, EINVAL, "is damaged: header extension 0x%08x has %u bytes, and there "
				       "is room for %u", type, len, end - at);
		if (see(type, bytes + at, len, ctx))
			return 0;
		at += len + (-len & 7);
		if (at > end)
			return 0;
	}
	return 0;
}

struct feature {
	unsigned bit;
	char name[47];
};

static bool see_features(uint32_t type, const uint8_t *bytes, uint32_t len, void *ctx)
{
	struct feature *f = ctx;

	if (type != EXTENSION_FEATURES)
		return false;
	for (; len >= 48; bytes += 48, len -= 48)
		if (bytes[0] == 0 && bytes[1] == f->bit && bytes[2])
			snprintf(f->name, sizeof(f->name), "%.46s", (const char *)bytes + 2);
	return true;
}

static const char *const features[] = {
	[2] = "external data file", [4] = "extended L2 entries",
};

static int refuse_feature(struct qcow2 *q, unsigned bit, struct err *err)
{
	struct feature f = {.bit = bit};

	if (bit < sizeof(features) / sizeof(features[0]) && features[bit])
		snprintf(f.name, sizeof(f.name), "%s", features[bit]);
	else
		header_extensions(q, see_features, &f, NULL);
	err_printable(f.name);
	return err_set(err, ENOTSUP, "needs qcow2 feature %u%s%s%s, which lodge does not have", bit,
		       f.name[0] ? " (" : "", f.name, f.name[0] ? ")" : "");
}

struct format {
	char *text;
	size_t len;
};

static bool see_format(uint32_t type, const uint8_t *bytes, uint32_t len, void *ctx)
{
	struct format *f = ctx;

	if (type != EXTENSION_BACKING_FORMAT)
		return false;
	snprintf(f->text, f->len, "%.*s", (int)(len < 15 ? len : 15), (const char *)bytes);
	err_printable(f->text);
	return true;
}

int header_backing(struct qcow2 *q, char name[BACKING_NAME_MAX + 1], char format[16], struct err *err)
{
	uint64_t at = be64_get(q->header + AT_BACKING);
	uint32_t len = be32_get(q->header + AT_BACKING_LEN);
	int rc;

	name[0] = format[0] = 0;
	if (!at || !len)
		return 0;
	if (len > BACKING_NAME_MAX || at > q->cluster || len > q->cluster - at)
		return err_set(err, EINVAL, "is damaged: its backing file's name has %u bytes at %llu, not up to %u in "
			       "the first cluster", len, (unsigned long long)at, BACKING_NAME_MAX);
	rc = node_get(q->file, at, name, len);
	if (rc < 0)
		return err_sys(err, -rc, "reading its header");
	name[len] = 0;
	if (strlen(name) != len)
		return err_set(err, EINVAL, "is damaged: its backing file's name has a 0 in it");
	return header_extensions(q, see_format, &(struct format){format, 16}, err);
}

/* -- Reading ------------------------------------------------------------------------- */

static int check_features(struct qcow2 *q, struct err *err)
{
	uint64_t wanted = be64_get(q->header + AT_INCOMPATIBLE);
	uint64_t unknown = wanted & ~(INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_COMPRESSION);
	uint32_t len = be32_get(q->header + AT_HEADER_LEN);

	if (len < HEADER_V3 || len > q->cluster || len % 8)
		return err_set(err, EINVAL, "is damaged: its header has %u bytes, not %d to %llu", len, HEADER_V3,
			       (unsigned long long)q->cluster);
	if (unknown)
		return refuse_feature(q, (unsigned)__builtin_ctzll(unknown), err);
	if ((wanted & INCOMPATIBLE_DIRTY) && !q->node.readonly && !q->unchecked)
		return err_set(err, EINVAL, "was not closed, and its refcounts may be wrong (it is marked dirty): "
			       "`lodge-img check -r all` counts them; readonly=on reads it");
	if ((wanted & INCOMPATIBLE_CORRUPT) && !q->node.readonly && !q->unchecked)
		return err_set(err, EINVAL, "is marked corrupt: `lodge-img check -r all` may repair it; "
			       "readonly=on reads it");
	q->order = be32_get(q->header + AT_ORDER);
	if (q->order > 6)
		return err_set(err, EINVAL, "is damaged: its refcount order is %u, not 0 to 6", q->order);
	if (!(wanted & INCOMPATIBLE_COMPRESSION))
		return 0;
	if (len < HEADER_NEW || q->header[AT_COMPRESSION] > 1)
		return err_set(err, ENOTSUP, "has clusters that are compressed by method %u, not zlib (0) or zstd (1)",
			       q->header[AT_COMPRESSION]);
	q->zstd = q->header[AT_COMPRESSION] == 1;
	return 0;
}

/* The writer of the file may change all that the header leads to, meanwhile, but not this tree: so it is all we look at. */
static void look_at_tree(struct qcow2 *q, const struct qcow2_tree *tree)
{
	be64_put(q->header + AT_L1, tree->l1_at);
	be32_put(q->header + AT_L1_N, tree->l1_n);
	be32_put(q->header + AT_SNAPSHOTS_N, 0);
}

static int check_sizes(struct qcow2 *q, struct err *err)
{
	uint64_t covers = q->cluster * l2_n(q), l1_n = be32_get(q->header + AT_L1_N);
	uint64_t table = (uint64_t)be32_get(q->header + AT_TABLE_CLUSTERS) << q->cluster_bits;

	q->node.size = be64_get(q->header + AT_SIZE);
	if (q->node.size == 0 || q->node.size % 512 || q->node.size > INT64_MAX)
		return err_set(err, EINVAL, "has a disk of %llu bytes, not a multiple of 512",
			       (unsigned long long)q->node.size);
	if (l1_n > L1_MAX / 8 || (q->node.size - 1) / covers >= l1_n)
		return err_set(err, EINVAL, "is damaged: its L1 table has %llu entries, and the disk needs %llu; %u "
			       "are the most", (unsigned long long)l1_n,
			       (unsigned long long)((q->node.size - 1) / covers + 1), L1_MAX / 8);
	if (table == 0 || table > TABLE_MAX)
		return err_set(err, EINVAL, "is damaged: its refcount table has %llu bytes, not 1 to %u",
			       (unsigned long long)table, TABLE_MAX);
	if (be32_get(q->header + AT_CRYPT))
		return err_set(err, ENOTSUP, "is encrypted, which lodge cannot read");
	return 0;
}

/* A place in the file for so many bytes. */
static int check_place(struct qcow2 *q, const char *what, uint64_t at, uint64_t len, struct err *err)
{
	if (at % q->cluster == 0 && at >= q->cluster && at >> q->cluster_bits < q->end &&
	    len <= (q->end << q->cluster_bits) - at)
		return 0;
	return err_set(err, EINVAL, "is damaged: its %s is at byte %llu, which is not in the file", what,
		       (unsigned long long)at);
}

int table_read(struct qcow2 *q, struct table *t, uint64_t at, uint32_t n)
{
	uint64_t *entry = malloc((size_t)n * 8 + 8);
	int rc = entry ? node_get(q->file, at, entry, (size_t)n * 8) : -ENOMEM;

	if (rc < 0) {
		free(entry);
		return rc;
	}
	for (uint32_t i = 0; i < n; i++)
		entry[i] = be64toh(entry[i]);
	free(t->entry);
	*t = (struct table){.entry = entry, .n = n, .at = at};
	return 0;
}

int table_write(struct qcow2 *q, const struct table *t, struct span span)
{
	uint64_t bytes[512];
	int rc = 0;

	while (rc == 0 && span.first < span.end) {
		uint32_t n = span.end - span.first < 512 ? span.end - span.first : 512;

		for (uint32_t i = 0; i < n; i++)
			bytes[i] = htobe64(t->entry[span.first + i]);
		rc = node_put(q->file, t->at + span.first * UINT64_C(8), bytes, n * 8);
		span.first += n;
	}
	return rc;
}

static int read_tables(struct qcow2 *q, bool is_tree, struct err *err)
{
	uint64_t l1 = be64_get(q->header + AT_L1), refs = be64_get(q->header + AT_TABLE);
	uint32_t l1_n = be32_get(q->header + AT_L1_N);
	uint32_t refs_n = (uint32_t)((uint64_t)be32_get(q->header + AT_TABLE_CLUSTERS) << q->cluster_bits) / 8;
	int rc;

	if ((rc = check_place(q, "L1 table", l1, l1_n * UINT64_C(8), err)) < 0 ||
	    (!is_tree && (rc = check_place(q, "refcount table", refs, refs_n * UINT64_C(8), err)) < 0))
		return rc;
	if ((rc = table_read(q, &q->l1, l1, l1_n)) < 0 || (!is_tree && (rc = table_read(q, &q->refs, refs, refs_n)) < 0))
		return err_sys(err, -rc, "reading its tables");
	return 0;
}

int header_read(struct qcow2 *q, const struct qcow2_tree *tree, struct err *err)
{
	int rc = node_get(q->file, 0, q->header, sizeof(q->header));

	if (rc < 0)
		return err_sys(err, -rc, "reading its header");
	if (be32_get(q->header) != QCOW2_MAGIC)
		return err_set(err, EINVAL, "is no qcow2 image");
	q->version = be32_get(q->header + AT_VERSION);
	if (q->version != 2 && q->version != 3)
		return err_set(err, ENOTSUP, "is qcow2 of version %u, not 2 or 3", q->version);
	q->cluster_bits = be32_get(q->header + AT_CLUSTER_BITS);
	if (q->cluster_bits < CLUSTER_BITS_MIN || q->cluster_bits > CLUSTER_BITS_MAX)
		return err_set(err, EINVAL, "is damaged: its cluster_bits is %u, not %u to %u", q->cluster_bits,
			       CLUSTER_BITS_MIN, CLUSTER_BITS_MAX);
	q->cluster = UINT64_C(1) << q->cluster_bits;
	q->unit = q->cluster < 4096 ? (unsigned)q->cluster : 4096;
	q->order = 4;
	q->end = clusters_of(q, q->file->size);
	if (q->version == 3 && (rc = check_features(q, err)) < 0)
		return rc;
	if (tree->l1_at)
		look_at_tree(q, tree);
	rc = check_sizes(q, err);
	return rc < 0 ? rc : read_tables(q, tree->l1_at, err);
}

/* -- Writing --------------------------------------------------------------------------- */

int header_write(struct qcow2 *q)
{
	return node_put(q->file, 0, q->header, sizeof(q->header));
}

int corrupt(struct qcow2 *q, const char *fmt, ...)
{
	char text[200];
	va_list ap;

	if (q->corrupt)
		return -EIO;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_warn("disk", "'%s' is damaged: %s; %s", q->path, text, q->node.readonly ?
		 "what is there cannot be read" : "it is not written any more");
	q->corrupt = true;
	if (!q->node.readonly && q->version >= 3) {
		be64_put(q->header + AT_INCOMPATIBLE,
			 be64_get(q->header + AT_INCOMPATIBLE) | INCOMPATIBLE_CORRUPT);
		header_write(q);
	}
	return -EIO;
}

static bool is_in(const struct qcow2 *q, uint64_t at, const struct table *t)
{
	return at >= t->at && at - t->at < ((t->n * UINT64_C(8) + q->cluster - 1) & ~(q->cluster - 1));
}

bool is_cluster(const struct qcow2 *q, uint64_t at)
{
	return at % q->cluster == 0 && at >= q->cluster && at >> q->cluster_bits < q->end &&
	       !is_in(q, at, &q->l1) && !is_in(q, at, &q->refs);
}
