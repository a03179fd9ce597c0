/* SPDX-License-Identifier: MIT */
/*
 * The virtio network card from both sides: a driver's rings, and the other end of the cable; what waits, what is lost, what the link's
 * state is, and a driver that lies.
 */
#include "dev/tests/cable.h"
#include "dev/tests/guest.h"
#include "state/state.h"
#include "tests/tap.h"

#include <fcntl.h>

#define SLOT 1u
#define SIZE 16u /* of the queues */
#define HEADER 12u
#define NEEDS_RESET 0x40u
#define CONFIG 0x2000u /* in BAR 0 */

#define F_CSUM       (UINT64_C(1) << 0)
#define F_GUEST_CSUM (UINT64_C(1) << 1)
#define F_GUEST_TSO4 (UINT64_C(1) << 7)
#define F_MRG_RXBUF  (UINT64_C(1) << 15)
#define F_MTU (1ull << 3)
#define F_EVENT_IDX  (UINT64_C(1) << 29)
#define F_RING_RESET (UINT64_C(1) << 40)
#define F_ALL        UINT64_MAX

enum { RX, TX };

static void plug(struct net_port *p)
{
	nic = device_create(&virtio_net_model, g_bus, NULL, &(struct virtio_net_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT}, .port = p, .loop = loop,
		.mac = {0x52, 0x54, 0, 1, 2, 3}, .mtu = 9000}, NULL);
	device_reset(g_host);
}

/* -- Frames ------------------------------------------------------------------------ */

/* A frame that comes. */
static void come(unsigned len, uint8_t first)
{
	for (unsigned i = 0; i < len; i++)
		bytes[4 + i] = (uint8_t)(first + i);
	write_frame(len);
}

/* The length of what was sent, in bytes[4...]; 0: nothing. */
static unsigned sent(void)
{
	if (read(wire, bytes, 4) != 4)
		return 0;
	return read_frame();
}

/* Buffer i of the driver's for what comes. */
static unsigned buffer(unsigned i)
{
	return FREE_RAM + i * 0x800;
}

static void offer_buffer(unsigned i, unsigned len)
{
	memset(g_ram + buffer(i), 0, 0x800);
	put_desc(RX, i, buffer(i), len, F_WRITE, 0);
	offer(RX, SIZE, i);
}

static const uint8_t *header_of(unsigned i)
{
	return g_ram + buffer(i);
}

#define OUT (FREE_RAM + 0x40000)

/* Sends `len` bytes behind a header, in three pieces. */
static void send_frame(unsigned len)
{
	unsigned cut = len < 20 ? len / 2 : 20;

	put_desc(TX, 0, OUT, HEADER, F_NEXT, 1);
	put_desc(TX, 1, OUT + HEADER, cut, F_NEXT, 2);
	put_desc(TX, 2, OUT + HEADER + cut, len - cut, 0, 0);
	offer(TX, SIZE, 0);
	kick(SLOT, TX);
}

/* -- The tests --------------------------------------------------------------------- */

static void test_config(void)
{
	make();
	is_int(cfg_read(SLOT, 0, 4), 0x10411af4, "a modern network card");
	ok(drive(SLOT, F_ALL, 2, SIZE), "a driver that takes all that is offered");
	is_int(bar_in(SLOT, 0, CONFIG, 4), 0x01005452, "its address");
	is_int(bar_in(SLOT, 0, CONFIG + 4, 2), 0x0302, "to the end");
	is_int(bar_in(SLOT, 0, CONFIG + 6, 2), 1, "the link is up");
	is_int(bar_in(SLOT, 0, CONFIG + 10, 2), 9000, "the MTU");
	ok(drive(SLOT, F_MTU, 2, SIZE), "a driver that takes a frame in one buffer only");
	is_int(bar_in(SLOT, 0, CONFIG + 10, 2), 1500, "hears of a smaller one");
	unmake();
}

static void test_send(void)
{
	unsigned before;

	make();
	drive(SLOT, F_MRG_RXBUF, 2, SIZE);
	before = g_messages;
	for (unsigned i = 0; i < 100; i++)
		g_ram[OUT + HEADER + i] = (uint8_t)(i + 1);
	send_frame(100);
	is_int(used_idx(TX), 1, "a frame is sent");
	is_int(sent(), 100, "without its header");
	ok(bytes[4] == 1 && bytes[4 + 99] == 100, "as it was");
	is_int(g_messages, before, "who has sent little is not interrupted for it at once");
	while (g_messages == before)
		loop_once(loop);
	is_int(g_msi_data, 0x42, "but a moment later");
	before = g_messages;
	send_frame(6000);
	is_int(g_messages, before + 1, "who has sent much is at once");
	is_int(sent(), 6000, "and it is there");
	send_frame(13);
	put_desc(TX, 0, OUT, HEADER, 0, 0);
	offer(TX, SIZE, 0);
	kick(SLOT, TX);
	is_int(used_idx(TX), 4, "what is too short for one is taken");
	is_int(sent(), 0, "and lost");
	put_desc(TX, 0, 0, RAM_SIZE, 0, 0);
	offer(TX, SIZE, 0);
	kick(SLOT, TX);
	is_int(used_idx(TX), 5, "so is what is too long");
	is_int(sent(), 0, "and lost");
	put_desc(TX, 0, OUT, HEADER - 1, 0, 0);
	offer(TX, SIZE, 0);
	kick(SLOT, TX);
	is_int(bar_in(SLOT, 0, STATUS, 1), 15 | NEEDS_RESET, "one without its header is a lie");
	unmake();
}

/* UDP from 1.2.3.4 to 5.6.7.8, of which the sum of the pseudo-header is there. */
static void test_checksum(void)
{
	static const uint8_t frame[] = {
		0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8,
		0, 1, 0, 2, 0, 11, 0x06 + 1 + 5, 0x08 + 2 + 6 + 12, 'a', 'b', 'c'};
	uint8_t *header = g_ram + OUT;
	uint32_t sum = 0;

	make();
	drive(SLOT, F_CSUM, 2, SIZE);
	memset(header, 0, HEADER);
	memcpy(header + HEADER, frame, sizeof(frame));
	/* pseudo-header: 0102 + 0304 + 0506 + 0708 + 17 + 11 */
	header[HEADER + 40] = 0x10;
	header[HEADER + 41] = 0x30;
	header[0] = 1;
	header[6] = 34;
	header[8] = 6;
	send_frame(sizeof(frame));
	is_int(sent(), sizeof(frame), "a frame whose checksum is left to us");
	for (unsigned i = 34; i < sizeof(frame); i++)
		sum += i % 2 ? bytes[4 + i] : (uint32_t)bytes[4 + i] << 8;
	sum += 0x1030;
	sum = (sum & 0xffff) + (sum >> 16);
	is_int((sum & 0xffff) + (sum >> 16), 0xffff, "has it");
	is_int(header[HEADER + 40] << 8 | header[HEADER + 41], 0x1030, "and the driver's memory is as it was");
	for (unsigned i = 0; i < 4; i++) {
		static const uint8_t lies[][4] = {{45, 0, 0, 0}, {34, 0, 20, 0}, {0xff, 0xff, 0xff, 0xff}, {0, 2, 0, 0}};

		memcpy(header + 6, lies[i], 4);
		send_frame(sizeof(frame));
		is_int(sent(), 0, "where there is no place for it, it is lost");
	}
	ok(bar_in(SLOT, 0, STATUS, 1) == 15 && used_idx(TX) == 5, "and the driver goes on");
	unmake();
}

static void test_full(void)
{
	unsigned n = 0, got = 0;

	make();
	drive(SLOT, 0, 2, SIZE);
	memset(g_ram + OUT, 0, HEADER);
	while (n < 300 && used_idx(TX) == n % 65536) { /* until the other end takes no more */
		send_frame(1500);
		n++;
	}
	ok(n > 2 && n < 300, "after %u frames the ring waits", n);
	is_int(used_idx(TX), n - 1, "with the last one");
	for (unsigned i = 0; i < 100 && got < n; i++) {
		while (sent())
			got++;
		turn();
	}
	is_int(got, n, "all of them come when there is room");
	is_int(used_idx(TX), n, "and the driver has its buffers back");
	unmake();
}

static void test_receive(void)
{
	unsigned before;

	make();
	come(60, 1);
	turn();
	drive(SLOT, 0, 2, SIZE);
	turn();
	is_int(used_idx(RX), 0, "without a buffer nothing comes");
	offer_buffer(0, 0x800);
	kick(SLOT, RX);
	turn();
	turn();
	is_int(used_idx(RX), 1, "with one the frame that waited does");
	is_int(used_len(RX, SIZE), HEADER + 60, "all of it");
	ok(header_of(0)[HEADER] == 1 && header_of(0)[HEADER + 59] == 60, "as it was");
	is_int(le16_get(header_of(0) + 10), 1, "in one buffer");
	offer_buffer(1, 100);
	kick(SLOT, RX);
	before = g_messages;
	come(100, 1);
	come(70, 9);
	turn();
	is_int(used_idx(RX), 2, "one that does not fit into its buffer is lost, the next one comes");
	is_int(used_len(RX, SIZE), HEADER + 70, "and is whole");
	is_int(g_messages, before + 1, "with a message");
	put_desc(RX, 3, FREE_RAM, 8, F_WRITE, 0);
	offer(RX, SIZE, 3);
	kick(SLOT, RX);
	come(60, 1);
	turn();
	turn();
	is_int(bar_in(SLOT, 0, STATUS, 1), 15 | NEEDS_RESET, "a buffer without room for a header is a lie");
	unmake();
}

static void test_mergeable(void)
{
	bool same = true;

	make();
	drive(SLOT, F_MRG_RXBUF, 2, SIZE);
	for (unsigned i = 0; i < 3; i++)
		offer_buffer(i, 100);
	kick(SLOT, RX);
	come(300, 5);
	turn();
	turn();
	is_int(used_idx(RX), 0, "300 bytes do not fit into three buffers of 100, with a header");
	offer_buffer(3, 100);
	kick(SLOT, RX);
	turn();
	turn();
	is_int(used_idx(RX), 4, "but into four");
	is_int(le16_get(header_of(0) + 10), 4, "which the header says");
	for (unsigned i = 0; i < 300; i++)
		same &= g_ram[i < 88 ? buffer(0) + HEADER + i : buffer(1 + (i - 88) / 100) + (i - 88) % 100] == (uint8_t)(5 + i);
	ok(same, "in order");
	is_int(used_len(RX, SIZE), 12, "the last one in part");
	for (unsigned i = 0; i < SIZE; i++)
		offer_buffer(i, 100);
	kick(SLOT, RX);
	come(2000, 5);
	come(60, 77);
	turn();
	turn();
	is_int(used_idx(RX), 5, "a frame that is longer than all buffers that there can be is lost");
	is_int(header_of(0)[HEADER], 77, "and the next one comes");
	unmake();
}

/* A port that has made the checksums itself says so, to who wants to know. */
static void test_checked(void)
{
	make();
	port->checked = true;
	for (unsigned i = 0; i < 2; i++) {
		drive(SLOT, i ? F_GUEST_CSUM : 0, 2, SIZE);
		offer_buffer(0, 0x800);
		kick(SLOT, RX);
		come(60, 1);
		turn();
		turn();
		is_int(header_of(0)[0], i ? 2 : 0, i ? "checksums are right" : "nothing is said to who has not asked");
	}
	unmake();
}

static void test_link(void)
{
	unsigned before, generation;

	make();
	drive(SLOT, 0, 2, SIZE);
	generation = (unsigned)bar_in(SLOT, 0, 0x15, 1);
	bar_out(SLOT, 0, 0x10, 2, 0);
	before = g_messages;
	virtio_net_plug(nic, false);
	is_int(bar_in(SLOT, 0, CONFIG + 6, 2), 0, "the cable is pulled: the link is down");
	is_int(g_messages, before + 1, "the driver is told");
	is_int(g_msi_data, 0x40, "by the vector of the configuration");
	is_int(bar_in(SLOT, 0, 0x15, 1), generation + 1, "which is another one now");
	memset(g_ram + OUT, 0, HEADER);
	send_frame(60);
	is_int(used_idx(TX), 1, "frames are taken");
	is_int(sent(), 0, "and lost");
	virtio_net_plug(nic, true);
	virtio_net_plug(nic, true);
	ok(virtio_net_link(nic), "it is up again");
	is_int(g_messages, before + 2, "and the driver is told once");
	device_pause(nic);
	virtio_net_plug(nic, false);
	is_int(bar_in(SLOT, 0, CONFIG + 6, 2), 1, "while it is paused nothing changes");
	device_resume(nic);
	is_int(bar_in(SLOT, 0, CONFIG + 6, 2), 0, "but then");
	virtio_net_plug(nic, true);
	close(wire);
	turn();
	is_int(bar_in(SLOT, 0, CONFIG + 6, 2), 0, "who was at the other end is gone: it is down");
	wire = -1;
	unmake();
}

/* A paused card reads nothing, and what came goes on then; a loaded one is down first. */
static void test_pause(void)
{
	struct state_out state = {0};
	struct state_in in;
	unsigned used = 0, before;

	make();
	drive(SLOT, 0, 2, SIZE);
	bar_out(SLOT, 0, 0x10, 2, 0);
	offer_buffer(0, 0x800);
	kick(SLOT, RX);
	turn();
	device_pause(nic);
	come(60, 1);
	turn();
	is_int(used_idx(RX), 0, "a paused card takes no frame");
	is_int(device_save(nic, "nic", &state), 0, "it is saved");
	device_resume(nic);
	turn();
	turn();
	is_int(used_idx(RX), 1, "it goes on");
	device_destroy(nic);
	plug(port);
	in = (struct state_in){.bytes = state.bytes, .len = state.len};
	is_int(device_load(nic, "nic", &in, 0, &used, NULL), 0, "another one is loaded");
	before = g_messages;
	device_resume(nic);
	is_int(bar_in(SLOT, 0, CONFIG + 6, 2), 0, "its cable was pulled");
	is_int(g_messages, before + 1, "of which the driver is told");
	while (!virtio_net_link(nic))
		loop_once(loop);
	is_int(g_messages, before + 2, "and told again when it is plugged in, a second later");
	free(state.bytes);
	unmake();
}

/* -- A port with headers ----------------------------------------------------------- */

static unsigned offloads, vnet_pieces;
static uint8_t vnet_frame[200];
static size_t vnet_len;

static bool vnet_send(struct net_port *p, const struct iovec *iov, unsigned n)
{
	(void)p;
	vnet_pieces = n;
	memcpy(vnet_frame, iov[0].iov_base, iov[0].iov_len);
	return true;
}

static const uint8_t *vnet_peek(struct net_port *p, size_t *len)
{
	(void)p;
	*len = vnet_len;
	return vnet_len ? vnet_frame : NULL;
}

static void vnet_drop(struct net_port *p)
{
	(void)p;
	vnet_len = 0;
}

static void vnet_wants(const struct net_port *p, bool frames, bool room, struct pollfd *poll)
{
	(void)p, (void)frames, (void)room;
	poll->fd = wire;
	poll->events = POLLIN;
}

static void vnet_serve(struct net_port *p, short revents)
{
	char byte;

	(void)p, (void)revents;
	if (read(wire, &byte, 1) != 1)
		abort();
}

static void vnet_offload(struct net_port *p, unsigned what)
{
	(void)p;
	offloads = what;
}

static void test_vnet(void)
{
	static const struct net_port_type type = {.vnet = true, .send = vnet_send, .peek = vnet_peek, .drop = vnet_drop,
						  .wants = vnet_wants, .serve = vnet_serve, .offload = vnet_offload};
	struct net_port p = {.type = &type, .mtu = 1500, .up = true};
	int ends[2];

	if (pipe(ends) < 0)
		abort();
	wire = ends[0];
	offloads = 99;
	plug(&p);
	is_int(offloads, 0, "a kernel is told that nobody takes what it would leave undone");
	drive(SLOT, F_GUEST_TSO4, 2, SIZE);
	is_int(offloads, 0, "nor does who takes segments without checksums");
	drive(SLOT, F_GUEST_CSUM | F_GUEST_TSO4, 2, SIZE);
	is_int(offloads, NET_CSUM | NET_TSO4, "until a driver says that it does");
	memset(g_ram + OUT, 0xab, HEADER);
	send_frame(60);
	ok(vnet_pieces == 3 && vnet_frame[0] == 0xab, "its headers go through");
	memset(vnet_frame, 0xcd, sizeof(vnet_frame));
	vnet_len = HEADER + 50;
	offer_buffer(0, 0x800);
	if (write(ends[1], "x", 1) != 1)
		abort();
	turn();
	ok(used_len(RX, SIZE) == HEADER + 50 && header_of(0)[0] == 0xcd && le16_get(header_of(0) + 10) == 1,
	   "and so do those that come, but for the number of buffers");
	device_reset(nic);
	is_int(offloads, 0, "after a reset it is told again");
	device_destroy(nic);
	close(ends[0]);
	close(ends[1]);
}

/* -- Several pairs ----------------------------------------------------------------- */

#define F_CTRL_VQ (UINT64_C(1) << 17)
#define F_MQ      (UINT64_C(1) << 22)
#define PAIRS     3u
#define CONTROL   (2 * PAIRS)
#define TX_OF(pair) (2 * (pair) + 1)
#define SAID      (FREE_RAM + 0x48000)

static void plug_pairs(struct net_port *p, struct net_port *second)
{
	nic = device_create(&virtio_net_model, g_bus, NULL, &(struct virtio_net_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT}, .port = p, .more_ports = {second}, .pairs = second ? 2 : PAIRS, .loop = loop,
		.mac = {0x52, 0x54, 0, 1, 2, 3}, .mtu = 1500}, NULL);
	device_reset(g_host);
}

/* Its answer; 0xff: there is none. */
static unsigned command(unsigned queue, unsigned class, unsigned what, unsigned pairs, unsigned len)
{
	g_ram[SAID] = (uint8_t)class;
	g_ram[SAID + 1] = (uint8_t)what;
	le16_put(g_ram + SAID + 2, (uint16_t)pairs);
	g_ram[SAID + 0x100] = 0xff;
	put_desc(queue, 0, SAID, len, F_NEXT, 1);
	put_desc(queue, 1, SAID + 0x100, 1, F_WRITE, 0);
	offer(queue, SIZE, 0);
	kick(SLOT, queue);
	return g_ram[SAID + 0x100];
}

/* A TCP frame from the driver by that pair, or to it. */
static void put_tcp(uint8_t *to, bool answer, uint8_t from)
{
	memset(to, 0, 60);
	to[12] = 8;
	to[14] = 0x45;
	to[23] = 6;
	memcpy(to + 26, answer ? "\12\0\2\2\12\0\2\17" : "\12\0\2\17\12\0\2\2", 8);
	to[answer ? 37 : 35] = from;
	to[answer ? 35 : 37] = 80;
}

static void send_by(unsigned pair, uint8_t from)
{
	put_tcp(g_ram + OUT + HEADER, false, from);
	put_desc(2 * pair + 1, 0, OUT, HEADER + 60, 0, 0);
	offer(2 * pair + 1, SIZE, 0);
	kick(SLOT, 2 * pair + 1);
}

/* Buffer i to that pair. */
static void offer_to(unsigned pair, unsigned i)
{
	put_desc(2 * pair, i, buffer(8 * pair + i), 0x800, F_WRITE, 0);
	offer(2 * pair, SIZE, i);
	kick(SLOT, 2 * pair);
}

static void come_tcp(uint8_t to)
{
	put_tcp(bytes + 4, true, to);
	write_frame(60);
	turn();
	turn();
}

static void test_commands(void)
{
	is_int(bar_in(SLOT, 0, CONFIG + 8, 2), PAIRS, "a card with three pairs says so");
	is_int(command(CONTROL, 4, 0, 2, 4), 0, "a driver uses two");
	is_int(command(CONTROL, 4, 0, 0, 4), 1, "none are not enough");
	is_int(command(CONTROL, 4, 0, PAIRS + 1, 4), 1, "four are too many");
	is_int(command(CONTROL, 4, 0, 0xffff, 4), 1, "and so are 65535");
	is_int(command(CONTROL, 4, 0, 3, 3), 1, "half a command is none");
	is_int(command(CONTROL, 4, 1, 3, 4), 1, "hashes are not there");
	is_int(command(CONTROL, 0, 0, 1, 4), 1, "nor are filters");
}

static void test_flows(void)
{
	for (unsigned i = 0; i < 8; i++)
		for (unsigned pair = 0; pair < 2; pair++)
			offer_to(pair, i);
	send_by(1, 5);
	is_int(sent(), 60, "the second pair sends");
	come_tcp(5);
	ok(used_idx(2) == 1 && used_idx(0) == 0, "and has the answer");
	send_by(0, 5);
	sent();
	come_tcp(5);
	ok(used_idx(2) == 1 && used_idx(0) == 1, "which goes where the last question came from");
	send_by(2, 6);
	is_int(sent(), 0, "a pair that is not used sends nothing");
	for (uint8_t p = 10; p < 14; p++)
		come_tcp(p);
	is_int(used_idx(0) + used_idx(2), 6, "what nobody has asked for is for any");
	is_int(used_idx(4), 0, "that is used");
	command(CONTROL, 4, 0, 1, 4);
	send_by(1, 5);
	is_int(sent(), 0, "one pair is left");
	come_tcp(5);
	ok(used_idx(0) + used_idx(2) == 7 && bar_in(SLOT, 0, STATUS, 1) == 15, "for all that comes");
}

static void test_pairs(void)
{
	struct state_out out = {0};
	unsigned used = 0;

	make();
	device_destroy(nic);
	plug_pairs(port, NULL);
	memset(g_ram + OUT, 0, HEADER);
	ok(drive(SLOT, F_CTRL_VQ | F_MQ, CONTROL + 1, SIZE), "a driver that knows of pairs");
	test_commands();
	test_flows();
	command(CONTROL, 4, 0, 3, 4);
	device_pause(nic);
	device_save(nic, "n", &out);
	device_destroy(nic);
	plug_pairs(port, NULL);
	is_int(device_load(nic, "n", &(struct state_in){.bytes = out.bytes, .len = out.len}, 0, &used, NULL), 0, "it is saved and loaded");
	device_resume(nic);
	while (!virtio_net_link(nic))
		loop_once(loop);
	send_by(2, 9);
	is_int(sent(), 60, "with the pairs that its driver uses");
	is_int(command(CONTROL, 4, 0, 2, 4), 0, "and its commands");
	free(out.bytes);
	put_desc(CONTROL, 0, SAID, 4, 0, 0);
	offer(CONTROL, SIZE, 0);
	kick(SLOT, CONTROL);
	is_int(bar_in(SLOT, 0, STATUS, 1), 15 | NEEDS_RESET, "a command without room for its answer is a lie");
	ok(drive(SLOT, F_CTRL_VQ, 3, SIZE), "a driver that has a control queue, and one pair");
	is_int(command(2, 4, 0, 1, 4), 1, "finds it behind that, and no pairs to set");
	ok(drive(SLOT, 0, 2, SIZE), "one that knows of neither");
	send_frame(60);
	is_int(sent(), 60, "sends by the first");
	unmake();
}

static void make_pairs(uint64_t features)
{
	make();
	device_destroy(nic);
	plug_pairs(port, NULL);
	memset(g_ram + OUT, 0, HEADER);
	drive(SLOT, F_CTRL_VQ | F_MQ | features, CONTROL + 1, SIZE);
	command(CONTROL, 4, 0, 2, 4);
}

/* With event indices a driver kicks once, and then waits for whom it has kicked. */
static void test_used_again(void)
{
	make_pairs(F_EVENT_IDX);
	send_by(1, 5);
	is_int(sent(), 60, "a pair is used");
	command(CONTROL, 4, 0, 1, 4);
	send_by(1, 5);
	is_int(sent(), 0, "and is not");
	command(CONTROL, 4, 0, 2, 4);
	is_int(sent(), 60, "what waited there is sent when it is used again, without a kick");
	is_int(used_idx(TX_OF(1)), 2, "all of it");
	unmake();
}

/* A queue that is reset takes no other's place at the cable along. */
static void test_reset_of_one(void)
{
	unsigned n = 0, got = 0;

	make_pairs(F_RING_RESET);
	for (; n < 2000 && used_idx(TX_OF(1)) == n; n++)
		send_by(1, 5);
	ok(n > 2 && n < 2000, "after %u frames a pair waits", n);
	send_by(0, 6);
	is_int(used_idx(TX_OF(0)), 0, "and so does another");
	bar_out(SLOT, 0, 0x16, 2, TX_OF(1));
	bar_out(SLOT, 0, 0x3a, 2, 1);
	for (unsigned i = 0; i < 100 && got < n; i++) {
		while (sent())
			got++;
		turn();
	}
	is_int(used_idx(TX_OF(0)), 1, "which sends when there is room, though the first one was reset");
	is_int(got, n, "what was sent has come, and of the reset queue no more");
	unmake();
}

static void say_over(void *ctx)
{
	*(bool *)ctx = true;
}

/* The driver of a pair that it uses no more has its interrupt yet. */
static void test_sent_before(void)
{
	struct loop_timer later;
	bool over = false;
	unsigned before;

	make_pairs(0);
	send_by(1, 5);
	is_int(sent(), 60, "a pair has sent");
	command(CONTROL, 4, 0, 1, 4);
	before = g_messages;
	loop_timer_init(&later, loop, say_over, &over);
	loop_timer_set(&later, loop_now() + 20000000); /* behind the card's */
	while (!over)
		loop_once(loop);
	is_int(g_messages, before + 1, "and its driver is told, though it uses the pair no more");
	loop_timer_fini(&later);
	unmake();
}

/* A tap with two queues is two ports. */
static void test_lanes(void)
{
	struct net_port *first, *second;
	int wires[2];

	make();
	device_destroy(nic);
	first = port, wires[0] = wire;
	make();
	device_destroy(nic);
	second = port, wires[1] = wire;
	plug_pairs(first, second);
	drive(SLOT, F_CTRL_VQ | F_MQ, 5, SIZE);
	is_int(command(4, 4, 0, 2, 4), 0, "two pairs, and a port for each");
	for (unsigned i = 0; i < 8; i++)
		offer_to(i % 2, i / 2);
	send_by(0, 1);
	send_by(1, 1);
	wire = wires[0];
	ok(sent() == 60 && sent() == 0, "each sends to its own");
	come_tcp(7);
	ok(used_idx(0) == 1 && used_idx(2) == 0, "and has what comes there");
	wire = wires[1];
	ok(sent() == 60 && sent() == 0, "the second as well");
	come_tcp(7);
	ok(used_idx(0) == 1 && used_idx(2) == 1, "both ways");
	command(4, 4, 0, 1, 4);
	come_tcp(7);
	ok(used_idx(0) == 2 && used_idx(2) == 1, "and what has lost its pair comes to the first");
	device_destroy(nic);
	for (unsigned i = 0; i < 2; i++) {
		(i ? second : first)->type->close(i ? second : first);
		close(wires[i]);
	}
}

int main(void)
{
	g_start();
	if (loop_create(&loop, NULL) < 0)
		return 1;
	loop_timer_init(&soon, loop, nothing, NULL);
	test_config();
	test_send();
	test_checksum();
	test_full();
	test_receive();
	test_mergeable();
	test_checked();
	test_link();
	test_pause();
	test_vnet();
	test_pairs();
	test_used_again();
	test_reset_of_one();
	test_sent_before();
	test_lanes();
	loop_timer_fini(&soon);
	loop_destroy(loop);
	g_stop();
	return done_testing();
}
