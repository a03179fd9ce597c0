/* SPDX-License-Identifier: MIT */
/*
 * The SATA controller from the driver's side: registers, lists and tables in guest RAM, down to a file. What drivers do, and what they must
 * not.
 */
#include "dev/storage/ahci.h"
#include "dev/tests/disk.h"
#include "dev/tests/held.h"
#include "dev/tests/sata.h"
#include "tests/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define SLOT 1u
#define DISK 0u
#define CD   1u
#define EMPTY 2u
#define SIZE (1u << 20)
#define READY 0x50u

static struct disk *disk, *cd, *other;
static struct device *ahci;

static void make_ahci(void)
{
	g_start();
	memset(g_ram, 0, sizeof(g_ram));
	ahci = device_create(&ahci_model, g_bus, NULL, &(struct ahci_config){
		.host = g_host, .mem = &g_mem, .devfn = PCI_DEVFN(SLOT, 0),
		.drives = {[DISK] = {.disk = disk}, [CD] = {.is_cd = true, .disk = cd}},
	}, NULL);
	device_reset(g_host);
}

static void start(void)
{
	make_ahci();
	sata_start(SLOT, DISK);
	sata_start(SLOT, CD);
}

static void stop(void)
{
	device_destroy(ahci);
	g_stop();
}

static uint32_t run(unsigned port, uint8_t command, uint64_t lba, unsigned count, uint32_t len)
{
	sata_put_command(port, 0, command, lba, count, FREE_RAM, len);
	return sata_do(SLOT, port, 0);
}

static void restart(unsigned port)
{
	port_out(SLOT, port, P_CMD, 0x10);
	port_out(SLOT, port, P_IS, UINT32_MAX);
	port_out(SLOT, port, P_CMD, 0x11);
}

/* -- The controller ------------------------------------------------------------------------ */

static void test_registers(void)
{
	start();
	is_int(cfg_read(SLOT, 0, 4), 0x29228086, "an ICH9's");
	is_int(cfg_read(SLOT, 8, 4) >> 8, 0x010601, "SATA, AHCI");
	is_int(bar_in(SLOT, 5, 0x0c, 4), 3, "ports with a drive are there");
	is_int(port_in(SLOT, DISK, P_SIG), 0x101, "a disk");
	is_int(port_in(SLOT, CD, P_SIG), 0xeb140101, "an ATAPI drive");
	is_int(port_in(SLOT, DISK, P_SSTS), 0x123, "whose link is up");
	is_int(port_in(SLOT, EMPTY, P_SSTS), 0, "and nothing");
	is_int(port_in(SLOT, DISK, P_CMD) & 0xc011, 0xc011, "it runs");
	port_out(SLOT, DISK, P_SCTL, 1);
	is_int(port_in(SLOT, DISK, P_SSTS), 0, "a link in its reset is not there");
	port_out(SLOT, DISK, P_SCTL, 0);
	is_int(port_in(SLOT, DISK, P_SSTS), 0x123, "and comes back");
	is_int(port_in(SLOT, DISK, P_IS), 1 << 6, "which is told");
	bar_out(SLOT, 5, 4, 4, 0x80000001);
	is_int(bar_in(SLOT, 5, 4, 4), 0x80000000, "a reset of all");
	is_int(port_in(SLOT, DISK, P_CMD), 6, "stops ports");
	is_int(port_in(SLOT, DISK, P_CLB), SATA_LIST(DISK), "which remember where their lists are");
	is_int((uint32_t)bar_in(SLOT, 5, 0x100 + 6 * 0x80, 4), 0, "behind the last port there is nothing");
	stop();
}

/* The first access of all is one that begins before the ports and reaches into them. */
static void test_across(void)
{
	make_ahci();
	cfg_write(SLOT, 4, 2, 6);
	is_int(bar_in(SLOT, 5, 0xff, 2), 0x00ff, "two bytes, of which the second is port 0's");
	bar_out(SLOT, 5, 0xfc, 8, UINT64_C(0x40000) << 32);
	is_int(port_in(SLOT, 0, P_CLB), 0x40000, "eight of which the last four are");
	stop();
}

static void test_interrupts(void)
{
	unsigned cap;

	start();
	run(DISK, 0xec, 0, 0, 512);
	ok(g_intx[pci_intx(SLOT, 1)], "the pin is pulled");
	is_int(bar_in(SLOT, 5, 8, 4), 1, "by port 0");
	bar_out(SLOT, 5, 8, 4, 1);
	ok(g_intx[pci_intx(SLOT, 1)], "and stays, as the port has more to say");
	port_out(SLOT, DISK, P_IS, UINT32_MAX);
	bar_out(SLOT, 5, 8, 4, 1);
	ok(!g_intx[pci_intx(SLOT, 1)], "and is let go");
	cap = find_cap(SLOT, 5, 0);
	ok(cap, "it has MSI");
	cfg_write(SLOT, cap + 4, 4, 0xfee01000);
	cfg_write(SLOT, cap + 12, 2, 0x4051);
	cfg_write(SLOT, cap + 2, 2, 1);
	g_messages = 0;
	run(DISK, 0xec, 0, 0, 512);
	is_int(g_messages, 1, "a message");
	is_int(g_msi_addr, 0xfee01000, "to where the driver wants it");
	is_int(g_msi_data, 0x4051, "as it wants it");
	ok(!g_intx[pci_intx(SLOT, 1)], "and no pin");
	run(DISK, 0xec, 0, 0, 512);
	is_int(g_messages, 1, "a port that waits for its driver is quiet");
	port_out(SLOT, DISK, P_IS, UINT32_MAX);
	bar_out(SLOT, 5, 8, 4, UINT32_MAX);
	run(DISK, 0xec, 0, 0, 512);
	is_int(g_messages, 2, "until that has come");
	stop();
}

/* -- A disk -------------------------------------------------------------------------------- */

static void test_identify(void)
{
	start();
	is_int(run(DISK, 0xec, 0, 0, 512), READY, "IDENTIFY DEVICE");
	is_int(port_in(SLOT, DISK, P_IS) & 0x23, 2, "by PIO, as the driver is told");
	is_int(g_ram[SATA_FIS(DISK) + 0x20], 0x5f, "and where FIS are");
	is_int(le32_get(g_ram + SATA_LIST(DISK) + 4), 512, "512 bytes came");
	is_int(le32_get(g_ram + FREE_RAM + 200), SIZE / 512, "so many sectors");
	is_int(le16_get(g_ram + FREE_RAM + 152) & 0x100, 0x100, "NCQ");
	is_int(run(DISK, 0xa1, 0, 0, 512), 0x400 | READY | 1, "it is no ATAPI drive");
	ok(port_in(SLOT, DISK, P_IS) & 1u << 30, "an error is told");
	sata_put_command(DISK, 0, 0xec, 0, 0, FREE_RAM, 512);
	sata_issue(SLOT, DISK, 0);
	is_int(port_in(SLOT, DISK, P_CI), 1, "and then nothing goes");
	restart(DISK);
	is_int(run(DISK, 0xec, 0, 0, 512), READY, "until the port is started again");
	is_int(run(DISK, 0xec, 0, 0, 100), READY, "less memory than there are data");
	is_int(le32_get(g_ram + SATA_LIST(DISK) + 4), 100, "gets less");
	stop();
}

static void test_transfers(void)
{
	static const uint8_t reads[] = {0x20, 0x24, 0x25, 0xc8, 0xc4, 0x29};

	start();
	for (unsigned i = 0; i < sizeof(reads); i++) {
		memset(g_ram + FREE_RAM, 0, 4096);
		is_int(run(DISK, reads[i], 17, 3, 3 * 512), READY, "read by %#x", reads[i]);
		is_int(le32_get(g_ram + FREE_RAM + 1024), 19, "the right sectors");
		is_int(le32_get(g_ram + SATA_LIST(DISK) + 4), 3 * 512, "and as many");
	}
	memset(g_ram + FREE_RAM, 0x77, 1024);
	is_int(run(DISK, 0x35, 100, 2, 1024), READY, "written");
	is_int(run(DISK, 0xea, 0, 0, 0), READY, "flushed");
	memset(g_ram + FREE_RAM, 0, 1024);
	is_int(run(DISK, 0x25, 101, 1, 512), READY, "read");
	is_int(g_ram[FREE_RAM + 511], 0x77, "it is there");
	sata_put_command(DISK, 0, 0x25, 0, 3, FREE_RAM, 512);
	sata_put_region(DISK, 0, 1, FREE_RAM + 0x2000, 700);
	sata_put_region(DISK, 0, 2, FREE_RAM + 0x1000, 324);
	le16_put(g_ram + SATA_LIST(DISK) + 2, 3);
	is_int(sata_do(SLOT, DISK, 0), READY, "into three regions");
	is_int(le32_get(g_ram + FREE_RAM + 0x2000), 1, "of whatever length");
	is_int(g_ram[FREE_RAM + 0x1000 + 323], 0xd1, "to the last byte");
	stop();
}

static void test_errors(void)
{
	static const struct {
		uint8_t command;
		uint64_t lba;
		unsigned count, len, status;
		const char *what;
	} cases[] = {
		{0x25, SIZE / 512, 1, 512, 0x1051, "behind the end"},
		{0x25, SIZE / 512 - 1, 2, 1024, 0x1051, "over the end"},
		{0x25, 0xffffffffffff, 1, 512, 0x1051, "far away"},
		{0x25, 0, 2, 512, 0x0451, "more than there is memory for"},
		{0x25, 0, 1, 0, 0x0451, "no memory at all"},
		{0x06, 0, 1, 0, 0x0451, "data set management of nothing"},
		{0xf5, 0, 0, 0, 0x0451, "a command that is none"},
		{0xa0, 0, 0, 0, 0x0451, "a packet for a disk"},
		{0xb0, 0, 0, 0, 0x0451, "SMART without its key"},
	};

	start();
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		is_int(run(DISK, cases[i].command, cases[i].lba, cases[i].count, cases[i].len), cases[i].status, "%s", cases[i].what);
		restart(DISK);
	}
	sata_put_command(DISK, 0, 0x25, 0, 1, RAM_SIZE - 256, 512);
	sata_do(SLOT, DISK, 0);
	ok(port_in(SLOT, DISK, P_IS) & 1u << 29, "memory that is half there stops the port");
	restart(DISK);
	sata_put_command(DISK, 0, 0x25, 0, 1, FREE_RAM, 512);
	le64_put(g_ram + SATA_LIST(DISK) + 8, UINT64_MAX);
	sata_do(SLOT, DISK, 0);
	ok(port_in(SLOT, DISK, P_IS) & 1u << 29, "a table that is nowhere, too");
	restart(DISK);
	port_out(SLOT, DISK, P_CLB + 4, 0x80000000);
	sata_do(SLOT, DISK, 0);
	ok(port_in(SLOT, DISK, P_IS) & 1u << 29, "and a list");
	port_out(SLOT, DISK, P_CLB + 4, 0);
	restart(DISK);
	is_int(run(DISK, 0xec, 0, 0, 512), READY, "after all that it works");
	stop();
}

static void test_queued(void)
{
	start();
	for (unsigned tag = 0; tag < 32; tag++)
		sata_put_queued(DISK, tag, false, tag * 3, 1, FREE_RAM + tag * 512);
	port_out(SLOT, DISK, P_SACT, UINT32_MAX);
	port_out(SLOT, DISK, P_CI, UINT32_MAX);
	while (port_in(SLOT, DISK, P_SACT))
		sched_yield();
	is_int(port_in(SLOT, DISK, P_CI), 0, "32 queued commands end");
	ok(port_in(SLOT, DISK, P_IS) & 8, "which is told");
	is_int(g_ram[SATA_FIS(DISK) + 0x58], 0xa1, "by the FIS for it");
	is_int(le32_get(g_ram + FREE_RAM + 31 * 512), 93, "with their data");
	memset(g_ram + FREE_RAM, 0x55, 512);
	sata_put_queued(DISK, 5, true, 200, 1, FREE_RAM);
	port_out(SLOT, DISK, P_SACT, 1u << 5);
	is_int(sata_do(SLOT, DISK, 5), READY, "a queued write");
	sata_put_queued(DISK, 7, false, SIZE / 512, 1, FREE_RAM);
	port_out(SLOT, DISK, P_SACT, 1u << 7);
	is_int(sata_do(SLOT, DISK, 7), 0x1051, "one that fails");
	is_int(port_in(SLOT, DISK, P_SACT), 1u << 7, "is known by its bit");
	restart(DISK);
	is_int(run(DISK, 0x2f, 0x10, 1, 512), READY, "and by the log");
	is_int(g_ram[FREE_RAM], 7, "which has its tag");
	is_int(g_ram[FREE_RAM + 3], 0x10, "and error");
	run(DISK, 0x2f, 0x10, 1, 512);
	is_int(g_ram[FREE_RAM], 0x80, "once");
	sata_put_queued(DISK, 3, false, 0, 1, FREE_RAM);
	is_int(sata_do(SLOT, DISK, 3), 0x0451, "one whose bit of PxSACT is not there");
	stop();
}

static void test_trim(void)
{
	start();
	run(DISK, 0xec, 0, 0, 512);
	is_int(le16_get(g_ram + FREE_RAM + 338), 1, "it knows trim");
	memset(g_ram + FREE_RAM, 0, 512);
	le64_put(g_ram + FREE_RAM, 64 | UINT64_C(8) << 48);
	le64_put(g_ram + FREE_RAM + 16, 128 | UINT64_C(8) << 48); /* behind one that is empty */
	sata_put_command(DISK, 0, 0x06, 0, 1, FREE_RAM, 512)[3] = 1;
	is_int(sata_do(SLOT, DISK, 0), READY, "two ranges are trimmed");
	run(DISK, 0x25, 128, 1, 512);
	is_int(le64_get(g_ram + FREE_RAM), 0, "and read as zeros");
	memset(g_ram + FREE_RAM, 0, 512);
	le64_put(g_ram + FREE_RAM, (SIZE / 512 - 1) | UINT64_C(8) << 48);
	sata_put_command(DISK, 0, 0x06, 0, 1, FREE_RAM, 512)[3] = 1;
	is_int(sata_do(SLOT, DISK, 0), 0x1051, "one that is not of the disk");
	stop();
}

static void test_soft_reset(void)
{
	start();
	sata_put_command(DISK, 0, 0, 0, 0, 0, 0)[1] = 0;
	g_ram[SATA_TABLE(DISK, 0) + 15] = 4;
	sata_do(SLOT, DISK, 0);
	memset(g_ram + SATA_FIS(DISK), 0, 0x100);
	g_ram[SATA_TABLE(DISK, 0) + 15] = 0;
	is_int(sata_do(SLOT, DISK, 0), 0x100 | READY, "after a reset by the driver");
	is_int(g_ram[SATA_FIS(DISK) + 0x40], 0x34, "the drive says what it is");
	is_int(g_ram[SATA_FIS(DISK) + 0x40 + 12], 1, "by its signature");
	stop();
}

/* -- In the middle of a request -------------------------------------------------------------- */

static void test_link_reset(void)
{
	start();
	hold_disk(disk);
	port_out(SLOT, DISK, P_SCTL, 1);
	port_out(SLOT, DISK, P_CMD, 0x11);
	sata_put_command(DISK, 0, 0x35, 20, 1, FREE_RAM, 512);
	sata_issue(SLOT, DISK, 0);
	port_out(SLOT, DISK, P_SCTL, 0);
	is_int(port_in(SLOT, DISK, P_CI), 1, "a link that comes leaves a slot to the request that is under way");
	port_out(SLOT, DISK, P_CMD, 0x11);
	sata_put_command(DISK, 0, 0x35, 21, 2, FREE_RAM, 1024);
	sata_issue(SLOT, DISK, 0);
	is_int(port_in(SLOT, DISK, P_SSTS), 0, "and is not there until that has ended");
	let_disk_go(disk);
	while (port_in(SLOT, DISK, P_SSTS) != 0x123)
		sched_yield();
	is_int(port_in(SLOT, DISK, P_CI), 0, "then nothing is left of it");
	sata_start(SLOT, DISK);
	is_int(run(DISK, 0x25, 21, 1, 512), READY, "and the port works");
	is_int(le32_get(g_ram + FREE_RAM), 21, "and did nothing of what was said meanwhile");
	stop();
}

/* -- A CD drive ------------------------------------------------------------------------------ */

static uint8_t *packet(uint8_t command, uint32_t len)
{
	memset(g_ram + FREE_RAM, 0, 4096);
	return sata_put_packet(CD, 0, command, FREE_RAM, len);
}

/* Sense key and code, of the last packet. */
static unsigned sense(void)
{
	restart(CD);
	packet(0x03, 18)[4] = 18;
	sata_do(SLOT, CD, 0);
	return (unsigned)g_ram[FREE_RAM + 2] << 16 | g_ram[FREE_RAM + 12] << 8 | g_ram[FREE_RAM + 13];
}

static unsigned is_ready(void)
{
	packet(0x00, 0);
	return sata_do(SLOT, CD, 0) & 1 ? sense() : 0;
}

static void test_cd(void)
{
	uint8_t *c;

	start();
	is_int(run(CD, 0xa1, 0, 0, 512), READY, "IDENTIFY PACKET DEVICE");
	is_int(run(CD, 0xec, 0, 0, 512), 0x451, "it is no disk");
	restart(CD);
	packet(0x12, 36)[4] = 36;
	is_int(sata_do(SLOT, CD, 0), READY, "INQUIRY");
	is_int(le16_get(g_ram + FREE_RAM), 0x8005, "a CD drive");
	is_int(is_ready(), 0, "it is ready");
	packet(0x25, 8);
	sata_do(SLOT, CD, 0);
	is_int(be32_get(g_ram + FREE_RAM), SIZE / 2048 - 1, "so many blocks");
	is_int(be32_get(g_ram + FREE_RAM + 4), 2048, "of 2048 bytes");
	c = packet(0x28, 4096);
	be32_put(c + 2, 7);
	be16_put(c + 7, 2);
	is_int(sata_do(SLOT, CD, 0), READY, "READ (10)");
	is_int(le32_get(g_ram + FREE_RAM + 2048), 32, "the right blocks");
	is_int(le32_get(g_ram + SATA_LIST(CD) + 4), 4096, "and as many");
	c = packet(0xbe, 2048);
	c[5] = 3;
	c[8] = 1;
	c[9] = 0x10;
	is_int(sata_do(SLOT, CD, 0), READY, "READ CD");
	is_int(le32_get(g_ram + FREE_RAM), 12, "the same");
	c = packet(0x43, 20);
	be16_put(c + 7, 20);
	is_int(sata_do(SLOT, CD, 0), READY, "READ TOC");
	is_int(be16_get(g_ram + FREE_RAM), 18, "one track, and its end");
	is_int(be32_get(g_ram + FREE_RAM + 16), SIZE / 2048, "which is there");
	c = packet(0x46, 256);
	be16_put(c + 7, 256);
	is_int(sata_do(SLOT, CD, 0), READY, "GET CONFIGURATION");
	is_int(be16_get(g_ram + FREE_RAM + 6), 8, "it is a CD");
	c = packet(0x28, 2048);
	be32_put(c + 2, SIZE / 2048);
	be16_put(c + 7, 1);
	is_int(sata_do(SLOT, CD, 0), 0x5451, "behind the end");
	is_int(sense(), 0x052100, "and why");
	c = packet(0x2a, 2048);
	be16_put(c + 7, 1);
	is_int(sata_do(SLOT, CD, 0) & 1, 1, "it is not written");
	is_int(sense(), 0x052000, "as that is no command of it");
	stop();
}

static unsigned event(void)
{
	uint8_t *c = packet(0x4a, 8);

	c[1] = 1;
	c[4] = 0x10;
	c[8] = 8;
	sata_do(SLOT, CD, 0);
	return (unsigned)g_ram[FREE_RAM + 4] << 8 | g_ram[FREE_RAM + 5];
}

static void test_media(void)
{
	struct err err = {0};

	start();
	is_int(event(), 0x002, "there is a medium, and no news");
	packet(0x1e, 0)[4] = 1;
	sata_do(SLOT, CD, 0);
	is_int(ahci_change(ahci, CD, other, false, &err), -EBUSY, "a CD that the guest uses stays");
	is_int(event(), 0x102, "and it hears of the wish");
	packet(0x1b, 0)[4] = 2;
	is_int(sata_do(SLOT, CD, 0) & 1, 1, "what it uses it does not eject");
	is_int(sense(), 0x055302, "by a mistake");
	packet(0x1e, 0);
	sata_do(SLOT, CD, 0);
	packet(0x1b, 0)[4] = 2;
	is_int(sata_do(SLOT, CD, 0) & 1, 0, "it can eject it");
	ok(ahci_is_open(ahci, CD), "then the tray is open");
	is_int(is_ready(), 0x023a02, "and nothing in reach");
	is_int(ahci_change(ahci, CD, other, false, &err), 0, "another one is put in");
	is_int(event(), 0x202, "which is news");
	is_int(is_ready(), 0x062800, "told twice");
	is_int(is_ready(), 0, "and once each");
	packet(0x25, 8);
	sata_do(SLOT, CD, 0);
	is_int(be32_get(g_ram + FREE_RAM), 63, "it is the other one");
	is_int(ahci_change(ahci, CD, NULL, false, &err), 0, "it is taken out");
	is_int(is_ready(), 0x023a02, "and is not there");
	packet(0x1b, 0)[4] = 3;
	sata_do(SLOT, CD, 0);
	is_int(is_ready(), 0x023a01, "when the tray is closed, too");
	packet(0x1e, 0)[4] = 1;
	sata_do(SLOT, CD, 0);
	is_int(ahci_change(ahci, CD, cd, false, &err), 0, "an empty drive takes one in any case");
	packet(0x1e, 0)[4] = 1;
	is_ready();
	sata_do(SLOT, CD, 0);
	is_int(ahci_change(ahci, CD, NULL, true, &err), 0, "by force it is taken from a guest that uses it");
	stop();
}

int main(void)
{
	disk = numbered_disk(SIZE / 512, 0xd1, false, le32_put);
	cd = numbered_disk(SIZE / 512, 0xcd, true, le32_put);
	other = numbered_disk(64 * 2048 / 512, 0xce, true, le32_put);
	test_registers();
	test_across();
	test_interrupts();
	test_identify();
	test_transfers();
	test_errors();
	test_queued();
	test_trim();
	test_soft_reset();
	test_link_reset();
	test_cd();
	test_media();
	disk_close(disk);
	disk_close(cd);
	disk_close(other);
	return done_testing();
}
