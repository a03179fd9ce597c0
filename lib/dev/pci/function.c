/* SPDX-License-Identifier: MIT */
/*
 * A function's configuration space, its address decoders and its interrupt pin, after
 * the PCI Local Bus Specification 3.0, chapter 6.
 *
 * Configuration space is `config` and a mask of writable bits. BAR sizing is no special
 * case: the low bits of a BAR are not writable, so all ones written come back as the
 * size. After any write to the command register or a BAR the decoders are brought up to
 * date: what should be where, against where it is.
 *
 * Two BARs at one place: the second is not mapped, and gets its chance again whenever
 * any decoder changes.
 *
 * An expansion ROM is one more decoder, with a bit of its own that switches it on. Who reads it
 * copies it, so an access for each few bytes will do.
 *
 * Four lines carry the pins of all functions. A line is up while any function pulls it.
 *
 * Left out: the master enable bit as a gate for DMA (drivers set it; nothing would break
 * but the driver).
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "dev/pci/msix.h"
#include "dev/pci/private.h"

#include <errno.h>
#include <string.h>

#define BAR_IO       0x1u
#define BAR_WIDE     0x4u
#define BAR_PREFETCH 0x8u
#define ROM_ENABLE   0x1u
#define ROM_LOW      0x7ffu /* of its register, what is no address */

/* -- Interrupt pins ---------------------------------------------------------------- */

/* Behind a port it is that one's slot's. */
static unsigned line_of(const struct pci_function *fn)
{
	return pci_intx(PCI_SLOT(fn->port ? fn->port->fn.devfn : fn->devfn), fn->pin);
}

/* Brings the line's count up to date; true if this function has changed its mind. */
static bool pull(struct pci_function *fn)
{
	unsigned *n = &pci_host_of(fn)->intx[line_of(fn)];
	bool pulls = fn->intx && !(le16_get(fn->config + PCI_COMMAND) & PCI_COMMAND_NO_INTX);

	if (pulls == fn->pulls)
		return false;
	fn->pulls = pulls;
	*n += pulls ? 1 : -1u;
	return true;
}

static void drive_intx(struct pci_function *fn)
{
	struct pci_host *host = pci_host_of(fn);
	unsigned n = line_of(fn), old = host->intx[n];

	if (!pull(fn) || !old == !host->intx[n])
		return;
	irq_set(&host->config.intx[n], host->intx[n]);
}

void pci_intx_set(struct pci_function *fn, bool level)
{
	if (!fn->host || fn->pin == 0)
		return;
	scoped_lock(&pci_host_of(fn)->intx_lock);
	fn->intx = level;
	drive_intx(fn);
}

void pci_msi_send(struct pci_function *fn, uint64_t addr, uint32_t data)
{
	msi_send(&pci_host_of(fn)->config.msi, addr, data);
}

/* -- BARs -------------------------------------------------------------------------- */

/* Where the guest put a BAR. */
static uint64_t bar_addr(const struct pci_function *fn, unsigned n)
{
	const struct pci_bar *bar = &fn->bars[n];
	uint64_t addr = le32_get(fn->config + pci_bar_at(n)) & ~(n == PCI_ROM ? ROM_LOW : bar->io ? 3u : 0xfu);

	if (bar->wide)
		addr |= (uint64_t)le32_get(fn->config + pci_bar_at(n + 1)) << 32;
	return addr;
}

static bool decodes(const struct pci_function *fn, unsigned n)
{
	const struct pci_bar *bar = &fn->bars[n];
	unsigned bit = bar->io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;

	if (fn->port && !pci_port_passes(fn->port, bar->io, bar_addr(fn, n), bar->size))
		return false;
	return le16_get(fn->config + PCI_COMMAND) & bit && (n != PCI_ROM || fn->config[PCI_ROM_BASE] & ROM_ENABLE);
}

static enum bus_space bar_space(const struct pci_bar *bar)
{
	return bar->io ? BUS_PORT : BUS_MMIO;
}

static void unmap_moved(struct pci_host *host, struct pci_function *fn)
{
	for (unsigned n = 0; n <= PCI_ROM; n++) {
		struct pci_bar *bar = &fn->bars[n];

		if (!bar->mapped || (decodes(fn, n) && bar->addr == bar_addr(fn, n)))
			continue;
		bus_remove(host->dev.bus, bar_space(bar), bar->addr);
		bar->mapped = false;
	}
}

static uint64_t read_regs(void *ctx, uint64_t at, unsigned width)
{
	const struct pci_bar *bar = ctx;

	scoped_lock(&bar->dev->lock);
	return regs_read(bar->regs, bar->dev, at, width);
}

static void write_regs(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	const struct pci_bar *bar = ctx;

	scoped_lock(&bar->dev->lock);
	regs_write(bar->regs, bar->dev, at, width, value);
}

static void map_missing(struct pci_function *fn)
{
	struct pci_host *host = pci_host_of(fn);

	for (unsigned n = 0; n <= PCI_ROM; n++) {
		struct pci_bar *bar = &fn->bars[n];
		struct bus_window w = {
			.name = fn->name,
			.space = bar_space(bar),
			.base = bar_addr(fn, n),
			.size = bar->size,
			.read = bar->read,
			.write = bar->write,
			.ctx = bar->ctx ? bar->ctx : fn->ctx,
		};

		if (bar->size == 0 || bar->mapped || !decodes(fn, n))
			continue;
		if (bar->regs) {
			bar->dev = fn->ctx;
			w.read = read_regs;
			w.write = write_regs;
			w.ctx = bar;
		}
		bar->addr = w.base;
		bar->mapped = bus_add(host->dev.bus, &w, NULL) == 0;
	}
}

void pci_update_decoders(struct pci_function *fn)
{
	struct pci_host *host = pci_host_of(fn);

	unmap_moved(host, fn);
	pci_each(host, map_missing);
}

void pci_update_below(struct pci_port *port)
{
	struct pci_host *host = pci_host_of(&port->fn);

	for (unsigned i = 0; i < PCI_BELOW; i++)
		if (port->below[i])
			unmap_moved(host, port->below[i]);
	pci_each(host, map_missing);
}

static uint64_t read_rom(void *ctx, uint64_t at, unsigned width)
{
	const struct pci_rom *rom = &((struct pci_function *)ctx)->rom;
	uint64_t value = 0;

	for (unsigned i = 0; i < width; i++)
		value |= (uint64_t)(at + i < rom->len ? rom->bytes[at + i] : 0xff) << (i * 8);
	return value;
}

static void init_rom(struct pci_function *fn)
{
	fn->bars[PCI_ROM] = (struct pci_bar){.size = fn->rom.size, .read = read_rom, .ctx = fn};
	if (fn->rom.size)
		le32_put(fn->writable + PCI_ROM_BASE, ~(fn->rom.size - 1) | ROM_ENABLE);
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
	le32_put(fn->config + pci_bar_at(n), flags);
	le32_put(fn->writable + pci_bar_at(n), (uint32_t)mask);
	if (bar->wide)
		le32_put(fn->writable + pci_bar_at(n + 1), (uint32_t)(mask >> 32));
}

/* -- Configuration space ----------------------------------------------------------- */

void pci_init_config(struct pci_function *fn)
{
	uint8_t *config = fn->config, *writable = fn->writable;

	memset(config, 0, PCI_CONFIG_SIZE);
	memset(writable, 0, PCI_CONFIG_SIZE);
	le16_put(config + 0x00, fn->vendor);
	le16_put(config + 0x02, fn->device);
	le32_put(config + 0x08, fn->class_code << 8 | fn->revision);
	if (fn->bridge)
		config[PCI_HEADER] = 1;
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
	init_rom(fn);
	fn->last_cap = fn->last_ext = 0;
	fn->cap_end = 0x40;
	fn->ext_end = PCI_CONFIG_OLD;
}

static unsigned config_size(const struct pci_function *fn)
{
	return fn->express ? PCI_CONFIG_SIZE : PCI_CONFIG_OLD;
}

static int check_room(const struct pci_function *fn, unsigned at, unsigned len, unsigned end, struct err *err)
{
	if (len > end || at > end - len)
		return err_set(err, ENOSPC, "%s: no room for a capability of %u bytes at %#x", fn->name, len, at);
	return 0;
}

int pci_add_cap(struct pci_function *fn, uint8_t id, const void *body, unsigned len, struct err *err)
{
	unsigned at = fn->cap_end;
	int rc = check_room(fn, at, len + 2, PCI_CONFIG_OLD, err);

	if (rc < 0)
		return rc;
	fn->config[at] = id;
	memcpy(fn->config + at + 2, body, len);
	if (fn->last_cap)
		fn->config[fn->last_cap + 1] = (uint8_t)at;
	else
		fn->config[PCI_CAPS] = (uint8_t)at;
	fn->config[PCI_STATUS] |= PCI_STATUS_CAPS;
	fn->last_cap = (uint16_t)at;
	fn->cap_end = (uint16_t)align_up(at + 2 + len, 4);
	return (int)at;
}

/* The first one is at 0x100, whoever it is. */
int pci_add_ext_cap(struct pci_function *fn, uint16_t id, uint8_t version, const void *body, unsigned len,
		    struct err *err)
{
	unsigned at = fn->ext_end;
	int rc = check_room(fn, at, len + 4, config_size(fn), err);

	if (rc < 0)
		return rc;
	le32_put(fn->config + at, (uint32_t)version << 16 | id);
	memcpy(fn->config + at + 4, body, len);
	if (fn->last_ext) /* the upper 12 bits of its header say where the next one is */
		le16_put(fn->config + fn->last_ext + 2,
			 (uint16_t)(le16_get(fn->config + fn->last_ext + 2) | at << 4));
	fn->last_ext = (uint16_t)at;
	fn->ext_end = (uint16_t)align_up(at + 4 + len, 4);
	return (int)at;
}

/* The status register's interrupt bit is the pin, not a memory. */
static void refresh_status(struct pci_function *fn)
{
	scoped_lock(&pci_host_of(fn)->intx_lock);
	fn->config[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTX;
	if (fn->intx)
		fn->config[PCI_STATUS] |= PCI_STATUS_INTX;
}

uint32_t pci_config_read(struct pci_function *fn, unsigned at, unsigned width)
{
	uint32_t value = 0;

	if (at + width > config_size(fn))
		return UINT32_MAX;
	if (fn->config_read)
		fn->config_read(fn->ctx, at, width);
	refresh_status(fn);
	for (unsigned i = 0; i < width; i++)
		value |= (uint32_t)fn->config[at + i] << (i * 8);
	return value;
}

/* The interrupt bit follows from `intx`: it is not kept as what it was when the guest last looked. */
void pci_function_saving(struct pci_function *fn)
{
	memcpy(fn->saved, fn->config, sizeof(fn->saved));
	fn->saved[PCI_STATUS] &= (uint8_t)~PCI_STATUS_INTX;
	memcpy(fn->saved_ext, fn->config + PCI_CONFIG_OLD, sizeof(fn->saved_ext));
}

static void take(struct pci_function *fn, unsigned at, const uint8_t *saved, unsigned n)
{
	uint8_t *config = fn->config + at, *writable = fn->writable + at;

	for (unsigned i = 0; i < n; i++)
		config[i] = (uint8_t)((config[i] & ~writable[i]) | (saved[i] & writable[i]));
}

void pci_function_loaded(struct pci_function *fn)
{
	scoped_lock(&fn->host->lock);
	take(fn, 0, fn->saved, sizeof(fn->saved));
	if (fn->express)
		take(fn, PCI_CONFIG_OLD, fn->saved_ext, sizeof(fn->saved_ext));
	if (fn->pin)
		pull(fn); /* the interrupt controllers know the line's level: nobody is told */
	pci_update_decoders(fn);
	if (fn->bridge)
		pci_update_below(fn->bridge);
	if (fn->msix)
		msix_loaded(fn->msix);
}

static bool touches(unsigned at, unsigned width, unsigned first, unsigned end)
{
	return at < end && at + width > first;
}

static void store(struct pci_function *fn, unsigned at, unsigned width, uint32_t value)
{
	/* The command register is also read by who drives the pin. */
	scoped_lock(&pci_host_of(fn)->intx_lock);
	for (unsigned i = 0; i < width; i++) {
		uint8_t mask = fn->writable[at + i];
		uint8_t byte = (uint8_t)(value >> (i * 8));

		fn->config[at + i] =
			(uint8_t)((fn->config[at + i] & ~mask) | (byte & mask));
	}
	if (fn->pin)
		drive_intx(fn);
}

void pci_config_write(struct pci_function *fn, unsigned at, unsigned width,
		      uint32_t value)
{
	if (at + width > config_size(fn))
		return;
	store(fn, at, width, value);
	if (touches(at, width, PCI_COMMAND, PCI_COMMAND + 2) ||
	    touches(at, width, PCI_BAR0, pci_bar_at(PCI_BARS - 1) + 4) || touches(at, width, PCI_ROM_BASE, PCI_ROM_BASE + 4))
		pci_update_decoders(fn);
	if (fn->bridge && touches(at, width, PCI_COMMAND, PCI_CAPS))
		pci_update_below(fn->bridge);
	if (fn->msix)
		msix_config_written(fn->msix);
	if (fn->config_written)
		fn->config_written(fn->ctx, at, width);
}
