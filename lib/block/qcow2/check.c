/* SPDX-License-Identifier: MIT */
/*
 * What an image says of itself, held against itself:
 *
 *	used                      stored
 *	header, tables, lists     0 times ... in its refcount block
 *	data, by each tree
 *
 * A count that is less than the use is a corruption, for the cluster would be given away while it is used; one that is more is a leak. An
 * entry that leads to no cluster is a corruption, as is a COPIED bit that says something else than the stored count.
 *
 * The image is hostile. Memory: 4 bytes and a bit for each cluster of the file, of which there are CLUSTERS_MAX at most. Time: each tree is
 * walked once, and in it no table twice, so it is bounded by the file's size times the number of snapshots.
 * Nothing here believes the cache: what had changed is committed first, tables are read past it.
 */
#include "block/qcow2/check.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLUSTERS_MAX (UINT64_C(1) << 28)
#define LINES_MAX    20u

__attribute__((format(printf, 2, 3)))
static void say(struct look *l, const char *fmt, ...)
{
	char line[160];
	va_list ap;

	if (!l->say || l->said == LINES_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	l->say(line);
	if (++l->said == LINES_MAX)
		l->say("... and others, which are counted and not told");
}

#define CORRUPT(l, ...) ((l)->found.corruptions++, say(l, __VA_ARGS__))

void look_corrupt(struct look *l, const char *what, uint64_t at)
{
	CORRUPT(l, "%s leads to byte %llu, where no cluster is", what, (unsigned long long)at);
}

/* -- What is used ---------------------------------------------------------------------- */

/* Clusters that are in the file. */
void look_use(struct look *l, uint64_t first, uint64_t n, int by)
{
	for (uint64_t c = first; c < first + n && c < l->n; c++)
		if (by > 0 && l->used[c] < UINT32_MAX)
			l->used[c]++;
		else if (by < 0 && l->used[c])
			l->used[c]--;
}

static void use_bytes(struct look *l, uint64_t at, uint64_t len, int by)
{
	look_use(l, at >> l->q->cluster_bits, clusters_of(l->q, len), by);
}

/* What leads nowhere may do so because the file was cut off. Between clusters nothing can ever be. */
static void note_beyond(struct look *l, uint64_t at, uint64_t len)
{
	uint64_t end = at > INT64_MAX ? UINT64_MAX : clusters_of(l->q, at + len);

	if (at % l->q->cluster == 0 && end > l->beyond)
		l->beyond = end;
}

static void note_entry_beyond(struct look *l, uint64_t entry)
{
	uint64_t at = entry & ENTRY_OFFSET, len = l->q->cluster;

	if (entry_what(l->q, entry) == PACKED) {
		packed_place(l->q, entry, &at, &len);
		len += at & (l->q->cluster - 1);
		at &= ~(l->q->cluster - 1);
	}
	note_beyond(l, at, len);
}

/* What is at a cluster of the active disk, for the statistics; *next is where the next one would not be a fragment. */
static void note_entry(struct look *l, uint64_t entry, uint64_t *next)
{
	uint64_t at = entry & ENTRY_OFFSET;

	if (entry_what(l->q, entry) == PACKED) {
		l->found.allocated++;
		l->found.packed++;
		l->found.fragmented++;
	} else if (at) {
		l->found.allocated++;
		l->found.fragmented += *next && at != *next;
		*next = at + l->q->cluster;
	}
}

static void use_table(struct look *l, uint64_t at, bool active, uint64_t *next)
{
	for (uint64_t i = 0; i < l2_n(l->q); i++) {
		uint64_t entry = be64_get(l->table + i * 8);
		struct extent e;

		if (!entry)
			continue;
		if (!entry_place(l->q, entry, &e)) {
			CORRUPT(l, "entry %llu of the L2 table at byte %llu leads to byte %llu, where no cluster is",
				(unsigned long long)i, (unsigned long long)at,
				(unsigned long long)(entry & ENTRY_OFFSET));
			note_entry_beyond(l, entry);
			continue;
		}
		look_use(l, e.first, e.n, 1);
		if (active)
			note_entry(l, entry, next);
	}
}

/* SAFE: the cluster is one of the l->n for which begin() made room. */
static bool is_seen(struct look *l, uint64_t cluster)
{
	uint8_t bit = (uint8_t)(1u << cluster % 8), *byte = &l->seen[cluster / 8];
	bool was = *byte & bit;

	*byte |= bit;
	return was;
}

static void forget_seen(struct look *l, const struct table *l1)
{
	for (uint32_t i = 0; i < l1->n; i++) {
		uint64_t at = l1->entry[i] & ENTRY_OFFSET;

		if (at >> l->q->cluster_bits < l->n)
			l->seen[(at >> l->q->cluster_bits) / 8] = 0;
	}
}

static int use_tree(struct look *l, const struct table *l1, bool active)
{
	uint64_t next = 0;
	int rc = 0;

	use_bytes(l, l1->at, l1->n * UINT64_C(8), 1);
	for (uint32_t i = 0; rc == 0 && i < l1->n; i++) {
		uint64_t at = l1->entry[i] & ENTRY_OFFSET;

		if (!l1->entry[i])
			continue;
		if (!is_cluster(l->q, at)) {
			CORRUPT(l, "entry %u of the L1 table at byte %llu leads to byte %llu, where no cluster is", i,
				(unsigned long long)l1->at, (unsigned long long)at);
			note_beyond(l, at, l->q->cluster);
			continue;
		}
		if (is_seen(l, at >> l->q->cluster_bits)) {
			CORRUPT(l, "the L1 table at byte %llu leads to the L2 table at byte %llu twice",
				(unsigned long long)l1->at, (unsigned long long)at);
			continue;
		}
		look_use(l, at >> l->q->cluster_bits, 1, 1);
		rc = node_get(l->q->file, at, l->table, l->q->cluster);
		if (rc == 0)
			use_table(l, at, active, &next);
	}
	forget_seen(l, l1);
	return rc;
}

static int use_snapshot(struct look *l, unsigned i)
{
	const struct snapshot *s = &l->q->snapshots[i];
	struct table l1 = {.n = 0};
	int rc;

	if (s->l1_at % l->q->cluster || s->l1_at < l->q->cluster || s->l1_at >> l->q->cluster_bits >= l->n ||
	    s->l1_n * UINT64_C(8) > (l->n << l->q->cluster_bits) - s->l1_at) {
		CORRUPT(l, "snapshot %u has its L1 table at byte %llu, which is not in the file", i + 1,
			(unsigned long long)s->l1_at);
		note_beyond(l, s->l1_at, s->l1_n * UINT64_C(8));
		return 0;
	}
	rc = table_read(l->q, &l1, s->l1_at, s->l1_n);
	if (rc == 0)
		rc = use_tree(l, &l1, false);
	free(l1.entry);
	return rc;
}

void look_at_refs(struct look *l, int by)
{
	const struct table *refs = &l->q->refs;

	use_bytes(l, refs->at, refs->n * UINT64_C(8), by);
	for (uint32_t i = 0; i < refs->n; i++) {
		if (!refs->entry[i])
			continue;
		if (is_cluster(l->q, refs->entry[i])) {
			look_use(l, refs->entry[i] >> l->q->cluster_bits, 1, by);
		} else if (by > 0) {
			l->bad_blocks = true;
			CORRUPT(l, "refcount block %u is at byte %llu, where no cluster is", i,
				(unsigned long long)refs->entry[i]);
		}
	}
}

/* When all is counted: a block that is something else, too, or that of other counts, cannot be written in place. */
static void look_at_shared_blocks(struct look *l)
{
	const struct table *refs = &l->q->refs;

	for (uint32_t i = 0; i < refs->n; i++) {
		if (!refs->entry[i] || !is_cluster(l->q, refs->entry[i]) || l->used[refs->entry[i] >> l->q->cluster_bits] == 1)
			continue;
		l->bad_blocks = true;
		CORRUPT(l, "refcount block %u at byte %llu is something else, too", i, (unsigned long long)refs->entry[i]);
	}
}

static int use_all(struct look *l)
{
	struct qcow2 *q = l->q;
	int rc;

	look_use(l, 0, 1, 1);
	rc = use_tree(l, &q->l1, true);
	if (q->n_snapshots)
		use_bytes(l, be64_get(q->header + AT_SNAPSHOTS), q->snapshots_len, 1);
	for (unsigned i = 0; rc == 0 && i < q->n_snapshots; i++)
		rc = use_snapshot(l, i);
	if (rc == 0 && has_bitmaps(q))
		rc = use_bitmaps(l);
	look_at_refs(l, 1);
	look_at_shared_blocks(l);
	return rc;
}

/* -- Beside what is stored ------------------------------------------------------------- */

int look_block(struct look *l, uint64_t i)
{
	uint64_t at = i < l->q->refs.n ? l->q->refs.entry[i] : 0;

	if (at && is_cluster(l->q, at))
		return node_get(l->q->file, at, l->table, l->q->cluster);
	memset(l->table, 0, l->q->cluster);
	return 0;
}

static void compare(struct look *l, uint64_t cluster)
{
	uint64_t stored = count_in(l->q, l->table, cluster);

	if (stored || l->used[cluster])
		l->found.end = (cluster + 1) << l->q->cluster_bits;
	if (stored > l->used[cluster]) {
		l->found.leaks++;
		say(l, "Leaked cluster %llu refcount=%llu reference=%u", (unsigned long long)cluster,
		    (unsigned long long)stored, l->used[cluster]);
	} else if (stored < l->used[cluster]) {
		l->low++;
		CORRUPT(l, "ERROR cluster %llu refcount=%llu reference=%u", (unsigned long long)cluster,
			(unsigned long long)stored, l->used[cluster]);
	}
}

static int compare_all(struct look *l)
{
	unsigned bits = block_bits(l->q);
	int rc = 0;

	for (uint64_t c = 0; rc == 0 && c < l->n; c++) {
		if ((c & ((UINT64_C(1) << bits) - 1)) == 0)
			rc = look_block(l, c >> bits);
		if (rc == 0)
			compare(l, c);
	}
	return rc;
}

/* -- COPIED ---------------------------------------------------------------------------- */

int look_count(struct look *l, uint64_t cluster, uint64_t *count)
{
	uint64_t i = cluster >> block_bits(l->q);

	*count = 0;
	if (i >= l->q->refs.n || !is_cluster(l->q, l->q->refs.entry[i]))
		return 0;
	return refcount_get(l->q, cluster, count);
}

/* Returns what the entry is to be. Compressed clusters never have the bit. */
static int right_entry(struct look *l, uint64_t entry, uint64_t *right)
{
	uint64_t at = entry & ENTRY_OFFSET, count = 0;
	bool packed = entry & ENTRY_COMPRESSED;
	int rc = 0;

	*right = entry;
	if (!packed && (!at || !is_cluster(l->q, at)))
		return 0;
	if (!packed)
		rc = look_count(l, at >> l->q->cluster_bits, &count);
	*right = count == 1 ? entry | ENTRY_COPIED : entry & ~ENTRY_COPIED;
	return rc;
}

static int check_table(struct look *l, uint64_t at, bool mend)
{
	bool changed = false;
	int rc = node_get(l->q->file, at, l->table, l->q->cluster);

	for (uint64_t i = 0; rc == 0 && i < l2_n(l->q); i++) {
		uint64_t entry = be64_get(l->table + i * 8), right;

		rc = right_entry(l, entry, &right);
		if (rc < 0 || entry == right)
			continue;
		CORRUPT(l, "entry %llu of the L2 table at byte %llu says by COPIED that its cluster is %sshared",
			(unsigned long long)i, (unsigned long long)at, entry & ENTRY_COPIED ? "not " : "");
		be64_put(l->table + i * 8, right);
		changed = true;
	}
	return rc == 0 && changed && mend ? node_put(l->q->file, at, l->table, l->q->cluster) : rc;
}

int look_at_copied(struct look *l, bool mend)
{
	struct table *l1 = &l->q->l1;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < l1->n; i++) {
		uint64_t at = l1->entry[i] & ENTRY_OFFSET, right;

		if (at >> l->q->cluster_bits >= l->n) /* the file is longer than when we looked: by new counts */
			continue;
		if (!is_cluster(l->q, at) || is_seen(l, at >> l->q->cluster_bits))
			continue;
		rc = right_entry(l, l1->entry[i], &right);
		if (rc == 0 && right != l1->entry[i]) {
			CORRUPT(l, "entry %u of the L1 table says by COPIED that its table is %sshared", i,
				l1->entry[i] & ENTRY_COPIED ? "not " : "");
			if (mend)
				table_set(l1, i, right);
		}
		if (rc == 0)
			rc = check_table(l, at, mend);
	}
	forget_seen(l, l1);
	if (rc == 0 && l1->changed.first < l1->changed.end)
		rc = table_write(l->q, l1, l1->changed);
	l1->changed = (struct span){0, 0};
	return rc;
}

/* -- All of it ------------------------------------------------------------------------- */

int look_at_image(struct look *l)
{
	int rc;

	l->found = (struct qcow2_check){.total = clusters_of(l->q, l->q->node.size)};
	l->low = 0;
	l->bad_blocks = false;
	l->beyond = 0;
	rc = use_all(l);
	return rc < 0 ? rc : compare_all(l);
}

/* What a look needs, for the file as long as it is now. Each begins with this, for it counts from zero. */
static int begin(struct look *l)
{
	free(l->used);
	free(l->seen);
	l->n = l->q->end;
	l->used = calloc(l->n, sizeof(*l->used));
	l->seen = calloc(l->n / 8 + 1, 1);
	return l->used && l->seen && l->table ? 0 : -ENOMEM;
}

/* What was changed is on the disk, and nothing in the cache is older. */
static int settle(struct qcow2 *q)
{
	int rc = cache_write(q, REFCOUNTS);

	if (rc == 0)
		rc = node_flush(q->file);
	cache_forget(q, REFCOUNTS);
	cache_forget(q, MAPS);
	return rc;
}

/*
 * New counts go behind the file's end, and what leads there because the file was cut off would lead to them. So what is missing is
 * counted as what it is to be from here on, a hole that reads as zeros. Snapshots' tables that are there then may lead further.
 */
static int reach_beyond(struct look *l, struct err *err)
{
	struct look all = *l;
	int rc = 0;

	l->say = NULL; /* it has said all */
	for (unsigned i = 0; rc == 0 && i < 2 && l->beyond > l->q->end && l->beyond <= CLUSTERS_MAX; i++) {
		l->q->end = l->beyond;
		rc = begin(l);
		if (rc == 0)
			rc = look_at_image(l);
	}
	l->say = all.say;
	l->found = all.found;
	if (rc == 0 && l->beyond > l->q->end)
		return err_set(err, EFBIG, "something leads to cluster %llu, far behind the file's end at %llu, and is in the way of new "
			       "counts", (unsigned long long)l->beyond - 1, (unsigned long long)l->q->end);
	return rc;
}

static int mend_it(struct look *l, enum qcow2_mend mend, struct err *err)
{
	int rc = begin_writing(l->q);

	if (rc == 0 && mend == QCOW2_MEND_ALL && (l->low || l->bad_blocks)) {
		rc = reach_beyond(l, err);
		if (rc == 0)
			rc = mend_counts(l, err);
	} else if (rc == 0 && l->found.leaks && !l->bad_blocks) {
		rc = mend_leaks(l);
	}
	if (rc == 0)
		rc = settle(l->q);
	if (rc == 0)
		rc = look_at_copied(l, mend == QCOW2_MEND_ALL);
	return rc == 0 ? settle(l->q) : rc;
}

static uint64_t less(uint64_t before, uint64_t after)
{
	return before > after ? before - after : 0;
}

/* What is left afterwards is found by another look. */
static int mend_and_look(struct look *l, enum qcow2_mend mend, struct err *err)
{
	struct qcow2_check before;
	int rc = mend_it(l, mend, err);

	before = l->found;
	l->say = NULL;
	if (rc < 0 || (rc = begin(l)) < 0 || (rc = look_at_image(l)) < 0 || (rc = look_at_copied(l, false)) < 0)
		return rc;
	l->found.corruptions_fixed = less(before.corruptions, l->found.corruptions);
	l->found.leaks_fixed = less(before.leaks, l->found.leaks);
	return l->found.corruptions ? 0 : mend_marks(l->q);
}

static int check(struct look *l, enum qcow2_mend mend, struct err *err)
{
	int rc = l->q->node.readonly ? 0 : commit(l->q);

	if (rc < 0)
		return rc; /* what has changed is still in the cache */
	cache_forget(l->q, REFCOUNTS);
	cache_forget(l->q, MAPS);
	if ((rc = begin(l)) < 0 || (rc = look_at_image(l)) < 0)
		return rc;
	return mend == QCOW2_MEND_NOTHING ? look_at_copied(l, false) : mend_and_look(l, mend, err);
}

int qcow2_check(struct node *node, enum qcow2_mend mend, struct qcow2_check *found, void (*tell)(const char *line),
		struct err *err)
{
	struct qcow2 *q = qcow2_of(node);
	struct look l = {.q = q, .say = tell};
	struct err why = {.code = 0};
	int rc;

	scoped_lock(&q->lock);
	if (q->end > CLUSTERS_MAX)
		return err_set(err, EFBIG, "has %llu clusters, and a check counts up to %llu",
			       (unsigned long long)q->end, (unsigned long long)CLUSTERS_MAX);
	if (mend != QCOW2_MEND_NOTHING && has_bitmaps(q))
		return err_set(err, ENOTSUP, "has bitmaps, which it would lose: `qemu-img check -r` keeps them, and `qemu-img bitmap "
			       "--remove` removes them");
	l.table = malloc(q->cluster);
	rc = check(&l, mend, &why);
	*found = l.found;
	free(l.used);
	free(l.seen);
	free(l.table);
	if (rc < 0 && why.code)
		return err_set(err, why.code, "%s", why.text);
	return rc < 0 ? err_sys(err, -rc, "checking it") : 0;
}
