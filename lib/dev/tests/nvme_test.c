/* SPDX-License-Identifier: MIT */
/* The NVMe controller from the driver's side: registers and queues in guest RAM, down to a file. What drivers do, and what they must not. */
#include "dev/storage/nvme.h"
#include "dev/tests/disk.h"
#include "dev/tests/nvme.h"
#include "state/state.h"
#include "tests/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define SLOT   1u
#define BLOCKS 4096u

static struct disk *disk;
static struct device *nvme;

static void start(void)
{
	g_start();
	memset(g_ram, 0, sizeof(g_ram));
	nvme = device_create(&nvme_model, g_bus, NULL, &(struct nvme_config){
		.host = g_host, .mem = &g_mem, .slot = SLOT, .disk = disk}, NULL);
	device_reset(g_host);
	nvme_start(SLOT);
}

static void stop(void)
{
	device_destroy(nvme);
	g_stop();
}

static unsigned io(uint8_t code, uint64_t at, uint64_t lba, uint32_t blocks)
{
	nvme_put(1, code, 1, at, lba, blocks - 1);
	nvme_ring(SLOT, 1);
	return nvme_wait(SLOT, 1);
}

static void test_registers(void)
{
	start();
	is_int(cfg_read(SLOT, 8, 4) >> 8, 0x010802, "NVMe");
	is_int((uint32_t)bar_in(SLOT, 0, 8, 4), 0x10400, "version 1.4");
	is_int((uint32_t)bar_in(SLOT, 0, 0, 4) & 0xffff, 1023, "queues of 1024");
	is_int((uint32_t)bar_in(SLOT, 0, 0x1c, 4), 1, "it is ready");
	bar_out(SLOT, 0, 0x14, 4, 0x00464001);
	is_int((uint32_t)bar_in(SLOT, 0, 0x1c, 4), 9, "it shuts down");
	bar_out(SLOT, 0, 0x14, 4, 0);
	is_int((uint32_t)bar_in(SLOT, 0, 0x1c, 4), 0, "and is off");
	bar_out(SLOT, 0, 0x24, 4, 0);
	bar_out(SLOT, 0, 0x14, 4, 1);
	is_int((uint32_t)bar_in(SLOT, 0, 0x1c, 4), 2, "an admin queue of one entry is fatal");
	nvme_start(SLOT);
	bar_out(SLOT, 0, 0x14, 4, 0);
	bar_out(SLOT, 0, 0x28, 8, UINT64_C(1) << 40);
	bar_out(SLOT, 0, 0x14, 4, 1);
	nvme_ring(SLOT, 0);
	nvme_queues[0].tail = 1;
	nvme_ring(SLOT, 0);
	is_int((uint32_t)bar_in(SLOT, 0, 0x1c, 4), 3, "so is one that is nowhere, when it is used");
	nvme_start(SLOT);
	is_int(nvme_admin_do(SLOT, 0x06, FREE_RAM, 1, 0), 0, "and after a reset it works");
	stop();
}

static void test_admin(void)
{
	uint32_t result;

	start();
	is_int(nvme_admin_do(SLOT, 0x06, FREE_RAM, 1, 0), 0, "who it is");
	is_int(memcmp(g_ram + FREE_RAM + 24, "LODGE DISK ", 11), 0, "by name");
	le32_put(nvme_put(0, 0x06, 1, FREE_RAM, 0, 0) + 40, 0);
	nvme_ring(SLOT, 0);
	is_int(nvme_wait(SLOT, 0), 0, "its namespace");
	is_int(le64_get(g_ram + FREE_RAM), BLOCKS, "has so many blocks");
	is_int(nvme_admin_do(SLOT, 0x06, FREE_RAM, 2, 0), 0, "which there are");
	is_int(le32_get(g_ram + FREE_RAM), 1, "one");
	is_int(nvme_admin_do(SLOT, 0x06, FREE_RAM, 0x77, 0), 0x02, "what it does not know");
	le32_put(nvme_put(0, 0x09, 0, 0, 0, 0) + 40, 7);
	nvme_ring(SLOT, 0);
	is_int(nvme_wait_result(SLOT, 0, &result), 0, "how many queues");
	is_int(result, 15 << 16 | 15, "16");
	is_int(nvme_admin_do(SLOT, 0x09, 0, 6, 0), 0, "the cache is switched off");
	le32_put(nvme_put(0, 0x0a, 0, 0, 0, 0) + 40, 6);
	nvme_ring(SLOT, 0);
	nvme_wait_result(SLOT, 0, &result);
	is_int(result, 0, "and is off");
	is_int(nvme_admin_do(SLOT, 0x0a, 0, 0x42, 0), 0x02, "a feature that is none");
	is_int(nvme_admin_do(SLOT, 0x02, FREE_RAM, 127 << 16 | 2, 0), 0, "its health");
	is_int(g_ram[FREE_RAM + 3], 100, "is good");
	is_int(nvme_admin_do(SLOT, 0x02, FREE_RAM, 127 << 16 | 0x70, 0), 0x109, "a log that is none");
	is_int(nvme_admin_do(SLOT, 0x7f, 0, 0, 0), 0x01, "a command that is none");
	for (unsigned i = 0; i < 4; i++)
		nvme_put(0, 0x0c, 0, 0, 0, 0);
	nvme_ring(SLOT, 0);
	is_int(nvme_admin_do(SLOT, 0x0c, 0, 0, 0), 0x105, "five that wait for events are too many");
	stop();
}

static void test_queues(void)
{
	start();
	is_int(nvme_admin_do(SLOT, 0x01, NVME_SQ(1), 15 << 16 | 1, 1 << 16 | 1), 0x100, "a queue without one for its completions");
	is_int(nvme_make_queues(SLOT, 1, 16), 0, "queues are made");
	is_int(nvme_make_queues(SLOT, 1, 16), 0x101, "once");
	is_int(nvme_admin_do(SLOT, 0x05, NVME_CQ(2), 15 << 16 | 17, 3), 0x101, "a number that is too large");
	is_int(nvme_admin_do(SLOT, 0x05, NVME_CQ(2), 2, 3), 0x102, "a size that is too small");
	is_int(nvme_admin_do(SLOT, 0x05, NVME_CQ(2), 0xffffu << 16 | 2, 3), 0x102, "and too large");
	is_int(nvme_admin_do(SLOT, 0x05, NVME_CQ(2) + 8, 15 << 16 | 2, 3), 0x02, "a place between pages");
	is_int(nvme_admin_do(SLOT, 0x05, NVME_CQ(2), 15 << 16 | 2, 99u << 16 | 3), 0x108, "a vector that is none");
	is_int(nvme_admin_do(SLOT, 0x04, 0, 1, 0), 0x10c, "one that is used stays");
	is_int(nvme_admin_do(SLOT, 0x00, 0, 1, 0), 0, "first the one for commands");
	is_int(nvme_admin_do(SLOT, 0x04, 0, 1, 0), 0, "then the other one");
	is_int(nvme_admin_do(SLOT, 0x00, 0, 0, 0), 0x101, "the admin queue stays");
	is_int(nvme_make_queues(SLOT, 16, 4), 0, "the last one is made");
	stop();
}

static void test_io(void)
{
	start();
	nvme_make_queues(SLOT, 1, 16);
	is_int(io(2, FREE_RAM, 7, 1), 0, "a block is read");
	is_int(le32_get(g_ram + FREE_RAM), 7, "the right one");
	is_int(io(2, FREE_RAM + 4, 8, 1), 0, "to any word");
	is_int(le32_get(g_ram + FREE_RAM + 4), 8, "of memory");
	memset(g_ram + FREE_RAM, 0x55, 4096);
	is_int(io(1, FREE_RAM, 100, 8), 0, "a page is written");
	is_int(io(0, 0, 0, 1), 0, "and flushed");
	memset(g_ram + FREE_RAM, 0, 4096);
	is_int(io(2, FREE_RAM, 107, 1), 0, "it is read");
	is_int(g_ram[FREE_RAM + 511], 0x55, "and there");
	nvme_put(1, 2, 1, FREE_RAM + 2048, 200, 7);
	le64_put(g_ram + NVME_SQ(1) + (nvme_queues[1].tail - 1u) * 64 + 32, FREE_RAM + 0x3000);
	nvme_ring(SLOT, 1);
	is_int(nvme_wait(SLOT, 1), 0, "over two pages");
	is_int(le32_get(g_ram + FREE_RAM + 0x3000), 204, "wherever they are");
	for (unsigned i = 0; i < 3; i++)
		le64_put(g_ram + FREE_RAM + 0x8000 + i * 8, FREE_RAM + 0x4000 - i * 0x1000);
	le64_put(nvme_put(1, 2, 1, FREE_RAM + 0x5000, 300, 31) + 32, FREE_RAM + 0x8000);
	nvme_ring(SLOT, 1);
	is_int(nvme_wait(SLOT, 1), 0, "by a list of pages");
	is_int(le32_get(g_ram + FREE_RAM + 0x2000), 324, "in any order");
	le64_put(g_ram + FREE_RAM + 0x8ff8, FREE_RAM + 0x8000);
	le64_put(nvme_put(1, 2, 1, FREE_RAM + 0x5000, 400, 31) + 32, FREE_RAM + 0x8ff8);
	nvme_ring(SLOT, 1);
	is_int(nvme_wait(SLOT, 1), 0, "by a list that goes on elsewhere");
	is_int(le32_get(g_ram + FREE_RAM + 0x2000), 424, "to its end");
	is_int(io(8, 0, 100, 8), 0, "zeros are written");
	io(2, FREE_RAM, 100, 1);
	is_int(le64_get(g_ram + FREE_RAM), 0, "and read");
	memset(g_ram + FREE_RAM, 0, 64);
	le32_put(g_ram + FREE_RAM + 20, 8);
	le64_put(g_ram + FREE_RAM + 24, 1000);
	le32_put(nvme_put(1, 9, 1, FREE_RAM, 0, 0) + 40, 1);
	le32_put(g_ram + NVME_SQ(1) + (nvme_queues[1].tail - 1u) % 16 * 64 + 44, 4);
	nvme_ring(SLOT, 1);
	is_int(nvme_wait(SLOT, 1), 0, "blocks are deallocated");
	io(2, FREE_RAM, 1000, 1);
	is_int(le64_get(g_ram + FREE_RAM), 0, "and read as zeros");
	for (unsigned i = 0; i < 15; i++)
		nvme_put(1, 2, 1, FREE_RAM + i * 512, i, 0);
	nvme_ring(SLOT, 1);
	for (unsigned i = 0; i < 15; i++)
		is_int(nvme_wait(SLOT, 1), 0, "many at once");
	is_int(le32_get(g_ram + FREE_RAM + 14 * 512), 14, "with their data");
	stop();
}

static void test_errors(void)
{
	static const struct {
		uint8_t code, flags;
		uint32_t space;
		uint64_t first, second, lba;
		uint32_t blocks;
		unsigned status;
		const char *what;
	} cases[] = {
		{2, 0, 1, FREE_RAM, 0, BLOCKS, 0, 0x80, "behind the end"},
		{2, 0, 1, FREE_RAM, 0, BLOCKS - 1, 1, 0x80, "over the end"},
		{2, 0, 1, FREE_RAM, 0, UINT64_MAX, 0, 0x80, "far away"},
		{1, 0, 1, FREE_RAM, 0, UINT64_MAX / 512, 0, 0x80, "and when it is written"},
		{2, 0, 2, FREE_RAM, 0, 0, 0, 0x0b, "another namespace"},
		{2, 0, 1, RAM_SIZE, 0, 0, 0, 0x04, "memory that is not there"},
		{2, 0, 1, UINT64_MAX - 3, 0, 0, 0, 0x04, "at the end of all"},
		{2, 0, 1, FREE_RAM + 2, 0, 0, 0, 0x02, "half a word"},
		{2, 0, 1, FREE_RAM, FREE_RAM + 8, 0, 15, 0x02, "a second page that is none"},
		{2, 0, 1, FREE_RAM, FREE_RAM + 4, 0, 31, 0x02, "a list that is none"},
		{2, 0, 1, FREE_RAM, RAM_SIZE, 0, 31, 0x04, "and one that is not there"},
		{2, 0, 1, FREE_RAM, 0, 0, 1024, 0x02, "more than is offered"},
		{2, 0x40, 1, FREE_RAM, 0, 0, 0, 0x02, "SGLs"},
		{2, 1, 1, FREE_RAM, 0, 0, 0, 0x02, "fused commands"},
		{0x55, 0, 1, FREE_RAM, 0, 0, 0, 0x01, "a command that is none"},
	};

	start();
	nvme_make_queues(SLOT, 1, 16);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t *c = nvme_put(1, cases[i].code, cases[i].space, cases[i].first, cases[i].lba, cases[i].blocks);

		c[1] = cases[i].flags;
		le64_put(c + 32, cases[i].second);
		nvme_ring(SLOT, 1);
		is_int(nvme_wait(SLOT, 1), cases[i].status, "%s", cases[i].what);
	}
	bar_out(SLOT, 0, 0x1008, 4, 16);
	bar_out(SLOT, 0, 0x100c, 4, 15);
	bar_out(SLOT, 0, 0x1000 + 40 * 4, 4, 1);
	is_int(io(2, FREE_RAM, 7, 1), 0, "doorbells that make no sense do nothing");
	stop();
}

/* A driver that does not look at what has ended loses nothing. */
static void test_full(void)
{
	start();
	nvme_forget(1, 16);
	nvme_admin_do(SLOT, 0x05, NVME_CQ(1), 3 << 16 | 1, 1 << 16 | 3);
	nvme_admin_do(SLOT, 0x01, NVME_SQ(1), 15 << 16 | 1, 1 << 16 | 1);
	for (unsigned i = 0; i < 10; i++)
		nvme_put(1, 2, 1, FREE_RAM + i * 512, i, 0);
	nvme_ring(SLOT, 1);
	nvme_queues[1].size = 4;
	for (unsigned i = 0; i < 10; i++)
		is_int(nvme_wait(SLOT, 1), 0, "a command that waited for a place");
	is_int(le32_get(g_ram + FREE_RAM + 9 * 512), 9, "has its data");
	stop();
}

static void test_interrupts(void)
{
	start();
	ok(!g_intx[pci_intx(SLOT, 1)], "the pin is let go");
	nvme_put(0, 0x08, 0, 0, 0, 0);
	nvme_ring(SLOT, 0);
	ok(g_intx[pci_intx(SLOT, 1)], "something has ended: the pin is pulled");
	bar_out(SLOT, 0, 0x0c, 4, 1);
	ok(!g_intx[pci_intx(SLOT, 1)], "unless it is masked");
	bar_out(SLOT, 0, 0x10, 4, 1);
	ok(g_intx[pci_intx(SLOT, 1)], "or not any more");
	nvme_wait(SLOT, 0);
	ok(!g_intx[pci_intx(SLOT, 1)], "and let go when it was seen");
	for (unsigned v = 0; v < 17; v++) {
		bar_out(SLOT, 4, v * 16, 8, 0xfee00000);
		bar_out(SLOT, 4, v * 16 + 8, 4, 0x40 + v);
		bar_out(SLOT, 4, v * 16 + 12, 4, 0);
	}
	cfg_write(SLOT, find_cap(SLOT, PCI_CAP_MSIX, 0) + 2, 2, 0x8000);
	nvme_make_queues(SLOT, 3, 16);
	g_messages = 0;
	for (unsigned i = 0; i < 5; i++)
		nvme_put(3, 8, 1, 0, i, 0);
	nvme_put(3, 0x55, 1, 0, 0, 0);
	nvme_ring(SLOT, 3);
	for (unsigned i = 0; i < 6; i++)
		nvme_wait(SLOT, 3);
	ok(g_messages >= 1 && g_messages <= 6, "messages");
	is_int(g_msi_data, 0x43, "of the queue's vector");
	stop();
}

/* As it was saved, and as nobody would save it. */
static void test_loaded(void)
{
	struct state_out out = {0};
	struct err err = {0};
	unsigned used = 0;
	uint8_t *cc;

	start();
	nvme_make_queues(SLOT, 1, 16);
	device_pause(nvme);
	is_int(device_save(nvme, "nvme", &out), 0, "it is saved");
	stop();
	cc = memmem(out.bytes, out.len, "\2cc\4\1\0\0\0", 8);
	if (!ok(cc != NULL, "with what it is told by CC"))
		return;
	start();
	is_int(device_load(nvme, "nvme", &(struct state_in){out.bytes, out.len}, 0, &used, &err), 0, "and loaded %s", err.text);
	stop();
	cc[8] &= 0xfe;
	start();
	is_int(device_load(nvme, "nvme", &(struct state_in){out.bytes, out.len}, 0, &used, &err), -EINVAL,
	       "ready, and not enabled, it is not");
	stop();
	free(out.bytes);
}

int main(void)
{
	disk = numbered_disk(BLOCKS, 0xd1, false, le32_put);
	test_registers();
	test_admin();
	test_queues();
	test_io();
	test_errors();
	test_full();
	test_interrupts();
	test_loaded();
	disk_close(disk);
	return done_testing();
}
