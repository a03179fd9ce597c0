/* SPDX-License-Identifier: MIT */
/*
 * How often each cluster is used. A refcount block is a cluster of counts, of 1 to 64 bits each; those of less than a byte
 * begin at its lowest bit. A block that is not there is a block of zeros.
 *
 * A new block counts itself, or is counted by the block of the clusters at the file's end, where it is put. When
 * the table of blocks is too small, a longer one is put there, too, and the header led to it by the next commit.
 */
#include "block/qcow2/inside.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Bits of a cluster's number that say which count of a block it has. */
unsigned block_bits(const struct qcow2 *q)
{
	return q->cluster_bits + 3 - q->order;
}

uint64_t count_max(const struct qcow2 *q)
{
	return q->order == 6 ? UINT64_MAX : (UINT64_C(1) << (1u << q->order)) - 1;
}

/* -- One count ------------------------------------------------------------------------- */

/* The byte in a block at which the count of a cluster begins, and the bit in that. */
static uint64_t place(const struct qcow2 *q, uint64_t cluster, unsigned *shift)
{
	uint64_t bit = (cluster & ((UINT64_C(1) << block_bits(q)) - 1)) << q->order;

	*shift = bit & 7;
	return bit >> 3;
}

static uint64_t get_count(const struct qcow2 *q, const uint8_t *at, unsigned shift)
{
	switch (q->order) {
	case 6: return be64_get(at);
	case 5: return be32_get(at);
	case 4: return be16_get(at);
	}
	return (uint64_t)(*at >> shift) & count_max(q);
}

static void put_count(const struct qcow2 *q, uint8_t *at, unsigned shift, uint64_t count)
{
	switch (q->order) {
	case 6: be64_put(at, count); return;
	case 5: be32_put(at, (uint32_t)count); return;
	case 4: be16_put(at, (uint16_t)count); return;
	}
	*at = (uint8_t)((*at & ~(count_max(q) << shift)) | count << shift);
}

uint64_t count_in(const struct qcow2 *q, const uint8_t *block, uint64_t cluster)
{
	unsigned shift;
	uint64_t byte = place(q, cluster, &shift);

	return get_count(q, block + byte, shift);
}

void count_into(const struct qcow2 *q, uint8_t *block, uint64_t cluster, uint64_t count)
{
	unsigned shift;
	uint64_t byte = place(q, cluster, &shift);

	put_count(q, block + byte, shift, count);
}

/* Where its block is; 0: there is none. */
static int find_block(struct qcow2 *q, uint64_t cluster, uint64_t *at)
{
	uint64_t i = cluster >> block_bits(q);

	*at = i < q->refs.n ? q->refs.entry[i] : 0;
	if (*at && !is_cluster(q, *at))
		return corrupt(q, "refcount block %llu is at byte %llu, where no cluster is",
			       (unsigned long long)i, (unsigned long long)*at);
	return 0;
}

int refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *count)
{
	uint8_t *bytes;
	uint64_t block;
	unsigned shift = 0;
	int rc = find_block(q, cluster, &block);

	*count = 0;
	if (rc < 0 || !block)
		return rc;
	rc = cache_get(q, REFCOUNTS, block + place(q, cluster, &shift), false, &bytes);
	if (rc == 0)
		*count = get_count(q, bytes, shift);
	return rc;
}

/* -- More blocks ----------------------------------------------------------------------- */

/* The file is that long; and what is in front of its end may be written. */
static void set_end(struct qcow2 *q, uint64_t end)
{
	if (end > q->end)
		q->end = end;
	if (end > q->virgin)
		q->virgin = end;
}

/*
 * A commit can come at any call of cache_get(). So a block is whole, on the file and in the counts, before the table leads to it,
 * and a longer table is, with all that counts it, before it becomes the table.
 */

/* Writes a block that counts each cluster of e once that it has. */
static int write_block(struct qcow2 *q, uint64_t i, uint64_t at, struct extent e)
{
	scoped_mem uint8_t *bytes = calloc(1, q->cluster);

	if (!bytes)
		return -ENOMEM;
	for (uint64_t c = e.first; c < e.first + e.n; c++)
		if (c >> block_bits(q) == i)
			count_into(q, bytes, c, 1);
	cache_forget_cluster(q, at);
	return node_put(q->file, at, bytes, q->cluster);
}

static bool has_block(const struct qcow2 *q, uint64_t i)
{
	return i < q->refs.n && q->refs.entry[i];
}

/* Clusters at the end for a table of so many, and for the blocks that are missing to count all of these: they are
 * the last ones. */
static struct extent plan_table(const struct qcow2 *q, uint64_t clusters, uint64_t *blocks)
{
	struct extent e = {q->end, clusters};

	for (*blocks = 0;; e.n = clusters + *blocks) {
		uint64_t missing = 0, last = (e.first + e.n - 1) >> block_bits(q);

		for (uint64_t i = e.first >> block_bits(q); i <= last; i++)
			missing += !has_block(q, i);
		if (missing == *blocks)
			return e;
		*blocks = missing;
	}
}

static int write_missing(struct qcow2 *q, struct table *longer, struct extent e, uint64_t blocks)
{
	uint64_t last = (e.first + e.n - 1) >> block_bits(q), c = e.first + e.n - blocks;
	int rc = 0;

	for (uint64_t i = e.first >> block_bits(q); rc == 0 && i <= last; i++) {
		if (has_block(q, i))
			continue;
		longer->entry[i] = c << q->cluster_bits;
		rc = write_block(q, i, c++ << q->cluster_bits, e);
	}
	return rc;
}

/* Those that a block counts which is there. */
static int count_there(struct qcow2 *q, struct extent e)
{
	int rc = 0;

	for (uint64_t c = e.first; rc == 0 && c < e.first + e.n; c++)
		if (has_block(q, c >> block_bits(q)))
			rc = refcount_add(q, c, 1); /* a leak, if we fail */
	return rc;
}

static int write_longer(struct qcow2 *q, struct table *longer, struct extent e, uint64_t blocks)
{
	int rc = count_there(q, e);

	memcpy(longer->entry, q->refs.entry, q->refs.n * UINT64_C(8)); /* now: counting may have needed a commit, not a block */
	return rc < 0 ? rc : write_missing(q, longer, e, blocks);
}

/* The table gets room for entry i. Where it is in the file, commit() is to tell the header. */
static int grow_table(struct qcow2 *q, uint64_t i)
{
	uint64_t clusters = clusters_of(q, (i + 1) * 8), had = clusters_of(q, q->refs.n * UINT64_C(8)), blocks;
	struct extent before = {q->refs.at >> q->cluster_bits, had}, e;
	struct table longer;
	int rc;

	if (clusters > TABLE_MAX >> q->cluster_bits)
		return -EFBIG;
	clusters += clusters / 2 + 1;
	if (clusters > TABLE_MAX >> q->cluster_bits)
		clusters = TABLE_MAX >> q->cluster_bits;
	e = plan_table(q, clusters, &blocks);
	longer = (struct table){.n = (uint32_t)(clusters << q->cluster_bits) / 8, .at = e.first << q->cluster_bits};
	if ((e.first + e.n - 1) >> block_bits(q) >= longer.n)
		return -EFBIG;
	longer.entry = calloc(longer.n, 8);
	if (!longer.entry)
		return -ENOMEM;
	set_end(q, e.first + e.n);
	rc = write_longer(q, &longer, e, blocks);
	if (rc < 0) {
		free(longer.entry);
		return rc;
	}
	free(q->refs.entry);
	q->refs = longer;
	if (q->refs_moved) { /* the one before was never the header's */
		clusters_give_back(q, before);
	} else {
		q->old_refs = before;
		q->refs_moved = true;
	}
	return 0;
}

static int need_block(struct qcow2 *q, uint64_t cluster, uint64_t *block);

static int new_block(struct qcow2 *q, uint64_t i, uint64_t *block)
{
	uint64_t c, there;
	int rc;

	/* One of those that count the end is there, or is the new one. */
	for (;;) {
		c = q->end;
		if (c >> block_bits(q) == i || has_block(q, c >> block_bits(q)))
			break;
		rc = need_block(q, c, &there);
		if (rc < 0)
			return rc;
	}
	set_end(q, c + 1);
	if (c >> block_bits(q) != i && (rc = refcount_add(q, c, 1)) < 0)
		return rc;
	rc = write_block(q, i, c << q->cluster_bits, (struct extent){c, 1});
	if (rc < 0)
		return rc;
	*block = c << q->cluster_bits;
	table_set(&q->refs, (uint32_t)i, *block);
	return 0;
}

static int need_block(struct qcow2 *q, uint64_t cluster, uint64_t *block)
{
	uint64_t i = cluster >> block_bits(q);
	int rc = find_block(q, cluster, block);

	if (rc < 0 || *block)
		return rc;
	if (i >= q->refs.n && (rc = grow_table(q, i)) < 0)
		return rc;
	rc = find_block(q, cluster, block); /* the longer table's clusters may have needed the same one */
	return rc < 0 || *block ? rc : new_block(q, i, block);
}

int refcount_add(struct qcow2 *q, uint64_t cluster, int by)
{
	uint64_t block, count;
	uint8_t *bytes;
	unsigned shift = 0;
	int rc = need_block(q, cluster, &block);

	if (rc == 0)
		rc = cache_get(q, REFCOUNTS, block + place(q, cluster, &shift), true, &bytes);
	if (rc < 0)
		return rc;
	count = get_count(q, bytes, shift);
	if (by < 0 && count == 0)
		return corrupt(q, "cluster %llu is freed, and was free", (unsigned long long)cluster);
	if (by > 0 && count == count_max(q))
		return -ERANGE;
	put_count(q, bytes, shift, count + (uint64_t)(int64_t)by);
	return 0;
}

int refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count)
{
	uint64_t block;
	uint8_t *bytes;
	unsigned shift = 0;
	int rc = need_block(q, cluster, &block);

	if (rc == 0)
		rc = cache_get(q, REFCOUNTS, block + place(q, cluster, &shift), true, &bytes);
	if (rc == 0)
		put_count(q, bytes, shift, count);
	return rc;
}

/* -- Taking ---------------------------------------------------------------------------- */

static int count_all(struct qcow2 *q, struct extent e)
{
	for (uint64_t i = 0; i < e.n; i++) {
		int rc = refcount_add(q, e.first + i, 1);

		if (rc < 0) {
			clusters_give_back(q, (struct extent){e.first, i});
			return rc;
		}
	}
	return 0;
}

/* The first that is free from the hint on: the one at the end at the latest. */
static int find_free(struct qcow2 *q, uint64_t *cluster)
{
	uint64_t count = 1;
	int rc = 0;

	if (q->hint == 0)
		q->hint = 1; /* the header's is never free, whatever its count says */
	while (q->hint < q->end) {
		rc = refcount_get(q, q->hint, &count);
		if (rc < 0 || count == 0)
			break;
		q->hint++;
	}
	*cluster = q->hint;
	return rc;
}

int clusters_take(struct qcow2 *q, uint64_t want, struct extent *got, bool *fresh)
{
	uint64_t count;
	int rc = find_free(q, &got->first);

	if (rc < 0)
		return rc;
	for (got->n = 1; got->n < want; got->n++) {
		if (got->first + got->n >= q->end)
			continue;
		rc = refcount_get(q, got->first + got->n, &count);
		if (rc < 0)
			return rc;
		if (count)
			break;
	}
	*fresh = q->virgin_is_zero && got->first >= q->virgin;
	set_end(q, got->first + got->n);
	rc = count_all(q, *got);
	if (rc == 0)
		q->hint = got->first + got->n;
	return rc;
}

int clusters_take_all(struct qcow2 *q, uint64_t n, struct extent *got)
{
	*got = (struct extent){q->end, n};
	set_end(q, q->end + n);
	return count_all(q, *got);
}

/* A cluster that is not used by anything any more takes no compressed data, either. */
static void stop_packing(struct qcow2 *q, struct extent e)
{
	uint64_t c = (q->pack_at - 1) >> q->cluster_bits;

	if (q->pack_at && c >= e.first && c - e.first < e.n)
		q->pack_at = 0;
}

void clusters_give_back(struct qcow2 *q, struct extent e)
{
	stop_packing(q, e);
	for (uint64_t i = 0; i < e.n; i++)
		refcount_add(q, e.first + i, -1); /* at worst it is a leak */
	if (e.n && e.first < q->hint)
		q->hint = e.first;
}

/* Whose list is full, and cannot be emptied, for the host fails: that is a leak. */
void clusters_free(struct qcow2 *q, struct extent e)
{
	struct extent *last = q->n_frees ? &q->frees[q->n_frees - 1] : NULL;

	if (!e.n)
		return;
	stop_packing(q, e);
	if (last && last->first + last->n == e.first)
		last->n += e.n;
	else if (q->n_frees < FREES_MAX || commit(q) == 0)
		q->frees[q->n_frees++] = e;
}

/*
 * Compressed data goes on where the last ended, as long as its cluster can be counted once more; what does not fit ends in the
 * next cluster, if that is free.
 */
int room_take(struct qcow2 *q, uint64_t len, uint64_t *at)
{
	uint64_t left = -q->pack_at & (q->cluster - 1), here = q->pack_at >> q->cluster_bits;
	struct extent e = {.n = 0};
	bool goes_on = left, fresh;
	int rc = 0;

	if (len > left) {
		rc = clusters_take(q, 1, &e, &fresh);
		goes_on = goes_on && e.first == here + 1;
	}
	if (rc == 0 && goes_on) {
		rc = refcount_add(q, here, 1);
		goes_on = rc == 0;
		rc = rc == -ERANGE ? 0 : rc;
	}
	if (rc == 0 && !goes_on && !e.n)
		rc = clusters_take(q, 1, &e, &fresh);
	if (rc < 0)
		return rc; /* what was taken is a leak */
	*at = goes_on ? q->pack_at : e.first << q->cluster_bits;
	q->pack_at = *at + len;
	return 0;
}

/* -- Before the first change ------------------------------------------------------------ */

static int check_counted(struct qcow2 *q, const char *what, uint64_t at, uint64_t len, struct err *err)
{
	uint64_t c = at >> q->cluster_bits, count;

	for (uint64_t end = c + clusters_of(q, len); c < end; c++) {
		int rc = refcount_get(q, c, &count);

		if (rc < 0)
			return err_set(err, -rc, "is damaged: its refcounts cannot be read");
		if (!count)
			return err_set(err, EINVAL, "is damaged: cluster %llu has %s and is not counted; "
				       "`lodge-img check -r all` may repair it, readonly=on reads it",
				       (unsigned long long)c, what);
	}
	return 0;
}

static int check_l1_entry(struct qcow2 *q, uint32_t i, struct err *err)
{
	uint64_t at = q->l1.entry[i] & ENTRY_OFFSET;

	if (!at)
		return 0;
	if (!is_cluster(q, at))
		return err_set(err, EINVAL, "is damaged: entry %u of its L1 table leads to byte %llu, where no cluster is, and what was "
			       "there is lost; readonly=on reads the rest", i, (unsigned long long)at);
	return check_counted(q, "an L2 table", at, 1, err);
}

/* Clusters behind the file's end may be counted, where a tool has kept them for later; but by the block that counts
 * the end. */
static int find_end(struct qcow2 *q, struct err *err)
{
	uint64_t i = q->end >> block_bits(q), count;

	for (uint64_t k = i + 1; k < q->refs.n; k++)
		if (q->refs.entry[k])
			return err_set(err, EINVAL, "is damaged: it counts clusters that are far behind the file's end; "
				       "readonly=on reads it");
	for (uint64_t c = q->end; c >> block_bits(q) == i; c++) {
		if (refcount_get(q, c, &count) < 0)
			return err_set(err, EIO, "is damaged: its refcounts cannot be read");
		if (count)
			set_end(q, c + 1);
	}
	return 0;
}

int refcounts_check(struct qcow2 *q, struct err *err)
{
	int rc = find_end(q, err);

	if (rc < 0)
		return rc;

	if ((rc = check_counted(q, "the header", 0, q->cluster, err)) < 0 ||
	    (rc = check_counted(q, "the L1 table", q->l1.at, q->l1.n * UINT64_C(8), err)) < 0 ||
	    (rc = check_counted(q, "the refcount table", q->refs.at, q->refs.n * UINT64_C(8), err)) < 0 ||
	    (rc = check_counted(q, "the snapshot table", be64_get(q->header + AT_SNAPSHOTS), q->snapshots_len, err)) < 0)
		return rc;
	for (uint32_t i = 0; i < q->refs.n; i++)
		if (q->refs.entry[i] && (rc = check_counted(q, "a refcount block", q->refs.entry[i], 1, err)) < 0)
			return rc;
	for (uint32_t i = 0; rc == 0 && i < q->l1.n; i++)
		rc = check_l1_entry(q, i, err);
	return rc;
}
