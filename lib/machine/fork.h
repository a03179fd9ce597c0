/* SPDX-License-Identifier: MIT */
/*
 * A machine that runs, copied: what a fork is made of.
 *
 *	struct machine_fork f;
 *
 *	rc = machine_fork(m, &f, &err);                 // m is paused, and can be resumed at once
 *	... f's descriptors go to another process ...
 *	machine_fork_close(&f);
 *
 *	rc = saved_open_fd(&s, f.state, "web", &err);   // there, as with any saved machine
 *	rc = saved_config(s, &config, &err);
 *	config.fork = &f;
 *	rc = machine_create(&m, &config, &err);
 *
 * `state` is a saved machine (saved.h) in memory. Where the engine has layers its memory is one hole, and is in the
 * layers: what was the machine's RAM is its own no longer, but the first layer of both; so nothing is
 * copied while the machine stands still, and afterwards only what one of them writes. What is shared can be
 * written by nobody any more: it is sealed. Other engines write all of memory into `state`.
 *
 * A fork of a fork has a layer more. Layers of which nothing is left are left out, and a machine that has as many as there
 * can be takes all of its memory out of them first, which is slow.
 */
#ifndef MACHINE_FORK_H
#define MACHINE_FORK_H

#include <stdint.h>

#include "machine/layer.h"

struct err;
struct machine;

struct machine_fork {
	int state;
	int where;  /* a byte for each page of RAM: the number of its layer, from 1, or 0: zeros; -1: there are no layers */
	unsigned n; /* layers */
	struct {
		int fd;
		uint64_t at; /* RAM begins at this byte of it */
	} layer[RAM_LAYERS_MAX];
};

/* Of a paused machine, which stays paused. 0 or -errno; then it is as it was. The descriptors are the caller's. */
int machine_fork(struct machine *m, struct machine_fork *f, struct err *err);

/* Closes them; those that are -1 are left out. */
void machine_fork_close(struct machine_fork *f);

#endif
