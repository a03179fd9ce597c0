/* SPDX-License-Identifier: MIT */
/* The USB controller and its devices, as a driver finds and uses them; and as one that lies does. */
#include "block/disk.h"
#include "dev/tests/xhci.h"
#include "loop/loop.h"
#include "state/state.h"
#include "tests/tap.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOT 5u
#define DISK_PORT 1u
#define KEYBOARD_PORT 2u
#define TABLET_PORT 3u
#define SECTORS 4096u

enum { SUCCESS = 1, TRB_ERROR = 5, STALL = 6, NO_SLOTS = 9, NO_SLOT = 11, SHORT = 13, PARAMETER = 17, CONTEXT = 19 };

static struct device *dev;
static struct disk *disk;
static struct loop *loop;
static struct loop_timer nudge; /* one round of the loop, whatever it waits for */

static void open_disk(void)
{
	char path[64];
	int fd = memfd_create("disk", MFD_CLOEXEC);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	for (unsigned i = 0; i < SECTORS; i++) {
		uint32_t sector[128];

		for (unsigned k = 0; k < 128; k++)
			sector[k] = i * 1000 + k;
		if (write(fd, sector, sizeof(sector)) != sizeof(sector))
			abort();
	}
	if (disk_open(&disk, &(struct disk_config){.path = path}, NULL) < 0)
		abort();
}

static void nothing(void *ctx)
{
	(void)ctx;
}

static void turn(void)
{
	loop_call(&nudge);
	loop_once(loop);
}

static void start(void)
{
	g_start();
	if (loop_create(&loop, NULL) < 0)
		abort();
	loop_timer_init(&nudge, loop, nothing, NULL);
	dev = device_create(&xhci_model, g_bus, NULL, &(struct xhci_config){
		.host = g_host, .mem = &g_mem, .loop = loop, .slot = SLOT,
		.ports = {{.kind = XHCI_DISK, .disk = disk}, {.kind = XHCI_KEYBOARD}, {.kind = XHCI_TABLET}}}, NULL);
	device_reset(g_host);
	usb_start(SLOT);
}

static void stop(void)
{
	device_destroy(dev);
	loop_timer_fini(&nudge);
	loop_destroy(loop);
	g_stop();
}

/* -- The controller ------------------------------------------------------------------------------ */

static uint32_t port(unsigned n)
{
	return (uint32_t)bar_in(SLOT, 0, 0x440 + (n - 1) * 16, 4);
}

static void test_ports(void)
{
	unsigned changed = 0;

	is_int((long)bar_in(SLOT, 0, 0, 1), 0x40, "operational registers");
	is_int((long)bar_in(SLOT, 0, 4, 1), 8, "so many slots");
	is_int((long)bar_in(SLOT, 0, 7, 1), 16, "and ports");
	while (usb_take_event(SLOT))
		changed |= usb_type() == 34 ? 1u << (u_event.parameter >> 24) : 0;
	is_int(changed, 0x0e, "it tells of three ports at which something is");
	ok(port(1) >> 10 % 16 && port(2) & 1 && port(3) & 1 && !(port(4) & 1) && !(port(16) & 1), "which say so");
	is_int(port(1) >> 10 & 15, 3, "the disk is fast");
	is_int(port(2) >> 10 & 15, 1, "and the keyboard is not");
	ok(!(port(1) & 2), "no port is enabled");
	bar_out(SLOT, 0, 0x440, 4, 0x210);
	ok((port(1) & 0x200002) == 0x200002, "before it is reset");
	bar_out(SLOT, 0, 0x440, 4, 0x200200);
	is_int(port(1) & 0x200000, 0, "that it was is taken note of");
	ok(usb_take_event(SLOT) && usb_type() == 34, "and was told");
	is_int(usb_command(SLOT, 23, 0, 0), SUCCESS, "a command that does nothing");
	is_int(usb_command(SLOT, 50, 0, 0), TRB_ERROR, "one that there is not");
}

static void test_interrupts(void)
{
	unsigned before = g_messages;

	cfg_write(SLOT, find_cap(SLOT, 5, 0) + 2, 2, 1);
	usb_command(SLOT, 23, 0, 0);
	ok(g_messages > before, "events are told by a message");
	cfg_write(SLOT, find_cap(SLOT, 5, 0) + 2, 2, 0);
	bar_out(SLOT, 0, U_RUN + 0x20, 4, 3);
	usb_command(SLOT, 23, 0, 0);
	ok(g_intx[(SLOT + 0) % 4], "or by the pin");
	bar_out(SLOT, 0, U_RUN + 0x20, 4, 3);
	ok(!g_intx[(SLOT + 0) % 4], "until the driver has seen it");
}

/* -- Slots ------------------------------------------------------------------------------------------ */

static void test_slots(void)
{
	is_int(usb_command(SLOT, 11, U_INPUT, 1u << 24), NO_SLOT, "a slot that is not enabled");
	is_int(usb_command(SLOT, 11, U_INPUT, 200u << 24), NO_SLOT, "or none");
	for (unsigned i = 1; i <= 8; i++)
		is_int(usb_command(SLOT, 9, 0, 0) == SUCCESS ? u_event.control >> 24 : 0, i, "slot %u is enabled", i);
	is_int(usb_command(SLOT, 9, 0, 0), NO_SLOTS, "there is no ninth");
	memset(g_ram + U_INPUT, 0, 0x400);
	is_int(usb_command(SLOT, 11, U_INPUT, 1u << 24), PARAMETER, "a device at no port");
	g_ram[U_INPUT + 32 + 6] = 4;
	is_int(usb_command(SLOT, 11, U_INPUT, 1u << 24), 4, "at one where nothing is");
	is_int(usb_command(SLOT, 11, 0xfffffffff000, 1u << 24), PARAMETER, "a context that is no memory");
	is_int(usb_command(SLOT, 12, U_INPUT, 1u << 24), CONTEXT, "it is not configured before it has an address");
	is_int(usb_command(SLOT, 14, 0, 1u << 24 | 3u << 16), CONTEXT, "an endpoint that is not halted is not reset");
	is_int(usb_command(SLOT, 15, 0, 1u << 24 | 31u << 16), CONTEXT, "one that there is not is not stopped");
	is_int(usb_command(SLOT, 16, 0, 1u << 24 | 31u << 16), CONTEXT, "nor has it a ring");
	for (unsigned i = 1; i <= 8; i++)
		is_int(usb_command(SLOT, 10, 0, i << 24), SUCCESS, "slot %u is free again", i);
}

/* -- A keyboard -------------------------------------------------------------------------------------- */

static void ask_report(unsigned usb, unsigned len)
{
	memset(g_ram + U_DATA, 0xee, 64);
	usb_put(usb, 3, U_DATA, len, 1u << 10 | 0x24);
	usb_ring(SLOT, usb, 3);
}

static void test_keyboard(void)
{
	is_int(usb_address(SLOT, 1, KEYBOARD_PORT, 1), SUCCESS, "the keyboard gets an address");
	is_int(le32_get(g_ram + U_OUTPUT(1) + 12), 2u << 27 | 1, "its context says so");
	is_int(xhci_key(dev, 0x1e, true), 0, "but is not used yet");
	is_int(usb_control(SLOT, 1, 0x80, 6, 0x100, 0, 64), SUCCESS, "its descriptor");
	ok(g_ram[U_DATA] == 18 && g_ram[U_DATA + 1] == 1, "is one");
	is_int(usb_control(SLOT, 1, 0x80, 6, 0x200, 0, 255), SUCCESS, "its configuration");
	ok(g_ram[U_DATA + 1] == 2 && le16_get(g_ram + U_DATA + 2) == 34 && g_ram[U_DATA + 14] == 3, "is an HID's");
	is_int(usb_control(SLOT, 1, 0x80, 6, 0x302, 0, 255), SUCCESS, "what it is called");
	ok(!memcmp(g_ram + U_DATA + 2, "U\0S\0B\0", 6), "has letters");
	is_int(usb_control(SLOT, 1, 0x80, 6, 0x304, 0, 255), STALL, "a string that there is not");
	is_int(usb_command(SLOT, 14, 0, 1u << 24 | 1u << 16), SUCCESS, "its endpoint is reset");
	is_int(usb_command(SLOT, 16, (U_RING(1, 1) + u_at[1][1] * 16) | 1, 1u << 24 | 1u << 16), SUCCESS, "and goes on behind that");
	is_int(usb_control(SLOT, 1, 0x00, 9, 1, 0, 0), SUCCESS, "it is configured");
	is_int(usb_configure(SLOT, 1, 3, 7, 8), SUCCESS, "and its endpoint");
	is_int(usb_control(SLOT, 1, 0x81, 6, 0x2200, 0, 255), SUCCESS, "what its reports are");
	ok(g_ram[U_DATA] == 5 && g_ram[U_DATA + 1] == 1, "is told");
	ask_report(1, 8);
	is_int(usb_transferred(SLOT, 1, 3), 0, "nothing was pressed");
	is_int(xhci_key(dev, 0x1e, true), 1, "A");
	is_int(usb_transferred(SLOT, 1, 3), SUCCESS, "is told at once");
	ok(!g_ram[U_DATA] && g_ram[U_DATA + 2] == 4 && !g_ram[U_DATA + 3], "by its usage");
	xhci_key(dev, 0x2a, true);
	xhci_key(dev, 0x1e, false);
	is_int(xhci_key(dev, 0x1e, false), 0, "what is not down does not go up");
	ask_report(1, 8);
	ok(usb_transferred(SLOT, 1, 3) == SUCCESS && g_ram[U_DATA] == 2 && g_ram[U_DATA + 2] == 4, "what waits comes in order");
	ask_report(1, 8);
	ok(usb_transferred(SLOT, 1, 3) == SUCCESS && g_ram[U_DATA] == 2 && g_ram[U_DATA + 2] == 0, "one by one");
	xhci_key(dev, 0x2a, false);
	ask_report(1, 4);
	is_int(usb_transferred(SLOT, 1, 3), 3, "one that is too short for it is babble");
	is_int(usb_command(SLOT, 10, 0, 1u << 24), SUCCESS, "it goes");
}

static void test_tablet(void)
{
	is_int(usb_address(SLOT, 1, TABLET_PORT, 1), SUCCESS, "the tablet gets an address");
	usb_control(SLOT, 1, 0x00, 9, 1, 0, 0);
	usb_configure(SLOT, 1, 3, 7, 8);
	ok(xhci_point(dev, 0x1234, 0x7fff, 1, 5), "it is pointed at");
	ok(xhci_point(dev, 0xffff, 0, 0, 0), "and again");
	ask_report(1, 8);
	ok(usb_transferred(SLOT, 1, 3) == SHORT && g_ram[U_DATA] == 5 && le16_get(g_ram + U_DATA + 1) == 0x1234 &&
	   le16_get(g_ram + U_DATA + 3) == 0x7fff && g_ram[U_DATA + 5] == 0xff, "where, with two buttons and the wheel");
	is_int(u_event.status & 0xffffff, 2, "two bytes are left");
	ask_report(1, 6);
	ok(usb_transferred(SLOT, 1, 3) == SUCCESS && !g_ram[U_DATA] && le16_get(g_ram + U_DATA + 1) == 0x7fff, "and at the edge");
	is_int(usb_command(SLOT, 10, 0, 1u << 24), SUCCESS, "it goes");
}

/* -- A disk ------------------------------------------------------------------------------------------- */

/* The disk's threads say when. */
static unsigned wait_for(unsigned ep)
{
	for (unsigned i = 0; i < 10000000; i++) {
		unsigned code = usb_transferred(SLOT, 1, ep);

		if (code)
			return code;
		sched_yield();
	}
	return 0;
}

static void put_command(uint32_t tag, uint32_t len, bool in, unsigned n, const uint8_t *cdb)
{
	uint8_t *p = g_ram + U_DATA + 0x800;

	memset(p, 0, 31);
	le32_put(p, 0x43425355);
	le32_put(p + 4, tag);
	le32_put(p + 8, len);
	p[12] = in ? 0x80 : 0;
	p[14] = (uint8_t)n;
	memcpy(p + 15, cdb, n);
	usb_put(1, 4, U_DATA + 0x800, 31, 1u << 10 | 0x20);
	usb_ring(SLOT, 1, 4);
	is_int(wait_for(4), SUCCESS, "command 0x%02x is taken", cdb[0]);
}

/* What its status is; the residue has to be that. */
static unsigned take_status(uint32_t tag, uint32_t residue)
{
	uint8_t *p = g_ram + U_DATA + 0x900;

	usb_put(1, 3, U_DATA + 0x900, 13, 1u << 10 | 0x24);
	usb_ring(SLOT, 1, 3);
	is_int(wait_for(3), SUCCESS, "it ends");
	ok(le32_get(p) == 0x53425355 && le32_get(p + 4) == tag, "with its own status");
	is_int(le32_get(p + 8), residue, "and so much residue");
	return p[12];
}

/* In pieces that are not as long as packets are. */
static unsigned move(unsigned ep, uint64_t at, uint32_t len, uint32_t piece)
{
	for (uint32_t done = 0; done < len; done += piece) {
		uint32_t n = len - done < piece ? len - done : piece;

		usb_put(1, ep, at + done, n, 1u << 10 | (done + n < len ? 0x10 : 0x20) | 4);
	}
	usb_ring(SLOT, 1, ep);
	return wait_for(ep);
}

#define CDB(...) sizeof((const uint8_t[]){__VA_ARGS__}), (const uint8_t[]){__VA_ARGS__}

static bool is_sector(const uint8_t *at, unsigned n)
{
	for (unsigned k = 0; k < 128; k++)
		if (le32_get(at + 4 * k) != n * 1000 + k)
			return false;
	return true;
}

static void plug_disk(void)
{
	is_int(usb_address(SLOT, 1, DISK_PORT, 3), SUCCESS, "the disk gets an address");
	is_int(usb_control(SLOT, 1, 0x00, 9, 1, 0, 0), SUCCESS, "and is configured");
	for (unsigned ep = 3; ep <= 4; ep++)
		is_int(usb_configure(SLOT, 1, ep, ep == 3 ? 6 : 2, 512), SUCCESS, "endpoint %u", ep);
	is_int(usb_control(SLOT, 1, 0xa1, 0xfe, 0, 0, 1), SUCCESS, "how many units");
	is_int(g_ram[U_DATA], 0, "one");
}

static void test_disk(void)
{
	plug_disk();
	put_command(1, 36, true, CDB(0x12, 0, 0, 0, 36, 0));
	is_int(move(3, U_DATA, 36, 36), SUCCESS, "INQUIRY's data");
	ok(g_ram[U_DATA] == 0 && g_ram[U_DATA + 4] >= 31, "a disk's");
	is_int(take_status(1, 0), 0, "it is fine");
	put_command(2, 100, true, CDB(0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0));
	is_int(move(3, U_DATA, 100, 100), SUCCESS, "READ CAPACITY, of which more is wanted than there is");
	is_int(be32_get(g_ram + U_DATA), SECTORS - 1, "how large it is");
	is_int(take_status(2, 92), 0, "and what was nothing");
	put_command(3, 300 * 512, true, CDB(0x28, 0, 0, 0, 3, 0, 0, 1, 44, 0));
	is_int(move(3, FREE_RAM, 300 * 512, 1000), SUCCESS, "300 sectors, in pieces of 1000 bytes");
	ok(is_sector(g_ram + FREE_RAM, 768) && is_sector(g_ram + FREE_RAM + 299 * 512, 768 + 299), "are those");
	is_int(take_status(3, 0), 0, "it is fine");
	memmove(g_ram + FREE_RAM + 512, g_ram + FREE_RAM + 1024, 200 * 512);
	put_command(4, 200 * 512, false, CDB(0x2a, 0, 0, 0, 0, 7, 0, 0, 200, 0));
	is_int(move(4, FREE_RAM, 200 * 512, 777), SUCCESS, "200 are written");
	is_int(take_status(4, 0), 0, "it is fine");
	put_command(5, 512, true, CDB(0x28, 0, 0, 0, 0, 8, 0, 0, 1, 0));
	move(3, U_DATA, 512, 512);
	ok(is_sector(g_ram + U_DATA, 770), "and read again");
	take_status(5, 0);
	put_command(6, 512, true, CDB(0x28, 0, 0, 0xff, 0xff, 8, 0, 0, 1, 0));
	is_int(move(3, U_DATA, 512, 512), SUCCESS, "what is behind the end");
	is_int(take_status(6, 512), 1, "is refused");
	put_command(7, 0, true, CDB(0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0));
	is_int(take_status(7, 0), 0, "it is flushed");
	put_command(8, 24, false, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0));
	memset(g_ram + U_DATA, 0, 24);
	g_ram[U_DATA + 1] = 22, g_ram[U_DATA + 3] = 16, g_ram[U_DATA + 15] = 9, g_ram[U_DATA + 19] = 2;
	is_int(move(4, U_DATA, 24, 24), SUCCESS, "UNMAP's list");
	is_int(take_status(8, 0), 0, "two sectors are forgotten");
	put_command(9, 512, true, CDB(0x28, 0, 0, 0, 0, 9, 0, 0, 1, 0));
	move(3, U_DATA, 512, 512);
	ok(le32_get(g_ram + U_DATA) == 0 && le32_get(g_ram + U_DATA + 508) == 0, "and are zeros");
	take_status(9, 0);
	put_command(10, 512, false, CDB(0x41, 0, 0, 0, 0, 20, 0, 0, 3, 0));
	memset(g_ram + U_DATA, 0, 512);
	is_int(move(4, U_DATA, 512, 512), SUCCESS, "WRITE SAME's sector");
	is_int(take_status(10, 0), 0, "is written three times");
	put_command(11, 3 * 512, true, CDB(0x28, 0, 0, 0, 0, 21, 0, 0, 3, 0));
	move(3, U_DATA, 3 * 512, 512);
	ok(le32_get(g_ram + U_DATA) == 0 && le32_get(g_ram + U_DATA + 2 * 512 - 4) == 0 && is_sector(g_ram + U_DATA + 2 * 512, 785), "and no more often");
	take_status(11, 0);
}

/* Saved, and loaded into another one. */
static void save_and_load(const char *name)
{
	struct state_out out = {0};
	struct state_in in;
	struct err err = {0};
	unsigned used = 0;

	device_pause(dev);
	is_int(device_save(dev, "xhci", &out), 0, "%s: it is saved", name);
	device_destroy(dev);
	dev = device_create(&xhci_model, g_bus, NULL, &(struct xhci_config){
		.host = g_host, .mem = &g_mem, .loop = loop, .slot = SLOT,
		.ports = {{.kind = XHCI_DISK, .disk = disk}, {.kind = XHCI_KEYBOARD}, {.kind = XHCI_TABLET}}}, NULL);
	device_reset(g_host);
	in = (struct state_in){.bytes = out.bytes, .len = out.len};
	is_int(device_load(dev, "xhci", &in, 0, &used, &err), 0, "and loaded into another one %s", err.text);
	cfg_write(SLOT, 4, 2, 6);
	device_resume(dev);
	free(out.bytes);
}

/* In the middle of a command's data, and after commands of each kind. */
static void test_moment(void)
{
	put_command(18, 0, true, CDB(0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0));
	is_int(take_status(18, 0), 0, "it is flushed");
	save_and_load("after a flush");
	put_command(19, 512, false, CDB(0x41, 0, 0, 0, 0, 20, 0, 0, 1, 0));
	is_int(move(4, FREE_RAM + 0x80000, 512, 512), SUCCESS, "zeros");
	is_int(take_status(19, 0), 0, "are written");
	save_and_load("after zeros");
	put_command(20, 100 * 512, true, CDB(0x28, 0, 0, 0, 4, 0, 0, 0, 100, 0));
	is_int(move(3, FREE_RAM, 1024, 1000), SUCCESS, "a part of what is read");
	save_and_load("in the middle of a command");
	is_int(move(3, FREE_RAM + 1024, 100 * 512 - 1024, 5000), SUCCESS, "which goes on");
	ok(is_sector(g_ram + FREE_RAM, 1024) && is_sector(g_ram + FREE_RAM + 512, 1025) && is_sector(g_ram + FREE_RAM + 99 * 512, 1123),
	   "with what comes then");
	is_int(take_status(20, 0), 0, "and ends it");
}

static void test_lost(void)
{
	memset(g_ram + U_DATA + 0x800, 0, 31);
	usb_put(1, 4, U_DATA + 0x800, 31, 1u << 10 | 0x20);
	usb_ring(SLOT, 1, 4);
	is_int(wait_for(4), STALL, "what is no command stalls");
	is_int(usb_control(SLOT, 1, 0x21, 0xff, 0, 0, 0), SUCCESS, "until it is reset");
	usb_command(SLOT, 14, 0, 1u << 24 | 4u << 16);
	usb_command(SLOT, 16, (U_RING(1, 4) + u_at[1][4] * 16) | 1, 1u << 24 | 4u << 16);
	put_command(30, 0, true, CDB(0, 0, 0, 0, 0, 0));
	is_int(take_status(30, 0), 0, "then it is there again");
	put_command(31, 64 * 512, true, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 64, 0));
	usb_put(1, 3, FREE_RAM, 512, 1u << 10 | 0x20);
	usb_ring(SLOT, 1, 3);
	is_int(usb_control(SLOT, 1, 0x21, 0xff, 0, 0, 0), SUCCESS, "it is reset while it reads");
	device_reset(dev);
	ok(true, "and so is the controller");
}

/* -- Work without an end ------------------------------------------------------------------------------------ */

#define TARGET 0x90000u
#define MIB    0x100000u

/* The endpoint begins anew with its ring. */
static void rewind_ring(unsigned ep)
{
	usb_command(SLOT, 15, 0, 1u << 24 | ep << 16);
	memset(g_ram + U_RING(1, ep), 0, 0x1000);
	u_at[1][ep] = 0;
	is_int(usb_command(SLOT, 16, U_RING(1, ep) | 1, 1u << 24 | ep << 16), SUCCESS, "endpoint %u begins anew", ep);
}

/* A command of which 32 MiB are wanted, and which has 36 bytes: the others are zeros. */
static void test_long(void)
{
	unsigned turns = 0;

	usb_start(SLOT);
	plug_disk();
	put_command(40, 32 * MIB, true, CDB(0x12, 0, 0, 0, 36, 0));
	for (unsigned i = 0; i < 64; i++)
		usb_put(1, 3, TARGET, 0x10000, 1u << 10 | (i < 63 ? 0x10 : 0x20));
	usb_ring(SLOT, 1, 3);
	is_int(usb_transferred(SLOT, 1, 3), 0, "4 MiB are too long for a doorbell");
	while (turns < 100 && !usb_transferred(SLOT, 1, 3))
		turn(), turns++;
	ok(turns >= 3 && turns < 100 && usb_code() == SUCCESS, "and go on in the loop: %u turns", turns);

	rewind_ring(3);
	usb_put(1, 3, TARGET, 0x10000, 1u << 10);
	usb_trb(U_RING(1, 3) + 16, U_RING(1, 3), 0, 6u << 10 | 1);
	usb_ring(SLOT, 1, 3);
	for (turns = 0; turns < 3; turns++)
		turn();
	device_pause(dev);
	memset(g_ram + TARGET, 0xee, 16);
	turn();
	is_int(g_ram[TARGET], 0xee, "a ring that is a circle stands still in a pause");
	device_resume(dev);
	is_int(g_ram[TARGET], 0, "and goes on behind it");
	while (turns < 100 && le32_get(g_ram + TARGET) != 0x53425355)
		turn(), turns++;
	ok(turns > 10 && turns < 100, "until the command has no more: %u turns", turns);
	rewind_ring(3);
	put_command(41, 0, true, CDB(0, 0, 0, 0, 0, 0));
	is_int(take_status(41, 0), 0, "there can be another one");
}

/* Packets are as long as the device says, not as the driver does: of a byte each a command would be none. */
static void test_packets(void)
{
	usb_start(SLOT);
	plug_disk();
	is_int(usb_configure(SLOT, 1, 4, 2, 1), SUCCESS, "a driver that thinks of packets of a byte");
	u_at[1][4] = 0;
	memset(g_ram + U_RING(1, 4), 0, 0x1000);
	put_command(50, 512, false, CDB(0x2a, 0, 0, 0, 0, 30, 0, 0, 1, 0));
	is_int(move(4, FREE_RAM, 512, 512), SUCCESS, "it writes");
	is_int(take_status(50, 0), 0, "all the same");
}

/* -- Lies ------------------------------------------------------------------------------------------------ */

static void test_rings(void)
{
	usb_start(SLOT);
	usb_trb(U_COMMAND, U_COMMAND, 0, 6u << 10 | 1); /* a link to itself */
	bar_out(SLOT, 0, U_DOOR, 4, 0);
	ok(true, "a ring that is a link to itself is left");
	usb_start(SLOT);
	is_int(usb_address(SLOT, 1, KEYBOARD_PORT, 1), SUCCESS, "a keyboard");
	for (unsigned i = 0; i < 8; i++)
		usb_trb(U_RING(1, 1) + i * 16, U_RING(1, 1) + (i + 1) % 8 * 16, 0, 6u << 10 | 1 | (i & 2));
	usb_ring(SLOT, 1, 1);
	ok(!usb_transferred(SLOT, 1, 1), "so is one of links in a circle");
	usb_start(SLOT);
	is_int(usb_address(SLOT, 1, KEYBOARD_PORT, 1), SUCCESS, "a keyboard");
	for (unsigned i = 0; i < 200; i++)
		usb_trb(U_RING(1, 1) + i * 16, U_DATA, 1, 3u << 10 | 0x11);
	usb_trb(U_RING(1, 1) + 200 * 16, U_RING(1, 1), 0, 6u << 10 | 1);
	usb_ring(SLOT, 1, 1);
	is_int(usb_transferred(SLOT, 1, 1), TRB_ERROR, "a chain without an end is none");
	usb_start(SLOT);
	is_int(usb_address(SLOT, 1, KEYBOARD_PORT, 1), SUCCESS, "a keyboard");
	usb_put(1, 1, 0x01000680 | UINT64_C(18) << 48, 8, 2u << 10 | 0x40);
	usb_put(1, 1, RAM_SIZE - 8, 18, 3u << 10 | 1u << 16);
	usb_ring(SLOT, 1, 1);
	is_int(usb_transferred(SLOT, 1, 1), TRB_ERROR, "data that go to no memory do not");
	usb_start(SLOT);
	is_int(usb_address(SLOT, 1, KEYBOARD_PORT, 1), SUCCESS, "a keyboard");
	for (unsigned i = 0; i < 64; i++)
		usb_put(1, 1, FREE_RAM, 0x10001, 1u << 10 | (i < 63 ? 0x10 : 0x20));
	usb_ring(SLOT, 1, 1);
	is_int(usb_transferred(SLOT, 1, 1), TRB_ERROR, "nor is one of more than 4 MiB");
	usb_start(SLOT);
	for (unsigned i = 0; i < 150; i++)
		usb_trb(U_COMMAND + i * 16, 0, 0, 23u << 10 | 1);
	bar_out(SLOT, 0, U_DOOR, 4, 0);
	for (unsigned i = 0; usb_take_event(SLOT); i++)
		u_commands = i;
	ok(u_commands >= 149, "when there is room for events again commands go on: %u", u_commands);
	bar_out(SLOT, 0, U_RUN + 0x30, 8, UINT64_C(0xfffffffffffff000));
	bar_out(SLOT, 0, U_DOOR, 4, 0);
	ok(true, "an event ring that is no memory is none");
	bar_out(SLOT, 0, U_DOOR + 4 * 3, 4, 1);
	bar_out(SLOT, 0, U_DOOR + 4 * 1, 4, 31);
	bar_out(SLOT, 0, U_DOOR + 4 * 1, 4, 0);
	ok(true, "doorbells of nobody");
}

int main(void)
{
	open_disk();
	start();
	test_ports();
	test_interrupts();
	test_slots();
	test_keyboard();
	test_tablet();
	test_disk();
	test_moment();
	test_lost();
	test_long();
	test_packets();
	test_rings();
	stop();
	disk_close(disk);
	return done_testing();
}
