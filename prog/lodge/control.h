/* SPDX-License-Identifier: MIT */
/*
 * The control socket of a running guest, its side: docs/control.md is what clients see.
 *
 *	rc = control_open(&c, &session, &err);  its name is taken from here on
 *	...
 *	rc = control_serve(c, loop);            from here on by the loop
 *	control_event(c, "STOP", NULL);
 *	control_close(c);
 */
#ifndef LODGE_CONTROL_H
#define LODGE_CONTROL_H

struct control;
struct err;
struct loop;
struct session;

#define CONTROL_CLIENTS 16 /* at a time */

/* Opens the socket of this process, and takes the session's name. -EBUSY: another guest has that. The
 * session may be without a machine until it is served. */
int control_open(struct control **control, struct session *s, struct err *err);

/* The directory that it is in. */
const char *control_place(const struct control *control);

/* Something has happened: a row of qmp/commands.def, and its data in JSON, or NULL. To all clients, in the order of the calls. */
void control_event(struct control *control, const char *name, const char *data);

/* The migration that a client waits for has ended: how it was, or why not (facts is NULL). */
struct migration_facts;
void control_migrated(struct control *control, const struct migration_facts *facts,
		      const struct err *err);

/* Removes it, where the sandbox lets us; clients that wait hear of it. NULL is fine, here and below:
 * there is no socket then. */
void control_close(struct control *control);

/* Adds what it waits for to the loop, behind what is there. 0 or -ENOMEM. */
int control_serve(struct control *control, struct loop *loop);

#endif
