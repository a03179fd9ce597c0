/* SPDX-License-Identifier: MIT */
/*
 * A driver of before virtio 1.0 and one of today, at transitional devices: who they are, a queue in pages, interrupts of both kinds, the short header of
 * a network card, resets that wait, and who has the device; and what a driver can say that makes no sense.
 */
#include "dev/tests/disk.h"
#include "dev/tests/guest.h"
#include "dev/tests/held.h"
#include "net/port.h"
#include "state/state.h"
#include "tests/tap.h"

#include <sched.h>
#include <stdlib.h>

#define SLOT 1u
#define PAGE 0x20u /* where the queue is */
#define Q_DESC  (PAGE * 4096u)
#define Q_AVAIL (Q_DESC + size * 16)
#define Q_USED  (Q_DESC + (size > 128 ? 0x2000u : 0x1000u)) /* the next page */
#define BUFFER  0x40000u

enum { FEATURES = 0x00, ACCEPTED = 0x04, QUEUE = 0x08, QSIZE = 0x0c, SELECT = 0x0e, NOTIFY = 0x10, LSTATUS = 0x12, ISR = 0x13, VECTORS = 0x14 };

static struct disk *disk;
static struct device *dev;
static unsigned size; /* of the queue */
static uint8_t sent[2048];
static size_t n_sent;

static unsigned port_at(unsigned at)
{
	return (cfg_read(SLOT, 0x10, 4) & ~3u) + at;
}

static uint32_t in(unsigned at, unsigned width)
{
	return (uint32_t)bus_read(g_bus, BUS_PORT, port_at(at), width);
}

static void out(unsigned at, unsigned width, uint32_t value)
{
	bus_write(g_bus, BUS_PORT, port_at(at), width, value);
}

/* As an old driver begins; the queue is in its place. */
static void begin(uint32_t features)
{
	cfg_write(SLOT, 4, 2, 7);
	out(LSTATUS, 1, 0);
	out(LSTATUS, 1, 1);
	out(LSTATUS, 1, 3);
	out(ACCEPTED, 4, in(FEATURES, 4) & features);
	memset(g_ram + Q_DESC, 0, 0x3000);
	out(SELECT, 2, 0);
	size = in(QSIZE, 2);
	out(QUEUE, 4, PAGE);
	out(LSTATUS, 1, 7);
}

static void offer_at(unsigned head)
{
	uint16_t idx = le16_get(g_ram + Q_AVAIL + 2);

	le16_put(g_ram + Q_AVAIL + 4 + idx % size * 2, (uint16_t)head);
	le16_put(g_ram + Q_AVAIL + 2, (uint16_t)(idx + 1));
}

static unsigned used(void)
{
	return __atomic_load_n((uint16_t *)(void *)(g_ram + Q_USED + 2), __ATOMIC_SEQ_CST);
}

static bool pin(void)
{
	return g_intx[0] || g_intx[1] || g_intx[2] || g_intx[3];
}

static void make_rng(void)
{
	g_start();
	dev = device_create(&virtio_rng_model, g_bus, NULL, &(struct virtio_rng_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT, .transitional = true}}, NULL);
	device_reset(g_host);
}

static void unmake(void)
{
	device_destroy(dev);
	g_stop();
}

static void test_identity(void)
{
	make_rng();
	is_int(cfg_read(SLOT, 0, 4), 0x10051af4, "an old number");
	is_int(cfg_read(SLOT, 0x2e, 2), 4, "and what it is");
	is_int(cfg_read(SLOT, 8, 1), 0, "of revision 0");
	is_int(cfg_read(SLOT, 0x10, 4) & 1, 1, "with ports");
	cfg_write(SLOT, 4, 2, 7);
	is_int(in(FEATURES, 4), 0x38000000, "features of today's, of those days");
	is_int(in(QSIZE, 2), 64, "a queue has a size");
	out(SELECT, 2, 9);
	is_int(in(QSIZE, 2), 0, "one that is not there has none");
	is_int((int)cfg_read(SLOT, find_cap(SLOT, PCI_CAP_VENDOR, 1) + 4, 1), 4, "today's registers are in another BAR");
	unmake();
}

static void test_queue(void)
{
	make_rng();
	begin(0);
	is_int(in(QUEUE, 4), PAGE, "the queue is where it was put");
	put_desc_at(Q_DESC, BUFFER, 32, F_WRITE, 0);
	offer_at(0);
	out(NOTIFY, 2, 0);
	is_int(used(), 1, "a request is done");
	is_int(le32_get(g_ram + Q_USED + 8), 32, "all of it");
	ok(pin(), "which is told by the pin");
	is_int(in(ISR, 1), 1, "and by the register");
	ok(!pin(), "which takes it away");
	set_msix(SLOT);
	out(VECTORS + 2, 2, 1);
	is_int(in(VECTORS + 2, 2), 1, "with messages there are vectors");
	out(VECTORS, 2, 77);
	is_int(in(VECTORS, 2), 0xffff, "as many as there are");
	g_messages = 0;
	offer_at(0);
	out(NOTIFY, 2, 0);
	is_int(g_messages, 1, "and it is told by one");
	out(QUEUE, 4, 0);
	is_int(in(QUEUE, 4), 0, "a queue is taken away");
	offer_at(0);
	out(NOTIFY, 2, 0);
	is_int(used(), 2, "and does nothing then");
	out(QUEUE, 4, 0xfffff);
	is_int(in(LSTATUS, 1) & 0x40, 0x40, "one that is in no memory is noticed");
	out(LSTATUS, 1, 0);
	is_int(in(LSTATUS, 1), 0, "until a reset");
	unmake();
}

static void test_owners(void)
{
	unsigned bar = 4;

	make_rng();
	begin(0);
	is_int(bar_in(SLOT, bar, STATUS, 1), 7, "today's driver sees an old one's status");
	bar_out(SLOT, bar, STATUS, 1, 11);
	is_int(in(LSTATUS, 1), 7, "and leaves it alone");
	bar_out(SLOT, bar, 8, 4, 0);
	bar_out(SLOT, bar, 12, 4, UINT32_MAX);
	is_int(in(ACCEPTED, 4), 0, "its features, too");
	bar_out(SLOT, bar, STATUS, 1, 0);
	is_int(in(LSTATUS, 1), 0, "a reset is for both");
	bar_out(SLOT, bar, STATUS, 1, 3);
	bar_out(SLOT, bar, 8, 4, 1);
	bar_out(SLOT, bar, 12, 4, 1);
	bar_out(SLOT, bar, STATUS, 1, 11);
	is_int(bar_in(SLOT, bar, STATUS, 1), 11, "then it is today's");
	out(LSTATUS, 1, 7);
	out(ACCEPTED, 4, 0);
	out(QUEUE, 4, PAGE);
	is_int(bar_in(SLOT, bar, STATUS, 1), 11, "and an old one leaves that alone");
	is_int(in(QUEUE, 4), 0, "all of it");
	out(LSTATUS, 1, 0);
	is_int(bar_in(SLOT, bar, STATUS, 1), 0, "but for a reset");
	unmake();
}

/* -- A disk, which takes its time ---------------------------------------------------------------- */

static void *let_go_soon(void *arg)
{
	sched_yield();
	let_disk_go(arg);
	return NULL;
}

static void test_reset(void)
{
	pthread_t thread;

	g_start();
	dev = device_create(&virtio_blk_model, g_bus, NULL, &(struct virtio_blk_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT, .transitional = true}, .disk = disk}, NULL);
	device_reset(g_host);
	begin(0);
	is_int(in(VECTORS, 4), 1024, "the configuration is behind the registers");
	set_msix(SLOT);
	is_int(in(VECTORS + 4, 4), 1024, "and behind vectors, if there are some");
	memset(g_ram + BUFFER, 0, 16);
	le32_put(g_ram + BUFFER, 1); /* a write */
	put_desc_at(Q_DESC, BUFFER, 16, F_NEXT, 1);
	put_desc_at(Q_DESC + 16, BUFFER + 0x1000, 512, F_NEXT, 2);
	put_desc_at(Q_DESC + 32, BUFFER + 0x2000, 1, F_WRITE, 0);
	hold_disk(disk);
	offer_at(0);
	out(NOTIFY, 2, 0);
	pthread_create(&thread, NULL, let_go_soon, disk);
	out(LSTATUS, 1, 0);
	is_int(in(LSTATUS, 1), 0, "a reset is over when it is written");
	pthread_join(thread, NULL);
	begin(0);
	g_ram[BUFFER + 0x2000] = 0xee;
	le32_put(g_ram + BUFFER, 0);
	put_desc_at(Q_DESC, BUFFER, 16, F_NEXT, 1);
	put_desc_at(Q_DESC + 16, BUFFER + 0x1000, 512, F_NEXT | F_WRITE, 2);
	put_desc_at(Q_DESC + 32, BUFFER + 0x2000, 1, F_WRITE, 0);
	offer_at(0);
	out(NOTIFY, 2, 0);
	while (!used())
		sched_yield();
	is_int(g_ram[BUFFER + 0x2000], 0, "and the disk works");
	unmake();
}

/* -- A network card ----------------------------------------------------------------------------------- */

static bool take(struct net_port *p, const struct iovec *iov, unsigned n)
{
	(void)p;
	n_sent = 0;
	for (unsigned i = 0; i < n; i++) {
		memcpy(sent + n_sent, iov[i].iov_base, iov[i].iov_len);
		n_sent += iov[i].iov_len;
	}
	return true;
}

static void send_100(unsigned header)
{
	memset(g_ram + BUFFER, 0, header);
	for (unsigned i = 0; i < 100; i++)
		g_ram[BUFFER + header + i] = (uint8_t)i;
	out(SELECT, 2, 1);
	out(QUEUE, 4, PAGE);
	put_desc_at(Q_DESC, BUFFER, header + 100, 0, 0);
	offer_at(0);
	out(NOTIFY, 2, 1);
}

static void test_headers(void)
{
	static const struct net_port_type plain = {.send = take}, vnet = {.send = take, .vnet = true};

	for (unsigned i = 0; i < 2; i++) {
		struct net_port port = {.type = i ? &vnet : &plain, .up = true};

		g_start();
		dev = device_create(&virtio_net_model, g_bus, NULL, &(struct virtio_net_config){
			.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT, .transitional = true}, .port = &port}, NULL);
		device_reset(g_host);
		for (unsigned merge = 0; merge < 2; merge++) {
			begin(merge ? 1u << 15 : 0);
			out(QUEUE, 4, 0);
			memset(g_ram + Q_DESC, 0, 0x3000);
			send_100(merge ? 12 : 10);
			is_int((int)n_sent, i ? 112 : 100, "%s: a frame behind %u bytes is sent", i ? "vnet" : "plain", merge ? 12 : 10);
			ok(n_sent >= 100 && sent[n_sent - 100] == 0 && sent[n_sent - 1] == 99, "as it is");
		}
		unmake();
	}
}

/* Saved, and loaded into another one: 0, if that is well. */
static int move(void)
{
	struct state_out state = {0};
	struct state_in saved;
	unsigned n = 0;
	int rc;

	device_pause(dev);
	rc = device_save(dev, "rng", &state);
	device_destroy(dev);
	dev = device_create(&virtio_rng_model, g_bus, NULL, &(struct virtio_rng_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT, .transitional = true}}, NULL);
	device_reset(g_host);
	saved = (struct state_in){.bytes = state.bytes, .len = state.len};
	if (rc == 0)
		rc = device_load(dev, "rng", &saved, 0, &n, NULL);
	device_resume(dev);
	free(state.bytes);
	return rc;
}

/* A driver that says it uses what there is not. */
static void test_features(void)
{
	unsigned bar = 4;

	make_rng();
	begin(0);
	out(LSTATUS, 1, 0);
	out(LSTATUS, 1, 3);
	out(ACCEPTED, 4, UINT32_MAX);
	is_int(in(ACCEPTED, 4), in(FEATURES, 4), "of what a driver accepts counts what it was offered");
	is_int(move(), 0, "and it is loaded elsewhere");
	cfg_write(SLOT, 4, 2, 7);
	is_int(in(ACCEPTED, 4), in(FEATURES, 4), "as it was");
	out(LSTATUS, 1, 0);
	for (unsigned half = 0; half < 2; half++) {
		bar_out(SLOT, bar, 8, 4, half);
		bar_out(SLOT, bar, 12, 4, UINT32_MAX);
	}
	out(LSTATUS, 1, 1);
	is_int(in(ACCEPTED, 4), 0, "what today's driver has said is no word of an old one's");
	is_int(move(), 0, "nor does it keep that from being loaded");
	unmake();
}

static void test_saved(void)
{
	struct state_out state = {0};
	struct state_in saved;
	unsigned n = 0;

	make_rng();
	begin(0);
	is_int(move(), 0, "it is saved, and loaded");
	put_desc_at(Q_DESC, BUFFER, 32, F_WRITE, 0);
	offer_at(0);
	out(NOTIFY, 2, 0);
	is_int(used(), 1, "and goes on");
	is_int(device_save(dev, "rng", &state), 0, "it is saved once more");
	device_destroy(dev);
	dev = device_create(&virtio_rng_model, g_bus, NULL, &(struct virtio_rng_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT}}, NULL);
	saved = (struct state_in){.bytes = state.bytes, .len = state.len};
	ok(device_load(dev, "rng", &saved, 0, &n, &(struct err){0}) < 0, "but not as a device of today alone");
	free(state.bytes);
	unmake();
}

int main(void)
{
	disk = numbered_disk(1024, 0xd1, false, le32_put);
	test_identity();
	test_queue();
	test_owners();
	test_reset();
	test_headers();
	test_features();
	test_saved();
	disk_close(disk);
	return done_testing();
}
