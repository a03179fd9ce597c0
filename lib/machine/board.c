/* SPDX-License-Identifier: MIT */
/*
 * Making a board: which devices there are, and how they are wired to each other and to the machine. Where they are
 * and which lines they have is board_map.h's.
 *
 *	PCI slot 0  host bridge; with firmware, 31 is the LPC bridge
 *	     slot 31 function 2, with firmware: a SATA controller, if a disk or CD drive is at it; without firmware it is function 0
 *	     slot 30 an IDE controller, if a disk or CD drive is at it
 *	     slot 28, with firmware: PCI Express root ports, a function each; what comes while the machine runs is behind one (plug.c)
 *	     slot 1  virtio rng
 *	     slot 2  and on: virtio blk or NVMe, a disk each, in the order of the command line; behind
 *	             them a virtio SCSI controller, if a disk is at one, a virtio console, if that or a port is wanted, a virtio network card, virtio
 *	             file systems, a VGA adapter, virtio keyboard and tablet, if there is a screen, and a virtio balloon
 *
 * The timer chip and the interrupt controllers are not here: they are the engine's
 * (machine/vm.c). A wire is a callback with m->vm as its context, and m->vm is re-opened at
 * each reset while the devices stay; so the callbacks look at it when they are called.
 */
#include "machine/private.h"

#include "base/err.h"
#include "dev/acpi_pm.h"
#include "dev/debugcon.h"
#include "dev/flash.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/net/e1000.h"
#include "dev/pci/function.h"
#include "dev/pci/lpc.h"
#include "dev/pci/mch.h"
#include "dev/pci/pci.h"
#include "dev/pci/port.h"
#include "dev/port92.h"
#include "dev/pvpanic.h"
#include "dev/rtc.h"
#include "dev/storage/ahci.h"
#include "dev/storage/ide.h"
#include "dev/storage/nvme.h"
#include "dev/uart.h"
#include "dev/usb/xhci.h"
#include "dev/vga.h"
#include "dev/virtio/devices.h"
#include "dev/vmgenid.h"
#include "machine/firmware.h"
#include "machine/region.h"
#include "state/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { EVENT_GENID = 0 }; /* of GPE0: \_GPE._E00 in dsdt.asl */

/* Line n of a part. */
static struct irq_line line(struct machine *m, enum board_part part, unsigned n)
{
	return (struct irq_line){.set = vm_irq, .ctx = &m->vm, .gsi = m->map->at[part].line + n};
}

static void ask_power(void *ctx, enum power_wish wish, const char *who)
{
	struct machine_end end = {
		.reason = wish == POWER_OFF ? MACHINE_OFF : MACHINE_RESET,
	};

	snprintf(end.text, sizeof(end.text), "the guest asked for %s through %s",
		 wish == POWER_OFF ? "power-off" : "a reset", who);
	machine_over(ctx, &end);
}

static struct power_line power(struct machine *m)
{
	return (struct power_line){.ask = ask_power, .ctx = m};
}

/* Which parts of the board a device's places are, in their order. */
struct parts {
	enum board_part of[DEVICE_WINDOWS_MAX];
};

#define AT(...) (&(struct parts){{__VA_ARGS__}})

/* Makes a device and remembers it; NULL if that failed. `parts` is NULL for a device without places. */
static struct device *add(struct machine *m, const struct device_model *model, const struct parts *parts,
			  const void *config, struct err *err)
{
	struct board *b = &m->board;
	uint64_t at[DEVICE_WINDOWS_MAX];
	struct device *dev;

	if (b->n == BOARD_DEVICES_MAX) {
		err_set(err, ENOSPC, "more devices than the board has places");
		return NULL;
	}
	for (unsigned i = 0; parts && i < DEVICE_WINDOWS_MAX; i++)
		at[i] = m->map->at[parts->of[i]].base;
	dev = device_create(model, b->bus, at, config, err);
	if (dev)
		b->devices[b->n++] = dev;
	return dev;
}

/* The RTC's line, unless the HPET has it. */
static void rtc_irq(void *ctx, unsigned gsi, bool level)
{
	struct machine *m = ctx;

	if (!atomic_load(&m->board.replaced))
		vm_irq(&m->vm, gsi, level);
}

static void replace_timers(void *ctx, bool on)
{
	struct machine *m = ctx;

	atomic_store(&m->board.replaced, on);
	if (on) /* nobody pulls it any more */
		vm_irq(&m->vm, m->map->at[BOARD_RTC].line, false);
	vm_replace_pit(&m->vm, on);
}

static bool add_hpet(struct machine *m, struct err *err)
{
	struct board *b = &m->board;

	if (!m->config.hpet || !m->map->at[BOARD_HPET].what)
		return true;
	b->hpet = add(m, &hpet_model, AT(BOARD_HPET), &(struct hpet_config){
		.irq = {.set = vm_irq, .ctx = &m->vm}, .replace = replace_timers, .ctx = m, .loop = m->loop,
	}, err);
	return b->hpet != NULL;
}

static bool add_legacy(struct machine *m, struct err *err)
{
	struct board *b = &m->board;
	uint64_t low = map_low_end(m->map, m->config.memory);
	struct uart_config uart = {.irq = line(m, BOARD_COM1, 0)};

	if (!m->config.virtio_console) {
		uart.output = m->config.console.output;
		uart.input_room = m->config.console.input_room;
		uart.ctx = m->config.console.ctx;
	}
	b->uart = add(m, &uart_model, AT(BOARD_COM1), &uart, err);
	b->pm = add(m, &acpi_pm_model, AT(BOARD_PM), &(struct acpi_pm_config){
		.sci = line(m, BOARD_PM, 0),
		.power = power(m),
	}, err);
	b->kbc = add(m, &i8042_model, AT(BOARD_I8042_DATA, BOARD_I8042_COMMAND), &(struct i8042_config){
		.power = power(m),
		.plugged = m->config.screen || m->config.firmware, /* SeaBIOS waits a second for one that is not there */
		.irq_keyboard = line(m, BOARD_I8042_DATA, 0),
		.irq_mouse = line(m, BOARD_I8042_COMMAND, 0),
	}, err);
	return b->uart && b->pm && b->kbc &&
	       add(m, &rtc_model, AT(BOARD_RTC), &(struct rtc_config){
			.irq = {.set = rtc_irq, .ctx = m, .gsi = m->map->at[BOARD_RTC].line},
			.loop = m->loop,
			.ram_low = low,
			.ram_high = m->config.memory - low,
	       }, err) &&
	       add(m, &port92_model, AT(BOARD_PORT92), &(struct port92_config){.power = power(m)}, err) &&
	       add(m, &pvpanic_model, AT(BOARD_PVPANIC), &(struct pvpanic_config){
			.panicked = m->config.panic.said,
			.ctx = m->config.panic.ctx,
	       }, err);
}

static bool add_genid(struct machine *m, struct err *err)
{
	const struct board_place *p = &m->map->at[BOARD_GENID];

	if (!p->what)
		return true;
	m->board.genid = add(m, &vmgenid_model, NULL, &(struct vmgenid_config){
		.bytes = m->ram.genid, .mem = &m->mem, .at = p->base, .moved = m->config.incoming,
	}, err);
	return m->board.genid != NULL;
}

/* -- What firmware needs --------------------------------------------------------------- */

/* The host bridge's: shadow n is RAM or the ROM, or nothing. */
static void shadow(void *ctx, unsigned n, bool reads, bool writes)
{
	struct machine *m = ctx;
	uint8_t *rom = map_shadow_rom(&m->ram, m->map, n);
	gpa_t base = reads || rom ? map_shadow_base(n) : GUEST_NOWHERE;
	struct err err = {0};

	if (machine_change_region(m, m->ram.shadow + n, base, reads || !rom ? m->ram.host + map_shadow_base(n) : rom,
				  !reads || !writes, &err) < 0)
		machine_fail(m, &err);
}

static void store_behind_rom(void *ctx, uint64_t at, uint8_t value)
{
	struct machine *m = ctx;
	uint8_t *to = m->ram.host + MCH_SHADOW_BASE + at;

	__atomic_store_n(to, value, __ATOMIC_RELAXED);
	machine_mark_written(m, to, 1);
}

/* PCI's lines go through the LPC bridge, which is made after the bus that it is on. */
static void pirq(void *ctx, unsigned n, bool level)
{
	struct machine *m = ctx;

	if (m->board.lpc)
		lpc_pirq(m->board.lpc, n, level);
}

static bool add_chipset(struct machine *m, struct err *err)
{
	struct board *b = &m->board;
	struct mch_config config = {
		.pci = {.msi = {.send = vm_msi, .ctx = &m->vm}, .power = power(m)},
		.shadow = shadow, .store = store_behind_rom, .ctx = m,
	};
	struct lpc_config lpc = {.isa = {.set = vm_irq, .ctx = &m->vm}, .pm = (uint16_t)m->map->at[BOARD_PM].base};

	for (unsigned i = 0; i < PCI_INTX; i++) {
		config.pci.intx[i] = (struct irq_line){.set = pirq, .ctx = m, .gsi = i};
		lpc.pci[i] = line(m, BOARD_PCI_ADDRESS, i);
	}
	b->pci = add(m, &mch_model, AT(BOARD_PCI_ADDRESS, BOARD_PCI_DATA), &config, err);
	if (!b->pci)
		return false;
	lpc.host = b->pci;
	b->lpc = add(m, &lpc_model, NULL, &lpc, err);
	return b->lpc && add(m, &debugcon_model, AT(BOARD_DEBUGCON),
			     &(struct debugcon_config){.to = m->config.firmware_log}, err);
}

_Static_assert(MACHINE_PORTS_MAX <= PCI_PORTS, "a function for each");

static bool add_ports(struct machine *m, struct err *err)
{
	struct board *b = &m->board;

	/* SAFE: machine_check() and who reads a saved machine have looked at the number. */
	for (unsigned i = 0; i < m->config.root_ports; i++) {
		b->ports[i] = add(m, &pci_port_model, NULL, &(struct pci_port_config){
			.host = b->pci, .devfn = PCI_DEVFN(BOARD_SLOT_PORTS, i), .number = (uint8_t)(i + 1),
			.let_go = m->config.left.said, .ctx = m->config.left.ctx}, err);
		if (!b->ports[i])
			return false;
	}
	return true;
}

static void show_flash(void *ctx, bool array)
{
	struct machine *m = ctx;
	gpa_t base = array ? m->map->at[BOARD_FLASH].base : GUEST_NOWHERE;
	struct err err = {0};

	if (machine_change_region(m, m->ram.variables, base, m->ram.flash, true, &err) < 0)
		machine_fail(m, &err);
}

static void flash_wrote(void *ctx, uint32_t at, uint32_t len)
{
	struct machine *m = ctx;

	machine_mark_written(m, m->ram.flash + at, len);
}

static bool add_flash(struct machine *m, struct err *err)
{
	return add(m, &flash_model, AT(BOARD_FLASH), &(struct flash_config){
		.bytes = m->ram.flash, .show = show_flash, .wrote = flash_wrote, .ctx = m, .loop = m->loop,
		.fd = m->config.keep_variables ? m->config.variables : -1,
	}, err);
}

static bool add_fw_cfg(struct machine *m, struct err *err)
{
	m->firmware = calloc(1, sizeof(*m->firmware));
	if (!m->firmware)
		return err_set(err, ENOMEM, "no memory for what firmware is told") == 0;
	return firmware_describe(m, m->firmware, err) == 0 &&
	       add(m, &fw_cfg_model, AT(BOARD_FW_CFG), &(struct fw_cfg_config){
			.mem = &m->mem, .items = m->firmware->items, .n = m->firmware->n,
	       }, err);
}

/* -- PCI -------------------------------------------------------------------------------- */

static bool add_pci(struct machine *m, struct err *err)
{
	struct board *b = &m->board;
	const struct board_place *io = &m->map->at[BOARD_PCI_IO], *mem = &m->map->at[BOARD_PCI_LOW];
	struct pci_host_config config = {
		.io_base = io->base,
		.io_size = io->size,
		.mem_base = mem->base,
		.mem_size = mem->size,
		.msi = {.send = vm_msi, .ctx = &m->vm},
		.power = power(m),
	};

	for (unsigned i = 0; i < PCI_INTX; i++)
		config.intx[i] = line(m, BOARD_PCI_ADDRESS, i);
	b->pci = add(m, &pci_host_model, AT(BOARD_PCI_ADDRESS, BOARD_PCI_DATA, BOARD_ECAM), &config, err);
	return b->pci != NULL;
}

static struct virtio_console_port port(const char *name, const struct machine_console *end)
{
	return (struct virtio_console_port){
		.name = name, .output = end->output, .input_room = end->input_room, .ctx = end->ctx,
	};
}

static bool add_console(struct machine *m, struct virtio_place place, struct err *err)
{
	const struct machine_config *c = &m->config;
	struct board *b = &m->board;
	struct virtio_console_config config = {.pci = place};

	if (!c->virtio_console && !c->port.name)
		return true;
	if (c->virtio_console)
		config.ports[0] = port(NULL, &c->console);
	if (c->port.name)
		config.ports[1] = port(c->port.name, &c->port.end);
	b->hvc = add(m, &virtio_console_model, NULL, &config, err);
	return b->hvc != NULL;
}

_Static_assert(MACHINE_QUEUES_MAX == VIRTIO_NET_PAIRS_MAX, "as many as a card can have");

static struct device *add_card(struct machine *m, const struct machine_net *net, struct virtio_place place, struct err *err)
{
	struct virtio_net_config config = {.pci = place, .port = net->port, .loop = m->loop, .mtu = net->mtu};
	struct e1000_config old = {.host = place.host, .mem = place.mem, .port = net->port, .loop = m->loop};

	config.pairs = net->queues;
	memcpy(config.more_ports, net->more_ports, sizeof(config.more_ports));
	if (net->rom && m->firmware)
		config.pci.rom = (struct pci_rom){.size = FIRMWARE_NET, .bytes = m->firmware->net, .len = m->firmware->net_len};
	old.rom = config.pci.rom;
	memcpy(config.mac, net->mac, MAC_LEN);
	memcpy(old.mac, net->mac, MAC_LEN);
	return net->card == MACHINE_CARD_E1000 ? add(m, &e1000_model, NULL, &old, err) : add(m, &virtio_net_model, NULL, &config, err);
}

static bool add_net(struct machine *m, struct virtio_place place, struct err *err)
{
	if (!m->config.net.how)
		return true;
	m->board.nic = add_card(m, &m->config.net, place, err);
	return m->board.nic != NULL;
}

_Static_assert(MACHINE_SATA_MAX <= AHCI_PORTS && MACHINE_IDE_MAX <= IDE_DRIVES && MACHINE_DISKS_MAX <= VIRTIO_SCSI_TARGETS, "a place for each disk");

static bool add_ahci(struct machine *m, struct err *err)
{
	const struct machine_config *c = &m->config;
	struct ahci_config config = {
		.host = m->board.pci, .mem = &m->mem, .devfn = m->map->at[BOARD_ROM].what ? BOARD_AHCI : BOARD_AHCI_DIRECT,
	};

	/* SAFE: machine_check_drives() has counted them. */
	for (unsigned i = 0; i < c->n_disks; i++)
		if (c->disk_bus[i] == MACHINE_SATA)
			config.drives[board_disk_place(c, i)].disk = c->disks[i];
	for (unsigned i = 0; i < c->n_cds; i++)
		if (c->cd_bus[i] == MACHINE_SATA)
			config.drives[board_cd_place(c, i)] = (struct ahci_drive){.is_cd = true, .disk = c->cds[i]};
	if (!board_drives(c, MACHINE_SATA))
		return true;
	m->board.ahci = add(m, &ahci_model, NULL, &config, err);
	return m->board.ahci != NULL;
}

static bool add_ide(struct machine *m, struct err *err)
{
	const struct machine_config *c = &m->config;
	struct ide_config config = {
		.host = m->board.pci, .mem = &m->mem, .slot = BOARD_SLOT_IDE,
		.irq = {line(m, BOARD_IDE, 0), line(m, BOARD_IDE_SECOND, 0)},
	};

	/* SAFE: as above. */
	for (unsigned i = 0; i < c->n_disks; i++)
		if (c->disk_bus[i] == MACHINE_IDE)
			config.drives[board_disk_place(c, i)].disk = c->disks[i];
	for (unsigned i = 0; i < c->n_cds; i++)
		if (c->cd_bus[i] == MACHINE_IDE)
			config.drives[board_cd_place(c, i)] = (struct ide_drive){.is_cd = true, .disk = c->cds[i]};
	if (!board_drives(c, MACHINE_IDE))
		return true;
	m->board.ide = add(m, &ide_model, AT(BOARD_IDE, BOARD_IDE_CONTROL, BOARD_IDE_SECOND, BOARD_IDE_SECOND_CONTROL), &config, err);
	return m->board.ide != NULL;
}

/* One that is a function of its own. */
static bool add_disk(struct machine *m, unsigned i, struct virtio_place place, struct err *err)
{
	struct disk *disk = m->config.disks[i];

	switch (m->config.disk_bus[i]) {
	case MACHINE_VIRTIO:
		return add(m, &virtio_blk_model, NULL, &(struct virtio_blk_config){.pci = place, .disk = disk}, err);
	case MACHINE_NVME:
		return add(m, &nvme_model, NULL, &(struct nvme_config){
			.host = board_is_behind(&m->config, i) ? m->board.ports[board_disk_place(&m->config, i)] : place.host, /* which may be a port */
			.mem = place.mem, .disk = disk, .number = board_disk_number(&m->config, i)}, err);
	default:
		return true;
	}
}

static bool add_scsi(struct machine *m, struct virtio_place place, struct err *err)
{
	struct virtio_scsi_config config = {.pci = place};

	for (unsigned i = 0; i < m->config.n_disks; i++)
		if (m->config.disk_bus[i] == MACHINE_SCSI)
			config.disks[config.n++] = m->config.disks[i];
	return !config.n || add(m, &virtio_scsi_model, NULL, &config, err);
}

static bool add_shares(struct machine *m, struct virtio_place place, struct err *err)
{
	for (unsigned i = 0; i < m->config.n_shares; i++) {
		const struct machine_share *s = &m->config.shares[i];

		if (!add(m, &virtio_fs_model, NULL, &(struct virtio_fs_config){
			.pci = place, .tag = s->tag, .fd = s->fd, .loop = m->loop, .patience_ms = 30000,
		}, err))
			return false;
	}
	return true;
}

static bool add_vsock(struct machine *m, struct virtio_place place, struct err *err)
{
	const struct machine_vsock *v = &m->config.vsock;

	return !v->cid || add(m, &virtio_vsock_model, NULL, &(struct virtio_vsock_config){
		.pci = place, .cid = v->cid, .port = v->port, .loop = m->loop}, err);
}

static bool add_virtio(struct machine *m, struct err *err)
{
	struct virtio_place place = {.host = m->board.pci, .mem = &m->mem, .transitional = m->config.old_virtio};

	if (!add(m, &virtio_rng_model, NULL, &(struct virtio_rng_config){.pci = place}, err))
		return false;
	for (unsigned i = 0; i < m->config.n_disks; i++)
		if (!m->config.disk_spot[i].port && !add_disk(m, i, place, err))
			return false;
	return add_scsi(m, place, err) && add_console(m, place, err) && add_net(m, place, err) && add_shares(m, place, err) &&
	       add_vsock(m, place, err);
}

/* The adapter's BAR leads there. A guest that puts it where other memory is gets neither more nor less than that. */
static void place_screen(void *ctx, uint64_t at)
{
	struct machine *m = ctx;
	struct err err = {0};

	if (m->mem.regions[m->ram.screen].base == at) /* another register was written */
		return;
	if (machine_change_region(m, m->ram.screen, GUEST_NOWHERE, m->ram.vram, false, &err) < 0)
		machine_fail(m, &err);
	else if (at != GUEST_NOWHERE)
		machine_change_region(m, m->ram.screen, at, m->ram.vram, false, NULL);
}

static void picture_written(void *ctx, const uint8_t *bytes, uint64_t len)
{
	machine_mark_written(ctx, bytes, len);
}

/* Whole pages, which are zeros when somebody looks; or what they were. */
static void picture_forgotten(void *ctx, uint8_t *bytes, uint64_t len)
{
	(void)ctx;
	madvise(bytes, len, MADV_REMOVE);
}

static bool add_screen(struct machine *m, struct err *err)
{
	const struct parts *parts = AT(BOARD_VGA, BOARD_DISPI, BOARD_VGA_WINDOW);
	struct board *b = &m->board;
	struct vga_config vga = {
		.host = b->pci, .vram = m->ram.vram, .vram_size = MAP_VRAM, .placed = place_screen, .ctx = m,
	};

	if (!m->config.screen)
		return true;
	if (m->config.vga == MACHINE_VGA_VIRTIO)
		b->vga = add(m, &virtio_vga_model, parts, &(struct virtio_vga_config){
			.pci = {.host = b->pci, .mem = &m->mem}, .vga = vga, .loop = m->loop, .store = m->ram.pictures, .store_size = MAP_PICTURES,
			.wrote = picture_written, .forget = picture_forgotten,
		}, err);
	else
		b->vga = add(m, &vga_model, parts, &vga, err);
	return b->vga != NULL;
}

static bool add_input(struct machine *m, struct err *err)
{
	struct board *b = &m->board;
	struct virtio_input_config config = {.pci = {.host = b->pci, .mem = &m->mem}};

	if (!m->config.screen || !m->config.virtio_input)
		return true;
	b->keyboard = add(m, &virtio_keyboard_model, NULL, &config, err);
	b->tablet = b->keyboard ? add(m, &virtio_tablet_model, NULL, &config, err) : NULL;
	return b->tablet != NULL;
}

_Static_assert(MACHINE_USB_MAX + 2 <= XHCI_PORTS, "a place for each disk, a keyboard and a tablet");

static bool add_usb(struct machine *m, struct err *err)
{
	const struct machine_config *c = &m->config;
	struct xhci_config config = {.host = m->board.pci, .mem = &m->mem, .loop = m->loop, .slot = BOARD_SLOT_USB};
	bool any = c->screen && c->usb;

	/* SAFE: machine_check_drives() has counted them. */
	for (unsigned i = 0; i < c->n_disks; i++)
		if (c->disk_bus[i] == MACHINE_USB) {
			config.ports[board_disk_place(c, i)] = (struct xhci_port_config){XHCI_DISK, c->disks[i]};
			any = true;
		}
	if (c->screen && c->usb) {
		config.ports[MACHINE_USB_MAX].kind = XHCI_KEYBOARD;
		config.ports[MACHINE_USB_MAX + 1].kind = XHCI_TABLET;
	}
	if (any)
		m->board.xhci = add(m, &xhci_model, NULL, &config, err);
	return !any || m->board.xhci;
}

static bool add_balloon(struct machine *m, struct err *err)
{
	struct board *b = &m->board;

	if (!m->config.balloon)
		return true;
	b->balloon = add(m, &virtio_balloon_model, NULL, &(struct virtio_balloon_config){
		.pci = {.host = b->pci, .mem = &m->mem, .transitional = m->config.old_virtio}, .loop = m->loop,
	}, err);
	return b->balloon != NULL;
}

/* -- What comes and goes ------------------------------------------------------------------- */

/* What was made last is behind that port. */
static int put_behind(struct board *b, unsigned port, bool made, struct err *err)
{
	if (!made)
		return err && err->code ? -err->code : -EIO;
	b->behind[port - 1] = b->devices[b->n - 1];
	return 0;
}

/* SAFE: machine_check_attached() has looked at ports. */
static struct virtio_place behind(struct machine *m, unsigned port)
{
	return (struct virtio_place){.host = m->board.ports[port - 1], .mem = &m->mem};
}

int board_attach_disk(struct machine *m, unsigned disk, struct err *err)
{
	unsigned port = m->config.disk_spot[disk].port;

	return put_behind(&m->board, port, add_disk(m, disk, behind(m, port), err), err);
}

int board_attach_net(struct machine *m, const struct machine_net *net, struct err *err)
{
	return put_behind(&m->board, net->spot.port, add_card(m, net, behind(m, net->spot.port), err), err);
}

void board_detach(struct board *b, unsigned port)
{
	struct device *dev = b->behind[port - 1];
	unsigned i = 0;

	while (b->devices[i] != dev)
		i++;
	memmove(b->devices + i, b->devices + i + 1, (--b->n - i) * sizeof(b->devices[0]));
	b->behind[port - 1] = NULL;
	device_destroy(dev);
}

static bool add_attached(struct machine *m, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < m->config.n_disks; i++)
		if (m->config.disk_spot[i].port)
			rc = board_attach_disk(m, i, err);
	for (unsigned i = 0; rc == 0 && i < m->config.n_more_nets; i++)
		rc = board_attach_net(m, &m->config.more_nets[i], err);
	return rc == 0;
}

int board_create(struct machine *m, struct err *err)
{
	struct board *b = &m->board;
	int rc = board_check(m->map, err);

	if (rc < 0)
		return rc;
	b->bus = bus_create();
	if (!b->bus)
		return err_set(err, ENOMEM, "no memory for the bus");
	if (!add_legacy(m, err) || !add_hpet(m, err) || !add_genid(m, err) ||
	    !(m->map->at[BOARD_ROM].what ? add_chipset(m, err) && add_ports(m, err) && add_flash(m, err) && add_fw_cfg(m, err) : add_pci(m, err)) || !add_virtio(m, err) ||
	    !add_screen(m, err) || !add_input(m, err) || !add_usb(m, err) || !add_balloon(m, err) || !add_ahci(m, err) || !add_ide(m, err) ||
	    !add_attached(m, err))
		return err && err->code ? -err->code : -EIO;
	/* The addresses of all functions are given when the last one is there; or forgotten. */
	device_reset(b->pci);
	if (b->vga)
		vga_placed(b->vga);
	return 0;
}

void board_tell_identity(struct board *b)
{
	if (b->genid)
		acpi_pm_event(b->pm, EVENT_GENID);
}

/* Behind which port it came; 0: it was there. */
static unsigned port_of(const struct board *b, const struct device *dev)
{
	for (unsigned port = 0; port < MACHINE_PORTS_MAX; port++)
		if (b->behind[port] == dev)
			return port + 1;
	return 0;
}

const char *board_id(const struct board *b, unsigned i, char *id)
{
	const struct device_model *model = b->devices[i]->model;
	unsigned before = 0, all = 0, port = port_of(b, b->devices[i]);

	for (unsigned j = 0; j < b->n; j++) {
		bool is_one = b->devices[j]->model == model && !port_of(b, b->devices[j]);

		all += is_one;
		before += j < i && is_one;
	}
	if (port)
		snprintf(id, STATE_NAME_MAX + 1, "port%u.%s", port, model->name);
	else if (all > 1)
		snprintf(id, STATE_NAME_MAX + 1, "%s.%u", model->name, before);
	else
		snprintf(id, STATE_NAME_MAX + 1, "%s", model->name);
	return id;
}

/* Functions before the host bridge, which then gives them their addresses again. */
void board_reset(struct board *b)
{
	for (unsigned i = b->n; i-- > 0;)
		device_reset(b->devices[i]);
	if (b->vga)
		vga_placed(b->vga);
}

void board_destroy(struct board *b)
{
	while (b->n)
		device_destroy(b->devices[--b->n]);
	bus_destroy(b->bus);
	*b = (struct board){0};
}
