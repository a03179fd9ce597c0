/* SPDX-License-Identifier: MIT */
/*
 * Devices that come and go while the guest runs: disks and network cards, behind root ports.
 *
 *	rc = machine_attach_disk(m, &(struct machine_spot){.id = "data"}, MACHINE_VIRTIO, disk, &err);
 *	...
 *	rc = machine_detach(m, "data", &err);             // asks the guest
 *	... config.left.said(ctx) ...
 *	while (machine_take_out(m, &left))
 *		disk_close(left.disk);                    // or what its owner likes
 *
 * The machine stands still meanwhile, for some milliseconds if no disk is slow; one that is paused stays so.
 */
#ifndef MACHINE_PLUG_H
#define MACHINE_PLUG_H

#include "machine/machine.h"

/* Behind spot->port, or any that is free if that is 0: then it is filled in. `id` is nobody's else. The disk, or the port that the card's cable
 * leads to, is in use until it is taken out. -ENOENT: the guest has no ports; -EBUSY: there is none that is free, or the id is
 * taken; -ERANGE. */
int machine_attach_disk(struct machine *m, struct machine_spot *spot, enum machine_bus bus, struct disk *disk, struct err *err);
int machine_attach_net(struct machine *m, struct machine_net *net, struct err *err);

/* Asks the guest to let it go, which takes it as long as it likes, or until it is reset. Again, if it did not hear. -ENOENT; -EBUSY: it is about to. */
int machine_detach(struct machine *m, const char *id, struct err *err);

struct machine_left {
	char id[MACHINE_ID_MAX];
	struct disk *disk;
	struct net_port *port;
};

/* One that the guest has let go is gone then. False: there is none. */
bool machine_take_out(struct machine *m, struct machine_left *left);

/* 1 to MACHINE_ID_MAX - 1 letters, digits, '-', '_' and '.', of which a letter is the first. */
bool machine_is_id(const char *text);

#endif
