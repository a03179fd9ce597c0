/* SPDX-License-Identifier: MIT */
/*
 * The event loop: one thread waits for everything that is neither a guest instruction nor blocking work.
 *
 *	struct loop *loop;
 *	rc = loop_create(&loop, &err);
 *	loop_add(loop, &stdin_source);
 *	loop_timer_init(&rtc->timer, loop, tick, rtc);
 *	...
 *	while (!over)
 *		loop_once(loop);
 *
 * A *source* is a descriptor, or a time, or both, that its owner waits for. It is asked before each wait what that is now: so what
 * is waited for follows from the owner's state, and nobody forgets to say that it has changed. Sources belong to the loop's thread.
 *
 * A *timer* is what other threads can set: a device's, by a vCPU that writes a register. It goes off once, in the loop's thread. A
 * deferred call is a timer whose time has come already. One that sets itself again goes off after all others have had their turn, so work
 * without an end is done in pieces by that.
 *
 * Times are nanoseconds of CLOCK_MONOTONIC.
 */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <poll.h>
#include <stdint.h>

struct err;
struct loop;

#define LOOP_NEVER UINT64_MAX

struct loop_source {
	/* Fills in fd and events, if it waits for a descriptor, and returns until when it waits at most. Changes nothing that another
	 * source is asked for. */
	uint64_t (*prepare)(void *ctx, struct pollfd *p);
	/* poll() said p->revents, or (that is 0) its time has come. Timers and earlier sources have been served since it was asked: p->fd is
	 * what it waited for. */
	void (*serve)(void *ctx, const struct pollfd *p);
	void *ctx;
};

struct loop_timer {
	void (*fire)(void *ctx); /* no lock is held; it may set the timer again */
	void *ctx;
	/* the loop's */
	struct loop *loop; /* NULL: it was never made, and can be set and ended all the same */
	struct loop_timer *next;
	uint64_t at, round; /* when it is to go off; the last round in which it has */
};

/* -ENOMEM, -EMFILE, ... with err. */
int loop_create(struct loop **loop, struct err *err);
void loop_destroy(struct loop *loop); /* its timers have ended, or are not set any more; NULL is fine */

/* Sources are served in the order in which they were added. Not from prepare(); one that is added while others are served is asked before
 * the next wait, and one that is removed is not served any more. 0 or -ENOMEM; removing one that is not there is fine. */
int loop_add(struct loop *loop, const struct loop_source *source);
void loop_remove(struct loop *loop, const struct loop_source *source);

/* Waits until something has happened, and serves what has: timers, then sources. Signals do not end the wait, but it may return
 * with nothing done. */
void loop_once(struct loop *loop);

/* The time. */
uint64_t loop_now(void);

/* The loop's thread, or before and after that runs. After fini() it does not go off. */
void loop_timer_init(struct loop_timer *t, struct loop *loop, void (*fire)(void *ctx), void *ctx);
void loop_timer_fini(struct loop_timer *t);

/* Any thread, with any lock held that fire() does not hold while it sets a timer. `at`: LOOP_NEVER stops it, what is in the past is
 * as soon as possible. Set from another thread it may go off once more for what it was set to before. */
void loop_timer_set(struct loop_timer *t, uint64_t at);

/* fire() is called soon, once. Any thread. */
static inline void loop_call(struct loop_timer *t)
{
	loop_timer_set(t, 0);
}

#endif
