/* SPDX-License-Identifier: MIT */
/*
 * A network card's cable for tests of cards: a port that is a socket, whose other end the test has, and a loop that waits for nothing. The test
 * makes the loop, and says in plug() what card it is.
 */
#ifndef DEV_TESTS_CABLE_H
#define DEV_TESTS_CABLE_H

#include "dev/device.h"
#include "loop/loop.h"
#include "net/port.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static struct loop *loop;
static struct loop_timer soon;
static struct net_port *port;
static struct device *nic;
static int wire;                         /* the other end of the port's socket */
static uint8_t bytes[NET_FRAME_MAX + 4]; /* a frame, behind its length */

/* Makes `nic`, with this port. */
static void plug(struct net_port *p);

static void nothing(void *ctx)
{
	(void)ctx;
}

/* A round of the loop, which does not wait. */
static void turn(void)
{
	loop_call(&soon);
	loop_once(loop);
}

static void make(void)
{
	int ends[2], small = 1;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) < 0 ||
	    net_stream(&port, &(struct net_stream_config){.fd = ends[0], .mtu = 1500}, NULL) < 0)
		abort();
	setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	wire = ends[1];
	plug(port);
}

static void unmake(void)
{
	device_destroy(nic);
	port->type->close(port);
	close(wire);
}

/* The frame in bytes[4...] comes. */
static void write_frame(unsigned len)
{
	bytes[0] = 0;
	bytes[1] = (uint8_t)(len >> 16);
	bytes[2] = (uint8_t)(len >> 8);
	bytes[3] = (uint8_t)len;
	if (write(wire, bytes, len + 4) != (ssize_t)len + 4)
		abort();
}

/* The rest of one that was sent, whose length is in `bytes`: how long it is. */
static unsigned read_frame(void)
{
	unsigned len = (unsigned)(bytes[1] << 16 | bytes[2] << 8 | bytes[3]);
	ssize_t n = 0;

	for (unsigned got = 0; got < len; got += n > 0 ? (unsigned)n : 0) {
		n = read(wire, bytes + 4 + got, len - got);
		if (n < 0)
			turn();
	}
	return len;
}

#endif
