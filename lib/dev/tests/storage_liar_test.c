/* SPDX-License-Identifier: MIT */
/*
 * A driver that lies to SATA, IDE, NVMe and USB controllers for as long as it is let.
 *
 *	dev_storage_liar_test [ROUNDS]
 *
 * ahci_test, ide_test, nvme_test and xhci_test have each lie by its name; here they come in any order, and at the worst time: while the device works another
 * thread writes over lists, tables, queues and data, so what was read twice would differ. Ports are stopped and reset, and queues
 * deleted, with requests under way.
 *
 * RAM stands between pages that nobody may touch, and the disk between bytes that are not its own (its file is longer). After it all an
 * honest driver must find the devices working.
 */
#include "block/disk.h"
#include "dev/storage/ahci.h"
#include "dev/storage/nvme.h"
#include "dev/tests/ide.h"
#include "dev/tests/nvme.h"
#include "dev/tests/sata.h"
#include "dev/tests/xhci.h"
#include "tests/tap.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define DISK_SIZE (128u << 10)
#define BEHIND    (64u << 10)

enum { SATA = 1, NVME, USB };

static volatile bool stop;
static uint64_t seed = 88172645463325252u;
static int file;
static unsigned refused, failed, served, fatal, ide_failed, ide_served; /* rounds */
static unsigned usb_served; /* transfers */

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1d;
}

static unsigned below(unsigned n)
{
	return (unsigned)((rnd() >> 32) * n >> 32);
}

static uint64_t address(void)
{
	static const uint64_t edges[] = {0, RAM_SIZE - 1, RAM_SIZE - 511, RAM_SIZE, 0xfee00000, 1ull << 32, 1ull << 47, ~0ull, ~0ull - 511};

	if (below(12) == 0)
		return edges[below(sizeof(edges) / sizeof(edges[0]))];
	return FREE_RAM + (below(0x20000) & ~(below(2) ? 3u : 0xfffu));
}

static uint64_t block(void)
{
	return below(6) ? below(DISK_SIZE / 512 + 8) : rnd() & 0xffffffffffff;
}

/* -- SATA -------------------------------------------------------------------------------------- */

static void lie_command(unsigned port, unsigned tag)
{
	static const uint8_t codes[] = {0xec, 0x25, 0x35, 0x60, 0x61, 0x06, 0x2f, 0xb0, 0xef, 0xea, 0x20, 0x30, 0xa0, 0xa1};
	static const uint8_t packets[] = {0x00, 0x03, 0x12, 0x1b, 0x1e, 0x25, 0x28, 0x43, 0x46, 0x4a, 0x5a, 0xa8, 0xad, 0xbe};
	uint8_t code = below(10) ? codes[below(sizeof(codes))] : (uint8_t)rnd(), *t;
	unsigned regions = below(6);

	t = sata_put_command(port, tag, code, block(), below(20), 0, 0);
	for (unsigned i = 0; i < regions; i++)
		sata_put_region(port, tag, i, address(), below(4) ? 512 * (1 + below(8)) : (uint32_t)rnd() & 0x3fffff);
	le16_put(g_ram + SATA_LIST(port) + tag * 32 + 2, (uint16_t)(below(20) ? regions : rnd()));
	t[3] = code == 0x06 ? 1 : (uint8_t)below(20);
	if (code == 0x60 || code == 0x61)
		le16_put(t + 12, (uint16_t)(below(10) ? tag << 3 : rnd()));
	if (code == 0xa0)
		g_ram[SATA_LIST(port) + tag * 32] |= 0x20;
	t[0x40] = packets[below(sizeof(packets))];
	for (unsigned i = 1; i < 12; i++)
		t[0x40 + i] = below(3) ? (uint8_t)below(4) : (uint8_t)rnd();
	if (below(50) == 0)
		le64_put(g_ram + SATA_LIST(port) + tag * 32 + 8, address());
}

static void lie_sata(struct device *ahci, struct disk *cd)
{
	unsigned port = below(2), tags = below(8) ? 1u << below(12) : (uint32_t)rnd() & 0xfff;

	for (unsigned tag = 0; tag < 12; tag++)
		if (tags >> tag & 1)
			lie_command(port, tag);
	port_out(SATA, port, P_SACT, below(4) ? tags : 0);
	port_out(SATA, port, P_CI, tags);
	switch (below(40)) {
	case 0:
		port_out(SATA, port, P_SCTL, below(2));
		if (below(2)) /* with the link held, too */
			port_out(SATA, port, P_CMD, 0x11);
		break;
	case 1:
		bar_out(SATA, SATA_BAR, 4, 4, 0x80000001);
		while (bar_in(SATA, SATA_BAR, 4, 4) & 1)
			sched_yield();
		sata_start(SATA, 1 - port);
		break;
	case 2:
		device_reset(ahci);
		sata_start(SATA, 1 - port);
		break;
	case 3:
		ahci_change(ahci, 1, below(2) ? cd : NULL, below(2), NULL);
		break;
	case 4:
		device_pause(ahci);
		device_resume(ahci);
		break;
	default:
		break;
	}
	bar_in(SATA, SATA_BAR, below(0x480), 1u << below(4));
	refused += port_in(SATA, port, P_IS) >> 29 & 1;
	failed += port_in(SATA, port, P_IS) >> 30 & 1;
	served += !(port_in(SATA, port, P_IS) & 0x60000000);
	if (port_in(SATA, port, P_IS) & 0x60000000 || below(20) == 0)
		sata_start(SATA, port);
}

/* -- IDE --------------------------------------------------------------------------------------- */

/* Some words of data, as many as there are or fewer or more. */
static void lie_data(unsigned cable)
{
	for (unsigned i = below(4) ? below(1100) : below(8); i; i--) {
		if (below(2))
			bus_read(g_bus, BUS_PORT, ide_port(cable, 0), below(2) ? 2 : 4);
		else
			bus_write(g_bus, BUS_PORT, ide_port(cable, 0), below(2) ? 2 : 4, rnd());
		if (below(50) == 0)
			ide_get(cable, below(8));
	}
}

static void lie_command_ide(unsigned cable, unsigned drive)
{
	static const uint8_t codes[] = {0x20, 0x24, 0x29, 0x30, 0x34, 0x39, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0x25, 0x35, 0x06, 0xec, 0x47, 0x91, 0xef};
	static const uint8_t packets[] = {0x00, 0x03, 0x12, 0x1b, 0x1e, 0x25, 0x28, 0x43, 0x46, 0x4a, 0x5a, 0xa8, 0xbe};
	uint8_t cdb[16] = {packets[below(sizeof(packets))]};

	ide_task_48(cable, drive, block(), below(3) ? 1 + below(20) : (unsigned)rnd() & 0xffff);
	if (below(4) == 0)
		ide_put(cable, 6, 0xa0 | drive << 4 | below(16));
	ide_put(cable, 1, below(3));
	if (below(10))
		ide_put(cable, 7, drive ? 0xa0 : codes[below(sizeof(codes))]);
	else
		ide_put(cable, 7, (unsigned)rnd() & 0xff);
	for (unsigned i = 1; drive && i < 12; i++)
		cdb[i] = below(3) ? (uint8_t)below(4) : (uint8_t)rnd();
	if (drive)
		ide_out(cable, cdb, below(8) ? 12 : 2 * below(8));
}

static void lie_ide(struct device *ide, struct disk *cd)
{
	unsigned cable = below(2), drive = below(2);

	for (unsigned i = 0; i < 8; i++)
		ide_entry(cable, i, (uint32_t)address(), below(4) ? 512 * below(9) : (unsigned)rnd() & 0xffff, below(8) == 0);
	if (below(2))
		ide_dma(cable, below(2));
	lie_command_ide(cable, drive);
	if (below(2))
		ide_dma(cable, below(2));
	lie_data(cable);
	switch (below(30)) {
	case 0:
		ide_control(cable, 4 | (unsigned)rnd());
		if (below(2))
			ide_control(cable, 0);
		break;
	case 1:
		device_reset(ide);
		break;
	case 2:
		ide_change(ide, 1, below(2) ? cd : NULL, below(2), NULL);
		break;
	case 3:
		device_pause(ide);
		device_resume(ide);
		break;
	case 4:
		bus_write(g_bus, BUS_PORT, ide_bm(cable, 4), 4, address());
		ide_put(cable, 7, 0xc8);
		bus_write(g_bus, BUS_PORT, ide_bm(cable, 0), 1, 9);
		break;
	default:
		break;
	}
	if (below(4))
		ide_stop(cable);
	ide_failed += ide_alternate(cable) & 1;
	ide_served += !(ide_alternate(cable) & 0x81);
	if (ide_alternate(cable) & 0x80 && below(2))
		ide_control(cable, 0);
}

/* -- NVMe --------------------------------------------------------------------------------------- */

static void nvme_up(void)
{
	nvme_start(NVME);
	for (unsigned n = 1; n <= 2; n++) {
		uint8_t *c = nvme_put(0, 5, 0, NVME_CQ(n), 0, 0);

		nvme_forget(n, 16);
		le32_put(c + 40, 15u << 16 | n);
		le32_put(c + 44, n << 16 | 3);
		c = nvme_put(0, 1, 0, NVME_SQ(n), 0, 0);
		le32_put(c + 40, 15u << 16 | n);
		le32_put(c + 44, n << 16 | 1);
	}
	nvme_ring(NVME, 0);
}

static void lie_nvme(struct device *nvme)
{
	static const uint8_t io[] = {0, 1, 2, 8, 9}, admin[] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12};
	unsigned n = below(3);

	for (unsigned i = 1 + below(10); i; i--) {
		uint8_t code = n ? io[below(sizeof(io))] : admin[below(sizeof(admin))];
		uint8_t *c = nvme_put(n, below(20) ? code : (uint8_t)rnd(), below(10) ? n != 0 : (uint32_t)rnd(), address(), block(), below(40));

		le64_put(c + 32, address() & ~(below(4) ? 0xfffu : 7u));
		if (!n)
			le32_put(c + 40, below(4) ? below(4) | 15u << 16 : (uint32_t)rnd());
		if (code == 9)
			le32_put(c + 44, 4);
	}
	nvme_ring(NVME, n);
	bar_out(NVME, 0, 0x1004 + below(3) * 8, 4, below(20));
	switch (below(30)) {
	case 0:
		device_reset(nvme);
		break;
	case 1:
		device_pause(nvme);
		device_resume(nvme);
		break;
	default:
		break;
	}
	fatal += bar_in(NVME, 0, 0x1c, 4) >> 1 & 1;
	if ((bar_in(NVME, 0, 0x1c, 4) & 3) != 1 || below(20) == 0)
		nvme_up();
}

/* -- USB --------------------------------------------------------------------------------------- */

/* A disk, a keyboard and a tablet, which a driver has found. */
static void usb_up(void)
{
	usb_start(USB);
	for (unsigned slot = 1; slot <= 3; slot++) {
		usb_address(USB, slot, slot, slot == 1 ? 3 : 1);
		usb_control(USB, slot, 0x00, 9, 1, 0, 0);
		usb_configure(USB, slot, 3, slot == 1 ? 6 : 7, slot == 1 ? 512 : 8);
	}
	usb_configure(USB, 1, 4, 2, 512);
}

static uint64_t usb_place(void)
{
	return below(3) ? address() : U_DCBAA + (below(0x40000) & ~15u);
}

static void lie_usb_command(void)
{
	for (unsigned i = 0; i < 0x200; i += 4)
		if (below(3) == 0)
			le32_put(g_ram + U_INPUT + i, below(2) ? below(16) : (uint32_t)rnd());
	usb_command(USB, below(10) ? 9 + below(9) : below(64), below(3) ? U_INPUT : usb_place(), below(9) << 24 | below(8) << 16 | below(2) << 9);
}

/* To the disk, perhaps, as it is to be. */
static void lie_usb_transfer(void)
{
	unsigned slot = 1 + below(3), ep = 1 + below(4);
	uint8_t *p = g_ram + U_DATA + 0x800;

	if (slot == 1 && below(2)) {
		static const uint8_t codes[] = {0x00, 0x12, 0x25, 0x28, 0x2a, 0x35, 0x42, 0x41, 0x5a};

		memset(p, 0, 31);
		le32_put(p, 0x43425355);
		le32_put(p + 8, below(5) ? 512 * below(300) : (uint32_t)rnd());
		p[12] = below(2) ? 0x80 : 0;
		p[14] = 10;
		p[15] = codes[below(sizeof(codes))];
		p[20] = (uint8_t)below(64);
		p[23] = (uint8_t)below(below(2) ? 4 : 256);
		usb_put(1, 4, U_DATA + 0x800, 31, 1u << 10 | 0x20);
		usb_ring(USB, 1, 4);
	}
	for (unsigned i = 1 + below(6); i; i--)
		usb_put(slot, ep, usb_place(), below(6) ? 512 * below(40) : (uint32_t)rnd(),
			(below(8) ? ep == 1 ? 2 + below(3) : 1 : below(64)) << 10 | below(128));
	usb_ring(USB, slot, ep);
}

static void lie_usb(struct device *usb)
{
	static bool is_up;

	if (!is_up || below(30) == 0)
		usb_up();
	is_up = true;
	lie_usb_transfer();
	if (below(3) == 0)
		lie_usb_command();
	xhci_key(usb, (uint8_t)below(256), below(2));
	xhci_point(usb, (uint16_t)rnd(), (uint16_t)rnd(), 1, (uint8_t)below(8));
	for (unsigned i = 0; i < 200 && usb_take_event(USB); i++)
		usb_served += usb_type() == 32 && (usb_code() == 1 || usb_code() == 13);
	switch (below(60)) {
	case 0:
		device_reset(usb);
		is_up = false;
		break;
	case 1:
		device_pause(usb);
		device_resume(usb);
		break;
	case 2:
		bar_out(USB, 0, below(0x2100) & ~3u, 4, rnd());
		is_up = false;
		break;
	default:
		break;
	}
	bar_in(USB, 0, below(0x3000), 1u << below(4));
}

/* -- The machine ---------------------------------------------------------------------------------- */

static void *scribble(void *arg)
{
	uint32_t x = 12345;

	while (!stop) {
		x = x * 1664525u + 1013904223u;
		*(volatile uint8_t *)(g_ram + 0x10000 + (x >> 13)) = (uint8_t)(x >> 5);
		if (x % 64 == 0)
			sched_yield();
	}
	return arg;
}

static struct disk *make_disk(bool readonly)
{
	struct disk *disk = NULL;
	char path[64];
	int fd = memfd_create("disk", MFD_CLOEXEC);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (ftruncate(fd, DISK_SIZE) || disk_open(&disk, &(struct disk_config){.path = path, .readonly = readonly}, NULL))
		abort();
	/* The disk was opened with this size; what comes behind is somebody else's. */
	for (unsigned i = 0; i < BEHIND; i += 8)
		if (pwrite(fd, "not you ", 8, DISK_SIZE + i) != 8)
			abort();
	file = fd;
	return disk;
}

static bool is_own(void)
{
	char word[8];

	for (unsigned i = 0; i < BEHIND; i += 8)
		if (pread(file, word, 8, DISK_SIZE + i) != 8 || memcmp(word, "not you ", 8))
			return false;
	return lseek(file, 0, SEEK_END) == DISK_SIZE + BEHIND;
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 8000;
	struct disk *cd = make_disk(true), *disk = make_disk(false);
	struct device *ahci, *ide, *nvme, *usb;
	pthread_t thread;

	g_start();
	ahci = device_create(&ahci_model, g_bus, NULL, &(struct ahci_config){
		.host = g_host, .mem = &g_mem, .devfn = PCI_DEVFN(SATA, 0), .drives = {{.disk = disk}, {.is_cd = true, .disk = cd}}}, NULL);
	ide = ide_make((struct ide_drive[IDE_DRIVES]){{.disk = disk}, {.is_cd = true, .disk = cd}, {.disk = disk}, {.is_cd = true}});
	nvme = device_create(&nvme_model, g_bus, NULL, &(struct nvme_config){.host = g_host, .mem = &g_mem, .slot = NVME, .disk = disk}, NULL);
	usb = device_create(&xhci_model, g_bus, NULL, &(struct xhci_config){.host = g_host, .mem = &g_mem, .slot = USB,
		.ports = {{XHCI_DISK, disk}, {.kind = XHCI_KEYBOARD}, {.kind = XHCI_TABLET}}}, NULL);
	device_reset(g_host);
	sata_start(SATA, 0);
	sata_start(SATA, 1);
	ide_start();
	nvme_up();
	pthread_create(&thread, NULL, scribble, NULL);
	for (unsigned n = 0; n < rounds; n++) {
		lie_sata(ahci, cd);
		lie_ide(ide, cd);
		lie_nvme(nvme);
		lie_usb(usb);
	}
	stop = true;
	pthread_join(thread, NULL);
	ok(true, "%u rounds of lies: by SATA %u refused, %u failed, %u served; by IDE %u failed, %u served; %u fatal to NVMe", rounds, refused,
	   failed, served, ide_failed, ide_served, fatal);
	ok(failed > rounds / 20 && served > rounds / 20, "lies are noticed, and some are believed");
	ok(ide_failed > rounds / 20 && ide_served > rounds / 20, "by IDE, too");
	ok(is_own(), "what lies behind the disk is as it was");
	memset(g_ram, 0, sizeof(g_ram));
	sata_start(SATA, 0);
	sata_put_command(0, 0, 0x25, 0, 1, FREE_RAM, 512);
	is_int(sata_do(SATA, 0, 0), 0x50, "an honest driver of SATA is served");
	ide_control(0, 4);
	ide_control(0, 0);
	ide_wait(0);
	ide_task(0, 0, 0, 1);
	ide_put(0, 7, 0x20);
	is_int(ide_wait(0), 0x58, "one of IDE is");
	nvme_start(NVME);
	is_int(nvme_make_queues(NVME, 1, 16), 0, "one of NVMe makes its queues");
	nvme_put(1, 2, 1, FREE_RAM, 0, 0);
	nvme_ring(NVME, 1);
	is_int(nvme_wait(NVME, 1), 0, "and is served");
	device_destroy(ahci);
	device_destroy(ide);
	usb_start(USB);
	is_int(usb_address(USB, 1, 1, 3), 1, "and one of USB finds its disk");
	ok(usb_served > rounds / 20, "%u transfers of USB were served", usb_served);
	device_destroy(usb);
	device_destroy(nvme);
	g_stop();
	disk_close(disk);
	disk_close(cd);
	return done_testing();
}
