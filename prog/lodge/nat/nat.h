/* SPDX-License-Identifier: MIT */
/*
 * lodge-nat: the network of one guest, without any privilege.
 *
 *	lodge ==a socket, frames== lodge-nat ==sockets of its user== the host's network
 *
 * libslirp is a TCP/IP stack that looks like a router to the guest (10.0.2.2, fec0::2), with DHCP and DNS (10.0.2.3, fec0::3), and makes a
 * socket of the host of each connection that the guest makes. It parses what a hostile guest sends, in C; so it is in a process of its own,
 * which has sockets and nothing else (docs/why/net.md).
 *
 *	nat/main.c      the program
 *	nat/router.c    libslirp, its timers, and what it waits for
 *	nat/tftp.c      which files it may read for the guest
 *	nat/forward.c   what -p says; lodge reads it, too, to have a sentence before anything is started
 */
#ifndef LODGE_NAT_H
#define LODGE_NAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct forward;
struct net_port;
struct router;

/* The MTU of the guest's network. Each packet costs the same, so they are large; but two go into a window of libslirp's, which is 64 KiB. */
#define NAT_MTU 32768u

#define NAT_BOOTFILE_MAX 127u /* bytes */

struct router_config {
	struct net_port *lodge; /* frames from and to there; stays the caller's */
	bool restricted;        /* nothing outside is reached, for fuzzing */
	const char *tftp;       /* a directory whose files the guest may read; NULL: there is no such server */
	const char *bootfile;   /* what DHCP says that is to be booted; NULL: nothing */
};

struct router *router_create(const struct router_config *config);
void router_destroy(struct router *r);

/* A sentence, if the port is not to be had. */
int router_forward(struct router *r, const struct forward *f, const char *text, struct err *err);

/* A frame of the guest's. */
void router_input(struct router *r, const uint8_t *frame, size_t len);

/* Before the first frame: of this directory, or none. */
void tftp_serve(const char *path);

/* Until lodge has hung up. */
void router_run(struct router *r);

#endif
