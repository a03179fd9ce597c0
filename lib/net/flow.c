/* SPDX-License-Identifier: MIT */
/* See flow.h. Addresses and ports are summed up, so that it does not matter which comes first. A frame is a stranger's: nothing behind its end is read. */
#include "net/flow.h"

#include <stdbool.h>

#define ETHERNET 14u
#define IPV6     40u
#define TCP      6u
#define UDP      17u

static uint32_t be16(const uint8_t *at)
{
	return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t sum(const uint8_t *at, unsigned words)
{
	uint32_t all = 0;

	for (unsigned i = 0; i < words; i++)
		all += be16(at + 2 * i);
	return all;
}

static unsigned fold(uint32_t all)
{
	return (all * 0x9e3779b1u) >> 24; /* 2^32 by the golden ratio: near ones are far apart */
}

/* Of what is behind the IP header, if that is whole, and says who. */
static uint32_t ports(const uint8_t *frame, size_t len, size_t at, uint8_t protocol)
{
	return (protocol == TCP || protocol == UDP) && at + 4 <= len ? sum(frame + at, 2) : 0;
}

unsigned net_flow(const uint8_t *frame, size_t len)
{
	const uint8_t *ip = frame + ETHERNET;

	if (len >= ETHERNET + 20 && be16(frame + 12) == 0x0800) {
		bool piece = be16(ip + 6) & 0x3fff;

		return fold(sum(ip + 12, 4) + (piece ? 0 : ports(frame, len, ETHERNET + (ip[0] & 15u) * 4u, ip[9])));
	}
	if (len >= ETHERNET + IPV6 && be16(frame + 12) == 0x86dd)
		return fold(sum(ip + 8, 16) + ports(frame, len, ETHERNET + IPV6, ip[6]));
	return 0;
}
