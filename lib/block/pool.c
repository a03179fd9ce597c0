/* SPDX-License-Identifier: MIT */
/*
 * The threads of a disk: they block on the host's file so that no vCPU does.
 *
 * One list, first in first out, and `max` threads, which are all made at the start: who
 * submits may be a vCPU's thread, and that is not to make threads (docs/why/sandbox.md).
 * The list needs no bound of its own: its entries are the callers' request slots, of
 * which a device has a fixed number.
 *
 * Of a disk whose bytes the host has, requests are copies, and two threads that copy at once only take turns: at the file's lock
 * (a write has an inode alone), and at the cores that the guest wants as well. So one thread at a time works; who is going to wait
 * for the host, or for another request, says so first (pool_wait()), and another may begin. Measured on two cores, 1 MiB writes at
 * a virtio disk: 5.1 GiB/s, with four threads at once 3.8.
 *
 * Some do not know that they are going to wait: a host that has too many dirty pages makes who writes sleep. So while requests are queued
 * one of the idle threads watches, and who has worked for PATIENCE_NS is taken to sleep: the watcher takes its place. (A request's copy
 * of 1 MiB takes a fiftieth of that.)
 *
 * A request can be alone: it begins when all before it have ended, and those behind it when it has.
 *
 * `under_way` counts a request until its done has returned; pool_drain() waits for
 * that.
 */
#include "block/pool.h"

#include "base/scoped.h"
#include "base/thread.h"
#include "block/disk.h"

#include <errno.h>
#include <time.h>

#define PATIENCE_NS 10000000

static __thread struct pool *working; /* the calling thread, on a request of this one; NULL once it has said that it waits */
static __thread unsigned my_turn;

/* Whether the first request must wait for others: one works, or it is to be alone, or one that is running is. Lock held. */
static bool must_wait(const struct pool *pool)
{
	return pool->works || (pool->running && (pool->alone || pool->first->alone));
}

static struct timespec until(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += PATIENCE_NS;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}

/* Until things have changed. Who watches sees to it that they do. Lock held. */
static void wait_locked(struct pool *pool)
{
	unsigned turn = pool->turn;
	struct timespec t;

	if (!pool->first || !pool->works || pool->watched) {
		pthread_cond_wait(&pool->work, &pool->lock);
		return;
	}
	t = until();
	pool->watched = true;
	if (pthread_cond_timedwait(&pool->work, &pool->lock, &t) == ETIMEDOUT && pool->turn == turn)
		pool->works = false;
	pool->watched = false;
}

/* The next request, or NULL when the pool ends. Lock held. */
static struct disk_req *next_locked(struct pool *pool)
{
	struct disk_req *req;

	while (pool->first ? must_wait(pool) : !pool->leave)
		wait_locked(pool);
	req = pool->first;
	if (req) {
		pool->first = req->next;
		if (!pool->first)
			pool->last = &pool->first;
		pool->running++;
		pool->works = true;
		pool->alone = req->alone;
		working = pool;
		my_turn = ++pool->turn;
		if (pool->first && !pool->watched)
			pthread_cond_signal(&pool->work);
	}
	return req;
}

/* Who waited for it may go on. Lock held. */
static void end_locked(struct pool *pool)
{
	pool->running--;
	if (working && pool->turn == my_turn)
		pool->works = false; /* and this thread takes the next */
	working = NULL;
	if (pool->alone || (pool->first && pool->first->alone))
		pthread_cond_broadcast(&pool->work);
	pool->alone = false;
	if (--pool->under_way == 0)
		pthread_cond_broadcast(&pool->idle);
}

static void *work(void *arg)
{
	struct pool *pool = arg;
	struct disk_req *req;

	pthread_mutex_lock(&pool->lock);
	while ((req = next_locked(pool))) {
		pthread_mutex_unlock(&pool->lock);
		pool->run(pool->ctx, req);
		req->done(req); /* req may be used for something else from here on */
		pthread_mutex_lock(&pool->lock);
		end_locked(pool);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

int pool_init(struct pool *pool, unsigned max,
	      void (*run)(void *ctx, struct disk_req *req), void *ctx)
{
	int rc = 0;

	pthread_condattr_t attr;

	pthread_mutex_init(&pool->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->work, &attr);
	pthread_condattr_destroy(&attr);
	pthread_cond_init(&pool->idle, NULL);
	pool->run = run;
	pool->ctx = ctx;
	pool->max = max < POOL_THREADS_MAX ? max : POOL_THREADS_MAX;
	pool->last = &pool->first;
	while (rc == 0 && pool->n_threads < pool->max) {
		rc = thread_start(&pool->threads[pool->n_threads], "disk", work, pool);
		pool->n_threads += rc == 0;
	}
	return pool->n_threads ? 0 : rc; /* if there are few, they get there */
}

void pool_fini(struct pool *pool)
{
	pool_drain(pool);
	pthread_mutex_lock(&pool->lock);
	pool->leave = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->n_threads; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->idle);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->lock);
}

void pool_wait(void)
{
	struct pool *pool = working;

	if (!pool)
		return;
	working = NULL;
	scoped_lock(&pool->lock);
	if (pool->turn != my_turn)
		return; /* somebody has its place already */
	pool->works = false;
	if (pool->first)
		pthread_cond_signal(&pool->work);
}

void pool_add(struct pool *pool, struct disk_req *req)
{
	scoped_lock(&pool->lock);
	req->next = NULL;
	*pool->last = req;
	pool->last = &req->next;
	pool->under_way++;
	if (!pool->works || !pool->watched)
		pthread_cond_signal(&pool->work);
}

void pool_drain(struct pool *pool)
{
	scoped_lock(&pool->lock);
	while (pool->under_way)
		pthread_cond_wait(&pool->idle, &pool->lock);
}
