/* SPDX-License-Identifier: MIT */
/*
 * The terminal as the guest's serial console: raw while a guest has it, and given back as it
 * was, however the program ends.
 */
#ifndef LODGE_TERMINAL_H
#define LODGE_TERMINAL_H

#include <stdbool.h>

#define TERMINAL_ESCAPE 0x1d /* Ctrl-] */

/* Before an engine is opened: its own handlers of faults come before those of a crash. */
void terminal_prepare(void);

/* Makes stdin raw if it is a terminal of ours; whether it did. Again, after somebody else had the
 * terminal, is fine. */
bool terminal_take(void);

/* Where to write what is for stdout or stderr: to a terminal without ever waiting for it (a descriptor of
 * our own, for the caller to keep), otherwise that descriptor itself. */
int terminal_output(int fd);

/* Gives it back; nothing if it was not taken. */
void terminal_give_back(void);

/* A notice for the person in front, raw or not. */
void terminal_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
