/* SPDX-License-Identifier: MIT */
/*
 * One-line notices for the person at the terminal, on stderr.
 *
 *	log_note("engine", "soft, because /dev/kvm does not exist");
 *
 * prints "lodge: engine: soft, because /dev/kvm does not exist". A line is written by one
 * write(), so lines of several threads do not mix; one that stderr has no room for, for a second,
 * is lost, so a notice never holds up a guest's end. Results of a command are not notices:
 * they go to stdout. Nor are errors: a library returns them (base/err.h).
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>

/* Something a user wants to know once. */
void log_note(const char *component, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Something is not as it should be, and we go on: "lodge: warning: disk: ...". */
void log_warn(const char *component, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* A line as it is, with its end. False: it was lost. */
bool log_line(const char *line);

#endif
