/* SPDX-License-Identifier: MIT */
/*
 * The connections of lodge-vsock: between a guest's sockets, of which packets tell (dev/virtio/vsock_packet.h), and Unix sockets here.
 *
 *	struct mux *m = mux_create(lodge, 3, "/run/web.vsock", listening);
 *
 *	mux_run(m);                      // until lodge is gone
 *
 * To the guest: who connects to the socket that listens says "CONNECT PORT" and a line feed; when a program in the guest has accepted that, he is
 * told "OK NUMBER" in a line, and what follows are the connection's bytes, both ways. Where nobody listens the connection ends.
 * That is what other VMMs' clients say, too (systemd-ssh-proxy, for one).
 *
 * From the guest: a connection to port N of CID 2 is one to the Unix socket PATH_N.
 *
 * All that a guest says may be a lie. It has at most MUX_CONNS connections, and VSOCK_ROOM bytes under way in each.
 */
#ifndef LODGE_VSOCK_MUX_H
#define LODGE_VSOCK_MUX_H

#include <stddef.h>
#include <stdint.h>

struct mux;
struct net_port;

#define MUX_CONNS 256u

/* `path` stays the caller's; `listening` may be -1. NULL: no memory. */
struct mux *mux_create(struct net_port *lodge, uint32_t cid, const char *path, int listening);

/* Ends all connections. */
void mux_destroy(struct mux *m);

/* One packet of the guest's. */
void mux_input(struct mux *m, const uint8_t *packet, size_t len);

/* Waits once, for at most so many ms (-1: for ever), and does what there is to do. */
void mux_turn(struct mux *m, int ms);

void mux_run(struct mux *m);

#endif
