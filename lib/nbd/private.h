/* SPDX-License-Identifier: MIT */
/*
 * What the server's files share: a client, and what it is owed.
 *
 * A client is a row of steps: each says how many bytes the next one needs, and is called when they are there. What is to be sent is
 * a list of answers, each with a header and maybe bytes behind it; an answer to a request is also the disk's request, which is on that
 * list only when the disk is done.
 *
 *	bytes come        client.c    -> step(): negotiate.c until the client has chosen, then transmit.c
 *	the disk is done  transmit.c  -> the server's list, from any thread -> the client's list, in the loop's
 *	the list          client.c    -> the socket
 *
 * Bounds, for each client: ANSWERS_MAX answers that are under way or not yet sent, with HELD_MAX bytes of data, or one that is
 * larger (but never than NBD_LENGTH_MAX); and IN_ROOM bytes that have come and were not looked at. Beyond that nothing more is read
 * from it.
 */
#ifndef NBD_PRIVATE_H
#define NBD_PRIVATE_H

#include "block/disk.h"
#include "loop/loop.h"
#include "block/nbd/protocol.h"
#include "nbd/server.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#define ANSWERS_MAX 64u
#define HELD_MAX    (8u << 20)
#define IN_ROOM     (64u << 10)
#define HEADER_MAX  32u

struct client;

struct answer {
	struct answer *next;
	struct client *of;
	uint8_t header[HEADER_MAX];
	size_t n_header, n_bytes, sent; /* sent: of both */
	uint8_t *bytes;                 /* n_room of them; or NULL */
	size_t n_room;
	/* of a request */
	struct disk_req disk;
	struct iovec iov;
	uint64_t cookie;
	enum nbd_command command;
	bool then_flush; /* what is done is to be lasting before it is said */
};

/* False: the connection is over. */
typedef bool step(struct client *c, const uint8_t *bytes);

struct client {
	struct nbd_server *of;
	struct loop_source source;
	int fd;                 /* -1: nobody, or gone and the disk still has answers of its */
	step *step;             /* what comes next, */
	size_t want;            /* and how many bytes it takes: IN_ROOM at most, but those that go into an answer */
	struct answer *into;    /* whose bytes come now */
	size_t n_into;
	uint8_t *in;            /* IN_ROOM */
	size_t in_at, in_n;
	struct answer *out, **out_last;
	unsigned n_answers;
	size_t held;            /* bytes of all answers */
	uint64_t skip;          /* bytes that nobody wants */
	/* what was negotiated */
	bool no_zeroes, structured;
	uint32_t option;        /* the one whose data comes */
	bool ending;            /* what it is owed is sent, and then it is over */
};

struct nbd_server {
	struct nbd_server_config config;
	struct loop_source door;
	struct loop_timer woken;
	pthread_mutex_t lock;
	struct answer *done, **done_last; /* the disk is, with these; any thread, lock held */
	struct client clients[NBD_CLIENTS_MAX];
};

/* client.c */

/* With room for so many bytes; counted from here on. NULL: no memory. */
struct answer *answer_new(struct client *c, size_t n_room);
void answer_free(struct answer *a);
/* It is sent when those before it are. */
void answer_send(struct answer *a);

/* negotiate.c */
bool negotiate_begin(struct client *c);
uint16_t export_flags(const struct nbd_server *s);

/* transmit.c */
void transmit_begin(struct client *c);
/* The disk is done with these. */
void transmit_done(void *server);

#endif
