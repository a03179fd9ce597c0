/* SPDX-License-Identifier: MIT */
/* The virtio GPU: pictures from the guest's memory to what a monitor shows, dot by dot; the VGA before and after; and what it refuses. */
#include "dev/pci/function.h"
#include "dev/tests/guest.h"
#include "dev/vga/edid.h"
#include "display/surface.h"
#include "loop/loop.h"
#include "tests/tap.h"

#include <stdlib.h>

#define SLOT   4u
#define SIZE   16u
#define STORE  (1u << 20)
#define PACKED (UINT64_C(1) << 34)
#define VIRTIO 0x1000u /* of BAR 2 */

#define COMMAND (FREE_RAM)
#define REPLY   (FREE_RAM + 0x4000u)
#define FRAME   (FREE_RAM + 0x8000u) /* where pictures are in the guest */

enum { OK = 0x1100, NO_MEMORY = 0x1201, NO_SCANOUT, NO_RESOURCE, NO_PARAMETER = 0x1205, UNSPEC = 0x1200 };

static uint8_t vram[0x40000], store[STORE];
static struct device *dev;
static struct loop *loop;
static uint64_t written, forgotten;
static uint32_t pixels[1024 * 768];
static struct surface screen = {.pixels = pixels, .room = 1024 * 768};

static void wrote(void *ctx, const uint8_t *bytes, uint64_t len)
{
	(void)ctx;
	ok(bytes >= store && len <= STORE && bytes + len <= store + STORE, "it writes into its own memory");
	written += len;
}

static void forget(void *ctx, uint8_t *bytes, uint64_t len)
{
	(void)ctx;
	ok((bytes - store) % 4096 == 0 && len % 4096 == 0 && bytes + len <= store + STORE, "whole pages are forgotten");
	forgotten += len;
}

/* As drive() of guest.h does it, in BAR 2. */
static void drive_gpu(void)
{
	cfg_write(SLOT, 4, 2, 6);
	bar_out(SLOT, 2, VIRTIO + STATUS, 1, 0);
	bar_out(SLOT, 2, VIRTIO + STATUS, 1, 3);
	bar_out(SLOT, 2, VIRTIO + 8, 4, 0);
	bar_out(SLOT, 2, VIRTIO + 12, 4, 2);
	bar_out(SLOT, 2, VIRTIO + 8, 4, 1);
	bar_out(SLOT, 2, VIRTIO + 12, 4, 1);
	bar_out(SLOT, 2, VIRTIO + STATUS, 1, 11);
	for (unsigned n = 0; n < 2; n++) {
		memset(g_ram + DESC(n), 0, 0x1000);
		bar_out(SLOT, 2, VIRTIO + 0x16, 2, n);
		bar_out(SLOT, 2, VIRTIO + 0x18, 2, SIZE);
		bar_out(SLOT, 2, VIRTIO + 0x20, 8, DESC(n));
		bar_out(SLOT, 2, VIRTIO + 0x28, 8, AVAIL(n));
		bar_out(SLOT, 2, VIRTIO + 0x30, 8, USED(n));
		bar_out(SLOT, 2, VIRTIO + 0x1c, 2, 1);
	}
	bar_out(SLOT, 2, VIRTIO + STATUS, 1, 15);
}

static void start(void)
{
	g_start();
	if (loop_create(&loop, NULL) < 0)
		abort();
	dev = device_create(&virtio_vga_model, g_bus, (uint64_t[]){0x3b0, 0x1ce, 0xa0000}, &(struct virtio_vga_config){
		.pci = {.host = g_host, .mem = &g_mem, .slot = SLOT}, .vga = {.vram = vram, .vram_size = sizeof(vram)},
		.loop = loop, .store = store, .store_size = STORE, .wrote = wrote, .forget = forget}, NULL);
	device_reset(g_host);
	drive_gpu();
}

/* -- Commands ---------------------------------------------------------------------------------- */

static unsigned put(unsigned at, unsigned n, const uint32_t *words)
{
	for (unsigned i = 0; i < n; i++)
		le32_put(g_ram + COMMAND + at + 4 * i, words[i]);
	return at + 4 * n;
}

/* One of `n` words behind its header; what the reply is. */
static uint32_t send(unsigned queue, uint32_t type, unsigned n, const uint32_t *words)
{
	memset(g_ram + COMMAND, 0, 24);
	memset(g_ram + REPLY, 0xee, 2048);
	le32_put(g_ram + COMMAND, type);
	put_desc(queue, 0, COMMAND, put(24, n, words), F_NEXT, 1);
	put_desc(queue, 1, REPLY, 2048, F_WRITE, 0);
	offer(queue, SIZE, 0);
	bar_out(SLOT, 2, VIRTIO + 0x3000 + queue * 4, 2, queue);
	return le32_get(g_ram + REPLY);
}

#define SEND(type, ...) send(0, type, sizeof((uint32_t[]){__VA_ARGS__}) / 4, (uint32_t[]){__VA_ARGS__})
#define CREATE(...)     SEND(0x101, __VA_ARGS__)       /* id, format, width, height */
#define UNREF(id)       SEND(0x102, id, 0)
#define SCANOUT(...)    SEND(0x103, __VA_ARGS__)       /* x, y, width, height, scanout, id */
#define FLUSH(...)      SEND(0x104, __VA_ARGS__, 0)    /* x, y, width, height, id */
#define TRANSFER(...)   SEND(0x105, __VA_ARGS__, 0)    /* x, y, width, height, offset, its upper half, id */
#define ATTACH(...)     SEND(0x106, __VA_ARGS__)       /* id, n, n of (address, its upper half, length, 0) */
#define DETACH(id)      SEND(0x107, id, 0)
#define CURSOR(type, ...) send(1, type, 8, (uint32_t[]){__VA_ARGS__, 0, 0, 0}) /* 0, x, y, 0, id */

static void show(void)
{
	virtio_vga_show(dev, &screen);
}

static uint32_t dot(uint32_t x, uint32_t y)
{
	return surface_row(&screen, y)[x];
}

/* -- What the monitor is --------------------------------------------------------------------------- */

static void test_info(void)
{
	is_int(cfg_read(SLOT, 0, 4), 0x10501af4, "it is a virtio GPU");
	is_int(cfg_read(SLOT, 8, 4) >> 8, 0x030000, "and a VGA");
	is_int((long)bar_in(SLOT, 2, VIRTIO + 0x2008, 4), 1, "with one scanout");
	is_int(send(0, 0x100, 0, NULL), 0x1101, "what its monitor is");
	is_int(used_len(0, SIZE), 408, "has its length");
	ok(le32_get(g_ram + REPLY + 32) == 1024 && le32_get(g_ram + REPLY + 36) == 768 && le32_get(g_ram + REPLY + 40) == 1 &&
	   le32_get(g_ram + REPLY + 64) == 0, "1024x768, and no other");
	is_int(SEND(0x10a, 0, 0), 0x1104, "EDID");
	ok(used_len(0, SIZE) == 1056 && le32_get(g_ram + REPLY + 24) == 128, "has its length");
	ok(g_ram[REPLY + 32 + 56] == (1024 & 255) && g_ram[REPLY + 32 + 58] >> 4 == 1024 >> 8, "and likes the same width");
	ok(bar_in(SLOT, 2, 1, 1) == 0xff && bar_in(SLOT, 2, 0, 1) == 0, "the VGA has one, too");
	is_int(SEND(0x10a, 1, 0), NO_SCANOUT, "of another monitor there is none");
	is_int(SEND(0x108, 0, 0), UNSPEC, "a command of 3D is not known");
}

static void test_edid(void)
{
	static const unsigned sizes[][2] = {{64, 64}, {800, 600}, {1366, 768}, {1920, 1080}, {3840, 2160}, {4095, 2304}};
	uint8_t e[EDID_SIZE], sum;

	for (unsigned i = 0; i < 6; i++) {
		const uint8_t *t = e + 54;
		unsigned w, h, all_w, all_h, clock;

		edid_make(e, sizes[i][0], sizes[i][1]);
		sum = 0;
		for (unsigned k = 0; k < EDID_SIZE; k++)
			sum = (uint8_t)(sum + e[k]);
		w = t[2] | (t[4] & 0xf0u) << 4;
		h = t[5] | (t[7] & 0xf0u) << 4;
		all_w = w + (t[3] | (t[4] & 15u) << 8);
		all_h = h + (t[6] | (t[7] & 15u) << 8);
		clock = le16_get(t);
		ok(!sum && w == sizes[i][0] && h == sizes[i][1], "EDID of %u x %u", w, h);
		ok(clock * 10000 / (all_w * all_h) >= 59 && clock * 10000 / (all_w * all_h) <= 60, "at 60 Hz");
		ok(t[8] + t[9] < all_w - w && (t[10] >> 4) + (t[10] & 15u) < all_h - h, "its syncs are in its pauses");
	}
}

static void test_resize(void)
{
	uint8_t generation = (uint8_t)bar_in(SLOT, 2, VIRTIO + 0x15, 1);

	ok(virtio_vga_can_resize(dev) && virtio_vga_resize(dev, 800, 600), "the monitor is another one");
	is_int((long)bar_in(SLOT, 2, VIRTIO + 0x2000, 4), 1, "there is an event");
	ok(bar_in(SLOT, 2, VIRTIO + 0x15, 1) != generation, "the configuration has changed");
	bar_out(SLOT, 2, VIRTIO + 0x2004, 4, 1);
	is_int((long)bar_in(SLOT, 2, VIRTIO + 0x2000, 4), 0, "it is taken note of");
	send(0, 0x100, 0, NULL);
	ok(le32_get(g_ram + REPLY + 32) == 800 && le32_get(g_ram + REPLY + 36) == 600, "800x600");
	ok(!virtio_vga_resize(dev, 63, 600) && !virtio_vga_resize(dev, 4096, 600) && !virtio_vga_resize(dev, 800, 2305) &&
	   !virtio_vga_resize(dev, 0, 0), "there are sizes that no monitor has");
	virtio_vga_resize(dev, 1024, 768);
}

/* -- Pictures ---------------------------------------------------------------------------------------- */

static uint32_t colour(unsigned x, unsigned y)
{
	return 0xff000000u | x << 16 | y << 8 | (x ^ y);
}

static void paint(unsigned width, unsigned height)
{
	for (unsigned y = 0; y < height; y++)
		for (unsigned x = 0; x < width; x++)
			le32_put(g_ram + FRAME + (y * width + x) * 4, colour(x, y));
}

static bool is_painted(unsigned from_x, unsigned from_y)
{
	for (unsigned y = 0; y < screen.height; y++)
		for (unsigned x = 0; x < screen.width; x++)
			if (dot(x, y) != (colour(x + from_x, y + from_y) & 0xffffff))
				return false;
	return true;
}

/* 100 x 50 dots, in three pieces of memory that are not where one would look. */
static void test_picture(void)
{
	show();
	ok(screen.width == 640 && screen.height == 480, "before there is a driver it is a VGA");
	is_int(CREATE(7, 2, 100, 50), OK, "a picture");
	is_int(CREATE(7, 2, 100, 50), NO_RESOURCE, "not twice");
	paint(100, 50);
	memmove(g_ram + FRAME + 0x10000, g_ram + FRAME + 12000, 8000);
	memset(g_ram + FRAME + 12000, 0x55, 8000);
	is_int(ATTACH(7, 3, FRAME, 0, 5000, 0, FRAME + 5000, 0, 7000, 0, FRAME + 0x10000, 0, 8000, 0), OK, "its memory");
	is_int(ATTACH(7, 1, FRAME, 0, 5000, 0), NO_RESOURCE, "which it has");
	is_int(TRANSFER(0, 0, 100, 50, 0, 0, 7), OK, "all of it");
	is_int((long)written, 20000, "is told of");
	is_int(SCANOUT(0, 0, 100, 50, 0, 7), OK, "it is shown");
	is_int(FLUSH(0, 0, 100, 50, 7), OK, "now");
	show();
	ok(screen.width == 100 && screen.height == 50 && is_painted(0, 0), "it is what was painted");
	is_int(SCANOUT(10, 20, 30, 25, 0, 7), OK, "a part of it");
	show();
	ok(screen.width == 30 && screen.height == 25 && is_painted(10, 20), "is that part");
}

/* A rectangle alone is copied, from where it is in the picture or from elsewhere. */
static void test_parts(void)
{
	SCANOUT(0, 0, 100, 50, 0, 7);
	memset(g_ram + FRAME, 0, 5000 + 7000);
	is_int(TRANSFER(3, 4, 5, 6, (4 * 100 + 3) * 4, 0, 7), OK, "a part is copied");
	show();
	ok(dot(2, 4) == (colour(2, 4) & 0xffffff) && dot(3, 3) == (colour(3, 3) & 0xffffff) && dot(3, 4) == 0 && dot(7, 9) == 0 &&
	   dot(8, 9) == (colour(8, 9) & 0xffffff) && dot(7, 10) == (colour(7, 10) & 0xffffff), "and nothing beside it");
	le32_put(g_ram + FRAME, 0x00abcdef);
	is_int(TRANSFER(50, 30, 1, 1, 0, 0, 7), OK, "from another place");
	show();
	is_int(dot(50, 30), 0xabcdef, "it comes from there");
	is_int(DETACH(7), OK, "its memory is taken away");
	is_int(TRANSFER(0, 0, 1, 1, 0, 0, 7), NO_PARAMETER, "then there is nothing to copy");
	show();
	is_int(dot(50, 30), 0xabcdef, "and the picture stays");
	is_int(SCANOUT(0, 0, 0, 0, 0, 0), OK, "nothing is shown");
	show();
	ok(screen.width == 100 && dot(50, 30) == 0, "which is black");
	SCANOUT(0, 0, 100, 50, 0, 7);
	is_int(UNREF(7), OK, "a picture that is shown goes");
	ok(forgotten == 20480, "with its memory");
	show();
	is_int(dot(8, 9), 0, "which is black, too");
}

static void test_formats(void)
{
	static const struct {
		uint32_t format;
		uint8_t bytes[4]; /* of 0x112233 */
	} formats[] = {
		{1, {0x33, 0x22, 0x11, 9}}, {2, {0x33, 0x22, 0x11, 9}}, {3, {9, 0x11, 0x22, 0x33}}, {4, {9, 0x11, 0x22, 0x33}},
		{67, {0x11, 0x22, 0x33, 9}}, {68, {9, 0x33, 0x22, 0x11}}, {121, {9, 0x33, 0x22, 0x11}}, {134, {0x11, 0x22, 0x33, 9}},
	};

	for (unsigned i = 0; i < 8; i++) {
		CREATE(1, formats[i].format, 1, 1);
		memcpy(g_ram + FRAME, formats[i].bytes, 4);
		ATTACH(1, 1, FRAME, 0, 4, 0);
		TRANSFER(0, 0, 1, 1, 0, 0, 1);
		SCANOUT(0, 0, 1, 1, 0, 1);
		show();
		is_int(dot(0, 0), 0x112233, "format %u", formats[i].format);
		UNREF(1);
	}
	is_int(CREATE(1, 5, 1, 1), NO_PARAMETER, "there is no format 5");
}

/* -- The cursor ---------------------------------------------------------------------------------------- */

static void test_cursor(void)
{
	CREATE(1, 2, 100, 80);
	memset(g_ram + FRAME, 0x80, 100 * 80 * 4);
	ATTACH(1, 1, FRAME, 0, 100 * 80 * 4, 0);
	TRANSFER(0, 0, 100, 80, 0, 0, 1);
	SCANOUT(0, 0, 100, 80, 0, 1);
	CREATE(2, 1, 64, 64);
	memset(g_ram + FRAME, 0, 64 * 64 * 4);
	le32_put(g_ram + FRAME, 0xff102030);
	le32_put(g_ram + FRAME + 63 * 64 * 4 + 63 * 4, 0x80400000);
	ATTACH(2, 1, FRAME, 0, 64 * 64 * 4, 0);
	TRANSFER(0, 0, 64, 64, 0, 0, 2);
	is_int(CURSOR(0x300, 0, 10, 5, 0, 2), OK, "a cursor");
	show();
	ok(dot(10, 5) == 0x102030 && dot(11, 5) == 0x808080, "is drawn where it is, and not where it is transparent");
	is_int(dot(73, 68), 0x804040, "half of what is below can be seen"); /* 0x40 and half of 0x80; half of 0x80 */
	is_int(CURSOR(0x301, 0, (uint32_t)-63, 0, 0, 0), OK, "it moves over the edge");
	show();
	ok(dot(0, 63) == 0x804040 && dot(0, 0) == 0x808080, "of which a part is to be seen");
	is_int(CURSOR(0x301, 0, 99, 79, 0, 0), OK, "and over the other one");
	show();
	is_int(dot(99, 79), 0x102030, "the same");
	is_int(CURSOR(0x300, 0, 0, 0, 0, 1), NO_PARAMETER, "not each picture is one");
	is_int(CURSOR(0x300, 0, 0, 0, 0, 9), NO_RESOURCE, "nor is none");
	is_int(CURSOR(0x301, 1, 0, 0, 0, 0), NO_SCANOUT, "on another monitor there is none");
	is_int(SEND(0x300, 0, 0, 0, 0, 2, 0, 0, 0), UNSPEC, "it has its own queue");
	CURSOR(0x300, 0, 10, 5, 0, 2);
	UNREF(2);
	show();
	is_int(dot(10, 5), 0x808080, "without its picture it is gone");
	UNREF(1);
}

/* -- What is refused -------------------------------------------------------------------------------------- */

static void test_bounds(void)
{
	unsigned n = 0;

	is_int(CREATE(0, 2, 1, 1), NO_RESOURCE, "0 is no number");
	is_int(CREATE(1, 2, 0, 1), NO_PARAMETER, "no width is none");
	is_int(CREATE(1, 2, 16385, 1), NO_PARAMETER, "nor too much");
	is_int(CREATE(1, 2, 0x80000000, 0x80000000), NO_PARAMETER, "nor what wraps");
	is_int(CREATE(1, 2, 16384, 16384), NO_MEMORY, "a picture that is larger than all");
	is_int(CREATE(1, 2, 512, 512), OK, "the store is full with one");
	is_int(CREATE(2, 2, 1, 1), NO_MEMORY, "and has no room for a dot");
	UNREF(1);
	while (CREATE(n + 1, 2, 8, 8) == OK)
		n++;
	is_int(n, 256, "so many pictures there can be");
	for (unsigned i = 1; i <= n; i += 2)
		UNREF(i);
	is_int(CREATE(999, 2, 32, 33), NO_MEMORY, "what needs two pages has no room in gaps of one");
	is_int(CREATE(1000, 2, 8, 8), OK, "which others have");
	for (unsigned i = 1; i <= 1000; i++)
		UNREF(i);
	is_int(CREATE(1, 2, 512, 512), OK, "and all of it is there again");
	UNREF(1);
}

static void test_lies(void)
{
	CREATE(1, 2, 16, 16);
	is_int(ATTACH(1, 1, RAM_SIZE - 8, 0, 16, 0), NO_PARAMETER, "memory that is none");
	is_int(ATTACH(1, 1, FRAME, 0, 0, 0), NO_PARAMETER, "or empty");
	is_int(ATTACH(1, 2, FRAME, 0, 16, 0), NO_PARAMETER, "fewer entries than it says");
	is_int(ATTACH(1, 70000, FRAME, 0, 16, 0), NO_MEMORY, "more than there can be");
	is_int(ATTACH(9, 1, FRAME, 0, 16, 0), NO_RESOURCE, "of no picture");
	is_int(ATTACH(1, 1, FRAME, 0, 1000, 0), OK, "too little");
	is_int(TRANSFER(0, 0, 16, 16, 0, 0, 1), NO_PARAMETER, "is not copied from");
	is_int(TRANSFER(0, 0, 16, 1, 0, 1, 1), NO_PARAMETER, "nor from behind it");
	is_int(TRANSFER(0, 0, 16, 1, 0xffffffff, 0xffffffff, 1), NO_PARAMETER, "nor before it");
	is_int(TRANSFER(0, 0, 16, 1, 1000 - 63, 0, 1), NO_PARAMETER, "a byte too far");
	is_int(TRANSFER(0, 0, 16, 1, 1000 - 64, 0, 1), OK, "which is its end");
	is_int(TRANSFER(1, 0, 16, 1, 0, 0, 1), NO_PARAMETER, "a rectangle beside the picture");
	is_int(TRANSFER(0xffffffff, 0, 1, 1, 0, 0, 1), NO_PARAMETER, "far beside");
	is_int(TRANSFER(0, 0, 0, 0, 0, 0, 1), NO_PARAMETER, "or none");
	is_int(TRANSFER(0, 0, 1, 1, 0, 0, 9), NO_RESOURCE, "into no picture");
	is_int(SCANOUT(0, 0, 17, 1, 0, 1), NO_PARAMETER, "more is shown than there is");
	is_int(SCANOUT(0, 0, 1, 1, 1, 1), NO_SCANOUT, "elsewhere");
	is_int(SCANOUT(0, 0, 1, 1, 0, 9), NO_RESOURCE, "of nothing");
	is_int(FLUSH(0, 0, 17, 1, 1), NO_PARAMETER, "more is flushed than there is");
	is_int(FLUSH(0, 0, 1, 1, 9), NO_RESOURCE, "of nothing");
	is_int(UNREF(9), NO_RESOURCE, "what is not there cannot go");
	is_int(DETACH(9), NO_RESOURCE, "nor its memory");
	is_int(SEND(0x101, 1), NO_PARAMETER, "a command that is too short");
	is_int((long)bar_in(SLOT, 2, VIRTIO + STATUS, 1), 15, "none of which is a reason to stop");
}

static void test_fence(void)
{
	memset(g_ram + COMMAND, 0, 24);
	le32_put(g_ram + COMMAND, 0x100);
	le32_put(g_ram + COMMAND + 4, 1);
	le64_put(g_ram + COMMAND + 8, UINT64_C(0x123456789a));
	put_desc(0, 0, COMMAND, 24, F_NEXT, 1);
	put_desc(0, 1, REPLY, 2048, F_WRITE, 0);
	offer(0, SIZE, 0);
	bar_out(SLOT, 2, VIRTIO + 0x3000, 2, 0);
	ok(le32_get(g_ram + REPLY + 4) == 1 && le64_get(g_ram + REPLY + 8) == UINT64_C(0x123456789a), "a fence comes back");
}

/* As many transfers as the ring has room for, of 1 MiB each, by one kick; how many of them it does. */
static unsigned kick_many(void)
{
	uint16_t before = used_idx(0);

	for (unsigned i = 0; i < SIZE; i++)
		offer(0, SIZE, 0);
	bar_out(SLOT, 2, VIRTIO + 0x3000, 2, 0);
	return (uint16_t)(used_idx(0) - before);
}

static void test_long(void)
{
	uint32_t words[2 + 16 * 4] = {1, 16};
	uint16_t end;
	unsigned n;

	UNREF(1);
	is_int(CREATE(1, 2, 512, 512), OK, "a picture as large as all");
	for (unsigned i = 0; i < 16; i++)
		words[2 + i * 4] = i % 2 ? FRAME : FRAME + 0x20000, words[2 + i * 4 + 2] = 0x10000;
	is_int(send(0, 0x106, 2 + 16 * 4, words), OK, "of the same memory again and again");
	is_int(TRANSFER(0, 0, 512, 512, 0, 0, 1), OK, "is copied");
	end = (uint16_t)(used_idx(0) + SIZE);
	n = kick_many();
	ok(n && n < SIZE, "of 16 MiB a kick copies a part: %u", n);
	loop_once(loop);
	is_int(used_idx(0), end, "and the loop the rest");
	n = kick_many();
	device_pause(dev);
	loop_once(loop);
	is_int(used_idx(0), (uint16_t)(end + n), "which waits while all stands still");
	device_resume(dev);
	is_int(used_idx(0), (uint16_t)(end + SIZE), "and no longer");
	is_int(UNREF(1), OK, "it goes");
}

static void test_end(void)
{
	CREATE(5, 2, 8, 8);
	SCANOUT(0, 0, 8, 8, 0, 5);
	show();
	is_int(screen.width, 8, "a guest shows something");
	bar_out(SLOT, 2, VIRTIO + STATUS, 1, 0);
	show();
	is_int(screen.width, 640, "and when its driver lets go there is the VGA again");
	ok(!virtio_vga_can_resize(dev) && !virtio_vga_resize(dev, 800, 600), "of which there is one size");
	drive_gpu();
	is_int(UNREF(5), NO_RESOURCE, "its pictures are gone");
}

int main(void)
{
	start();
	test_info();
	test_edid();
	test_resize();
	test_picture();
	test_parts();
	test_formats();
	test_cursor();
	test_bounds();
	test_lies();
	test_fence();
	test_long();
	test_end();
	device_destroy(dev);
	loop_destroy(loop);
	g_stop();
	return done_testing();
}
