/* SPDX-License-Identifier: MIT */
/*
 * The virtio socket device, after section 5.10 of virtio 1.2: connections between programs in the guest and programs here, without a network.
 *
 *	queue 0   the driver's empty buffers, which we fill with packets for it
 *	queue 1   packets that it sends
 *	queue 2   the driver's empty buffers for events
 *
 * No connection is known here. A packet goes as the driver wrote it, by a port (net/port.h), to a process that knows them all
 * (prog/lodge/vsock); what that says goes to the driver. As with a network card nobody waits for anybody, and what is not taken stays where it is.
 *
 * A packet with more bytes than the driver's buffer has room for is given in parts, each with a header of its own: to a stream
 * that makes no difference.
 *
 * A guest that was restored, forked, or has moved has no connection any more, for nobody at the other end knows it: its driver
 * is told so by an event, and ends them.
 *
 * Left out: SEQPACKET.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "dev/virtio/virtio.h"
#include "dev/virtio/vsock_packet.h"
#include "loop/loop.h"
#include "net/port.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>

#define F_STREAM    (UINT64_C(1) << 0)
#define QUEUE_SIZE  128u
#define CONFIG_SIZE 8u
#define BURST       64u /* packets that are taken before the loop looks at something else */

#define EVENT_SIZE            4u
#define EVENT_TRANSPORT_RESET 0u

enum { RX, TX, EVENT, QUEUES };

struct vsock {
	struct virtio v; /* first */
	struct virtio_vsock_config config;
	struct loop_source source;
	struct loop_timer call; /* has the loop look again, also at what the port has read already */
	bool paused;
	bool full;      /* the port takes no more: queue 1 waits */
	bool starved;   /* a packet has come, and the driver has no buffers */
	bool listening; /* the loop waits for packets */
	bool moved;     /* the driver is to be told that its connections are gone */
	bool renewed;   /* the other end is to be told so: the driver has begun anew */
	size_t given;   /* bytes of the first packet that the driver has already */
	struct vq_chain chain;
};

/* -- From the driver --------------------------------------------------------------- */

/* False: there is no room for it now. Where nobody is it is lost. */
static bool send_packet(struct vsock *s)
{
	struct net_port *port = s->config.port;

	return !port || !port->up || port->type->send(port, s->chain.iov, s->chain.n_out);
}

/* False: there is no room for it now. */
static bool tell_renewed(struct vsock *s)
{
	struct net_port *port = s->config.port;
	uint8_t header[VSOCK_HEADER] = {0};

	le64_put(header + VSOCK_SRC_CID, s->config.cid);
	le64_put(header + VSOCK_DST_CID, VSOCK_HOST);
	le16_put(header + VSOCK_TYPE, VSOCK_STREAM);
	le16_put(header + VSOCK_OP, VSOCK_NONE);
	if (s->renewed && port && port->up && !port->type->send(port, &(struct iovec){header, sizeof(header)}, 1))
		return false;
	s->renewed = false;
	return true;
}

static void transmit(struct vsock *s)
{
	struct virtio *v = &s->v;
	struct vq *vq = &v->queues[TX];
	int rc = 0;

	if (s->full || s->paused)
		return;
	s->full = !tell_renewed(s);
	if (s->full)
		loop_call(&s->call);
	if (s->full || !virtio_ready(v, TX))
		return;
	vq_begin(vq);
	while ((rc = vq_pop(vq, &s->chain)) > 0) {
		if (s->chain.out_len < VSOCK_HEADER || s->chain.out_len > VSOCK_HEADER + VSOCK_ROOM) {
			vq_unpop(vq);
			vq->broken = "a packet without its header, or longer than it may be";
			rc = -1;
			break;
		}
		if (!send_packet(s)) {
			vq_unpop(vq);
			s->full = true;
			loop_call(&s->call);
			break;
		}
		vq_push(vq, s->chain.head, 0);
	}
	if (rc < 0)
		virtio_broken(v, vq->broken);
	virtio_signal(v, TX);
}

/* -- To the driver ----------------------------------------------------------------- */

/* What became of a packet, or a part of one. */
enum fate { TAKEN, NO_BUFFERS, BROKEN };

/* As much of it as the next buffer takes. */
static enum fate deliver(struct vsock *s, const uint8_t *packet, size_t len)
{
	struct vq *vq = &s->v.queues[RX];
	uint64_t left = len - VSOCK_HEADER - s->given, part;
	uint8_t header[VSOCK_HEADER];
	struct iovec *in;
	unsigned pieces;
	int rc = vq_pop(vq, &s->chain);

	if (rc <= 0)
		return rc < 0 ? BROKEN : NO_BUFFERS;
	if (s->chain.in_len <= VSOCK_HEADER) {
		vq->broken = "a buffer without room for a packet";
		return BROKEN;
	}
	part = s->chain.in_len - VSOCK_HEADER < left ? s->chain.in_len - VSOCK_HEADER : left;
	memcpy(header, packet, VSOCK_HEADER);
	le32_put(header + VSOCK_LEN, (uint32_t)part);
	in = s->chain.iov + s->chain.n_out;
	pieces = s->chain.n_in;
	iov_scatter(in, pieces, header, VSOCK_HEADER);
	in = iov_cut_front(in, &pieces, VSOCK_HEADER);
	iov_scatter(in, pieces, packet + VSOCK_HEADER + s->given, part);
	vq_push(vq, s->chain.head, (uint32_t)(VSOCK_HEADER + part));
	s->given += part;
	return TAKEN;
}

static void receive(struct vsock *s)
{
	struct virtio *v = &s->v;
	struct net_port *port = s->config.port;
	enum fate fate = TAKEN;
	const uint8_t *packet;
	unsigned left;
	size_t len;

	if (s->paused || s->starved || s->moved || !virtio_ready(v, RX))
		return;
	vq_begin(&v->queues[RX]);
	for (left = BURST; left && fate == TAKEN && (packet = port->type->peek(port, &len)); left--) {
		if (len >= VSOCK_HEADER)
			fate = deliver(s, packet, len);
		if (len < VSOCK_HEADER || (fate == TAKEN && s->given == len - VSOCK_HEADER)) {
			port->type->drop(port);
			s->given = 0;
		}
	}
	if (!left)
		loop_call(&s->call); /* poll() does not know of what the port has read already */
	s->starved = fate == NO_BUFFERS;
	if (fate == BROKEN)
		virtio_broken(v, v->queues[RX].broken);
	virtio_signal(v, RX);
}

static void tell_moved(struct vsock *s)
{
	struct virtio *v = &s->v;
	uint8_t event[EVENT_SIZE];
	int rc;

	if (!s->moved || s->paused || !virtio_ready(v, EVENT))
		return;
	vq_begin(&v->queues[EVENT]);
	rc = vq_pop(&v->queues[EVENT], &s->chain);
	if (rc < 0)
		virtio_broken(v, v->queues[EVENT].broken);
	if (rc <= 0)
		return;
	le32_put(event, EVENT_TRANSPORT_RESET);
	vq_push(&v->queues[EVENT], s->chain.head,
		(uint32_t)iov_scatter(s->chain.iov + s->chain.n_out, s->chain.n_in, event, EVENT_SIZE));
	s->moved = false;
	virtio_signal(v, EVENT);
	loop_call(&s->call);
}

/* -- The loop ---------------------------------------------------------------------- */

static uint64_t prepare(void *ctx, struct pollfd *p)
{
	struct vsock *s = ctx;
	struct net_port *port = s->config.port;

	scoped_lock(&s->v.dev.lock);
	if (s->paused)
		return LOOP_NEVER;
	s->listening = !s->starved && !s->moved && virtio_ready(&s->v, RX);
	port->type->wants(port, s->listening, s->full, p);
	return LOOP_NEVER;
}

static void serve(void *ctx, const struct pollfd *p)
{
	struct vsock *s = ctx;
	struct net_port *port = s->config.port;

	scoped_lock(&s->v.dev.lock);
	if (s->paused)
		return;
	port->type->serve(port, p->revents);
	receive(s);
	if (p->revents & POLLOUT || !port->up) {
		s->full = false;
		transmit(s);
	}
}

/* prepare() is asked again afterwards. */
static void look_again(void *ctx)
{
	struct vsock *s = ctx;

	scoped_lock(&s->v.dev.lock);
	if (s->config.port)
		receive(s);
}

/* -- The model --------------------------------------------------------------------- */

static void kick(struct virtio *v, unsigned queue)
{
	struct vsock *s = (struct vsock *)v;

	if (queue == TX)
		transmit(s);
	if (queue == EVENT)
		tell_moved(s);
	if (queue != RX)
		return;
	if (s->starved || !s->listening)
		loop_call(&s->call);
	s->starved = false;
}

static uint8_t config_read(struct virtio *v, unsigned at)
{
	return (uint8_t)((uint64_t)((const struct vsock *)v)->config.cid >> at * 8);
}

/* A driver that begins anew has no connections. */
static void reset(struct virtio *v)
{
	struct vsock *s = (struct vsock *)v;

	s->full = s->starved = s->moved = false;
	s->given = 0;
	s->renewed = true;
	transmit(s);
}

static void queue_reset(struct virtio *v, unsigned queue)
{
	struct vsock *s = (struct vsock *)v;

	if (queue == TX)
		s->full = false;
	if (queue == RX)
		s->starved = false;
}

static const struct virtio_type type = {
	.name = "virtio-vsock",
	.id = 19,
	.class_code = 0x078000,
	.n_queues = QUEUES,
	.queue_size = QUEUE_SIZE,
	.features = F_STREAM,
	.config_size = CONFIG_SIZE,
	.kick = kick,
	.config_read = config_read,
	.reset = reset,
	.queue_reset = queue_reset,
};

static int init(struct device *dev, const void *config, struct err *err)
{
	struct vsock *s = (struct vsock *)dev;
	int rc;

	s->config = *(const struct virtio_vsock_config *)config;
	rc = virtio_init(dev, &type, 0, &s->config.pci, err);
	if (rc < 0 || !s->config.loop)
		return rc;
	loop_timer_init(&s->call, s->config.loop, look_again, s);
	s->source = (struct loop_source){prepare, serve, s};
	if (s->config.port && loop_add(s->config.loop, &s->source) < 0)
		return err_set(err, ENOMEM, "out of memory");
	return 0;
}

static void fini(struct device *dev)
{
	struct vsock *s = (struct vsock *)dev;

	if (s->config.loop)
		loop_remove(s->config.loop, &s->source);
	loop_timer_fini(&s->call);
	virtio_fini(dev);
}

static void pause_vsock(struct device *dev)
{
	((struct vsock *)dev)->paused = true;
	virtio_pause(dev);
}

static void resume_vsock(struct device *dev)
{
	struct vsock *s = (struct vsock *)dev;

	s->paused = false;
	virtio_resume(dev);
	tell_moved(s);
	loop_call(&s->call);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	((struct vsock *)dev)->moved = true;
	return virtio_loaded(dev, away, err);
}

static const struct state_table *const state[] = {&virtio_state, NULL};

const struct device_model virtio_vsock_model = {
	.name = "virtio-vsock",
	.summary = "virtio sockets",
	.option = "--vsock",
	.size = sizeof(struct vsock),
	.bar = virtio_common_regs,
	.state = state,
	.init = init,
	.reset = virtio_reset,
	.fini = fini,
	.pause = pause_vsock,
	.resume = resume_vsock,
	.saving = virtio_saving,
	.loaded = loaded,
};
