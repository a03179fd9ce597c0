/* SPDX-License-Identifier: MIT */
/*
 * A driver that puts any bytes into the rings and registers of a network card, against dev/net/e1000.c; and any frames from the other end of its cable.
 *
 * The input is guest RAM (its first part: rings, contexts, frames) and steps of eight bytes: a register is written, rings begin anew, a descriptor is made,
 * a frame comes. Each second frame finds the cable full.
 *
 * Nothing may crash, hang, or touch a byte outside of guest RAM, which is an allocation of its own; and what is sent is a frame.
 */
#include "base/bytes.h"
#include "dev/net/e1000.h"
#include "dev/pci/pci.h"
#include "loop/loop.h"
#include "net/port.h"

#include <stdlib.h>
#include <string.h>

#define RAM_SIZE 0x10000u
#define BAR      0xc0000000u
#define ECAM     0xe0000000u
#define SLOT     1
#define RX_RING  0x0000u
#define TX_RING  0x0400u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;
static struct loop_timer soon;
static struct bus *bus;
static uint8_t *ram;
static const uint8_t *coming; /* a frame, in memory of its own */
static size_t coming_len;
static bool is_full;

static void must(bool fine)
{
	if (!fine)
		abort();
}

/* -- The cable ----------------------------------------------------------------------------- */

static bool send_frame(struct net_port *p, const struct iovec *iov, unsigned n)
{
	volatile uint8_t sum = 0;
	size_t len = 0;

	(void)p;
	must(n >= 1 && n <= 4);
	for (unsigned i = 0; i < n; i++) {
		for (size_t k = 0; k < iov[i].iov_len; k += 64)
			sum = (uint8_t)(sum + ((const uint8_t *)iov[i].iov_base)[k]);
		len += iov[i].iov_len;
	}
	must(len >= NET_FRAME_MIN && len <= NET_FRAME_MAX + 4);
	return is_full = !is_full;
}

static const uint8_t *peek(struct net_port *p, size_t *len)
{
	(void)p;
	*len = coming_len;
	return coming;
}

static void drop(struct net_port *p)
{
	(void)p;
	free((void *)coming);
	coming = NULL;
}

static void wants(const struct net_port *p, bool frames, bool room, struct pollfd *poll)
{
	(void)p, (void)frames, (void)room;
	poll->fd = -1;
}

static void serve(struct net_port *p, short revents)
{
	(void)p, (void)revents;
}

static const struct net_port_type type = {.send = send_frame, .peek = peek, .drop = drop, .wants = wants, .serve = serve};

static void nothing(void *ctx)
{
	(void)ctx;
}

static void turn(void)
{
	loop_call(&soon);
	loop_once(loop);
}

/* -- The driver ------------------------------------------------------------------------------ */

static void out(unsigned at, uint32_t value)
{
	bus_write(bus, BUS_MMIO, BAR + at, 4, value);
}

static void start(const uint8_t *step)
{
	out(0x2800, RX_RING);
	out(0x2804, 0);
	out(0x2808, 256);
	out(0x3800, TX_RING);
	out(0x3804, 0);
	out(0x3808, 512);
	out(0x2818, step[2] % 16);
	out(0x100, 0x801au | (uint32_t)step[3] << 16 | (step[4] & 1 ? 0x20u : 0));
	out(0x400, 2);
	out(0xd0, 0xff);
}

static void put(const uint8_t *step)
{
	static const uint8_t commands[] = {0x09, 0x0d, 0x20, 0x24, 0x27, 0x29, 0x2d, 0x49, 0x6d, 0x00};
	uint8_t *d = ram + TX_RING + step[1] % 32u * 16;

	le64_put(d, (uint64_t)le16_get(step + 2) & 0xfff8);
	le32_put(d + 8, le16_get(step + 4) & 0x3fffu);
	d[10] |= step[6] & 0x10;
	d[11] = commands[step[6] % sizeof(commands)];
	d[13] = step[7];
	le16_put(d + 14, (uint16_t)(step[7] * 8));
}

static void come(const uint8_t *step)
{
	size_t len = 14 + le16_get(step + 2) % 3000u;
	uint8_t *frame = coming ? NULL : malloc(len);

	if (!frame)
		return;
	memset(frame, step[4], len);
	coming = frame;
	coming_len = len;
}

static void do_step(struct device *nic, const uint8_t *step)
{
	static const uint16_t regs[] = {0x00, 0x10, 0x14, 0x20, 0xc0, 0xc8, 0xd0, 0xd8, 0x100, 0x400, 0x2800, 0x2808, 0x2810, 0x2818, 0x3800,
					0x3808, 0x3810, 0x3818};

	switch (step[0] % 8) {
	case 0:
		out(regs[step[1] % (sizeof(regs) / sizeof(regs[0]))], le32_get(step + 4));
		break;
	case 1:
		bus_read(bus, BUS_MMIO, BAR + le16_get(step + 2), 1u << step[4] % 4);
		bus_write(bus, BUS_MMIO, BAR + le16_get(step + 2), 1u << step[4] % 4, le32_get(step + 4));
		break;
	case 2:
	case 3:
		put(step);
		break;
	case 4:
		out(0x3818, step[1] % 32);
		break;
	case 5:
		come(step);
		break;
	case 6:
		start(step);
		break;
	case 7:
		e1000_plug(nic, step[1] & 3);
		break;
	}
	turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t rings = size / 4 < 0x1000 ? size / 4 : 0x1000;
	struct guest_mem mem = {.n = 1, .regions[0] = {.size = RAM_SIZE}};
	struct net_port port = {.type = &type, .up = true};
	struct device *host, *nic;

	if (!loop) {
		must(loop_create(&loop, NULL) == 0);
		loop_timer_init(&soon, loop, nothing, NULL);
	}
	ram = mem.regions[0].host = calloc(1, RAM_SIZE);
	memcpy(ram, data, rings);
	bus = bus_create();
	host = device_create(&pci_host_model, bus, (uint64_t[]){0xcf8, 0xcfc, ECAM}, &(struct pci_host_config){
		.io_base = 0xc000, .io_size = 0x1000, .mem_base = BAR, .mem_size = 0x100000}, NULL);
	nic = device_create(&e1000_model, bus, NULL, &(struct e1000_config){
		.host = host, .mem = &mem, .slot = SLOT, .port = &port, .loop = loop, .mac = {0x52, 0x54, 0, 1, 2, 3}}, NULL);
	device_reset(host);
	start((const uint8_t[8]){0, 0, 8});
	for (data += rings, size -= rings; size >= 8; data += 8, size -= 8)
		do_step(nic, data);
	device_destroy(nic);
	device_destroy(host);
	bus_destroy(bus);
	free(ram);
	if (coming)
		drop(&port);
	return 0;
}
