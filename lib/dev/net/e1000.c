/* SPDX-License-Identifier: MIT */
/*
 * Intel's 82540EM, a network card for systems that know no virtio.
 *
 *	+0000 control, status   +0010 EEPROM (bits, or a word: EERD)   +0020 PHY (MDIC)   +00c0 interrupts
 *	+0100 receiver          +2800 its ring of descriptors          +5200 which addresses it takes
 *	+0400 transmitter       +3800 its ring                         +4000 statistics
 *
 * A ring is in guest memory, 16 bytes a descriptor: an address, and what it is about. Those from head to tail are ours; we write back that one is done
 * (DD), move the head, and set a bit of ICR, which is an interrupt if IMS has it, too.
 *
 *	a frame to the cable: descriptors up to one with EOP, copied together; a context before them says where checksums go, and that what
 *	comes is longer than a frame and is to be cut (TSE)
 *	a frame from there: as many buffers as it needs
 *
 * A frame is read from its first descriptor to its last in one go, and the head moves when the cable has taken it; what it does not take is read again
 * later. So there is no half a frame to be kept, but how much of a long one has gone (`gone`).
 *
 * As with virtio (dev/virtio/net.c) the vCPU's thread sends, and the loop's receives; who has no buffers has its frames wait in the port; and a guest
 * that goes on elsewhere finds its cable pulled for a second.
 *
 * Left out: VLAN filters and the taking off of tags, interrupt moderation and its timers, flow control, wake-up, jumbo frames of
 * more than 16 KiB, statistics but for a few, writing the EEPROM.
 */
#include "dev/net/e1000.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "bus/guest.h"
#include "loop/loop.h"
#include "net/checksum.h"
#include "net/port.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>

#define BAR_SIZE 0x20000u
#define IO_SIZE  0x40u

#define CTRL_RST     (1u << 26)
#define CTRL_VME     (1u << 30)
#define CTRL_PHY_RST (1u << 31)
#define STATUS_FULL  0x01u /* duplex */
#define STATUS_LINK  0x02u
#define STATUS_1000  0x80u

#define EE_CLOCK  0x01u
#define EE_SELECT 0x02u
#define EE_IN     0x04u
#define EE_OUT    0x08u
#define EE_KEPT   0x77u
#define EE_GRANT  0x180u /* granted, and there is one */
#define EE_WORDS  64u
#define EE_SUM    0xbabau

#define ICR_TXDW 0x01u
#define ICR_TXQE 0x02u
#define ICR_LSC  0x04u
#define ICR_RXDMT 0x10u
#define ICR_RXT  0x80u
#define ICR_MDAC 0x200u

#define RCTL_EN    0x0002u
#define RCTL_UPE   0x0008u
#define RCTL_MPE   0x0010u
#define RCTL_LPE   0x0020u
#define RCTL_BAM   0x8000u
#define RCTL_BSEX  (1u << 25)
#define RCTL_SECRC (1u << 26)
#define TCTL_EN    0x0002u

#define DESC 16u
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

#define DONE 0x01u /* DD: written back */
#define R_EOP  0x02u
#define R_IXSM 0x04u

#define CRC   4u
#define SHORT 60u     /* no frame is shorter, */
#define LONG  1522u   /* nor longer, if nothing is said */
#define JUMBO 16384u
#define MTA   128u
#define RA    16u
#define BURST 64u       /* frames at once, from there; and four times as many to there */
#define MSS_MIN    64u   /* less, and a frame would be thousands */
#define PIECES_MAX 1024u
#define PARTS 512u      /* descriptors of a frame, at most */
#define PULLED_NS UINT64_C(1000000000)
#define PULLED_MAX 10u

/* Of a ring: registers 0x00 to 0x18 behind its beginning. */
struct ring {
	uint64_t base;
	uint32_t len, head, tail;
};

/* Where checksums begin, go, and end; how long a header is, and what follows it. */
struct context {
	uint8_t ip_start, ip_at, start, at, header, command;
	uint16_t ip_end, end, mss;
};

struct e1000 {
	struct device dev; /* first */
	struct e1000_config config;
	struct pci_function fn;
	struct loop_source source;
	struct loop_timer call, plug;
	bool pulled, unplugged, paused;
	bool seen;       /* the driver has looked while the cable was pulled */
	unsigned waited; /* seconds for that */
	bool full;      /* the cable takes no more now */
	bool starved;   /* a frame waits for buffers */
	bool listening;
	uint16_t eeprom[EE_WORDS];
	uint8_t frame[NET_FRAME_MAX], segment[JUMBO];
	/* the guest's: */
	bool link;
	uint32_t io_at;
	uint32_t ctrl, eecd, eerd, mdic, icr, ims, rctl, tctl, rxcsum;
	uint16_t ee_in, ee_bits, ee_out; /* what the EEPROM has heard, of how many bits; which bit it says */
	uint16_t phy[32];
	struct ring rx, tx;
	struct context context;
	uint32_t gone;
	uint32_t mta[MTA], ra[RA * 2], vfta[MTA];
	uint32_t kept[16]; /* registers without an effect */
	uint32_t received, sent;
};

/* -- Interrupts ------------------------------------------------------------------------------- */

static void update_pin(struct e1000 *n)
{
	pci_intx_set(&n->fn, n->icr & n->ims);
}

static void interrupt(struct e1000 *n, uint32_t why)
{
	n->icr |= why;
	update_pin(n);
}

/* -- The link ----------------------------------------------------------------------------------- */

enum { PHY_CONTROL = 0, PHY_STATUS = 1, PHY_ID = 2, PHY_OWN = 4, PHY_PARTNER = 5, PHY_GIGABIT = 9, PHY_GIGABIT_STATUS = 10, PHY_STATE = 17 };

/* Of a link of 1000 Mb/s, or of none. */
static uint16_t read_phy(struct e1000 *n, unsigned reg)
{
	switch (reg) {
	case PHY_STATUS:
		n->seen = n->seen || !n->link;
		return n->link ? 0x796d : 0x7949;
	case PHY_PARTNER:
		return n->link ? 0x45e1 : 0;
	case PHY_GIGABIT_STATUS:
		return n->link ? 0x3c00 : 0;
	case PHY_STATE:
		return n->link ? 0xac08 : 0x8000;
	default:
		return n->phy[reg];
	}
}

static void update_link(struct e1000 *n)
{
	bool up = n->config.port && n->config.port->up && !n->unplugged && !n->pulled;

	if (n->paused || up == n->link)
		return;
	n->link = up;
	interrupt(n, ICR_LSC);
}

void e1000_plug(struct device *dev, bool in)
{
	struct e1000 *n = (struct e1000 *)dev;

	scoped_lock(&dev->lock);
	n->unplugged = !in;
	update_link(n);
	loop_call(&n->call);
}

bool e1000_link(struct device *dev)
{
	scoped_lock(&dev->lock);
	return ((struct e1000 *)dev)->link;
}

static void plug_in(void *ctx)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	if (n->pulled && !n->paused && !n->seen && ++n->waited < PULLED_MAX) {
		loop_timer_set(&n->plug, loop_now() + PULLED_NS); /* a driver that looks each other second, and has a slow host */
		return;
	}
	n->pulled = n->pulled && n->paused; /* resume sets the timer again */
	update_link(n);
}

/* -- Rings -------------------------------------------------------------------------------------- */

static uint32_t entries(const struct ring *r)
{
	return r->len / DESC;
}

/* How many descriptors are ours. */
static uint32_t ours(const struct ring *r)
{
	uint32_t size = entries(r);

	if (r->head >= size || r->tail >= size)
		return 0;
	return (r->tail + size - r->head) % size;
}

static gpa_t entry(const struct ring *r, uint32_t i)
{
	return r->base + (uint64_t)((r->head + i) % entries(r)) * DESC; /* SAFE: only of a ring that has some */
}

static void advance(struct ring *r, uint32_t count)
{
	r->head = (r->head + count) % entries(r);
}

/* -- From the guest ------------------------------------------------------------------------------ */

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

	if (len < NET_FRAME_MIN || !n->link)
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
static void transmit(struct e1000 *n)
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
	interrupt(n, why);
	update_link(n); /* who was there may have gone */
}

/* -- To the guest --------------------------------------------------------------------------------- */

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

static bool can_receive(const struct e1000 *n)
{
	return n->link && n->rctl & RCTL_EN && ours(&n->rx);
}

static void receive(struct e1000 *n)
{
	struct net_port *port = n->config.port;
	uint32_t before = n->received;
	const uint8_t *frame;
	unsigned left;
	size_t len, skip = port && port->type->vnet ? NET_VNET : 0;

	if (n->paused || n->starved || !can_receive(n))
		return;
	for (left = BURST; left && !n->starved && (frame = port->type->peek(port, &len)); left--) {
		n->starved = len >= skip && !deliver(n, frame + skip, (uint32_t)(len - skip));
		if (!n->starved)
			port->type->drop(port);
	}
	if (!left)
		loop_call(&n->call); /* poll() does not know of what the port has read already */
	if (n->received != before)
		interrupt(n, ICR_RXT | (ours(&n->rx) < entries(&n->rx) / 2 ? ICR_RXDMT : 0));
}

/* -- The loop --------------------------------------------------------------------------------------- */

static uint64_t prepare(void *ctx, struct pollfd *p)
{
	struct e1000 *n = ctx;
	struct net_port *port = n->config.port;

	scoped_lock(&n->dev.lock);
	if (n->paused)
		return LOOP_NEVER;
	n->listening = can_receive(n) && !n->starved;
	port->type->wants(port, n->listening, n->full, p);
	return LOOP_NEVER;
}

static void serve(void *ctx, const struct pollfd *p)
{
	struct e1000 *n = ctx;
	struct net_port *port = n->config.port;

	scoped_lock(&n->dev.lock);
	if (n->paused)
		return;
	port->type->serve(port, p->revents);
	receive(n);
	if (p->revents & POLLOUT || !port->up) {
		n->full = false;
		transmit(n);
	}
	update_link(n);
}

/* prepare() is asked again afterwards. */
static void look_again(void *ctx)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	if (n->config.port)
		receive(n);
	transmit(n);
}

/* -- EEPROM and PHY ----------------------------------------------------------------------------------- */

static void fill_eeprom(struct e1000 *n)
{
	uint16_t sum = 0;

	for (unsigned i = 0; i < 3; i++)
		n->eeprom[i] = le16_get(n->config.mac + i * 2);
	n->eeprom[0x0a] = 0x408b; /* the next three are its numbers at PCI */
	n->eeprom[0x0b] = 0x1100;
	n->eeprom[0x0c] = 0x1af4;
	n->eeprom[0x0d] = 0x100e;
	n->eeprom[0x0e] = 0x8086;
	for (unsigned i = 0; i < EE_WORDS - 1; i++)
		sum = (uint16_t)(sum + n->eeprom[i]);
	n->eeprom[EE_WORDS - 1] = (uint16_t)(EE_SUM - sum);
}

#define EE_COMMAND 9u /* bits: start, two that say what, six of the address */
#define EE_READ    6u

/* A rising clock: a bit comes, or goes. */
static void clock_eeprom(struct e1000 *n, bool bit)
{
	if (n->ee_bits == EE_COMMAND) {
		n->ee_out = (uint16_t)((n->ee_out + 1) % (EE_WORDS * 16));
		return;
	}
	if (!n->ee_bits && !bit)
		return; /* it waits for a command's start */
	n->ee_in = (uint16_t)(n->ee_in << 1 | bit);
	if (++n->ee_bits == EE_COMMAND) /* the bit before the first one */
		n->ee_out = (uint16_t)(((n->ee_in & 0x3f) * 16 + EE_WORDS * 16 - 1) % (EE_WORDS * 16));
}

static uint64_t read_eecd(void *dev, unsigned at)
{
	const struct e1000 *n = dev;
	bool out = true;

	(void)at;
	if (n->ee_bits == EE_COMMAND && n->ee_in >> 6 == EE_READ)
		out = n->eeprom[n->ee_out / 16 % EE_WORDS] >> (15 - n->ee_out % 16) & 1;
	return n->eecd | EE_GRANT | (out ? EE_OUT : 0);
}

static void write_eecd(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;
	uint32_t before = n->eecd;

	(void)at;
	n->eecd = (uint32_t)value & EE_KEPT;
	if (!(n->eecd & EE_SELECT))
		n->ee_in = n->ee_bits = 0;
	else if (n->eecd & ~before & EE_CLOCK)
		clock_eeprom(n, n->eecd & EE_IN);
}

static void write_eerd(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->eerd = (uint32_t)value & 0xff00;
	if (value & 1)
		n->eerd |= 0x10u | (uint32_t)n->eeprom[value >> 8 & (EE_WORDS - 1)] << 16;
}

static bool may_write_phy(unsigned reg)
{
	return reg == PHY_OWN || reg == PHY_GIGABIT || (reg > PHY_STATE && reg != 28);
}

static void write_phy(struct e1000 *n, unsigned reg, uint16_t value)
{
	if (reg == PHY_CONTROL)
		n->phy[reg] = value & 0x3d40; /* resets and negotiations are over at once */
	else if (may_write_phy(reg))
		n->phy[reg] = value;
	if (reg == PHY_CONTROL && value & 0x200 && n->link)
		interrupt(n, ICR_LSC);
}

static void write_mdic(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;
	unsigned reg = value >> 16 & 31, op = value >> 26 & 3;

	(void)at;
	n->mdic = (uint32_t)value & 0x23ffffff;
	if ((value >> 21 & 31) != 1)
		n->mdic |= 1u << 30; /* there is one PHY */
	else if (op == 1)
		write_phy(n, reg, (uint16_t)value);
	else if (op == 2)
		n->mdic = (n->mdic & 0xffff0000) | read_phy(n, reg);
	n->mdic |= 1u << 28 | (uint32_t)op << 26;
	if (value >> 29 & 1)
		interrupt(n, ICR_MDAC);
}

static void reset_phy(struct e1000 *n)
{
	memset(n->phy, 0, sizeof(n->phy));
	n->phy[PHY_CONTROL] = 0x1140;
	n->phy[PHY_ID] = 0x0141;
	n->phy[PHY_ID + 1] = 0x0c20;
	n->phy[PHY_OWN] = 0x0de1;
	n->phy[6] = 0x1;
	n->phy[PHY_GIGABIT] = 0x0e00;
	n->phy[15] = 0x3000;
	n->phy[16] = 0x0360;
	n->phy[20] = 0x0d60;
}

/* -- Registers ------------------------------------------------------------------------------------------ */

static void reset_card(struct e1000 *n);

static uint64_t read_ctrl(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->ctrl;
}

static void write_ctrl(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	if (value & CTRL_RST) {
		reset_card(n);
		return;
	}
	if (value & CTRL_PHY_RST)
		reset_phy(n);
	n->ctrl = (uint32_t)value & ~(CTRL_RST | CTRL_PHY_RST);
}

static uint64_t read_status(void *dev, unsigned at)
{
	(void)at;
	return STATUS_FULL | STATUS_1000 | (((struct e1000 *)dev)->link ? STATUS_LINK : 0);
}

static uint64_t read_icr(void *dev, unsigned at)
{
	struct e1000 *n = dev;
	uint32_t value = n->icr;

	(void)at;
	n->icr = 0;
	update_pin(n);
	return value;
}

static void write_icr(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->icr &= (uint32_t)~value;
	update_pin(n);
}

static void write_ics(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	interrupt(dev, (uint32_t)value);
}

static uint64_t read_ims(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->ims;
}

static void write_ims(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->ims |= (uint32_t)value;
	update_pin(n);
}

static void write_imc(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->ims &= (uint32_t)~value;
	update_pin(n);
}

/* There are buffers, or the receiver is on. */
static void look_for_frames(struct e1000 *n)
{
	if (n->starved || !n->listening)
		loop_call(&n->call);
	n->starved = false;
}

static void write_rctl(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->rctl = (uint32_t)value;
	look_for_frames(n);
}

static void write_tctl(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;

	(void)at;
	n->tctl = (uint32_t)value;
	transmit(n);
}

static struct ring *ring_of(struct e1000 *n, unsigned at)
{
	return at < 0x3800 ? &n->rx : &n->tx;
}

static uint64_t read_ring(void *dev, unsigned at)
{
	const struct ring *r = ring_of(dev, at);

	switch (at & 0x7ff) {
	case 0x00:
		return (uint32_t)r->base;
	case 0x04:
		return (uint32_t)(r->base >> 32);
	case 0x08:
		return r->len;
	case 0x10:
		return r->head;
	case 0x18:
		return r->tail;
	default:
		return 0;
	}
}

static void write_ring(void *dev, unsigned at, uint64_t value)
{
	struct e1000 *n = dev;
	struct ring *r = ring_of(n, at);

	switch (at & 0x7ff) {
	case 0x00:
		r->base = (r->base & ~UINT64_C(0xffffffff)) | (value & 0xfffffff0);
		break;
	case 0x04:
		r->base = (uint32_t)r->base | value << 32;
		break;
	case 0x08:
		r->len = (uint32_t)value & 0xfff80;
		break;
	case 0x10:
		r->head = (uint32_t)value & 0xffff;
		n->gone = 0;
		break;
	case 0x18:
		r->tail = (uint32_t)value & 0xffff;
		if (r == &n->tx)
			transmit(n);
		else
			look_for_frames(n);
		break;
	default:
		break;
	}
}

/* Tables of 32 bits. */
static uint32_t *table_at(struct e1000 *n, unsigned at)
{
	if (at >= 0x5600)
		return &n->vfta[(at - 0x5600) / 4 % MTA];
	if (at >= 0x5400)
		return &n->ra[(at - 0x5400) / 4 % (RA * 2)];
	return &n->mta[(at - 0x5200) / 4 % MTA];
}

static uint64_t read_table(void *dev, unsigned at)
{
	return *table_at(dev, at);
}

static void write_table(void *dev, unsigned at, uint64_t value)
{
	*table_at(dev, at) = (uint32_t)value;
}

/* Registers that are kept, and mean nothing here. */
static const uint16_t kept[] = {0x0018, 0x0028, 0x002c, 0x0030, 0x0038, 0x00c4, 0x0170, 0x0410, 0x0458, 0x0e00, 0x1000, 0x2820, 0x282c, 0x3820,
				0x382c, 0x5820};

_Static_assert(ARRAY_SIZE(kept) == ARRAY_SIZE(((struct e1000 *)NULL)->kept), "a place for each");

static uint32_t *kept_at(struct e1000 *n, unsigned at)
{
	unsigned i = 0;

	while (i < ARRAY_SIZE(kept) - 1 && kept[i] != at)
		i++;
	return &n->kept[i];
}

static uint64_t read_kept(void *dev, unsigned at)
{
	return *kept_at(dev, at);
}

static void write_kept(void *dev, unsigned at, uint64_t value)
{
	*kept_at(dev, at) = (uint32_t)value;
}

static uint64_t read_eerd(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->eerd;
}

static uint64_t read_mdic(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->mdic;
}

static uint64_t read_rctl(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->rctl;
}

static uint64_t read_tctl(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->tctl;
}

static uint64_t read_rxcsum(void *dev, unsigned at)
{
	(void)at;
	return ((struct e1000 *)dev)->rxcsum;
}

static void write_rxcsum(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct e1000 *)dev)->rxcsum = (uint32_t)value;
}

/* A count is forgotten when it is read; all but two are 0. */
static uint64_t read_statistics(void *dev, unsigned at)
{
	struct e1000 *n = dev;
	uint32_t *count = at == 0x4074 || at == 0x40d0 ? &n->received : at == 0x4080 || at == 0x40d4 ? &n->sent : NULL, value;

	if (!count)
		return 0;
	value = *count;
	*count = 0;
	return value;
}

static uint64_t read_nothing(void *dev, unsigned at)
{
	(void)dev, (void)at;
	return 0;
}

#define KEPT(a, n) {.at = (a), .width = 4, .name = (n), .read = read_kept, .write = write_kept}

static const struct reg regs[] = {
	{.at = 0x0000, .width = 4, .name = "CTRL", .read = read_ctrl, .write = write_ctrl},
	{.at = 0x0008, .width = 4, .name = "STATUS", .read = read_status},
	{.at = 0x0010, .width = 4, .name = "EECD", .read = read_eecd, .write = write_eecd},
	{.at = 0x0014, .width = 4, .name = "EERD", .read = read_eerd, .write = write_eerd},
	KEPT(0x0018, "CTRL_EXT"),
	{.at = 0x0020, .width = 4, .name = "MDIC", .read = read_mdic, .write = write_mdic},
	KEPT(0x0028, "FCAL"),
	KEPT(0x002c, "FCAH"),
	KEPT(0x0030, "FCT"),
	KEPT(0x0038, "VET"),
	{.at = 0x00c0, .width = 4, .name = "ICR", .read = read_icr, .write = write_icr},
	KEPT(0x00c4, "ITR"),
	{.at = 0x00c8, .width = 4, .name = "ICS", .read = read_nothing, .write = write_ics},
	{.at = 0x00d0, .width = 4, .name = "IMS", .read = read_ims, .write = write_ims},
	{.at = 0x00d8, .width = 4, .name = "IMC", .read = read_nothing, .write = write_imc},
	{.at = 0x0100, .width = 4, .name = "RCTL", .read = read_rctl, .write = write_rctl},
	KEPT(0x0170, "FCTTV"),
	{.at = 0x0400, .width = 4, .name = "TCTL", .read = read_tctl, .write = write_tctl},
	KEPT(0x0410, "TIPG"),
	KEPT(0x0458, "AIFS"),
	KEPT(0x0e00, "LEDCTL"),
	KEPT(0x1000, "PBA"),
	{.at = 0x2800, .width = 4, .count = 8, .name = "RDBAL to RDT", .read = read_ring, .write = write_ring},
	KEPT(0x2820, "RDTR"),
	KEPT(0x282c, "RADV"),
	{.at = 0x3800, .width = 4, .count = 8, .name = "TDBAL to TDT", .read = read_ring, .write = write_ring},
	KEPT(0x3820, "TIDV"),
	KEPT(0x382c, "TADV"),
	{.at = 0x4000, .width = 4, .count = 64, .name = "statistics", .read = read_statistics},
	{.at = 0x5000, .width = 4, .name = "RXCSUM", .read = read_rxcsum, .write = write_rxcsum},
	{.at = 0x5200, .width = 4, .count = MTA, .name = "MTA", .read = read_table, .write = write_table},
	{.at = 0x5400, .width = 4, .count = RA * 2, .name = "RAL, RAH", .read = read_table, .write = write_table},
	{.at = 0x5600, .width = 4, .count = MTA, .name = "VFTA", .read = read_table, .write = write_table},
	KEPT(0x5820, "MANC"),
	{0},
};

/* What is not there reads as 0, not as all ones. */
static bool is_register(uint64_t at)
{
	for (const struct reg *r = regs; r->name; r++)
		if (at >= r->at && at < r->at + r->width * (r->count ? r->count : 1u))
			return true;
	return false;
}

static uint64_t bar_read(void *ctx, uint64_t at, unsigned width)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	return at <= UINT16_MAX && is_register(at) ? regs_read(regs, n, at, width) : 0;
}

static void bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	if (at <= UINT16_MAX && is_register(at))
		regs_write(regs, n, at, width, value);
}

/* The same by ports: an address, and what is there. */
static uint64_t io_read(void *ctx, uint64_t at, unsigned width)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	if (width != 4)
		return 0;
	if (at == 0)
		return n->io_at;
	return at == 4 && n->io_at <= UINT16_MAX && is_register(n->io_at) ? regs_read(regs, n, n->io_at & ~3u, 4) : 0;
}

static void io_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct e1000 *n = ctx;

	scoped_lock(&n->dev.lock);
	if (width == 4 && at == 0)
		n->io_at = (uint32_t)value;
	else if (width == 4 && at == 4 && n->io_at <= UINT16_MAX && is_register(n->io_at))
		regs_write(regs, n, n->io_at & ~3u, 4, value);
}

/* -- The model -------------------------------------------------------------------------------------------- */

static void reset_card(struct e1000 *n)
{
	n->ctrl = 0x00000a09;
	n->eecd = n->eerd = n->mdic = n->icr = n->ims = n->rctl = n->tctl = n->rxcsum = 0;
	n->ee_in = n->ee_bits = n->ee_out = 0;
	n->rx = n->tx = (struct ring){.base = 0};
	n->context = (struct context){.mss = 0};
	n->gone = n->received = n->sent = n->io_at = 0;
	n->full = n->starved = false;
	memset(n->mta, 0, sizeof(n->mta));
	memset(n->vfta, 0, sizeof(n->vfta));
	memset(n->kept, 0, sizeof(n->kept));
	memset(n->ra, 0, sizeof(n->ra));
	n->ra[0] = le32_get(n->config.mac);
	n->ra[1] = 1u << 31 | le16_get(n->config.mac + 4);
	*kept_at(n, 0x1000) = 0x00100030;
	reset_phy(n);
	update_pin(n);
}

static int init(struct device *dev, const void *config, struct err *err)
{
	struct e1000 *n = (struct e1000 *)dev;
	int rc;

	n->config = *(const struct e1000_config *)config;
	n->link = n->config.port && n->config.port->up;
	fill_eeprom(n);
	n->fn = (struct pci_function){
		.name = "e1000", .vendor = 0x8086, .device = 0x100e, .revision = 2, .class_code = 0x020000,
		.sub_vendor = 0x1af4, .sub_device = 0x1100, .pin = 1, .ctx = n, .rom = n->config.rom,
		.bars[0] = {.size = BAR_SIZE, .read = bar_read, .write = bar_write},
		.bars[1] = {.size = IO_SIZE, .io = true, .read = io_read, .write = io_write},
	};
	rc = pci_add(n->config.host, &n->fn, PCI_DEVFN(n->config.slot, 0), err);
	if (rc < 0 || !n->config.loop)
		return rc;
	loop_timer_init(&n->call, n->config.loop, look_again, n);
	loop_timer_init(&n->plug, n->config.loop, plug_in, n);
	n->source = (struct loop_source){prepare, serve, n};
	if (n->config.port && loop_add(n->config.loop, &n->source) < 0)
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

static void reset(struct device *dev)
{
	struct e1000 *n = (struct e1000 *)dev;

	reset_card(n);
}

static void fini(struct device *dev)
{
	struct e1000 *n = (struct e1000 *)dev;

	if (n->config.loop)
		loop_remove(n->config.loop, &n->source);
	loop_timer_fini(&n->call);
	loop_timer_fini(&n->plug);
	pci_remove(&n->fn);
}

static void pause_card(struct device *dev)
{
	struct e1000 *n = (struct e1000 *)dev;

	n->paused = true;
	loop_timer_set(&n->plug, LOOP_NEVER);
}

static void resume(struct device *dev)
{
	struct e1000 *n = (struct e1000 *)dev;

	n->paused = false;
	if (n->pulled)
		loop_timer_set(&n->plug, loop_now() + PULLED_NS);
	update_link(n);
	transmit(n);
	loop_call(&n->call);
}

static void saving(struct device *dev)
{
	pci_function_saving(&((struct e1000 *)dev)->fn);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct e1000 *n = (struct e1000 *)dev;

	(void)away;
	if (n->rx.len & ~0xfff80u || n->tx.len & ~0xfff80u)
		return err_set(err, EINVAL, "rings of %u and %u bytes: they are multiples of 128", n->rx.len, n->tx.len);
	n->pulled = n->link = true; /* resume tells the driver that it is not */
	n->seen = false;
	n->waited = 0;
	pci_function_loaded(&n->fn);
	return 0;
}

static const struct state_field ring_fields[] = {
	STATE(struct ring, base), STATE_UPTO(struct ring, len, 0xfff80), STATE_UPTO(struct ring, head, 0xffff), STATE_UPTO(struct ring, tail, 0xffff), {0},
};

static const struct state_field context_fields[] = {
	STATE(struct context, ip_start), STATE(struct context, ip_at), STATE(struct context, start), STATE(struct context, at),
	STATE(struct context, header), STATE(struct context, command), STATE(struct context, ip_end), STATE(struct context, end),
	STATE(struct context, mss), {0},
};

static const struct state_field fields[] = {
	PCI_FUNCTION_STATE(struct e1000, fn),
	STATE(struct e1000, io_at),
	STATE(struct e1000, ctrl),
	STATE(struct e1000, eecd),
	STATE(struct e1000, eerd),
	STATE(struct e1000, mdic),
	STATE(struct e1000, icr),
	STATE(struct e1000, ims),
	STATE(struct e1000, rctl),
	STATE(struct e1000, tctl),
	STATE(struct e1000, rxcsum),
	STATE(struct e1000, ee_in),
	STATE_UPTO(struct e1000, ee_bits, EE_COMMAND),
	STATE_UPTO(struct e1000, ee_out, EE_WORDS * 16 - 1),
	STATE_ARRAY(struct e1000, phy),
	STATE_PART(struct e1000, rx, ring_fields),
	STATE_PART(struct e1000, tx, ring_fields),
	STATE_PART(struct e1000, context, context_fields),
	STATE_UPTO(struct e1000, gone, NET_FRAME_MAX),
	STATE_ARRAY(struct e1000, mta),
	STATE_ARRAY(struct e1000, ra),
	STATE_ARRAY(struct e1000, vfta),
	STATE_ARRAY(struct e1000, kept),
	STATE(struct e1000, received),
	STATE(struct e1000, sent),
	{0},
};

static const struct state_table table = {.name = "e1000", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model e1000_model = {
	.name = "e1000",
	.summary = "network card that most systems know (Intel 82540EM)",
	.option = "--net WHERE,model=e1000",
	.size = sizeof(struct e1000),
	.bar = regs,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.pause = pause_card,
	.resume = resume,
	.saving = saving,
	.loaded = loaded,
};
