/* SPDX-License-Identifier: MIT */
/*
 * The control socket of a running guest, its side: docs/control.md is what clients see.
 *
 *	rc = control_open(&c, &session, &err);  its name is taken from here on
 *	...
 *	n = control_poll(c, p);                 in a loop: what to wait for, and how long at most;
 *	poll(p, n, control_patience(c));
 *	control_serve(c, p);                    then what came
 *	control_close(c);
 */
#ifndef LODGE_CONTROL_H
#define LODGE_CONTROL_H

#include <poll.h>

struct control;
struct err;
struct session;

#define CONTROL_CLIENTS 16 /* at a time */
#define CONTROL_POLLS   (CONTROL_CLIENTS + 1)

/* Opens the socket of this process, and takes the session's name. -EBUSY: another guest has that. The
 * session may be without a machine until it is served. */
int control_open(struct control **control, struct session *s, struct err *err);

/* The directory that it is in. */
const char *control_place(const struct control *control);

/* The migration that a client waits for has ended: how it was, or why not (facts is NULL). */
struct migration_facts;
void control_migrated(struct control *control, const struct migration_facts *facts,
		      const struct err *err);

/* Removes it, where the sandbox lets us; clients that wait hear of it. NULL is fine, here and below:
 * there is no socket then. */
void control_close(struct control *control);

/* Fills in as many as there are: poll() takes no more than the process may have descriptors. */
unsigned control_poll(struct control *control, struct pollfd p[CONTROL_POLLS]);
int control_patience(const struct control *control); /* ms; -1: for ever */
void control_serve(struct control *control, const struct pollfd p[CONTROL_POLLS]);

#endif
