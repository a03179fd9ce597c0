/* SPDX-License-Identifier: MIT */
/*
 * Frames that the 82540EM receives: which addresses it takes, and as many buffers as a frame needs. See e1000.c.
 */
#include "dev/net/e1000_private.h"

#include "base/bytes.h"

#include <string.h>

#define RCTL_UPE   0x0008u
#define RCTL_MPE   0x0010u
#define RCTL_LPE   0x0020u
#define RCTL_BAM   0x8000u
#define RCTL_BSEX  (1u << 25)
#define RCTL_SECRC (1u << 26)

#define R_EOP  0x02u
#define R_IXSM 0x04u

#define CRC   4u
#define SHORT 60u     /* no frame is shorter, */
#define LONG  1522u   /* nor longer, if nothing is said */

static uint32_t buffer_size(const struct e1000 *n)
{
	unsigned how = n->rctl >> 16 & 3;

	if (n->rctl & RCTL_BSEX)
		return how ? 32768u >> how : 16384;
	return 2048u >> how;
}

/* Which bit of the table a group's address is. */
static bool takes_group(const struct e1000 *n, const uint8_t *to)
{
	static const uint8_t shifts[] = {4, 3, 2, 0};
	unsigned hash = (to[4] | (unsigned)to[5] << 8) >> shifts[n->rctl >> 12 & 3] & 0xfff;

	return n->rctl & RCTL_MPE || n->mta[hash >> 5] >> (hash & 31) & 1;
}

static bool takes(const struct e1000 *n, const uint8_t *to)
{
	static const uint8_t all[MAC_LEN] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

	if (n->rctl & RCTL_UPE || (n->rctl & RCTL_BAM && !memcmp(to, all, MAC_LEN)))
		return true;
	for (unsigned i = 0; i < RA; i++) {
		const uint32_t *a = &n->ra[i * 2];

		if (a[1] >> 31 && le32_get(to) == a[0] && le16_get(to + 4) == (uint16_t)a[1])
			return true;
	}
	return to[0] & 1 && takes_group(n, to);
}

/* Bytes from `at` on, of which those behind the frame are zeros: padding, and where its checksum was. */
static void put_bytes(struct e1000 *n, gpa_t to, const uint8_t *frame, uint32_t len, uint32_t at, uint32_t count)
{
	uint8_t *host = count ? guest_range(n->config.mem, to, count) : NULL;
	uint32_t has = at < len ? len - at : 0;

	if (!host)
		return;
	if (has > count)
		has = count;
	memcpy(host, frame + at, has);
	memset(host + has, 0, count - has);
}

static void put_descriptor(struct e1000 *n, gpa_t at, uint32_t len, bool last)
{
	uint8_t *d = guest_range(n->config.mem, at, DESC);

	if (!d)
		return;
	le16_put(d + 8, (uint16_t)len);
	le16_put(d + 10, 0);
	d[13] = d[14] = d[15] = 0;
	__atomic_store_n(d + 12, DONE | R_IXSM | (last ? R_EOP : 0), __ATOMIC_RELEASE);
}

/* False: there are too few buffers now. A frame that nobody wants, or that fits into no ring, is lost. */
static bool deliver(struct e1000 *n, const uint8_t *frame, uint32_t len)
{
	uint32_t room = buffer_size(n), all = len < SHORT ? SHORT : len, count;
	uint8_t d[DESC];

	if (len < NET_FRAME_MIN || all > (n->rctl & RCTL_LPE ? JUMBO - CRC : LONG - CRC) || !takes(n, frame))
		return true;
	all += n->rctl & RCTL_SECRC ? 0 : CRC;
	count = (all + room - 1) / room;
	if (count > ours(&n->rx))
		return count >= entries(&n->rx);
	for (uint32_t i = 0, at = 0; i < count; i++, at += room) {
		uint32_t part = all - at < room ? all - at : room;

		if (guest_read(n->config.mem, entry(&n->rx, i), d, DESC) == 0) {
			put_bytes(n, le64_get(d), frame, len, at, part);
			put_descriptor(n, entry(&n->rx, i), part, i + 1 == count);
		}
	}
	advance(&n->rx, count);
	n->received++;
	return true;
}

bool e1000_can_receive(const struct e1000 *n)
{
	return n->link.up && n->rctl & RCTL_EN && ours(&n->rx);
}

void e1000_receive(struct e1000 *n)
{
	struct net_port *port = n->config.port;
	uint32_t before = n->received;
	const uint8_t *frame;
	unsigned left;
	size_t len, skip = port && port->type->vnet ? NET_VNET : 0;

	if (n->paused || n->starved || !e1000_can_receive(n))
		return;
	for (left = BURST; left && !n->starved && (frame = port->type->peek(port, &len)); left--) {
		n->starved = len >= skip && !deliver(n, frame + skip, (uint32_t)(len - skip));
		if (!n->starved)
			port->type->drop(port);
	}
	if (!left)
		loop_call(&n->call); /* poll() does not know of what the port has read already */
	if (n->received != before)
		e1000_interrupt(n, ICR_RXT | (ours(&n->rx) < entries(&n->rx) / 2 ? ICR_RXDMT : 0));
}
