/* SPDX-License-Identifier: MIT */
/*
 * A guest that says "lodge" and echoes what its serial port brings, until 'q' (board_guest.S), and what it has said.
 *
 *	static struct echo e;
 *	... .kernel = path, .cmdline = "e", .console = {.output = echo_put, .ctx = &e} ...
 *	echo_wait(&e, 6);
 *	ok(echo_back(&e, m, "one"), "it answers");
 */
#ifndef MACHINE_TESTS_ECHO_H
#define MACHINE_TESTS_ECHO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct machine;

struct echo {
	char said[256]; /* a string */
	atomic_size_t n;
};

/* For struct machine_console. */
size_t echo_put(void *echo, const uint8_t *bytes, size_t n);

/* Writes the kernel. */
bool echo_kernel(const char *path);

/* Until the guest has said so many bytes. */
void echo_wait(const struct echo *e, size_t n);

/* Until it took all; a paused one may never. */
void echo_say(struct machine *m, const char *text);

/* Whether it says that, and nothing else. */
bool echo_back(struct echo *e, struct machine *m, const char *text);

#endif
