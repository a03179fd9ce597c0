/* SPDX-License-Identifier: MIT */
/*
 * Guest memory that a storage controller was told to use, as the disk takes it; and lists of ranges in it.
 *
 *	pieces_clear(&p);
 *	while (... the guest's list has entries ...)
 *		if (!pieces_add(&p, mem, address, len, is_read))
 *			return false;           // not RAM, or too many pieces
 *	pieces_cut(&p, len);                    // to what the command wants
 *	req->iov = p.iov, req->n_iov = p.n;
 *
 * An address becomes a pointer by bus/guest.h alone. Pieces that touch become one, so that the pages of a buffer that is in one part
 * count as one.
 */
#ifndef DEV_STORAGE_PIECES_H
#define DEV_STORAGE_PIECES_H

#include "block/disk.h"
#include "bus/guest.h"

struct pieces {
	struct iovec iov[DISK_IOV_MAX];
	unsigned n;
	uint64_t len; /* in bytes, of all */
};

static inline void pieces_clear(struct pieces *p)
{
	p->n = 0;
	p->len = 0;
}

/* One more, that is to be written (by a disk's read), or read. False: it is not RAM, is empty, or there are too many. */
bool pieces_add(struct pieces *p, const struct guest_mem *mem, gpa_t at, uint64_t len, bool write);

/* The first `len` bytes, if there are so many. */
void pieces_cut(struct pieces *p, uint64_t len);

/* Copies bytes from `at` on; what is not there is not copied. How many were. */
uint64_t pieces_get(const struct pieces *p, uint64_t at, void *to, uint64_t len);
uint64_t pieces_put(const struct pieces *p, const void *from, uint64_t len);

/* -- Ranges of a disk, in a list in guest memory: what TRIM and its like are given ------------------- */

struct ranges {
	const struct pieces *list;
	uint32_t at, step; /* where the next one is, and how long it is */
	uint32_t left;
	/* What an entry says, in sectors. */
	void (*parse)(const uint8_t *entry, uint64_t *first, uint64_t *n);
};

#define RANGE_BYTES_MAX 16u

/* The next one that is not empty, as a request: 1. 0: there is none. -EINVAL: it is no range of a disk of so many bytes. */
int ranges_next(struct ranges *r, struct disk_req *req, uint64_t size);

#endif
