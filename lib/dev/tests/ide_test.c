/* SPDX-License-Identifier: MIT */
/*
 * An IDE controller, from its driver's side: who is at a cable, sectors by the data register and by DMA, in each of the ways in which they are
 * addressed; interrupts; errors; a CD drive; and resets in the middle of requests.
 */
#include "dev/tests/disk.h"
#include "dev/tests/held.h"
#include "dev/tests/ide.h"
#include "tests/tap.h"

#include <errno.h>

enum { DISK, CD }; /* the first two drives; at the second cable a CD drive without a CD is the second */

#define SIZE  (512u * 1024)
#define READY 0x50u
#define DRQ   0x58u

static struct disk *disk, *cd, *other;
static struct device *ide;
static uint8_t bytes[65536];

static void start(void)
{
	g_start();
	memset(g_ram, 0, sizeof(g_ram));
	ide = ide_make((struct ide_drive[IDE_DRIVES]){{.disk = disk}, {.is_cd = true, .disk = cd}, {.disk = NULL}, {.is_cd = true}});
	device_reset(g_host);
	ide_start();
}

static void stop(void)
{
	device_destroy(ide);
	g_stop();
}

/* The number that a sector of the disk begins with. */
static uint32_t number(const uint8_t *at)
{
	return le32_get(at);
}

static unsigned command(unsigned cable, uint8_t code)
{
	ide_put(cable, 7, code);
	return ide_wait(cable);
}

/* -- Who is there -------------------------------------------------------------------------- */

static void test_presence(void)
{
	start();
	is_int(cfg_read(IDE_SLOT, 0, 4), 0x70108086, "a PIIX3");
	is_int(cfg_read(IDE_SLOT, 8, 4) >> 8, 0x010180, "with the ports of a PC");
	is_int(cfg_read(IDE_SLOT, 0x40, 4), 0x80008000, "which are there");
	is_int(ide_get(0, 7), READY, "a disk is ready");
	is_int(ide_get(0, 4) | ide_get(0, 5) << 8, 0, "with its signature");
	ide_put(0, 6, 0xb0);
	is_int(ide_get(0, 6), 0xb0, "the second drive is selected");
	is_int(ide_get(0, 4) | ide_get(0, 5) << 8, 0xeb14, "and is ATAPI");
	ide_put(1, 6, 0xa0);
	ide_put(1, 2, 0x55);
	is_int(ide_get(1, 2), 0, "a drive that is not there keeps nothing");
	is_int(ide_get(1, 7), 0, "and is never ready");
	ide_put(0, 2, 0x12);
	ide_put(0, 2, 0x34);
	ide_control(0, 0x80);
	is_int(ide_get(0, 2), 0x12, "a register has an upper byte");
	ide_put(0, 3, 1);
	is_int(ide_get(0, 2), 0x34, "until the next is written");
	stop();
}

static void test_identify(void)
{
	start();
	ide_task(0, 0, 0, 0);
	is_int(command(0, 0xec), DRQ, "IDENTIFY DEVICE");
	ide_in(0, bytes, 512);
	is_int(ide_get(0, 7), READY, "is over when it is read");
	is_int(le32_get(bytes + 120), SIZE / 512, "so many sectors");
	is_int(le16_get(bytes + 6) << 16 | le16_get(bytes + 12), 16 << 16 | 63, "heads and sectors");
	is_int(le16_get(bytes + 152), 0, "it is no SATA disk");
	is_int(le16_get(bytes + 186), 0x600b, "but the first at a cable");
	ok(!memcmp(bytes + 54, "OLGD EIDKS", 10), "with a name");
	ide_task(0, 1, 0, 0);
	is_int(command(0, 0xa1), DRQ, "IDENTIFY PACKET DEVICE");
	ide_in(0, bytes, 512);
	is_int(le16_get(bytes), 0x85c0, "a CD drive");
	is_int(command(0, 0xec) & 1, 1, "which is no disk");
	is_int(ide_get(0, 4) | ide_get(0, 5) << 8, 0xeb14, "says its signature");
	ide_task(1, 0, 0, 0);
	ide_put(1, 7, 0xec);
	is_int(ide_get(1, 7), 0, "nobody answers for a drive that is not there");
	stop();
}

/* -- The data register ---------------------------------------------------------------------- */

static void test_reading(void)
{
	start();
	ide_task(0, 0, 5, 3);
	for (unsigned i = 0; i < 3; i++) {
		is_int(i ? ide_wait(0) : command(0, 0x20), DRQ, "READ SECTORS, sector %u", i);
		ide_in(0, bytes, 512);
		is_int(number(bytes), 5 + i, "it is the right one");
	}
	is_int(ide_get(0, 7), READY, "and then it is over");
	is_int(bus_read(g_bus, BUS_PORT, 0x1f0, 2), 0, "there is no more");
	ide_task(0, 0, 9, 1);
	command(0, 0x20);
	is_int(bus_read(g_bus, BUS_PORT, 0x1f0, 4), 9, "two words at once");
	ide_in(0, bytes, 508);
	is_int(ide_get(0, 7), READY, "count as two");
	ide_put(0, 2, 4);
	is_int(command(0, 0xc6), READY, "SET MULTIPLE MODE");
	ide_task(0, 0, 100, 6);
	is_int(command(0, 0xc4), DRQ, "READ MULTIPLE");
	ide_in(0, bytes, 2048);
	is_int(ide_wait(0), DRQ, "four sectors, and there are more");
	ide_in(0, bytes + 2048, 1024);
	is_int(ide_get(0, 7), READY, "two more, and there are none");
	is_int(number(bytes + 5 * 512), 105, "all of them");
	ide_put(0, 2, 0);
	command(0, 0xc6);
	ide_task(0, 0, 0, 1);
	is_int(command(0, 0xc4), READY | 1, "without a multiple there is no READ MULTIPLE");
	is_int(ide_get(0, 1), 4, "it is aborted");
	ide_task_48(0, 0, 700, 0x101);
	command(0, 0x24);
	for (unsigned i = 0; i < 0x100; i++) {
		ide_in(0, bytes, 512);
		ide_wait(0);
	}
	is_int(number(bytes), 700 + 0xff, "READ SECTORS EXT counts by 16 bits");
	is_int(ide_alternate(0), DRQ, "and has one more");
	stop();
}

static void test_cylinders(void)
{
	start();
	ide_task(0, 0, 3, 1); /* cylinder 0, sector 3 */
	ide_put(0, 6, 0xa2);
	is_int(command(0, 0x20), DRQ, "by cylinder, head and sector");
	ide_in(0, bytes, 512);
	is_int(number(bytes), 2 * 63 + 2, "it is the right one");
	ide_task(0, 0, 0, 17);
	ide_put(0, 6, 0xa3); /* four heads */
	is_int(command(0, 0x91), READY, "INITIALIZE DEVICE PARAMETERS");
	ide_task(0, 0, 5 | 2 << 8, 1);
	ide_put(0, 6, 0xa1);
	command(0, 0x20);
	ide_in(0, bytes, 512);
	is_int(number(bytes), (2 * 4 + 1) * 17 + 4, "counted otherwise");
	command(0, 0xec);
	ide_in(0, bytes, 512);
	is_int(le16_get(bytes + 110) << 16 | le16_get(bytes + 112), 4 << 16 | 17, "which IDENTIFY tells");
	ide_task(0, 0, 0 | 2 << 8, 1);
	ide_put(0, 6, 0xa1);
	is_int(command(0, 0x20), READY | 1, "there is no sector 0");
	ide_task(0, 0, 1, 1);
	ide_put(0, 6, 0xa4);
	is_int(command(0, 0x20), READY | 1, "nor a fifth head");
	ide_task(0, 0, 0, 0);
	is_int(command(0, 0x91), READY | 1, "a track has sectors");
	stop();
}

static void put_sector(uint32_t lba, uint8_t fill)
{
	memset(bytes, fill, 512);
	le32_put(bytes, lba);
}

static void test_writing(void)
{
	start();
	ide_task(0, 0, 20, 2);
	ide_put(0, 7, 0x30);
	is_int(ide_alternate(0), DRQ, "WRITE SECTORS wants data");
	ok(!ide_line[0], "and does not interrupt for the first");
	put_sector(20, 0xaa);
	ide_out(0, bytes, 512);
	while (ide_alternate(0) & 0x80)
		sched_yield();
	ok(ide_line[0], "but for the second");
	is_int(ide_get(0, 7), DRQ, "which it wants");
	ok(!ide_line[0], "reading the status takes the interrupt away");
	put_sector(21, 0xab);
	ide_out(0, bytes, 512);
	is_int(ide_wait(0), READY, "all is written");
	ide_task(0, 0, 20, 2);
	command(0, 0x20);
	ide_in(0, bytes, 512);
	ide_wait(0);
	ide_in(0, bytes + 512, 512);
	is_int(bytes[511] << 8 | bytes[1023], 0xaaab, "and is there");
	put_sector(20, 0xd1);
	ide_task(0, 0, 20, 1);
	command(0, 0x30);
	ide_out(0, bytes, 512);
	ide_wait(0);
	is_int(command(0, 0xe7), READY, "FLUSH CACHE");
	ide_task(0, 0, 30, 1);
	command(0, 0x30);
	ide_out(0, bytes, 100);
	is_int(command(0, 0xe5), READY, "another command in the middle of data");
	ide_task(0, 0, 30, 1);
	command(0, 0x20);
	ide_in(0, bytes, 512);
	is_int(number(bytes), 30, "and what was not whole is not written");
	stop();
}

/* -- Errors and interrupts --------------------------------------------------------------------- */

static void test_errors(void)
{
	start();
	ide_task(0, 0, SIZE / 512, 1);
	is_int(command(0, 0x20), READY | 1, "behind the end");
	is_int(ide_get(0, 1), 0x10, "there is no such sector");
	ide_task(0, 0, SIZE / 512 - 1, 2);
	is_int(command(0, 0x20), READY | 1, "across it");
	ide_task(0, 0, 0, 1);
	is_int(command(0, 0xff), READY | 1, "a command that is none");
	is_int(command(0, 0x60), READY | 1, "a queued one");
	is_int(command(0, 0xec), DRQ, "and then one that is");
	is_int(ide_get(0, 1), 0, "without an error");
	stop();
}

static void test_interrupts(void)
{
	start();
	ide_task(0, 0, 0, 1);
	ide_put(0, 7, 0xe5);
	ok(ide_line[0], "a command that has ended interrupts");
	is_int(ide_bm_status(0) & 4, 4, "and the bus master has seen it");
	ide_alternate(0);
	ok(ide_line[0], "the alternate status takes nothing away");
	ide_put(0, 6, 0xf0);
	ok(!ide_line[0], "the other drive wants none");
	ide_put(0, 6, 0xe0);
	ok(ide_line[0], "but this one");
	ide_get(0, 7);
	ok(!ide_line[0], "the status does");
	bus_write(g_bus, BUS_PORT, ide_bm(0, 2), 1, 4);
	is_int(ide_bm_status(0) & 4, 0, "what the bus master has seen is the driver's to forget");
	ide_control(0, 2);
	ide_put(0, 7, 0xe5);
	ok(!ide_line[0], "with interrupts off there is none");
	ide_control(0, 0);
	ok(ide_line[0], "until they are on");
	ok(!ide_line[1], "the other cable has its own");
	stop();
}

/* -- DMA -------------------------------------------------------------------------------------- */

static void test_dma(void)
{
	start();
	ide_entry(0, 0, FREE_RAM, 512, false);
	ide_entry(0, 1, FREE_RAM + 0x1000, 1536, true);
	ide_task(0, 0, 40, 4);
	ide_put(0, 7, 0xc8);
	is_int(ide_alternate(0), DRQ, "READ DMA waits for the bus master");
	ide_dma(0, true);
	is_int(ide_wait(0), READY, "and is done");
	is_int(ide_bm_status(0) & 7, 4, "so is that");
	is_int(number(g_ram + FREE_RAM), 40, "here is the first sector");
	is_int(number(g_ram + FREE_RAM + 0x1000), 41, "and there the second");
	is_int(number(g_ram + FREE_RAM + 0x1400), 43, "and the last");
	ide_stop(0);
	memset(g_ram + FREE_RAM, 0x77, 2048);
	ide_entry(0, 0, FREE_RAM, 2048, true);
	ide_dma(0, false);
	ide_task_48(0, 0, 44, 1);
	is_int(command(0, 0x35), READY, "WRITE DMA EXT, with the bus master started before");
	is_int(ide_bm_status(0) & 7, 5, "which has memory left");
	ide_stop(0);
	is_int(ide_bm_status(0) & 1, 0, "and is stopped");
	ide_task(0, 0, 44, 1);
	command(0, 0x20);
	ide_in(0, bytes, 512);
	is_int(bytes[7], 0x77, "it is written");
	put_sector(44, 0xd1);
	ide_task(0, 0, 44, 1);
	command(0, 0x30);
	ide_out(0, bytes, 512);
	ide_wait(0);
	stop();
}

static void test_bad_tables(void)
{
	static const struct {
		uint32_t at, table;
		unsigned len;
		const char *name;
	} cases[] = {
		{FREE_RAM, IDE_TABLE(0), 256, "a table that is too short"},
		{RAM_SIZE - 256, IDE_TABLE(0), 512, "one with memory that ends"},
		{0xfffffffe, IDE_TABLE(0), 0, "one with none"},
		{FREE_RAM, RAM_SIZE - 4, 512, "one that is no memory itself"},
		{FREE_RAM, 0xfffffffc, 512, "nor could be"},
	};

	start();
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ide_entry(0, 0, cases[i].at, cases[i].len, true);
		ide_task(0, 0, 0, 1);
		ide_put(0, 7, 0xc8);
		bus_write(g_bus, BUS_PORT, ide_bm(0, 4), 4, cases[i].table);
		bus_write(g_bus, BUS_PORT, ide_bm(0, 2), 1, 6);
		bus_write(g_bus, BUS_PORT, ide_bm(0, 0), 1, 9);
		is_int(ide_wait(0), READY | 1, "%s ends the command", cases[i].name);
		is_int(ide_bm_status(0) & 7, 6, "with an error, of the bus master, too");
		ide_stop(0);
	}
	stop();
}

static void test_trim(void)
{
	start();
	memset(g_ram + FREE_RAM, 0, 512);
	le64_put(g_ram + FREE_RAM, 256 | UINT64_C(8) << 48);
	ide_entry(0, 0, FREE_RAM, 512, true);
	ide_task_48(0, 0, 0, 1);
	ide_put(0, 1, 0); /* twice: its upper byte, too */
	ide_put(0, 1, 1);
	ide_dma(0, false);
	is_int(command(0, 0x06), READY, "a range is trimmed");
	ide_stop(0);
	ide_task(0, 0, 263, 1);
	command(0, 0x20);
	ide_in(0, bytes, 512);
	is_int(number(bytes), 0, "and reads as zeros");
	stop();
}

/* -- Resets ------------------------------------------------------------------------------------- */

static void test_resets(void)
{
	start();
	ide_task(0, 1, 0, 1);
	ide_control(0, 4);
	is_int(ide_get(0, 7), 0x80, "a reset is held");
	ide_put(0, 7, 0xec);
	ide_control(0, 0);
	is_int(ide_get(0, 7), READY, "and let go");
	is_int(ide_get(0, 2) | ide_get(0, 3) << 8 | ide_get(0, 1) << 16, 0x010101, "drives say who they are");
	is_int(ide_get(0, 6), 0, "the first is selected");
	ok(!ide_line[0], "without an interrupt");
	hold_disk(disk);
	ide_task(0, 0, 50, 1);
	memset(g_ram + FREE_RAM, 0xee, 512);
	ide_entry(0, 0, FREE_RAM, 512, true);
	ide_put(0, 7, 0xca);
	ide_dma(0, false);
	is_int(ide_get(0, 7), 0x80, "a disk is busy");
	ide_put(0, 2, 9);
	ide_stop(0);
	is_int(ide_bm_status(0) & 1, 1, "the bus master, too, though it is stopped");
	ide_control(0, 4);
	ide_control(0, 0);
	is_int(ide_get(0, 7), 0x80, "a reset waits for it");
	let_disk_go(disk);
	is_int(ide_wait(0), READY, "and comes");
	is_int(ide_get(0, 2), 1, "with all of its registers");
	put_sector(50, 0xd1);
	ide_task(0, 0, 50, 1);
	ide_put(0, 7, 0x30);
	ide_out(0, bytes, 512);
	is_int(ide_wait(0), READY, "the disk works");
	ide_put(0, 6, 0xf0);
	ide_put(0, 7, 0x90);
	is_int(ide_get(0, 1), 1, "EXECUTE DEVICE DIAGNOSTIC");
	ok(ide_line[0], "interrupts");
	stop();
}

/* -- A CD drive ----------------------------------------------------------------------------------- */

static uint8_t cdb[12];

static uint8_t *packet(uint8_t code)
{
	memset(cdb, 0, sizeof(cdb));
	cdb[0] = code;
	return cdb;
}

/* Sends it: the status then. */
static unsigned send_packet(unsigned cable, unsigned limit, bool dma)
{
	ide_put(cable, 6, 0xb0);
	ide_put(cable, 1, dma);
	ide_put(cable, 4, limit & 0xff);
	ide_put(cable, 5, limit >> 8);
	ide_put(cable, 7, 0xa0);
	if (ide_alternate(cable) != DRQ || ide_get(cable, 2) != 1 || ide_line[cable])
		return 0;
	ide_out(cable, cdb, 12);
	return ide_wait(cable);
}

static unsigned sense(unsigned cable)
{
	packet(0x03)[4] = 18;
	if (send_packet(cable, 18, false) != DRQ)
		return 0xffff;
	ide_in(cable, bytes, 18);
	ide_wait(cable);
	return (unsigned)bytes[2] << 16 | bytes[12] << 8 | bytes[13];
}

static void test_cd(void)
{
	uint8_t *c;

	start();
	packet(0x00);
	is_int(send_packet(0, 0, false), READY, "TEST UNIT READY");
	is_int(ide_get(0, 2), 3, "has ended");
	packet(0x12)[4] = 5;
	is_int(send_packet(0, 100, false), DRQ, "INQUIRY has data");
	is_int(ide_get(0, 4), 5, "five bytes");
	is_int(ide_get(0, 2), 2, "to be read");
	ide_in(0, bytes, 6);
	is_int(ide_wait(0), READY, "which are three words");
	is_int(le16_get(bytes), 0x8005, "of a CD drive");
	c = packet(0x28);
	be32_put(c + 2, 7);
	be16_put(c + 7, 6);
	is_int(send_packet(0, 3000, false), DRQ, "READ (10)");
	for (unsigned at = 0; at < 6 * 2048;) {
		unsigned len = ide_get(0, 4) | ide_get(0, 5) << 8;

		if (!len || len > 3000 || ide_alternate(0) != DRQ)
			break;
		ide_in(0, bytes + at, len);
		at += len;
		ide_wait(0);
	}
	is_int(ide_alternate(0), READY, "comes in pieces as large as was said");
	is_int(number(bytes), 28, "from the first block");
	is_int(number(bytes + 5 * 2048), 48, "to the last");
	ide_entry(0, 0, FREE_RAM, 6 * 2048, true);
	ide_dma(0, true);
	is_int(send_packet(0, 0, true), READY, "the same by DMA");
	is_int(ide_bm_status(0) & 7, 4, "which is done");
	ok(!memcmp(g_ram + FREE_RAM, bytes, 6 * 2048), "and the same");
	ide_stop(0);
	be32_put(c + 2, SIZE / 2048);
	is_int(send_packet(0, 2048, false), READY | 1, "behind the end");
	is_int(ide_get(0, 1), 0x54, "for a reason");
	is_int(sense(0), 0x052100, "which is told");
	packet(0x25);
	is_int(send_packet(1, 8, false), READY | 1, "an empty drive");
	is_int(sense(1), 0x023a01, "is one");
	packet(0x28);
	ide_put(0, 6, 0xb0);
	ide_put(0, 7, 0xa0);
	ide_out(0, cdb, 6);
	ide_put(0, 7, 0x08);
	is_int(ide_get(0, 5), 0xeb, "DEVICE RESET in the middle of a command");
	packet(0x00);
	is_int(send_packet(0, 0, false), READY, "ends it");
	stop();
}

static void test_media(void)
{
	uint8_t *c;

	start();
	packet(0x1e)[4] = 1;
	send_packet(0, 0, false);
	ok(ide_is_locked(ide, CD), "a drive that is locked is known as one");
	is_int(ide_change(ide, CD, other, false, NULL), -EBUSY, "a CD that the guest uses stays");
	is_int(ide_change(ide, CD, other, true, NULL), 0, "but by force");
	packet(0x00);
	is_int(send_packet(0, 0, false), READY | 1, "which it hears of");
	is_int(sense(0), 0x062800, "it is another one");
	c = packet(0x28);
	be16_put(c + 7, 8);
	is_int(send_packet(0, 2048, false), DRQ, "it reads that");
	is_int(ide_change(ide, CD, NULL, true, NULL), 0, "which is taken out in the middle");
	for (unsigned i = 0; i < 4; i++) {
		ide_in(0, bytes, 2048);
		ide_wait(0);
	}
	is_int(ide_alternate(0), READY | 1, "so that it ends");
	ok(ide_is_open(ide, CD), "with the tray open");
	hold_disk(disk);
	ide_task(0, 0, 50, 1);
	ide_put(0, 7, 0x30);
	ide_out(0, bytes, 512);
	is_int(ide_get(0, 7), 0x80, "while the other drive is busy");
	is_int(ide_change(ide, CD, cd, false, NULL), 0, "a CD is put in");
	let_disk_go(disk);
	is_int(ide_wait(0), READY, "and that goes on");
	stop();
}

int main(void)
{
	disk = numbered_disk(SIZE / 512, 0xd1, false, le32_put);
	cd = numbered_disk(SIZE / 512, 0xcd, true, le32_put);
	other = numbered_disk(64 * 2048 / 512, 0xce, true, le32_put);
	test_presence();
	test_identify();
	test_reading();
	test_cylinders();
	test_writing();
	test_errors();
	test_interrupts();
	test_dma();
	test_bad_tables();
	test_trim();
	test_resets();
	test_cd();
	test_media();
	disk_close(disk);
	disk_close(cd);
	disk_close(other);
	return done_testing();
}
