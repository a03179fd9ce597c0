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

#include "parts.h"

struct console;
struct control;
struct disk_moment;
struct display;
struct err;
struct loop;
struct machine;
struct machine_config;
struct machine_fork;
struct migration;
struct migration_plan;

struct session {
	struct loop *loop;       /* of its thread; the machine's, too */
	struct machine *machine;
	const struct machine_config *config; /* that it was made of */
	const struct document *document; /* that this was made of; or NULL */
	const struct net_options *net;
	struct console *console; /* that the machine writes to */
	struct control *control; /* or NULL */
	struct display *display; /* where its screen is shown; or NULL */
	const char *name;        /* or NULL */
	int signals;             /* a signalfd */
	int output, errors;      /* terminal_output() of stdout and stderr */
	bool no_reboot;          /* a reset ends the session, and so does a panic */
	bool commands;           /* it is command.h's: its machine runs a command, and has no console */
	int image;               /* see launch.h */
	bool paused;             /* the machine does not run until somebody says so */
	bool saved;              /* it was ended because it is in a file, */
	bool left;               /* or because it runs elsewhere */
	bool reset, reset_paused; /* it was stopped to begin anew, and stood still before */
	bool told_paused;        /* clients of the control socket think that it stands still, */
	uint32_t told_open;      /* and that these CD drives are open */
	struct parts parts;      /* what came by the control socket, for its devices */
	uint8_t buttons;         /* of the mouse, that one of them holds; */
	unsigned at_x, at_y;     /* and where it has put the pointer (qmp/input.c) */
	int ready;               /* gets `number` when the machine runs, and is closed; -1: nobody waits */
	int made, go;            /* see launch.h */
	uint32_t number;
	bool on_terminal;        /* stdin is a terminal, and ours */
	struct migration *migration; /* under way; or NULL */
	int incoming;            /* a socket to who wants to hear that it runs, before it does; -1: nobody */
	int attached;            /* a socket where its console is now; -1: on stdin and stdout */
	uint64_t began;          /* loop_now() */
	/* What the guest said since the session looked. */
	atomic_bool panicked, crash_kernel;
};

/* Signals that end a session; blocked from here on in this thread and those it makes. Returns
 * a signalfd, or -errno. Call it before the first thread is made. */
int session_signals(void);

/* For struct machine_panic; ctx is a struct session. */
void session_panic(void *ctx, bool crash_kernel);

/* For struct machine_left_to; ctx is a struct session. */
void session_left(void *ctx);

/* Takes out what the guest has let go, if nothing keeps it from that now. */
void session_take_out(struct session *s);

/* -EBUSY: it is on its way elsewhere, and nothing comes or goes. */
int session_check_home(const struct session *s, struct err *err);

/* Runs the machine until it is over, through resets. Returns the program's exit code. */
int session_run(struct session *s);

/* For who asks at the control socket. A paused machine takes no input; what comes waits. */
int session_pause(struct session *s, struct err *err);
int session_resume(struct session *s, struct err *err);

/* It begins anew, as if its reset button was pressed, and stands still if it did; -EBUSY. */
int session_reset(struct session *s, struct err *err);

/* Copies the machine (machine/fork.h), which goes on if it was not paused; and keeps what its disks were then: a moment
 * for each, which has a base if it is written; or with a name a snapshot of that name, and no base. */
int session_fork(struct session *s, struct machine_fork *f, struct disk_moment *moments, const char *keep,
		 struct err *err);
void session_close_moments(struct session *s, struct disk_moment *moments);

/* Moves the machine to who is at the other end of plan->fd, which is taken over (machine/migrate.h). The answer
 * comes by control_migrated(). Nothing else may change its life meanwhile. */
int session_migrate(struct session *s, const struct migration_plan *plan, struct err *err);

/* Nobody waits for it any more: it is given up, if not all was sent. */
void session_migrate_cancel(struct session *s);

/* The console is at this socket, which is taken over, until its other end is closed. -EBUSY: it is on a terminal, or
 * at another socket. */
int session_attach(struct session *s, int fd, struct err *err);

#endif
