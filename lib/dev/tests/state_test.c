/* SPDX-License-Identifier: MIT */
/*
 * The state of every model, by its tables: what is saved is loaded and saved again the same; each bit of each
 * field, flipped, is either there again or refused with a sentence; what was written once is read for ever.
 *
 *	dev_state_test DIRECTORY            where the frozen sections are: lib/dev/tests/frozen
 *	dev_state_test --freeze DIRECTORY   writes those that are missing, for a model or version that is new
 *
 * A frozen section (state/tests/frozen.h) is what a device wrote that had been used. If its
 * fields are not those of today's table, the table has changed and needs a new version.
 */
#include "block/disk.h"
#include "dev/acpi_pm.h"
#include "dev/debugcon.h"
#include "dev/flash.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/net/e1000.h"
#include "dev/pci/lpc.h"
#include "dev/pci/mch.h"
#include "dev/pci/port.h"
#include "dev/port92.h"
#include "dev/pvpanic.h"
#include "dev/rtc.h"
#include "dev/storage/ahci.h"
#include "dev/storage/ide.h"
#include "dev/storage/nvme.h"
#include "dev/tests/guest.h"
#include "dev/tests/ide.h"
#include "dev/tests/nvme.h"
#include "dev/tests/xhci.h"
#include "dev/tests/sata.h"
#include "dev/uart.h"
#include "dev/vga.h"
#include "dev/vmgenid.h"
#include "net/port.h"
#include "state/state.h"
#include "state/tests/fields.h"
#include "state/tests/frozen.h"
#include "tests/tap.h"

#include <unistd.h>

#define NOW  UINT64_C(1700000000123456789)
#define SLOT 1u
#define FLASH 0xffc00000u
#define HPET 0xfed00000u
#define MCH_PORTS 0x1cf8 /* there is a host bridge already */

/* -- Each model, made and used ----------------------------------------------------- */

static struct disk *disk;
static uint8_t pictures[0x20000], vram[256 << 10];

static uint64_t now(void *ctx)
{
	(void)ctx;
	return NOW;
}

static const struct dev_clock clock_that_stands = {.monotonic = now, .realtime = now};

static size_t takes_nothing(void *ctx, const uint8_t *bytes, size_t n)
{
	(void)ctx, (void)bytes, (void)n;
	return 0;
}

static void out(unsigned port, unsigned value)
{
	bus_write(g_bus, BUS_PORT, port, 1, value);
}

static bool loses_all(struct net_port *p, const struct iovec *iov, unsigned n)
{
	(void)p, (void)iov, (void)n;
	return true;
}

static const struct net_port_type port_type = {.send = loses_all};
static struct net_port port = {.type = &port_type, .up = true};

static void use_uart(struct device *dev)
{
	out(0x3fb, 0x83);
	out(0x3f8, 1);
	out(0x3fb, 3);
	out(0x3fa, 0x81);
	out(0x3f9, 5);
	out(0x3fc, 0x0b);
	out(0x3ff, 0xa5);
	uart_input(dev, (const uint8_t *)"typed", 5);
	for (const char *p = "printed"; *p; p++)
		out(0x3f8, (uint8_t)*p);
}

static void use_rtc(struct device *dev)
{
	(void)dev;
	out(0x70, 5);
	out(0x71, 7); /* an alarm */
	out(0x70, 0x0b);
	out(0x71, 0x22);
	out(0x70, 0x50);
	out(0x71, 0x99);
}

static void use_i8042(struct device *dev)
{
	i8042_key(dev, 0x1e, true);
	i8042_key(dev, 0x1e, false);
	out(0x64, 0xd4);
	out(0x60, 0xf4);
	i8042_mouse(dev, 3, -4, 1, 5);
	i8042_mouse(dev, 30, 40, 0, 1);
	out(0x64, 0x60);
	out(0x60, 0x45);
	out(0x64, 0xaa);
	out(0x64, 0xd1);
}

/* One timer that repeats, and one that is level-triggered and has gone off; in the places of PIT and RTC. */
static void use_hpet(struct device *dev)
{
	bus_write(g_bus, BUS_MMIO, HPET + 0x100, 4, 0x14c);
	bus_write(g_bus, BUS_MMIO, HPET + 0x108, 4, 5000);
	bus_write(g_bus, BUS_MMIO, HPET + 0x108, 4, 100000);
	bus_write(g_bus, BUS_MMIO, HPET + 0x140, 4, 20 << 9 | 6);
	bus_write(g_bus, BUS_MMIO, HPET + 0x148, 8, 0);
	bus_write(g_bus, BUS_MMIO, HPET + 0x0f0, 8, 12345);
	bus_write(g_bus, BUS_MMIO, HPET + 0x010, 4, 3);
	hpet_look(dev);
}

static void use_port92(struct device *dev)
{
	(void)dev;
	out(0x92, 1);
}

static void use_pm(struct device *dev)
{
	bus_write(g_bus, BUS_PORT, 0x602, 2, 0x120);
	bus_write(g_bus, BUS_PORT, 0x604, 2, 1);
	out(0x622, 0x81);
	acpi_pm_power_button(dev);
}

static void use_vga(struct device *dev)
{
	device_reset(g_host);
	vga_set_linear(dev, 800, 600);
	out(0x3c2, 0x63);
	for (unsigned i = 0; i < 0x20; i++)
		out(0x3c0 + i, i * 37);
	bus_write(g_bus, BUS_MMIO, 0xa0000, 4, 0x12345678);
	bus_read(g_bus, BUS_MMIO, 0xa0004, 4);
}

static void use_host(struct device *dev)
{
	(void)dev;
	bus_write(g_bus, BUS_PORT, 0xcf8, 4, 0x80000004);
	out(0xcf9, 2);
}

static void use_mch(struct device *dev)
{
	(void)dev;
	bus_write(g_bus, BUS_PORT, MCH_PORTS, 4, 0x80000060);
	bus_write(g_bus, BUS_PORT, MCH_PORTS + 4, 4, 0xb0000001);
	bus_write(g_bus, BUS_PORT, MCH_PORTS, 4, 0x80000090);
	bus_write(g_bus, BUS_PORT, MCH_PORTS + 4, 4, 0x33211310);
}

static void use_lpc(struct device *dev)
{
	bus_write(g_bus, BUS_PORT, 0xcf8, 4, 0x8000f860);
	bus_write(g_bus, BUS_PORT, 0xcfc, 4, 0x0b0b0a8a);
	lpc_pirq(dev, 1, true);
}

static void use_port(struct device *dev)
{
	unsigned cap = find_cap(SLOT, 0x10, 0);

	device_reset(g_host);
	cfg_write(SLOT, 4, 2, 7);
	cfg_write(SLOT, 0x18, 4, 0x00020100);
	cfg_write(SLOT, 0x20, 4, 0xc010c000);
	cfg_write(SLOT, 0x28, 4, 5);
	cfg_write(SLOT, cap + 0x18, 2, 0x1521);
	pci_port_press(dev, NULL);
}

static void use_flash(struct device *dev)
{
	(void)dev;
	bus_write(g_bus, BUS_MMIO, FLASH, 1, 0x20);
	bus_write(g_bus, BUS_MMIO, FLASH, 1, 0x21); /* not confirmed */
	bus_write(g_bus, BUS_MMIO, FLASH, 1, 0x40);
}

static void show(void *ctx, bool array)
{
	(void)ctx, (void)array;
}

static void use_fw_cfg(struct device *dev)
{
	(void)dev;
	bus_write(g_bus, BUS_PORT, 0x510, 2, 0x20);
	bus_read(g_bus, BUS_PORT, 0x511, 1);
	bus_write(g_bus, BUS_PORT, 0x514, 4, 0x01000000);
}

static void shadow(void *ctx, unsigned n, bool reads, bool writes)
{
	(void)ctx, (void)n, (void)reads, (void)writes;
}

static uint8_t chip[FLASH_SIZE];
static const struct fw_cfg_item items[] = {{.name = "etc/test", .bytes = "test", .size = 4}};

/* A command that fails, and one that waits behind it; a tray that is open. */
static void use_ahci(struct device *dev)
{
	(void)dev;
	device_reset(g_host);
	cfg_write(SLOT, find_cap(SLOT, 5, 0) + 2, 2, 1); /* MSI */
	sata_start(SLOT, 0);
	sata_start(SLOT, 1);
	sata_put_queued(0, 3, false, 1000000, 1, FREE_RAM);
	port_out(SLOT, 0, P_SACT, 8);
	sata_do(SLOT, 0, 3);
	sata_issue(SLOT, 0, 4);
	sata_put_packet(1, 0, 0x1b, FREE_RAM, 0)[4] = 2;
	sata_do(SLOT, 1, 0);
}

/* In the middle of a sector at one cable, and of a command's memory at the other. */
static void use_ide(struct device *dev)
{
	(void)dev;
	device_reset(g_host);
	ide_start();
	ide_task(0, 0, 1, 2);
	ide_put(0, 7, 0x20);
	ide_wait(0);
	ide_in(0, (uint8_t[100]){0}, 100);
	ide_task_48(1, 1, 3, 1);
	ide_put(1, 1, 1);
	ide_put(1, 7, 0xa0);
	ide_out(1, (const uint8_t[12]){0x28, 0, 0, 0, 0, 3, 0, 0, 2}, 12);
	bus_write(g_bus, BUS_PORT, ide_bm(1, 4), 4, IDE_TABLE(1));
}

static void use_e1000(struct device *dev)
{
	device_reset(g_host);
	cfg_write(SLOT, 4, 2, 7);
	bar_out(SLOT, 0, 0x3800, 4, 0x2000);
	bar_out(SLOT, 0, 0x3808, 4, 256);
	bar_out(SLOT, 0, 0x2808, 4, 128);
	bar_out(SLOT, 0, 0x2818, 4, 5);
	bar_out(SLOT, 0, 0xd0, 4, 0x9d);
	bar_out(SLOT, 0, 0x400, 4, 2);
	bar_out(SLOT, 0, 0x100, 4, 0x8002);
	bar_out(SLOT, 0, 0x5208, 4, 0x10);
	for (unsigned i = 0; i < 5; i++) { /* a part of the EEPROM's command */
		bar_out(SLOT, 0, 0x10, 4, 6);
		bar_out(SLOT, 0, 0x10, 4, 7);
	}
	e1000_plug(dev, false);
}

static void use_nvme(struct device *dev)
{
	(void)dev;
	device_reset(g_host);
	cfg_write(SLOT, find_cap(SLOT, PCI_CAP_MSIX, 0) + 2, 2, 0x8000);
	nvme_start(SLOT);
	nvme_make_queues(SLOT, 1, 16);
	nvme_put(1, 2, 1, FREE_RAM, 3, 2);
	nvme_ring(SLOT, 1);
	nvme_put(0, 0x0c, 0, 0, 0, 0); /* it waits for an event */
	nvme_ring(SLOT, 0);
}

static void use_virtio(struct device *dev)
{
	device_reset(g_host); /* gives it its addresses */
	drive(SLOT, ~(UINT64_C(1) << 34), dev->model == &virtio_console_model ? 6 : dev->model == &virtio_net_model || dev->model == &virtio_fs_model ? 2 : dev->model == &virtio_scsi_model ? 3 : 1, 16);
	put_desc(0, 0, FREE_RAM, 64, F_WRITE, 0);
	offer(0, 16, 0);
	if (dev->model == &virtio_console_model) {
		put_desc(1, 0, FREE_RAM + 0x100, 64, 0, 0);
		offer(1, 16, 0);
		kick(SLOT, 1);
		for (unsigned i = 0; i < 3; i++) { /* ports are ready, and port 1 is open */
			le32_put(g_ram + FREE_RAM + 0x200, i > 0);
			le16_put(g_ram + FREE_RAM + 0x204, i < 2 ? 3 : 6);
			le16_put(g_ram + FREE_RAM + 0x206, 1);
			put_desc(3, 0, FREE_RAM + 0x200, 8, 0, 0);
			offer(3, 16, 0);
			kick(SLOT, 3);
		}
		put_desc(5, 0, FREE_RAM + 0x300, 64, 0, 0);
		offer(5, 16, 0);
		kick(SLOT, 5);
	} else if (dev->model == &virtio_rng_model || dev->model == &virtio_fs_model) {
		kick(SLOT, 0);
	} else if (dev->model == &virtio_scsi_model) {
		memset(g_ram + FREE_RAM + 0x100, 0, 51); /* a command that is none */
		g_ram[FREE_RAM + 0x100] = 1;
		g_ram[FREE_RAM + 0x100 + 19] = 0xff;
		put_desc(2, 0, FREE_RAM + 0x100, 51, F_NEXT, 1);
		put_desc(2, 1, FREE_RAM + 0x200, 108, F_WRITE, 0);
		offer(2, 16, 0);
		kick(SLOT, 2);
	} else if (dev->model == &virtio_net_model) {
		put_desc(1, 0, FREE_RAM + 0x100, 72, 0, 0);
		offer(1, 16, 0);
		kick(SLOT, 1);
		virtio_net_plug(dev, false);
	}
}

/* Some of what there is to tell has no buffer. */
static void use_input(struct device *dev)
{
	device_reset(g_host);
	drive(SLOT, ~(UINT64_C(1) << 34), 2, 16);
	bar_out(SLOT, 0, 0x2000, 2, 0x0111);
	for (unsigned i = 0; i < 3; i++) {
		put_desc(0, i, FREE_RAM + 8 * i, 8, F_WRITE, 0);
		offer(0, 16, i);
	}
	kick(SLOT, 0);
	if (dev->model == &virtio_tablet_model) {
		virtio_tablet_point(dev, 1000, 20000, -1, 5);
		return;
	}
	virtio_keyboard_key(dev, 0x1e, true);
	virtio_keyboard_key(dev, 0xd3, true);
	virtio_keyboard_key(dev, 0x1e, false);
}

/* A command of the GPU's, in its queue 0: words behind its header. */
static void command_gpu(uint32_t type, unsigned n, const uint32_t *words)
{
	memset(g_ram + FREE_RAM, 0, 24);
	le32_put(g_ram + FREE_RAM, type);
	for (unsigned i = 0; i < n; i++)
		le32_put(g_ram + FREE_RAM + 24 + 4 * i, words[i]);
	put_desc(0, 0, FREE_RAM, 24 + 4 * n, F_NEXT, 1);
	put_desc(0, 1, FREE_RAM + 0x400, 24, F_WRITE, 0);
	offer(0, 16, 0);
	bar_out(SLOT, 2, 0x1000 + 0x3000, 2, 0);
}

#define COMMAND_GPU(type, ...) command_gpu(type, sizeof((uint32_t[]){__VA_ARGS__}) / 4, (uint32_t[]){__VA_ARGS__})

/* Two pictures with memory of their own; one is shown, and the other is its cursor. */
static void use_gpu(struct device *dev)
{
	device_reset(g_host);
	cfg_write(SLOT, 4, 2, 6);
	cfg_write(SLOT, find_cap(SLOT, PCI_CAP_MSIX, 0) + 2, 2, 0x8000);
	bar_out(SLOT, 2, 0x1000 + 8, 4, 1);
	bar_out(SLOT, 2, 0x1000 + 12, 4, 1);
	bar_out(SLOT, 2, 0x1000 + STATUS, 1, 11);
	bar_out(SLOT, 2, 0x1000 + 0x18, 2, 16);
	bar_out(SLOT, 2, 0x1000 + 0x20, 8, DESC(0));
	bar_out(SLOT, 2, 0x1000 + 0x28, 8, AVAIL(0));
	bar_out(SLOT, 2, 0x1000 + 0x30, 8, USED(0));
	bar_out(SLOT, 2, 0x1000 + 0x1c, 2, 1);
	bar_out(SLOT, 2, 0x1000 + STATUS, 1, 15);
	COMMAND_GPU(0x101, 5, 2, 100, 50);
	COMMAND_GPU(0x101, 6, 1, 64, 64);
	COMMAND_GPU(0x106, 5, 2, 0x20000, 0, 0x3000, 0, 0x30000, 0, 0x3000, 0);
	COMMAND_GPU(0x106, 6, 1, 0x40000, 0, 0x4000, 0);
	COMMAND_GPU(0x103, 1, 2, 90, 40, 0, 5);
	virtio_vga_resize(dev, 800, 600);
	vga_set_linear(dev, 800, 600);
}

/* A keyboard with a key down that was not asked for, a disk in the middle of a command, and a control transfer, too. */
static void use_xhci(struct device *dev)
{
	uint8_t *p = g_ram + U_DATA + 0x800;

	device_reset(g_host);
	cfg_write(SLOT, find_cap(SLOT, 5, 0) + 2, 2, 1);
	usb_start(SLOT);
	usb_address(SLOT, 1, 2, 1);
	usb_control(SLOT, 1, 0x00, 9, 1, 0, 0);
	xhci_key(dev, 0x1e, true);
	usb_address(SLOT, 2, 1, 3);
	usb_control(SLOT, 2, 0x00, 9, 1, 0, 0);
	usb_configure(SLOT, 2, 4, 2, 512);
	memset(p, 0, 31);
	le32_put(p, 0x43425355);
	p[9] = 2;
	p[12] = 0x80;
	p[14] = 6;
	p[15] = 0x12;
	usb_put(2, 4, U_DATA + 0x800, 31, 1u << 10 | 0x20);
	usb_ring(SLOT, 2, 4);
	usb_put(2, 1, 0x01000680 | UINT64_C(18) << 48, 8, 2u << 10 | 0x40);
	usb_ring(SLOT, 2, 1);
}

static void use_balloon(struct device *dev)
{
	device_reset(g_host);
	drive(SLOT, ~(UINT64_C(1) << 34), 5, 16);
	virtio_balloon_set(dev, 3 << 20);
	bar_out(SLOT, 0, 0x2004, 4, 2);
	le32_put(g_ram + FREE_RAM, FREE_RAM >> 12);
	put_desc(0, 0, FREE_RAM, 8, 0, 0);
	offer(0, 16, 0);
	kick(SLOT, 0);
	put_desc(2, 0, FREE_RAM, 40, 0, 0);
	offer(2, 16, 0);
	kick(SLOT, 2);
}

/* NULL: none that is known here. */
static struct device *make_on_board(const struct device_model *m)
{
	const struct virtio_place pci = {.host = g_host, .mem = &g_mem, .slot = SLOT};
	const struct {
		const struct device_model *model;
		const void *config;
		uint64_t at[4];
	} configs[] = {
		{&uart_model, &(struct uart_config){.output = takes_nothing}, {0x3f8}},
		{&rtc_model, &(struct rtc_config){.clock = clock_that_stands}, {0x70}},
		{&i8042_model, &(struct i8042_config){.plugged = true}, {0x60, 0x64}},
		{&vga_model, &(struct vga_config){.host = g_host, .slot = SLOT, .vram = vram, .vram_size = sizeof(vram)},
		 {0x3b0, 0x1ce, 0xa0000}},
		{&port92_model, &(struct port92_config){.power = {0}}, {0x92}},
		{&hpet_model, &(struct hpet_config){.clock = clock_that_stands}, {HPET}},
		{&acpi_pm_model, &(struct acpi_pm_config){.clock = clock_that_stands}, {0x600}},
		{&pvpanic_model, &(struct pvpanic_config){.ctx = NULL}, {0x505}},
		{&vmgenid_model, &(struct vmgenid_config){.mem = &g_mem, .at = FREE_RAM}, {0}},
		{&mch_model, &(struct mch_config){.shadow = shadow}, {MCH_PORTS, MCH_PORTS + 4}},
		{&lpc_model, &(struct lpc_config){.host = g_host, .pm = 0x600}, {0}},
		{&pci_port_model, &(struct pci_port_config){.host = g_host, .devfn = PCI_DEVFN(SLOT, 0), .number = 1}, {0}},
		{&flash_model, &(struct flash_config){.bytes = chip, .show = show, .fd = -1}, {FLASH}},
		{&fw_cfg_model, &(struct fw_cfg_config){.mem = &g_mem, .items = items, .n = 1}, {0x510}},
		{&debugcon_model, &(struct debugcon_config){.to = NULL}, {0x402}},
		{&ahci_model, &(struct ahci_config){.host = g_host, .mem = &g_mem, .devfn = PCI_DEVFN(SLOT, 0),
						    .drives = {{.disk = disk}, {.is_cd = true, .disk = disk}}}, {0}},
		{&e1000_model, &(struct e1000_config){.host = g_host, .mem = &g_mem, .slot = SLOT, .port = &port}, {0}},
		{&ide_model, &(struct ide_config){.host = g_host, .mem = &g_mem, .slot = IDE_SLOT,
						   .drives = {{.disk = disk}, {.disk = NULL}, {.disk = NULL}, {.is_cd = true, .disk = disk}}},
		 {0x1f0, 0x3f6, 0x170, 0x376}},
		{&nvme_model, &(struct nvme_config){.host = g_host, .mem = &g_mem, .slot = SLOT, .disk = disk}, {0}},
		{&xhci_model, &(struct xhci_config){.host = g_host, .mem = &g_mem, .slot = SLOT,
						    .ports = {{XHCI_DISK, disk}, {.kind = XHCI_KEYBOARD}, {.kind = XHCI_TABLET}}}, {0}},
		{&virtio_balloon_model, &(struct virtio_balloon_config){.pci = pci}, {0}},
		{&virtio_blk_model, &(struct virtio_blk_config){.pci = pci, .disk = disk}, {0}},
		{&virtio_console_model, &(struct virtio_console_config){
			.pci = pci, .ports = {{.output = takes_nothing},
					      {.name = "org.test.0", .output = takes_nothing}}}, {0}},
		{&virtio_fs_model, &(struct virtio_fs_config){.pci = pci, .tag = "tag", .fd = -1}, {0}},
		{&virtio_keyboard_model, &(struct virtio_input_config){.pci = pci}, {0}},
		{&virtio_net_model, &(struct virtio_net_config){.pci = pci, .port = &port, .mtu = 1500}, {0}},
		{&virtio_rng_model, &(struct virtio_rng_config){.pci = pci}, {0}},
		{&virtio_scsi_model, &(struct virtio_scsi_config){.pci = pci, .disks = {disk}, .n = 1}, {0}},
		{&virtio_vsock_model, &(struct virtio_vsock_config){.pci = pci, .cid = 3}, {0}},
		{&virtio_tablet_model, &(struct virtio_input_config){.pci = pci}, {0}},
		{&virtio_vga_model, &(struct virtio_vga_config){
			.pci = pci, .vga = {.vram = vram, .vram_size = sizeof(vram)}, .store = pictures, .store_size = sizeof(pictures)},
		 {0x3b0, 0x1ce, 0xa0000}},
	};

	for (size_t i = 0; i < sizeof(configs) / sizeof(configs[0]); i++)
		if (configs[i].model == m)
			return device_create(m, g_bus, configs[i].at, configs[i].config, NULL);
	return m == &pci_host_model ? g_host : NULL;
}

static struct device *make(const struct device_model *m)
{
	g_start();
	return make_on_board(m);
}

static void unmake(struct device *dev)
{
	if (dev != g_host)
		device_destroy(dev);
	g_stop();
}

static const struct {
	const struct device_model *model;
	void (*use)(struct device *dev); /* NULL: it has no state */
} models[] = {
	{&uart_model, use_uart},
	{&rtc_model, use_rtc},
	{&i8042_model, use_i8042},
	{&port92_model, use_port92},
	{&hpet_model, use_hpet},
	{&acpi_pm_model, use_pm},
	{&pvpanic_model, NULL},
	{&vmgenid_model, NULL},
	{&pci_host_model, use_host},
	{&mch_model, use_mch},
	{&lpc_model, use_lpc},
	{&pci_port_model, use_port},
	{&flash_model, use_flash},
	{&fw_cfg_model, use_fw_cfg},
	{&debugcon_model, NULL},
	{&vga_model, use_vga},
	{&ahci_model, use_ahci},
	{&e1000_model, use_e1000},
	{&ide_model, use_ide},
	{&nvme_model, use_nvme},
	{&xhci_model, use_xhci},
	{&virtio_balloon_model, use_balloon},
	{&virtio_blk_model, use_virtio},
	{&virtio_console_model, use_virtio},
	{&virtio_fs_model, use_virtio},
	{&virtio_keyboard_model, use_input},
	{&virtio_net_model, use_virtio},
	{&virtio_rng_model, use_virtio},
	{&virtio_scsi_model, use_virtio},
	{&virtio_vsock_model, use_virtio},
	{&virtio_tablet_model, use_input},
	{&virtio_vga_model, use_gpu},
};

/* -- What is not taken as it is ---------------------------------------------------- */

/* Fields of which bits, so many at most, are neither kept nor refused. */
static const struct {
	const char *table, *field;
	unsigned bits;
	const char *why;
} normalised[] = {
	{"/mc146818", "seen", 64, "a flag cannot have been seen later than now"},
	{"/mc146818", "offset", 64, "the clock goes by it, and `seen` follows"},
	{"/mc146818", "cmos", 3, "registers A and B stop the clock, and `seen` follows"},
	{"/bridge", "self.saved", 2048, "what the guest cannot write of configuration space is the model's"},
	{"/lpc", "fn.saved", 2048, "what the guest cannot write of configuration space is the model's"},
	{"/ahci", "fn.saved", 2048, "what the guest cannot write of configuration space is the model's"},
	{"/e1000", "fn.saved", 2048, "what the guest cannot write of configuration space is the model's"},
	{"/port", "fn.saved", 2048, "what the guest cannot write of configuration space is the model's"},
	{"/port", "fn.saved_ext", 30720, "the same"},
	{"/ide", "fn.saved", 2048, "what the guest cannot write of configuration space is the model's"},
	{"/xhci", "fn.saved", 2048, "what the guest cannot write of configuration space is the model's"},
	{"/nvme", "fn.saved", 2048, "what the guest cannot write of configuration space is the model's"},
	{"/vga", "fn.saved", 2048, "what the guest cannot write of configuration space is the model's"},
	{"/virtio", "fn.saved", 2048, "what the guest cannot write of configuration space is the model's"},
};

/* How many bits of it may be. */
static unsigned may_normalise(const struct field *f)
{
	const char *table = strchr(f->section, '/');

	for (size_t i = 0; i < sizeof(normalised) / sizeof(normalised[0]); i++)
		if (!strcmp(table, normalised[i].table) && !strcmp(f->name, normalised[i].field))
			return normalised[i].bits;
	return 0;
}

/* -- Saving and loading ------------------------------------------------------------ */

static int load_into(struct device *dev, const struct state_out *state, struct state_out *again,
		     struct err *err)
{
	const struct state_in in = {.bytes = state->bytes, .len = state->len};
	unsigned used = 0;
	int rc = device_load(dev, dev->model->name, &in, 0, &used, err);

	again->len = 0;
	return rc < 0 ? rc : device_save(dev, dev->model->name, again);
}

static int load(const struct device_model *m, const struct state_out *state, struct state_out *again,
		struct err *err)
{
	struct device *dev = make(m);
	int rc = load_into(dev, state, again, err);

	unmake(dev);
	return rc;
}

static bool is_same(const struct state_out *a, const struct state_out *b)
{
	return a->len == b->len && memcmp(a->bytes, b->bytes, a->len) == 0;
}

struct tally {
	unsigned kept, refused, normalised, of_field, wrong;
};

static void flip(struct device *dev, struct state_out *state, const struct field *f, size_t bit,
		 struct tally *t)
{
	static struct state_out again;
	struct err err = {0};
	int rc;

	f->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
	rc = load_into(dev, state, &again, &err);
	if (rc < 0 && strlen(err.text) > strlen(dev->model->name) + 2) {
		t->refused++;
	} else if (rc == 0 && is_same(state, &again)) {
		t->kept++;
	} else if (rc == 0 && t->of_field < may_normalise(f)) {
		t->normalised++;
		t->of_field++;
	} else if (t->wrong++ < 5) {
		note("%s %s, bit %zu: %d %s", f->section, f->name, bit, rc, err.text);
	}
	f->data[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

/* One device takes them all, as making one takes long; that a new one does is seen before. */
static size_t stride = 1; /* each bit, or each so manieth, from another one on in each field */

static void flip_all(const struct device_model *m, struct state_out *state, const char *which)
{
	struct device *dev = make(m);
	struct field f = {0};
	struct tally t = {0};

	for (size_t n = 0; next_field(state->bytes, state->len, &f); t.of_field = 0, n++)
		for (size_t bit = n % stride; bit < (size_t)f.count * f.width * 8; bit += stride)
			flip(dev, state, &f, bit, &t);
	unmake(dev);
	is_int(t.wrong, 0, "%s, %s: of its bits %u are kept, %u refused with a sentence, %u normalised",
	       m->name, which, t.kept, t.refused, t.normalised);
	ok(t.kept > 0, "%s, %s: some are", m->name, which);
}

static void save(const struct device_model *m, void (*use)(struct device *dev),
		 struct state_out *state)
{
	struct device *dev = make(m);

	memset(g_ram, 0, sizeof(g_ram));
	if (use)
		use(dev);
	device_pause(dev);
	state->len = 0;
	is_int(device_save(dev, m->name, state), 0, "%s: it is saved", m->name);
	unmake(dev);
}

static void test_model(const struct device_model *m, void (*use)(struct device *dev))
{
	static struct state_out state, again;
	struct err err = {0};

	save(m, NULL, &state);
	is_int(load(m, &state, &again, &err), 0, "%s: as it is made, it is loaded %s", m->name, err.text);
	ok(is_same(&state, &again), "%s: and is the same", m->name);
	flip_all(m, &state, "as it is made");
	save(m, use, &state);
	is_int(load(m, &state, &again, &err), 0, "%s: used, it is loaded %s", m->name, err.text);
	ok(is_same(&state, &again), "%s: and is the same", m->name);
	flip_all(m, &state, "used");
}

/* -- For ever ---------------------------------------------------------------------- */

static void test_frozen(const struct device_model *m, void (*use)(struct device *dev),
			const char *directory, bool freeze)
{
	static struct state_out state, old, again;
	struct err err = {0};

	save(m, use, &state);
	for (const struct state_table *const *t = m->state; *t; t++) {
		char name[STATE_NAME_MAX + 1];

		snprintf(name, sizeof(name), "%s/%s", m->name, (*t)->name);
		frozen_check(directory, name, &state, freeze);
		/* Each old version is tried with today's others. */
		for (unsigned v = 1; v <= (*t)->version; v++)
			ok(frozen_replace(directory, name, v, &state, &old) && load(m, &old, &again, &err) == 0,
			   "%s: version %u is loaded %s", name, v, err.text);
	}
}

/* What the model declares to have is where it was put. */
static void test_places(const struct device_model *m)
{
	struct device *dev = make(m);

	for (unsigned i = 0; m->places && m->places[i].size; i++) {
		const struct device_place *p = &m->places[i];
		uint64_t base = dev->windows[i].base;
		const char *name = bus_name(g_bus, p->space, base + p->size - 1);

		ok(base && !strcmp(name, m->name), "%s: it is at 0x%llx", m->name, (unsigned long long)base);
		for (const struct reg *r = p->regs; r && r->name; r++)
			ok(r->at + (r->count ? r->count : 1u) * r->width <= p->size && (r->read || r->write),
			   "%s: %s is in that window", m->name, r->name);
	}
	unmake(dev);
}

static bool is_listed(const struct device_model *m)
{
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++)
		if (models[i].model == m)
			return true;
	return false;
}

static void open_disk(void)
{
	char path[] = "/tmp/lodge-state-XXXXXX";
	int fd = mkstemp(path);
	struct err err = {0};

	ok(fd >= 0 && ftruncate(fd, 65536) == 0 &&
	   disk_open(&disk, &(struct disk_config){.path = path}, &err) == 0, "a disk %s", err.text);
	unlink(path);
	close(fd);
}

int main(int argc, char **argv)
{
	bool freeze = argc > 2 && !strcmp(argv[1], "--freeze");

	if (argc < 2)
		return 2;
	if (argc > 2 && !freeze)
		stride = (size_t)atoi(argv[1]);
	open_disk();
	for (const struct device_model *const *m = device_models; *m; m++)
		ok(is_listed(*m), "%s is tested here", (*m)->name);
	for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
		const struct device_model *m = models[i].model;

		test_places(m);
		if (!ok(!m->state == !models[i].use, "%s: it has %s", m->name,
			models[i].use ? "tables" : "no state"))
			continue;
		if (!m->state)
			continue;
		test_frozen(m, models[i].use, argv[argc - 1], freeze);
		if (!freeze)
			test_model(m, models[i].use);
	}
	disk_close(disk);
	return done_testing();
}
