/* SPDX-License-Identifier: MIT */
/*
 * The other end of a network card's cable: it takes Ethernet frames, and gives some.
 *
 *	struct net_port *p;
 *
 *	rc = net_stream(&p, &(struct net_stream_config){.fd = fd, .mtu = 1500}, &err);
 *	...
 *	if (!p->type->send(p, iov, n))                  // no room: again when poll() has said POLLOUT
 *		...
 *	while ((frame = p->type->peek(p, &len)))        // until there is none, or nobody has room for it
 *		if (take(frame, len))
 *			p->type->drop(p);
 *	p->type->close(p);
 *
 * A port has one descriptor at a time, and waits for nothing: who has it asks wants() what to poll() for, and calls serve() with
 * what came of that. Frames that nobody peeks at stay where they are, so who is slow slows the other end down, or that drops.
 *
 * It may be called by any thread, by one at a time.
 *
 * Frames are without preamble and checksum (FCS). Those of a port with `vnet` have the header of virtio (section 5.1.6 of virtio
 * 1.2, with num_buffers, 12 bytes) before them, and then can be larger than the MTU, and lack checksums.
 */
#ifndef NET_PORT_H
#define NET_PORT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct err;
struct net_port;

#define NET_FRAME_MIN 14u              /* an Ethernet header */
#define NET_FRAME_MAX (65535u + 18u)   /* and the largest IP packet behind one that has a VLAN's tag */
#define NET_VNET      12u

/* Offloads: what the other end may leave undone in frames that it gives. */
enum net_offload { NET_CSUM = 1, NET_TSO4 = 2, NET_TSO6 = 4, NET_ECN = 8 };

struct net_port_type {
	bool vnet;
	/* A frame in pieces; header first, if vnet. False: there is no room now, and nothing was taken. What cannot be sent at
	 * all is dropped, as a cable does. */
	bool (*send)(struct net_port *p, const struct iovec *iov, unsigned n);
	/* The next frame, which stays the next one until drop(); NULL: there is none now. At most NET_FRAME_MAX bytes, and NET_VNET
	 * if vnet. */
	const uint8_t *(*peek)(struct net_port *p, size_t *len);
	void (*drop)(struct net_port *p);
	/* What to poll() for, if frames are wanted, or room; fd -1: nothing. */
	void (*wants)(const struct net_port *p, bool frames, bool room, struct pollfd *poll);
	void (*serve)(struct net_port *p, short revents);
	/* Of vnet: which of enum net_offload it may use. NULL: it uses none. */
	void (*offload)(struct net_port *p, unsigned what);
	void (*close)(struct net_port *p);
};

struct net_port {
	const struct net_port_type *type;
	unsigned mtu;
	bool up;      /* somebody is there; changes in serve(), peek() and send() */
	bool checked; /* of frames that come from it no checksum need be looked at: it has made them itself */
};

/* -- A stream of frames, each behind its length (4 bytes, big-endian): stream.c ------------------------ */

/* That is what passt and QEMU's `-netdev stream` speak. A peer that says what is no frame is not spoken to any more. */
struct net_stream_config {
	int fd;         /* a connected socket, or one that listens: then there is one peer after the other. Is taken over */
	bool listens;
	bool checked;   /* see struct net_port */
	unsigned mtu;
	size_t room;    /* bytes to keep of what the socket does not take; 0: the rest of one frame */
};

/* 0 or -errno; the descriptor is closed then, too. */
int net_stream(struct net_port **p, const struct net_stream_config *config, struct err *err);

/* How many bytes it keeps that the socket has not taken yet. */
size_t net_stream_behind(const struct net_port *p);

/* -- A tap device of this host: tap.c ------------------------------------------------------------------- */

/* By its name; it is made if it is not there. -EPERM with the command that would help. `bridge`: it becomes a port of that; else NULL.
 * `name` may be NULL then. With several queues it is as many ports, of which its kernel keeps a connection's frames to one. */
int net_tap(struct net_port **ports, unsigned queues, const char *name, const char *bridge, struct err *err);

/* -- What passes another port, in a file for tcpdump: capture.c ------------------------------------------ */

struct loop;

/* Takes over `inner`. The file (pcap) is written by the loop's thread. */
int net_capture(struct net_port **p, struct net_port *inner, const char *path, struct loop *loop, struct err *err);

#endif
