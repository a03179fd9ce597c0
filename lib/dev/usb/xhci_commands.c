/* SPDX-License-Identifier: MIT */
/*
 * The command ring of an xHCI controller (xHCI 1.2, section 4.6): slots, of which each is a device that the driver has found at a port, and
 * their endpoints.
 *
 * What a command says is in contexts of 32 bytes in guest memory: input contexts, which are only read, and the slot's own, to which is
 * written how things are; its address is looked up each time. What we go by is in struct slot.
 */
#include "dev/usb/xhci_private.h"

#include "base/bytes.h"
#include "base/macros.h"

#include <string.h>

#define CONTEXT      32u
#define COMMANDS_MAX 256u
#define ADDRESS_MASK (~UINT64_C(63))
#define NO_REQUEST   0x200u /* of ADDRESS_DEVICE: the device does not hear of it; of CONFIGURE: all endpoints go */

/* -- Contexts ------------------------------------------------------------------------- */

struct context {
	uint8_t bytes[CONTEXT];
};

/* Number i of the slot's own: 0 is the slot's, then its endpoints'. GUEST_NOWHERE: there is none. */
static gpa_t own_context(const struct xhci *x, unsigned slot, unsigned i)
{
	uint8_t bytes[8];

	if (guest_read(x->config.mem, x->dcbaap + slot * 8, bytes, sizeof(bytes)) < 0)
		return GUEST_NOWHERE;
	return (le64_get(bytes) & ADDRESS_MASK) + i * CONTEXT;
}

static bool read_context(const struct xhci *x, gpa_t at, struct context *c)
{
	return guest_read(x->config.mem, at, c->bytes, CONTEXT) == 0;
}

static bool write_context(const struct xhci *x, gpa_t at, const struct context *c)
{
	return guest_write(x->config.mem, at, c->bytes, CONTEXT) == 0;
}

static void tell_slot(struct xhci *x, unsigned slot)
{
	gpa_t at = own_context(x, slot, 0);
	struct context c;
	const struct slot *s = &x->slots[slot];

	if (!read_context(x, at, &c))
		return;
	le32_put(c.bytes + 12, (uint32_t)s->state << 27 | (s->state >= SLOT_ADDRESSED ? slot : 0));
	write_context(x, at, &c);
}

static void put_endpoint(const struct endpoint *e, struct context *c)
{
	le32_put(c->bytes, (le32_get(c->bytes) & ~7u) | e->state);
	le64_put(c->bytes + 8, e->ring.at | e->ring.cycle);
}

void endpoint_tell(struct xhci *x, unsigned slot, unsigned ep)
{
	gpa_t at = own_context(x, slot, ep);
	struct context c;

	if (!read_context(x, at, &c))
		return;
	put_endpoint(&x->slots[slot].ep[ep], &c);
	write_context(x, at, &c);
}

/* From what the driver has put into its input context. */
static bool set_endpoint(struct xhci *x, unsigned slot, unsigned ep, gpa_t input)
{
	struct endpoint *e = &x->slots[slot].ep[ep];
	struct context c;

	if (!read_context(x, input + (ep + 1) * CONTEXT, &c))
		return false;
	*e = (struct endpoint){
		.state = EP_RUNNING, .packet = le16_get(c.bytes + 6),
		.ring = {le64_get(c.bytes + 8) & ~15ull, c.bytes[8] & 1},
	};
	put_endpoint(e, &c);
	return write_context(x, own_context(x, slot, ep), &c);
}

/* -- Commands --------------------------------------------------------------------------- */

static unsigned slot_of(const struct trb *t)
{
	return t->control >> 24;
}

static unsigned endpoint_of(const struct trb *t)
{
	return t->control >> 16 & 31;
}

void slot_reset(struct slot *s)
{
	*s = (struct slot){.enabled = false};
}

static unsigned enable_slot(struct xhci *x, unsigned *slot)
{
	for (unsigned i = 1; i <= XHCI_SLOTS && i <= (x->configure & 0xff); i++)
		if (!x->slots[i].enabled) {
			slot_reset(&x->slots[i]);
			x->slots[i].enabled = true;
			x->n_slots = i + 1 > x->n_slots ? i + 1 : x->n_slots;
			*slot = i;
			return CODE_SUCCESS;
		}
	return CODE_NO_SLOTS;
}

static unsigned disable_slot(struct xhci *x, unsigned slot, const struct trb *t)
{
	(void)t;
	slot_reset(&x->slots[slot]);
	tell_slot(x, slot);
	return CODE_SUCCESS;
}

static unsigned address_device(struct xhci *x, unsigned slot, const struct trb *t)
{
	gpa_t input = t->parameter & ADDRESS_MASK;
	struct slot *s = &x->slots[slot];
	struct context c;
	unsigned port;

	if (!read_context(x, input + CONTEXT, &c))
		return CODE_PARAMETER;
	port = c.bytes[6];
	if (!port || port > XHCI_PORTS || le32_get(c.bytes) & 0xfffff)
		return CODE_PARAMETER;
	if (!x->ports[port].usb)
		return CODE_TRANSACTION;
	s->port = (uint8_t)port;
	s->state = t->control & NO_REQUEST ? SLOT_DEFAULT : SLOT_ADDRESSED;
	if (!write_context(x, own_context(x, slot, 0), &c) || !set_endpoint(x, slot, 1, input))
		return CODE_PARAMETER;
	tell_slot(x, slot);
	return CODE_SUCCESS;
}

static void drop(struct xhci *x, unsigned slot, uint32_t which)
{
	for (unsigned ep = 2; ep < ENDPOINTS; ep++)
		if (which >> ep & 1) {
			x->slots[slot].ep[ep] = (struct endpoint){.state = EP_DISABLED};
			endpoint_tell(x, slot, ep);
		}
}

/* How many contexts the slot has is what the driver says; all else of the slot's stays. */
static void take_entries(struct xhci *x, unsigned slot, gpa_t input)
{
	gpa_t at = own_context(x, slot, 0);
	struct context from, to;

	if (!read_context(x, input + CONTEXT, &from) || !read_context(x, at, &to))
		return;
	to.bytes[3] = (uint8_t)((to.bytes[3] & 7) | (from.bytes[3] & 0xf8));
	write_context(x, at, &to);
}

static unsigned configure(struct xhci *x, unsigned slot, const struct trb *t)
{
	gpa_t input = t->parameter & ADDRESS_MASK;
	struct slot *s = &x->slots[slot];
	struct context c;
	uint32_t added;

	if (s->state < SLOT_ADDRESSED)
		return CODE_CONTEXT;
	if (t->control & NO_REQUEST) {
		drop(x, slot, UINT32_MAX);
		s->state = SLOT_ADDRESSED;
		tell_slot(x, slot);
		return CODE_SUCCESS;
	}
	if (!read_context(x, input, &c))
		return CODE_PARAMETER;
	drop(x, slot, le32_get(c.bytes));
	added = le32_get(c.bytes + 4);
	if (added >> ENDPOINTS)
		return CODE_PARAMETER;
	for (unsigned ep = 2; ep < ENDPOINTS; ep++)
		if (added >> ep & 1 && !set_endpoint(x, slot, ep, input))
			return CODE_PARAMETER;
	s->state = SLOT_CONFIGURED;
	take_entries(x, slot, input);
	tell_slot(x, slot);
	return CODE_SUCCESS;
}

/* What it is for: endpoint 0's packets are of another size than the driver had thought. */
static unsigned evaluate(struct xhci *x, unsigned slot, const struct trb *t)
{
	gpa_t input = t->parameter & ADDRESS_MASK, at = own_context(x, slot, 1);
	struct context flags, from, to;

	if (!read_context(x, input, &flags))
		return CODE_PARAMETER;
	if (!(le32_get(flags.bytes + 4) & 2))
		return CODE_SUCCESS;
	if (!read_context(x, input + 2 * CONTEXT, &from) || !read_context(x, at, &to))
		return CODE_PARAMETER;
	memcpy(to.bytes + 6, from.bytes + 6, 2);
	x->slots[slot].ep[1].packet = le16_get(from.bytes + 6);
	return write_context(x, at, &to) ? CODE_SUCCESS : CODE_PARAMETER;
}

/* From one state to stopped. */
static unsigned stop_from(struct xhci *x, unsigned slot, unsigned ep, unsigned state)
{
	struct endpoint *e = &x->slots[slot].ep[ep % ENDPOINTS];

	if (!ep || ep >= ENDPOINTS || e->state != state)
		return CODE_CONTEXT;
	e->state = EP_STOPPED;
	endpoint_tell(x, slot, ep);
	return CODE_SUCCESS;
}

static unsigned reset_endpoint(struct xhci *x, unsigned slot, const struct trb *t)
{
	return stop_from(x, slot, endpoint_of(t), EP_HALTED);
}

static unsigned stop_endpoint(struct xhci *x, unsigned slot, const struct trb *t)
{
	return stop_from(x, slot, endpoint_of(t), EP_RUNNING);
}

static unsigned set_dequeue(struct xhci *x, unsigned slot, const struct trb *t)
{
	struct endpoint *e = &x->slots[slot].ep[endpoint_of(t) % ENDPOINTS];

	if (endpoint_of(t) >= ENDPOINTS || e->state != EP_STOPPED)
		return CODE_CONTEXT;
	e->ring = (struct ring){t->parameter & ~15ull, t->parameter & 1};
	e->done = 0;
	endpoint_tell(x, slot, endpoint_of(t));
	return CODE_SUCCESS;
}

static unsigned reset_device(struct xhci *x, unsigned slot, const struct trb *t)
{
	struct slot *s = &x->slots[slot];

	(void)t;
	if (s->state < SLOT_ADDRESSED)
		return CODE_CONTEXT;
	drop(x, slot, UINT32_MAX);
	s->state = SLOT_DEFAULT;
	s->has_setup = false;
	if (x->ports[s->port].usb)
		usb_reset(x->ports[s->port].usb);
	tell_slot(x, slot);
	return CODE_SUCCESS;
}

static const struct {
	uint8_t type;
	unsigned (*execute)(struct xhci *x, unsigned slot, const struct trb *t);
} commands[] = {
	{TRB_DISABLE_SLOT, disable_slot},
	{TRB_ADDRESS_DEVICE, address_device},
	{TRB_CONFIGURE, configure},
	{TRB_EVALUATE, evaluate},
	{TRB_RESET_EP, reset_endpoint},
	{TRB_STOP_EP, stop_endpoint},
	{TRB_SET_DEQUEUE, set_dequeue},
	{TRB_RESET_DEVICE, reset_device},
};

static unsigned execute(struct xhci *x, const struct trb *t, unsigned *slot)
{
	unsigned type = trb_type(t);

	*slot = slot_of(t);
	if (type == TRB_ENABLE_SLOT)
		return enable_slot(x, slot);
	if (type == TRB_NO_OP_COMMAND)
		return CODE_SUCCESS;
	for (unsigned i = 0; i < ARRAY_SIZE(commands); i++) {
		if (commands[i].type != type)
			continue;
		if (!*slot || *slot > XHCI_SLOTS || !x->slots[*slot].enabled)
			return CODE_SLOT;
		return commands[i].execute(x, *slot, t);
	}
	return CODE_TRB;
}

void commands_run(struct xhci *x)
{
	for (unsigned i = 0; i < COMMANDS_MAX && x->commands_run && event_has_room(x); i++) {
		unsigned slot, code;
		struct trb t;

		if (!ring_fetch(x, &x->command, &t))
			return;
		code = execute(x, &t, &slot);
		event_put(x, t.at, code << 24, slot << 24 | TRB_TYPE(TRB_COMMAND));
	}
}
