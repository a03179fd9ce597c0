/* SPDX-License-Identifier: MIT */
/*
 * The rings of an xHCI controller: events, and transfers of endpoints (xHCI 1.2, sections 4.9 to 4.11).
 *
 * All of a ring is the guest's memory, which it changes while we read. So a TRB is copied once; links are followed LINKS_MAX times and
 * then lead nowhere; a TD has TD_MAX TRBs and BYTES_MAX bytes, or is none. A TD that its device does not take at once is read again later, from its beginning,
 * and only how many bytes of it are done is remembered: a guest that has changed it meanwhile gets something else, in its own memory.
 * So it is with one of which RUN_MAX is done: the lock is held, a ring may be a circle, and the rest is the loop's.
 *
 * Nothing is done that needs an event when there is no room for one. When the driver has made room all goes on.
 */
#include "dev/usb/xhci_private.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

#define TRB_SIZE     16u
#define LINKS_MAX    16u
#define BYTES_MAX    (4u << 20) /* in a TD */
#define RUN_MAX      (1u << 20) /* bytes that move at once, where each packet and each TRB is as much as a full packet */
#define ERDP_BUSY    8u
#define STS_EVENT    0x08u
#define IMAN_PENDING 1u

/* -- Reading ------------------------------------------------------------------------------ */

bool ring_fetch(const struct xhci *x, struct ring *r, struct trb *t)
{
	for (unsigned i = 0; i <= LINKS_MAX; i++) {
		uint8_t bytes[TRB_SIZE];

		if (guest_read(x->config.mem, r->at, bytes, sizeof(bytes)) < 0)
			return false;
		*t = (struct trb){r->at, le64_get(bytes), le32_get(bytes + 8), le32_get(bytes + 12)};
		if ((t->control & TRB_CYCLE) != r->cycle)
			return false;
		if (trb_type(t) != TRB_LINK) {
			r->at += TRB_SIZE;
			return true;
		}
		r->at = t->parameter & ~15ull;
		r->cycle ^= (t->control & TRB_TOGGLE) != 0;
	}
	return false;
}

/* -- Events -------------------------------------------------------------------------------- */

void event_begin(struct xhci *x)
{
	uint8_t entry[16];

	x->event_n = 0;
	if (!x->erst_size || guest_read(x->config.mem, x->erst, entry, sizeof(entry)) < 0)
		return;
	x->event_base = le64_get(entry) & ~63ull;
	x->event = (struct ring){x->event_base, true};
	x->event_n = le32_get(entry + 8) & 0xffff;
	if (x->event_n < EVENTS_MIN || x->event_n > EVENTS_MAX)
		x->event_n = 0;
}

static uint64_t after(const struct xhci *x, uint64_t at)
{
	return at + TRB_SIZE == x->event_base + (uint64_t)x->event_n * TRB_SIZE ? x->event_base : at + TRB_SIZE;
}

bool event_has_room(const struct xhci *x)
{
	return x->event_n && after(x, x->event.at) != (x->erdp & ~15ull);
}

void event_put(struct xhci *x, uint64_t parameter, uint32_t status, uint32_t control)
{
	uint8_t bytes[TRB_SIZE];
	uint64_t next = after(x, x->event.at);

	le64_put(bytes, parameter);
	le32_put(bytes + 8, status);
	le32_put(bytes + 12, control | (x->event.cycle ? TRB_CYCLE : 0));
	guest_write(x->config.mem, x->event.at, bytes, 12);
	__atomic_thread_fence(__ATOMIC_RELEASE); /* the cycle bit comes last */
	guest_write(x->config.mem, x->event.at + 12, bytes + 12, 4);
	if (next == x->event_base)
		x->event.cycle = !x->event.cycle;
	x->event.at = next;
	x->sts |= STS_EVENT;
	x->iman |= IMAN_PENDING;
	if (!(x->erdp & ERDP_BUSY)) {
		x->erdp |= ERDP_BUSY;
		xhci_interrupt(x);
	}
}

static void put_transfer(struct xhci *x, const struct trb *t, unsigned slot, unsigned ep, unsigned code, uint32_t left)
{
	event_put(x, t->at, left | code << 24, slot << 24 | ep << 16 | TRB_TYPE(TRB_TRANSFER));
}

/* -- TDs -------------------------------------------------------------------------------------- */

static uint32_t length(const struct trb *t)
{
	return trb_type(t) == TRB_NORMAL || trb_type(t) == TRB_DATA ? t->status & 0x1ffff : 0;
}

/* The TRBs up to the end of the chain, and where the ring is behind them: how many, or 0: they are not all there. -1: too many. */
static int gather(struct xhci *x, struct ring *r)
{
	unsigned n = 0;

	do {
		if (n == TD_MAX)
			return -1;
		if (!ring_fetch(x, r, &x->td[n]))
			return 0;
	} while (x->td[n++].control & TRB_CHAIN);
	return (int)n;
}

static uint64_t total(const struct xhci *x, unsigned n)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += length(&x->td[i]);
	return sum;
}

/* Between a packet and the pieces of a TD, from byte `at` of it on. False: they are no memory. */
static bool move(struct xhci *x, unsigned n, uint64_t at, uint8_t *packet, unsigned len, bool to_guest)
{
	for (unsigned i = 0; i < n && len; i++) {
		const struct trb *t = &x->td[i];
		unsigned part = length(t);
		uint8_t immediate[8];

		if (at >= part) {
			at -= part;
			continue;
		}
		part = part - (unsigned)at < len ? part - (unsigned)at : len;
		le64_put(immediate, t->parameter);
		if (t->control & TRB_IMMEDIATE) {
			if (to_guest || at + part > sizeof(immediate))
				return false;
			memcpy(packet, immediate + at, part);
		} else if ((to_guest ? guest_write(x->config.mem, t->parameter + at, packet, part)
				     : guest_read(x->config.mem, t->parameter + at, packet, part)) < 0) {
			return false;
		}
		packet += part;
		len -= part;
		at = 0;
	}
	return true;
}

/* One event for a TD, of the first TRB that asks for one; where it went wrong, it is that one. */
static void report(struct xhci *x, unsigned slot, unsigned ep, unsigned n, unsigned code)
{
	uint32_t left = x->slots[slot].ep[ep].done, all = left;

	for (unsigned i = 0; i < n; i++) {
		const struct trb *t = &x->td[i];
		uint32_t len = length(t), part = left < len ? left : len;
		bool is_short = code == CODE_SHORT && part < len;

		left -= part;
		if (trb_type(t) == TRB_EVENT_DATA && t->control & TRB_INTERRUPT) {
			event_put(x, t->parameter, all | code << 24, slot << 24 | ep << 16 | TRB_TYPE(TRB_TRANSFER) | 4);
			return;
		}
		if (t->control & TRB_INTERRUPT || (is_short && t->control & TRB_IF_SHORT) ||
		    (code != CODE_SUCCESS && code != CODE_SHORT && (part < len || i == n - 1))) {
			put_transfer(x, t, slot, ep, code, len - part);
			return;
		}
	}
}

static void spend(struct xhci *x, uint32_t bytes)
{
	x->left -= bytes < x->left ? bytes : x->left;
}

/* What became of a TD: 0 for "not yet". */
static unsigned transfer(struct xhci *x, struct usb_device *u, struct endpoint *e, unsigned ep, unsigned n)
{
	uint64_t all = total(x, n);
	uint8_t packet[USB_PACKET_MAX];
	/* What is sent is in packets of our own descriptors' size, whatever the driver says theirs is. */
	unsigned number = ep / 2, most = ep & 1 && e->packet && e->packet < USB_PACKET_MAX ? e->packet : USB_PACKET_MAX;

	do {
		uint64_t left = e->done < all ? all - e->done : 0;
		int len = (int)(left < most ? left : most), rc;

		if (u->halted >> (number + (ep & 1 ? 8 : 0)) & 1)
			return CODE_STALL;
		if (!(ep & 1) && !move(x, n, e->done, packet, (unsigned)len, false))
			return CODE_TRB;
		rc = ep & 1 ? u->type->in(u, number, packet) : u->type->out(u, number, packet, (unsigned)len);
		if (rc < 0)
			return rc == -EAGAIN ? 0 : CODE_STALL;
		if (ep & 1 && (uint64_t)rc > left)
			return CODE_BABBLE;
		if (ep & 1 && !move(x, n, e->done, packet, (unsigned)rc, true))
			return CODE_TRB;
		e->done += (uint32_t)(ep & 1 ? rc : len);
		if (ep & 1 && (unsigned)rc < most && e->done < all)
			return CODE_SHORT;
		spend(x, USB_PACKET_MAX);
	} while (e->done < all && x->left);
	return e->done < all ? 0 : CODE_SUCCESS;
}

/* -- Control transfers ------------------------------------------------------------------------------ */

static void set_up(struct slot *s, struct usb_device *u, const struct trb *t)
{
	int rc = 0;

	le64_put(s->setup, t->parameter);
	s->has_setup = true;
	if (s->setup[0] & 0x80)
		rc = usb_control(u, s->setup, s->data);
	else if (le16_get(s->setup + 6) > USB_CONTROL_MAX)
		rc = -EPIPE;
	s->stalls = rc < 0;
	s->n = rc < 0 ? 0 : (uint32_t)rc;
}

static unsigned data_stage(struct xhci *x, struct slot *s, unsigned n)
{
	struct endpoint *e = &s->ep[1];
	uint64_t all = total(x, n);
	bool is_in = s->setup[0] & 0x80;
	uint16_t most = le16_get(s->setup + 6);
	uint32_t len = is_in && s->n < most ? s->n : most;

	if (s->stalls)
		return CODE_STALL;
	len = len < USB_CONTROL_MAX ? len : USB_CONTROL_MAX; /* SAFE: of a request that was loaded, too */
	e->done = len < all ? len : (uint32_t)all;
	s->n = e->done;
	if (!move(x, n, 0, s->data, e->done, is_in))
		return CODE_TRB;
	return is_in && e->done < all ? CODE_SHORT : CODE_SUCCESS;
}

/* What the host sends is understood when it is all there. */
static unsigned status_stage(struct slot *s, struct usb_device *u)
{
	int rc = s->stalls ? -EPIPE : 0;

	if (!s->has_setup)
		return CODE_TRB;
	if (rc == 0 && !(s->setup[0] & 0x80))
		rc = usb_control(u, s->setup, s->data);
	s->has_setup = false;
	return rc < 0 ? CODE_STALL : CODE_SUCCESS;
}

static unsigned control(struct xhci *x, struct slot *s, struct usb_device *u, unsigned n)
{
	switch (trb_type(&x->td[0])) {
	case TRB_SETUP:
		set_up(s, u, &x->td[0]);
		return CODE_SUCCESS;
	case TRB_DATA:
		return s->has_setup ? data_stage(x, s, n) : CODE_TRB;
	case TRB_STATUS:
		return status_stage(s, u);
	}
	return CODE_TRB;
}

/* -- Running ------------------------------------------------------------------------------------------ */

/* A TD has ended; false: the endpoint does not go on. */
static bool finish(struct xhci *x, unsigned slot, unsigned ep, unsigned n, unsigned code, const struct ring *behind)
{
	struct endpoint *e = &x->slots[slot].ep[ep];

	report(x, slot, ep, n, code);
	e->done = 0;
	if (code == CODE_SUCCESS || code == CODE_SHORT) {
		e->ring = *behind;
		return true;
	}
	e->state = EP_HALTED;
	endpoint_tell(x, slot, ep);
	return false;
}

static bool run_one(struct xhci *x, unsigned slot, unsigned ep)
{
	struct slot *s = &x->slots[slot];
	struct endpoint *e = &s->ep[ep];
	struct usb_device *u = x->ports[s->port].usb;
	struct ring behind = e->ring;
	int n = gather(x, &behind);
	unsigned code;

	if (n == 0)
		return false;
	spend(x, (n > 0 ? (unsigned)n : TD_MAX) * USB_PACKET_MAX);
	if (n > 0 && total(x, (unsigned)n) > BYTES_MAX)
		n = -1;
	if (n < 0 || !u) {
		n = n < 0 ? 1 : n;
		return finish(x, slot, ep, (unsigned)n, u ? CODE_TRB : CODE_TRANSACTION, &behind);
	}
	if (trb_type(&x->td[0]) == TRB_NO_OP)
		code = CODE_SUCCESS;
	else
		code = ep == 1 ? control(x, s, u, (unsigned)n) : transfer(x, u, e, ep, (unsigned)n);
	return code && finish(x, slot, ep, (unsigned)n, code, &behind);
}

static void run(struct xhci *x, unsigned slot, unsigned ep)
{
	const struct endpoint *e = &x->slots[slot].ep[ep];

	while (x->left && e->state == EP_RUNNING && event_has_room(x) && run_one(x, slot, ep))
		;
}

void endpoint_run(struct xhci *x, unsigned slot, unsigned ep)
{
	x->left = RUN_MAX;
	run(x, slot, ep);
	if (!x->left)
		loop_call(&x->call);
}

/* A device has its share, at however many slots a driver says that it is. */
void port_run(struct xhci *x, unsigned port)
{
	x->left = RUN_MAX;
	for (unsigned slot = 1; slot <= XHCI_SLOTS; slot++)
		for (unsigned ep = 1; x->slots[slot].enabled && x->slots[slot].port == port && ep < ENDPOINTS; ep++)
			run(x, slot, ep);
	if (!x->left)
		loop_call(&x->call);
}
