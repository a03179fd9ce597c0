/* SPDX-License-Identifier: MIT */
/*
 * The receiving side of a migration: a stream (stream.h) becomes what a machine goes on with.
 *
 *	struct incoming in;
 *
 *	rc = incoming_receive(&in, fd, &err);           // returns when all is here
 *	rc = saved_open_fd(&s, dup(in.state), "incoming", &err);
 *	rc = saved_config(s, &config, &err);
 *	config.incoming = &in;
 *	rc = machine_create(&m, &config, &err);
 *	... if that failed: incoming_refuse(fd, err.text); else, before it runs:
 *	rc = incoming_accept(fd, &err);                 // -errno: nobody heard, and it must not run
 *	incoming_close(&in);
 *
 * The stream may come from anybody who may connect: it can make a guest of its own here, whose disks are what files its user
 * may open, and no more.
 */
#ifndef MACHINE_INCOMING_H
#define MACHINE_INCOMING_H

#include <stdbool.h>

struct err;

struct incoming {
	int state;   /* a saved machine without memory */
	int ram;     /* a memfd: its memory */
	bool paused; /* as it was, and is to be again */
};

/* 0 or -errno; then there is nothing to close. */
int incoming_receive(struct incoming *in, int fd, struct err *err);

/* Tells the other side that the machine runs here now, or why it does not. */
int incoming_accept(int fd, struct err *err);
void incoming_refuse(int fd, const char *why);

/* Closes both; the machine has duplicates. Again is fine. */
void incoming_close(struct incoming *in);

#endif
