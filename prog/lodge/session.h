/* SPDX-License-Identifier: MIT */
/*
 * A session: a running machine with a person, a pipe or nobody at its console.
 */
#ifndef LODGE_SESSION_H
#define LODGE_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>

struct console;
struct control;
struct err;
struct machine;

struct session {
	struct machine *machine;
	struct console *console; /* that the machine writes to */
	struct control *control; /* or NULL */
	int signals;             /* a signalfd */
	int output;              /* terminal_output() */
	bool no_reboot;          /* a reset ends the session, and so does a panic */
	/* What the guest said since the session looked. */
	atomic_bool panicked, crash_kernel;
};

/* Signals that end a session; blocked from here on in this thread and those it makes. Returns
 * a signalfd, or -errno. Call it before the first thread is made. */
int session_signals(void);

/* For struct machine_panic; ctx is a struct session. */
void session_panic(void *ctx, bool crash_kernel);

/* Runs the machine until it is over, through resets. Returns the program's exit code. */
int session_run(struct session *s);

#endif
