/* SPDX-License-Identifier: MIT */
/*
 * What an error's number means: to scripts an exit code, to programs at the control socket a word.
 *
 *	kind        errno               exit
 *	usage       ERANGE              2     what was asked for makes no sense
 *	not-found   ENOENT              3     a file, a guest
 *	conflict    EBUSY, EAGAIN       4     somebody else has it, or its state does not allow it
 *	engine      ENODEV              5     no engine can be used
 *	guest       ESHUTDOWN           1     it has ended, or does not do its part
 *	host        all others          1     what this computer could not do
 */
#ifndef LODGE_FAILURE_H
#define LODGE_FAILURE_H

struct err;

/* The sentence of err on stderr, and the exit code that its number stands for. */
int report_failure(const struct err *err);

/* The word for a number, and a number that a word stands for. */
const char *failure_kind(int code);
int failure_code(const char *kind);

#endif
