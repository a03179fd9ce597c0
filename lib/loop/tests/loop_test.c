/* SPDX-License-Identifier: MIT */
/* The event loop: what is waited for, in which order it is served, and timers that other threads set. */
#include "base/err.h"
#include "loop/loop.h"
#include "tests/tap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

static struct loop *loop;
static char said[64]; /* who was served, a letter each */

static void say(char who)
{
	size_t n = strlen(said);

	if (n < sizeof(said) - 1)
		said[n] = who;
}

static void hush(void)
{
	memset(said, 0, sizeof(said));
}

/* -- Sources ------------------------------------------------------------------------------ */

struct end {
	struct loop_source source;
	char name;
	int fd;
	short events;
	uint64_t until;
	struct pollfd was;
};

static uint64_t prepare(void *ctx, struct pollfd *p)
{
	const struct end *e = ctx;

	p->fd = e->fd;
	p->events = e->events;
	return e->until;
}

static void serve(void *ctx, const struct pollfd *p)
{
	struct end *e = ctx;

	e->was = *p;
	say(e->name);
}

static struct end make_end(char name, int fd, short events)
{
	return (struct end){.name = name, .fd = fd, .events = events, .until = LOOP_NEVER};
}

static void add(struct end *e)
{
	e->source = (struct loop_source){prepare, serve, e};
	loop_add(loop, &e->source);
}

static void test_sources(void)
{
	struct end a = make_end('a', -1, POLLIN), b = make_end('b', -1, POLLOUT), c = make_end('c', -1, 0);
	int p[2], q[2];

	if (!ok(pipe(p) == 0 && pipe(q) == 0, "pipes"))
		return;
	add(&a), add(&b), add(&c);
	b.fd = q[1];
	loop_once(loop);
	is_str(said, "b", "a pipe that can be written is served, others are not");
	is_int(b.was.revents, POLLOUT, "with what poll() said");

	a.fd = p[0];
	ok(write(p[1], "x", 1) == 1, "a byte");
	hush(), loop_once(loop);
	is_str(said, "ab", "in the order in which they were added");

	b.fd = -1;
	hush(), loop_once(loop);
	is_str(said, "a", "what is not waited for any more is not served");

	a.fd = -1;
	c.until = loop_now() + 2 * MS;
	hush();
	while (!said[0])
		loop_once(loop);
	ok(!strcmp(said, "c") && loop_now() >= c.until, "a time is waited for, and not less");
	is_int(c.was.revents, 0, "and is told from a descriptor");

	c.until = LOOP_NEVER;
	c.fd = p[0];
	close(p[1]);
	hush(), loop_once(loop);
	is_int(c.was.revents, POLLHUP, "who waits for nothing of a descriptor hears that the other end has gone");

	b.fd = q[1];
	loop_remove(loop, &c.source);
	hush(), loop_once(loop);
	is_str(said, "b", "a source that was removed is not served, those around it are");
	loop_remove(loop, &a.source), loop_remove(loop, &b.source);
	loop_remove(loop, &a.source);
	close(p[0]), close(q[0]), close(q[1]);
}

/* ppoll() refuses more than the process may have open. */
static void test_many(void)
{
	static struct end many[100];
	struct rlimit limit, few = {32, 0};

	getrlimit(RLIMIT_NOFILE, &limit);
	few.rlim_max = limit.rlim_max;
	for (unsigned i = 0; i < 100; i++) {
		many[i] = make_end('m', -1, POLLIN);
		add(&many[i]);
	}
	many[99].until = 0;
	setrlimit(RLIMIT_NOFILE, &few);
	many[98].fd = dup(1);
	many[98].events = POLLOUT;
	many[98].name = 'n';
	hush(), loop_once(loop);
	is_str(said, "nm", "a hundred sources where 32 descriptors may be open");
	is_int(many[98].was.fd, many[98].fd, "each has its own descriptor's answer");
	setrlimit(RLIMIT_NOFILE, &limit);
	close(many[98].fd);
	for (unsigned i = 0; i < 100; i++)
		loop_remove(loop, &many[i].source);
}

/* -- Timers ------------------------------------------------------------------------------- */

struct clock {
	struct loop_timer timer;
	char name;
	uint64_t next; /* what it sets itself to; 0: it does not */
	uint64_t fired_at;
};

static void fire(void *ctx)
{
	struct clock *c = ctx;

	c->fired_at = loop_now();
	say(c->name);
	if (c->next)
		loop_timer_set(&c->timer, c->next);
}

static void make_clock(struct clock *c, char name)
{
	*c = (struct clock){.name = name};
	loop_timer_init(&c->timer, loop, fire, c);
}

static void test_timers(void)
{
	struct loop_timer none = {0};
	struct clock a, b;
	uint64_t at;

	hush();
	make_clock(&a, 'a'), make_clock(&b, 'b');
	at = loop_now() + 3 * MS;
	loop_timer_set(&a.timer, at);
	loop_timer_set(&b.timer, at + MS);
	while (strlen(said) < 2)
		loop_once(loop);
	is_str(said, "ab", "two timers go off, the earlier one first");
	ok(a.fired_at >= at && b.fired_at >= at + MS, "neither too early");

	hush();
	loop_timer_set(&a.timer, 1);
	loop_timer_set(&b.timer, 2);
	loop_once(loop);
	loop_timer_set(&a.timer, 2);
	loop_timer_set(&b.timer, 1);
	loop_once(loop);
	is_str(said, "abba", "also if both times are past");

	hush();
	loop_timer_set(&a.timer, loop_now() + MS);
	loop_timer_set(&a.timer, LOOP_NEVER);
	loop_timer_set(&b.timer, loop_now() + 3 * MS);
	while (!said[0])
		loop_once(loop);
	is_str(said, "b", "one that was stopped does not");

	hush();
	loop_call(&a.timer);
	loop_call(&a.timer);
	loop_once(loop);
	loop_timer_set(&b.timer, loop_now() + MS);
	while (said[strlen(said) - 1] != 'b')
		loop_once(loop);
	is_str(said, "ab", "a deferred call is made once, however often it was asked for");

	loop_timer_fini(&b.timer);
	loop_timer_fini(&b.timer);
	loop_timer_set(&b.timer, 0);
	loop_timer_set(&none, 0);
	loop_timer_fini(&none);
	hush();
	loop_call(&a.timer);
	loop_once(loop);
	is_str(said, "a", "one that has ended can be set, and does nothing");
	loop_timer_fini(&a.timer);
}

/* One that is always due leaves others their turn. */
static void test_busy(void)
{
	struct end e = make_end('e', -1, POLLIN);
	struct clock a;

	make_clock(&a, 'a');
	add(&e);
	e.until = 0;
	a.next = 1;
	hush();
	loop_call(&a.timer);
	loop_once(loop);
	is_str(said, "ae", "a timer that is always due goes off once, and then sources are served");
	is_int(e.was.fd, -1, "as ever");
	a.next = 0;
	loop_once(loop);
	loop_remove(loop, &e.source);
	loop_timer_fini(&a.timer);
}

/* -- Other threads ------------------------------------------------------------------------ */

#define ROUNDS 20000u

static struct loop_timer bell;
static _Atomic unsigned rung, heard;
static bool early;

static void hear(void *ctx)
{
	(void)ctx;
	heard = rung;
}

/* Rings, now soon and now at once, and goes on when that was heard. */
static void *ring(void *arg)
{
	(void)arg;
	for (unsigned i = 1; i <= ROUNDS; i++) {
		uint64_t at = i % 2 ? 0 : loop_now() + 1000;

		rung = i;
		loop_timer_set(&bell, at);
		while (heard < i)
			;
		early |= loop_now() < at;
	}
	return NULL;
}

/* -- Others come and go while one is served ------------------------------------------ */

static struct end victim, comers[32];

static void turn_over(void *ctx, const struct pollfd *p)
{
	(void)ctx;
	loop_remove(loop, &victim.source);
	for (unsigned i = 0; i < 32; i++) {
		comers[i] = make_end('n', -1, 0);
		comers[i].until = 0;
		add(&comers[i]);
	}
	say(p->revents == POLLOUT ? 't' : '?');
}

static void test_turnover(void)
{
	struct end first = make_end('f', -1, POLLOUT), last = make_end('l', -1, 0);
	unsigned n = 0;
	int p[2];

	if (!ok(pipe(p) == 0, "a pipe"))
		return;
	victim = make_end('v', -1, 0);
	victim.until = last.until = 0;
	first.fd = p[1];
	add(&first), add(&victim), add(&last);
	first.source.serve = turn_over;
	hush(), loop_once(loop);
	is_str(said, "tl", "of two that are due the one that was removed is not served, and those that came are not asked yet");
	loop_remove(loop, &first.source);
	hush(), loop_once(loop);
	for (const char *s = said; *s; s++)
		n += *s == 'n';
	ok(said[0] == 'l' && n == 32, "but in the next round");
	for (unsigned i = 0; i < 32; i++)
		loop_remove(loop, &comers[i].source);
	loop_remove(loop, &last.source);
	close(p[0]);
	close(p[1]);
}

static void test_threads(void)
{
	pthread_t thread;

	loop_timer_init(&bell, loop, hear, NULL);
	pthread_create(&thread, NULL, ring, NULL);
	while (heard < ROUNDS)
		loop_once(loop);
	pthread_join(thread, NULL);
	is_int(heard, ROUNDS, "no call from another thread is lost, while the loop sleeps or does not");
	ok(!early, "and none comes early");
	loop_timer_fini(&bell);
}

int main(void)
{
	struct err err = {0};

	if (!ok(loop_create(&loop, &err) == 0, "a loop %s", err.text))
		return done_testing();
	test_sources();
	test_many();
	test_turnover();
	test_timers();
	test_busy();
	test_threads();
	loop_destroy(loop);
	loop_destroy(NULL);
	return done_testing();
}
