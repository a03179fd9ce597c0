/* SPDX-License-Identifier: MIT */
/*
 * See loop.h. A round is
 *
 *	ask each source -> ppoll() until the earliest time -> timers that are due -> sources that are
 *
 * ppoll() and not epoll: there are a few dozen descriptors at most, and what is waited for changes as often as something happens
 * (a terminal is read while there is room, written while there are bytes). With epoll each change is a system call, and one that
 * is forgotten a guest that hangs; here it is a field of an array. Who has hundreds of descriptors, as a network of our own might,
 * has an epoll descriptor of them as one source. And ppoll() has nanoseconds: an RTC's period can be 122 us.
 *
 * Timers are few, too: a list, in no order. It is all that other threads touch, and what the lock is for. A timer that is set to
 * earlier than the loop sleeps rings an eventfd; `wakes` is when it will wake by itself, 0 while it is awake and looks again
 * anyway.
 *
 * Lock order: a device's lock, then the loop's. fire() is called with neither.
 */
#include "loop/loop.h"

#include "base/err.h"
#include "base/scoped.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)

struct entry {
	const struct loop_source *source; /* NULL: it was removed, and its place is taken away before the next wait */
	uint64_t until;
	unsigned poll; /* of polls; NO_POLL: it waits for no descriptor */
};

#define NO_POLL UINT32_MAX

struct loop {
	int bell; /* an eventfd */
	unsigned n, n_polls;
	struct entry *entries;
	struct pollfd *polls; /* of the bell, and of entries: as many as there are, for ppoll() takes no more than
			       * the process may have descriptors */
	pthread_mutex_t lock; /* of all below */
	struct loop_timer *timers;
	uint64_t wakes, round;
};

uint64_t loop_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

/* -- Making and unmaking ----------------------------------------------------------------- */

int loop_create(struct loop **out, struct err *err)
{
	struct loop *loop = calloc(1, sizeof(*loop));
	int error;

	*out = NULL;
	if (!loop || !(loop->polls = malloc(sizeof(*loop->polls)))) {
		free(loop);
		return err_set(err, ENOMEM, "no memory for an event loop");
	}
	loop->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (loop->bell < 0) {
		error = errno;
		free(loop->polls);
		free(loop);
		return err_sys(err, error, "an eventfd");
	}
	pthread_mutex_init(&loop->lock, NULL);
	*out = loop;
	return 0;
}

void loop_destroy(struct loop *loop)
{
	if (!loop)
		return;
	close(loop->bell);
	pthread_mutex_destroy(&loop->lock);
	free(loop->entries);
	free(loop->polls);
	free(loop);
}

int loop_add(struct loop *loop, const struct loop_source *source)
{
	struct entry *entries = realloc(loop->entries, (loop->n + 1) * sizeof(*entries));
	struct pollfd *polls;

	if (!entries)
		return -ENOMEM;
	loop->entries = entries;
	polls = realloc(loop->polls, (loop->n + 2) * sizeof(*polls));
	if (!polls)
		return -ENOMEM;
	loop->polls = polls;
	entries[loop->n++].source = source;
	return 0;
}

void loop_remove(struct loop *loop, const struct loop_source *source)
{
	unsigned i = 0;

	while (i < loop->n && loop->entries[i].source != source)
		i++;
	if (i < loop->n)
		loop->entries[i].source = NULL;
}

static void close_gaps(struct loop *loop)
{
	unsigned n = 0;

	for (unsigned i = 0; i < loop->n; i++)
		if (loop->entries[i].source)
			loop->entries[n++] = loop->entries[i];
	loop->n = n;
}

/* -- Timers ------------------------------------------------------------------------------ */

void loop_timer_init(struct loop_timer *t, struct loop *loop, void (*fire)(void *ctx), void *ctx)
{
	*t = (struct loop_timer){.fire = fire, .ctx = ctx, .loop = loop, .at = LOOP_NEVER};
	scoped_lock(&loop->lock);
	t->next = loop->timers;
	loop->timers = t;
}

void loop_timer_fini(struct loop_timer *t)
{
	struct loop_timer **link;

	if (!t->loop)
		return;
	scoped_lock(&t->loop->lock);
	for (link = &t->loop->timers; *link != t; link = &(*link)->next)
		;
	*link = t->next;
	t->loop = NULL;
}

static void ring(const struct loop *loop)
{
	uint64_t one = 1;

	if (write(loop->bell, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort(); /* an eventfd of ours can only be full */
}

void loop_timer_set(struct loop_timer *t, uint64_t at)
{
	struct loop *loop = t->loop;

	if (!loop)
		return;
	scoped_lock(&loop->lock);
	t->at = at;
	if (at >= loop->wakes)
		return;
	loop->wakes = 0; /* once is enough */
	ring(loop);
}

/* The earliest whose time has come, and which has not gone off in this round; it does now. NULL: none. */
static struct loop_timer *take_due(struct loop *loop, uint64_t now)
{
	struct loop_timer *due = NULL;

	scoped_lock(&loop->lock);
	loop->wakes = 0;
	for (struct loop_timer *t = loop->timers; t; t = t->next)
		if (t->at <= now && t->round != loop->round && (!due || t->at < due->at))
			due = t;
	if (due) {
		due->at = LOOP_NEVER;
		due->round = loop->round;
	}
	return due;
}

static void fire_timers(struct loop *loop)
{
	uint64_t now = loop_now();
	struct loop_timer *t;

	loop->round++; /* only this thread looks */
	while ((t = take_due(loop, now)))
		t->fire(t->ctx);
}

/* -- A round ----------------------------------------------------------------------------- */

static uint64_t ask(struct loop *loop)
{
	uint64_t until = LOOP_NEVER;

	close_gaps(loop);
	loop->polls[0] = (struct pollfd){.fd = loop->bell, .events = POLLIN};
	loop->n_polls = 1;
	for (unsigned i = 0; i < loop->n; i++) {
		struct entry *e = &loop->entries[i];
		struct pollfd p = {.fd = -1};

		e->until = e->source->prepare(e->source->ctx, &p);
		if (e->until < until)
			until = e->until;
		e->poll = p.fd >= 0 ? loop->n_polls : NO_POLL;
		if (p.fd >= 0)
			loop->polls[loop->n_polls++] = p;
	}
	return until;
}

/* From here on who sets a timer to before that rings. */
static uint64_t plan_sleep(struct loop *loop, uint64_t until)
{
	scoped_lock(&loop->lock);
	for (const struct loop_timer *t = loop->timers; t; t = t->next)
		if (t->at < until)
			until = t->at;
	loop->wakes = until;
	return until;
}

static void sleep_until(struct loop *loop, uint64_t until)
{
	uint64_t now = until == LOOP_NEVER ? 0 : loop_now(), left = until > now ? until - now : 0;
	struct timespec ts = {(time_t)(left / SECOND), (long)(left % SECOND)};

	if (ppoll(loop->polls, loop->n_polls, until == LOOP_NEVER ? NULL : &ts, NULL) > 0)
		return;
	for (unsigned i = 0; i < loop->n_polls; i++) /* a signal, or the time */
		loop->polls[i].revents = 0;
}

static void hush(struct loop *loop)
{
	uint64_t count;

	if (loop->polls[0].revents && read(loop->bell, &count, sizeof(count)) < 0 && errno != EAGAIN)
		abort();
}

/* Copies: what is served may add others, and then the arrays are elsewhere. */
static void serve(const struct loop *loop, struct entry e, uint64_t now)
{
	const struct pollfd p = e.poll == NO_POLL ? (struct pollfd){.fd = -1} : loop->polls[e.poll];

	if (e.source && (p.revents || e.until <= now))
		e.source->serve(e.source->ctx, &p);
}

void loop_once(struct loop *loop)
{
	uint64_t now;
	unsigned n;

	sleep_until(loop, plan_sleep(loop, ask(loop)));
	hush(loop);
	n = loop->n; /* were asked */
	fire_timers(loop);
	now = loop_now();
	for (unsigned i = 0; i < n; i++)
		serve(loop, loop->entries[i], now);
}
