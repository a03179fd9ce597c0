/* SPDX-License-Identifier: MIT */
/*
 * A driver that puts any bytes into a USB controller's registers, contexts and rings, against dev/usb: a disk, a keyboard and a tablet are there, and
 * have been found already, slots 1 to 3.
 *
 * The input is steps of eight bytes: what, at which slot and endpoint, and values. Rings are of one page's quarter, and end with a link to their beginning
 * unless a step puts another one. Some steps make a command of the disk that is whole but for what the input says.
 *
 * Nothing may crash, hang, or touch a byte outside of guest RAM, which is an allocation of its own; the disk stays as long as it was; and whatever a
 * driver has made of the controller, it is saved, and another one loads it.
 */
#include "base/err.h"
#include "dev/usb/xhci.h"
#include "fuzz/storage.h"
#include "loop/loop.h"
#include "state/state.h"

#define RAM_SIZE 0x20000u
#define BAR      0xc0000000u
#define OPER     (BAR + 0x40u)
#define RUN      (BAR + 0x1000u)
#define DOORS    (BAR + 0x2000u)

#define DCBAA   0x0000u
#define OUTPUT(slot)   (0x400u + (slot) * 0x400u)
#define COMMANDS 0x3000u
#define EVENTS  0x4000u
#define N_EVENTS 256u
#define ERST    0x5000u
#define INPUT   0x5400u
#define RING(slot, ep) (0x6000u + (slot) * 0x2000u + (ep) * 0x400u) /* slots 1 to 3 */
#define DATA    0x10000u
#define ENTRIES 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct position {
	uint32_t base;
	unsigned at;
	bool cycle;
};

static struct position commands, rings[4][8];
static struct loop *loop;
static struct loop_timer nudge; /* so that a round ends */

static void out(uint64_t at, unsigned width, uint64_t value)
{
	bus_write(bus, BUS_MMIO, at, width, value);
}

static void put_trb(uint32_t at, uint64_t parameter, uint32_t status, uint32_t control)
{
	le64_put(ram + at, parameter);
	le32_put(ram + at + 8, status);
	le32_put(ram + at + 12, control);
}

static void put(struct position *p, uint64_t parameter, uint32_t status, uint32_t control)
{
	put_trb(p->base + p->at * 16, parameter, status, (control & ~1u) | p->cycle);
	if (++p->at < ENTRIES - 1)
		return;
	put_trb(p->base + p->at * 16, p->base, 0, 6u << 10 | 2 | p->cycle);
	p->at = 0;
	p->cycle = !p->cycle;
}

static void ring(unsigned slot, unsigned ep)
{
	out(DOORS + 4 * slot, 4, ep);
}

static void command(unsigned type, uint64_t parameter, uint32_t more)
{
	put(&commands, parameter, 0, type << 10 | more);
	ring(0, 0);
}

/* -- As drivers begin ------------------------------------------------------------------------------ */

static void put_context(unsigned i, unsigned ep_type, unsigned packet, const struct position *p)
{
	le32_put(ram + INPUT + i * 32 + 4, ep_type << 3 | packet << 16);
	le64_put(ram + INPUT + i * 32 + 8, p->base | 1);
}

static struct position *begin_ring(unsigned slot, unsigned ep)
{
	struct position *p = &rings[slot][ep];

	*p = (struct position){RING(slot, ep), 0, true};
	memset(ram + p->base, 0, ENTRIES * 16);
	return p;
}

static void find_device(unsigned slot, unsigned port, unsigned speed)
{
	out(OPER + 0x400 + (port - 1) * 16, 4, 0x210);
	command(9, 0, 0);
	memset(ram + INPUT, 0, 0x400);
	le32_put(ram + INPUT + 4, 3);
	le32_put(ram + INPUT + 32, 1u << 27 | speed << 20);
	ram[INPUT + 32 + 6] = (uint8_t)port;
	put_context(2, 4, 64, begin_ring(slot, 1));
	command(11, INPUT, slot << 24);
	put(&rings[slot][1], 0x00010900, 8, 2u << 10 | 0x40); /* SET_CONFIGURATION 1 */
	put(&rings[slot][1], 0, 0, 4u << 10 | 1u << 16);
	ring(slot, 1);
	memset(ram + INPUT, 0, 0x400);
	le32_put(ram + INPUT + 4, slot == 1 ? 0x19 : 0x09);
	le32_put(ram + INPUT + 32, 7u << 27);
	put_context(4, slot == 1 ? 6 : 7, slot == 1 ? 512 : 8, begin_ring(slot, 3));
	put_context(5, 2, 512, begin_ring(slot, 4));
	command(12, INPUT, slot << 24);
}

static void begin(void)
{
	memset(ram, 0, DATA);
	out(OPER, 4, 2);
	for (unsigned i = 1; i <= 8; i++)
		le64_put(ram + DCBAA + 8 * i, OUTPUT(i));
	le64_put(ram + ERST, EVENTS);
	le32_put(ram + ERST + 8, N_EVENTS);
	commands = (struct position){COMMANDS, 0, true};
	out(OPER + 0x38, 4, 8);
	out(OPER + 0x30, 8, DCBAA);
	out(OPER + 0x18, 8, COMMANDS | 1);
	out(RUN + 0x28, 4, 1);
	out(RUN + 0x38, 8, EVENTS);
	out(RUN + 0x30, 8, ERST);
	out(RUN + 0x20, 4, 2);
	out(OPER, 4, 5);
	for (unsigned slot = 1; slot <= 3; slot++)
		find_device(slot, slot, slot == 1 ? 3 : 1);
}

/* -- Steps ------------------------------------------------------------------------------------------- */

static uint64_t address(const uint8_t *step)
{
	return step[7] & 1 ? (uint64_t)le16_get(step + 4) << 20 | step[6] : DATA + ((uint32_t)step[6] << 8) + (step[7] & 0xeu);
}

static void put_any(struct position *p, const uint8_t *step)
{
	static const uint8_t types[] = {1, 1, 2, 3, 4, 7, 8, 5};
	unsigned type = step[2] & 0x80 ? step[2] & 63 : types[step[2] % 8];

	if (!p->base)
		return;
	put(p, type == 2 ? le32_get(step + 4) | (uint64_t)step[3] << 48 : address(step), le16_get(step + 4) | (step[7] & 0x10u) << 12,
	    type << 10 | (step[3] & 0x74u) | (step[3] & 0x80u) << 9);
}

static void put_link(struct position *p, const uint8_t *step)
{
	if (!p->base)
		return;
	put_trb(p->base + p->at * 16, p->base + step[2] % ENTRIES * 16, 0, 6u << 10 | (step[3] & 2u) | p->cycle);
	p->at = step[2] % (ENTRIES - 1);
	p->cycle ^= step[3] >> 1 & 1;
}

static void use_disk(const uint8_t *step)
{
	static const uint8_t codes[] = {0x28, 0x2a, 0x12, 0x25, 0x35, 0x42, 0x41, 0x03, 0x1a, 0x88, 0x8a, 0x00};
	uint8_t *p = ram + DATA;
	uint32_t len = (uint32_t)step[4] << (step[7] & 15);
	bool in = step[1] & 1;

	memset(p, 0, 31);
	le32_put(p, 0x43425355);
	le32_put(p + 8, len);
	p[12] = in ? 0x80 : 0;
	p[14] = 16;
	p[15] = step[2] & 0x80 ? step[2] : codes[step[2] % sizeof(codes)];
	p[15 + 5] = step[3];
	p[15 + 8] = step[5];
	p[15 + 9] = step[6];
	put(&rings[1][4], DATA, 31, 1u << 10 | 0x20);
	put(&rings[1][in ? 3 : 4], DATA + 0x200, len & 0x1ffff, 1u << 10 | (step[1] & 0x34u));
	put(&rings[1][3], DATA + 0x100, 13, 1u << 10 | 0x24);
	ring(1, 4);
	ring(1, 3);
}

/* The driver has seen events, up to some; and the loop has a round. */
static void look(const uint8_t *step)
{
	out(RUN + 0x38, 8, (EVENTS + step[2] % N_EVENTS * 16) | (step[1] & 8));
	loop_call(&nudge);
	loop_once(loop);
}

static void do_step(struct device *dev, const uint8_t *step)
{
	unsigned slot = 1 + step[1] % 3, ep = 1 + (step[1] >> 2) % 7;

	switch (step[0] % 12) {
	case 0:
		out(BAR + le16_get(step + 2) % 0x2100, 1u << (step[1] & 3), le32_get(step + 4));
		break;
	case 1:
		bus_read(bus, BUS_MMIO, BAR + le16_get(step + 2) % 0x2100, 1u << (step[1] & 3));
		break;
	case 2:
		put_any(&rings[slot][ep], step);
		break;
	case 3:
		ring(step[1] % 10, step[2] % 32);
		break;
	case 4:
		command(9 + step[2] % 16, step[7] & 1 ? address(step) : INPUT, (step[1] % 10u) << 24 | (step[3] & 31u) << 16 | (step[4] & 2u) << 8);
		break;
	case 5: /* the driver writes four bytes, of a context or a ring, or what it likes */
		memcpy(ram + (le16_get(step + 2) | (step[1] & 1u) << 16) % (RAM_SIZE - 8), step + 4, 4);
		break;
	case 6:
		use_disk(step);
		break;
	case 7:
		xhci_key(dev, step[2], step[3] & 1);
		xhci_point(dev, le16_get(step + 4), le16_get(step + 6), (int8_t)step[2], step[3]);
		break;
	case 8:
		look(step);
		break;
	case 9:
		begin();
		break;
	case 10:
		device_pause(dev);
		device_resume(dev);
		break;
	case 11:
		put_link(&rings[slot][ep], step);
		break;
	}
}

/* -- One ---------------------------------------------------------------------------------------------- */

static struct device *make(void)
{
	struct device *dev = device_create(&xhci_model, bus, NULL, &(struct xhci_config){
		.host = host, .mem = &mem, .loop = loop, .slot = SLOT,
		.ports = {{.kind = XHCI_DISK, .disk = disk}, {.kind = XHCI_KEYBOARD}, {.kind = XHCI_TABLET}}}, NULL);

	device_reset(host);
	out(ECAM + SLOT * 0x8000 + 4, 2, 6);
	return dev;
}

/* Into another one, which goes on. */
static struct device *move(struct device *dev)
{
	struct state_out state = {0};
	struct state_in in;
	struct err err = {0};
	unsigned used = 0;

	device_pause(dev);
	if (device_save(dev, "xhci", &state) < 0)
		abort();
	device_destroy(dev);
	dev = make();
	in = (struct state_in){.bytes = state.bytes, .len = state.len};
	if (device_load(dev, "xhci", &in, 0, &used, &err) < 0) {
		fprintf(stderr, "what was saved is not loaded: %s\n", err.text);
		abort();
	}
	free(state.bytes);
	device_resume(dev);
	return dev;
}

static void nothing(void *ctx)
{
	(void)ctx;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct device *dev;

	open_disks();
	if (!loop) {
		if (loop_create(&loop, NULL) < 0)
			abort();
		loop_timer_init(&nudge, loop, nothing, NULL);
	}
	make_bus(RAM_SIZE, data, 0, &(struct pci_host_config){.mem_base = BAR, .mem_size = 0x100000});
	memset(rings, 0, sizeof(rings));
	dev = make();
	begin();
	for (; size >= 8; data += 8, size -= 8)
		do_step(dev, data);
	device_destroy(move(dev));
	unmake_bus();
	return 0;
}
