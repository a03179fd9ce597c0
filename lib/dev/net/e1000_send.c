/* SPDX-License-Identifier: MIT */
/*
 * Frames that the 82540EM sends: descriptors up to one with EOP, copied together; checksums where a context or an old descriptor says; and what is
 * longer than a frame in pieces. See e1000.c.
 */
#include "dev/net/e1000_private.h"

#include "base/bytes.h"
#include "net/checksum.h"

#include <string.h>

/* Of one to be sent: bits of its byte 11, */
#define D_EOP  0x01u
#define D_CSUM 0x04u /* of an old one; */
#define D_TSE  0x04u /* of a new one */
#define D_RS   0x08u
#define D_EXT  0x20u
#define D_VLE  0x40u
/* and which kind of new one it is. */
#define D_DATA 0x10u
#define D_IXSM 0x01u /* of data: checksums of IP, */
#define D_TXSM 0x02u /* and of what is in it */
#define C_TCP  0x01u /* of a context */
#define C_IP   0x02u

#define MSS_MIN    64u   /* less, and a frame would be thousands */
#define PIECES_MAX 1024u
#define PARTS 512u      /* descriptors of a frame, at most */

/* A frame, or what is to become several. */
struct packet {
	uint32_t len, count; /* bytes; descriptors */
	bool extended, cut, lost, reports, tagged;
	uint8_t options, old_start, old_at;
	uint16_t tag;
};

static void read_context(struct context *c, const uint8_t *d)
{
	*c = (struct context){
		.ip_start = d[0], .ip_at = d[1], .ip_end = le16_get(d + 2), .start = d[4], .at = d[5], .end = le16_get(d + 6),
		.command = d[11], .header = d[13], .mss = le16_get(d + 14),
	};
}

/* Bytes of the frame. What makes it longer than any may be is not read. */
static void add_bytes(struct e1000 *n, struct packet *p, gpa_t at, uint32_t len)
{
	if (len > NET_FRAME_MAX - p->len || (len && guest_read(n->config.mem, at, n->frame + p->len, len) < 0)) {
		p->lost = true;
		return;
	}
	p->len += len;
}

/* One descriptor; true: it is the frame's last. */
static bool add_descriptor(struct e1000 *n, struct packet *p, const uint8_t *d)
{
	uint8_t command = d[11], first = !p->len;

	p->count++;
	p->reports |= command & D_RS;
	if (!(command & D_EXT)) {
		add_bytes(n, p, le64_get(d), le16_get(d + 8));
		if (command & D_CSUM) {
			p->old_at = d[10];
			p->old_start = d[13];
		}
	} else if (!(d[10] & 0xf0)) {
		read_context(&n->context, d);
		return false;
	} else {
		add_bytes(n, p, le64_get(d), le32_get(d + 8) & 0xfffff);
		p->extended = true;
		p->cut |= command & D_TSE;
		if (first)
			p->options = d[13];
	}
	if (command & D_EOP && command & D_VLE && n->ctrl & CTRL_VME) {
		p->tagged = true;
		p->tag = le16_get(d + 14);
	}
	return command & D_EOP;
}

/* What is between head and tail, up to the end of a frame; false: that is not there yet, but there may have been contexts. */
static bool read_packet(struct e1000 *n, struct packet *p)
{
	uint32_t all = ours(&n->tx);
	uint8_t d[DESC];

	*p = (struct packet){.len = 0};
	for (uint32_t i = 0; i < all && i < PARTS; i++) {
		if (guest_read(n->config.mem, entry(&n->tx, i), d, DESC) < 0) {
			p->lost = true; /* SAFE: it is passed over, as a frame */
			p->count = i + 1;
			return true;
		}
		if (add_descriptor(n, p, d))
			return true;
	}
	p->lost = true;
	return p->count == PARTS;
}

/* Over bytes from `start` to `end`, or all there are; what is at `at` is counted, too. */
static void put_sum(uint8_t *frame, uint32_t len, uint32_t start, uint32_t at, uint32_t end)
{
	struct iovec iov = {frame, end && end < len ? end + 1u : len};

	if (at + 2u > len || start >= iov.iov_len)
		return;
	if (start & 1) { /* the sum begins with an even byte */
		iov.iov_base = frame + start;
		iov.iov_len -= start;
		start = 0;
	}
	net_fold(net_sum(&iov, 1, start), frame + at);
}

/* Checksums that a descriptor of data asks for. */
static void put_sums(const struct e1000 *n, const struct packet *p, uint8_t *frame, uint32_t len)
{
	const struct context *c = &n->context;

	if (p->options & D_TXSM)
		put_sum(frame, len, c->start, c->at, p->cut ? 0 : c->end);
	if (p->options & D_IXSM && c->ip_at + 2u <= len) {
		le16_put(frame + c->ip_at, 0);
		put_sum(frame, len, c->ip_start, c->ip_at, c->ip_end);
	}
}

/* A VLAN's tag behind the addresses: in two pieces and one of its own. */
static bool send_bytes(struct e1000 *n, const struct packet *p, uint8_t *frame, uint32_t len)
{
	static const uint8_t none[NET_VNET];
	struct net_port *port = n->config.port;
	uint8_t tag[4] = {0x81, 0x00, (uint8_t)(p->tag >> 8), (uint8_t)p->tag};
	struct iovec iov[4];
	unsigned k = 0;

	if (len < NET_FRAME_MIN || !n->link.up)
		return true;
	if (port->type->vnet)
		iov[k++] = (struct iovec){(void *)none, sizeof(none)}; /* SAFE: it is only read */
	if (p->tagged) {
		iov[k++] = (struct iovec){frame, 12};
		iov[k++] = (struct iovec){tag, sizeof(tag)};
		iov[k++] = (struct iovec){frame + 12, len - 12};
	} else {
		iov[k++] = (struct iovec){frame, len};
	}
	if (!port->type->send(port, iov, k))
		return false;
	n->sent++;
	return true;
}

/* The headers of a piece: lengths, numbers, flags. */
static void fix_headers(const struct e1000 *n, uint8_t *s, uint32_t len, uint32_t before, bool last)
{
	const struct context *c = &n->context;
	uint8_t *ip = s + c->ip_start, *up = s + c->start;
	uint32_t sum;

	if (c->command & C_IP) {
		be16_put(ip + 2, (uint16_t)(len - c->ip_start));
		be16_put(ip + 4, (uint16_t)(be16_get(ip + 4) + before / c->mss));
	} else {
		be16_put(ip + 4, (uint16_t)(len - c->ip_start - 40));
	}
	if (c->command & C_TCP) {
		be32_put(up + 4, be32_get(up + 4) + before);
		up[13] &= last ? 0xff : 0xf6; /* neither FIN nor PSH */
	} else {
		be16_put(up + 4, (uint16_t)(len - c->start));
	}
	/* The pseudo-header's sum lacks the length. */
	sum = be16_get(s + c->at) + len - c->start;
	be16_put(s + c->at, (uint16_t)((sum & 0xffff) + (sum >> 16)));
}

/* SAFE: what fix_headers() touches is in the header, and that is in the frame. */
static bool can_cut(const struct context *c, uint32_t len)
{
	return c->mss >= MSS_MIN && c->header <= len && c->header + c->mss <= JUMBO && c->ip_start + 20u <= c->header && c->start + 14u <= c->header &&
	       c->at + 2u <= c->header && c->ip_at + 2u <= c->header;
}

/* In pieces, from where it has come to. So many at once; then it is as if there was no room, and others have their turn. */
static bool send_cut(struct e1000 *n, const struct packet *p)
{
	const struct context *c = &n->context;
	uint8_t *s = n->segment;
	unsigned left = PIECES_MAX;
	uint32_t all;

	if (!can_cut(c, p->len))
		return true;
	all = p->len - c->header;
	if (n->gone > all) /* SAFE: the driver may have made another frame of it since */
		n->gone = all;
	while (n->gone < all || !all) {
		uint32_t part = all - n->gone < c->mss ? all - n->gone : c->mss;

		memcpy(s, n->frame, c->header);
		memcpy(s + c->header, n->frame + c->header + n->gone, part);
		fix_headers(n, s, c->header + part, n->gone, n->gone + part == all);
		put_sums(n, p, s, c->header + part);
		if (!left-- || !send_bytes(n, p, s, c->header + part))
			return false;
		n->gone += part;
		if (!all)
			break;
	}
	return true;
}

/* False: there is no room for it now. */
static bool send_packet(struct e1000 *n, const struct packet *p)
{
	if (p->lost)
		return true;
	if (p->extended && p->cut)
		return send_cut(n, p);
	if (p->extended)
		put_sums(n, p, n->frame, p->len);
	else if (p->old_at)
		put_sum(n->frame, p->len, p->old_start, p->old_at, 0);
	return send_bytes(n, p, n->frame, p->len);
}

/* All of the frame's are written back that want to be. */
static void write_back(struct e1000 *n, const struct packet *p)
{
	for (uint32_t i = 0; i < p->count; i++) {
		uint8_t *d = guest_range(n->config.mem, entry(&n->tx, i), DESC);

		if (d && d[11] & D_RS)
			__atomic_store_n(d + 12, d[12] | DONE, __ATOMIC_RELEASE);
	}
	advance(&n->tx, p->count);
	n->gone = 0;
}

/* SAFE: a ring can have 4 GiB of frames. So many at once, and then others have their turn. */
void e1000_transmit(struct e1000 *n)
{
	unsigned left = 4 * BURST;
	uint32_t why = 0;
	struct packet p;

	if (n->full || n->paused || !(n->tctl & TCTL_EN))
		return;
	for (; left && read_packet(n, &p); left--) {
		if (!send_packet(n, &p)) {
			n->full = true;
			loop_call(&n->call);
			break;
		}
		write_back(n, &p);
		why |= p.reports ? ICR_TXDW : 0;
	}
	if (!left)
		loop_call(&n->call);
	if (why && !ours(&n->tx))
		why |= ICR_TXQE;
	e1000_interrupt(n, why);
	e1000_update_link(n); /* who was there may have gone */
}
