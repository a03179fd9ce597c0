/* SPDX-License-Identifier: MIT */
/*
 * A few threads that work off a list of disk requests. The disk's own, not for others.
 */
#ifndef BLOCK_POOL_H
#define BLOCK_POOL_H

#include <pthread.h>
#include <stdbool.h>

#define POOL_THREADS_MAX 16u

struct disk_req;

struct pool {
	void (*run)(void *ctx, struct disk_req *req); /* does it; sets req->rc */
	void *ctx;
	unsigned max; /* threads */
	/* under lock: */
	pthread_mutex_t lock;
	pthread_cond_t work, idle;
	struct disk_req *first, **last;
	unsigned under_way; /* requests queued or running */
	unsigned running;
	bool alone;         /* the one that is running */
	bool works;         /* one of those that are running does not wait: */
	unsigned turn;      /* the one that was the so many-th to begin */
	bool watched;       /* a thread looks whether that has come to an end */
	bool leave;
	unsigned n_threads; /* not under lock: they do not change */
	pthread_t threads[POOL_THREADS_MAX];
};

/* Starts the threads, one at least. 0 or -errno. */
int pool_init(struct pool *pool, unsigned max,
	      void (*run)(void *ctx, struct disk_req *req), void *ctx);

/* Waits until nothing is under way and ends the threads. */
void pool_fini(struct pool *pool);

/* Of a request: what comes now takes longer than to copy its bytes, so that others may begin. Anywhere else it does nothing. */
void pool_wait(void);

/* Queues a request: run and then its done are called on a thread. */
void pool_add(struct pool *pool, struct disk_req *req);

/* Waits until nothing is under way; the caller holds no lock that a done needs. */
void pool_drain(struct pool *pool);

#endif
