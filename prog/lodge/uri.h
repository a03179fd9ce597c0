/* SPDX-License-Identifier: MIT */
/*
 * Where a guest migrates to, and comes from:
 *
 *	unix:PATH       a socket of this computer, on which the other lodge listens
 *	tls:HOST:PORT   TLS over TCP, by a process between (tls/tls.h), that has certificates; the other lodge listens there
 *	exec:COMMAND    what a shell's command reads and writes: exec:ssh host lodge run --incoming -
 *	-               standard input and output; to come from
 *
 *	fd = uri_connect("unix:/run/web.in", NULL, &direct, &err);
 *	fd = uri_accept("unix:/run/web.in", NULL, &answer, &err);      // waits for one, and listens no more
 *
 * What is connected to is a socket. Both return -errno with a sentence.
 */
#ifndef LODGE_URI_H
#define LODGE_URI_H

#include <stdbool.h>

struct err;

/* `certificates` are in that directory, NULL: in the user's. `direct`: the process at the other end is the other lodge itself. */
int uri_connect(const char *uri, const char *certificates, bool *direct, struct err *err);

/* `answer` is another descriptor, to write to. */
int uri_accept(const char *uri, const char *certificates, int *answer, struct err *err);

/* A socket of this computer that listens at the path, for its user alone. Nobody removes the name: who comes next takes it. */
int uri_listen(const char *path, struct err *err);

#endif
