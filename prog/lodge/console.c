/* SPDX-License-Identifier: MIT */
/*
 * The ring between vCPU threads and stdout, and the ear for kernel panics.
 *
 * One eventfd wakes the session for both directions. It is rung when the ring stops being
 * empty, not for each byte: a kernel writes its console byte by byte.
 *
 * Panics. A stock kernel has no device to report one by before its modules are loaded, so we
 * read what it says: a line with "Kernel panic - not syncing: ". This alone ends nothing,
 * since a guest may print an old log. Only when a reset follows within PANIC_SECONDS and
 * nobody typed anything in between is that reset called a panic; and a reset is what a
 * kernel with panic=-1 does.
 */
#include "console.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PANIC_WORDS "Kernel panic - not syncing: "
#define PANIC_SECONDS 15

int console_init(struct console *c)
{
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	c->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return c->fd >= 0 ? 0 : -errno;
}

void console_fini(struct console *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	pthread_mutex_destroy(&c->lock);
}

static void ring_bell(const struct console *c)
{
	uint64_t one = 1;
	ssize_t n = write(c->fd, &one, sizeof(one));

	(void)n; /* it can only fail when it has been rung 2^64 times already */
}

size_t console_put(void *ctx, const uint8_t *bytes, size_t n)
{
	struct console *c = ctx;
	bool was_empty;

	pthread_mutex_lock(&c->lock);
	was_empty = c->used == 0;
	if (n > CONSOLE_RING - c->used) {
		n = CONSOLE_RING - c->used;
		c->starved = true;
	}
	for (size_t i = 0; i < n; i++)
		c->ring[(c->head + c->used + i) % CONSOLE_RING] = bytes[i];
	c->used += n;
	pthread_mutex_unlock(&c->lock);
	if (was_empty && n)
		ring_bell(c);
	return n;
}

void console_input_room(void *ctx)
{
	struct console *c = ctx;

	pthread_mutex_lock(&c->lock);
	c->roomy = true;
	pthread_mutex_unlock(&c->lock);
	ring_bell(c);
}

void console_hush(struct console *c)
{
	uint64_t count;
	ssize_t n = read(c->fd, &count, sizeof(count));

	(void)n; /* it may have been silent */
}

size_t console_peek(struct console *c, uint8_t *bytes, size_t max)
{
	size_t n;

	pthread_mutex_lock(&c->lock);
	n = c->used < max ? c->used : max;
	for (size_t i = 0; i < n; i++)
		bytes[i] = c->ring[(c->head + i) % CONSOLE_RING];
	pthread_mutex_unlock(&c->lock);
	return n;
}

bool console_drop(struct console *c, size_t n)
{
	bool waits;

	pthread_mutex_lock(&c->lock);
	c->head = (c->head + n) % CONSOLE_RING;
	c->used -= n;
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

static time_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec;
}

static void end_of_line(struct console *c)
{
	const char *words;

	c->line[c->line_len] = 0;
	words = strstr(c->line, PANIC_WORDS);
	/* The first is the reason; "end Kernel panic" repeats it. */
	if (words && !c->panic[0]) {
		memcpy(c->panic, words, strlen(words) + 1);
		c->panic_at = now();
	}
	c->line_len = 0;
}

void console_watch(struct console *c, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (bytes[i] == '\n' || bytes[i] == '\r')
			end_of_line(c);
		else if (c->line_len < sizeof(c->line) - 1)
			c->line[c->line_len++] = (bytes[i] >= ' ' && bytes[i] < 127)
				? (char)bytes[i] : '?';
	}
}

const char *console_panic(const struct console *c)
{
	return c->panic[0] && now() - c->panic_at <= PANIC_SECONDS ? c->panic : NULL;
}

void console_forget_panic(struct console *c)
{
	c->panic[0] = 0;
}
