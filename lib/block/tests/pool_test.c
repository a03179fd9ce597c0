/* SPDX-License-Identifier: MIT */
/*
 * A disk's threads: one works at a time, others begin when it waits, or sleeps without a word.
 */
#include "block/pool.h"

#include "block/disk.h"
#include "tests/tap.h"

#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>

#define N 400u

static struct pool pool;
static struct disk_req reqs[N];
static atomic_uint running, most, ended;
static sem_t may_end;

static void done(struct disk_req *req)
{
	(void)req;
	atomic_fetch_add(&ended, 1);
}

static void enter(void)
{
	unsigned n = atomic_fetch_add(&running, 1) + 1, m = atomic_load(&most);

	while (n > m && !atomic_compare_exchange_weak(&most, &m, n))
		;
}

/* A write works, a read waits until somebody lets it end, a flush waits for nothing, and who zeroes sleeps as who writes too much does. */
static void run(void *ctx, struct disk_req *req)
{
	(void)ctx;
	if (req->op == DISK_FLUSH)
		pool_wait();
	if (req->op == DISK_READ) {
		pool_wait();
		pool_wait(); /* once said is enough */
		sem_wait(&may_end);
		return;
	}
	if (req->op == DISK_ZERO) {
		sem_wait(&may_end);
		return;
	}
	enter();
	for (volatile unsigned i = 0; i < 20000; i++)
		;
	atomic_fetch_sub(&running, 1);
}

static void start(void)
{
	atomic_store(&most, 0);
	atomic_store(&ended, 0);
	sem_init(&may_end, 0, 0);
	pool = (struct pool){0};
	if (pool_init(&pool, 4, run, NULL) < 0)
		abort();
}

static void add(unsigned i, enum disk_op op)
{
	reqs[i] = (struct disk_req){.op = op, .done = done};
	pool_add(&pool, &reqs[i]);
}

/* Who gets no core for 10 ms is taken to sleep: so on a busy host it may have to be tried again. */
#define TRIES 50

static void test_one(void)
{
	unsigned n = 0;

	do {
		start();
		for (unsigned i = 0; i < N; i++)
			add(i, DISK_WRITE);
		pool_drain(&pool);
		pool_fini(&pool);
	} while (atomic_load(&most) != 1 && ++n < TRIES);
	is_int((long)atomic_load(&ended), N, "all that work are done");
	is_int((long)atomic_load(&most), 1, "one after the other");
}

/* Three of four threads wait, for what comes behind them: nothing would ever end if the fourth did not work. */
static void test_others(void)
{
	unsigned n = 0;

	do {
		start();
		for (unsigned i = 0; i < 3; i++)
			add(i, DISK_READ);
		for (unsigned i = 3; i < N; i++)
			add(i, DISK_WRITE);
		while (atomic_load(&ended) < N - 3)
			sched_yield();
		for (unsigned i = 0; i < 3; i++)
			sem_post(&may_end);
		pool_drain(&pool);
		pool_fini(&pool);
	} while (atomic_load(&most) != 1 && ++n < TRIES);
	is_int((long)atomic_load(&most), 1, "while some wait others are done, one after the other");
	is_int((long)atomic_load(&ended), N, "and those that wait, too, in the end");
}

/* The same where nobody says that they wait: one after the other they are found to. */
static void test_sleepers(void)
{
	start();
	for (unsigned i = 0; i < 3; i++)
		add(i, DISK_ZERO);
	for (unsigned i = 3; i < N; i++)
		add(i, DISK_WRITE);
	while (atomic_load(&ended) < N - 3)
		sched_yield();
	ok(true, "while some sleep others are done");
	add(3, DISK_WRITE);
	while (atomic_load(&ended) < N - 2)
		sched_yield();
	ok(true, "those that come later, too");
	for (unsigned i = 0; i < 3; i++)
		sem_post(&may_end);
	for (unsigned i = 3; i < N; i++)
		add(i, DISK_WRITE);
	pool_drain(&pool);
	is_int((long)atomic_load(&ended), 2 * N - 2, "and those that sleep, in the end");
	pool_fini(&pool);
}

/* Those that wait and those that work, and now and then one that is to be alone. */
static void test_mixed(void)
{
	start();
	for (unsigned i = 0; i < N; i++) {
		reqs[i] = (struct disk_req){.op = i % 3 ? DISK_FLUSH : DISK_WRITE, .done = done, .alone = i % 50 == 7};
		pool_add(&pool, &reqs[i]);
	}
	pool_drain(&pool);
	is_int((long)atomic_load(&ended), N, "nobody is forgotten");
	pool_fini(&pool);
}

int main(void)
{
	test_one();
	test_others();
	test_sleepers();
	test_mixed();
	pool_wait();
	ok(true, "outside of a pool it says nothing to nobody");
	return done_testing();
}
