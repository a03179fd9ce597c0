/* SPDX-License-Identifier: MIT */
/*
 * The virtio network card, after section 5.1 of virtio 1.2.
 *
 *	queue 0   the driver's empty buffers, which we fill with frames that have come
 *	queue 1   frames that it sends
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
 * Left out: several pairs of queues, and the control queue (filters, VLANs, announcements): the card takes every frame.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "dev/virtio/virtio.h"
#include "loop/loop.h"
#include "net/checksum.h"
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

enum { RX, TX };

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
#define CONFIG_MTU 10
#define ETHERNET_MTU 1500u

#define HEAD_MAX 512u /* as many bytes of a frame are copied to put a checksum into them */
#define BURST    64u  /* frames that are taken before the loop looks at something else */
#define LITTLE    4096u /* bytes of a kick */
#define LATER_NS  UINT64_C(1000000)

struct net {
	struct virtio v; /* first */
	struct virtio_net_config config;
	struct loop_source source;
	struct loop_timer call;  /* has the loop look again, also at what the port has read already */
	struct loop_timer sent;  /* the driver is to be told of what was sent */
	bool sent_set;
	struct net_link link;
	bool paused;
	bool full;     /* the port takes no more: queue 1 waits */
	bool starved;  /* a frame has come, and the driver has no buffers */
	bool listening; /* the loop waits for frames */
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
static bool send_summed(struct net *n, const uint8_t *header, struct iovec *iov, unsigned pieces, bool *room)
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
	*room = n->config.port->type->send(n->config.port, all, pieces + 1);
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

/* False: there is no room for it now. A frame that is none, or to nowhere, is lost, as it would be on a wire. */
static bool send_frame(struct net *n)
{
	struct net_port *port = n->config.port;
	struct iovec *iov = n->chain.iov;
	unsigned pieces = n->chain.n_out;
	uint64_t head = header_len(n), len = n->chain.out_len - head;
	uint8_t header[HEADER] = {0};
	bool room = true;

	if (!n->link.up || len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return true;
	if (port->type->vnet && head == HEADER)
		return port->type->send(port, iov, pieces);
	iov_gather(iov, pieces, header, head);
	iov = iov_cut_front(iov, &pieces, head);
	if (port->type->vnet)
		return send_with(port, header, iov, pieces);
	if (header[H_FLAGS] & NEEDS_CSUM)
		send_summed(n, header, iov, pieces, &room);
	else
		room = port->type->send(port, iov, pieces);
	return room;
}

static void tell_sent(void *ctx)
{
	struct net *n = ctx;

	scoped_lock(&n->v.dev.lock);
	n->sent_set = false;
	if (!n->paused && virtio_ready(&n->v, TX))
		virtio_signal(&n->v, TX);
}

static void tell_later(struct net *n)
{
	if (!n->sent_set)
		loop_timer_set(&n->sent, loop_now() + LATER_NS);
	n->sent_set = true;
}

static void transmit(struct net *n)
{
	struct virtio *v = &n->v;
	struct vq *vq = &v->queues[TX];
	uint64_t bytes = 0;
	int rc = 0;

	if (n->full || n->paused || !virtio_ready(v, TX))
		return;
	vq_begin(vq);
	while ((rc = vq_pop(vq, &n->chain)) > 0) {
		if (n->chain.out_len < header_len(n)) {
			vq_unpop(vq);
			vq->broken = "a frame without its header";
			continue;
		}
		if (!send_frame(n)) {
			vq_unpop(vq);
			n->full = true;
			loop_call(&n->call);
			break;
		}
		bytes += n->chain.out_len;
		vq_push(vq, n->chain.head, 0);
	}
	if (rc < 0)
		virtio_broken(v, vq->broken);
	if (bytes > LITTLE || !n->config.loop)
		virtio_signal(v, TX);
	else if (bytes)
		tell_later(n);
	update_link(n); /* who was there may have gone */
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
static enum fate deliver(struct net *n, const uint8_t *header, const uint8_t *frame, uint64_t len)
{
	struct vq *vq = &n->v.queues[RX];
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

static enum fate take_frame(struct net *n, const uint8_t *frame, size_t len)
{
	const uint8_t header[HEADER] = {n->config.port->checked && virtio_has(&n->v, F_GUEST_CSUM) ? DATA_VALID : 0};

	if (!n->config.port->type->vnet)
		return deliver(n, header, frame, len);
	return deliver(n, frame, frame + HEADER, len - HEADER);
}

static void receive(struct net *n)
{
	struct virtio *v = &n->v;
	struct net_port *port = n->config.port;
	enum fate fate = TAKEN;
	const uint8_t *frame;
	unsigned left;
	size_t len;

	if (n->paused || n->starved || !n->link.up || !virtio_ready(v, RX))
		return;
	vq_begin(&v->queues[RX]);
	for (left = BURST; left && fate <= LOST && (frame = port->type->peek(port, &len)); left--) {
		fate = take_frame(n, frame, len);
		if (fate <= LOST)
			port->type->drop(port);
	}
	if (!left)
		loop_call(&n->call); /* poll() does not know of what the port has read already */
	n->starved = fate == NO_BUFFERS;
	if (fate == BROKEN)
		virtio_broken(v, v->queues[RX].broken);
	virtio_signal(v, RX);
}

/* -- The loop ---------------------------------------------------------------------- */

static uint64_t prepare(void *ctx, struct pollfd *p)
{
	struct net *n = ctx;
	struct net_port *port = n->config.port;

	scoped_lock(&n->v.dev.lock);
	if (n->paused)
		return LOOP_NEVER;
	n->listening = n->link.up && !n->starved && virtio_ready(&n->v, RX);
	port->type->wants(port, n->listening, n->full, p);
	return LOOP_NEVER;
}

static void serve(void *ctx, const struct pollfd *p)
{
	struct net *n = ctx;
	struct net_port *port = n->config.port;

	scoped_lock(&n->v.dev.lock);
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
	struct net *n = ctx;

	scoped_lock(&n->v.dev.lock);
	if (n->config.port)
		receive(n);
	update_link(n);
}

/* -- The model --------------------------------------------------------------------- */

static void kick(struct virtio *v, unsigned queue)
{
	struct net *n = (struct net *)v;

	if (queue == TX) {
		transmit(n);
		return;
	}
	if (n->starved || !n->listening)
		loop_call(&n->call);
	n->starved = false;
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
	if (at == CONFIG_MTU || at == CONFIG_MTU + 1)
		return (uint8_t)(mtu_of(n) >> (at - CONFIG_MTU) * 8);
	return 0;
}

static void negotiated(struct virtio *v)
{
	struct net_port *port = ((struct net *)v)->config.port;
	unsigned what = 0;

	if (!port || !port->type->offload)
		return;
	if (virtio_has(v, F_GUEST_CSUM))
		what = NET_CSUM | (virtio_has(v, F_GUEST_TSO4) ? NET_TSO4 : 0) | (virtio_has(v, F_GUEST_TSO6) ? NET_TSO6 : 0) |
		       (virtio_has(v, F_GUEST_ECN) ? NET_ECN : 0);
	port->type->offload(port, what);
}

static void reset(struct virtio *v)
{
	struct net *n = (struct net *)v;

	n->full = n->starved = false;
	negotiated(v); /* nothing is */
}

static void queue_reset(struct virtio *v, unsigned queue)
{
	struct net *n = (struct net *)v;

	*(queue == TX ? &n->full : &n->starved) = false;
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

static int init(struct device *dev, const void *config, struct err *err)
{
	struct net *n = (struct net *)dev;
	int rc;

	n->config = *(const struct virtio_net_config *)config;
	net_link_init(&n->link, n->config.port, n->config.loop, plug_in, n);
	rc = virtio_init(dev, &type, n->config.mtu ? F_MTU : 0, &n->config.pci, err);
	if (rc < 0 || !n->config.loop)
		return rc;
	loop_timer_init(&n->call, n->config.loop, look_again, n);
	loop_timer_init(&n->sent, n->config.loop, tell_sent, n);
	n->source = (struct loop_source){prepare, serve, n};
	if (n->config.port && loop_add(n->config.loop, &n->source) < 0)
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

static void fini(struct device *dev)
{
	struct net *n = (struct net *)dev;

	if (n->config.loop)
		loop_remove(n->config.loop, &n->source);
	loop_timer_fini(&n->call);
	loop_timer_fini(&n->sent);
	net_link_fini(&n->link);
	virtio_fini(dev);
}

static void pause_net(struct device *dev)
{
	struct net *n = (struct net *)dev;

	n->paused = true;
	n->sent_set = false;
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
	if (virtio_ready(&n->v, TX))
		virtio_signal(&n->v, TX);
	loop_call(&n->call);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct net *n = (struct net *)dev;
	int rc = virtio_loaded(dev, away, err);

	net_link_moved(&n->link, 0);
	if (rc == 0)
		negotiated(&n->v);
	return rc;
}

/* The rest is the machine's: the address, and who is at the other end. */
static const struct state_field fields[] = {
	STATE(struct net, v.generation),
	{0},
};

static const struct state_table table = {.name = "net", .version = 1, .fields = fields};
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
