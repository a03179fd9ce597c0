/* SPDX-License-Identifier: MIT */
/* The balloon: which memory goes back to the host, and that no other does; what its driver is told and tells. */
#include "dev/tests/guest.h"
#include "tests/tap.h"

#define SLOT 4u
#define SIZE 16u
#define STATS     (UINT64_C(1) << 1)
#define REPORTING (UINT64_C(1) << 5)

static struct device *dev;

static struct {
	uint64_t at, len;
} drops[16];
static unsigned n_drops;

static void drop(void *ctx, void *host, uint64_t len)
{
	(void)ctx;
	if (n_drops < 16) {
		drops[n_drops].at = (uint64_t)((uint8_t *)host - g_ram);
		drops[n_drops].len = len;
	}
	n_drops++;
}

static void is_dropped(unsigned i, uint64_t at, uint64_t len)
{
	ok(i < n_drops && drops[i].at == at && drops[i].len == len, "%llu bytes at %#llx", (unsigned long long)len, (unsigned long long)at);
}

/* Offers one buffer in a queue, and kicks. */
static void give(unsigned queue, uint64_t at, uint32_t len, unsigned flags)
{
	n_drops = 0;
	put_desc(queue, 0, at, len, flags, 0);
	offer(queue, SIZE, 0);
	kick(SLOT, queue);
}

static void test_inflate(void)
{
	static const uint32_t pages[] = {0x20, 0x21, 0x22, 0x50, 0x4f, 0x4e, 0xff, 0x100, 0xffffffff, 0x30, 0x30};

	for (unsigned i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		le32_put(g_ram + FREE_RAM + 4 * i, pages[i]);
	give(0, FREE_RAM, sizeof(pages) + 3, 0);
	is_int(used_idx(0), 1, "pages are given up");
	is_int(n_drops, 4, "what lies together goes at once");
	is_dropped(0, 0x20000, 0x3000);
	is_dropped(1, 0x4e000, 0x3000);
	is_dropped(2, 0x30000, 0x1000);
	is_dropped(3, 0x30000, 0x1000);
	give(1, FREE_RAM, sizeof(pages), 0);
	is_int(n_drops, 0, "what is taken again is not dropped");
	is_int(used_idx(1), 1, "and needs no more");
	give(0, FREE_RAM, 2, 0);
	is_int(n_drops, 0, "half a number is none");
	is_int(bar_in(SLOT, 0, STATUS, 1), 15, "nobody has lied");
}

/* No two of which lie together: each is a call of the host's. */
static void test_many(void)
{
	for (unsigned i = 0; i < 2000; i++)
		le32_put(g_ram + FREE_RAM + 4 * i, i % 2 ? 0x80 : 0x90);
	give(0, FREE_RAM, 2000 * 4, 0);
	is_int(n_drops, 1024, "of a request's pages 1024 are looked at");
}

static void test_reports(void)
{
	give(3, 0x40000, 0x8000, F_WRITE);
	is_int(n_drops, 1, "a report of free pages");
	is_dropped(0, 0x40000, 0x8000);
	give(4, 0x60000, 0x1000, F_WRITE);
	is_int(n_drops, 1, "and by the specification's queue");
	give(3, FREE_RAM, 0x1000, 0);
	is_int(n_drops, 0, "what may only be read is no report");
}

static void test_stats(void)
{
	struct virtio_balloon_facts facts;

	memset(g_ram + FREE_RAM, 0, 100);
	le16_put(g_ram + FREE_RAM, VIRTIO_BALLOON_FREE);
	le64_put(g_ram + FREE_RAM + 2, 12345678901);
	le16_put(g_ram + FREE_RAM + 10, 4711);
	le16_put(g_ram + FREE_RAM + 20, VIRTIO_BALLOON_HUGE_FAILED);
	le64_put(g_ram + FREE_RAM + 22, 7);
	give(2, FREE_RAM, 35, 0);
	virtio_balloon_look(dev, &facts);
	is_int(used_idx(2), 0, "the buffer of statistics waits");
	is_int(facts.known, 1 << VIRTIO_BALLOON_FREE | 1 << VIRTIO_BALLOON_HUGE_FAILED, "what is known, and no other");
	ok(facts.stats[VIRTIO_BALLOON_FREE] == 12345678901 && facts.stats[VIRTIO_BALLOON_HUGE_FAILED] == 7, "as it was told");
}

static void test_config(void)
{
	struct virtio_balloon_facts facts;
	unsigned generation = (unsigned)bar_in(SLOT, 0, 0x15, 1), messages = g_messages;

	bar_out(SLOT, 0, 0x10, 2, 0);
	virtio_balloon_set(dev, (5 << 20) + 1);
	is_int(bar_in(SLOT, 0, 0x2000, 4), 5 << 8, "the driver reads how many pages");
	ok(bar_in(SLOT, 0, 0x15, 1) == generation + 1 && g_messages == messages + 1, "and hears that there is something to read");
	bar_out(SLOT, 0, 0x2004, 4, 3 << 8);
	bar_out(SLOT, 0, 0x2000, 4, 9);
	virtio_balloon_look(dev, &facts);
	ok(facts.target == 5 << 20 && facts.actual == 3 << 20, "it says how many it has, and not how many it should");
	virtio_balloon_set(dev, UINT64_MAX);
	is_int(bar_in(SLOT, 0, 0x2000, 4), UINT32_MAX, "more than there are numbers for");
	bar_out(SLOT, 0, STATUS, 1, 0);
	virtio_balloon_look(dev, &facts);
	ok(facts.actual == 0 && facts.known == 0 && facts.target, "a driver that resets has nothing; what is wanted of it stays");
}

static void test_not_asked(void)
{
	ok(drive(SLOT, 0, 5, SIZE), "a driver that takes no features");
	give(3, 0x40000, 0x8000, F_WRITE);
	is_int(n_drops, 0, "reports nothing");
}

int main(void)
{
	g_start();
	g_mem.drop = drop;
	dev = device_create(&virtio_balloon_model, g_bus, NULL, &(struct virtio_balloon_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT}}, NULL);
	device_reset(g_host);
	ok(drive(SLOT, STATS | REPORTING, 5, SIZE), "a driver");
	test_inflate();
	test_many();
	test_reports();
	test_stats();
	test_config();
	test_not_asked();
	device_destroy(dev);
	g_stop();
	return done_testing();
}
