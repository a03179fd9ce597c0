/* SPDX-License-Identifier: MIT */
/* The virtio SCSI controller, and SCSI commands to disks, from the driver's side, down to a file. */
#include "dev/tests/disk.h"
#include "dev/tests/guest.h"
#include "dev/tests/held.h"
#include "tests/tap.h"

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#define SLOT   1u
#define SIZE   16u
#define BLOCKS 2048u
#define OUT    FREE_RAM
#define IN     (FREE_RAM + 0x1000)
#define DATA   (FREE_RAM + 0x2000)

static struct disk *disk;
static struct device *scsi;

/* A command to a target: response, status and sense, as one number. */
static unsigned ask(uint8_t target, const uint8_t *cdb, size_t cdb_len, uint32_t out, uint32_t in)
{
	uint16_t before = used_idx(2);
	uint8_t *r = g_ram + IN;

	memset(g_ram + OUT, 0, 64);
	memset(r, 0xee, 108);
	g_ram[OUT] = 1;
	g_ram[OUT + 1] = target;
	memcpy(g_ram + OUT + 19, cdb, cdb_len);
	put_desc(2, 0, OUT, 51, F_NEXT, out ? 1 : 2);
	put_desc(2, 1, DATA, out, F_NEXT, 2);
	put_desc(2, 2, IN, 108, F_WRITE | (in ? F_NEXT : 0), 3);
	put_desc(2, 3, DATA, in, F_WRITE, 0);
	offer(2, SIZE, 0);
	kick(SLOT, 2);
	while (used_idx(2) == before)
		sched_yield();
	if (r[11])
		return 0xf000000u | r[11];
	return r[10] ? (unsigned)(r[12 + 2] << 16 | r[12 + 12] << 8 | r[12 + 13]) : 0;
}

#define ASK(out, in, ...) ask(0, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), out, in)

static void test_looking(void)
{
	is_int(ASK(0, 36, 0x12, 0, 0, 0, 36), 0, "INQUIRY");
	is_int(memcmp(g_ram + DATA + 8, "LODGE   DISK", 12), 0, "its name");
	is_int(ASK(0, 64, 0x12, 1, 0x80, 0, 64), 0, "its serial number");
	is_int(memcmp(g_ram + DATA + 4, "LODGE-SCSI-0", 12), 0, "is one");
	is_int(le32_get(g_ram + IN + 4), 64 - 16, "and shorter than there was room");
	is_int(ASK(0, 64, 0x12, 1, 0xb0, 0, 64), 0, "its limits");
	is_int(be32_get(g_ram + DATA + 24), 64, "64 ranges at once");
	is_int(ASK(0, 64, 0x12, 1, 0xee, 0, 64), 0x052400, "a page that is none");
	is_int(ASK(0, 0, 0x00), 0, "TEST UNIT READY");
	is_int(ASK(0, 8, 0x25), 0, "READ CAPACITY");
	is_int(be32_get(g_ram + DATA), BLOCKS - 1, "the last block");
	is_int(ASK(0, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), 0, "READ CAPACITY (16)");
	is_int(be64_get(g_ram + DATA), BLOCKS - 1, "the same");
	is_int(ASK(0, 64, 0x1a, 0, 0x08, 0, 64), 0, "MODE SENSE");
	is_int(g_ram[DATA + 4 + 2] & 4, 4, "a cache for writes");
	is_int(ASK(0, 64, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64), 0, "REPORT LUNS");
	is_int(be32_get(g_ram + DATA), 8, "one");
	is_int(ask(1, (const uint8_t[]){0}, 1, 0, 0), 0xf000003, "a target that is not there");
	is_int(ASK(0, 0, 0xff), 0x052000, "a command that is none");
	is_int(ASK(0, 16, 0x43), 0x052000, "or a CD drive's");
}

static void test_transfers(void)
{
	is_int(ASK(0, 1024, 0x28, 0, 0, 0, 0, 7, 0, 0, 2), 0, "READ (10)");
	is_int(be32_get(g_ram + DATA + 512), 8, "the right blocks");
	is_int(ASK(0, 512, 0x08, 0, 0, 9, 1), 0, "READ (6)");
	is_int(be32_get(g_ram + DATA), 9, "the right one");
	is_int(ASK(0, 512, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 1), 0, "READ (16)");
	is_int(be32_get(g_ram + DATA), 10, "the right one");
	memset(g_ram + DATA, 0x33, 1024);
	is_int(ASK(1024, 0, 0x2a, 8, 0, 0, 0, 100, 0, 0, 2), 0, "WRITE (10), at once");
	is_int(ASK(0, 0, 0x35), 0, "SYNCHRONIZE CACHE");
	memset(g_ram + DATA, 0, 1024);
	is_int(ASK(0, 512, 0xa8, 0, 0, 0, 0, 101, 0, 0, 0, 1), 0, "READ (12)");
	is_int(g_ram[DATA + 511], 0x33, "it is there");
	is_int(ASK(0, 512, 0x28, 0, 0, 0, 8, 0, 0, 0, 1), 0x052100, "behind the end");
	is_int(ASK(0, 512, 0x88, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 2), 0x052100, "far away");
	is_int(ASK(0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 2), 0xf000001, "more than there is memory for");
	is_int(ASK(0, 1024, 0x28, 0, 0, 0, 0, 0, 0, 0, 1), 0, "less");
	is_int(le32_get(g_ram + IN + 4), 512, "is told");
	is_int(ASK(0, 0, 0x28), 0, "nothing at all");
}

static void test_unmap(void)
{
	memset(g_ram + DATA, 0, 64);
	be16_put(g_ram + DATA, 38);
	be16_put(g_ram + DATA + 2, 32);
	be64_put(g_ram + DATA + 8, 256);
	be32_put(g_ram + DATA + 16, 8);
	be64_put(g_ram + DATA + 24, 512);
	be32_put(g_ram + DATA + 32, 8);
	is_int(ASK(40, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 40), 0, "UNMAP of two ranges");
	ASK(0, 512, 0x28, 0, 0, 0, 2, 0, 0, 0, 1);
	is_int(be64_get(g_ram + DATA), 0, "which read as zeros");
	memset(g_ram + DATA, 0, 64);
	be16_put(g_ram + DATA + 2, 16);
	be64_put(g_ram + DATA + 8, BLOCKS - 1);
	be32_put(g_ram + DATA + 16, 8);
	is_int(ASK(24, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 24), 0x052100, "one that is not of the disk");
	is_int(ASK(24, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 16), 0x052400, "more than was sent");
	be16_put(g_ram + DATA + 2, 0xfff0);
	is_int(ASK(24, 0, 0x42, 0, 0, 0, 0, 0, 0, 0xff, 0xff), 0x052400, "too many");
	memset(g_ram + DATA, 0, 512);
	is_int(ASK(512, 0, 0x41, 0, 0, 0, 0, 50, 0, 0, 8), 0, "WRITE SAME of zeros");
	ASK(0, 512, 0x28, 0, 0, 0, 0, 57, 0, 0, 1);
	is_int(be32_get(g_ram + DATA), 0, "which are there");
	g_ram[DATA + 5] = 1;
	is_int(ASK(512, 0, 0x41, 0, 0, 0, 0, 50, 0, 0, 8), 0x052400, "and of nothing else");
}

static void test_queues(void)
{
	uint16_t before = used_idx(0);

	memset(g_ram + OUT, 0, 64);
	put_desc(0, 0, OUT, 24, F_NEXT, 1);
	put_desc(0, 1, IN, 1, F_WRITE, 0);
	offer(0, SIZE, 0);
	kick(SLOT, 0);
	is_int(used_idx(0), before + 1, "task management is answered");
	is_int(g_ram[IN], 11, "by a rejection");
	put_desc(2, 0, OUT, 51, F_NEXT, 1);
	put_desc(2, 1, IN, 20, F_WRITE, 0);
	offer(2, SIZE, 0);
	kick(SLOT, 2);
	is_int(bar_in(SLOT, 0, STATUS, 1) & 0x40, 0x40, "a request without room for its answer is a lie");
	ok(drive(SLOT, 0, 3, SIZE), "a driver again");
	is_int(ASK(0, 0, 0x00), 0, "is served");
}

/* -- While no request is free ------------------------------------------------------------ */

#define MANY 128u /* requests, and entries of a queue */

/* A queue of MANY has more room between its rings than the others here. */
static void set_large_queue(void)
{
	memset(g_ram + 0x20000, 0, 0x3000);
	bar_out(SLOT, 0, 0x16, 2, 2);
	bar_out(SLOT, 0, 0x18, 2, MANY);
	bar_out(SLOT, 0, 0x20, 8, 0x20000);
	bar_out(SLOT, 0, 0x28, 8, 0x21000);
	bar_out(SLOT, 0, 0x30, 8, 0x22000);
	bar_out(SLOT, 0, 0x1c, 2, 1);
}

static void test_full(void)
{
	uint16_t before;

	ok(drive(SLOT, 0, 2, SIZE), "a driver with a queue of %u", MANY);
	set_large_queue();
	hold_disk(disk);
	memset(g_ram + OUT, 0, 64);
	g_ram[OUT] = 1;
	g_ram[OUT + 19] = 0x35; /* SYNCHRONIZE CACHE */
	put_desc_at(0x20000, OUT, 51, F_NEXT, 1);
	put_desc_at(0x20010, IN, 108, F_WRITE, 0);
	le16_put(g_ram + 0x21002, MANY);
	kick(SLOT, 2);
	is_int(le16_get(g_ram + 0x22002), 0, "all requests are under way");
	before = used_idx(0);
	memset(g_ram + OUT, 0, 64);
	put_desc(0, 0, OUT, 24, F_NEXT, 1);
	put_desc(0, 1, DATA, 1, F_WRITE, 0);
	offer(0, SIZE, 0);
	kick(SLOT, 0);
	is_int(used_idx(0), before + 1, "task management is answered all the same");
	let_disk_go(disk);
	while (__atomic_load_n((uint16_t *)(void *)(g_ram + 0x22002), __ATOMIC_SEQ_CST) != MANY)
		sched_yield();
	ok(drive(SLOT, 0, 3, SIZE), "a driver of few again");
	is_int(ASK(0, 0, 0x00), 0, "is served");
}

int main(void)
{
	disk = numbered_disk(BLOCKS, 0xd1, false, be32_put);
	g_start();
	scsi = device_create(&virtio_scsi_model, g_bus, NULL, &(struct virtio_scsi_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT}, .disks = {disk}, .n = 1}, NULL);
	device_reset(g_host);
	ok(drive(SLOT, 0, 3, SIZE), "a driver");
	test_looking();
	test_transfers();
	test_unmap();
	test_queues();
	test_full();
	device_destroy(scsi);
	g_stop();
	disk_close(disk);
	return done_testing();
}
