/* SPDX-License-Identifier: MIT */
/*
 * Internal snapshots: an L1 table of its own for each, and a table of them, after rule 5 of qcow2.h.
 *
 *	create    the tree (L1 and L2 tables) that was active becomes the snapshot's; the active one is a copy of it
 *	apply     the active tree becomes a copy of the snapshot's
 *	delete    the snapshot's tree goes; the active one is a copy of itself, for its COPIED bits change
 *
 * All three are one function: copy a tree, drop some, and let the header lead to what comes of it. A copy has tables of
 * its own and shares the data, which is counted once more; what is dropped is counted once less.
 *
 *	1. commit: the file has all, and nothing else
 *	2. take clusters for all that is new, in the counts as they are in memory
 *	3. copy the refcount blocks there; from here on counts are theirs, and cannot be seen in the file
 *	4. count the copy, uncount what is dropped, and the refcount blocks and tables that were
 *	5. write the new tables
 *	6. flush; the header's sector; flush
 *
 * Whatever fails before 6, all is read again from the file, in which nothing has changed. If 6 fails nobody knows, and the
 * image is not written any more.
 *
 * A tree is as large as the disk it maps: 128 KiB of tables for each GiB of data in clusters of 64 KiB, and 32 KiB of counts.
 */
#include "block/qcow2.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "block/qcow2/inside.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* An entry of the table. */
enum {
	S_L1 = 0, S_L1_N = 8, S_ID_LEN = 12, S_NAME_LEN = 14, S_SECONDS = 16, S_NS = 20, S_CLOCK = 24,
	S_STATE_LEN = 32, S_EXTRA_LEN = 36, S_FIXED = 40, /* then extra data: */
	X_STATE_LEN = 0, X_DISK = 8, X_ICOUNT = 16, X_LEN = 24,
};

/* -- The table ------------------------------------------------------------------------- */

void snapshots_fini(struct snapshot *snapshots, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		free(snapshots[i].raw);
	free(snapshots);
}

static uint32_t padded(uint32_t len)
{
	return (len + 7) & ~7u;
}

/* One of `left` bytes; its length with the padding, or 0 if it is not all there. */
static uint32_t entry_len(const uint8_t *at, uint32_t left, uint32_t *extra)
{
	uint64_t len;

	if (left < S_FIXED)
		return 0;
	*extra = be32_get(at + S_EXTRA_LEN);
	len = S_FIXED + (uint64_t)*extra + be16_get(at + S_ID_LEN) + be16_get(at + S_NAME_LEN);
	return len > left ? 0 : (uint32_t)len;
}

/* Strings of its own: it may have been made of bytes that go. */
static int parse(struct snapshot *s, const uint8_t *at, uint32_t len, uint32_t extra)
{
	uint32_t id_len = be16_get(at + S_ID_LEN), name_len = be16_get(at + S_NAME_LEN);
	size_t strings = padded(len);

	s->raw = calloc(1, strings + id_len + name_len + 2);
	if (!s->raw)
		return -ENOMEM;
	memcpy(s->raw, at, len);
	s->raw_len = (uint32_t)strings;
	s->id = (char *)s->raw + strings;
	s->name = s->id + id_len + 1;
	memcpy(s->id, at + S_FIXED + extra, id_len);
	memcpy(s->name, at + S_FIXED + extra + id_len, name_len);
	s->l1_at = be64_get(at + S_L1);
	s->l1_n = be32_get(at + S_L1_N);
	s->disk_size = extra >= X_DISK + 8 ? be64_get(at + S_FIXED + X_DISK) : 0;
	return 0;
}

/* What was not there when an image was written is 0; an icount that is none, too. */
void snapshot_look(const struct snapshot *from, struct qcow2_snapshot *s)
{
	const uint8_t *raw = from->raw, *more = raw + S_FIXED;
	uint32_t extra = be32_get(raw + S_EXTRA_LEN);

	*s = (struct qcow2_snapshot){
		.id = from->id, .name = from->name, .disk_size = from->disk_size, .seconds = be32_get(raw + S_SECONDS),
		.ns = be32_get(raw + S_NS), .clock = be64_get(raw + S_CLOCK), .state_len = be32_get(raw + S_STATE_LEN),
	};
	if (extra >= X_STATE_LEN + 8 && be64_get(more + X_STATE_LEN))
		s->state_len = be64_get(more + X_STATE_LEN);
	s->icount = extra >= X_ICOUNT + 8 ? be64_get(more + X_ICOUNT) : UINT64_MAX;
}

/* The table, as long as it can be; to be freed. */
static int read_bytes(struct qcow2 *q, uint64_t at, uint8_t **bytes, uint32_t *len, struct err *err)
{
	uint64_t most = (q->end << q->cluster_bits) - at;
	int rc;

	*len = most < SNAPSHOTS_BYTES ? (uint32_t)most : SNAPSHOTS_BYTES;
	*bytes = malloc(*len);
	if (!*bytes)
		return err_set(err, ENOMEM, "out of memory");
	rc = node_get(q->file, at, *bytes, *len);
	return rc < 0 ? err_sys(err, -rc, "reading its snapshots") : 0;
}

static int parse_all(struct qcow2 *q, const uint8_t *bytes, uint32_t len, unsigned n, struct err *err)
{
	uint32_t at = 0, extra;

	for (unsigned i = 0; i < n; i++) {
		uint32_t one = entry_len(bytes + at, len - at, &extra);
		struct snapshot *s = &q->snapshots[i];

		if (!one)
			return err_set(err, EINVAL, "is damaged: snapshot %u of %u is cut off", i + 1, n);
		if (parse(s, bytes + at, one, extra) < 0)
			return err_set(err, ENOMEM, "out of memory");
		q->n_snapshots++;
		if (s->l1_n > L1_MAX / 8)
			return err_set(err, EINVAL, "is damaged: snapshot %u has an L1 table of %u entries, not up to %u",
				       i + 1, s->l1_n, L1_MAX / 8);
		at = padded(at + one) < len ? padded(at + one) : len;
	}
	q->snapshots_len = at;
	return 0;
}

int snapshots_read(struct qcow2 *q, struct err *err)
{
	uint32_t n = be32_get(q->header + AT_SNAPSHOTS_N), len;
	uint64_t at = be64_get(q->header + AT_SNAPSHOTS);
	scoped_mem uint8_t *bytes = NULL;
	int rc;

	q->snapshots_len = 0;
	if (!n)
		return 0;
	if (n > SNAPSHOTS_MAX)
		return err_set(err, EINVAL, "has %u snapshots, and lodge takes up to %u", n, SNAPSHOTS_MAX);
	if (!is_cluster(q, at))
		return err_set(err, EINVAL, "is damaged: its snapshot table is at byte %llu, where no cluster is",
			       (unsigned long long)at);
	q->snapshots = calloc(n, sizeof(*q->snapshots));
	if (!q->snapshots)
		return err_set(err, ENOMEM, "out of memory");
	rc = read_bytes(q, at, &bytes, &len, err);
	return rc < 0 ? rc : parse_all(q, bytes, len, n, err);
}

/* -- Trees ----------------------------------------------------------------------------- */

/* What is done with an L2 table: it is in `table`, as it is in the file. */
typedef int each_table(struct qcow2 *q, uint64_t at, uint8_t *table, void *ctx);

static int read_l1(struct qcow2 *q, uint64_t at, uint32_t n, struct table *l1)
{
	*l1 = (struct table){.n = 0};
	if (at % q->cluster || at < q->cluster || at >> q->cluster_bits >= q->end ||
	    n * UINT64_C(8) > (q->end << q->cluster_bits) - at)
		return corrupt(q, "a snapshot's L1 table is at byte %llu, which is not in the file",
			       (unsigned long long)at);
	return table_read(q, l1, at, n);
}

/* Nothing of L2 tables has changed in the cache: they are read past it. */
static int for_each(struct qcow2 *q, const struct table *l1, uint32_t n, each_table *each, void *ctx)
{
	scoped_mem uint8_t *table = malloc(q->cluster);
	int rc = table ? 0 : -ENOMEM;

	for (uint32_t i = 0; rc == 0 && i < n && i < l1->n; i++) {
		uint64_t at = l1->entry[i] & ENTRY_OFFSET;

		if (!at)
			continue;
		if (!is_cluster(q, at))
			return corrupt(q, "an L2 table is at byte %llu, where no cluster is", (unsigned long long)at);
		rc = node_get(q->file, at, table, q->cluster);
		if (rc == 0)
			rc = each(q, at, table, ctx);
	}
	return rc;
}

static int count_data(struct qcow2 *q, const uint8_t *table, int by)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < l2_n(q); i++) {
		struct extent e;

		rc = entry_extent(q, be64_get(table + i * 8), &e);
		for (uint64_t k = 0; rc == 0 && k < e.n; k++)
			rc = refcount_add(q, e.first + k, by);
	}
	return rc;
}

static int count_more(struct qcow2 *q, uint64_t at, uint8_t *table, void *ctx)
{
	(void)at;
	(void)ctx;
	return count_data(q, table, 1);
}

static int count_less(struct qcow2 *q, uint64_t at, uint8_t *table, void *ctx)
{
	int rc = count_data(q, table, -1);

	(void)ctx;
	return rc < 0 ? rc : refcount_add(q, at >> q->cluster_bits, -1);
}

static int count_extent(struct qcow2 *q, uint64_t at, uint64_t len, int by)
{
	uint64_t first = at >> q->cluster_bits;
	int rc = 0;

	for (uint64_t c = first; rc == 0 && c < first + clusters_of(q, len); c++)
		rc = refcount_add(q, c, by);
	return rc;
}

/* -- The change ------------------------------------------------------------------------ */

struct change {
	const struct table *copy; /* the new active tree is a copy of this one */
	const struct table *drop[2];
	unsigned n_drop;
	struct snapshot *snapshots; /* as they are to be */
	unsigned n;
	/* where it is to be: */
	struct table l1, refs;
	uint64_t size; /* of the disk */
	struct extent list;
	uint32_t list_len;
	struct extent *l2, *blocks; /* one cluster each */
	uint32_t n_l2, n_blocks, at_l2;
	bool decided; /* the header was to be written */
};

static uint32_t count_entries(const struct table *t, uint32_t n)
{
	uint32_t have = 0;

	for (uint32_t i = 0; i < n && i < t->n; i++)
		have += t->entry[i] != 0;
	return have;
}

static int take_some(struct qcow2 *q, struct extent **e, uint32_t *have, uint32_t want)
{
	struct extent *more = calloc(want + 1, sizeof(**e));
	bool fresh;
	int rc = more ? 0 : -ENOMEM;

	if (more && *e)
		memcpy(more, *e, *have * sizeof(**e));
	free(*e);
	*e = more;
	for (; rc == 0 && *have < want; *have += rc == 0)
		rc = clusters_take(q, 1, &more[*have], &fresh);
	return rc;
}

/* Taking clusters may make more refcount blocks, and the table longer: until there is enough for those. */
static int take_refs(struct qcow2 *q, struct change *c)
{
	struct extent e;
	int rc = 0;

	while (rc == 0 && (c->refs.n < q->refs.n || c->n_blocks < count_entries(&q->refs, q->refs.n))) {
		rc = take_some(q, &c->blocks, &c->n_blocks, count_entries(&q->refs, q->refs.n));
		if (rc < 0 || c->refs.n >= q->refs.n)
			continue;
		if (c->refs.n)
			clusters_give_back(q, (struct extent){c->refs.at >> q->cluster_bits,
							      clusters_of(q, c->refs.n * UINT64_C(8))});
		c->refs.n = q->refs.n;
		rc = clusters_take_all(q, clusters_of(q, q->refs.n * UINT64_C(8)), &e);
		c->refs.at = e.first << q->cluster_bits;
	}
	return rc;
}

static int take_all(struct qcow2 *q, struct change *c)
{
	struct extent e;
	uint64_t need = (c->size - 1) / (q->cluster * l2_n(q)) + 1;
	uint32_t l1_n = need > q->l1.n ? (uint32_t)need : q->l1.n; /* SAFE: the disk had that size, and check_disk_size() looked */
	int rc = clusters_take_all(q, clusters_of(q, l1_n * UINT64_C(8)), &e);

	c->l1 = (struct table){.n = l1_n, .at = e.first << q->cluster_bits};
	for (unsigned i = 0; i < c->n; i++)
		c->list_len += c->snapshots[i].raw_len;
	if (rc == 0 && c->list_len)
		rc = clusters_take_all(q, clusters_of(q, c->list_len), &c->list);
	if (rc == 0)
		rc = take_some(q, &c->l2, &c->n_l2, count_entries(c->copy, c->l1.n));
	return rc < 0 ? rc : take_refs(q, c);
}

static int copy_refs(struct qcow2 *q, struct change *c)
{
	scoped_mem uint8_t *bytes = malloc(q->cluster);
	uint32_t used = 0;
	int rc = bytes ? 0 : -ENOMEM;

	c->refs.entry = calloc(c->refs.n, 8);
	if (!c->refs.entry)
		return -ENOMEM;
	for (uint32_t i = 0; rc == 0 && i < q->refs.n; i++) {
		uint64_t from = q->refs.entry[i];

		if (!from)
			continue;
		if (!is_cluster(q, from))
			return corrupt(q, "a refcount block is at byte %llu", (unsigned long long)from);
		c->refs.entry[i] = c->blocks[used++].first << q->cluster_bits;
		rc = cache_copy(q, REFCOUNTS, from, c->refs.entry[i], bytes);
	}
	return rc;
}

/* What the header no longer leads to, when it has changed. */
static int uncount_refs(struct qcow2 *q, const struct table *before)
{
	int rc = count_extent(q, before->at, before->n * UINT64_C(8), -1);

	for (uint32_t i = 0; rc == 0 && i < before->n; i++)
		if (before->entry[i])
			rc = refcount_add(q, before->entry[i] >> q->cluster_bits, -1);
	return rc;
}

static int uncount_old_list(struct qcow2 *q)
{
	return count_extent(q, be64_get(q->header + AT_SNAPSHOTS), q->snapshots_len, -1);
}

static int count_all(struct qcow2 *q, const struct change *c, const struct table *refs_before)
{
	int rc = for_each(q, c->copy, c->l1.n, count_more, NULL);

	for (unsigned i = 0; rc == 0 && i < c->n_drop; i++) {
		rc = for_each(q, c->drop[i], c->drop[i]->n, count_less, NULL);
		if (rc == 0)
			rc = count_extent(q, c->drop[i]->at, c->drop[i]->n * UINT64_C(8), -1);
	}
	if (rc == 0)
		rc = uncount_old_list(q);
	return rc < 0 ? rc : uncount_refs(q, refs_before);
}

/* COPIED bits, as the counts are now. */
static int write_copy(struct qcow2 *q, uint64_t at, uint8_t *table, void *ctx)
{
	struct change *c = ctx;

	(void)at;
	for (uint64_t i = 0; i < l2_n(q); i++) {
		uint64_t entry = be64_get(table + i * 8) & ~ENTRY_COPIED, count = 0;
		int rc = 0;

		if (!(entry & ENTRY_COMPRESSED) && (entry & ENTRY_OFFSET))
			rc = refcount_get(q, (entry & ENTRY_OFFSET) >> q->cluster_bits, &count);
		if (rc < 0)
			return rc;
		be64_put(table + i * 8, entry | (count == 1 ? ENTRY_COPIED : 0));
	}
	return node_put(q->file, c->l2[c->at_l2++].first << q->cluster_bits, table, q->cluster);
}

/* The last cluster of a table is filled with zeros. */
static int write_whole_table(struct qcow2 *q, const struct table *t)
{
	int rc = q->file->ops->zero(q->file, t->at, clusters_of(q, t->n * UINT64_C(8)) << q->cluster_bits);

	return rc < 0 ? rc : table_write(q, t, (struct span){0, t->n});
}

static int write_list(struct qcow2 *q, const struct change *c)
{
	uint64_t at = c->list.first << q->cluster_bits;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < c->n; i++) {
		rc = node_put(q->file, at, c->snapshots[i].raw, c->snapshots[i].raw_len);
		at += c->snapshots[i].raw_len;
	}
	return rc;
}

static int write_tables(struct qcow2 *q, struct change *c)
{
	uint32_t used = 0;
	int rc = for_each(q, c->copy, c->l1.n, write_copy, c);

	c->l1.entry = calloc(c->l1.n, 8);
	if (rc < 0 || !c->l1.entry)
		return rc < 0 ? rc : -ENOMEM;
	for (uint32_t i = 0; i < c->l1.n && i < c->copy->n; i++)
		if (c->copy->entry[i] & ENTRY_OFFSET)
			c->l1.entry[i] = c->l2[used++].first << q->cluster_bits | ENTRY_COPIED;
	if ((rc = write_whole_table(q, &c->l1)) < 0 || (rc = write_whole_table(q, &q->refs)) < 0 ||
	    (rc = write_list(q, c)) < 0)
		return rc;
	return cache_write(q, REFCOUNTS);
}

static int lead_there(struct qcow2 *q, struct change *c)
{
	int rc = node_flush(q->file);

	if (rc < 0)
		return rc;
	be64_put(q->header + AT_SIZE, c->size);
	be64_put(q->header + AT_L1, c->l1.at);
	be32_put(q->header + AT_L1_N, c->l1.n);
	be64_put(q->header + AT_TABLE, q->refs.at);
	be32_put(q->header + AT_TABLE_CLUSTERS, (uint32_t)clusters_of(q, q->refs.n * UINT64_C(8)));
	be32_put(q->header + AT_SNAPSHOTS_N, c->n);
	be64_put(q->header + AT_SNAPSHOTS, c->list_len ? c->list.first << q->cluster_bits : 0);
	c->decided = true;
	rc = header_write(q);
	return rc < 0 ? rc : node_flush(q->file);
}

/* The counts are the new ones' from here on. */
static int build(struct qcow2 *q, struct change *c)
{
	struct table before = q->refs;
	int rc;

	cache_forget(q, REFCOUNTS);
	cache_forget(q, MAPS);
	q->refs = c->refs;
	c->refs.entry = NULL;
	q->refs_moved = false;
	q->building = true;
	rc = count_all(q, c, &before);
	if (rc == 0)
		rc = write_tables(q, c);
	if (rc == 0)
		rc = lead_there(q, c);
	q->building = false;
	free(before.entry);
	return rc;
}

/* Gives the host what is free now. */
static int punch(struct qcow2 *q, uint64_t at, uint8_t *table, void *ctx)
{
	(void)at;
	(void)ctx;
	for (uint64_t i = 0; i < l2_n(q); i++) {
		uint64_t count;
		struct extent e;

		if (entry_extent(q, be64_get(table + i * 8), &e) < 0)
			return -EIO;
		for (uint64_t c = e.first; c < e.first + e.n; c++)
			if (refcount_get(q, c, &count) == 0 && !count)
				q->file->ops->discard(q->file, c << q->cluster_bits, q->cluster);
	}
	return 0;
}

/* All of it from the file again: nothing had changed there. */
static void read_again(struct qcow2 *q)
{
	uint8_t header[HEADER_SECTOR];
	uint32_t l1_n = q->l1.n, refs_n;

	cache_forget(q, REFCOUNTS);
	cache_forget(q, MAPS);
	q->n_frees = 0;
	q->refs_moved = false;
	q->hint = 1;
	if (node_get(q->file, 0, header, sizeof(header)) == 0) {
		memcpy(q->header, header, sizeof(header));
		refs_n = (uint32_t)((uint64_t)be32_get(header + AT_TABLE_CLUSTERS) << q->cluster_bits) / 8;
		if (table_read(q, &q->l1, be64_get(header + AT_L1), l1_n) == 0 &&
		    table_read(q, &q->refs, be64_get(header + AT_TABLE), refs_n) == 0)
			return;
	}
	q->corrupt = true;
}

static int make(struct qcow2 *q, struct change *c)
{
	int rc = commit(q);

	if (rc < 0)
		return rc; /* as it was */
	rc = take_all(q, c);
	if (rc == 0 && q->refs_moved)
		rc = commit(q); /* so that only one table of refcounts has to be uncounted */
	if (rc == 0)
		rc = copy_refs(q, c);
	if (rc == 0)
		rc = build(q, c);
	for (unsigned i = 0; rc == 0 && i < c->n_drop; i++)
		for_each(q, c->drop[i], c->drop[i]->n, punch, NULL);
	if (rc == 0) {
		free(q->l1.entry);
		q->l1 = c->l1;
		c->l1.entry = NULL;
		q->node.size = c->size;
		q->snapshots_len = c->list_len;
		q->hint = 1;
	} else if (c->decided) {
		q->corrupt = true;
	} else {
		read_again(q);
	}
	return rc;
}

static int change(struct qcow2 *q, struct change *c, const char *name, struct err *err)
{
	int rc = begin_writing(q);

	if (!c->size)
		c->size = q->node.size;
	q->pack_at = 0;
	if (rc == 0)
		rc = make(q, c);
	free(c->l1.entry);
	free(c->refs.entry);
	free(c->l2);
	free(c->blocks);
	if (rc == -ERANGE)
		return err_set(err, ERANGE, "'%s': its refcounts have %u bits, too few for a snapshot '%s' more", q->path,
			       1u << q->order, name);
	return rc < 0 ? err_sys(err, -rc, "'%s', snapshot '%s'", q->path, name) : 0;
}

/* -- The three ------------------------------------------------------------------------- */

static unsigned find(const struct qcow2 *q, const char *name)
{
	unsigned i = 0;

	while (i < q->n_snapshots && strcmp(q->snapshots[i].name, name) != 0)
		i++;
	return i;
}

static unsigned find_id(const struct qcow2 *q, const char *id)
{
	unsigned i = 0;

	while (i < q->n_snapshots && strcmp(q->snapshots[i].id, id) != 0)
		i++;
	return i;
}

/* Others give two of them the same name, and some the name that is another one's id. */
static unsigned find_said(const struct qcow2 *q, const char *word)
{
	static const char id[] = "snapshot.id=", name[] = "snapshot.name=";
	unsigned i;

	if (strncmp(word, id, strlen(id)) == 0)
		return find_id(q, word + strlen(id));
	if (strncmp(word, name, strlen(name)) == 0)
		return find(q, word + strlen(name));
	i = find_id(q, word);
	return i < q->n_snapshots ? i : find(q, word);
}

/* A number that no other has, as others name them, too. */
static unsigned long next_id(const struct qcow2 *q)
{
	unsigned long most = 0;

	for (unsigned i = 0; i < q->n_snapshots; i++) {
		unsigned long id = strtoul(q->snapshots[i].id, NULL, 10);

		if (id > most && id < UINT32_MAX)
			most = id;
	}
	return most + 1;
}

static int fill(const struct qcow2 *q, struct snapshot *s, const char *name)
{
	uint8_t raw[S_FIXED + X_LEN + 32 + 256] = {0};
	struct timespec now;
	char id[32];
	int id_len = snprintf(id, sizeof(id), "%lu", next_id(q));
	size_t name_len = strlen(name);

	clock_gettime(CLOCK_REALTIME, &now);
	be64_put(raw + S_L1, q->l1.at);
	be32_put(raw + S_L1_N, q->l1.n);
	be16_put(raw + S_ID_LEN, (uint16_t)id_len);
	be16_put(raw + S_NAME_LEN, (uint16_t)name_len);
	be32_put(raw + S_SECONDS, (uint32_t)now.tv_sec);
	be32_put(raw + S_NS, (uint32_t)now.tv_nsec);
	be32_put(raw + S_EXTRA_LEN, X_LEN);
	be64_put(raw + S_FIXED + X_DISK, q->node.size);
	be64_put(raw + S_FIXED + X_ICOUNT, UINT64_MAX); /* not counted */
	memcpy(raw + S_FIXED + X_LEN, id, (size_t)id_len);
	memcpy(raw + S_FIXED + X_LEN + id_len, name, name_len);
	return parse(s, raw, (uint32_t)(S_FIXED + X_LEN + (size_t)id_len + name_len), X_LEN);
}

int qcow2_snapshot_create(struct node *node, const char *name, struct err *err)
{
	struct qcow2 *q = qcow2_of(node);
	unsigned n = q->n_snapshots;
	struct snapshot *list;
	int rc;

	scoped_lock(&q->lock);
	if (!name[0] || strlen(name) > 255)
		return err_set(err, EINVAL, "'%s' is no name for a snapshot: 1 to 255 bytes", name);
	if (find(q, name) < n)
		return err_set(err, EEXIST, "'%s' has a snapshot '%s' already", q->path, name);
	if (n == SNAPSHOTS_MAX)
		return err_set(err, ENOSPC, "'%s' has %u snapshots, and more cannot be", q->path, n);
	list = calloc(n + 1, sizeof(*list));
	if (!list)
		return err_set(err, ENOMEM, "out of memory");
	if (n)
		memcpy(list, q->snapshots, n * sizeof(*list));
	rc = fill(q, &list[n], name);
	if (rc == 0)
		rc = change(q, &(struct change){.copy = &q->l1, .snapshots = list, .n = n + 1}, name, err);
	if (rc < 0) {
		free(list[n].raw);
		free(list);
		return rc;
	}
	free(q->snapshots);
	q->snapshots = list;
	q->n_snapshots = n + 1;
	return 0;
}

static int not_there(const struct qcow2 *q, const char *name, struct err *err)
{
	return err_set(err, ENOENT, "'%s' has no snapshot '%s'", q->path, name);
}

static int read_tree(struct qcow2 *q, unsigned i, struct table *l1, struct err *err)
{
	int rc = read_l1(q, q->snapshots[i].l1_at, q->snapshots[i].l1_n, l1);

	return rc < 0 ? err_sys(err, -rc, "'%s', snapshot '%s'", q->path, q->snapshots[i].name) : 0;
}

/* It may have had another size then. 0: nobody knows. */
static int check_disk_size(const struct qcow2 *q, const struct snapshot *s, struct err *err)
{
	uint64_t covers = q->cluster * l2_n(q);

	if (s->disk_size % 512 == 0 && s->disk_size <= L1_MAX / 8 * covers &&
	    (!s->disk_size || (s->disk_size - 1) / covers < s->l1_n))
		return 0;
	return err_set(err, EINVAL, "'%s' is damaged: its disk had %llu bytes at snapshot '%s', for which an L1 table of %u "
		       "entries is not enough", q->path, (unsigned long long)s->disk_size, s->name, s->l1_n);
}

int snapshot_enter(struct qcow2 *q, const char *name, struct err *err)
{
	struct table l1 = {.n = 0};
	unsigned i = find_said(q, name);
	int rc = i == q->n_snapshots ? not_there(q, name, err) : read_tree(q, i, &l1, err);

	if (rc == 0)
		rc = check_disk_size(q, &q->snapshots[i], err);
	if (rc == 0 && !q->snapshots[i].disk_size && (q->node.size - 1) / (q->cluster * l2_n(q)) >= l1.n)
		rc = err_set(err, EINVAL, "'%s', snapshot '%s': nobody knows how long its disk was", q->path, name);
	if (rc < 0) {
		free(l1.entry);
		return rc;
	}
	free(q->l1.entry);
	q->l1 = l1;
	if (q->snapshots[i].disk_size)
		q->node.size = q->snapshots[i].disk_size;
	return 0;
}

static int apply(struct qcow2 *q, unsigned i, struct err *err)
{
	const struct snapshot *s = &q->snapshots[i];
	struct table l1 = {.n = 0};
	int rc = read_tree(q, i, &l1, err);

	if (rc == 0)
		rc = check_disk_size(q, s, err);
	if (rc == 0)
		rc = change(q, &(struct change){.copy = &l1, .drop = {&q->l1}, .n_drop = 1, .snapshots = q->snapshots,
						.n = q->n_snapshots, .size = s->disk_size}, s->name, err);
	free(l1.entry);
	return rc;
}

static int delete(struct qcow2 *q, unsigned i, struct err *err)
{
	struct table l1 = {.n = 0};
	struct snapshot *list;
	unsigned n = q->n_snapshots - 1;
	int rc = read_tree(q, i, &l1, err);

	if (rc < 0)
		return rc;
	list = calloc(n + 1, sizeof(*list));
	if (list) {
		memcpy(list, q->snapshots, i * sizeof(*list));
		memcpy(list + i, q->snapshots + i + 1, (n - i) * sizeof(*list));
	}
	rc = !list ? err_set(err, ENOMEM, "out of memory")
		   : change(q, &(struct change){.copy = &q->l1, .drop = {&q->l1, &l1}, .n_drop = 2, .snapshots = list,
						.n = n}, q->snapshots[i].name, err);
	free(l1.entry);
	if (rc < 0) {
		free(list);
		return rc;
	}
	free(q->snapshots[i].raw);
	free(q->snapshots);
	q->snapshots = list;
	q->n_snapshots = n;
	return 0;
}

int qcow2_snapshot_apply(struct node *node, const char *name, struct err *err)
{
	struct qcow2 *q = qcow2_of(node);
	unsigned i;

	scoped_lock(&q->lock);
	i = find(q, name);
	return i == q->n_snapshots ? not_there(q, name, err) : apply(q, i, err);
}

int qcow2_snapshot_delete(struct node *node, const char *name, struct err *err)
{
	struct qcow2 *q = qcow2_of(node);
	unsigned i;

	scoped_lock(&q->lock);
	i = find(q, name);
	return i == q->n_snapshots ? not_there(q, name, err) : delete(q, i, err);
}

int qcow2_snapshot_apply_said(struct node *node, const char *word, struct err *err)
{
	struct qcow2 *q = qcow2_of(node);
	unsigned i;

	scoped_lock(&q->lock);
	i = find_said(q, word);
	return i == q->n_snapshots ? not_there(q, word, err) : apply(q, i, err);
}

int qcow2_snapshot_delete_said(struct node *node, const char *word, struct err *err)
{
	struct qcow2 *q = qcow2_of(node);
	unsigned i;

	scoped_lock(&q->lock);
	i = find(q, word);
	if (i == q->n_snapshots)
		i = find_said(q, word);
	return i == q->n_snapshots ? not_there(q, word, err) : delete(q, i, err);
}

int qcow2_snapshot_tree(struct node *node, const char *name, struct qcow2_tree *tree, struct err *err)
{
	struct qcow2 *q = qcow2_of(node);
	unsigned i;

	scoped_lock(&q->lock);
	i = find(q, name);
	if (i == q->n_snapshots)
		return not_there(q, name, err);
	*tree = (struct qcow2_tree){q->snapshots[i].l1_at, q->snapshots[i].l1_n};
	return 0;
}

unsigned qcow2_snapshots(struct node *node)
{
	return qcow2_of(node)->n_snapshots;
}

const char *qcow2_snapshot_name(struct node *node, unsigned i)
{
	return qcow2_of(node)->snapshots[i].name;
}
