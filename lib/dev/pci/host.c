/* SPDX-License-Identifier: MIT */
/*
 * The PCI host bridge: the ways in, and the slots. After the PCI Local Bus
 * Specification 3.0 (chapter 3, configuration mechanism 1) and the PCI Express Base
 * Specification (ECAM).
 *
 *	ports 0xcf8, 0xcfc          ECAM window
 *	  |  31 enable                |  address bits
 *	  |  23..16 bus               |  27..20 bus
 *	  |  15..11 slot              |  19..15 slot
 *	  |  10..8  function          |  14..12 function
 *	  |   7..2  register          |  11..0  register
 *	  +------------+--------------+
 *	               v
 *	     config[] of that function     nobody: all ones
 *
 * What happens in configuration space is in function.c, where BARs are put in assign.c.
 *
 * The bridge also owns port 0xcf9 (reset control), which lies inside 0xcf8's four
 * bytes.
 *
 * Another bus than 0 is behind the root port that has its number (port.c).
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "dev/pci/private.h"
#include "state/state.h"

#include <errno.h>

#define ADDRESS_ENABLE 0x80000000u

#define RST_CPU 0x04u /* port 0xcf9: 0 to 1 resets */

/* -- Ways in ----------------------------------------------------------------------- */

static struct pci_function *find(struct pci_host *host, unsigned bus, unsigned devfn)
{
	if (bus == 0)
		return host->functions[devfn];
	for (struct pci_port *p = host->ports; p; p = p->next)
		if (p->fn.config[PCI_SECONDARY] == bus)
			return devfn < PCI_BELOW && pci_port_shows(p) ? p->below[devfn] : NULL;
	return NULL;
}

void pci_each(struct pci_host *host, void (*visit)(struct pci_function *fn))
{
	for (unsigned i = 0; i < PCI_DEVFNS; i++)
		if (host->functions[i])
			visit(host->functions[i]);
	for (struct pci_port *p = host->ports; p; p = p->next)
		for (unsigned i = 0; i < PCI_BELOW; i++)
			if (p->below[i])
				visit(p->below[i]);
}

static uint32_t read_slot(struct pci_host *host, unsigned bus, unsigned devfn,
			  unsigned at, unsigned width)
{
	struct pci_function *fn = find(host, bus, devfn);

	return fn ? pci_config_read(fn, at, width) : UINT32_MAX;
}

static void write_slot(struct pci_host *host, unsigned bus, unsigned devfn, unsigned at,
		       unsigned width, uint32_t value)
{
	struct pci_function *fn = find(host, bus, devfn);

	if (fn)
		pci_config_write(fn, at, width, value);
}

/* Port 0xcfc; `at` picks bytes inside the register that 0xcf8 names. */
uint64_t pci_data_read(void *dev, uint64_t at, unsigned width)
{
	struct pci_host *host = dev;
	uint32_t a = host->address;

	if (!(a & ADDRESS_ENABLE))
		return UINT64_MAX;
	return read_slot(host, a >> 16 & 0xff, a >> 8 & 0xff, (a & 0xfc) + (unsigned)at,
			 width);
}

void pci_data_write(void *dev, uint64_t at, unsigned width, uint64_t value)
{
	struct pci_host *host = dev;
	uint32_t a = host->address;

	if (a & ADDRESS_ENABLE)
		write_slot(host, a >> 16 & 0xff, a >> 8 & 0xff,
			   (a & 0xfc) + (unsigned)at, width, (uint32_t)value);
}

uint64_t pci_ecam_read(void *dev, uint64_t at, unsigned width)
{
	return read_slot(dev, (unsigned)(at >> 20), at >> 12 & 0xff, at & 0xfff, width);
}

void pci_ecam_write(void *dev, uint64_t at, unsigned width, uint64_t value)
{
	write_slot(dev, (unsigned)(at >> 20), at >> 12 & 0xff, at & 0xfff, width, (uint32_t)value);
}

static uint64_t read_address(void *dev, unsigned at)
{
	(void)at;
	return ((struct pci_host *)dev)->address;
}

static void write_address(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct pci_host *)dev)->address = (uint32_t)value;
}

static uint64_t read_rst_cnt(void *dev, unsigned at)
{
	(void)at;
	return ((struct pci_host *)dev)->rst_cnt;
}

static void write_rst_cnt(void *dev, unsigned at, uint64_t value)
{
	struct pci_host *host = dev;
	bool pulse = value & ~(unsigned)host->rst_cnt & RST_CPU;

	(void)at;
	host->rst_cnt = (uint8_t)value;
	if (pulse)
		power_ask(&host->config.power, POWER_RESET, "port 0xcf9");
}

const struct reg pci_address_regs[] = {
	{.at = 0, .width = 4, .name = "CONFIG_ADDRESS",
	 .read = read_address, .write = write_address},
	{.at = PCI_RST_CNT, .width = 1, .name = "RST_CNT", .read = read_rst_cnt, .write = write_rst_cnt},
	{0},
};

/* -- Slots ------------------------------------------------------------------------- */

static unsigned free_slot(const struct pci_host *host)
{
	unsigned slot = 1;

	while (slot < PCI_SLOTS && host->functions[PCI_DEVFN(slot, 0)])
		slot++;
	return slot;
}

static int check_place(const struct pci_host *host, unsigned devfn, struct err *err)
{
	unsigned slot = PCI_SLOT(devfn);

	if (slot >= PCI_SLOTS)
		return err_set(err, ENOSPC, "PCI slots are 1 to %d", PCI_SLOTS - 1);
	if (host->functions[devfn] && devfn % 8)
		return err_set(err, EBUSY, "function %u of PCI slot %u is taken by %s", devfn % 8, slot,
			       host->functions[devfn]->name);
	if (host->functions[devfn])
		return err_set(err, EBUSY, "PCI slot %u is taken by %s", slot, host->functions[devfn]->name);
	if (devfn % 8 && !host->functions[PCI_DEVFN(slot, 0)])
		return err_set(err, EINVAL, "function %u of PCI slot %u: nobody would look for it without a function 0",
			       devfn % 8, slot);
	return 0;
}

static int add_below(struct pci_port *port, struct pci_function *fn, unsigned devfn, struct err *err)
{
	scoped_lock(&port->fn.host->lock);
	if (devfn >= PCI_BELOW || (devfn && !port->below[0]))
		return err_set(err, EINVAL, "a PCI Express port has slot 0 alone behind it, and function 0 of that comes first");
	if (port->below[devfn])
		return err_set(err, EBUSY, "function %u behind a PCI Express port is taken by %s", devfn, port->below[devfn]->name);
	pci_init_config(fn);
	fn->host = port->fn.host;
	fn->port = port;
	fn->devfn = (uint8_t)devfn;
	port->below[devfn] = fn;
	if (devfn)
		port->below[0]->config[PCI_HEADER] |= PCI_HEADER_MULTI;
	pci_port_look(port);
	return 0;
}

int pci_add(struct device *dev, struct pci_function *fn, unsigned devfn, struct err *err)
{
	struct pci_host *host = (struct pci_host *)dev;
	int rc;

	if (dev->model == &pci_port_model)
		return add_below((struct pci_port *)dev, fn, devfn, err);

	scoped_lock(&dev->lock);
	if (devfn == 0)
		devfn = PCI_DEVFN(free_slot(host), 0);
	rc = check_place(host, devfn, err);
	if (rc < 0)
		return rc;
	pci_init_config(fn);
	fn->host = dev;
	fn->devfn = (uint8_t)devfn;
	host->functions[devfn] = fn;
	if (fn->bridge) {
		fn->bridge->next = host->ports;
		host->ports = fn->bridge;
	}
	if (devfn % 8)
		host->functions[PCI_DEVFN(PCI_SLOT(devfn), 0)]->config[PCI_HEADER] |= PCI_HEADER_MULTI;
	return 0;
}

/* Nobody is behind it any more. */
static void forget_port(struct pci_host *host, const struct pci_port *port)
{
	struct pci_port **link = &host->ports;

	while (*link && *link != port)
		link = &(*link)->next;
	if (*link)
		*link = port->next;
}

void pci_remove(struct pci_function *fn)
{
	struct pci_host *host = pci_host_of(fn);

	if (!host)
		return;
	pci_intx_set(fn, false);
	scoped_lock(&host->dev.lock);
	le16_put(fn->config + PCI_COMMAND, 0);
	pci_update_decoders(fn);
	if (fn->port) {
		fn->port->below[fn->devfn] = NULL;
		pci_port_look(fn->port);
	} else {
		host->functions[fn->devfn] = NULL;
	}
	if (fn->bridge)
		forget_port(host, fn->bridge);
	fn->host = NULL;
}

/* -- The model --------------------------------------------------------------------- */

static const struct device_place places[] = {
	{BUS_PORT, 4, .regs = pci_address_regs},
	{BUS_PORT, 4, .read = pci_data_read, .write = pci_data_write},
	{BUS_MMIO, PCI_ECAM_SIZE, .read = pci_ecam_read, .write = pci_ecam_write},
	{0},
};

void pci_host_init(struct pci_host *host, const struct pci_host_config *config, uint16_t vendor, uint16_t device)
{
	host->config = *config;
	pthread_mutex_init(&host->intx_lock, NULL);
	host->self = (struct pci_function){
		.name = "pci host bridge", .vendor = vendor, .device = device,
		.sub_vendor = 0x1af4, .sub_device = 0x1100, .class_code = 0x060000,
		.host = &host->dev,
	};
	pci_init_config(&host->self);
	host->functions[0] = &host->self;
}

static int init(struct device *dev, const void *config, struct err *err)
{
	(void)err;
	pci_host_init((struct pci_host *)dev, config, 0x1b36, 0x0008);
	return 0;
}

static void reset(struct device *dev)
{
	struct pci_host *host = (struct pci_host *)dev;

	host->address = 0;
	host->rst_cnt = 0;
	pci_assign_locked(host);
}

void pci_host_fini(struct device *dev)
{
	pthread_mutex_destroy(&((struct pci_host *)dev)->intx_lock);
}

void pci_host_saving(struct device *dev)
{
	pci_function_saving(&((struct pci_host *)dev)->self);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	(void)away, (void)err;
	pci_function_loaded(&((struct pci_host *)dev)->self);
	return 0;
}

static const struct state_field fields[] = {
	STATE(struct pci_host, address),
	STATE(struct pci_host, rst_cnt),
	PCI_FUNCTION_STATE(struct pci_host, self),
	{0},
};

static const struct state_table table = {.name = "bridge", .version = 1, .fields = fields};
const struct state_table *const pci_host_state[] = {&table, NULL};

const struct device_model pci_host_model = {
	.name = "pci-host",
	.summary = "PCI host bridge: configuration by ports and by ECAM",
	.size = sizeof(struct pci_host),
	.places = places,
	.state = pci_host_state,
	.init = init,
	.reset = reset,
	.fini = pci_host_fini,
	.saving = pci_host_saving,
	.loaded = loaded,
};
