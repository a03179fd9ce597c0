/* SPDX-License-Identifier: MIT */
/*
 * Processes beside lodge: what reads from the network does it in one of its own, and what lodge would be linked with for it costs
 * other starts nothing.
 *
 * Each function returns a socket, whose other end such a process has as its standard input, or -errno with a sentence. It ends when that is
 * closed; nobody waits for it.
 */
#ifndef LODGE_BESIDE_H
#define LODGE_BESIDE_H

#include <limits.h>

struct err;

/* What a shell's command reads and writes. What becomes of it, the stream tells. */
int beside_shell(const char *command, struct err *err);

/* Where a program of ours is: beside us, or where it was installed. */
const char *beside_program(char path[PATH_MAX], const char *name);

#define BESIDE_GIVEN 3

/* A program of ours, by its name, with these words (that end with NULL); `given` is its descriptor BESIDE_GIVEN, if it is not -1, and stays
 * the caller's. Meanwhile one may do something else; *says is for beside_hear(). */
int beside_start(const char *name, const char *const words[], int given, int *says, struct err *err);

/* Waits until it has said that it is ready, or why it is not: 0 or -errno. `says` is closed. */
int beside_hear(int says, const char *name, struct err *err);

/* For such a program: says so. */
void beside_answer(const struct err *err);

#endif
