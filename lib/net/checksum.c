/* SPDX-License-Identifier: MIT */
/*
 * See checksum.h. The sum does not care for the order of bytes in a word, nor for how wide a word is: four bytes are added at a time,
 * as the host has them, and compilers make vectors of that loop. A sum is of 64 bits, and a frame has 2^14 words of 32.
 *
 * A piece that begins at an odd byte of the whole has its bytes the other way round in each 16 bits, and so has its sum: it is
 * folded to 16 bits, and turned.
 */
#include "net/checksum.h"

#include <stdbool.h>
#include <string.h>

static uint64_t sum_bytes(const uint8_t *at, uint64_t len)
{
	uint64_t sum = 0;
	uint32_t word;

	for (; len >= 4; at += 4, len -= 4) {
		memcpy(&word, at, 4);
		sum += word;
	}
	if (len) {
		word = 0;
		memcpy(&word, at, len);
		sum += word;
	}
	return sum;
}

static uint16_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)sum;
}

uint64_t net_sum(const struct iovec *iov, unsigned n, uint64_t skip)
{
	uint64_t sum = 0;
	bool odd = false;

	for (unsigned i = 0; i < n; i++) {
		uint64_t len = iov[i].iov_len, part;

		if (skip >= len) {
			skip -= len;
			continue;
		}
		part = sum_bytes((const uint8_t *)iov[i].iov_base + skip, len - skip);
		sum += odd ? __builtin_bswap16(fold(part)) : part;
		odd ^= (len - skip) & 1;
		skip = 0;
	}
	return sum;
}

void net_fold(uint64_t sum, uint8_t to[2])
{
	uint16_t value = (uint16_t)~fold(sum);

	if (!value)
		value = 0xffff;
	memcpy(to, &value, 2);
}
