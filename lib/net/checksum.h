/* SPDX-License-Identifier: MIT */
/*
 * The Internet checksum (RFC 1071) over pieces of memory.
 *
 *	sum = net_sum(iov, n, 34);                       // from byte 34 to the end
 *	net_fold(sum, frame + 50);
 *
 * Whoever leaves a checksum to us has put the sum of the pseudo-header where it belongs, so it is summed up with the rest.
 */
#ifndef NET_CHECKSUM_H
#define NET_CHECKSUM_H

#include <stdint.h>
#include <sys/uio.h>

/* Adds what lies behind the first `skip` bytes of the pieces; the first byte that counts is an even one. */
uint64_t net_sum(const struct iovec *iov, unsigned n, uint64_t skip);

/* The checksum that stands for such a sum, as it is in memory: big-endian, in two bytes. Never 0, which for UDP means that there is
 * none, and for others the same as its complement. */
void net_fold(uint64_t sum, uint8_t to[2]);

#endif
