/* SPDX-License-Identifier: MIT */
/*
 * The virtio network card, after section 5.1 of virtio 1.2.
 *
 *	queue 0, 2, ..   the driver's empty buffers, which we fill with frames that have come
 *	queue 1, 3, ..   frames that it sends
 *	behind them      what it wants of us, if there are several pairs: so many of them
 *
 * Each frame has a header of 12 bytes before it (of 10, with a driver of before virtio 1.0 that takes a frame in one buffer alone), by which the driver leaves work to us and we to it: a checksum that is not
 * there yet, a TCP segment that is longer than the MTU. What is at the other end of the cable is a port (net/port.h).
 *
 *	a vCPU's thread                                  the loop's thread
 *	kick of queue 1: vq_pop -> port's send()         poll() -> peek() -> vq_pop, copy, vq_push
 *	  no room there: the ring waits                    no buffers: the port is not read
 *	                     poll() says POLLOUT -> goes on with queue 1
 *	kick of queue 0: there are buffers again -> wakes the loop
 *
 * So nobody waits for anybody, and each side that is slow has its frames wait where they are.
 *
 * Buffers that were sent go back at once, but who has sent little, as a receiver does who acknowledges, is interrupted for it a moment
 * later: by then its driver has mostly looked itself, when a frame came, and wants no interrupt.
 *
 * What is offered does not depend on the port, so that a saved guest can be restored with another one. For a port that takes no headers
 * we sum up ourselves, and segments go as they are, as one frame of up to 64 KiB: all our ports take those. To the driver
 * nothing is left undone by such a port.
 *
 * A guest that was restored or has moved finds its link down for a second: its cable was pulled and is in another socket, so it asks
 * DHCP again and announces itself. docs/why/net.md says what becomes of its address.
 *
 * Several pairs of queues (docs/why/kicks.md) are for drivers that have one for each CPU. A cable is a lane, or several, if the port has one for each pair:
 *
 *	one lane     all pairs send to it; a frame that comes is for the pair that has sent to the same connection last, or else for any
 *	a lane each  pair i sends to lane i; a frame is for its lane's pair, or one that is in use
 *
 * A frame for a pair that has no buffers has those behind it in its lane wait.
 *
 * Left out: what else the control queue can do (filters, VLANs, announcements): the card takes every frame. Hashes, and tables of them for the driver.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "dev/virtio/virtio.h"
#include "loop/loop.h"
#include "net/checksum.h"
#include "net/flow.h"
#include "net/link.h"
#include "net/port.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>

#define F_CSUM       (UINT64_C(1) << 0)
#define F_GUEST_CSUM (UINT64_C(1) << 1)
#define F_MTU        (UINT64_C(1) << 3)
#define F_MAC        (UINT64_C(1) << 5)
#define F_GUEST_TSO4 (UINT64_C(1) << 7)
#define F_GUEST_TSO6 (UINT64_C(1) << 8)
#define F_GUEST_ECN  (UINT64_C(1) << 9)
#define F_HOST_TSO4  (UINT64_C(1) << 11)
#define F_HOST_TSO6  (UINT64_C(1) << 12)
#define F_HOST_ECN   (UINT64_C(1) << 13)
#define F_MRG_RXBUF  (UINT64_C(1) << 15)
#define F_STATUS     (UINT64_C(1) << 16)
#define F_CTRL_VQ    (UINT64_C(1) << 17)
#define F_MQ         (UINT64_C(1) << 22)

#define PAIRS_MAX VIRTIO_NET_PAIRS_MAX
#define RX(pair)  ((pair) * 2)
#define TX(pair)  ((pair) * 2 + 1)

_Static_assert(2 * PAIRS_MAX + 1 <= VIRTIO_QUEUES_MAX, "room for them, and the control queue");

/* The control queue's one command. */
#define CTRL_MQ      4u
#define CTRL_MQ_SET  0u
#define CTRL_OK      0u
#define CTRL_ERROR   1u

/* The header. */
#define HEADER NET_VNET
#define H_FLAGS 0
#define H_CSUM_START 6
#define H_CSUM_OFFSET 8
#define H_BUFFERS 10
#define NEEDS_CSUM 1u
#define DATA_VALID 2u

/* The configuration: mac (6), status (2), pairs of queues (2), mtu (2). */
#define CONFIG_SIZE 12u
#define CONFIG_STATUS 6
#define CONFIG_PAIRS 8
#define CONFIG_MTU 10
#define ETHERNET_MTU 1500u

#define HEAD_MAX 512u /* as many bytes of a frame are copied to put a checksum into them */
#define BURST    64u  /* frames that are taken before the loop looks at something else */
#define LITTLE    4096u /* bytes of a kick */
#define LATER_NS  UINT64_C(1000000)

struct net;

struct lane {
	struct net *n;
	struct net_port *port;
	struct loop_source source;
	bool full;      /* the port takes no more: queues that send wait */
	bool starved;   /* a frame has come, and the driver has no buffers */
	bool listening; /* the loop waits for frames */
};

struct net {
	struct virtio v; /* first */
	struct virtio_net_config config;
	struct virtio_type type; /* with as many queues */
	struct lane lanes[PAIRS_MAX];
	unsigned n_lanes;        /* at least one, perhaps without a port */
	unsigned pairs;          /* there are, */
	uint16_t used;           /* and the driver uses, from the first one on */
	uint8_t flows[NET_FLOWS]; /* which pair has sent to it last */
	struct loop_timer call;  /* has the loop look again, also at what the port has read already */
	struct loop_timer sent;  /* the driver is to be told of what was sent */
	unsigned sent_by;        /* of these pairs, a bit each; 0: of none */
	struct net_link link;
	bool paused;
	struct vq_chain chain;
};

/* -- The link ---------------------------------------------------------------------- */

static void update_link(struct net *n)
{
	if (net_link_changed(&n->link))
		virtio_config_changed(&n->v);
}

void virtio_net_plug(struct device *dev, bool in)
{
	struct net *n = (struct net *)dev;

	scoped_lock(&dev->lock);
	n->link.unplugged = !in;
	update_link(n);
	loop_call(&n->call);
}

bool virtio_net_link(struct device *dev)
{
	scoped_lock(&dev->lock);
	return ((struct net *)dev)->link.up;
}

static void plug_in(void *ctx)
{
	struct net *n = ctx;

	scoped_lock(&n->v.dev.lock);
	net_link_wait_over(&n->link);
	update_link(n);
}

/* How long a header is: that of an old driver lacks the number of buffers. */
static uint64_t header_len(const struct net *n)
{
	return n->v.legacy && !virtio_has(&n->v, F_MRG_RXBUF) ? H_BUFFERS : HEADER;
}

/* -- From the driver --------------------------------------------------------------- */

/* A frame whose checksum is ours to make. The driver's buffer is only read, so its first bytes are copied, to have the checksum in
 * them. False: the header makes no sense. */
static bool send_summed(struct net_port *port, const uint8_t *header, struct iovec *iov, unsigned pieces, bool *room)
{
	uint64_t start = le16_get(header + H_CSUM_START), at = start + le16_get(header + H_CSUM_OFFSET), len = at + 2;
	uint8_t head[HEAD_MAX];
	struct iovec all[VQ_IOV_MAX + 1];

	if (len > HEAD_MAX || iov_gather(iov, pieces, head, len) < len)
		return false;
	net_fold(net_sum(iov, pieces, start), head + at);
	iov = iov_cut_front(iov, &pieces, len);
	all[0] = (struct iovec){head, len};
	memcpy(all + 1, iov, pieces * sizeof(*iov));
	*room = port->type->send(port, all, pieces + 1);
	return true;
}

/* To a port that wants a header as long as today's. */
static bool send_with(struct net_port *port, uint8_t *header, const struct iovec *iov, unsigned pieces)
{
	struct iovec all[VQ_IOV_MAX + 1];

	all[0] = (struct iovec){header, HEADER};
	memcpy(all + 1, iov, pieces * sizeof(*iov));
	return port->type->send(port, all, pieces + 1);
}

/* Answers are for this pair. Lies are the driver's own affair: it gets its frames where it says. */
static void note_flow(struct net *n, unsigned pair, uint64_t head)
{
	uint8_t bytes[HEADER + NET_FLOW_LEN];
	uint64_t len = n->pairs > 1 ? iov_gather(n->chain.iov, n->chain.n_out, bytes, sizeof(bytes)) : 0;

	if (len > head)
		n->flows[net_flow(bytes + head, len - head)] = (uint8_t)pair;
}

/* False: there is no room for it now. A frame that is none, or to nowhere, is lost, as it would be on a wire. */
static bool send_frame(struct net *n, unsigned pair)
{
	struct net_port *port = n->lanes[pair % n->n_lanes].port;
	struct iovec *iov = n->chain.iov;
	unsigned pieces = n->chain.n_out;
	uint64_t head = header_len(n), len = n->chain.out_len - head;
	uint8_t header[HEADER] = {0};
	bool room = true;

	if (!n->link.up || len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return true;
	note_flow(n, pair, head);
	if (port->type->vnet && head == HEADER)
		return port->type->send(port, iov, pieces);
	iov_gather(iov, pieces, header, head);
	iov = iov_cut_front(iov, &pieces, head);
	if (port->type->vnet)
		return send_with(port, header, iov, pieces);
	if (header[H_FLAGS] & NEEDS_CSUM)
		send_summed(port, header, iov, pieces, &room);
	else
		room = port->type->send(port, iov, pieces);
	return room;
}

static void tell_sent(void *ctx)
{
	struct net *n = ctx;

	scoped_lock(&n->v.dev.lock);
	for (unsigned pair = 0; pair < n->pairs; pair++)
		if (n->sent_by >> pair & 1 && !n->paused && virtio_ready(&n->v, TX(pair)))
			virtio_signal(&n->v, TX(pair));
	n->sent_by = 0;
}

static void tell_later(struct net *n, unsigned pair)
{
	if (!n->sent_by)
		loop_timer_set(&n->sent, loop_now() + LATER_NS);
	n->sent_by |= 1u << pair;
}

static void transmit(struct net *n, unsigned pair)
{
	struct virtio *v = &n->v;
	struct lane *lane = &n->lanes[pair % n->n_lanes];
	struct vq *vq = &v->queues[TX(pair)];
	uint64_t bytes = 0;
	int rc = 0;

	if (lane->full || n->paused || !virtio_ready(v, TX(pair)))
		return;
	vq_begin(vq);
	while ((rc = vq_pop(vq, &n->chain)) > 0) {
		if (n->chain.out_len < header_len(n)) {
			vq_unpop(vq);
			vq->broken = "a frame without its header";
			continue;
		}
		if (!send_frame(n, pair)) {
			vq_unpop(vq);
			lane->full = true;
			loop_call(&n->call);
			break;
		}
		bytes += n->chain.out_len;
		vq_push(vq, n->chain.head, 0);
	}
	if (rc < 0)
		virtio_broken(v, vq->broken);
	if (bytes > LITTLE || !n->config.loop)
		virtio_signal(v, TX(pair));
	else if (bytes)
		tell_later(n, pair);
	update_link(n); /* who was there may have gone */
}

/* What waits of the pairs that send there. */
static void send_lane(struct net *n, unsigned lane)
{
	for (unsigned pair = lane; pair < n->used; pair += n->n_lanes)
		transmit(n, pair);
}

/* -- To the driver ----------------------------------------------------------------- */

/* Byte `at` of what the driver wants filled. */
static uint8_t *byte_at(const struct vq_chain *chain, uint64_t at)
{
	const struct iovec *in = chain->iov + chain->n_out;

	while (at >= in->iov_len)
		at -= in++->iov_len;
	return (uint8_t *)in->iov_base + at;
}

/* The header and the beginning of the frame: into the first buffer of it. */
static uint64_t fill_first(struct net *n, const uint8_t *header, const uint8_t *frame, uint64_t len)
{
	struct iovec *in = n->chain.iov + n->chain.n_out;
	unsigned pieces = n->chain.n_in;

	iov_scatter(in, pieces, header, header_len(n));
	in = iov_cut_front(in, &pieces, header_len(n));
	return iov_scatter(in, pieces, frame, len);
}

/* What became of a frame. */
enum fate { TAKEN, LOST, NO_BUFFERS, BROKEN };

/* In as many buffers as it takes, if that was negotiated, which the driver sees at once when the last one is filled. A frame that is longer
 * than all buffers that there can be is lost. */
static enum fate deliver(struct net *n, struct vq *vq, const uint8_t *header, const uint8_t *frame, uint64_t len)
{
	uint8_t *count[2] = {NULL, NULL};
	uint64_t done = 0, head = header_len(n);
	unsigned used = 0;
	int rc;

	do {
		uint64_t before = done;

		rc = vq_pop(vq, &n->chain);
		if (rc <= 0)
			break;
		if (used == 0 && n->chain.in_len < head) {
			vq->broken = "a buffer without room for a header";
			return BROKEN;
		}
		if (used == 0) {
			if (head == HEADER) {
				count[0] = byte_at(&n->chain, H_BUFFERS);
				count[1] = byte_at(&n->chain, H_BUFFERS + 1);
			}
			done = fill_first(n, header, frame, len);
		} else {
			done += iov_scatter(n->chain.iov + n->chain.n_out, n->chain.n_in, frame + done, len - done);
		}
		vq_put(vq, used, n->chain.head, (uint32_t)(done - before + (used ? 0 : head)));
		used++;
	} while (done < len && virtio_has(&n->v, F_MRG_RXBUF));
	if (done == len) {
		if (count[0]) {
			*count[0] = (uint8_t)used;
			*count[1] = (uint8_t)(used >> 8);
		}
		vq_publish(vq, used);
		return TAKEN;
	}
	for (unsigned i = used; i--;)
		vq_unpop(vq);
	if (rc < 0)
		return BROKEN;
	return rc > 0 || used == vq->size ? LOST : NO_BUFFERS;
}

static enum fate take_frame(struct net *n, struct net_port *port, struct vq *vq, const uint8_t *frame, size_t len)
{
	const uint8_t header[HEADER] = {port->checked && virtio_has(&n->v, F_GUEST_CSUM) ? DATA_VALID : 0};

	if (!port->type->vnet)
		return deliver(n, vq, header, frame, len);
	return deliver(n, vq, frame, frame + HEADER, len - HEADER);
}

/* For which pair a frame is: one that the driver uses. */
static unsigned pair_of(const struct net *n, const struct lane *lane, const uint8_t *frame, size_t len)
{
	unsigned skip = lane->port->type->vnet ? HEADER : 0, pair = (unsigned)(lane - n->lanes), flow;

	if (n->used == 1)
		return 0;
	if (n->n_lanes == 1) {
		flow = net_flow(frame + skip, len - skip); /* SAFE: a port's frames have their header */
		pair = n->flows[flow] < n->used ? n->flows[flow] : flow;
	}
	pair %= n->used;
	return virtio_ready(&n->v, RX(pair)) ? pair : 0;
}

static void begin_all(struct net *n)
{
	for (unsigned pair = 0; pair < n->used; pair++)
		if (virtio_ready(&n->v, RX(pair)))
			vq_begin(&n->v.queues[RX(pair)]);
}

static void signal_all(struct net *n, unsigned touched)
{
	for (unsigned pair = 0; pair < n->used; pair++)
		if (touched >> pair & 1)
			virtio_signal(&n->v, RX(pair));
}

static void receive(struct net *n, struct lane *lane)
{
	struct virtio *v = &n->v;
	struct net_port *port = lane->port;
	unsigned left, pair = 0, touched = 0;
	enum fate fate = TAKEN;
	const uint8_t *frame;
	size_t len;

	if (n->paused || lane->starved || !n->link.up || !virtio_ready(v, RX(0)))
		return;
	begin_all(n);
	for (left = BURST; left && fate <= LOST && (frame = port->type->peek(port, &len)); left--) {
		pair = pair_of(n, lane, frame, len);
		touched |= 1u << pair;
		fate = take_frame(n, port, &v->queues[RX(pair)], frame, len);
		if (fate <= LOST)
			port->type->drop(port);
	}
	if (!left)
		loop_call(&n->call); /* poll() does not know of what the port has read already */
	lane->starved = fate == NO_BUFFERS;
	if (fate == BROKEN)
		virtio_broken(v, v->queues[RX(pair)].broken);
	signal_all(n, touched);
}

/* -- What the driver wants of us ------------------------------------------------------ */

/* Behind what all pairs have, if the driver knows of them; behind the first, if not. */
static unsigned control_queue(const struct net *n)
{
	return virtio_has(&n->v, F_MQ) ? 2 * n->pairs : 2;
}

/* Lanes whose driver has made room, or uses other queues now, are looked at anew. */
static void look_at_all(struct net *n)
{
	for (unsigned i = 0; i < n->n_lanes; i++)
		n->lanes[i].starved = false;
	loop_call(&n->call);
}

/* A class, a command, and how many pairs it uses from now on. */
static uint8_t control(struct net *n)
{
	uint8_t said[4];
	uint16_t pairs;

	if (iov_gather(n->chain.iov, n->chain.n_out, said, sizeof(said)) < sizeof(said) || said[0] != CTRL_MQ || said[1] != CTRL_MQ_SET ||
	    !virtio_has(&n->v, F_MQ))
		return CTRL_ERROR;
	pairs = le16_get(said + 2);
	if (pairs < 1 || pairs > n->pairs) /* SAFE: it is an index from here on */
		return CTRL_ERROR;
	n->used = pairs;
	look_at_all(n);
	return CTRL_OK;
}

static void serve_control(struct net *n, unsigned queue)
{
	struct vq *vq = &n->v.queues[queue];
	int rc;

	if (n->paused)
		return;
	vq_begin(vq);
	while ((rc = vq_pop(vq, &n->chain)) > 0) {
		if (n->chain.in_len < 1) {
			vq_unpop(vq);
			vq->broken = "a command without room for its answer";
			continue;
		}
		*byte_at(&n->chain, 0) = control(n);
		vq_push(vq, n->chain.head, 1);
	}
	if (rc < 0)
		virtio_broken(&n->v, vq->broken);
	virtio_signal(&n->v, queue);
	/* A pair that was not used has not been looked at, whatever its driver kicked; with event indices that waits for us now. */
	for (unsigned i = 0; i < n->n_lanes; i++)
		send_lane(n, i);
}

/* -- The loop ---------------------------------------------------------------------- */

static uint64_t prepare(void *ctx, struct pollfd *p)
{
	struct lane *lane = ctx;
	struct net *n = lane->n;

	scoped_lock(&n->v.dev.lock);
	if (n->paused)
		return LOOP_NEVER;
	lane->listening = n->link.up && !lane->starved && virtio_ready(&n->v, RX(0));
	lane->port->type->wants(lane->port, lane->listening, lane->full, p);
	return LOOP_NEVER;
}

static void serve(void *ctx, const struct pollfd *p)
{
	struct lane *lane = ctx;
	struct net *n = lane->n;

	scoped_lock(&n->v.dev.lock);
	if (n->paused)
		return;
	lane->port->type->serve(lane->port, p->revents);
	receive(n, lane);
	if (p->revents & POLLOUT || !lane->port->up) {
		lane->full = false;
		send_lane(n, (unsigned)(lane - n->lanes));
	}
	update_link(n);
}

/* prepare() is asked again afterwards. */
static void look_again(void *ctx)
{
	struct net *n = ctx;

	scoped_lock(&n->v.dev.lock);
	for (unsigned i = 0; n->config.port && i < n->n_lanes; i++)
		receive(n, &n->lanes[i]);
	update_link(n);
}

/* -- The model --------------------------------------------------------------------- */

static void kick(struct virtio *v, unsigned queue)
{
	struct net *n = (struct net *)v;
	bool waits = false;

	if (n->pairs > 1 && queue == control_queue(n)) {
		serve_control(n, queue);
		return;
	}
	if (queue / 2 >= n->used)
		return;
	if (queue % 2) {
		transmit(n, queue / 2);
		return;
	}
	for (unsigned i = 0; i < n->n_lanes; i++) {
		waits |= n->lanes[i].starved || !n->lanes[i].listening;
		n->lanes[i].starved = false;
	}
	if (waits)
		loop_call(&n->call);
}

/* A driver that takes no frame in several buffers has buffers of this size, of 32 KiB each at worst: more than all of iPXE's memory.
 * Such a one is told of Ethernet's. (iPXE and Linux look before they have accepted anything; Linux looks again.) */
static unsigned mtu_of(const struct net *n)
{
	return n->config.mtu < ETHERNET_MTU || virtio_has(&n->v, F_MRG_RXBUF) ? n->config.mtu : ETHERNET_MTU;
}

static uint8_t config_read(struct virtio *v, unsigned at)
{
	const struct net *n = (const struct net *)v;

	if (at < CONFIG_STATUS)
		return n->config.mac[at];
	if (at == CONFIG_STATUS)
		return n->link.up;
	if (at == CONFIG_PAIRS)
		return (uint8_t)(n->pairs > 1 ? n->pairs : 0);
	if (at == CONFIG_MTU || at == CONFIG_MTU + 1)
		return (uint8_t)(mtu_of(n) >> (at - CONFIG_MTU) * 8);
	return 0;
}

static void negotiated(struct virtio *v)
{
	struct net *n = (struct net *)v;
	unsigned what = 0;

	if (virtio_has(v, F_GUEST_CSUM))
		what = NET_CSUM | (virtio_has(v, F_GUEST_TSO4) ? NET_TSO4 : 0) | (virtio_has(v, F_GUEST_TSO6) ? NET_TSO6 : 0) |
		       (virtio_has(v, F_GUEST_ECN) ? NET_ECN : 0);
	for (unsigned i = 0; i < n->n_lanes; i++)
		if (n->lanes[i].port && n->lanes[i].port->type->offload)
			n->lanes[i].port->type->offload(n->lanes[i].port, what);
}

static void reset(struct virtio *v)
{
	struct net *n = (struct net *)v;

	for (unsigned i = 0; i < n->n_lanes; i++)
		n->lanes[i].full = n->lanes[i].starved = false;
	n->used = 1;
	memset(n->flows, PAIRS_MAX, sizeof(n->flows)); /* nobody's */
	n->sent_by = 0;
	negotiated(v); /* nothing is */
}

static void queue_reset(struct virtio *v, unsigned queue)
{
	struct net *n = (struct net *)v;
	unsigned lane = queue / 2 % n->n_lanes;

	if (queue % 2) {
		n->lanes[lane].full = false;
		send_lane(n, lane); /* it may be another's frame that had no room */
	} else {
		look_at_all(n);
	}
}

static const struct virtio_type type = {
	.name = "virtio-net",
	.id = 1,
	.legacy = 0x1000,
	.class_code = 0x020000,
	.n_queues = 2,
	.queue_size = 256,
	.features = F_MAC | F_STATUS | F_MRG_RXBUF | F_CSUM | F_HOST_TSO4 | F_HOST_TSO6 | F_HOST_ECN | F_GUEST_CSUM | F_GUEST_TSO4 |
		    F_GUEST_TSO6 | F_GUEST_ECN,
	.config_size = CONFIG_SIZE,
	.kick = kick,
	.config_read = config_read,
	.negotiated = negotiated,
	.reset = reset,
	.queue_reset = queue_reset,
};

static void add_lanes(struct net *n)
{
	n->n_lanes = n->config.more_ports[0] ? n->pairs : 1;
	for (unsigned i = 0; i < n->n_lanes; i++)
		n->lanes[i] = (struct lane){.n = n, .port = i ? n->config.more_ports[i - 1] : n->config.port};
}

static int init(struct device *dev, const void *config, struct err *err)
{
	struct net *n = (struct net *)dev;
	int rc;

	n->config = *(const struct virtio_net_config *)config;
	net_link_init(&n->link, n->config.port, n->config.loop, plug_in, n);
	n->pairs = n->config.pairs ? n->config.pairs : 1;
	n->type = type;
	add_lanes(n);
	if (n->pairs > 1) {
		n->type.n_queues = 2 * n->pairs + 1;
		n->type.features |= F_CTRL_VQ | F_MQ;
	}
	rc = virtio_init(dev, &n->type, n->config.mtu ? F_MTU : 0, &n->config.pci, err);
	if (rc < 0 || !n->config.loop)
		return rc;
	loop_timer_init(&n->call, n->config.loop, look_again, n);
	loop_timer_init(&n->sent, n->config.loop, tell_sent, n);
	for (unsigned i = 0; n->config.port && i < n->n_lanes; i++) {
		n->lanes[i].source = (struct loop_source){prepare, serve, &n->lanes[i]};
		if (loop_add(n->config.loop, &n->lanes[i].source) < 0)
			return err_set(err, ENOMEM, "out of memory");
	}
	return 0;
}

static void fini(struct device *dev)
{
	struct net *n = (struct net *)dev;

	for (unsigned i = 0; n->config.loop && i < n->n_lanes; i++)
		loop_remove(n->config.loop, &n->lanes[i].source);
	loop_timer_fini(&n->call);
	loop_timer_fini(&n->sent);
	net_link_fini(&n->link);
	virtio_fini(dev);
}

static void pause_net(struct device *dev)
{
	struct net *n = (struct net *)dev;

	n->paused = true;
	n->sent_by = 0;
	loop_timer_set(&n->sent, LOOP_NEVER);
	net_link_pause(&n->link);
	virtio_pause(dev);
}

static void resume_net(struct device *dev)
{
	struct net *n = (struct net *)dev;

	n->paused = false;
	net_link_resume(&n->link);
	update_link(n);
	virtio_resume(dev);
	for (unsigned pair = 0; pair < n->pairs; pair++)
		if (virtio_ready(&n->v, TX(pair)))
			virtio_signal(&n->v, TX(pair));
	loop_call(&n->call);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct net *n = (struct net *)dev;
	int rc = virtio_loaded(dev, away, err);

	net_link_moved(&n->link, 0);
	if (rc == 0 && (n->used < 1 || n->used > n->pairs || (n->used > 1 && !virtio_has(&n->v, F_MQ))))
		rc = err_set(err, EINVAL, "the driver uses %u pairs of queues, of which this card has %u", n->used, n->pairs);
	if (rc == 0)
		negotiated(&n->v);
	return rc;
}

/* The rest is the machine's: the address, and who is at the other end. */
static const struct state_field fields[] = {
	STATE(struct net, v.generation),
	STATE_SINCE(2, struct net, used),
	{.name = "more_queues", .since = 2, .offset = offsetof(struct net, v.queues[VIRTIO_QUEUES_OLD]), .part = virtio_queue_fields,
	 .size = sizeof(struct vq), .count = VIRTIO_QUEUES_MAX - VIRTIO_QUEUES_OLD},
	{0},
};

static const struct state_table table = {.name = "net", .version = 2, .fields = fields};
static const struct state_table *const state[] = {&virtio_state, &table, NULL};

const struct device_model virtio_net_model = {
	.name = "virtio-net",
	.summary = "virtio network card",
	.option = "--net",
	.size = sizeof(struct net),
	.bar = virtio_common_regs,
	.state = state,
	.init = init,
	.reset = virtio_reset,
	.fini = fini,
	.pause = pause_net,
	.resume = resume_net,
	.saving = virtio_saving,
	.loaded = loaded,
};
