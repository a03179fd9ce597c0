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
 * The slot says that devices may come and go, and whether one is there; that never changes yet.
 *
 * Left out: buses behind a bus, resets of what is behind it, events of the slot, errors, power.
 */
#include "dev/pci/port.h"

#include "base/bytes.h"
#include "base/scoped.h"
#include "dev/pci/private.h"
#include "state/state.h"

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
#define SLOT_PRESENT   0x0040u

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

/* Whether a device is there. */
void pci_port_look(struct pci_port *port)
{
	uint8_t *cap = port->fn.config + port->cap;
	bool has = port->below[0];

	le16_put(cap + LINK_STATUS, (uint16_t)(0x0011u | (has ? LINK_ACTIVE : 0)));
	le16_put(cap + SLOT_STATUS, has ? SLOT_PRESENT : 0);
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
	le32_put(body + SLOT_CAP - 2, 0x0060u | (uint32_t)port->config.number << 19); /* devices come and go, without asking */
	at = pci_add_cap(&port->fn, CAP_EXPRESS, body, sizeof(body), err);
	if (at < 0)
		return at;
	port->cap = (unsigned)at;
	w = port->fn.writable + at;
	le16_put(w + DEVICE_CONTROL, 0x7fff);
	le16_put(w + LINK_CONTROL, 0x01fb);
	le16_put(w + SLOT_CONTROL, 0x1fff);
	le16_put(w + ROOT_CONTROL, 0x001f);
	pci_port_look(port);
	return 0;
}

static int init(struct device *dev, const void *config, struct err *err)
{
	struct pci_port *port = (struct pci_port *)dev;
	int rc;

	port->config = *(const struct pci_port_config *)config;
	port->fn = (struct pci_function){
		.name = "pci-port", .vendor = 0x1b36, .device = 0x000c, .class_code = 0x060400, .express = true, .bridge = port,
		.pin = (uint8_t)(1 + port->config.devfn % PCI_INTX), .ctx = port,
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
}

static void saving(struct device *dev)
{
	pci_function_saving(&((struct pci_port *)dev)->fn);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	(void)away, (void)err;
	pci_function_loaded(&((struct pci_port *)dev)->fn);
	return 0;
}

static const struct state_field fields[] = {
	PCI_FUNCTION_STATE(struct pci_port, fn),
	PCI_EXPRESS_STATE(struct pci_port, fn),
	{0},
};

static const struct state_table table = {.name = "port", .version = 1, .fields = fields};
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
