/* SPDX-License-Identifier: MIT */
/* A running guest's fork, asked for at its control socket. */
#ifndef LODGE_FORKED_H
#define LODGE_FORKED_H

#include "block/disk.h"
#include "machine/fork.h"
#include "machine/machine.h"

struct err;
struct launch_disks;
struct saved;

struct forked_guest {
	struct machine_fork fork;
	struct saved *saved;
	struct disk_base disks[MACHINE_DISKS_MAX]; /* of those that are written */
	unsigned n_disks;
};

#define FORKED_NONE {.fork = {.state = -1, .where = -1}}

/* At a connected socket. With a name its disks get a snapshot of that name, and are not there. The guest is the caller's, who
 * closes it, on failure too. */
int forked_ask(int fd, const char *keep, struct forked_guest *g, struct err *err);
void forked_close(struct forked_guest *g);

/* Has what is written of its disks thrown away, over what they were. */
void forked_disks(const struct forked_guest *g, struct launch_disks *disks);

#endif
