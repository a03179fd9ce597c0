/* SPDX-License-Identifier: MIT */
/*
 * The second wall: a process that runs a guest shuts itself in, so that who gets out of the engine is
 * still nowhere. docs/why/sandbox.md has the argument; calls.def says what is left to whom.
 *
 *	sandbox_prepare();                         before the first thread, and before any file is opened
 *	...                                        open files, choose an engine, make the machine
 *	sandbox_enter(&config, missing);           before the first instruction of the guest
 *	if (missing[0])
 *		log_note("sandbox", "here without %s", missing);
 *
 * Threads of base/thread.h that are started in between shut themselves in at their beginning, each by
 * its role; so do those that are started later.
 *
 * What the kernel does not have is done without, for a guest is to start anywhere; `missing` says what.
 * A forbidden call ends the process by SIGSYS, after a sentence on stderr.
 */
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

#include <stdbool.h>

#define SANDBOX_MISSING 256

struct sandbox_config {
	bool makes_code;         /* a reset may map new memory for translated code */
	const char *removes;     /* a directory in which the main thread may remove files; NULL: nowhere */
	void (*farewell)(void);  /* called before a forbidden call ends us, in a signal handler; or NULL */
};

/* No new privileges from here on, and the roles of threads count. */
void sandbox_prepare(void);

/* The calling thread is the role "main". `missing` is "" or what could not be had, and why. */
void sandbox_enter(const struct sandbox_config *config, char missing[SANDBOX_MISSING]);

/* For a program beside lodge, which has one thread: it may do what the role may from here on, reaches no file but those of one
 * directory, gains no privilege; a forbidden call ends it without a sentence. What could not be had is said on stderr. */
struct sandbox_needs {
	const char *reads[2]; /* files in these directories; NULL: none */
	const int *shares;  /* a directory that is open (by its name it may be out of reach already), and all in it, to be read and, if not
			     * `readonly`, written; NULL: none */
	bool readonly;
	bool network;      /* it makes connections */
};
void sandbox_alone(const char *role, const struct sandbox_needs *needs);

#endif
