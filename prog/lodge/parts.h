/* SPDX-License-Identifier: MIT */
/*
 * What clients of the control socket have brought for devices that come while the guest runs, by name: images (blockdev-add) and cables
 * (netdev_add). A part is there before its device, and stays when that goes, until it is deleted.
 */
#ifndef LODGE_PARTS_H
#define LODGE_PARTS_H

#include <stdbool.h>

#include "machine/machine.h"

struct err;

#define PARTS_MAX 16

struct part {
	char name[MACHINE_ID_MAX]; /* "": there is none */
	struct disk *disk;         /* one of the two */
	struct net_port *port;
	const char *how;           /* of the port, as struct machine_net's */
};

struct parts {
	struct part part[PARTS_MAX];
};

/* A place for a new one, which has this name then; NULL and err: the name is none, or is taken (also by a disk of the guest's), or there are too many. */
struct part *parts_new(struct parts *parts, const struct machine_config *config, const char *name, struct err *err);

/* NULL: there is none. */
struct part *parts_find(struct parts *parts, const char *name);
const struct part *parts_of_disk(const struct parts *parts, const struct disk *disk);
const struct part *parts_of_port(const struct parts *parts, const struct net_port *port);

/* Whether a device of the guest has it. */
bool part_is_used(const struct part *part, const struct machine_config *config);

/* Closes one that is not used; and all that are not. */
void part_close(struct part *part);
void parts_close(struct parts *parts, const struct machine_config *config);

#endif
