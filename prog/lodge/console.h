/* SPDX-License-Identifier: MIT */
/*
 * The way of console bytes from vCPU threads to stdout.
 *
 * The guest writes on a vCPU's thread, with a device's lock held, and must not wait there for
 * a slow terminal. So bytes go into a ring, and the session's thread takes them out. When the
 * ring is full the device keeps its bytes, and the guest sees a busy transmitter.
 */
#ifndef LODGE_CONSOLE_H
#define LODGE_CONSOLE_H

#include "loop/loop.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONSOLE_RING 65536

struct console {
	pthread_mutex_t lock;
	uint8_t ring[CONSOLE_RING];
	size_t head, used; /* the oldest byte, and how many there are */
	size_t seen;       /* of these, by console_peek(): who has seen all is woken for more */
	bool starved;      /* the device has more */
	bool roomy;        /* the guest takes input again */
	struct loop_timer call; /* of the session: look at console_peek() and console_roomy() */

	/* The session's thread only. */
	char line[160];
	size_t line_len;
	bool panic_seen; /* since the boot */
};

/* Of a zeroed one. */
void console_init(struct console *c, struct loop *loop);
void console_fini(struct console *c);

/* Who is called in the loop's thread when one of the two has changed, or console_wake() was. Before the loop runs. */
void console_listen(struct console *c, void (*changed)(void *ctx), void *ctx);

/* For struct machine_console; ctx is a struct console. */
size_t console_put(void *ctx, const uint8_t *bytes, size_t n);
void console_input_room(void *ctx);

/* Wakes the session for something that is not the console's. Any thread. */
void console_wake(struct console *c);

/* The oldest bytes, at most max, without removing them. */
size_t console_peek(struct console *c, uint8_t *bytes, size_t max);

/* Removes n bytes; true if the device waits to hear of it. */
bool console_drop(struct console *c, size_t n);

/* Whether console_input_room() was called since the last time. */
bool console_roomy(struct console *c);

/* Looks for a kernel panic in what is written out: what it says if it is the first since the boot,
 * else NULL. It is valid until the next call. */
const char *console_watch(struct console *c, const uint8_t *bytes, size_t n);
void console_booted(struct console *c);

#endif
