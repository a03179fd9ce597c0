/* SPDX-License-Identifier: MIT */
/*
 * A driver that lies to entropy, console, disk, network card, SCSI controller, file system, balloon, keyboard, tablet and GPU for as long as it is let. And what
 * has the file system's files lies, too: its answers are too long, or nobody's.
 *
 *	dev_liar_test [ROUNDS]
 *
 * queue_test has each lie by its name; here they come in any order, and at the worst time: while
 * the device works another thread writes over the rings, so what was read twice would differ.
 * Rings lie across each other and across the data that the devices write; chains are loops, have
 * lengths without sense, and lead outside of RAM; indices jump.
 *
 * RAM stands between pages that nobody may touch, and the disk between bytes that are not its own
 * (its file is longer). After it all an honest driver must find the devices working.
 */
#include "block/disk.h"
#include "dev/virtio/fs_link.h"
#include "dev/tests/guest.h"
#include "display/surface.h"
#include "loop/loop.h"
#include "net/port.h"
#include "state/state.h"
#include "tests/tap.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE 16u
#define QUEUES 6u /* that the console has; others ignore what is too much */
#define RAM_AT 0x100000u /* guest-physical: what is below is no RAM */
#define LIAR_RAM 0x8000u

enum { RNG = 1, CONSOLE, DISK, NET, SCSI, FS, BALLOON, VSOCK, KEYBOARD, TABLET, GPU, SLOTS };

#define PICTURES 0x20000u

static uint8_t *ram, *pictures, vram[0x40000];
static uint32_t dots[640 * 480];
static struct surface screen = {.pixels = dots, .room = 640 * 480};
static volatile bool stop;
static uint64_t seed = 88172645463325252u;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1d;
}

static unsigned below(unsigned n)
{
	return (unsigned)((rnd() >> 32) * n >> 32);
}

/* -- Lies -------------------------------------------------------------------------------------- */

static uint64_t address(void)
{
	static const uint64_t edges[] = {0, RAM_AT - 1, RAM_AT, RAM_AT + LIAR_RAM - 1,
					 RAM_AT + LIAR_RAM, 0xfee00000, 1ull << 32, 1ull << 47,
					 1ull << 63, ~0ull, ~0ull - 4095};

	if (below(12) == 0)
		return edges[below(sizeof(edges) / sizeof(edges[0]))];
	return RAM_AT + below(LIAR_RAM);
}

static uint32_t length(void)
{
	static const uint32_t edges[] = {0, 1, 15, 16, 17, 511, 512, 513, 4096, LIAR_RAM,
					 0x7fffffff, 0x80000000, 0xffffffff};

	if (below(3) == 0)
		return edges[below(sizeof(edges) / sizeof(edges[0]))];
	return 1 + below(2048);
}

static void lie_desc(uint8_t *at)
{
	le64_put(at, address());
	le32_put(at + 8, length());
	le16_put(at + 12, (uint16_t)(below(16) ? below(4) : below(8)));
	le16_put(at + 14, (uint16_t)(below(30) ? below(SIZE) : rnd()));
	if (below(2)) /* in a packed ring it is here that flags are: available, this time around or the other */
		le16_put(at + 14, (uint16_t)(below(8) | (below(2) ? 0x80 : 0x8000) | (below(8) ? 0 : 0x8080)));
}

/* A header as virtio-blk wants it, somewhere. */
static void lie_header(uint8_t *at)
{
	static const uint8_t types[] = {0, 1, 4, 8, 11, 13, 2, 255};

	le32_put(at, types[below(sizeof(types))]);
	le64_put(at + 8, below(4) ? below(260) : rnd());
}

/* A command to the only target, or to another one. */
static void lie_command(uint8_t *at)
{
	static const uint8_t codes[] = {0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x25, 0x28, 0x2a, 0x35, 0x41, 0x42, 0x5a, 0x88, 0x93, 0x9e, 0xa0};

	memset(at, 0, 51);
	at[0] = 1;
	at[1] = below(10) == 0;
	at[19] = codes[below(sizeof(codes))];
	for (unsigned i = 20; i < 35; i++)
		at[i] = (uint8_t)(below(3) ? below(2) : rnd());
}

/* A command of a GPU, with numbers that are small, or have no sense; one of few pictures is of a size that there can be. */
static void lie_picture(uint8_t *at)
{
	static const uint16_t types[] = {0x100, 0x101, 0x101, 0x102, 0x103, 0x104, 0x105, 0x105, 0x106, 0x106, 0x107, 0x10a, 0x300, 0x301, 0x999};

	memset(at, 0, 24);
	le32_put(at, types[below(15)]);
	at[4] = below(2) == 0;
	for (unsigned i = 24; i < 64; i += 4)
		le32_put(at + i, below(10) ? below(below(2) ? 4 : 80) : (uint32_t)rnd());
	if (le32_get(at) == 0x106) { /* it has memory */
		le64_put(at + 32, address());
		le32_put(at + 40, length());
	}
}

/* A control message of a console's, somewhere. */
static void lie_message(uint8_t *at)
{
	le32_put(at, below(8) ? below(3) : (uint32_t)rnd());
	le16_put(at + 4, (uint16_t)(below(8) ? below(9) : rnd()));
	le16_put(at + 6, (uint16_t)below(3));
}

/* The driver's rings: at fixed places, so that lies are believed for a while, or anywhere. */
struct rings {
	uint32_t desc, avail, used;
};

static struct rings place_rings(void)
{
	if (below(4))
		return (struct rings){0, 0x400, 0x800};
	return (struct rings){below(0x800) & ~15u, below(0x1000) & ~1u, below(0x1000) & ~3u};
}

/* The GPU has VGA's things before virtio's. */
static void reg_out(unsigned slot, unsigned at, unsigned width, uint64_t value)
{
	if (slot == GPU)
		bar_out(slot, 2, 0x1000 + at, width, value);
	else
		bar_out(slot, 0, at, width, value);
}

static uint64_t reg_in(unsigned slot, unsigned at, unsigned width)
{
	return slot == GPU ? bar_in(slot, 2, 0x1000 + at, width) : bar_in(slot, 0, at, width);
}

/* Some of those that are offered. */
static void accept_some(unsigned slot, uint64_t features)
{
	for (unsigned half = 0; half < 2; half++) {
		reg_out(slot, 0, 4, half);
		reg_out(slot, 8, 4, half);
		reg_out(slot, 12, 4, reg_in(slot, 4, 4) & (features >> 32 * half | half));
	}
}

static void bring_up(unsigned slot, struct rings *r, uint64_t features)
{
	*r = place_rings();
	cfg_write(slot, 4, 2, 6);
	reg_out(slot, STATUS, 1, 0);
	while (reg_in(slot, STATUS, 1))
		sched_yield();
	reg_out(slot, STATUS, 1, 3);
	accept_some(slot, features);
	reg_out(slot, STATUS, 1, 11);
	for (unsigned n = 0; n < QUEUES; n++) {
		reg_out(slot, 0x16, 2, n);
		reg_out(slot, 0x18, 2, SIZE);
		reg_out(slot, 0x20, 8, RAM_AT + r->desc);
		reg_out(slot, 0x28, 8, RAM_AT + r->avail);
		reg_out(slot, 0x30, 8, RAM_AT + r->used);
		reg_out(slot, 0x1c, 2, 1);
	}
	memset(ram, 0, 0x1000);
	reg_out(slot, STATUS, 1, 15);
}

static void lie(unsigned slot, const struct rings *r)
{
	uint8_t *idx = ram + r->avail + 2;
	unsigned more = below(8) ? 1 + below(3) : (unsigned)rnd();

	for (unsigned i = 0; i < SIZE; i++)
		if (below(3))
			lie_desc(ram + r->desc + 16 * i);
	lie_header(ram + below(LIAR_RAM - 16));
	lie_message(ram + below(LIAR_RAM - 8));
	le64_put(ram + r->desc, RAM_AT + 0x2000);
	le32_put(ram + r->desc + 8, slot == SCSI ? 51 : slot == GPU ? 64 : 16);
	if (slot == SCSI)
		lie_command(ram + 0x2000);
	else if (slot == GPU)
		lie_picture(ram + 0x2000);
	else
		lie_header(ram + 0x2000);
	for (unsigned i = 0; i < SIZE; i++)
		le16_put(ram + r->avail + 4 + 2 * i, (uint16_t)(below(20) ? below(SIZE) : rnd()));
	le16_put(idx, (uint16_t)(le16_get(idx) + more));
	reg_out(slot, 0x3000 + 4 * below(QUEUES), 2, 0);
}

static void *scribble(void *arg)
{
	uint32_t x = 12345;

	while (!stop) {
		x = x * 1664525u + 1013904223u;
		*(volatile uint8_t *)(ram + (x >> 20)) = (uint8_t)(x >> 8);
		if (x % 64 == 0)
			sched_yield();
	}
	return arg;
}

/* -- The machine --------------------------------------------------------------------------------- */

static uint8_t *between_guards(size_t len)
{
	uint8_t *p = mmap(NULL, len + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + 4096, len, PROT_READ | PROT_WRITE))
		abort();
	return p + 4096;
}

static int file;

static struct disk *make_disk(void)
{
	struct disk *disk = NULL;
	char path[64];

	file = memfd_create("disk", MFD_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	if (ftruncate(file, 128 << 10) || disk_open(&disk, &(struct disk_config){.path = path}, NULL))
		abort();
	/* The disk was opened with this size; what comes behind is somebody else's. */
	for (unsigned i = 0; i < 64 << 10; i += 8)
		if (pwrite(file, "not you ", 8, (128 << 10) + i) != 8)
			abort();
	return disk;
}

static bool is_own(void)
{
	char word[8];

	for (unsigned i = 0; i < 64 << 10; i += 8)
		if (pread(file, word, 8, (128 << 10) + i) != 8 || memcmp(word, "not you ", 8))
			return false;
	return lseek(file, 0, SEEK_END) == (128 << 10) + (64 << 10);
}

static size_t output(void *ctx, const uint8_t *bytes, size_t n)
{
	uint8_t all = 0;

	(void)ctx;
	for (size_t i = 0; i < n; i++)
		all ^= bytes[i];
	return below(4) && all != 7 ? n : below((unsigned)n + 1);
}

/* -- The network, and sockets: packets that come to a port -------------------------------------- */

static struct loop *loop;
static struct loop_timer soon;
static struct wire {
	struct net_port *port;
	int fd;
	uint8_t frame[65536];
	size_t at, n;
} wires[2]; /* of the card, and of sockets */

static void nothing(void *ctx)
{
	(void)ctx;
}

static void make_wire(struct wire *w)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) < 0 ||
	    net_stream(&w->port, &(struct net_stream_config){.fd = ends[0], .mtu = 1500}, NULL) < 0)
		abort();
	w->fd = ends[1];
}

static void make_wires(void)
{
	if (loop_create(&loop, NULL) < 0)
		abort();
	loop_timer_init(&soon, loop, nothing, NULL);
	make_wire(&wires[0]);
	make_wire(&wires[1]);
}

/* Frames that come, and a round of the loop that brings them. What was sent is taken away, or not. */
static void use_wire(struct wire *w)
{
	static uint8_t bytes[65536];
	ssize_t done;

	if (w->at == w->n) {
		w->n = 14 + below(below(4) ? 1500 : 60000);
		w->frame[2] = (uint8_t)(w->n >> 8);
		w->frame[3] = (uint8_t)w->n;
		w->n += 4;
		w->at = 0;
	}
	done = write(w->fd, w->frame + w->at, w->n - w->at);
	w->at += done > 0 ? (size_t)done : 0;
	if (below(4))
		while (read(w->fd, bytes, sizeof(bytes)) > 0)
			;
	loop_call(&soon);
	loop_once(loop);
}

/* -- A shared directory -------------------------------------------------------------------------- */

static int files[2];

static bool take_all(void *bytes, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t part = read(files[1], (uint8_t *)bytes + done, n - done);

		if (part <= 0)
			return false;
		done += (size_t)part;
	}
	return true;
}

/* Answers of any length, to requests that may be another's, but at last one to each. */
static void *serve_files(void *arg)
{
	static uint8_t bytes[sizeof(struct fs_head) + FS_MESSAGE_MAX];
	struct fs_head head, lie = {.len = 64};
	uint32_t x = 4711;

	while (take_all(&head, sizeof(head)) && head.len <= FS_MESSAGE_MAX && take_all(bytes, head.len)) {
		x = x * 1664525u + 1013904223u;
		lie.cookie = x >> 8;
		if (x % 3 == 0 && write(files[1], &lie, sizeof(lie)) == sizeof(lie) && write(files[1], bytes, 64) != 64)
			break;
		head.len = x >> 16 & 1023;
		memcpy(bytes, &head, sizeof(head));
		if (head.room >= FS_ROOM_MIN && write(files[1], bytes, sizeof(head) + head.len) < 0)
			break;
	}
	return arg;
}

/* What is given back is the guest's own, and nothing else. */
static void drop(void *ctx, void *host, uint64_t len)
{
	(void)ctx;
	if ((uint8_t *)host < ram || len > LIAR_RAM || (uint8_t *)host + len > ram + LIAR_RAM)
		abort();
	memset(host, 0, len);
}

static void make_devices(struct device *dev[SLOTS], struct disk *disk)
{
	g_start();
	g_mem = (struct guest_mem){0};
	guest_mem_add(&g_mem, &(struct guest_region){
		.base = RAM_AT, .size = LIAR_RAM, .host = ram}, NULL);
	dev[RNG] = device_create(&virtio_rng_model, g_bus, NULL, &(struct virtio_rng_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = RNG}}, NULL);
	dev[CONSOLE] = device_create(&virtio_console_model, g_bus, NULL,
		&(struct virtio_console_config){
			.pci = {.host = g_host, .mem = &g_mem, .slot = CONSOLE},
			.ports = {{.output = output}, {.name = "org.test.0", .output = output}}}, NULL);
	dev[DISK] = device_create(&virtio_blk_model, g_bus, NULL, &(struct virtio_blk_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = DISK}, .disk = disk,
		.serial = "lodge-0"}, NULL);
	dev[NET] = device_create(&virtio_net_model, g_bus, NULL, &(struct virtio_net_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = NET}, .port = wires[0].port, .pairs = 2, .loop = loop, .mtu = 1500}, NULL);
	dev[SCSI] = device_create(&virtio_scsi_model, g_bus, NULL, &(struct virtio_scsi_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SCSI}, .disks = {disk}, .n = 1}, NULL);
	dev[FS] = device_create(&virtio_fs_model, g_bus, NULL, &(struct virtio_fs_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = FS}, .tag = "tag", .fd = files[0], .loop = loop}, NULL);
	dev[BALLOON] = device_create(&virtio_balloon_model, g_bus, NULL, &(struct virtio_balloon_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = BALLOON}}, NULL);
	dev[VSOCK] = device_create(&virtio_vsock_model, g_bus, NULL, &(struct virtio_vsock_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = VSOCK}, .cid = 3, .port = wires[1].port, .loop = loop}, NULL);
	dev[KEYBOARD] = device_create(&virtio_keyboard_model, g_bus, NULL, &(struct virtio_input_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = KEYBOARD}}, NULL);
	dev[TABLET] = device_create(&virtio_tablet_model, g_bus, NULL, &(struct virtio_input_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = TABLET}}, NULL);
	dev[GPU] = device_create(&virtio_vga_model, g_bus, (uint64_t[]){0x3b0, 0x1ce, 0xa0000}, &(struct virtio_vga_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = GPU}, .vga = {.vram = vram, .vram_size = 0x40000},
		.store = pictures, .store_size = PICTURES}, NULL);
	g_mem.drop = drop;
	device_reset(g_host);
}

/* An honest read of one sector. */
static bool honest_read(void)
{
	struct rings r;

	do
		bring_up(DISK, &r, 0);
	while (r.desc != 0 || bar_in(DISK, 0, STATUS, 1) != 15);
	memset(ram + 0x2000, 0, 32);
	ram[0x2100] = 0xff;
	le64_put(ram, RAM_AT + 0x2000);
	le32_put(ram + 8, 16);
	le16_put(ram + 12, F_NEXT);
	le16_put(ram + 14, 1);
	le64_put(ram + 16, RAM_AT + 0x3000);
	le32_put(ram + 24, 512);
	le16_put(ram + 28, F_NEXT | F_WRITE);
	le16_put(ram + 30, 2);
	le64_put(ram + 32, RAM_AT + 0x2100);
	le32_put(ram + 40, 1);
	le16_put(ram + 44, F_WRITE);
	le16_put(ram + r.avail + 2, 1);
	kick(DISK, 0);
	for (unsigned i = 0; i < 10000000 && *(volatile uint8_t *)(ram + 0x2100) == 0xff; i++)
		sched_yield();
	return ram[0x2100] == 0;
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 10000, broken = 0;
	struct device *dev[SLOTS];
	struct state_out out = {0};
	struct disk *disk = make_disk();
	pthread_t thread, server;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, files) < 0 || pthread_create(&server, NULL, serve_files, NULL))
		abort();
	ram = between_guards(LIAR_RAM);
	pictures = between_guards(PICTURES);
	make_wires();
	make_devices(dev, disk);
	pthread_create(&thread, NULL, scribble, NULL);
	for (unsigned n = 0; n < rounds; n++) {
		unsigned slot = RNG + n % (SLOTS - RNG);
		struct rings r;

		bring_up(slot, &r, rnd());
		for (unsigned i = 1 + below(6); i; i--) {
			lie(slot, &r);
			if (slot == CONSOLE && below(2))
				virtio_console_input(dev[CONSOLE], below(2), (const uint8_t *)"hello", 5);
			if (slot == CONSOLE && below(2))
				virtio_console_output_ready(dev[CONSOLE], below(2));
			if (slot == KEYBOARD)
				virtio_keyboard_key(dev[KEYBOARD], (uint8_t)below(256), below(2));
			if (slot == TABLET)
				virtio_tablet_point(dev[TABLET], (uint16_t)rnd(), (uint16_t)rnd(), (int)below(3) - 1, (uint8_t)below(8));
			if (slot == GPU)
				virtio_vga_show(dev[GPU], &screen);
			if (slot == NET || slot == FS || slot == VSOCK)
				use_wire(&wires[slot == VSOCK]);
			if ((slot == FS || slot == VSOCK) && below(20) == 0) {
				device_pause(dev[slot]);
				out.len = 0;
				device_save(dev[slot], "fs", &out);
				device_resume(dev[slot]);
			}
		}
		broken += reg_in(slot, STATUS, 1) >> 6 & 1;
	}
	stop = true;
	pthread_join(thread, NULL);
	ok(true, "%u drivers that lie, %u of them found out", rounds, broken);
	ok(broken > rounds / 10, "lies are noticed");
	ok(is_own(), "what lies behind the disk is as it was");
	ok(honest_read(), "an honest driver is served");
	for (unsigned slot = RNG; slot < SLOTS; slot++)
		device_destroy(dev[slot]);
	g_stop();
	shutdown(files[0], SHUT_RDWR);
	pthread_join(server, NULL);
	for (unsigned i = 0; i < 2; i++) {
		wires[i].port->type->close(wires[i].port);
		close(wires[i].fd);
	}
	loop_timer_fini(&soon);
	loop_destroy(loop);
	disk_close(disk);
	free(out.bytes);
	return done_testing();
}
