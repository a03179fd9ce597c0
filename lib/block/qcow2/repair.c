/* SPDX-License-Identifier: MIT */
/*
 * Mends what a look has found (check.h), so that a crash at any moment leaves the image no worse than it was:
 *
 *	leaks     counts become less, to what is used: in place, in any order, for each alone is right
 *	counts    all of them anew in clusters behind the file's end; flush; one sector of the header leads there; flush
 *	COPIED    in place, after the counts (check.c), which nobody of us believes meanwhile
 *	marks     "dirty" and "corrupt", when another look has found nothing
 *
 * What leads nowhere is left as it is: it could only be replaced by zeros, and then nobody would know that there was something. But where
 * new counts are put behind the end of a file that was cut off, what led there is counted, and a hole (check.c, reach_beyond()).
 */
#include "block/qcow2/check.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -- Leaks ----------------------------------------------------------------------------- */

static int lower(struct look *l, uint64_t cluster)
{
	uint64_t stored = count_in(l->q, l->table, cluster);
	int rc;

	if (stored <= l->used[cluster])
		return 0;
	rc = refcount_set(l->q, cluster, l->used[cluster]);
	if (rc == 0 && !l->used[cluster] && !l->found.corruptions) /* else it may be what something that leads nowhere led to */
		l->q->file->ops->discard(l->q->file, cluster << l->q->cluster_bits, l->q->cluster);
	return rc;
}

int mend_leaks(struct look *l)
{
	unsigned bits = block_bits(l->q);
	int rc = 0;

	for (uint64_t c = 0; rc == 0 && c < l->n; c++) {
		if ((c & ((UINT64_C(1) << bits) - 1)) == 0)
			rc = look_block(l, c >> bits);
		if (rc == 0)
			rc = lower(l, c);
	}
	return rc;
}

/* -- Counts ---------------------------------------------------------------------------- */

/* New ones, behind all that is: the table first, then its blocks. */
struct rebuilt {
	uint64_t first, table_n, blocks_n; /* clusters */
	struct table refs;
};

static bool is_counted(const struct look *l, const struct rebuilt *r, uint64_t i)
{
	uint64_t from = i << block_bits(l->q), to = (i + 1) << block_bits(l->q);

	if (to > r->first && from < r->first + r->table_n + r->blocks_n)
		return true;
	for (uint64_t c = from; c < to && c < l->n; c++)
		if (l->used[c])
			return true;
	return false;
}

/* More clusters may need more blocks, and these a longer table. */
static int plan(const struct look *l, struct rebuilt *r)
{
	uint64_t table_n, blocks_n, all;

	r->first = l->q->end > l->n ? l->q->end : l->n;
	do {
		table_n = r->table_n;
		blocks_n = r->blocks_n;
		all = ((r->first + table_n + blocks_n) >> block_bits(l->q)) + 1;
		r->table_n = clusters_of(l->q, all * 8);
		r->blocks_n = 0;
		for (uint64_t i = 0; i < all; i++)
			r->blocks_n += is_counted(l, r, i);
		if (r->blocks_n < blocks_n)
			r->blocks_n = blocks_n; /* it only grows, so it ends */
	} while (table_n != r->table_n || blocks_n != r->blocks_n);
	if (r->table_n << l->q->cluster_bits > TABLE_MAX)
		return -EFBIG;
	r->refs = (struct table){.n = (uint32_t)(r->table_n << l->q->cluster_bits) / 8,
				 .at = r->first << l->q->cluster_bits};
	r->refs.entry = calloc(r->refs.n, 8);
	return r->refs.entry ? 0 : -ENOMEM;
}

static int fill_block(struct look *l, const struct rebuilt *r, uint64_t i)
{
	uint64_t end = r->first + r->table_n + r->blocks_n;

	memset(l->table, 0, l->q->cluster);
	for (uint64_t c = i << block_bits(l->q); c < (i + 1) << block_bits(l->q) && c < end; c++) {
		uint64_t count = c >= r->first ? 1 : c < l->n ? l->used[c] : 0;

		if (count > count_max(l->q))
			return -ERANGE;
		if (count)
			count_into(l->q, l->table, c, count);
	}
	return 0;
}

/* Blocks that turn out not to be needed are counted, and in the table by nobody: leaks, of which the next look knows. */
static int write_blocks(struct look *l, struct rebuilt *r)
{
	uint64_t at = r->first + r->table_n, last = (r->first + r->table_n + r->blocks_n - 1) >> block_bits(l->q);
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i <= last; i++) {
		if (!is_counted(l, r, i))
			continue;
		rc = fill_block(l, r, i);
		r->refs.entry[i] = at << l->q->cluster_bits;
		if (rc == 0)
			rc = node_put(l->q->file, at++ << l->q->cluster_bits, l->table, l->q->cluster);
	}
	return rc;
}

static int lead_there(struct qcow2 *q, const struct rebuilt *r)
{
	int rc = table_write(q, &r->refs, (struct span){0, r->refs.n});

	if (rc < 0 || (rc = node_flush(q->file)) < 0)
		return rc;
	be64_put(q->header + AT_TABLE, r->refs.at);
	be32_put(q->header + AT_TABLE_CLUSTERS, (uint32_t)r->table_n);
	if ((rc = header_write(q)) < 0 || (rc = node_flush(q->file)) < 0)
		q->corrupt = true;
	return rc;
}

static void use_rebuilt(struct qcow2 *q, struct rebuilt *r)
{
	cache_forget(q, REFCOUNTS);
	free(q->refs.entry);
	q->refs = r->refs;
	r->refs.entry = NULL;
	q->refs_moved = false;
	q->n_frees = 0;
	q->end = r->first + r->table_n + r->blocks_n;
	q->virgin = q->end;
	q->hint = 1;
}

int mend_counts(struct look *l, struct err *err)
{
	struct rebuilt r = {.table_n = 1, .blocks_n = 1};
	int rc;

	look_at_refs(l, -1);
	rc = plan(l, &r);
	if (rc == 0)
		rc = write_blocks(l, &r);
	if (rc == 0)
		rc = lead_there(l->q, &r);
	if (rc == 0)
		use_rebuilt(l->q, &r);
	free(r.refs.entry);
	if (rc == -ERANGE)
		return err_set(err, ERANGE, "a cluster is used more often than refcounts of %u bits can say", 1u << l->q->order);
	return rc;
}

/* -- Marks ----------------------------------------------------------------------------- */

int mend_marks(struct qcow2 *q)
{
	uint64_t marks = q->version >= 3 ? be64_get(q->header + AT_INCOMPATIBLE) : 0;
	int rc;

	if (!(marks & (INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT)))
		return 0;
	be64_put(q->header + AT_INCOMPATIBLE, marks & ~(INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT));
	rc = header_write(q);
	return rc < 0 ? rc : node_flush(q->file);
}
