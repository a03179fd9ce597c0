/* SPDX-License-Identifier: MIT */
/*
 * A node whose bytes are on a server, which speaks the Network Block Device protocol:
 *
 *	nbd://HOST[:PORT]/NAME            TCP; port 10809 if none is named
 *	nbd+unix:///NAME?socket=PATH      a socket of this computer
 *
 *	rc = nbd_open(&node, "nbd+unix:///?socket=/run/s", false, &block, &err);
 *
 * The URIs are those of the protocol's project (doc/uri.md). What the server says is checked, as a stranger's word: it can give wrong
 * bytes, and keep us waiting, and no more. When the connection breaks all ends with -EIO from then on: a process that has shut itself
 * in makes no new one. SIGPIPE is to be ignored.
 */
#ifndef BLOCK_NBD_H
#define BLOCK_NBD_H

#include <stdbool.h>
#include <stdint.h>

#define NBD_NAME_MAX 4096u

struct err;
struct node;

/* Whether that is how a server is named, and no file. */
bool nbd_is_uri(const char *path);

/* Connects, and agrees with the server. `readonly`: it is not written, whatever the server permits. ERANGE: the URI makes no sense;
 * EROFS: the server does not let it be written; or what connect() says. */
int nbd_open(struct node **node, const char *uri, bool readonly, uint32_t *block, struct err *err);

/* -- For its files ------------------------------------------------------------------- */

struct nbd_address {
	char host[256], port[8]; /* "": it is a socket of this computer, */
	char path[108];          /* here */
	char name[NBD_NAME_MAX + 1];
};

/* What a server has said of its export. */
struct nbd_export {
	uint64_t size;
	unsigned flags;
	uint32_t least, preferred, most; /* bytes of a request */
};

/* uri.c */
int nbd_parse(struct nbd_address *a, const char *uri, struct err *err);

/* dial.c: a connected socket, past the negotiation, which does not block. */
int nbd_dial(const struct nbd_address *a, struct nbd_export *e, struct err *err);

#endif
