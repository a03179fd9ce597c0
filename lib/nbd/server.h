/* SPDX-License-Identifier: MIT */
/*
 * A disk for clients of the Network Block Device protocol: the kernel's, qemu-img and qemu itself, nbdcopy, whatever has libnbd.
 *
 *	struct nbd_server *server;
 *	struct nbd_server_config config = {.loop = loop, .listening = fd, .disk = disk, .name = "web"};
 *
 *	rc = nbd_server_create(&server, &config, &err);
 *	while (!over)
 *		loop_once(loop);
 *	nbd_server_destroy(server);        // and then the disk may be closed, which makes all lasting
 *
 * Who may connect is the listening socket's affair, and no client is trusted with more than the disk: what it asks for is checked
 * before memory is spent on it, and that is bounded for each (private.h). A client that reads no answers is asked nothing more, and
 * holds up no other.
 *
 * Source: doc/proto.md of the NBD project (https://github.com/NetworkBlockDevice/nbd), fixed newstyle negotiation, structured
 * replies; no TLS, no meta contexts. All functions in the loop's thread.
 */
#ifndef NBD_SERVER_H
#define NBD_SERVER_H

#define NBD_CLIENTS_MAX 16u

struct disk;
struct err;
struct loop;
struct nbd_server;

struct nbd_server_config {
	struct loop *loop;
	int listening;    /* a socket, which stays the caller's; -1: nobody comes but by nbd_server_let_in() */
	struct disk *disk;
	const char *name; /* of the export; a client that names none gets it, too */
	void (*left)(void *ctx); /* the last client has gone; or NULL */
	void *ctx;
};

/* -ENOMEM with err. */
int nbd_server_create(struct nbd_server **server, const struct nbd_server_config *config, struct err *err);

/* Ends all connections, and waits for what they have asked of the disk. NULL is fine. */
void nbd_server_destroy(struct nbd_server *server);

/* A connection more, on a socket that does not block, which is the server's from here on. -EBUSY: there are NBD_CLIENTS_MAX already,
 * or the disk still works for who has left; -ENOMEM. Then it is closed. */
int nbd_server_let_in(struct nbd_server *server, int fd);

/* How many there are. */
unsigned nbd_server_clients(const struct nbd_server *server);

#endif
