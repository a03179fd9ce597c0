/* SPDX-License-Identifier: MIT */
/*
 * TCP segments no longer than their receiver wants them (RFC 9293, section 3.7.1: the MSS option).
 *
 *	segment_learn(&s, frame, len);            // each frame that the receiver sends
 *	segment_send(&s, frame, len, send, ctx);  // each that is for it
 *
 * For a sender that does not know: libslirp loses the option of a connection whose other end does not answer at once. A
 * receiver is known by its port, for all connections of one that is used twice have the same network card.
 * Frames are whole, from their Ethernet header on, and have their checksums. One thread.
 */
#ifndef NET_SEGMENT_H
#define NET_SEGMENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct segmenter {
	uint16_t mss[65536]; /* by the receiver's port; 0: it has said nothing */
};

/* Looks at a frame of the receiver's: what it says in a SYN. Any bytes will do. */
void segment_learn(struct segmenter *s, const uint8_t *frame, size_t len);

/* Calls send() for the frame, or for each of the shorter ones that it has become; `iov` is its own for that long. */
void segment_send(const struct segmenter *s, const uint8_t *frame, size_t len,
		  void (*send)(void *ctx, const struct iovec *iov, unsigned n), void *ctx);

#endif
