/* SPDX-License-Identifier: MIT */
/*
 * A disk's requests to a qcow2 image.
 *
 *	claim the clusters; for each run of them:
 *	        where is it?                        lock held
 *	        read or write there                 without it
 *	        tell where it is now                lock held, if that is somewhere else
 *
 * The lock is for metadata, and held while that is read or committed. Data is read and written without it, so something else
 * must keep a cluster where it is meanwhile: the claim. Those who only use clusters where they are share them; who moves, frees
 * or makes one has it alone. Whoever came first goes first, so nobody waits for ever; and a request has one claim at a
 * time, so nobody waits for each other.
 *
 * A write to a part of a new cluster brings the rest: from what was there before, or from behind the image. The rest and the data are
 * one write, before the cluster is in the map (rule 1 of qcow2.h).
 */
#include "block/qcow2/inside.h"

#include "base/bytes.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/disk.h"
#include "block/iov.h"
#include "block/pool.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NEW_MAX MiB /* bytes of new clusters in one write, or a cluster */

/* -- Claims ---------------------------------------------------------------------------- */

/* Lock held. */
static bool must_wait(const struct qcow2 *q, const struct claim *c)
{
	for (const struct claim *o = q->claims; o; o = o->next)
		if (o->ticket < c->ticket && (o->alone || c->alone) && o->first <= c->last && c->first <= o->last)
			return true;
	return false;
}

void claim_clusters(struct qcow2 *q, struct claim *c, uint64_t at, uint64_t len, bool alone)
{
	scoped_lock(&q->lock);
	*c = (struct claim){.first = at >> q->cluster_bits, .last = (at + len - 1) >> q->cluster_bits,
			    .alone = alone, .ticket = q->tickets++, .next = q->claims};
	q->claims = c;
	if (must_wait(q, c))
		pool_wait();
	while (must_wait(q, c))
		pthread_cond_wait(&q->released, &q->lock);
}

void release_clusters(struct qcow2 *q, struct claim *c)
{
	scoped_lock(&q->lock);
	struct claim **link = &q->claims;

	while (*link != c)
		link = &(*link)->next;
	*link = c->next;
	pthread_cond_broadcast(&q->released);
}

/* -- Reading --------------------------------------------------------------------------- */

static uint64_t offset_in(const struct qcow2 *q, uint64_t at)
{
	return at & (q->cluster - 1);
}

static uint64_t clusters_to(const struct qcow2 *q, uint64_t at, uint64_t len)
{
	return ((at + len - 1) >> q->cluster_bits) - (at >> q->cluster_bits) + 1;
}

/* Bytes of a run, from `at` in its first cluster on. */
static uint64_t run_bytes(const struct qcow2 *q, const struct run *run, uint64_t at, uint64_t max)
{
	uint64_t len = (run->n << q->cluster_bits) - offset_in(q, at);

	return len < max ? len : max;
}

static int find(struct qcow2 *q, uint64_t at, uint64_t len, bool own, struct run *run)
{
	scoped_lock(&q->lock);
	return map_find(q, at >> q->cluster_bits, clusters_to(q, at, len), own, run);
}

static void clear(const struct iovec *iov, unsigned n_iov)
{
	for (unsigned i = 0; i < n_iov; i++)
		memset(iov[i].iov_base, 0, iov[i].iov_len);
}

static bool is_zero(const struct qcow2 *q, const struct run *run)
{
	return run->what == ZEROES || (run->what == UNALLOCATED && !q->backing);
}

/* What is behind the image may end before it does. */
static int read_behind(struct qcow2 *q, uint64_t at, uint64_t len, struct iovec *iov, unsigned n_iov)
{
	struct iovec part[DISK_IOV_MAX];
	uint64_t there = !q->backing || at >= q->backing->size ? 0 : q->backing->size - at;
	int rc = 0;

	if (there > len)
		there = len;
	if (there) {
		unsigned n_part = iov_take(&iov, &n_iov, there, part);

		rc = node_read(q->backing, at, part, n_part);
	}
	clear(iov, n_iov);
	return rc;
}

static int read_run(struct qcow2 *q, const struct run *run, uint64_t at, uint64_t len, struct iovec *iov,
		    unsigned n_iov)
{
	switch (run->what) {
	case UNALLOCATED:
		return read_behind(q, at, len, iov, n_iov);
	case ZEROES:
		clear(iov, n_iov);
		return 0;
	case DATA:
		return node_read(q->file, (run->entry & ENTRY_OFFSET) + offset_in(q, at), iov, n_iov);
	case PACKED:
		return packed_read(q, run->entry, offset_in(q, at), iov, n_iov);
	}
	return -EINVAL;
}

/* Of claimed clusters. */
static int read_claimed(struct qcow2 *q, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	struct iovec part[DISK_IOV_MAX];
	uint64_t left = iov_length(iov, n_iov), len;
	struct run run;
	int rc = 0;

	for (; rc == 0 && left; at += len, left -= len) {
		if (node_is_cancelled(&q->node))
			return -ECANCELED;
		rc = find(q, at, left, false, &run);
		if (rc < 0)
			return rc;
		len = run_bytes(q, &run, at, left);
		rc = read_run(q, &run, at, len, part, iov_take(&iov, &n_iov, len, part));
	}
	return rc;
}

static int read_qcow2(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	struct qcow2 *q = qcow2_of(n);
	struct claim c;
	int rc;

	claim_clusters(q, &c, at, iov_length(iov, n_iov), false);
	rc = read_claimed(q, at, iov, n_iov);
	release_clusters(q, &c);
	return rc;
}

/* The lock is the claim here: no cluster is freed and taken again while it is held. */
static bool read_cached(struct node *n, uint64_t at, const struct iovec *iov, unsigned n_iov, uint64_t len)
{
	struct qcow2 *q = qcow2_of(n);
	struct run run;
	bool done;

	if (pthread_mutex_trylock(&q->lock) != 0)
		return false;
	done = map_find_cached(q, at >> q->cluster_bits, clusters_to(q, at, len), &run);
	if (done && is_zero(q, &run))
		clear(iov, n_iov);
	else if (done)
		done = run.what == DATA && q->file->ops->read_cached(q->file, (run.entry & ENTRY_OFFSET) + offset_in(q, at), iov,
								     n_iov, len);
	pthread_mutex_unlock(&q->lock);
	return done;
}

/* -- Writing --------------------------------------------------------------------------- */

int begin_writing(struct qcow2 *q)
{
	int rc;

	if (q->corrupt)
		return -EIO;
	if (q->started)
		return 0;
	if (q->version >= 3 && be64_get(q->header + AT_AUTOCLEAR)) {
		be64_put(q->header + AT_AUTOCLEAR, 0);
		if ((rc = header_write(q)) < 0 || (rc = node_flush(q->file)) < 0)
			return rc;
	}
	q->started = true;
	return 0;
}

static int begin(struct qcow2 *q)
{
	scoped_lock(&q->lock);
	return begin_writing(q);
}

/* The rest of a cluster that is written in part: bytes from `at` on, to be freed; none if len is 0. */
static int bring_rest(struct qcow2 *q, uint64_t at, uint64_t len, uint8_t **bytes)
{
	uint64_t there = at >= q->node.size ? 0 : q->node.size - at;

	*bytes = NULL;
	if (!len)
		return 0;
	*bytes = calloc(1, len);
	if (!*bytes)
		return -ENOMEM;
	if (there > len)
		there = len;
	return there ? read_claimed(q, at, &(struct iovec){*bytes, there}, 1) : 0;
}

/* Data for new clusters, with what is before and behind it in them. `bare`: they read as zeros, and so does what was there. */
static int write_new(struct qcow2 *q, uint64_t at, uint64_t len, uint64_t to, bool bare, const struct iovec *data,
		     unsigned n_data)
{
	uint64_t head_len = offset_in(q, at), tail_len = -(at + len) & (q->cluster - 1);
	scoped_mem uint8_t *head = NULL, *tail = NULL;
	struct iovec iov[DISK_IOV_MAX + 2];
	unsigned n = 0;
	int rc;

	if (bare) {
		to += head_len;
		head_len = tail_len = 0;
	}
	if ((rc = bring_rest(q, at - head_len, head_len, &head)) < 0 ||
	    (rc = bring_rest(q, at + len, tail_len, &tail)) < 0)
		return rc;
	if (head_len)
		iov[n++] = (struct iovec){head, head_len};
	memcpy(iov + n, data, n_data * sizeof(*data));
	n += n_data;
	if (tail_len)
		iov[n++] = (struct iovec){tail, tail_len};
	return node_write(q->file, to, iov, n);
}

static int take(struct qcow2 *q, uint64_t cluster, uint64_t n, struct extent *e, bool *fresh)
{
	uint64_t most = NEW_MAX >> q->cluster_bits ? NEW_MAX >> q->cluster_bits : 1;
	scoped_lock(&q->lock);
	int rc = map_prepare(q, cluster);

	return rc < 0 ? rc : clusters_take(q, n < most ? n : most, e, fresh);
}

/* Lock not held. What is not in the map is given back. */
static int put_in_map(struct qcow2 *q, uint64_t cluster, struct extent e, int rc)
{
	uint64_t done = 0;

	scoped_lock(&q->lock);
	if (rc == 0)
		rc = map_set(q, cluster, e.n, e.first << q->cluster_bits | ENTRY_COPIED, &done);
	clusters_give_back(q, (struct extent){e.first + done, e.n - done});
	return rc;
}

/* Writes as much as one run, or a part of it, in new clusters; *len is how much. */
static int write_moved(struct qcow2 *q, const struct run *run, uint64_t at, uint64_t *len, struct iovec **iov,
		       unsigned *n_iov)
{
	bool was_zero = run->what == ZEROES || (run->what == UNALLOCATED && !q->backing), fresh;
	struct iovec part[DISK_IOV_MAX];
	struct extent e;
	uint64_t cluster = at >> q->cluster_bits;
	int rc = take(q, cluster, clusters_to(q, at, *len), &e, &fresh);

	if (rc < 0)
		return rc;
	*len = run_bytes(q, &(struct run){.n = e.n}, at, *len);
	rc = write_new(q, at, *len, e.first << q->cluster_bits, was_zero && fresh, part,
		       iov_take(iov, n_iov, *len, part));
	return put_in_map(q, cluster, e, rc);
}

static int write_there(struct qcow2 *q, const struct run *run, uint64_t at, uint64_t len, struct iovec **iov,
		       unsigned *n_iov)
{
	struct iovec part[DISK_IOV_MAX];
	unsigned n_part = iov_take(iov, n_iov, len, part);

	return node_write(q->file, (run->entry & ENTRY_OFFSET) + offset_in(q, at), part, n_part);
}

/* Claimed; for a cluster that must move, alone, or it is claimed once more. */
static int write_claimed(struct qcow2 *q, struct claim *c, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	uint64_t left = iov_length(iov, n_iov), len;
	struct run run;
	int rc = 0;

	while (rc == 0 && left) {
		if (node_is_cancelled(&q->node))
			return -ECANCELED;
		rc = find(q, at, left, true, &run);
		if (rc < 0)
			return rc;
		len = run_bytes(q, &run, at, left);
		if (run.what == DATA && run.own) {
			rc = write_there(q, &run, at, len, &iov, &n_iov);
		} else if (c->alone) {
			rc = write_moved(q, &run, at, &len, &iov, &n_iov);
		} else {
			release_clusters(q, c);
			claim_clusters(q, c, at, left, true);
			continue;
		}
		at += len;
		left -= len;
	}
	return rc;
}

static int write_qcow2(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	struct qcow2 *q = qcow2_of(n);
	struct claim c;
	int rc = begin(q);

	if (rc < 0)
		return rc;
	claim_clusters(q, &c, at, iov_length(iov, n_iov), false);
	rc = write_claimed(q, &c, at, iov, n_iov);
	release_clusters(q, &c);
	return rc;
}

/* -- Zeros and discards ---------------------------------------------------------------- */

static int write_zeroes(struct qcow2 *q, struct claim *c, uint64_t at, uint64_t len)
{
	static const uint8_t zeroes[64 * KiB];
	int rc = 0;

	while (rc == 0 && len) {
		size_t part = len < sizeof(zeroes) ? len : sizeof(zeroes);

		rc = write_claimed(q, c, at, &(struct iovec){(void *)zeroes, part}, 1);
		at += part;
		len -= part;
	}
	return rc;
}

/* A run of whole clusters: what it is afterwards is said by a flag, or by its absence where nothing is behind the image. */
static int clear_run(struct qcow2 *q, uint64_t at, const struct run *run)
{
	uint64_t entry = q->version >= 3 ? ENTRY_ZERO : 0, done;

	if (!q->backing)
		entry = 0;
	scoped_lock(&q->lock);
	return map_set(q, at >> q->cluster_bits, run->n, entry, &done);
}

/* Whole clusters; the disk's last one is whole, too. */
static bool is_whole(const struct qcow2 *q, uint64_t at, uint64_t len)
{
	return offset_in(q, at) == 0 && (offset_in(q, len) == 0 || at + len == q->node.size);
}

/* The next part of a range that is a part of a cluster, or whole ones. */
static uint64_t next_part(const struct qcow2 *q, uint64_t at, uint64_t len)
{
	uint64_t whole = len & ~(q->cluster - 1);

	if (offset_in(q, at) || (!whole && !is_whole(q, at, len)))
		return q->cluster - offset_in(q, at) < len ? q->cluster - offset_in(q, at) : len;
	return is_whole(q, at, len) ? len : whole;
}

enum clearing { ZERO, DISCARD };

static int clear_part(struct qcow2 *q, struct claim *c, enum clearing why, uint64_t at, uint64_t *len)
{
	bool can_say = q->version >= 3 || !q->backing, whole = is_whole(q, at, *len);
	struct run run;
	int rc = find(q, at, *len, false, &run);

	if (rc < 0)
		return rc;
	*len = run_bytes(q, &run, at, *len);
	if (is_zero(q, &run) && !(why == DISCARD && (run.entry & ENTRY_OFFSET)))
		return 0;
	if (why == DISCARD && (!whole || !can_say || run.what == UNALLOCATED))
		return 0;
	return whole && can_say ? clear_run(q, at, &run) : write_zeroes(q, c, at, *len);
}

static int clear_range(struct node *n, enum clearing why, uint64_t at, uint64_t len)
{
	struct qcow2 *q = qcow2_of(n);
	struct claim c;
	int rc = begin(q);

	if (rc < 0)
		return rc;
	claim_clusters(q, &c, at, len, true);
	while (rc == 0 && len) {
		uint64_t part = next_part(q, at, len);

		rc = node_is_cancelled(n) ? -ECANCELED : clear_part(q, &c, why, at, &part);
		at += part;
		len -= part;
	}
	release_clusters(q, &c);
	return rc;
}

int zero_qcow2(struct node *n, uint64_t at, uint64_t len)
{
	return clear_range(n, ZERO, at, len);
}

static int discard_qcow2(struct node *n, uint64_t at, uint64_t len)
{
	return clear_range(n, DISCARD, at, len);
}

/* -- The rest -------------------------------------------------------------------------- */

/* Data is flushed without the lock, if that is all there is. */
static int flush_qcow2(struct node *n)
{
	struct qcow2 *q = qcow2_of(n);
	int rc = 0;
	bool committed;

	pthread_mutex_lock(&q->lock);
	committed = is_committed(q);
	if (!committed)
		rc = commit(q);
	pthread_mutex_unlock(&q->lock);
	return committed ? node_flush(q->file) : rc;
}

static void close_qcow2(struct node *n)
{
	struct qcow2 *q = qcow2_of(n);

	node_close(q->file);
	node_close(q->backing);
	cache_fini(&q->cache);
	snapshots_fini(q->snapshots, q->n_snapshots);
	pthread_mutex_destroy(&q->lock);
	pthread_mutex_destroy(&q->unpacked_lock);
	pthread_cond_destroy(&q->released);
	free(q->l1.entry);
	free(q->refs.entry);
	free(q->unpacked);
	free(q->packed);
	free(q->path);
	free(q);
}

const struct node_ops qcow2_ops = {
	.read = read_qcow2, .write = write_qcow2, .zero = zero_qcow2, .discard = discard_qcow2,
	.flush = flush_qcow2, .read_cached = read_cached, .status = status_qcow2, .resize = resize_qcow2,
	.close = close_qcow2,
};
