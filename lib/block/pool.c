/* SPDX-License-Identifier: MIT */
/*
 * The threads of a disk: they block on the host's file so that no vCPU does.
 *
 * One list, first in first out, and up to `max` threads. A thread is added when a
 * request comes and none is free, so a guest that reads one block at a time has one
 * thread, and an idle disk costs nothing. The list needs no bound of its own: its
 * entries are the callers' request slots, of which a device has a fixed number.
 *
 * `under_way` counts a request until its done has returned; pool_drain() waits for
 * that.
 */
#include "block/pool.h"

#include "base/scoped.h"
#include "block/disk.h"

#include <signal.h>

/* The next request, or NULL when the pool ends. Lock held. */
static struct disk_req *next_locked(struct pool *pool)
{
	struct disk_req *req;

	pool->n_waiting++;
	while (!pool->first && !pool->leave)
		pthread_cond_wait(&pool->work, &pool->lock);
	pool->n_waiting--;
	req = pool->first;
	if (req) {
		pool->first = req->next;
		if (!pool->first)
			pool->last = &pool->first;
	}
	return req;
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
		if (--pool->under_way == 0)
			pthread_cond_broadcast(&pool->idle);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

/* A thread that no signal is delivered to: they are for the main thread and the vCPUs.
 * */
static int add_thread_locked(struct pool *pool)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&pool->threads[pool->n_threads], NULL, work, pool);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc == 0)
		pool->n_threads++;
	return -rc;
}

int pool_init(struct pool *pool, unsigned max,
	      void (*run)(void *ctx, struct disk_req *req), void *ctx)
{
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->work, NULL);
	pthread_cond_init(&pool->idle, NULL);
	pool->run = run;
	pool->ctx = ctx;
	pool->max = max < POOL_THREADS_MAX ? max : POOL_THREADS_MAX;
	pool->last = &pool->first;
	scoped_lock(&pool->lock);
	return add_thread_locked(pool);
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

void pool_add(struct pool *pool, struct disk_req *req)
{
	scoped_lock(&pool->lock);
	req->next = NULL;
	*pool->last = req;
	pool->last = &req->next;
	pool->under_way++;
	if (pool->n_waiting == 0 && pool->n_threads < pool->max)
		add_thread_locked(pool); /* if it fails, the others get there */
	pthread_cond_signal(&pool->work);
}

void pool_drain(struct pool *pool)
{
	scoped_lock(&pool->lock);
	while (pool->under_way)
		pthread_cond_wait(&pool->idle, &pool->lock);
}
