/* SPDX-License-Identifier: MIT */
/* A running guest's fork, asked for at its control socket. */
#ifndef LODGE_FORKED_H
#define LODGE_FORKED_H

struct err;
struct machine_fork;
struct saved;

/* At a connected socket. Both are the caller's, on failure too: a fork that is not there has -1s, a saved machine is NULL. */
int forked_ask(int fd, struct machine_fork *f, struct saved **saved, struct err *err);

#endif
