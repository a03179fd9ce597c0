/* SPDX-License-Identifier: MIT */
/*
 * Intel's network card from both sides: a driver's rings, and the other end of the cable; checksums, and long frames that are cut; who is
 * taken; what waits; EEPROM and PHY; and rings that lie.
 */
#include "dev/net/e1000.h"
#include "dev/tests/cable.h"
#include "dev/tests/guest.h"
#include "net/checksum.h"
#include "state/state.h"
#include "tests/tap.h"

#include <fcntl.h>

#define SLOT 1u
#define SIZE 16u /* descriptors of a ring */
#define RX_RING 0x1000u
#define TX_RING 0x2000u
#define OUT (FREE_RAM + 0x40000)

enum { ICR = 0xc0, ICS = 0xc8, IMS = 0xd0, IMC = 0xd8, RCTL = 0x100, TCTL = 0x400, RDBAL = 0x2800, RDH = 0x2810, RDT = 0x2818, TDBAL = 0x3800,
       TDH = 0x3810, TDT = 0x3818 };

static const uint8_t mac[MAC_LEN] = {0x52, 0x54, 0, 1, 2, 3};

static uint32_t in(unsigned at)
{
	return (uint32_t)bar_in(SLOT, 0, at, 4);
}

static void out(unsigned at, uint32_t value)
{
	bar_out(SLOT, 0, at, 4, value);
}

static void plug(struct net_port *p)
{
	struct e1000_config config = {.host = g_host, .mem = &g_mem, .slot = SLOT, .port = p, .loop = loop};

	memcpy(config.mac, mac, MAC_LEN);
	nic = device_create(&e1000_model, g_bus, NULL, &config, NULL);
	device_reset(g_host);
}

/* Both rings, and buffers of 2 KiB for what comes. */
static void start(unsigned buffers)
{
	memset(g_ram, 0, sizeof(g_ram));
	cfg_write(SLOT, 4, 2, 7);
	out(RDBAL, RX_RING);
	out(RDBAL + 8, SIZE * 16);
	out(TDBAL, TX_RING);
	out(TDBAL + 8, SIZE * 16);
	for (unsigned i = 0; i < SIZE; i++)
		le64_put(g_ram + RX_RING + i * 16, FREE_RAM + i * 0x1000);
	out(RDT, buffers);
	out(RCTL, 0x04008002); /* on, broadcasts, without CRC */
	out(TCTL, 2);
	out(IMS, 0xffffffff);
	turn();
}

/* -- Frames -------------------------------------------------------------------------------- */

static void come(unsigned len, const uint8_t *to)
{
	for (unsigned i = 0; i < len; i++)
		bytes[4 + i] = (uint8_t)i;
	memcpy(bytes + 4, to, MAC_LEN);
	write_frame(len);
	turn();
}

/* The length of what was sent, in bytes[4...]; 0: nothing. */
static unsigned sent(void)
{
	for (unsigned i = 0; read(wire, bytes, 4) != 4; i++) {
		if (i == 2)
			return 0;
		turn(); /* there is room now for what waited */
	}
	return read_frame();
}

static uint8_t *put(unsigned i, uint64_t at, unsigned len, uint8_t command)
{
	uint8_t *d = g_ram + TX_RING + i % SIZE * 16;

	memset(d, 0, 16);
	le64_put(d, at);
	le32_put(d + 8, len);
	d[11] = command;
	return d;
}

static const uint8_t *came(unsigned i)
{
	return g_ram + RX_RING + i * 16;
}

/* -- Sending -------------------------------------------------------------------------------- */

static void test_sending(void)
{
	make();
	start(SIZE - 1);
	for (unsigned i = 0; i < 200; i++)
		g_ram[OUT + i] = (uint8_t)(i * 3);
	put(0, OUT, 50, 0);
	put(1, OUT + 50, 50, 9);
	out(TDT, 1);
	is_int(sent(), 0, "half a frame is not sent");
	out(TDT, 2);
	is_int(sent(), 100, "a whole one is");
	ok(!memcmp(bytes + 4, g_ram + OUT, 100), "as it is in memory");
	is_int(in(TDH), 2, "the head moves");
	is_int(g_ram[TX_RING + 12] << 8 | g_ram[TX_RING + 28], 1, "it is written back where that was wanted");
	ok(g_intx[0] || g_intx[1] || g_intx[2] || g_intx[3], "and interrupts");
	is_int(in(ICR), 3, "for that, and because there is no more");
	ok(!(g_intx[0] || g_intx[1] || g_intx[2] || g_intx[3]), "once that is read there is none");
	put(2, OUT, 100, 0x0d);
	g_ram[TX_RING + 2 * 16 + 10] = 60; /* where the sum goes, */
	g_ram[TX_RING + 2 * 16 + 13] = 34; /* and begins */
	le16_put(g_ram + OUT + 60, 0);
	out(TDT, 3);
	is_int(sent(), 100, "a checksum is made");
	is_int((int)(net_sum(&(struct iovec){bytes + 4 + 34, 66}, 1, 0) % 0xffff), 0, "which is right");
	put(3, 0xffffff00, 100, 9);
	put(4, OUT, 60, 9);
	out(TDT, 5);
	is_int(sent(), 60, "one that is in no memory is lost, and the next one is sent");
	unmake();
}

#define HEADER 54u

static void put_tcp(unsigned payload)
{
	uint8_t *f = g_ram + OUT;

	memset(f, 0, HEADER);
	f[12] = 8;
	f[14] = 0x45;
	be16_put(f + 18, 7);
	f[22] = 64;
	f[23] = 6;
	memset(f + 26, 10, 8);
	be32_put(f + 38, 1000);
	f[46] = 0x50;
	f[47] = 0x19; /* ACK, PSH, FIN */
	be16_put(f + 50, (uint16_t)(10u * 0x0101 * 4 + 6)); /* the pseudo-header without a length */
	for (unsigned i = 0; i < payload; i++)
		f[HEADER + i] = (uint8_t)(i / 100);
}

static void put_context(unsigned i, unsigned mss)
{
	uint8_t *d = put(i, 0, 0, 0x27); /* TCP, IP, TSE, extended */

	d[0] = 14;
	d[1] = 24;
	le16_put(d + 2, 33);
	d[4] = 34;
	d[5] = 50;
	d[13] = HEADER;
	le16_put(d + 14, (uint16_t)mss);
}

/* Sum of the TCP part with its pseudo-header. */
static bool is_right(unsigned len)
{
	const uint8_t *f = bytes + 4;
	uint8_t pseudo[4] = {0, 6, (uint8_t)((len - 34) >> 8), (uint8_t)(len - 34)};
	struct iovec all[] = {{(void *)(f + 26), 8}, {pseudo, 4}, {(void *)(f + 34), len - 34}}, ip = {(void *)(f + 14), 20};

	return net_sum(all, 3, 0) % 0xffff == 0 && net_sum(&ip, 1, 0) % 0xffff == 0;
}

static void test_cutting(void)
{
	unsigned seen = 0, whole = 3500;

	make();
	start(SIZE - 1);
	put_tcp(whole);
	put_context(0, 1000);
	put(1, OUT, HEADER + 100, 0x24)[10] |= 0x10;
	g_ram[TX_RING + 16 + 13] = 3;
	put(2, OUT + HEADER + 100, whole - 100, 0x2d)[10] |= 0x10;
	out(TDT, 3);
	for (unsigned i = 0; i < 4; i++) {
		unsigned len = sent(), want = HEADER + (i < 3 ? 1000 : 500);

		is_int(len, want, "piece %u has its length", i);
		if (len != want)
			break;
		is_int(be16_get(bytes + 4 + 16), len - 14, "and says so");
		is_int(be16_get(bytes + 4 + 18), 7 + i, "its own number");
		is_int(be32_get(bytes + 4 + 38), 1000 + i * 1000, "its place");
		is_int(bytes[4 + 47], i < 3 ? 0x10 : 0x19, "only the last ends it");
		ok(is_right(len), "its checksums are right");
		seen += len - HEADER;
	}
	is_int(seen, whole, "that is all");
	is_int(sent(), 0, "and no more");
	is_int(in(TDH), 3, "the context is done, too");
	put_context(3, 63); /* thousands of pieces */
	put(4, OUT, 200, 0x2d)[10] |= 0x10;
	put_context(5, 1000);
	g_ram[TX_RING + 5 * 16 + 13] = 20; /* a header without room for TCP */
	put(6, OUT, 200, 0x2d)[10] |= 0x10;
	put(7, OUT, 60, 9);
	out(TDT, 8);
	is_int(sent(), 60, "what cannot be cut is lost");
	unmake();
}

/* -- Receiving ----------------------------------------------------------------------------------- */

static void test_receiving(void)
{
	static const uint8_t all[MAC_LEN] = {255, 255, 255, 255, 255, 255}, other[MAC_LEN] = {0x52, 0x54, 0, 9, 9, 9},
			     group[MAC_LEN] = {1, 0, 0x5e, 0, 0, 1};

	make();
	start(8);
	come(100, mac);
	is_int(in(RDH), 1, "a frame comes");
	is_int(le16_get(came(0) + 8) << 8 | came(0)[12], 100 << 8 | 7, "as long as it is, and whole");
	ok(!memcmp(g_ram + FREE_RAM, bytes + 4, 100), "as it was sent");
	is_int(in(ICR) & 0x80, 0x80, "and interrupts");
	come(100, other);
	is_int(in(RDH), 1, "one for another is not taken");
	come(100, group);
	is_int(in(RDH), 1, "nor one for a group");
	out(0x5200 + (0x0100 >> 4 >> 5) * 4, 1u << (0x0100 >> 4 & 31));
	come(100, group);
	is_int(in(RDH), 2, "unless it is in the table");
	come(100, all);
	is_int(in(RDH), 3, "one for everybody is");
	come(20, mac);
	is_int(le16_get(came(3) + 8), 60, "a short one gets longer");
	come(1600, mac);
	is_int(in(RDH), 4, "a long one is not taken");
	out(RCTL, 0x04028022); /* long ones, in buffers of 512 bytes */
	come(1600, mac);
	is_int(in(RDH), 8, "unless it may be, in as many buffers as it needs");
	is_int(le16_get(came(4) + 8) << 8 | came(4)[12], 512 << 8 | 5, "which are full");
	is_int(le16_get(came(7) + 8) << 8 | came(7)[12], 64 << 8 | 7, "but the last");
	come(100, mac);
	is_int(in(RDH), 8, "without a buffer it waits");
	out(RDT, 9);
	turn();
	is_int(in(RDH), 9, "until there is one");
	out(RCTL, 0x00008002);
	out(RDT, 12);
	come(100, mac);
	is_int(le16_get(came(9) + 8), 104, "with its CRC it is longer");
	unmake();
}

static void test_link(void)
{
	make();
	start(4);
	is_int(in(8) & 2, 2, "the link is up");
	e1000_plug(nic, false);
	is_int(in(8) & 2, 0, "a cable that is pulled");
	is_int(in(ICR) & 4, 4, "is told");
	out(0x20, 1u << 21 | 1u << 16 | 2u << 26);
	is_int(in(0x20) & 4, 0, "by the PHY, too");
	e1000_plug(nic, true);
	out(0x20, 1u << 21 | 1u << 16 | 2u << 26);
	is_int(in(0x20) & 0x10000024, 0x10000024, "as one that is there");
	out(0x20, 1u << 21 | 2u << 16 | 2u << 26);
	is_int(in(0x20) & 0xffff, 0x0141, "which is Marvell's");
	unmake();
}

/* -- EEPROM --------------------------------------------------------------------------------------- */

static void clock_bit(bool bit)
{
	uint32_t value = 2u | (bit ? 4 : 0);

	out(0x10, value);
	out(0x10, value | 1);
	out(0x10, value);
}

static unsigned read_word(unsigned at)
{
	unsigned command = 6u << 6 | at, word = 0;

	out(0x10, 0);
	for (unsigned i = 9; i--;)
		clock_bit(command >> i & 1);
	for (unsigned i = 0; i < 16; i++) {
		out(0x10, 3);
		word = word << 1 | (in(0x10) >> 3 & 1);
		out(0x10, 2);
	}
	return word;
}

static void test_eeprom(void)
{
	uint16_t sum = 0;

	make();
	cfg_write(SLOT, 4, 2, 7);
	is_int(read_word(0), 0x5452, "the address is in the EEPROM");
	is_int(read_word(2), 0x0302, "all of it");
	for (unsigned i = 0; i < 64; i++)
		sum = (uint16_t)(sum + read_word(i));
	is_int(sum, 0xbaba, "with its sum");
	out(0x14, 1 << 8 | 1);
	is_int(in(0x14), 0x01000110, "a word at once");
	is_int(in(0x5400), 0x01005452, "and in the card");
	is_int(in(0x5404), 0x80000302, "which takes it");
	unmake();
}

/* -- Rings that lie ---------------------------------------------------------------------------------- */

static void test_lies(void)
{
	static const uint32_t values[] = {0, 1, 0x7f, 0x80, 0xffff, 0xffffffff, 0xfff80, RAM_SIZE - 8};
	uint32_t x = 1;

	make();
	for (unsigned i = 0; i < 4000; i++) {
		static const unsigned regs[] = {RDBAL, RDBAL + 4, RDBAL + 8, RDH, RDT, TDBAL, TDBAL + 4, TDBAL + 8, TDH, TDT, RCTL, TCTL, 0};

		x = x * 1664525u + 1013904223u;
		if (i % 100 == 0)
			start(8);
		for (unsigned k = 0; k < 16; k++)
			g_ram[TX_RING + x % 0x100 + k] = (uint8_t)(x >> k);
		out(regs[(x >> 8) % 13], (x >> 16) % 3 ? values[(x >> 20) % 8] : x);
		out(TDT, (x >> 12) % SIZE);
		if (i % 10 == 0)
			come(60 + x % 2000, mac);
		while (sent())
			;
	}
	out(0, 1u << 26);
	start(8);
	put(0, OUT, 60, 9);
	out(TDT, 1);
	is_int(sent(), 60, "after all those lies it sends");
	unmake();
}

static void test_floods(void)
{
	unsigned seen = 0;

	make();
	start(8);
	out(TDBAL, 0x8000);
	out(TDBAL + 8, 1024 * 16);
	for (unsigned i = 0; i < 600; i++)
		le32_put(g_ram + 0x8000 + i * 16 + 8, 0); /* no end */
	for (unsigned i = 600; i < 1000; i++) {
		le64_put(g_ram + 0x8000 + i * 16, OUT);
		le32_put(g_ram + 0x8000 + i * 16 + 8, 60 | 9u << 24);
	}
	out(TDT, 1000);
	while (sent() == 60)
		seen++;
	is_int(seen, 400, "behind a frame without an end all are sent, in turns");
	is_int(in(TDH), 1000, "and the ring is empty");
	unmake();
}

static void test_saved(void)
{
	struct state_out state = {0};
	struct state_in saved;
	unsigned used = 0;

	make();
	start(8);
	device_pause(nic);
	put(0, OUT, 60, 9);
	out(TDT, 1);
	is_int(sent(), 0, "while it is paused it sends nothing");
	is_int(device_save(nic, "e1000", &state), 0, "it is saved");
	device_destroy(nic);
	plug(port);
	saved = (struct state_in){.bytes = state.bytes, .len = state.len};
	is_int(device_load(nic, "e1000", &saved, 0, &used, NULL), 0, "and loaded");
	device_resume(nic);
	ok(!e1000_link(nic), "its cable is pulled");
	is_int(in(TDH), 1, "what it was to send is lost with that");
	out(0x20, 1u << 21 | 1u << 16 | 2u << 26); /* its driver looks, and need not be waited for */
	while (!e1000_link(nic))
		loop_once(loop);
	put(1, OUT, 60, 9);
	out(TDT, 2);
	is_int(sent(), 60, "until it is plugged in again");
	free(state.bytes);
	unmake();
}

int main(void)
{
	if (loop_create(&loop, NULL) < 0)
		abort();
	loop_timer_init(&soon, loop, nothing, NULL);
	g_start();
	test_sending();
	test_cutting();
	test_receiving();
	test_link();
	test_eeprom();
	test_lies();
	test_floods();
	test_saved();
	g_stop();
	loop_timer_fini(&soon);
	loop_destroy(loop);
	return done_testing();
}
