/* SPDX-License-Identifier: MIT */
/*
 * Where a guest's cluster is: the two levels of L1 and L2 tables.
 *
 *	cluster = (i in L1) * entries of an L2 table + (i in L2)
 *	L1[i]   -> L2 table, or 0
 *	L2[i]   -> cluster; or 0: what is behind the image, or zeros; or a flag that it is zeros; or compressed data
 *
 * An L2 table that a snapshot has, too, is copied before it is changed, as data is.
 */
#include "block/qcow2/inside.h"

#include "base/bytes.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>

/* The byte of an L2 entry in the file; 0: there is no table. */
static int find_entry(struct qcow2 *q, uint64_t cluster, uint64_t *at)
{
	uint64_t table = q->l1.entry[cluster / l2_n(q)] & ENTRY_OFFSET; /* SAFE: L1 covers the disk (header.c) */

	*at = table ? table + cluster % l2_n(q) * 8 : 0;
	if (table && !is_cluster(q, table))
		return corrupt(q, "an L2 table is at byte %llu, where no cluster is", (unsigned long long)table);
	return 0;
}

bool entry_place(const struct qcow2 *q, uint64_t entry, struct extent *e)
{
	uint64_t at = entry & ENTRY_OFFSET, len = q->cluster;

	*e = (struct extent){0, 0};
	if (entry_what(q, entry) == PACKED)
		packed_place(q, entry, &at, &len);
	else if (!at)
		return true;
	else if (!is_cluster(q, at))
		return false;
	e->first = at >> q->cluster_bits;
	e->n = ((at + len - 1) >> q->cluster_bits) - e->first + 1;
	return e->first && e->first < q->end && e->n <= q->end - e->first;
}

int entry_extent(struct qcow2 *q, uint64_t entry, struct extent *e)
{
	uint64_t at = entry & ENTRY_OFFSET, len;

	if (entry_place(q, entry, e))
		return 0;
	*e = (struct extent){0, 0};
	if (entry_what(q, entry) != PACKED)
		return corrupt(q, "data is at byte %llu, where no cluster is", (unsigned long long)at);
	packed_place(q, entry, &at, &len);
	return corrupt(q, "compressed data is at byte %llu, outside of the file", (unsigned long long)at);
}

/* -- Finding --------------------------------------------------------------------------- */

static int is_own(struct qcow2 *q, uint64_t entry, bool *own)
{
	uint64_t count;
	int rc = refcount_get(q, (entry & ENTRY_OFFSET) >> q->cluster_bits, &count);

	*own = count == 1;
	if (rc == 0 && count == 0)
		rc = corrupt(q, "data at byte %llu is not counted", (unsigned long long)(entry & ENTRY_OFFSET));
	return rc;
}

/* Whether an entry goes on where the run ends. */
static bool goes_on(const struct qcow2 *q, const struct run *run, uint64_t entry)
{
	uint64_t at = run->entry & ENTRY_OFFSET;

	if (entry_what(q, entry) != run->what || run->what == PACKED)
		return false;
	return run->what != DATA || (entry & ENTRY_OFFSET) == at + (run->n << q->cluster_bits);
}

static uint64_t left_in_table(const struct qcow2 *q, uint64_t cluster, uint64_t max)
{
	uint64_t left = l2_n(q) - cluster % l2_n(q);

	return left < max ? left : max;
}

int map_find(struct qcow2 *q, uint64_t cluster, uint64_t max, bool own, struct run *run)
{
	uint64_t at, entry;
	struct extent e;
	bool is = false;
	int rc = find_entry(q, cluster, &at);

	max = left_in_table(q, cluster, max);
	*run = (struct run){.what = UNALLOCATED, .n = max};
	if (rc < 0 || !at)
		return rc;
	for (run->n = 0; run->n < max; run->n++) {
		uint8_t *bytes;

		rc = cache_get(q, MAPS, at + run->n * 8, false, &bytes);
		if (rc < 0)
			return rc;
		entry = be64_get(bytes);
		if (run->n && !goes_on(q, run, entry))
			return 0;
		if ((rc = entry_extent(q, entry, &e)) == 0 && own && entry_what(q, entry) == DATA)
			rc = is_own(q, entry, &is);
		if (rc < 0)
			return run->n ? 0 : rc; /* whoever wants that one gets the error */
		if (run->n && is != run->own)
			return 0;
		if (!run->n)
			*run = (struct run){.what = entry_what(q, entry), .own = is, .entry = entry};
	}
	return 0;
}

bool map_find_cached(struct qcow2 *q, uint64_t cluster, uint64_t max, struct run *run)
{
	uint64_t table = q->l1.entry[cluster / l2_n(q)] & ENTRY_OFFSET, at = table + cluster % l2_n(q) * 8;

	if (cluster % l2_n(q) + max > l2_n(q) || (table && !is_cluster(q, table)))
		return false;
	*run = (struct run){.what = UNALLOCATED, .n = table ? 0 : max};
	if (!table)
		return true;
	for (uint64_t i = 0; i < max; i++) {
		const uint8_t *bytes = cache_peek(q, at + i * 8);

		if (!bytes)
			return false;
		if (!i)
			*run = (struct run){.what = entry_what(q, be64_get(bytes)), .entry = be64_get(bytes)};
		if (!goes_on(q, run, be64_get(bytes)) ||
		    (run->what == DATA && !is_cluster(q, be64_get(bytes) & ENTRY_OFFSET)))
			return false;
		run->n++;
	}
	return true;
}

/* -- Changing -------------------------------------------------------------------------- */

/* A new table, like the one at `from` or of zeros. Nothing leads to it yet. */
static int write_table(struct qcow2 *q, uint64_t from, uint64_t to)
{
	scoped_mem uint8_t *bytes = NULL;

	cache_forget_cluster(q, to);
	if (!from)
		return q->file->ops->zero(q->file, to, q->cluster);
	bytes = malloc(q->cluster);
	return bytes ? cache_copy(q, MAPS, from, to, bytes) : -ENOMEM;
}

static int new_table(struct qcow2 *q, uint32_t i, uint64_t from)
{
	struct extent e;
	bool fresh;
	int rc = clusters_take(q, 1, &e, &fresh);

	if (rc < 0)
		return rc;
	rc = write_table(q, from, e.first << q->cluster_bits);
	if (rc < 0) {
		clusters_give_back(q, e);
		return rc;
	}
	table_set(&q->l1, i, e.first << q->cluster_bits | ENTRY_COPIED);
	if (from)
		clusters_free(q, (struct extent){from >> q->cluster_bits, 1});
	return 0;
}

int map_prepare(struct qcow2 *q, uint64_t cluster)
{
	uint64_t at, table, count;
	int rc = find_entry(q, cluster, &at);

	if (rc < 0)
		return rc;
	table = q->l1.entry[cluster / l2_n(q)] & ENTRY_OFFSET;
	if (table && (rc = refcount_get(q, table >> q->cluster_bits, &count)) < 0)
		return rc;
	if (table && count == 0)
		return corrupt(q, "the L2 table at byte %llu is not counted", (unsigned long long)table);
	return table && count == 1 ? 0 : new_table(q, (uint32_t)(cluster / l2_n(q)), table);
}

static int set_one(struct qcow2 *q, uint64_t at, uint64_t entry)
{
	struct extent before;
	uint8_t *bytes;
	int rc = cache_get(q, MAPS, at, true, &bytes);

	if (rc < 0 || (rc = entry_extent(q, be64_get(bytes), &before)) < 0)
		return rc;
	be64_put(bytes, entry);
	clusters_free(q, before);
	return 0;
}

int map_set(struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t entry, uint64_t *done)
{
	uint64_t at, step = entry & ENTRY_OFFSET ? q->cluster : 0;
	int rc = map_prepare(q, cluster);

	*done = 0;
	if (rc == 0)
		rc = find_entry(q, cluster, &at);
	for (uint64_t i = 0; rc == 0 && i < n; i++) {
		rc = set_one(q, at + i * 8, entry + i * step);
		*done += rc == 0;
	}
	return rc;
}
