/* SPDX-License-Identifier: MIT */
/*
 * Snapshots: what a fork of a running machine (fork.h) is made of, in files that share what they have in common.
 *
 *	rc = layer_write(fd, &source, &id, &err);               // a layer that no file has yet
 *	rc = snapshot_write(fd, state, where, ids, n, &err);  // and what all is of which
 *
 *	rc = snapshot_open(&s, fd, "one.snapshot", &err);
 *	rc = layer_open(&layers[i], fd, "0123.layer", &err);    // for each of s.ids, in order
 *	rc = snapshot_fork(&s, layers, &f, &saved, &err);       // from here on as with a fork
 *
 * A snapshot's file, all numbers little-endian:
 *
 *	   0  "LODGE SN"
 *	   8  version of the form (4): 1
 *	  12  number of layers (4)
 *	  16  length of the state (8)
 *	  24  length of guest memory (8)
 *	  32  when it was made (8): ns since 1970
 *	  40  checksum of all behind the header (8)
 *	  48  0 (8)
 *	  56  checksum of the 56 bytes before (8)
 *	  64  state: a saved machine (saved.h), but for its memory
 *	      where: for each page of guest memory the number of its layer, from 1, or 0: zeros
 *	      layers: the id of each (8)
 *
 * A layer's:
 *
 *	   0  "LODGE LY"
 *	   8  version of the form (4): 1
 *	  12  0 (4)
 *	  16  length of guest memory (8)
 *	  24  where that begins (8), a multiple of 2 MiB
 *	  32  how much of it is no hole (8)
 *	  40  checksum of origin, pages and checksums (8): its id
 *	  48  0 (8)
 *	  56  checksum of the 56 bytes before (8)
 *	  64  origin: of which memory of which process it is a copy (LAYER_ORIGIN bytes)
 *	      pages: a bit for each page of guest memory that it has; others are holes
 *	      checksums of memory: 8 bytes for each 2 MiB, 0 where they are all zeros
 *	      memory, as the guest has it; pages of zeros are holes of the file
 *
 * An id is a checksum over checksums, so a snapshot names not a file but what is in it: with another layer under that name it
 * is refused, though no memory is read for that.
 *
 * The layer that a guest has, is it in a file already? It is, if it is the file itself, which a restored guest has as its layer;
 * a file that is open is no other one. Or if it has the same origin: device and inode of the memory, when that was written last,
 * and which boot of this computer that was. Memory that is a layer is sealed, and so its time stands still. The kernel gives a
 * number again only after 2^32 others, and never at the same time. All pages that are wanted of it must be in the file,
 * too: a guest's later snapshots never want more of a layer than its first, but another guest's may, that was forked before and has
 * taken over the name since.
 */
#ifndef MACHINE_SNAPSHOT_H
#define MACHINE_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/boot/blob.h"

struct err;
struct machine_fork;
struct saved;

#define LAYER_ORIGIN 112 /* with the NUL */

/* -- Layers ------------------------------------------------------------------------ */

/* The pages of one of a fork's layers. */
struct layer_source {
	int fd;
	uint64_t at;          /* guest memory begins at this byte of it */
	uint64_t memory;      /* its length */
	const uint8_t *where; /* a byte each page: `number`, if it is wanted */
	uint8_t number;
};

struct layer {
	struct blob file;
	uint64_t id, memory_at, memory_len, stored;
	uint8_t *body; /* origin, pages, checksums */
};

/* To an empty file. */
int layer_write(int fd, const struct layer_source *source, uint64_t *id, struct err *err);

/* Checks all but the memory. The descriptor is taken over; `path` outlives it. -EINVAL for what is none, or has changed. */
int layer_open(struct layer *l, int fd, const char *path, struct err *err);
void layer_close(struct layer *l); /* a zeroed one is fine */

/* Whether all pages that are wanted of the source are in the file. */
bool layer_has(const struct layer *l, const struct layer_source *source);

/* Reads all of its memory: -EINVAL names the first place that has changed. */
int layer_check(const struct layer *l, struct err *err);

/* -- Snapshots --------------------------------------------------------------------- */

struct snapshot {
	struct blob file;
	uint64_t created, memory_len;
	uint64_t ids[32]; /* of its layers */
	unsigned n;
	uint8_t *body; /* state, where */
	size_t state_len;
};

/* To an empty file. `state` is a fork's. */
int snapshot_write(int fd, const struct saved *state, const uint8_t *where, const uint64_t *ids, unsigned n,
		   struct err *err);

/* Checks all of it. As with layer_open(). */
int snapshot_open(struct snapshot *s, int fd, const char *path, struct err *err);
void snapshot_close(struct snapshot *s); /* a zeroed one is fine */

/* Whether the layers have all that it wants of them: -EINVAL names what is missing. */
int snapshot_check(const struct snapshot *s, const struct layer *layers, struct err *err);

/* What machine_create() wants of it: both are the caller's. */
int snapshot_fork(const struct snapshot *s, const struct layer *layers, struct machine_fork *f,
		  struct saved **saved, struct err *err);

/* -- Of a running machine's fork --------------------------------------------------- */

/* Where its pages are, to be freed; `pages` of them. A fork without layers gets one, its state, if that has memory. */
uint8_t *snapshot_where(const struct saved *state, struct machine_fork *f, struct err *err);

/* How much memory the machine has. */
uint64_t snapshot_memory(const struct saved *state);

#endif
