/* SPDX-License-Identifier: MIT */
/*
 * The PCI host bridge, after the PCI Local Bus Specification 3.0 (chapter 6) and, for ECAM,
 * the PCI Express Base Specification.
 *
 *	ports 0xcf8, 0xcfc          ECAM window
 *	  |  31 enable                |  address bits
 *	  |  23..16 bus               |  27..20 bus
 *	  |  15..11 slot              |  19..15 slot
 *	  |  10..8  function          |  14..12 function
 *	  |   7..2  register          |  11..0  register
 *	  +------------+--------------+
 *	               v
 *	     config[256] of slot n     nobody: all ones
 *
 * The configuration space of a function is `config` and a mask of writable bits. BAR sizing
 * is no special case: the low bits of a BAR are not writable, so all ones written come back
 * as the size. After any write to the command register or a BAR the decoders are brought up
 * to date: what should be where, against where it is.
 *
 * Two BARs at one place: the second is not mapped, and gets its chance again whenever any
 * decoder changes.
 *
 * The bridge also owns port 0xcf9 (reset control), which lies inside 0xcf8's four bytes.
 *
 * Left out: buses behind bridges, functions other than 0, expansion ROMs, and the master
 * enable bit as a gate for DMA (drivers set it; nothing would break but the driver).
 */
#include <errno.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "dev/pci/function.h"
#include "dev/pci/msix.h"
#include "dev/pci/pci.h"

#define ADDRESS_ENABLE 0x80000000u

#define RST_CPU 0x04u /* port 0xcf9: 0 to 1 resets */

#define BAR_IO       0x1u
#define BAR_WIDE     0x4u
#define BAR_PREFETCH 0x8u

struct pci_host {
	struct device dev;
	struct pci_host_config config;
	struct pci_function *slots[PCI_SLOTS];
	struct pci_function self;
	uint32_t address; /* 0xcf8 */
	uint8_t rst_cnt;  /* 0xcf9 */
	bool has_data, has_ecam;
	pthread_mutex_t intx_lock; /* of the next; innermost */
	uint32_t intx[PCI_INTX];   /* a bit for each slot that pulls the line */
};

static struct pci_host *host_of(const struct pci_function *fn)
{
	return (struct pci_host *)fn->host;
}

/* -- Interrupt pins ------------------------------------------------------------------ */

static void drive_intx(struct pci_function *fn)
{
	struct pci_host *host = host_of(fn);
	unsigned n = pci_intx(fn->slot, fn->pin);
	bool level = fn->intx && !(le16_get(fn->config + PCI_COMMAND) & PCI_COMMAND_NO_INTX);
	uint32_t old = host->intx[n];

	if (level)
		host->intx[n] |= 1u << fn->slot;
	else
		host->intx[n] &= ~(1u << fn->slot);
	if (!old != !host->intx[n])
		irq_set(&host->config.intx[n], host->intx[n]);
}

void pci_intx_set(struct pci_function *fn, bool level)
{
	if (!fn->host || fn->pin == 0)
		return;
	scoped_lock(&host_of(fn)->intx_lock);
	fn->intx = level;
	drive_intx(fn);
}

void pci_msi_send(struct pci_function *fn, uint64_t addr, uint32_t data)
{
	msi_send(&host_of(fn)->config.msi, addr, data);
}

/* -- BARs ---------------------------------------------------------------------------- */

static unsigned bar_at(unsigned n)
{
	return PCI_BAR0 + n * 4;
}

/* Where the guest put a BAR. */
static uint64_t bar_addr(const struct pci_function *fn, unsigned n)
{
	const struct pci_bar *bar = &fn->bars[n];
	uint64_t addr = le32_get(fn->config + bar_at(n)) & ~(bar->io ? 3u : 0xfu);

	if (bar->wide)
		addr |= (uint64_t)le32_get(fn->config + bar_at(n + 1)) << 32;
	return addr;
}

static bool decodes(const struct pci_function *fn, const struct pci_bar *bar)
{
	unsigned bit = bar->io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;

	return le16_get(fn->config + PCI_COMMAND) & bit;
}

static enum bus_space bar_space(const struct pci_bar *bar)
{
	return bar->io ? BUS_PORT : BUS_MMIO;
}

static void unmap_moved(struct pci_host *host, struct pci_function *fn)
{
	for (unsigned n = 0; n < PCI_BARS; n++) {
		struct pci_bar *bar = &fn->bars[n];

		if (!bar->mapped || (decodes(fn, bar) && bar->addr == bar_addr(fn, n)))
			continue;
		bus_remove(host->dev.bus, bar_space(bar), bar->addr);
		bar->mapped = false;
	}
}

static void map_missing(struct pci_host *host, struct pci_function *fn)
{
	for (unsigned n = 0; n < PCI_BARS; n++) {
		struct pci_bar *bar = &fn->bars[n];
		struct bus_window w = {
			.name = fn->name, .space = bar_space(bar), .base = bar_addr(fn, n),
			.size = bar->size, .read = bar->read, .write = bar->write,
			.ctx = bar->ctx ? bar->ctx : fn->ctx,
			.bells = bar->bells, .n_bells = bar->n_bells,
		};

		if (bar->size == 0 || bar->mapped || !decodes(fn, bar))
			continue;
		bar->addr = w.base;
		bar->mapped = bus_add(host->dev.bus, &w, NULL) == 0;
	}
}

static void update_decoders(struct pci_host *host, struct pci_function *fn)
{
	unmap_moved(host, fn);
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++)
		if (host->slots[slot])
			map_missing(host, host->slots[slot]);
}

static void init_bar(struct pci_function *fn, unsigned n)
{
	const struct pci_bar *bar = &fn->bars[n];
	uint64_t mask = ~(bar->size - 1);
	uint32_t flags = bar->io ? BAR_IO : 0;

	if (bar->size == 0)
		return;
	if (bar->wide)
		flags |= BAR_WIDE;
	if (bar->prefetch)
		flags |= BAR_PREFETCH;
	le32_put(fn->config + bar_at(n), flags);
	le32_put(fn->writable + bar_at(n), (uint32_t)mask);
	if (bar->wide)
		le32_put(fn->writable + bar_at(n + 1), (uint32_t)(mask >> 32));
}

/* -- Configuration space --------------------------------------------------------------- */

static void init_config(struct pci_function *fn)
{
	uint8_t *config = fn->config, *writable = fn->writable;

	memset(config, 0, PCI_CONFIG_SIZE);
	memset(writable, 0, PCI_CONFIG_SIZE);
	le16_put(config + 0x00, fn->vendor);
	le16_put(config + 0x02, fn->device);
	le32_put(config + 0x08, fn->class_code << 8 | fn->revision);
	le16_put(config + 0x2c, fn->sub_vendor);
	le16_put(config + 0x2e, fn->sub_device);
	config[PCI_PIN] = fn->pin;
	le16_put(writable + PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY |
		 PCI_COMMAND_MASTER | PCI_COMMAND_NO_INTX);
	writable[0x0c] = 0xff; /* cache line size and latency timer: kept, not used */
	writable[0x0d] = 0xff;
	writable[PCI_LINE] = 0xff;
	for (unsigned n = 0; n < PCI_BARS; n++)
		init_bar(fn, n);
	fn->last_cap = 0;
	fn->cap_end = 0x40;
}

unsigned pci_add_cap(struct pci_function *fn, uint8_t id, const void *body, unsigned len)
{
	unsigned at = fn->cap_end;

	fn->config[at] = id;
	memcpy(fn->config + at + 2, body, len);
	if (fn->last_cap)
		fn->config[fn->last_cap + 1] = (uint8_t)at;
	else
		fn->config[PCI_CAPS] = (uint8_t)at;
	fn->config[PCI_STATUS] |= PCI_STATUS_CAPS;
	fn->last_cap = (uint8_t)at;
	fn->cap_end = (uint8_t)align_up(at + 2 + len, 4);
	return at;
}

/* The status register's interrupt bit is the pin, not a memory. */
static void refresh_status(struct pci_function *fn)
{
	scoped_lock(&host_of(fn)->intx_lock);
	fn->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTX;
	if (fn->intx)
		fn->config[PCI_STATUS] |= PCI_STATUS_INTX;
}

uint32_t pci_config_read(struct pci_function *fn, unsigned at, unsigned width)
{
	uint32_t value = 0;

	if (at + width > PCI_CONFIG_SIZE)
		return UINT32_MAX;
	if (fn->config_read)
		fn->config_read(fn->ctx, at, width);
	refresh_status(fn);
	for (unsigned i = 0; i < width; i++)
		value |= (uint32_t)fn->config[at + i] << (i * 8);
	return value;
}

static bool touches(unsigned at, unsigned width, unsigned first, unsigned end)
{
	return at < end && at + width > first;
}

static void store(struct pci_function *fn, unsigned at, unsigned width, uint32_t value)
{
	/* The command register is also read by who drives the pin. */
	scoped_lock(&host_of(fn)->intx_lock);
	for (unsigned i = 0; i < width; i++) {
		uint8_t mask = fn->writable[at + i];
		uint8_t byte = (uint8_t)(value >> (i * 8));

		fn->config[at + i] = (uint8_t)((fn->config[at + i] & ~mask) | (byte & mask));
	}
	if (fn->pin)
		drive_intx(fn);
}

void pci_config_write(struct pci_function *fn, unsigned at, unsigned width, uint32_t value)
{
	if (at + width > PCI_CONFIG_SIZE)
		return;
	store(fn, at, width, value);
	if (touches(at, width, PCI_COMMAND, PCI_COMMAND + 2) ||
	    touches(at, width, PCI_BAR0, bar_at(PCI_BARS)))
		update_decoders(host_of(fn), fn);
	if (fn->msix)
		msix_config_written(fn->msix);
	if (fn->config_written)
		fn->config_written(fn->ctx, at, width);
}

/* -- Ways in --------------------------------------------------------------------------- */

static uint32_t read_slot(struct pci_host *host, unsigned bus, unsigned devfn, unsigned at,
			  unsigned width)
{
	struct pci_function *fn = bus == 0 && devfn % 8 == 0 ? host->slots[devfn / 8] : NULL;

	return fn ? pci_config_read(fn, at, width) : UINT32_MAX;
}

static void write_slot(struct pci_host *host, unsigned bus, unsigned devfn, unsigned at,
		       unsigned width, uint32_t value)
{
	struct pci_function *fn = bus == 0 && devfn % 8 == 0 ? host->slots[devfn / 8] : NULL;

	if (fn)
		pci_config_write(fn, at, width, value);
}

/* Port 0xcfc; `at` picks bytes inside the register that 0xcf8 names. */
static uint64_t read_data(void *ctx, uint64_t at, unsigned width)
{
	struct pci_host *host = ctx;
	uint32_t a;

	scoped_lock(&host->dev.lock);
	a = host->address;
	if (!(a & ADDRESS_ENABLE))
		return UINT64_MAX;
	return read_slot(host, a >> 16 & 0xff, a >> 8 & 0xff, (a & 0xfc) + (unsigned)at, width);
}

static void write_data(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct pci_host *host = ctx;
	uint32_t a;

	scoped_lock(&host->dev.lock);
	a = host->address;
	if (a & ADDRESS_ENABLE)
		write_slot(host, a >> 16 & 0xff, a >> 8 & 0xff, (a & 0xfc) + (unsigned)at,
			   width, (uint32_t)value);
}

static uint64_t read_ecam(void *ctx, uint64_t at, unsigned width)
{
	struct pci_host *host = ctx;

	scoped_lock(&host->dev.lock);
	return read_slot(host, 0, at >> 12 & 0xff, at & 0xfff, width);
}

static void write_ecam(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct pci_host *host = ctx;

	scoped_lock(&host->dev.lock);
	write_slot(host, 0, at >> 12 & 0xff, at & 0xfff, width, (uint32_t)value);
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

static const struct reg address_regs[] = {
	{.at = 0, .width = 4, .name = "CONFIG_ADDRESS",
	 .read = read_address, .write = write_address},
	{.at = 1, .width = 1, .name = "RST_CNT", .read = read_rst_cnt, .write = write_rst_cnt},
	{0},
};

/* -- Slots ------------------------------------------------------------------------------ */

static unsigned free_slot(const struct pci_host *host)
{
	unsigned slot = 1;

	while (slot < PCI_SLOTS && host->slots[slot])
		slot++;
	return slot;
}

int pci_add(struct device *dev, struct pci_function *fn, unsigned slot, struct err *err)
{
	struct pci_host *host = (struct pci_host *)dev;

	scoped_lock(&dev->lock);
	if (slot == 0)
		slot = free_slot(host);
	if (slot >= PCI_SLOTS)
		return err_set(err, ENOSPC, "PCI slots are 1 to %d", PCI_SLOTS - 1);
	if (host->slots[slot])
		return err_set(err, EBUSY, "PCI slot %u is taken by %s", slot,
			       host->slots[slot]->name);
	init_config(fn);
	fn->host = dev;
	fn->slot = (uint8_t)slot;
	host->slots[slot] = fn;
	return 0;
}

void pci_remove(struct pci_function *fn)
{
	struct pci_host *host = host_of(fn);

	if (!host)
		return;
	pci_intx_set(fn, false);
	scoped_lock(&host->dev.lock);
	le16_put(fn->config + PCI_COMMAND, 0);
	unmap_moved(host, fn);
	host->slots[fn->slot] = NULL;
	fn->host = NULL;
}

/* -- Addresses, as firmware gives them ----------------------------------------------------- */

/* Takes size bytes, aligned to size, from [*next, end); 0 if they do not fit. */
static uint64_t take(uint64_t *next, uint64_t end, uint64_t size)
{
	uint64_t at = align_up(*next, size);

	if (at < *next || at > end || end - at < size)
		return 0;
	*next = at + size;
	return at;
}

static void put_bar(struct pci_function *fn, unsigned n, uint64_t addr)
{
	uint32_t flags = le32_get(fn->config + bar_at(n)) & 0xf;

	le32_put(fn->config + bar_at(n), (uint32_t)addr | flags);
	if (fn->bars[n].wide)
		le32_put(fn->config + bar_at(n + 1), (uint32_t)(addr >> 32));
}

static void assign(struct pci_host *host)
{
	const struct pci_host_config *c = &host->config;
	uint64_t next = c->mem_base, end = c->mem_base + c->mem_size;
	uint64_t next64 = c->mem64_base, end64 = c->mem64_base + c->mem64_size;
	uint64_t next_io = 0xc000;

	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		struct pci_function *fn = host->slots[slot];

		if (!fn)
			continue;
		for (unsigned n = 0; n < PCI_BARS; n++) {
			struct pci_bar *bar = &fn->bars[n];

			if (bar->size == 0)
				continue;
			if (bar->io)
				put_bar(fn, n, take(&next_io, 0x10000, bar->size));
			else if (bar->wide && c->mem64_size)
				put_bar(fn, n, take(&next64, end64, bar->size));
			else
				put_bar(fn, n, take(&next, end, bar->size));
		}
	}
}

static void assign_locked(struct pci_host *host)
{
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		struct pci_function *fn = host->slots[slot];

		if (!fn)
			continue;
		le16_put(fn->config + PCI_COMMAND, 0);
		fn->config[PCI_LINE] = 0;
		unmap_moved(host, fn);
		if (fn->msix)
			msix_reset(fn->msix);
	}
	assign(host);
}

void pci_host_assign(struct device *dev)
{
	scoped_lock(&dev->lock);
	assign_locked((struct pci_host *)dev);
}

/* -- The model -------------------------------------------------------------------------- */

static int add_raw(struct pci_host *host, enum bus_space space, uint64_t base, uint64_t size,
		   bool ecam, bool *added, struct err *err)
{
	int rc = bus_add(host->dev.bus, &(struct bus_window){
		.name = ecam ? "pci ecam" : "pci data", .space = space, .base = base,
		.size = size, .width = 4, .read = ecam ? read_ecam : read_data,
		.write = ecam ? write_ecam : write_data, .ctx = host,
	}, err);

	*added = rc == 0;
	return rc;
}

static int init(struct device *dev, const void *config, struct err *err)
{
	struct pci_host *host = (struct pci_host *)dev;
	int rc;

	host->config = *(const struct pci_host_config *)config;
	pthread_mutex_init(&host->intx_lock, NULL);
	host->self = (struct pci_function){
		.name = "pci host bridge", .vendor = 0x1b36, .device = 0x0008,
		.sub_vendor = 0x1af4, .sub_device = 0x1100, .class_code = 0x060000,
		.host = dev,
	};
	init_config(&host->self);
	host->slots[0] = &host->self;
	rc = device_claim(dev, BUS_PORT, 0xcf8, 4, address_regs, err);
	if (rc == 0)
		rc = add_raw(host, BUS_PORT, 0xcfc, 4, false, &host->has_data, err);
	if (rc == 0 && host->config.ecam_base)
		rc = add_raw(host, BUS_MMIO, host->config.ecam_base, PCI_ECAM_SIZE, true,
			     &host->has_ecam, err);
	return rc;
}

static void reset(struct device *dev)
{
	struct pci_host *host = (struct pci_host *)dev;

	host->address = 0;
	host->rst_cnt = 0;
	assign_locked(host);
}

static void fini(struct device *dev)
{
	struct pci_host *host = (struct pci_host *)dev;

	if (host->has_data)
		bus_remove(dev->bus, BUS_PORT, 0xcfc);
	if (host->has_ecam)
		bus_remove(dev->bus, BUS_MMIO, host->config.ecam_base);
	pthread_mutex_destroy(&host->intx_lock);
}

const struct device_model pci_host_model = {
	.name = "pci-host",
	.summary = "PCI host bridge: mechanism 1 and ECAM",
	.size = sizeof(struct pci_host),
	.init = init,
	.reset = reset,
	.fini = fini,
};
