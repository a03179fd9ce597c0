/* SPDX-License-Identifier: MIT */
/*
 * Memory in pieces, used up from its front.
 *
 *	while (n_iov) {
 *		n_part = iov_take(&iov, &n_iov, 4096, part);    // the next 4096 bytes
 *		...
 *	}
 */
#ifndef BLOCK_IOV_H
#define BLOCK_IOV_H

#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

/* Drops n bytes, which are there. */
static inline void iov_skip(struct iovec **iov, unsigned *n_iov, uint64_t n)
{
	while (*n_iov && n >= (*iov)->iov_len) {
		n -= (*iov)->iov_len;
		++*iov;
		--*n_iov;
	}
	if (*n_iov && n) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
		(*iov)->iov_len -= n;
	}
}

/* The next n bytes, which are there, as at most *n_iov pieces in `part`. Returns how many. */
static inline unsigned iov_take(struct iovec **iov, unsigned *n_iov, uint64_t n, struct iovec *part)
{
	unsigned n_part = 0;

	for (uint64_t left = n; left; n_part++) {
		part[n_part] = (*iov)[n_part];
		if (part[n_part].iov_len > left)
			part[n_part].iov_len = left;
		left -= part[n_part].iov_len;
	}
	iov_skip(iov, n_iov, n);
	return n_part;
}

static inline uint64_t iov_length(const struct iovec *iov, unsigned n_iov)
{
	uint64_t len = 0;

	for (unsigned i = 0; i < n_iov; i++)
		len += iov[i].iov_len;
	return len;
}

#endif
