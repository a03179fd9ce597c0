/* SPDX-License-Identifier: MIT */
/*
 * The control socket of a running guest: $XDG_RUNTIME_DIR/lodge/PID.sock.
 *
 * A client sends one line and gets JSON back, up to the end of the connection:
 *
 *	{"do": "stats"}        {"pid": 17, "engine": "soft", ..., "counters": {"IO": 5, ...}}
 *	{"do": "powerdown"}    {"ok": true}                   presses the power button
 *	{"do": "stop"}         {"ok": true}                   as pulling the plug
 *	anything else          {"error": "..."}
 */
#ifndef LODGE_CONTROL_H
#define LODGE_CONTROL_H

#include <stddef.h>
#include <sys/un.h>

struct control;
struct err;
struct machine;
struct machine_config;
struct pollfd;

/* Writes the directory of the sockets; made if it is not there and `make` is set. 0, or
 * -errno with err. */
int control_dir(char *path, size_t len, int make, struct err *err);

/* The process whose socket has this name; 0: it is no socket's. */
long control_pid(const char *name);

/* A connected socket, with `flags` of socket(); -ECONNREFUSED or -ENOENT: nobody is there (any more). A socket that nobody listens
 * to is what a killed lodge left, or one whose sandbox could not let it clean up: it is removed. */
int control_connect(const char *dir, long pid, int flags);

/* Opens the socket of this process, and removes those of others that have ended. */
int control_open(struct control **control, struct machine *machine,
		 const struct machine_config *config, struct err *err);

/* The directory that it is in. */
const char *control_place(const struct control *control);

/* Removes it, where the sandbox lets us. NULL is fine, here and below: there is no socket then. */
void control_close(struct control *control);

/* What the owner's loop polls, and what it does when something came. */
void control_poll(const struct control *control, struct pollfd *listen,
		  struct pollfd *client);
void control_serve(struct control *control, const struct pollfd *listen,
		   const struct pollfd *client);

#endif
