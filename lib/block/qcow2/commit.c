/* SPDX-License-Identifier: MIT */
/*
 * The order in which metadata gets to the disk: rules 1 and 2 of qcow2.h.
 *
 *	refcount blocks            with all data that was written until now
 *	-- flush --
 *	refcount table, header     only if there are new blocks
 *	-- flush --
 *	L2 tables
 *	-- flush --
 *	L1 table                   only if it has changed
 *	-- flush --
 *	refcount blocks            of what is free now; the next flush makes it lasting, or a crash a leak
 *
 * If a step fails, what it was about is still changed in the cache, and the next commit begins again.
 */
#include "block/qcow2/inside.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

static bool has_changed(const struct table *t)
{
	return t->changed.first < t->changed.end;
}

bool is_committed(const struct qcow2 *q)
{
	return !q->cache.dirty[REFCOUNTS] && !q->cache.dirty[MAPS] && !has_changed(&q->l1) &&
	       !has_changed(&q->refs) && !q->refs_moved && !q->n_frees;
}

static int write_table(struct qcow2 *q, struct table *t)
{
	int rc = table_write(q, t, t->changed);

	if (rc == 0)
		rc = node_flush(q->file);
	if (rc == 0)
		t->changed = (struct span){0, 0};
	return rc;
}

static int move_refs(struct qcow2 *q)
{
	uint64_t clusters = clusters_of(q, q->refs.n * UINT64_C(8));
	int rc = table_write(q, &q->refs, (struct span){0, q->refs.n});

	if (rc < 0 || (rc = node_flush(q->file)) < 0)
		return rc;
	be64_put(q->header + AT_TABLE, q->refs.at);
	be32_put(q->header + AT_TABLE_CLUSTERS, (uint32_t)clusters);
	if ((rc = header_write(q)) < 0 || (rc = node_flush(q->file)) < 0)
		return rc;
	q->refs_moved = false;
	q->refs.changed = (struct span){0, 0};
	clusters_free(q, q->old_refs);
	return 0;
}

/* Nothing on the disk leads to them. What cannot be counted less is a leak, and no error. */
static void free_now(struct qcow2 *q, const struct extent *e)
{
	uint64_t count;

	for (uint64_t c = e->first; c < e->first + e->n; c++) {
		if (refcount_add(q, c, -1) < 0 || refcount_get(q, c, &count) < 0 || count)
			continue;
		q->file->ops->discard(q->file, c << q->cluster_bits, q->cluster);
		if (c < q->hint)
			q->hint = c;
	}
}

/* The list is empty before the first is freed, because that may need a page, and a page a commit. */
static int free_all(struct qcow2 *q)
{
	struct extent frees[FREES_MAX];
	unsigned n = q->n_frees;

	memcpy(frees, q->frees, n * sizeof(*frees));
	q->n_frees = 0;
	for (unsigned i = 0; i < n; i++)
		free_now(q, &frees[i]);
	return cache_write(q, REFCOUNTS);
}

int commit(struct qcow2 *q)
{
	int rc = cache_write(q, REFCOUNTS);

	if (rc < 0 || (rc = node_flush(q->file)) < 0)
		return rc;
	if (q->refs_moved)
		rc = move_refs(q);
	else if (has_changed(&q->refs))
		rc = write_table(q, &q->refs);
	if (rc < 0 || (rc = cache_write(q, MAPS)) < 0)
		return rc;
	rc = node_flush(q->file);
	if (rc == 0 && has_changed(&q->l1))
		rc = write_table(q, &q->l1);
	if (rc < 0)
		return rc;
	return free_all(q);
}
