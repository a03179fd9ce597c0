/* SPDX-License-Identifier: MIT */
/*
 * Compressed clusters. An entry says
 *
 *	bits 0 to x - 1      at which byte of the file, whatever the cluster
 *	bits x to 61         how many sectors more than the one it begins in
 *
 * where x is 62 - (cluster_bits - 8). It is a stream of deflate without a header, or of zstd, that makes a cluster and may end before its
 * last sector does.
 *
 * The last one that was unpacked is kept, for a disk is mostly read in order. An entry with the same bits has the same
 * data until something compressed is written, which forgets it.
 *
 * A cluster is written compressed only when whole. Its data goes behind the last that was: a cluster of the file is counted once for each
 * that has bytes in it (room_take()). The rules of qcow2.h are the same: counted and there before the map leads to it.
 */
#include "block/qcow2.h"
#include "block/qcow2/inside.h"

#include "base/scoped.h"
#include "block/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define WINDOW_LOG_MAX 22 /* of zstd: no cluster needs more */

void packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *at, uint64_t *len)
{
	unsigned x = 62 - (q->cluster_bits - 8);
	uint64_t sectors = (entry & ~(ENTRY_COPIED | ENTRY_COMPRESSED)) >> x;

	*at = entry & ((UINT64_C(1) << x) - 1);
	*len = (sectors + 1) * 512 - (*at & 511);
}

static int inflate_cluster(struct qcow2 *q, uint64_t len)
{
	z_stream z = {.next_in = q->packed, .avail_in = (uInt)len, .next_out = q->unpacked,
		      .avail_out = (uInt)q->cluster};
	int rc = inflateInit2(&z, -12);

	if (rc != Z_OK)
		return -ENOMEM;
	rc = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return (rc == Z_STREAM_END || rc == Z_BUF_ERROR) && z.avail_out == 0 ? 0 : -EIO;
}

static int unzstd_cluster(struct qcow2 *q, uint64_t len)
{
	ZSTD_inBuffer in = {q->packed, len, 0};
	ZSTD_outBuffer out = {q->unpacked, q->cluster, 0};
	ZSTD_DCtx *z = ZSTD_createDCtx();
	size_t rc = 1;

	if (!z)
		return -ENOMEM;
	ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
	while (rc && !ZSTD_isError(rc) && out.pos < out.size && in.pos < in.size)
		rc = ZSTD_decompressStream(z, &out, &in);
	ZSTD_freeDCtx(z);
	return !ZSTD_isError(rc) && out.pos == out.size ? 0 : -EIO;
}

/* The lock of what was unpacked held. */
static int unpack(struct qcow2 *q, uint64_t entry)
{
	uint64_t at, len;
	int rc;

	if (q->unpacked_is == entry)
		return 0;
	if (!q->packed)
		q->packed = malloc(2 * q->cluster); /* SAFE: the sectors' number has cluster_bits - 8 bits */
	if (!q->unpacked)
		q->unpacked = malloc(q->cluster);
	if (!q->packed || !q->unpacked)
		return -ENOMEM;
	q->unpacked_is = 0;
	packed_place(q, entry, &at, &len);
	rc = node_get(q->file, at, q->packed, len);
	if (rc < 0)
		return rc;
	rc = q->zstd ? unzstd_cluster(q, len) : inflate_cluster(q, len);
	if (rc == 0)
		q->unpacked_is = entry;
	return rc;
}

int packed_read(struct qcow2 *q, uint64_t entry, uint64_t from, struct iovec *iov, unsigned n_iov)
{
	int rc;

	pool_wait();
	scoped_lock(&q->unpacked_lock);
	rc = unpack(q, entry);
	for (unsigned i = 0; rc == 0 && i < n_iov; i++) {
		memcpy(iov[i].iov_base, q->unpacked + from, iov[i].iov_len);
		from += iov[i].iov_len;
	}
	return rc;
}

/* -- Writing --------------------------------------------------------------------------- */

/* 0: none can lead there. */
static uint64_t packed_entry(const struct qcow2 *q, uint64_t at, uint64_t len)
{
	unsigned x = 62 - (q->cluster_bits - 8);

	if (at >> x)
		return 0;
	return ENTRY_COMPRESSED | ((at & 511) + len - 1) / 512 << x | at;
}

static int deflate_cluster(const struct qcow2 *q, const uint8_t *bytes, uint8_t *packed, size_t *len)
{
	z_stream z = {.next_in = (uint8_t *)bytes, .avail_in = (uInt)q->cluster, .next_out = packed,
		      .avail_out = (uInt)q->cluster - 1};
	int rc = deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY);

	if (rc != Z_OK)
		return -ENOMEM;
	rc = deflate(&z, Z_FINISH);
	*len = rc == Z_STREAM_END ? z.total_out : 0;
	deflateEnd(&z);
	return 0;
}

int qcow2_pack(struct node *n, const void *bytes, void *packed, size_t *len)
{
	const struct qcow2 *q = qcow2_of(n);
	size_t rc;

	if (!q->zstd)
		return deflate_cluster(q, bytes, packed, len);
	rc = ZSTD_compress(packed, q->cluster - 1, bytes, q->cluster, ZSTD_CLEVEL_DEFAULT);
	*len = ZSTD_isError(rc) ? 0 : rc;
	return 0;
}

static int take_room(struct qcow2 *q, uint64_t cluster, size_t len, uint64_t *at, uint64_t *entry)
{
	int rc;

	scoped_lock(&q->lock);
	rc = map_prepare(q, cluster);
	if (rc == 0)
		rc = room_take(q, len, at);
	if (rc < 0)
		return rc;
	*entry = packed_entry(q, *at, len);
	return *entry ? 0 : -EFBIG;
}

static int lead_there(struct qcow2 *q, uint64_t cluster, uint64_t entry)
{
	uint64_t done = 0;
	int rc;

	pthread_mutex_lock(&q->unpacked_lock);
	q->unpacked_is = 0;
	pthread_mutex_unlock(&q->unpacked_lock);
	scoped_lock(&q->lock);
	rc = map_set(q, cluster, 1, entry, &done);
	return rc;
}

static int write_packed(struct qcow2 *q, uint64_t at, const uint8_t *packed, size_t len)
{
	uint64_t place, entry;
	struct claim c;
	int rc;

	claim_clusters(q, &c, at, q->cluster, true);
	rc = take_room(q, at >> q->cluster_bits, len, &place, &entry);
	if (rc == 0)
		rc = node_put(q->file, place, packed, len);
	if (rc == 0)
		rc = lead_there(q, at >> q->cluster_bits, entry); /* if not, what was taken is a leak */
	release_clusters(q, &c);
	return rc;
}

int qcow2_write_packed(struct node *n, uint64_t at, const void *packed, size_t len)
{
	struct qcow2 *q = qcow2_of(n);
	int rc;

	pthread_mutex_lock(&q->lock);
	rc = begin_writing(q);
	pthread_mutex_unlock(&q->lock);
	return rc < 0 ? rc : write_packed(q, at, packed, len);
}
