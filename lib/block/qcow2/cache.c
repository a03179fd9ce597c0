/* SPDX-License-Identifier: MIT */
/*
 * Pages of metadata: pieces of refcount blocks and L2 tables, 4 KiB each or a cluster if that is smaller. 2 MiB of
 * them is the bound, whatever the image. With clusters of 64 KiB that is where 16 GiB of a disk are.
 *
 * A page that has changed is not given up; when all have, that is a commit (commit.c). Otherwise a hand goes round
 * and takes the first page that was not wanted since it came by last.
 *
 * A byte's address is good until the next call of anything here, so nobody keeps one.
 */
#include "block/qcow2/inside.h"

#include "base/macros.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static unsigned hash_of(const struct qcow2 *q, uint64_t at)
{
	return (unsigned)(((at / q->unit) * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (q->cache.n - 1);
}

int cache_init(struct cache *c, unsigned n)
{
	c->n = n;
	c->pages = calloc(c->n, sizeof(*c->pages));
	c->hash = calloc(c->n, sizeof(struct page *));
	return c->pages && c->hash ? 0 : -ENOMEM;
}

void cache_fini(struct cache *c)
{
	for (unsigned i = 0; c->pages && i < c->n; i++)
		free(c->pages[i].bytes);
	free(c->pages);
	free(c->hash);
}

static struct page *find(struct qcow2 *q, uint64_t at)
{
	struct page *p = q->cache.hash[hash_of(q, at)];

	while (p && p->at != at)
		p = p->next;
	return p;
}

static void set_dirty(struct qcow2 *q, struct page *p, bool dirty)
{
	q->cache.dirty[p->kind] += dirty - p->dirty;
	p->dirty = dirty;
}

static void forget(struct qcow2 *q, struct page *p)
{
	struct page **link = &q->cache.hash[hash_of(q, p->at)];

	while (*link != p)
		link = &(*link)->next;
	*link = p->next;
	set_dirty(q, p, false);
	p->used = false;
}

/* One that is not used, or NULL: all have changed. */
static struct page *look_for_room(struct qcow2 *q)
{
	struct cache *c = &q->cache;

	if (c->dirty[REFCOUNTS] + c->dirty[MAPS] == c->n)
		return NULL;
	for (;;) {
		struct page *p = &c->pages[c->hand];

		c->hand = (c->hand + 1) & (c->n - 1);
		if (!p->used)
			return p;
		if (!p->dirty && !p->recent) {
			forget(q, p);
			return p;
		}
		p->recent = false;
	}
}

static int make_room(struct qcow2 *q, struct page **page)
{
	int rc;

	*page = look_for_room(q);
	if (*page)
		return 0;
	rc = q->building ? cache_write(q, REFCOUNTS) : commit(q);
	if (rc < 0)
		return rc;
	*page = look_for_room(q);
	return *page ? 0 : -EIO;
}

static int bring(struct qcow2 *q, enum kind kind, uint64_t at, struct page **page)
{
	struct page *p;
	int rc = make_room(q, page);

	if (rc < 0)
		return rc;
	p = *page;
	if (!p->bytes && !(p->bytes = malloc(q->unit)))
		return -ENOMEM;
	rc = node_get(q->file, at, p->bytes, q->unit);
	if (rc < 0)
		return rc;
	p->at = at;
	p->kind = (uint8_t)kind;
	p->used = true;
	p->next = q->cache.hash[hash_of(q, at)];
	q->cache.hash[hash_of(q, at)] = p;
	return 0;
}

int cache_get(struct qcow2 *q, enum kind kind, uint64_t at, bool dirty, uint8_t **bytes)
{
	uint64_t first = align_down(at, q->unit);
	struct page *p = find(q, first);
	int rc = 0;

	if (p && p->kind != kind)
		return corrupt(q, "byte %llu is in a refcount block and in an L2 table", (unsigned long long)at);
	if (!p)
		rc = bring(q, kind, first, &p);
	if (rc < 0)
		return rc;
	p->recent = true;
	if (dirty)
		set_dirty(q, p, true);
	*bytes = p->bytes + (at - first);
	return 0;
}

uint8_t *cache_peek(struct qcow2 *q, uint64_t at)
{
	uint64_t first = align_down(at, q->unit);
	struct page *p = find(q, first);

	return p ? p->bytes + (at - first) : NULL;
}

int cache_copy(struct qcow2 *q, enum kind kind, uint64_t from, uint64_t to, uint8_t *room)
{
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && at < q->cluster; at += q->unit) {
		uint8_t *page;

		rc = cache_get(q, kind, from + at, false, &page);
		if (rc == 0)
			memcpy(room + at, page, q->unit);
	}
	return rc < 0 ? rc : node_put(q->file, to, room, q->cluster);
}

int cache_write(struct qcow2 *q, enum kind kind)
{
	struct cache *c = &q->cache;
	int rc;

	for (unsigned i = 0; c->dirty[kind] && i < c->n; i++) {
		struct page *p = &c->pages[i];

		if (!p->used || !p->dirty || p->kind != kind)
			continue;
		rc = node_put(q->file, p->at, p->bytes, q->unit);
		if (rc < 0)
			return rc;
		set_dirty(q, p, false);
	}
	return 0;
}

void cache_forget(struct qcow2 *q, enum kind kind)
{
	for (unsigned i = 0; i < q->cache.n; i++)
		if (q->cache.pages[i].used && q->cache.pages[i].kind == kind)
			forget(q, &q->cache.pages[i]);
}

void cache_forget_cluster(struct qcow2 *q, uint64_t at)
{
	for (uint64_t end = at + q->cluster; at < end; at += q->unit) {
		struct page *p = find(q, at);

		if (p)
			forget(q, p);
	}
}
