/* SPDX-License-Identifier: MIT */
/*
 * One connection of the control socket (control.c): bytes and descriptors in, cut into requests; bytes out, and what has to wait for room.
 * Nothing here waits, and nothing knows what is said.
 *
 *	peer_open(p, fd);
 *	... poll() for peer_events(p); then
 *	if (p->n_late)
 *		peer_send_late(p);
 *	if (peer_has_request(p)) {
 *		... p->bytes + p->begin, p->whole of them; peer_say(p, ...)
 *		peer_next(p);
 *	} else if (!peer_read(p)) {
 *		... it is gone
 *	}
 *	if (p->lost)
 *		peer_close(p);
 */
#ifndef LODGE_PEER_H
#define LODGE_PEER_H

#include <stdbool.h>
#include <stddef.h>

#include "qmp/files.h"
#include "qmp/split.h"

#define PEER_BYTES 65536 /* a request is shorter */
#define PEER_LATE  8192  /* bytes that are kept for who does not read */

struct peer {
	int fd;    /* -1: nobody */
	bool lost; /* it does not listen, or says too much: it is to be closed */
	struct qmp_files files;
	struct qmp_split split;
	size_t begin, len; /* which of `bytes` are not done with */
	size_t whole;      /* how many of them are the first request; 0: it is not all here */
	size_t n_late;
	char *bytes;       /* PEER_BYTES, the caller's; */
	char *late;        /* PEER_LATE, the same */
};

void peer_init(struct peer *p, char *bytes, char *late);
void peer_open(struct peer *p, int fd);
void peer_close(struct peer *p); /* as after init */

static inline bool peer_has_request(const struct peer *p)
{
	return p->whole;
}

/* What poll() is to wait for: room for an answer, if there is a request, else more of it. */
short peer_events(const struct peer *p);

/* Takes what is there. False: the other side has closed. */
bool peer_read(struct peer *p);

/* The first request is done with. */
void peer_next(struct peer *p);

/* An answer, with descriptors that stay the caller's. False: there was no room, which there is after POLLOUT. */
bool peer_answer(struct peer *p, const char *text, size_t len, const int *files, unsigned n_files);

/* Something else: what there is no room for is sent when there is. */
void peer_say(struct peer *p, const char *text, size_t len);
void peer_send_late(struct peer *p);

#endif
