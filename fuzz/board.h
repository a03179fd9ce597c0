/* SPDX-License-Identifier: MIT */
/*
 * A board with all models of lib/dev, for targets that misuse them: 32 KiB of RAM, a disk of 64 KiB in memory,
 * virtio devices that are driven. What a guest does to it is eight bytes a step.
 */
#ifndef FUZZ_BOARD_H
#define FUZZ_BOARD_H

#include "base/bytes.h"
#include "base/macros.h"
#include "block/disk.h"
#include "dev/acpi_pm.h"
#include "dev/debugcon.h"
#include "dev/flash.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/pci/function.h"
#include "dev/net/e1000.h"
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
#include "net/port.h"
#include "display/surface.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_SIZE 0x8000u
#define VRAM_SIZE 0x40000u
#define ECAM     0xe0000000u
#define BARS     0xc0000000u

#define BOARD_DEVICES_MAX 48u
#define AHCI_SLOT 30
#define NVME_SLOT 29
#define SCSI_SLOT 28
#define VSOCK_SLOT 27
#define KEYBOARD_SLOT 26
#define TABLET_SLOT 25
#define GPU_SLOT 24
#define XHCI_SLOT 23
#define STORE_SIZE 0x20000u
#define IDE_SLOT 22
#define E1000_SLOT 21
#define PORT_SLOT 20
#define LEGACY_SLOT 19 /* before all others that have ports */

static struct guest_mem mem;
static struct device *devs[BOARD_DEVICES_MAX]; /* the host bridge first */
static struct device *root_port, *console, *screen, *balloon, *keyboard, *tablet, *gpu, *usb;
static unsigned n_devs;
static struct disk *disk;
static struct bus *bus;
static uint8_t *ram, *vram, *store_of_pictures;

static inline void open_disk(void)
{
	int fd = memfd_create("disk", MFD_CLOEXEC);
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (ftruncate(fd, 65536) < 0 ||
	    disk_open(&disk, &(struct disk_config){.path = path}, NULL) < 0)
		abort();
	close(fd);
}

/* A cable's other end that takes each second frame, and has one of the guest's memory. */
static inline bool port_send(struct net_port *p, const struct iovec *iov, unsigned n)
{
	static bool takes;

	(void)p, (void)iov, (void)n;
	return takes = !takes;
}

static const struct net_port_type cable_type = {.send = port_send};
static struct net_port cable = {.type = &cable_type, .up = true};

struct place {
	enum bus_space space;
	uint32_t base, size;
};

/* Configuration space, BARs, all ports. Behind them come the devices' own windows. */
static const struct place pci_places[] = {
	{BUS_PORT, 0xcf8, 8}, {BUS_PORT, 0, 0x10000},
	{BUS_MMIO, ECAM, 0x8000}, {BUS_MMIO, ECAM + 0x8000, 0x100},
	{BUS_MMIO, ECAM + 0x10000, 0x100}, {BUS_MMIO, ECAM + 0x18000, 0x100},
	{BUS_MMIO, BARS, 0x40}, {BUS_MMIO, BARS + 0x3000, 8}, {BUS_MMIO, BARS, 0x18000},
	{BUS_MMIO, BARS + 0x5000, 0x40}, {BUS_MMIO, BARS + 0x8000, 8},
	{BUS_MMIO, BARS + 0xa000, 0x40}, {BUS_MMIO, BARS + 0xd000, 8},
	{BUS_MMIO, BARS, 0x10000000},
	{BUS_PORT, 0xc000, 0x20}, {BUS_MMIO, ECAM + PORT_SLOT * 0x8000, 0x90}, {BUS_MMIO, 0xd0000000, 0x40},
	{BUS_PORT, 0x1cf8, 8}, {BUS_MMIO, MCH_SHADOW_BASE, 0x40000},
};

static struct place places[128];
static unsigned n_places, ahci_place, gpu_place;

static inline void add_place(struct place p)
{
	if (n_places == ARRAY_SIZE(places))
		abort();
	places[n_places++] = p;
}

static inline void list_places(void)
{
	ahci_place = n_places;
	for (unsigned i = 0; i < 6; i++) /* of AHCI; doorbells, registers of NVMe; registers and rings of a network card */
		add_place((struct place){BUS_MMIO, BARS, 0x280});
	for (size_t i = 0; i < ARRAY_SIZE(pci_places); i++)
		add_place(pci_places[i]);
	for (unsigned n = 0; n < n_devs; n++)
		for (unsigned i = 0; i < devs[n]->n_windows; i++) {
			const struct device_window *w = &devs[n]->windows[i];

			add_place((struct place){w->place->space, (uint32_t)w->base, (uint32_t)w->place->size});
		}
	gpu_place = n_places;
	for (unsigned i = 0; i < 4; i++) /* doorbells of the GPU; of xHCI, its runtime registers, ports */
		add_place((struct place){BUS_MMIO, BARS, 8});
}

/*  [what and width] [place] [offset: 2] [value: 4]  */
static inline void do_step(const uint8_t *step)
{
	unsigned width = 1u << (step[0] >> 1 & 3), place = step[1];
	uint64_t at = le16_get(step + 2), value = le32_get(step + 4);

	if (place >= 128) { /* the driver writes its own RAM */
		uint64_t v = place & 1 ? value : value << 32;

		memcpy(ram + at % (RAM_SIZE - 8), &v, width);
		return;
	}
	place %= n_places;
	at = places[place].base + at % places[place].size;
	if (step[0] & 1)
		bus_write(bus, places[place].space, at, width, value | value << 40);
	else
		bus_read(bus, places[place].space, at, width);
}

/* What firmware does: decoding on, queues where RAM is, features accepted. */
static inline uint64_t bring_up_at(unsigned slot, unsigned bar, unsigned at)
{
	uint64_t base;

	bus_write(bus, BUS_MMIO, ECAM + slot * 0x8000 + 4, 2, 6);
	base = (bus_read(bus, BUS_MMIO, ECAM + slot * 0x8000 + 0x10 + bar * 4, 4) & ~15u) + at;
	bus_write(bus, BUS_MMIO, base + 8, 4, 1);
	bus_write(bus, BUS_MMIO, base + 12, 4, 1);
	bus_write(bus, BUS_MMIO, base + 0x14, 1, 11);
	for (unsigned n = 6; n--;) {
		bus_write(bus, BUS_MMIO, base + 0x16, 2, n);
		bus_write(bus, BUS_MMIO, base + 0x18, 2, 16);
		bus_write(bus, BUS_MMIO, base + 0x20, 8, n * 0x400);
		bus_write(bus, BUS_MMIO, base + 0x28, 8, n * 0x400 + 0x100);
		bus_write(bus, BUS_MMIO, base + 0x30, 8, n * 0x400 + 0x200);
		bus_write(bus, BUS_MMIO, base + 0x1c, 2, 1);
	}
	bus_write(bus, BUS_MMIO, base + 0x14, 1, 15);
	return base;
}

static inline void bring_up(unsigned slot)
{
	bring_up_at(slot, 0, 0);
}

/* Behind VGA's registers. */
static inline void bring_up_gpu(void)
{
	uint64_t base = bring_up_at(GPU_SLOT, 2, 0x1000);

	places[gpu_place] = (struct place){BUS_MMIO, (uint32_t)base + 0x3000, 8};
}

/* A port's lists are where queues are. */
static inline void bring_up_ahci(void)
{
	uint64_t base;

	bus_write(bus, BUS_MMIO, ECAM + AHCI_SLOT * 0x8000 + 4, 2, 6);
	base = bus_read(bus, BUS_MMIO, ECAM + AHCI_SLOT * 0x8000 + 0x24, 4);
	for (unsigned port = 0; port < 3; port++) {
		bus_write(bus, BUS_MMIO, base + 0x100 + port * 0x80, 4, port * 0x800);
		bus_write(bus, BUS_MMIO, base + 0x108 + port * 0x80, 4, port * 0x800 + 0x400);
		bus_write(bus, BUS_MMIO, base + 0x118 + port * 0x80, 4, 0x11);
	}
	places[ahci_place] = (struct place){BUS_MMIO, (uint32_t)base, 0x280};
}

/* Its queues, too. */
static inline void bring_up_nvme(void)
{
	uint64_t base;

	bus_write(bus, BUS_MMIO, ECAM + NVME_SLOT * 0x8000 + 4, 2, 6);
	base = bus_read(bus, BUS_MMIO, ECAM + NVME_SLOT * 0x8000 + 0x10, 4) & ~15u;
	bus_write(bus, BUS_MMIO, base + 0x24, 4, 0x000f000f);
	bus_write(bus, BUS_MMIO, base + 0x28, 8, 0x1000);
	bus_write(bus, BUS_MMIO, base + 0x30, 8, 0x2000);
	bus_write(bus, BUS_MMIO, base + 0x14, 4, 0x00460001);
	places[ahci_place + 1] = (struct place){BUS_MMIO, (uint32_t)base + 0x1000, 0x20};
	places[ahci_place + 2] = (struct place){BUS_MMIO, (uint32_t)base, 0x40};
}

/* Rings are where queues are. */
static inline void bring_up_e1000(void)
{
	uint64_t base;

	bus_write(bus, BUS_MMIO, ECAM + E1000_SLOT * 0x8000 + 4, 2, 7);
	base = bus_read(bus, BUS_MMIO, ECAM + E1000_SLOT * 0x8000 + 0x10, 4) & ~15u;
	bus_write(bus, BUS_MMIO, base + 0x3800, 4, 0x400);
	bus_write(bus, BUS_MMIO, base + 0x3808, 4, 256);
	bus_write(bus, BUS_MMIO, base + 0x400, 4, 2);
	places[ahci_place + 3] = (struct place){BUS_MMIO, (uint32_t)base, 0x120};
	places[ahci_place + 4] = (struct place){BUS_MMIO, (uint32_t)base + 0x2800, 0x30};
	places[ahci_place + 5] = (struct place){BUS_MMIO, (uint32_t)base + 0x3800, 0x30};
}

/* Its rings are in RAM: commands at 0x1000, events at 0x2000; slot n's context is at 0x3000 + 0x400 * n. */
static inline void bring_up_xhci(void)
{
	uint64_t base;

	bus_write(bus, BUS_MMIO, ECAM + XHCI_SLOT * 0x8000 + 4, 2, 6);
	base = bus_read(bus, BUS_MMIO, ECAM + XHCI_SLOT * 0x8000 + 0x10, 4) & ~15u;
	for (unsigned n = 1; n <= 8; n++)
		le64_put(ram + 0x7000 + 8 * n, 0x3000 + 0x400 * n);
	le64_put(ram + 0x7100, 0x2000);
	le32_put(ram + 0x7108, 64);
	bus_write(bus, BUS_MMIO, base + 0x78, 4, 8);
	bus_write(bus, BUS_MMIO, base + 0x70, 8, 0x7000);
	bus_write(bus, BUS_MMIO, base + 0x58, 8, 0x1001);
	bus_write(bus, BUS_MMIO, base + 0x1028, 4, 1);
	bus_write(bus, BUS_MMIO, base + 0x1038, 8, 0x2000);
	bus_write(bus, BUS_MMIO, base + 0x1030, 8, 0x7100);
	bus_write(bus, BUS_MMIO, base + 0x1020, 4, 2);
	bus_write(bus, BUS_MMIO, base + 0x40, 4, 5);
	places[gpu_place + 1] = (struct place){BUS_MMIO, (uint32_t)base + 0x2000, 0x24};
	places[gpu_place + 2] = (struct place){BUS_MMIO, (uint32_t)base + 0x1020, 0x20};
	places[gpu_place + 3] = (struct place){BUS_MMIO, (uint32_t)base + 0x440, 0x80};
}

/* A model that is not on this board would be fuzzed by nobody. */
static inline void see_all(void)
{
	for (const struct device_model *const *m = device_models; *m; m++) {
		unsigned n = 0;

		while (n < n_devs && devs[n] && devs[n]->model != *m)
			n++;
		if (n < n_devs)
			continue;
		fprintf(stderr, "fuzz/board.h makes no %s\n", (*m)->name);
		abort();
	}
}

static inline void shadow(void *ctx, unsigned n, bool reads, bool writes)
{
	(void)ctx, (void)reads, (void)writes;
	if (n >= MCH_SHADOWS)
		abort();
}

static inline void store(void *ctx, uint64_t at, uint8_t value)
{
	(void)ctx, (void)value;
	if (at >= 0x40000)
		abort();
}

static inline void show(void *ctx, bool array)
{
	(void)ctx, (void)array;
}

static uint8_t chip[FLASH_SIZE];
static const struct fw_cfg_item items[] = {
	{.key = FW_CFG_CPUS, .bytes = "\1", .size = 2}, {.name = "etc/test", .bytes = "test", .size = 4},
};

static inline void make_board(void)
{
	struct virtio_place pci = {.mem = &mem};
	struct device *port;
	unsigned n = 0;

	if (!disk)
		open_disk();
	bus = bus_create();
	mem = (struct guest_mem){.n = 1, .regions[0] = {.size = RAM_SIZE}};
	ram = mem.regions[0].host = calloc(1, RAM_SIZE);
	pci.host = devs[n++] = device_create(&pci_host_model, bus, (uint64_t[]){0xcf8, 0xcfc, ECAM}, &(struct pci_host_config){
		.io_base = 0xc000, .io_size = 0x4000, .mem_base = BARS, .mem_size = 0x10000000}, NULL);
	devs[n++] = device_create(&uart_model, bus, (uint64_t[]){0x3f8}, &(struct uart_config){0}, NULL);
	devs[n++] = device_create(&rtc_model, bus, (uint64_t[]){0x70}, &(struct rtc_config){0}, NULL);
	devs[n++] = device_create(&i8042_model, bus, (uint64_t[]){0x60, 0x64}, &(struct i8042_config){.plugged = true}, NULL);
	devs[n++] = device_create(&hpet_model, bus, (uint64_t[]){0xfed00000}, &(struct hpet_config){0}, NULL);
	devs[n++] = device_create(&port92_model, bus, (uint64_t[]){0x92}, &(struct port92_config){0}, NULL);
	devs[n++] = device_create(&acpi_pm_model, bus, (uint64_t[]){0x600}, &(struct acpi_pm_config){0}, NULL);
	devs[n++] = device_create(&pvpanic_model, bus, (uint64_t[]){0x505}, &(struct pvpanic_config){0}, NULL);
	devs[n++] = device_create(&vmgenid_model, bus, NULL, &(struct vmgenid_config){
		.mem = &mem, .at = RAM_SIZE - 16}, NULL);
	devs[n++] = device_create(&virtio_rng_model, bus, NULL, &(struct virtio_rng_config){.pci = pci}, NULL);
	devs[n++] = device_create(&virtio_blk_model, bus, NULL, &(struct virtio_blk_config){
		.pci = pci, .disk = disk}, NULL);
	console = devs[n++] = device_create(&virtio_console_model, bus, NULL,
		&(struct virtio_console_config){.pci = pci, .ports[1].name = "port"}, NULL);
	devs[n++] = device_create(&mch_model, bus, (uint64_t[]){0x1cf8, 0x1cfc}, &(struct mch_config){
		.shadow = shadow, .store = store}, NULL);
	devs[n++] = device_create(&lpc_model, bus, NULL, &(struct lpc_config){.host = devs[0], .pm = 0x600}, NULL);
	devs[n++] = device_create(&flash_model, bus, (uint64_t[]){0xffc00000}, &(struct flash_config){
		.bytes = chip, .show = show, .fd = -1}, NULL);
	devs[n++] = device_create(&fw_cfg_model, bus, (uint64_t[]){0x510}, &(struct fw_cfg_config){
		.mem = &mem, .items = items, .n = sizeof(items) / sizeof(items[0])}, NULL);
	devs[n++] = device_create(&debugcon_model, bus, (uint64_t[]){0x402}, &(struct debugcon_config){0}, NULL);
	devs[n++] = device_create(&virtio_net_model, bus, NULL, &(struct virtio_net_config){.pci = pci, .port = &cable, .pairs = 2}, NULL);
	devs[n++] = device_create(&virtio_fs_model, bus, NULL, &(struct virtio_fs_config){
		.pci = pci, .tag = "tag", .fd = -1}, NULL);
	devs[n++] = balloon = device_create(&virtio_balloon_model, bus, NULL, &(struct virtio_balloon_config){.pci = pci}, NULL);
	vram = calloc(1, VRAM_SIZE);
	screen = devs[n++] = device_create(&vga_model, bus, (uint64_t[]){0x3b0, 0x1ce, 0xa0000}, &(struct vga_config){
		.host = pci.host, .vram = vram, .vram_size = VRAM_SIZE}, NULL);
	devs[n++] = device_create(&ahci_model, bus, NULL, &(struct ahci_config){
		.host = pci.host, .mem = &mem, .devfn = PCI_DEVFN(AHCI_SLOT, 0),
		.drives = {{.disk = disk}, {.is_cd = true}, {.is_cd = true, .disk = disk}}}, NULL);
	root_port = port = devs[n++] = device_create(&pci_port_model, bus, NULL, &(struct pci_port_config){
		.host = pci.host, .devfn = PCI_DEVFN(PORT_SLOT, 0), .number = 1}, NULL);
	devs[n++] = device_create(&virtio_rng_model, bus, NULL, &(struct virtio_rng_config){.pci = {.host = port, .mem = &mem}}, NULL);
	devs[n++] = device_create(&virtio_net_model, bus, NULL, &(struct virtio_net_config){
		.pci = {.host = pci.host, .mem = &mem, .slot = LEGACY_SLOT, .transitional = true}, .port = &cable}, NULL);
	devs[n++] = device_create(&e1000_model, bus, NULL, &(struct e1000_config){
		.host = pci.host, .mem = &mem, .slot = E1000_SLOT, .port = &cable}, NULL);
	devs[n++] = device_create(&ide_model, bus, (uint64_t[]){0x1f0, 0x3f6, 0x170, 0x376}, &(struct ide_config){
		.host = pci.host, .mem = &mem, .slot = IDE_SLOT,
		.drives = {{.disk = disk}, {.is_cd = true, .disk = disk}, {.is_cd = true}}}, NULL);
	devs[n++] = device_create(&nvme_model, bus, NULL, &(struct nvme_config){
		.host = pci.host, .mem = &mem, .slot = NVME_SLOT, .disk = disk}, NULL);
	devs[n++] = device_create(&virtio_scsi_model, bus, NULL, &(struct virtio_scsi_config){
		.pci = {.host = pci.host, .mem = &mem, .slot = SCSI_SLOT}, .disks = {disk}, .n = 1}, NULL);
	devs[n++] = device_create(&virtio_vsock_model, bus, NULL, &(struct virtio_vsock_config){
		.pci = {.host = pci.host, .mem = &mem, .slot = VSOCK_SLOT}, .cid = 3}, NULL);
	devs[n++] = keyboard = device_create(&virtio_keyboard_model, bus, NULL, &(struct virtio_input_config){
		.pci = {.host = pci.host, .mem = &mem, .slot = KEYBOARD_SLOT}}, NULL);
	devs[n++] = tablet = device_create(&virtio_tablet_model, bus, NULL, &(struct virtio_input_config){
		.pci = {.host = pci.host, .mem = &mem, .slot = TABLET_SLOT}}, NULL);
	store_of_pictures = calloc(1, STORE_SIZE);
	devs[n++] = gpu = device_create(&virtio_vga_model, bus, (uint64_t[]){0x23b0, 0x21ce, 0x2a0000}, &(struct virtio_vga_config){
		.pci = {.host = pci.host, .mem = &mem, .slot = GPU_SLOT}, .vga = {.vram = vram, .vram_size = VRAM_SIZE},
		.store = store_of_pictures, .store_size = STORE_SIZE}, NULL);
	devs[n++] = usb = device_create(&xhci_model, bus, NULL, &(struct xhci_config){
		.host = pci.host, .mem = &mem, .slot = XHCI_SLOT,
		.ports = {{XHCI_DISK, disk}, {.kind = XHCI_KEYBOARD}, {.kind = XHCI_TABLET}}}, NULL);
	n_devs = n;
	see_all();
	if (!n_places)
		list_places();
	device_reset(devs[0]);
	for (unsigned slot = 1; slot <= 6; slot++)
		bring_up(slot);
	for (unsigned slot = TABLET_SLOT; slot <= SCSI_SLOT; slot++)
		bring_up(slot);
	bring_up_ahci();
	bring_up_nvme();
	bring_up_e1000();
	bus_write(bus, BUS_MMIO, ECAM + LEGACY_SLOT * 0x8000 + 4, 2, 7);
	bus_write(bus, BUS_PORT, 0xc012, 1, 3); /* its queue does not fit into RAM: what is written to it is looked at all the same */
	bus_write(bus, BUS_PORT, 0xc008, 4, 1);
	bus_write(bus, BUS_MMIO, ECAM + PORT_SLOT * 0x8000 + 4, 2, 7);
	bus_write(bus, BUS_MMIO, ECAM + PORT_SLOT * 0x8000 + 0x18, 4, 0x10100);
	bus_write(bus, BUS_MMIO, ECAM + PORT_SLOT * 0x8000 + 0x20, 4, 0xd000d000);
	bus_write(bus, BUS_PORT, 0xcf8, 4, 0x80010010);
	bus_write(bus, BUS_PORT, 0xcfc, 4, 0xd0000000);
	bus_write(bus, BUS_PORT, 0xcf8, 4, 0x80010004);
	bus_write(bus, BUS_PORT, 0xcfc, 2, 6);
	bring_up_gpu();
	bring_up_xhci();
}

/* What a person does at it, who has other things to do than to look each time: a picture is large. */
static inline void use_screen(size_t when)
{
	static uint32_t pixels[640 * 480];
	struct surface s = {.pixels = pixels, .room = ARRAY_SIZE(pixels)};

	i8042_key(devs[3], ram[0], ram[1] & 1);
	i8042_mouse(devs[3], ram[2], -ram[3], 1, ram[4]);
	virtio_keyboard_key(keyboard, ram[0], ram[1] & 1);
	xhci_key(usb, ram[2], ram[3] & 1);
	xhci_point(usb, le16_get(ram + 2), le16_get(ram + 4), ram[1], ram[0]);
	virtio_tablet_point(tablet, le16_get(ram + 2), le16_get(ram + 4), ram[1], ram[0]);
	virtio_vga_resize(gpu, le16_get(ram + 6), le16_get(ram + 8));
	if (when % 16 == 0)
		vga_show(screen, &s);
	if (when % 16 == 8)
		virtio_vga_show(gpu, &s);
}

static inline void use_board(const uint8_t *data, size_t size)
{
	for (size_t left = size; left >= 8; data += 8, left -= 8) {
		if (left == size / 16 * 8) /* somebody wants out what is behind the port, half way through */
			pci_port_press(root_port, NULL);
		do_step(data);
	}
	pci_port_tell(root_port);
	uart_input(devs[1], ram, 3);
	acpi_pm_event(devs[6], 0);
	hpet_look(devs[4]);
	for (unsigned port = 0; port < VIRTIO_CONSOLE_PORTS; port++) {
		virtio_console_input(console, port, ram, 3);
		virtio_console_output_ready(console, port);
	}
	virtio_balloon_set(balloon, le32_get(ram));
	use_screen(size % 8);
}

static inline void unmake_board(void)
{
	for (unsigned n = n_devs; n--;)
		device_destroy(devs[n]);
	bus_destroy(bus);
	free(ram);
	free(vram);
	free(store_of_pictures);
}

#endif
