/* SPDX-License-Identifier: MIT */
/*
 * Copying a disk, by several threads:
 *
 *	take the next part         under the lock; what reads as zeros is passed over
 *	read it, compress it       at the same time as others
 *	write it                   in the order of parts, unless any order will do
 *
 * So compression has all CPUs, and the image that comes of it is the same each time. Memory is bounded by threads times parts.
 */
#include "prog/lodge-img/img.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/node.h"
#include "block/qcow2.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PART        (2 * MiB)
#define THREADS_MAX 16u

struct work {
	struct copy *c;
	pthread_mutex_t lock;
	pthread_cond_t turned;
	uint64_t at;            /* the next part begins there */
	uint64_t tickets, turn; /* parts that were taken; the one that is to be written */
	int rc;
	const char *doing; /* what has failed */
	uint64_t failed_at;
};

/* A part, on its thread. */
struct part {
	uint64_t at, len, ticket;
	uint8_t *bytes, *packed;
	size_t *packed_len; /* of each cluster; 0: it is not smaller */
};

static void fail(struct work *w, int rc, const char *doing, uint64_t at)
{
	if (w->rc < 0)
		return;
	w->rc = rc;
	w->doing = doing;
	w->failed_at = at;
}

/* -- Taking ---------------------------------------------------------------------------- */

static uint64_t alignment(const struct copy *c)
{
	return c->packs ? c->cluster : c->grain > 512 ? c->grain : 512;
}

/* Whether nothing has to be read there; *len is for how many bytes that is so, or is not. Zeros are written if they must be. */
static int pass_over(struct work *w, uint64_t *len, bool *passed)
{
	struct copy *c = w->c;
	struct node_status s;
	uint64_t most = c->size - w->at;
	int rc = c->from->ops->status(c->from, c->from_at + w->at, *len, &s);

	*passed = false;
	if (rc < 0)
		return rc;
	*len = s.len;
	if (c->only_here && (!s.here || s.depth)) {
		*passed = true;
		return 0;
	}
	if (!s.zero || !c->grain)
		return 0;
	if (s.len < most && !c->only_here)
		*len = align_down(w->at + s.len, alignment(c)) - w->at; /* w->at is aligned */
	if (!*len || *len > most) { /* less than can be passed over */
		*len = s.len;
		return 0;
	}
	*passed = true;
	return c->to_is_zero ? 0 : c->to->ops->zero(c->to, w->at, *len);
}

/* What a file has behind its end is zeros, to a whole sector. */
static uint64_t readable(const struct copy *c, uint64_t at)
{
	uint64_t end = c->from->size > c->from_at ? c->from->size - c->from_at : 0;

	return end > at ? end - at : 0;
}

/* Lock held. False: there is none, or it has failed. */
static bool take(struct work *w, struct part *p)
{
	struct copy *c = w->c;

	while (w->rc == 0 && w->at < c->size) {
		uint64_t len = c->size - w->at, there = readable(c, w->at);
		bool passed = false;
		int rc = 0;

		if (there && there < len)
			len = there;
		if (there)
			rc = pass_over(w, &len, &passed);
		if (rc < 0)
			fail(w, rc, "looking at", w->at);
		if (rc < 0)
			return false;
		if (!passed) {
			if (len > PART)
				len = PART;
			if (!c->only_here)
				len = align_up(len, alignment(c));
			p->at = w->at;
			p->len = len < c->size - w->at ? len : c->size - w->at;
			p->ticket = w->tickets++;
			w->at += p->len;
			return true;
		}
		w->at += len;
		img_progress(c->progress, w->at, c->size);
	}
	return false;
}

/* -- Writing --------------------------------------------------------------------------- */

static int write_zeroes(struct copy *c, uint64_t at, uint64_t len)
{
	return c->to_is_zero ? 0 : c->to->ops->zero(c->to, at, len);
}

/* Bytes from `at` on, at most to the next grain, and whether they are to be written. */
static uint64_t next_grain(const struct copy *c, const struct part *p, uint64_t at, bool *data)
{
	uint64_t n = c->grain ? c->grain - (p->at + at) % c->grain : p->len;

	if (n > p->len - at)
		n = p->len - at;
	*data = !c->grain || !is_all_zero(p->bytes + at, n);
	return n;
}

static int write_plain(struct copy *c, const struct part *p)
{
	int rc = 0;

	for (uint64_t at = 0, len; rc == 0 && at < p->len; at += len) {
		bool data, more;

		len = next_grain(c, p, at, &data);
		while (at + len < p->len) {
			uint64_t n = next_grain(c, p, at + len, &more);

			if (more != data)
				break;
			len += n;
		}
		rc = data ? node_put(c->to, p->at + at, p->bytes + at, align_up(len, UINT64_C(512)))
			  : write_zeroes(c, p->at + at, align_up(len, UINT64_C(512)));
	}
	return rc;
}

static int write_clusters(struct copy *c, const struct part *p)
{
	int rc = 0;

	for (uint64_t at = 0, i = 0; rc == 0 && at < p->len; at += c->cluster, i++) {
		uint64_t to = p->at + at, left = c->to->size - to;

		if (c->grain && is_all_zero(p->bytes + at, c->cluster))
			rc = write_zeroes(c, p->at + at, left < c->cluster ? left : c->cluster);
		else if (p->packed_len[i])
			rc = qcow2_write_packed(c->to, to, p->packed + at, p->packed_len[i]);
		else
			rc = node_put(c->to, to, p->bytes + at, left < c->cluster ? left : c->cluster);
	}
	return rc;
}

/* -- One thread ------------------------------------------------------------------------ */

static int read_part(struct copy *c, const struct part *p)
{
	uint64_t there = readable(c, p->at), room = align_up(p->len, c->packs ? c->cluster : UINT64_C(512));

	if (there > p->len)
		there = p->len;
	memset(p->bytes + there, 0, room - there);
	return there ? node_get(c->from, c->from_at + p->at, p->bytes, there) : 0;
}

static int pack_part(struct copy *c, const struct part *p)
{
	int rc = 0;

	for (uint64_t at = 0, i = 0; rc == 0 && at < p->len; at += c->cluster, i++)
		if (!c->grain || !is_all_zero(p->bytes + at, c->cluster)) /* as write_clusters() asks */
			rc = qcow2_pack(c->to, p->bytes + at, p->packed + at, &p->packed_len[i]);
	return rc;
}

static void wait_turn(struct work *w, const struct part *p)
{
	scoped_lock(&w->lock);
	while (!w->c->any_order && w->turn != p->ticket)
		pthread_cond_wait(&w->turned, &w->lock);
}

static void end_turn(struct work *w, const struct part *p, int rc, const char *doing)
{
	scoped_lock(&w->lock);
	if (rc < 0)
		fail(w, rc, doing, p->at);
	w->turn++;
	pthread_cond_broadcast(&w->turned);
	img_progress(w->c->progress, p->at + p->len, w->c->size);
}

static void do_part(struct work *w, const struct part *p)
{
	struct copy *c = w->c;
	const char *doing = "reading";
	int rc = read_part(c, p);

	if (rc == 0 && c->packs)
		rc = pack_part(c, p);
	wait_turn(w, p);
	if (rc == 0 && __atomic_load_n(&w->rc, __ATOMIC_RELAXED) == 0) {
		doing = "writing";
		rc = c->packs ? write_clusters(c, p) : write_plain(c, p);
	}
	end_turn(w, p, rc, doing);
}

static void *run(void *ctx)
{
	struct work *w = ctx;
	struct copy *c = w->c;
	uint64_t clusters = c->packs ? PART / c->cluster : 0;
	struct part p = {.bytes = malloc(PART), .packed = c->packs ? malloc(PART) : NULL,
			 .packed_len = calloc(clusters + 1, sizeof(size_t))};

	pthread_mutex_lock(&w->lock);
	if (!p.bytes || !p.packed_len || (c->packs && !p.packed))
		fail(w, -ENOMEM, "copying", 0);
	while (take(w, &p)) {
		pthread_mutex_unlock(&w->lock);
		do_part(w, &p);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	free(p.bytes);
	free(p.packed);
	free(p.packed_len);
	return NULL;
}

/* -- All of it ------------------------------------------------------------------------- */

int img_copy(struct copy *c, struct err *err)
{
	struct work w = {.c = c, .lock = PTHREAD_MUTEX_INITIALIZER, .turned = PTHREAD_COND_INITIALIZER};
	pthread_t threads[THREADS_MAX];
	unsigned n = 0;

	img_progress(c->progress, 0, c->size ? c->size : 1);
	while (n + 1 < c->threads && n < THREADS_MAX && pthread_create(&threads[n], NULL, run, &w) == 0)
		n++;
	run(&w);
	while (n)
		pthread_join(threads[--n], NULL);
	if (w.rc < 0)
		return err_sys(err, -w.rc, "%s at byte %llu", w.doing, (unsigned long long)w.failed_at);
	img_progress(c->progress, 1, 1);
	img_progress_end(c->progress);
	return 0;
}
