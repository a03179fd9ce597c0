/* SPDX-License-Identifier: MIT */
/*
 * A root port, as firmware and kernels see it: a bridge's header, and the PCI Express capability of a port that has a slot.
 *
 *	+18  bus numbers: here, behind it, and the last one behind that
 *	+1c  ports that pass: base and limit, bits 15..12
 *	+20  memory that passes: base and limit, bits 31..20; +24 the same of what may be read ahead, with 64 bits
 *	+3e  bridge control
 *
 * What is behind it is found under its bus number, and its BARs are where they say only as far as they are in a window and the port passes that kind. Its
 * pins are the port's slot's. Messages go as from anywhere.
 *
 * Its slot is hot-plug capable (7.8.9 to 7.8.11), with an attention button, a power controller and a power indicator:
 *
 *	host: a device comes, button    ->  guest: power on, indicator on, and it looks who is there
 *	host: button                    ->  guest: its driver lets go, power off, indicator off
 *	      the device is taken out   <-
 *
 * Without power nothing is found behind it, and what is there is reset. Power alone is not the end of a device: a guest may switch it on
 * again, and Linux clears events for a second behind that. A reset is: what the guest was asked for it has not after one.
 *
 * That reset, in the middle of a write to slot control, waits for what the device's disk has begun, and has the bridge's lock, so that all of
 * configuration space waits along, and who asks for it at the control socket. It is not for long: requests that have not begun are cancelled, those that have go no
 * further than the piece that is under way, and there are no more of these than the disk has threads. It is as long as a machine's reset waits, or a
 * pause, and a guest that switches power on and off has the host do no more than one that resets its disk by the disk's own registers. A host whose file
 * does not answer at all has a guest whose disk does not.
 *
 * What has happened is in slot status until the guest clears it, by ones. It interrupts while something is there that slot control
 * enables: by a message when that begins, or by the pin. Each write to slot control is a command, which is completed at once.
 *
 * Left out: buses behind a bus, resets of what is behind it, devices that are gone without a word, errors.
 */
#include "dev/pci/port.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "dev/pci/msi.h"
#include "dev/pci/private.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>

#define CAP_EXPRESS 0x10
#define CAP_LEN     0x3cu
/* In the capability. */
#define DEVICE_CONTROL 0x08
#define LINK_CAP       0x0c
#define LINK_CONTROL   0x10
#define LINK_STATUS    0x12
#define SLOT_CAP       0x14
#define SLOT_CONTROL   0x18
#define SLOT_STATUS    0x1a
#define ROOT_CONTROL   0x1c

#define LINK_ACTIVE    0x2000u

/* Slot capabilities: button, power controller, power indicator, devices come and go. */
#define SLOT_CAN (0x0001u | 0x0002u | 0x0010u | 0x0040u)

/* Slot status. */
#define SLOT_BUTTON    0x0001u
#define SLOT_CHANGED   0x0008u /* presence */
#define SLOT_COMPLETED 0x0010u
#define SLOT_PRESENT   0x0040u
#define SLOT_LINK      0x0100u /* has changed */
#define SLOT_EVENTS    (SLOT_BUTTON | SLOT_CHANGED | SLOT_COMPLETED | SLOT_LINK)

/* Slot control: the first five enable the event of the same bit. */
#define SLOT_ENABLES     0x001fu
#define SLOT_INTERRUPTS  0x0020u
#define SLOT_INDICATOR   0x0300u
#define SLOT_LIT         0x0100u
#define SLOT_BLINKS      0x0200u
#define SLOT_DARK        0x0300u
#define SLOT_OFF         0x0400u
#define SLOT_LINK_ENABLE 0x1000u
#define SLOT_WRITABLE    (SLOT_ENABLES | SLOT_INTERRUPTS | SLOT_INDICATOR | SLOT_OFF | SLOT_LINK_ENABLE)

/* -- What passes -------------------------------------------------------------------------- */

static bool is_within(uint64_t addr, uint64_t size, uint64_t base, uint64_t limit)
{
	return base <= limit && addr >= base && addr <= limit && size - 1 <= limit - addr;
}

static uint64_t megabytes(const uint8_t *config, unsigned at)
{
	return (uint64_t)(le16_get(config + at) & 0xfff0u) << 16;
}

bool pci_port_passes(const struct pci_port *port, bool io, uint64_t addr, uint64_t size)
{
	const uint8_t *c = port->fn.config;
	uint16_t command = le16_get(c + PCI_COMMAND);

	if (io)
		return command & PCI_COMMAND_IO && is_within(addr, size, (c[0x1c] & 0xf0u) << 8, (c[0x1d] & 0xf0u) << 8 | 0xfff);
	return command & PCI_COMMAND_MEMORY &&
	       (is_within(addr, size, megabytes(c, 0x20), megabytes(c, 0x22) | 0xfffff) ||
		is_within(addr, size, megabytes(c, 0x24) | (uint64_t)le32_get(c + 0x28) << 32,
			  megabytes(c, 0x26) | 0xfffff | (uint64_t)le32_get(c + 0x2c) << 32));
}

static struct pci_facts_range megabytes_range(const uint8_t *c, unsigned base, unsigned limit, uint64_t high_base, uint64_t high_limit)
{
	return (struct pci_facts_range){megabytes(c, base) | high_base << 32, megabytes(c, limit) | 0xfffff | high_limit << 32};
}

void pci_port_facts(const struct pci_port *port, struct pci_facts *facts)
{
	const uint8_t *c = port->fn.config;

	facts->bridge = true;
	facts->first = c[PCI_SECONDARY];
	facts->last = c[PCI_SECONDARY + 1];
	facts->io = (struct pci_facts_range){(c[0x1c] & 0xf0u) << 8, (c[0x1d] & 0xf0u) << 8 | 0xfff};
	facts->memory = megabytes_range(c, 0x20, 0x22, 0, 0);
	facts->prefetch = megabytes_range(c, 0x24, 0x26, le32_get(c + 0x28), le32_get(c + 0x2c));
}

/* -- The slot ------------------------------------------------------------------------------- */

static uint16_t control(const struct pci_port *port)
{
	return le16_get(port->fn.config + port->cap + SLOT_CONTROL);
}

bool pci_port_shows(const struct pci_port *port)
{
	return !port->off && !port->gone;
}

static bool has(const struct pci_port *port)
{
	return port->below[0] && !port->gone;
}

/* The event bits can be written, so that a write of ones is seen: written() puts them right. */
void pci_port_look(struct pci_port *port)
{
	uint8_t *cap = port->fn.config + port->cap;

	le16_put(cap + LINK_STATUS, (uint16_t)(0x0011u | (has(port) && !port->off ? LINK_ACTIVE : 0)));
	le16_put(cap + SLOT_STATUS, (uint16_t)(port->events | (has(port) ? SLOT_PRESENT : 0)));
}

/* A message says that something is pending which was not; a pin that it is. */
static void interrupt(struct pci_port *port)
{
	unsigned enabled = control(port) & SLOT_ENABLES;
	bool before = port->pending;

	if (control(port) & SLOT_LINK_ENABLE)
		enabled |= SLOT_LINK;
	port->pending = control(port) & SLOT_INTERRUPTS && port->events & enabled;
	if (port->pending && !before)
		msi_notify(&port->fn, port->msi);
	pci_intx_set(&port->fn, port->pending && !msi_enabled(&port->fn, port->msi));
}

/* Brings what the guest sees up to date, with an event for what is not as it was. */
static void settle(struct pci_port *port)
{
	bool linked = has(port) && !port->off;

	if (has(port) != port->had)
		port->events |= SLOT_CHANGED;
	if (linked != port->linked)
		port->events |= SLOT_LINK;
	port->had = has(port);
	port->linked = linked;
	pci_port_look(port);
	interrupt(port);
}

static void switch_off(struct pci_port *port)
{
	for (unsigned i = 0; i < PCI_BELOW; i++) {
		struct pci_function *fn = port->below[i];

		if (!fn)
			continue;
		if (fn->owner)
			device_reset(fn->owner);
		pci_forget(fn);
	}
}

static void let_go(struct pci_port *port)
{
	port->leaving = false;
	port->gone = true;
	if (port->config.let_go)
		port->config.let_go(port->config.ctx);
}

static bool is_dark(const struct pci_port *port)
{
	return port->off && (control(port) & SLOT_INDICATOR) == SLOT_DARK;
}

/* The guest has written its control register: switched it, perhaps, and perhaps for good. */
static void obey(struct pci_port *port)
{
	bool off = control(port) & SLOT_OFF;

	port->events |= SLOT_COMPLETED;
	if (off && !port->off)
		switch_off(port);
	port->off = off;
	if (port->leaving && is_dark(port))
		let_go(port);
}

/* Ones that the guest wrote to bits of events clear these; bytes that it did not write hold what was there. */
static void clear_events(struct pci_port *port, unsigned at, unsigned width)
{
	unsigned status = port->cap + SLOT_STATUS;

	for (unsigned i = 0; i < 2; i++)
		if (status + i >= at && status + i < at + width)
			port->events &= (uint16_t)~(port->fn.config[status + i] << (8 * i));
}

static void written(void *ctx, unsigned at, unsigned width)
{
	struct pci_port *port = ctx;
	unsigned slot = port->cap + SLOT_CONTROL;

	clear_events(port, at, width);
	if (at < slot + 2 && at + width > slot)
		obey(port);
	settle(port);
}

/* Who puts a device in presses the button: where there is one, Linux does not listen for presence. */
void pci_port_tell(struct device *dev)
{
	struct pci_port *port = (struct pci_port *)dev;

	scoped_lock(&port->fn.host->lock);
	port->leaving = port->gone = false; /* whatever a saved machine says of who was not there */
	if (has(port) && !port->had)
		port->events |= SLOT_BUTTON;
	settle(port);
}

int pci_port_press(struct device *dev, struct err *err)
{
	struct pci_port *port = (struct pci_port *)dev;

	scoped_lock(&port->fn.host->lock);
	if (port->gone || (port->leaving && (control(port) & SLOT_INDICATOR) == SLOT_BLINKS))
		return err_set(err, EBUSY, "the guest is about to let it go");
	port->leaving = true;
	if (is_dark(port)) /* the guest does not have it */
		let_go(port);
	else
		port->events |= SLOT_BUTTON;
	settle(port);
	return 0;
}

bool pci_port_has_let_go(struct device *dev)
{
	struct pci_port *port = (struct pci_port *)dev;

	scoped_lock(&port->fn.host->lock);
	return port->gone && port->below[0];
}

/* -- The model ------------------------------------------------------------------------------ */

static void init_header(struct pci_function *fn)
{
	uint8_t *w = fn->writable;

	memset(w + 0x18, 0xff, 3);
	w[0x1c] = w[0x1d] = 0xf0;
	le32_put(w + 0x20, 0xfff0fff0u);
	le32_put(w + 0x24, 0xfff0fff0u);
	memset(w + 0x28, 0xff, 8);
	le32_put(fn->config + 0x24, 0x00010001u); /* it has 64 bits */
	le16_put(w + 0x3e, 0x0043); /* errors, and a reset of what is behind it, which is not done */
}

static int add_express(struct pci_port *port, struct err *err)
{
	uint8_t body[CAP_LEN - 2] = {0};
	uint8_t *w;
	int at;

	le16_put(body, 0x0142);                              /* version 2, a root port with a slot */
	le32_put(body + LINK_CAP - 2, 0x00100011u | (uint32_t)port->config.number << 24); /* one lane; says whether it is up */
	le32_put(body + SLOT_CAP - 2, SLOT_CAN | (uint32_t)port->config.number << 19);
	at = pci_add_cap(&port->fn, CAP_EXPRESS, body, sizeof(body), err);
	if (at < 0)
		return at;
	port->cap = (unsigned)at;
	w = port->fn.writable + at;
	le16_put(w + DEVICE_CONTROL, 0x7fff);
	le16_put(w + LINK_CONTROL, 0x01fb);
	le16_put(w + SLOT_CONTROL, SLOT_WRITABLE);
	le16_put(w + SLOT_STATUS, SLOT_EVENTS);
	le16_put(w + ROOT_CONTROL, 0x001f);
	pci_port_look(port);
	at = msi_add_cap(&port->fn, err);
	port->msi = (unsigned)at;
	return at < 0 ? at : 0;
}

static int init(struct device *dev, const void *config, struct err *err)
{
	struct pci_port *port = (struct pci_port *)dev;
	int rc;

	port->config = *(const struct pci_port_config *)config;
	port->fn = (struct pci_function){
		.name = "pci-port", .vendor = 0x1b36, .device = 0x000c, .class_code = 0x060400, .express = true, .bridge = port,
		.pin = (uint8_t)(1 + port->config.devfn % PCI_INTX), .ctx = port, .config_written = written,
	};
	rc = pci_add(port->config.host, &port->fn, port->config.devfn, err);
	if (rc < 0)
		return rc;
	init_header(&port->fn);
	return add_express(port, err);
}

static void fini(struct device *dev)
{
	pci_remove(&((struct pci_port *)dev)->fn);
}

/* What the guest was asked for it has no more; and who is there now nobody need be told. */
static void reset_slot(struct pci_port *port)
{
	if (port->leaving)
		let_go(port);
	port->off = port->pending = false;
	port->events = 0;
	port->had = port->linked = has(port);
	pci_intx_set(&port->fn, false);
	msi_reset(&port->fn, port->msi);
	pci_port_look(port);
}

/* Nothing passes until firmware has placed it. */
static void reset(struct device *dev)
{
	struct pci_port *port = (struct pci_port *)dev;
	uint8_t *c = port->fn.config;

	memset(c + 0x18, 0, 3);
	c[0x1c] = c[0x1d] = 0;
	le32_put(c + 0x20, 0);
	le32_put(c + 0x24, 0x00010001u);
	memset(c + 0x28, 0, 8);
	le16_put(c + 0x3e, 0);
	for (unsigned i = 0; i < CAP_LEN; i++)
		c[port->cap + i] &= (uint8_t)~port->fn.writable[port->cap + i];
	le16_put(c + port->cap + SLOT_CONTROL, has(port) ? SLOT_LIT : SLOT_DARK);
	reset_slot(port);
}

/* Slot status is made anew of `events` and who is there. */
static void saving(struct device *dev)
{
	struct pci_port *port = (struct pci_port *)dev;

	pci_function_saving(&port->fn);
	le16_put(port->fn.saved + port->cap + SLOT_STATUS, 0);
}

/* Who is behind it was there before it was saved. */
static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct pci_port *port = (struct pci_port *)dev;

	(void)away;
	if (port->events & ~SLOT_EVENTS)
		return err_set(err, EINVAL, "its slot has events %#x, of which there are %#x", port->events, SLOT_EVENTS);
	pci_function_loaded(&port->fn);
	port->off = control(port) & SLOT_OFF;
	port->had = has(port);
	port->linked = has(port) && !port->off;
	pci_port_look(port);
	return 0;
}

/* Version 1 was that of ports whose slots did nothing. */
static const struct state_field fields[] = {
	PCI_FUNCTION_STATE(struct pci_port, fn),
	PCI_EXPRESS_STATE(struct pci_port, fn),
	STATE_SINCE(2, struct pci_port, events),
	STATE_SINCE(2, struct pci_port, leaving),
	STATE_SINCE(2, struct pci_port, gone),
	STATE_SINCE(2, struct pci_port, pending),
	{0},
};

static const struct state_table table = {.name = "port", .version = 2, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model pci_port_model = {
	.name = "pci-port",
	.summary = "PCI Express root port, with a slot behind it",
	.option = "--root-ports",
	.size = sizeof(struct pci_port),
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.saving = saving,
	.loaded = loaded,
};
