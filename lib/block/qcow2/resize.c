/* SPDX-License-Identifier: MIT */
/*
 * An image as a whole: another size, nothing of its own any more, all of it allocated.
 *
 * It grows in this order, and what a crash leaves at any step is the disk as it was:
 *
 *	1. entries behind its end go, which shrinking may have left, or a machine's state; commit
 *	2. an L1 table that is long enough, beside the old one; flush; the header's sector leads to it; flush
 *	3. what would come to light is zeroed: the rest of the last cluster, and as much as there is behind the image; commit
 *	4. the size, in the header's sector; flush
 *
 * It shrinks the other way: the size first, so that nobody can read what goes, then entries and tables (rule 2 of qcow2.h).
 */
#include "block/qcow2.h"
#include "block/qcow2/inside.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -- Entries that go ---------------------------------------------------------------------- */

/* Entries of a table from its `from`th on, and the table, if that is all of it. Lock held. */
static int drop_in_table(struct qcow2 *q, uint32_t i, uint64_t from)
{
	uint64_t table = q->l1.entry[i] & ENTRY_OFFSET, done;
	int rc;

	if (!table)
		return 0;
	rc = map_set(q, i * l2_n(q) + from, l2_n(q) - from, 0, &done);
	if (rc < 0 || from)
		return rc;
	table = q->l1.entry[i] & ENTRY_OFFSET; /* it may have been a snapshot's, too, and was copied */
	table_set(&q->l1, i, 0);
	clusters_free(q, (struct extent){table >> q->cluster_bits, 1});
	return 0;
}

/* The guest's clusters from there on. */
static int drop_from(struct qcow2 *q, uint64_t cluster)
{
	int rc = 0;

	for (uint64_t i = cluster / l2_n(q); rc == 0 && i < q->l1.n; i++) {
		rc = drop_in_table(q, (uint32_t)i, i == cluster / l2_n(q) ? cluster % l2_n(q) : 0);
		if (rc == 0 && node_is_cancelled(&q->node))
			rc = -ECANCELED;
	}
	return rc < 0 ? rc : commit(q);
}

/* -- Longer ---------------------------------------------------------------------------- */

static int write_longer(struct qcow2 *q, const struct table *longer)
{
	int rc = table_write(q, longer, (struct span){0, longer->n});

	if (rc < 0 || (rc = node_flush(q->file)) < 0)
		return rc;
	be64_put(q->header + AT_L1, longer->at);
	be32_put(q->header + AT_L1_N, longer->n);
	rc = header_write(q);
	return rc < 0 ? rc : node_flush(q->file);
}

static int grow_l1(struct qcow2 *q, uint32_t n)
{
	struct extent before = {q->l1.at >> q->cluster_bits, clusters_of(q, q->l1.n * UINT64_C(8))}, e;
	struct table longer = {.n = n, .entry = calloc(n, 8)};
	int rc = longer.entry ? clusters_take_all(q, clusters_of(q, n * UINT64_C(8)), &e) : -ENOMEM;

	if (rc == 0)
		rc = commit(q);
	if (rc == 0) {
		longer.at = e.first << q->cluster_bits;
		memcpy(longer.entry, q->l1.entry, q->l1.n * UINT64_C(8));
		rc = write_longer(q, &longer);
		q->corrupt = rc < 0; /* nobody knows which one the header leads to */
	}
	if (rc < 0) {
		free(longer.entry);
		return rc;
	}
	free(q->l1.entry);
	q->l1 = longer;
	clusters_free(q, before);
	return 0;
}

static int set_size(struct qcow2 *q, uint64_t size)
{
	int rc;

	be64_put(q->header + AT_SIZE, size);
	if ((rc = header_write(q)) < 0 || (rc = node_flush(q->file)) < 0) {
		q->corrupt = true;
		return rc;
	}
	q->node.size = size;
	return 0;
}

/* Up to where there may be something behind the disk's end. */
static uint64_t stale_end(const struct qcow2 *q, uint64_t size)
{
	uint64_t end = align_up(q->node.size, q->cluster);

	if (q->backing && q->backing->size > end)
		end = align_up(q->backing->size, UINT64_C(512));
	return end < size ? end : size;
}

static int grow(struct qcow2 *q, uint64_t size, struct err *err)
{
	uint64_t need = (size - 1) / (q->cluster * l2_n(q)) + 1, stale = stale_end(q, size), at = q->node.size;
	int rc;

	if (need > L1_MAX / 8)
		return err_set(err, EFBIG, "%llu bytes are too many for clusters of %llu", (unsigned long long)size,
			       (unsigned long long)q->cluster);
	pthread_mutex_lock(&q->lock);
	rc = drop_from(q, clusters_of(q, at));
	if (rc == 0 && need > q->l1.n)
		rc = grow_l1(q, (uint32_t)need);
	pthread_mutex_unlock(&q->lock);
	if (rc == 0 && stale > at)
		rc = zero_qcow2(&q->node, at, stale - at);
	scoped_lock(&q->lock);
	if (rc == 0)
		rc = commit(q);
	if (rc == 0)
		rc = set_size(q, size);
	return rc < 0 ? err_sys(err, -rc, "making the disk longer") : 0;
}

/* -- Shorter --------------------------------------------------------------------------- */

/* The rest of the last cluster, for others who make the disk longer one day. */
static int clear_rest(struct qcow2 *q, uint64_t size)
{
	uint64_t rest = -size & (q->cluster - 1);
	struct run run = {.what = ZEROES};
	int rc = 0;

	pthread_mutex_lock(&q->lock);
	if (rest)
		rc = map_find(q, size >> q->cluster_bits, 1, false, &run);
	pthread_mutex_unlock(&q->lock);
	return rc == 0 && (run.what == DATA || run.what == PACKED) ? zero_qcow2(&q->node, size, rest) : rc;
}

static int shrink(struct qcow2 *q, uint64_t size, struct err *err)
{
	int rc;

	pthread_mutex_lock(&q->lock);
	rc = commit(q);
	if (rc == 0)
		rc = set_size(q, size);
	pthread_mutex_unlock(&q->lock);
	if (rc == 0)
		rc = clear_rest(q, size);
	scoped_lock(&q->lock);
	if (rc == 0)
		rc = drop_from(q, clusters_of(q, size));
	return rc < 0 ? err_sys(err, -rc, "making the disk shorter") : 0;
}

int resize_qcow2(struct node *n, uint64_t size, struct err *err)
{
	struct qcow2 *q = qcow2_of(n);
	int rc;

	if (size == 0 || size % 512 || size > INT64_MAX)
		return err_set(err, EINVAL, "a disk of %llu bytes: not a multiple of 512", (unsigned long long)size);
	pthread_mutex_lock(&q->lock);
	rc = begin_writing(q);
	pthread_mutex_unlock(&q->lock);
	if (rc < 0)
		return err_sys(err, -rc, "changing its size");
	if (size == n->size)
		return 0;
	return size > n->size ? grow(q, size, err) : shrink(q, size, err);
}

int qcow2_empty(struct node *node, struct err *err)
{
	struct qcow2 *q = qcow2_of(node);
	int rc;

	scoped_lock(&q->lock);
	rc = begin_writing(q);
	if (rc == 0)
		rc = drop_from(q, 0);
	return rc < 0 ? err_sys(err, -rc, "emptying it") : 0;
}

/* -- Allocated ------------------------------------------------------------------------- */

/* The file has all clusters that are taken, before anything leads to them: nobody writes to these. */
static int lengthen(struct qcow2 *q, struct err *err)
{
	uint64_t end = q->end << q->cluster_bits;

	return q->file->size < end ? q->file->ops->resize(q->file, end, err) : 0;
}

/* Takes up to n clusters for what is zeros. Lock held. */
static int allocate_some(struct qcow2 *q, uint64_t cluster, uint64_t *n, bool full, struct err *err)
{
	struct extent e;
	uint64_t done = 0;
	bool fresh;
	int rc = map_prepare(q, cluster);

	if (rc == 0)
		rc = clusters_take(q, *n, &e, &fresh);
	if (rc < 0)
		return rc;
	*n = e.n;
	if (full || !fresh)
		rc = q->file->ops->zero(q->file, e.first << q->cluster_bits, e.n << q->cluster_bits);
	if (rc == 0)
		rc = lengthen(q, err);
	if (rc == 0)
		rc = map_set(q, cluster, e.n, e.first << q->cluster_bits | ENTRY_COPIED, &done);
	if (rc < 0)
		clusters_give_back(q, (struct extent){e.first + done, e.n - done});
	return rc;
}

static int allocate(struct qcow2 *q, bool full, struct err *err)
{
	uint64_t end = clusters_of(q, q->node.size);
	struct run run;
	int rc = begin_writing(q);

	for (uint64_t c = 0; rc == 0 && c < end; c += run.n) {
		rc = map_find(q, c, end - c, false, &run);
		if (rc == 0 && run.what == UNALLOCATED)
			rc = allocate_some(q, c, &run.n, full, err);
	}
	return rc < 0 ? rc : commit(q);
}

int qcow2_allocate(struct node *node, bool full, struct err *err)
{
	struct qcow2 *q = qcow2_of(node);
	int rc;

	scoped_lock(&q->lock);
	if (q->backing)
		return err_set(err, EINVAL, "what has an image behind it is not allocated in advance");
	rc = allocate(q, full, err);
	return rc < 0 ? err_sys(err, -rc, "allocating all of it") : 0;
}
