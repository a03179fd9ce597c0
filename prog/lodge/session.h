/* SPDX-License-Identifier: MIT */
/*
 * A session: a machine, and with it a person, a pipe or nobody at its console, and who asks at its
 * control socket.
 */
#ifndef LODGE_SESSION_H
#define LODGE_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct console;
struct control;
struct err;
struct machine;
struct machine_config;

struct session {
	struct machine *machine;
	const struct machine_config *config; /* that it was made of */
	struct console *console; /* that the machine writes to */
	struct control *control; /* or NULL */
	const char *name;        /* or NULL */
	int signals;             /* a signalfd */
	int output;              /* terminal_output() */
	bool no_reboot;          /* a reset ends the session, and so does a panic */
	bool paused;             /* the machine does not run until somebody says so */
	bool saved;              /* it was ended because it is in a file */
	int64_t began;           /* session_now_ms() */
	/* What the guest said since the session looked. */
	atomic_bool panicked, crash_kernel;
};

/* CLOCK_MONOTONIC. */
int64_t session_now_ms(void);

/* Signals that end a session; blocked from here on in this thread and those it makes. Returns
 * a signalfd, or -errno. Call it before the first thread is made. */
int session_signals(void);

/* For struct machine_panic; ctx is a struct session. */
void session_panic(void *ctx, bool crash_kernel);

/* Runs the machine until it is over, through resets. Returns the program's exit code. */
int session_run(struct session *s);

/* For who asks at the control socket. A paused machine takes no input; what comes waits. */
int session_pause(struct session *s, struct err *err);
int session_resume(struct session *s, struct err *err);

#endif
