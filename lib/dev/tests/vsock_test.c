/* SPDX-License-Identifier: MIT */
/*
 * The socket device, with who has the connections played by this test: packets go there and come from there, in as many parts as the driver's buffers
 * ask for; a driver is told when its connections are gone.
 */
#include "base/bytes.h"
#include "dev/tests/guest.h"
#include "dev/virtio/vsock_packet.h"
#include "loop/loop.h"
#include "net/port.h"
#include "state/state.h"
#include "tests/tap.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define SLOT 5u
#define SIZE 16u
#define BUFFER 0x1000u

enum { RX, TX, EVENT };

static struct device *dev;
static struct loop *loop;
static struct loop_timer soon;
static struct net_port *port;
static int end;

static void nothing(void *ctx)
{
	(void)ctx;
}

static void turn(void)
{
	loop_call(&soon);
	loop_once(loop);
}

static void make(void)
{
	dev = device_create(&virtio_vsock_model, g_bus, NULL, &(struct virtio_vsock_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT}, .cid = 0x12345678, .port = port, .loop = loop}, NULL);
	device_reset(g_host);
}

static void start(void)
{
	int ends[2];

	g_start();
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0 || loop_create(&loop, NULL) < 0 ||
	    net_stream(&port, &(struct net_stream_config){.fd = ends[0], .mtu = 1500}, NULL) < 0)
		abort();
	end = ends[1];
	loop_timer_init(&soon, loop, nothing, NULL);
	make();
	ok(drive(SLOT, 0, 3, SIZE), "a driver");
}

static void stop(void)
{
	device_destroy(dev);
	loop_timer_fini(&soon);
	loop_destroy(loop);
	port->type->close(port);
	close(end);
	g_stop();
}

/* Buffer i of a queue's driver: of so many bytes, all ones. */
static void give(unsigned queue, unsigned i, uint32_t len)
{
	uint32_t at = FREE_RAM + (queue * 8 + i) * BUFFER;

	memset(g_ram + at, 0xff, BUFFER);
	put_desc(queue, i, at, len, F_WRITE, 0);
	offer(queue, SIZE, i);
	kick(SLOT, queue);
}

static const uint8_t *at(unsigned queue, unsigned i)
{
	return g_ram + FREE_RAM + (queue * 8 + i) * BUFFER;
}

/* A packet that says it has so many bytes, from who has the connections. */
static void say(uint32_t len)
{
	uint8_t packet[4 + VSOCK_HEADER + 2000] = {0};

	be32_put(packet, VSOCK_HEADER + len);
	le32_put(packet + 4 + VSOCK_LEN, len);
	le16_put(packet + 4 + VSOCK_OP, VSOCK_RW);
	for (uint32_t i = 0; i < len; i++)
		packet[4 + VSOCK_HEADER + i] = (uint8_t)(i / 7);
	if (write(end, packet, 4 + VSOCK_HEADER + len) < 0)
		ok(false, "a packet");
	turn();
}

static bool is_part(const uint8_t *got, uint32_t from, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		if (got[VSOCK_HEADER + i] != (uint8_t)((from + i) / 7))
			return false;
	return le32_get(got + VSOCK_LEN) == len && le16_get(got + VSOCK_OP) == VSOCK_RW && got[VSOCK_HEADER + len] == 0xff;
}

static void test_out(void)
{
	uint8_t got[4 + VSOCK_HEADER + 6];
	uint32_t packet = FREE_RAM + 32 * BUFFER;

	start();
	is_int(bar_in(SLOT, 0, 0x2000, 4), 0x12345678, "its CID");
	is_int(bar_in(SLOT, 0, 0x2004, 4), 0, "of 64 bits");
	memset(g_ram + packet, 7, VSOCK_HEADER);
	memcpy(g_ram + packet + VSOCK_HEADER, "sixsix", 6);
	put_desc(TX, 0, packet, VSOCK_HEADER, F_NEXT, 1);
	put_desc(TX, 1, packet + VSOCK_HEADER, 6, 0, 0);
	offer(TX, SIZE, 0);
	kick(SLOT, TX);
	is_int(used_idx(TX), 1, "a packet is taken");
	for (unsigned i = 0; i < 2; i++) { /* the board's reset, and the driver's */
		ok(recv(end, got, 4 + VSOCK_HEADER, MSG_WAITALL) == 4 + VSOCK_HEADER && le16_get(got + 4 + VSOCK_OP) == VSOCK_NONE &&
		   le64_get(got + 4 + VSOCK_SRC_CID) == 0x12345678, "that a driver begins anew is told");
	}
	is_int(recv(end, got, sizeof(got), MSG_WAITALL), sizeof(got), "then the packet goes there");
	ok(be32_get(got) == VSOCK_HEADER + 6 && got[4] == 7 && memcmp(got + 4 + VSOCK_HEADER, "sixsix", 6) == 0, "as it is");
	put_desc(TX, 2, packet, VSOCK_HEADER - 1, 0, 0);
	offer(TX, SIZE, 2);
	kick(SLOT, TX);
	is_int(bar_in(SLOT, 0, STATUS, 1) & 0x40, 0x40, "what is shorter than a header is a lie");
	stop();
}

static void test_in(void)
{
	start();
	say(100);
	is_int(used_idx(RX), 0, "without buffers nothing comes");
	give(RX, 0, BUFFER);
	turn();
	ok(used_idx(RX) == 1 && is_part(at(RX, 0), 0, 100), "with one it does");
	give(RX, 1, VSOCK_HEADER + 60);
	say(100);
	ok(used_idx(RX) == 2 && is_part(at(RX, 1), 0, 60), "one that is too long comes in parts");
	device_pause(dev);
	device_resume(dev);
	give(RX, 2, VSOCK_HEADER + 1);
	turn();
	ok(used_idx(RX) == 3 && is_part(at(RX, 2), 60, 1), "each with a header that says how long it is");
	give(RX, 3, BUFFER);
	turn();
	ok(used_idx(RX) == 4 && is_part(at(RX, 3), 61, 39), "to its end");
	give(RX, 4, BUFFER);
	say(0);
	ok(used_idx(RX) == 5 && is_part(at(RX, 4), 0, 0), "and the next one after it");
	give(RX, 5, VSOCK_HEADER);
	say(1);
	is_int(bar_in(SLOT, 0, STATUS, 1) & 0x40, 0x40, "a buffer that has no room for a byte is a lie");
	stop();
}

/* It is loaded, as by another lodge. */
static void test_moved(void)
{
	struct state_out out = {0};
	unsigned used = 0;

	start();
	give(RX, 0, BUFFER);
	device_pause(dev);
	is_int(device_save(dev, "vsock", &out), 0, "it is saved");
	device_resume(dev);
	is_int(used_idx(EVENT), 0, "and goes on, as if nothing had happened");
	device_destroy(dev);
	make();
	is_int(device_load(dev, "vsock", &(struct state_in){out.bytes, out.len}, 0, &used, NULL), 0, "what was saved is loaded");
	device_resume(dev);
	say(10);
	is_int(used_idx(RX), 0, "nothing comes before the driver knows");
	give(EVENT, 0, 4);
	ok(used_idx(EVENT) == 1 && le32_get(at(EVENT, 0)) == 0, "that its connections are gone");
	turn();
	is_int(used_idx(RX), 1, "then it does");
	free(out.bytes);
	stop();
}

int main(void)
{
	test_out();
	test_in();
	test_moved();
	return done_testing();
}
