/* SPDX-License-Identifier: MIT */
/*
 * The ring between vCPU threads and stdout, and the ear for kernel panics.
 *
 * One deferred call wakes the session for both directions. It is made when there is more than the session has
 * seen (nothing, or a frame that is not whole), not for each byte: a kernel writes its console byte by byte.
 *
 * Panics. A line with "Kernel panic - not syncing: " is worth a notice, for who waits for a guest
 * that will do nothing more. It decides nothing: a guest may print an old log, and a crash kernel
 * may be about to start.
 */
#include "console.h"

#include <string.h>

#define PANIC_WORDS "Kernel panic - not syncing: "

static void not_heard(void *ctx)
{
	(void)ctx;
}

void console_init(struct console *c, struct loop *loop)
{
	pthread_mutex_init(&c->lock, NULL);
	loop_timer_init(&c->call, loop, not_heard, NULL);
}

void console_listen(struct console *c, void (*changed)(void *ctx), void *ctx)
{
	c->call.fire = changed;
	c->call.ctx = ctx;
}

void console_fini(struct console *c)
{
	loop_timer_fini(&c->call);
	pthread_mutex_destroy(&c->lock);
}

void console_wake(struct console *c)
{
	loop_call(&c->call);
}

size_t console_put(void *ctx, const uint8_t *bytes, size_t n)
{
	struct console *c = ctx;
	bool was_seen;

	pthread_mutex_lock(&c->lock);
	was_seen = c->used <= c->seen;
	if (n > CONSOLE_RING - c->used) {
		n = CONSOLE_RING - c->used;
		c->starved = true;
	}
	for (size_t i = 0; i < n; i++)
		c->ring[(c->head + c->used + i) % CONSOLE_RING] = bytes[i];
	c->used += n;
	pthread_mutex_unlock(&c->lock);
	if (was_seen && n)
		console_wake(c);
	return n;
}

void console_input_room(void *ctx)
{
	struct console *c = ctx;

	pthread_mutex_lock(&c->lock);
	c->roomy = true;
	pthread_mutex_unlock(&c->lock);
	console_wake(c);
}

size_t console_peek(struct console *c, uint8_t *bytes, size_t max)
{
	size_t n;

	pthread_mutex_lock(&c->lock);
	n = c->used < max ? c->used : max;
	for (size_t i = 0; i < n; i++)
		bytes[i] = c->ring[(c->head + i) % CONSOLE_RING];
	c->seen = n;
	pthread_mutex_unlock(&c->lock);
	return n;
}

bool console_drop(struct console *c, size_t n)
{
	bool waits;

	pthread_mutex_lock(&c->lock);
	c->head = (c->head + n) % CONSOLE_RING;
	c->used -= n;
	c->seen -= n < c->seen ? n : c->seen;
	waits = c->starved && n;
	if (waits)
		c->starved = false;
	pthread_mutex_unlock(&c->lock);
	return waits;
}

bool console_roomy(struct console *c)
{
	bool roomy;

	pthread_mutex_lock(&c->lock);
	roomy = c->roomy;
	c->roomy = false;
	pthread_mutex_unlock(&c->lock);
	return roomy;
}

/* The first is the reason; "end Kernel panic" repeats it. */
static const char *end_of_line(struct console *c)
{
	const char *words;

	c->line[c->line_len] = 0;
	c->line_len = 0;
	words = strstr(c->line, PANIC_WORDS);
	c->panic_seen = words != NULL;
	return words;
}

const char *console_watch(struct console *c, const uint8_t *bytes, size_t n)
{
	const char *words = NULL;

	for (size_t i = 0; i < n && !c->panic_seen; i++) {
		if (bytes[i] == '\n' || bytes[i] == '\r')
			words = end_of_line(c);
		else if (c->line_len < sizeof(c->line) - 1)
			c->line[c->line_len++] = (bytes[i] >= ' ' && bytes[i] < 127)
				? (char)bytes[i] : '?';
	}
	return words;
}

void console_booted(struct console *c)
{
	c->panic_seen = false;
	c->line_len = 0;
}
