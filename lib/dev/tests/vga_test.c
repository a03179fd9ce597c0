/* SPDX-License-Identifier: MIT */
/*
 * VGA's modes: each is set as a BIOS sets it, drawn through the window as a program draws, and its picture compared dot by dot with what
 * the mode's description says (`want`), which knows nothing of planes and counters. The paths between CPU and planes are compared with
 * a model of one bit at a time.
 */
#include "dev/vga/core.h"
#include "display/surface.h"
#include "tests/tap.h"

#include <string.h>

static uint8_t vram[1 << 20];
static uint32_t pixels[1 << 21];
static struct vga v;
static struct surface s = {.pixels = pixels, .room = 1 << 21};

static uint32_t draw_random(void)
{
	static uint64_t state = 1;

	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33);
}

/* -- Modes, as IBM's BIOS sets them --------------------------------------------------- */

struct mode {
	const char *name;
	uint8_t misc, seq[5], crtc[25], gfx[9], attr[21];
};

#define SIXTEEN 0, 1, 2, 3, 4, 5, 0x14, 7, 0x38, 0x39, 0x3a, 0x3b, 0x3c, 0x3d, 0x3e, 0x3f
#define EQUAL   0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15

static const struct mode text_80 = {
	"text 80x25", 0x67, {3, 0, 3, 0, 2},
	{0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x1f, 0x96, 0xb9,
	 0xa3, 0xff},
	{0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff}, {SIXTEEN, 0x0c, 0, 0x0f, 8, 0},
};
static const struct mode text_40 = {
	"text 40x25", 0x67, {3, 8, 3, 0, 2},
	{0x2d, 0x27, 0x28, 0x90, 0x2b, 0xa0, 0xbf, 0x1f, 0, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0x1f, 0x96, 0xb9,
	 0xa3, 0xff},
	{0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff}, {SIXTEEN, 0x0c, 0, 0x0f, 8, 0},
};
static const struct mode mode_12 = {
	"640x480x16", 0xe3, {3, 1, 0x0f, 0, 6},
	{0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0, 0x40, 0, 0, 0, 0, 0, 0, 0xea, 0x8c, 0xdf, 0x28, 0, 0xe7, 0x04, 0xe3, 0xff},
	{0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff}, {SIXTEEN, 1, 0, 0x0f, 0, 0},
};
static const struct mode mode_0d = {
	"320x200x16", 0x63, {3, 9, 0x0f, 0, 6},
	{0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc0, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0, 0x96, 0xb9, 0xe3, 0xff},
	{0, 0, 0, 0, 0, 0, 5, 0x0f, 0xff}, {SIXTEEN, 1, 0, 0x0f, 0, 0},
};
static const struct mode mode_13 = {
	"320x200x256", 0x63, {3, 1, 0x0f, 0, 0x0e},
	{0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0x41, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x40, 0x96, 0xb9, 0xa3,
	 0xff},
	{0, 0, 0, 0, 0, 0x40, 5, 0x0f, 0xff}, {EQUAL, 0x41, 0, 0x0f, 0, 0},
};
static const struct mode mode_x = {
	"320x240x256, unchained", 0xe3, {3, 1, 0x0f, 0, 6},
	{0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0d, 0x3e, 0, 0x41, 0, 0, 0, 0, 0, 0, 0xea, 0xac, 0xdf, 0x28, 0, 0xe7, 0x06, 0xe3, 0xff},
	{0, 0, 0, 0, 0, 0x40, 5, 0x0f, 0xff}, {EQUAL, 0x41, 0, 0x0f, 0, 0},
};
static const struct mode cga_4 = {
	"CGA 320x200x4", 0x63, {3, 9, 3, 0, 2},
	{0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0, 0x96, 0xb9, 0xa2, 0xff},
	{0, 0, 0, 0, 0, 0x30, 0x0f, 0, 0xff}, {0, 0x13, 0x15, 0x17, 2, 4, 6, 7, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 1, 0, 3, 0, 0},
};
static const struct mode cga_6 = {
	"CGA 640x200x2", 0x63, {3, 1, 1, 0, 6},
	{0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0, 0x96, 0xb9, 0xc2, 0xff},
	{0, 0, 0, 0, 0, 0, 0x0d, 0, 0xff}, {0, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 0x17, 1, 0, 1, 0, 0},
};

static void out(unsigned port, unsigned value)
{
	vga_port_write(&v, port, (uint8_t)value);
}

static void set(unsigned port, unsigned index, unsigned value)
{
	out(port, index);
	out(port + 1, value);
}

static void set_attr(unsigned index, unsigned value)
{
	vga_port_read(&v, 0x3da);
	out(0x3c0, index);
	out(0x3c0, value);
	vga_port_read(&v, 0x3da);
	out(0x3c0, 0x20);
}

/* Colour n of the DAC. */
static uint32_t dac(unsigned n)
{
	unsigned r = n & 63, g = n * 3 & 63, b = n * 7 & 63;

	return (r << 2 | r >> 4) << 16 | (g << 2 | g >> 4) << 8 | (b << 2 | b >> 4);
}

static void set_mode(const struct mode *m)
{
	v = (struct vga){.vram = vram, .size = sizeof(vram)};
	memset(vram, 0, sizeof(vram));
	vga_reset(&v);
	out(0x3c2, m->misc);
	for (unsigned i = 0; i < 5; i++)
		set(0x3c4, i, m->seq[i]);
	set(0x3d4, 0x11, m->crtc[0x11] & 0x7f);
	for (unsigned i = 0; i < 25; i++)
		set(0x3d4, i, m->crtc[i]);
	for (unsigned i = 0; i < 9; i++)
		set(0x3ce, i, m->gfx[i]);
	for (unsigned i = 0; i < 21; i++)
		set_attr(i, m->attr[i]);
	out(0x3c8, 0);
	for (unsigned i = 0; i < 256; i++) {
		out(0x3c9, i & 63);
		out(0x3c9, i * 3 & 63);
		out(0x3c9, i * 7 & 63);
	}
}

static void poke(uint32_t addr, unsigned value)
{
	vga_window_write(&v, addr - 0xa0000, (uint8_t)value);
}

static unsigned peek(uint32_t addr)
{
	return vga_window_read(&v, addr - 0xa0000);
}

/* -- Comparing ------------------------------------------------------------------------ */

static void compare(const char *what, uint32_t width, uint32_t height, uint32_t (*want)(unsigned x, unsigned y), uint64_t now)
{
	unsigned wrong = 0, x1 = 0, y1 = 0;

	memset(pixels, 0xaa, sizeof(pixels));
	vga_draw(&v, now, &s);
	if (!ok(s.width == width && s.height == height, "%s: %u x %u dots", what, s.width, s.height))
		return;
	for (unsigned y = 0; y < height; y++)
		for (unsigned x = 0; x < width; x++)
			if (surface_row(&s, y)[x] != want(x, y) && !wrong++) {
				x1 = x;
				y1 = y;
			}
	if (!ok(wrong == 0, "%s: each is as it should be", what))
		note("%u wrong, the first at %u, %u: %06x, want %06x", wrong, x1, y1, surface_row(&s, y1)[x1], want(x1, y1));
}

/* What is drawn: a colour for each place. */
static unsigned pattern(unsigned x, unsigned y)
{
	return (x * 5 + y * 3 + (x * y >> 4)) ^ y >> 3;
}

/* -- Graphics --------------------------------------------------------------------------- */

static uint32_t want_16(unsigned x, unsigned y)
{
	return dac(mode_12.attr[pattern(x, y) & 15]);
}

static uint32_t want_16_half(unsigned x, unsigned y)
{
	return want_16(x / 2, y / 2);
}

/* Dot by dot: latches are filled, write mode 2, the bit mask says which dot. */
static void draw_dots(unsigned width, unsigned height)
{
	set(0x3ce, 5, 2);
	for (unsigned y = 0; y < height; y++)
		for (unsigned x = 0; x < width; x++) {
			set(0x3ce, 8, 0x80 >> (x & 7));
			peek(0xa0000 + y * (width / 8) + x / 8);
			poke(0xa0000 + y * (width / 8) + x / 8, pattern(x, y) & 15);
		}
}

/* A plane after the other, in write mode 0. */
static void draw_planes(unsigned width, unsigned height)
{
	for (unsigned plane = 0; plane < 4; plane++) {
		set(0x3c4, 2, 1u << plane);
		for (unsigned y = 0; y < height; y++)
			for (unsigned at = 0; at < width / 8; at++) {
				unsigned byte = 0;

				for (unsigned i = 0; i < 8; i++)
					byte |= (pattern(at * 8 + i, y) >> plane & 1) << (7 - i);
				poke(0xa0000 + y * (width / 8) + at, byte);
			}
	}
}

static uint32_t want_256(unsigned x, unsigned y)
{
	return dac(pattern(x / 2, y / 2) & 255);
}

static uint32_t want_cga_4(unsigned x, unsigned y)
{
	return dac(cga_4.attr[pattern(x / 2, y / 2) & 3]);
}

static uint32_t want_cga_6(unsigned x, unsigned y)
{
	return dac(cga_6.attr[pattern(x, y / 2) & 1]);
}

static void test_graphics(void)
{
	set_mode(&mode_12);
	draw_dots(640, 480);
	compare("640x480x16, by dots", 640, 480, want_16, 0);
	set_mode(&mode_12);
	draw_planes(640, 480);
	compare("640x480x16, by planes", 640, 480, want_16, 0);
	set_mode(&mode_0d);
	draw_planes(320, 200);
	compare(mode_0d.name, 640, 400, want_16_half, 0);

	set_mode(&mode_13);
	for (unsigned y = 0; y < 200; y++)
		for (unsigned x = 0; x < 320; x++)
			poke(0xa0000 + y * 320 + x, pattern(x, y));
	compare(mode_13.name, 640, 400, want_256, 0);
	is_int(peek(0xa0000 + 5 * 320 + 7), pattern(7, 5) & 255, "320x200x256: a dot is read back");

	set_mode(&mode_x);
	for (unsigned x = 0; x < 320; x++) {
		set(0x3c4, 2, 1u << (x & 3));
		for (unsigned y = 0; y < 240; y++)
			poke(0xa0000 + y * 80 + x / 4, pattern(x, y));
	}
	compare(mode_x.name, 640, 480, want_256, 0);

	set_mode(&cga_4);
	for (unsigned y = 0; y < 200; y++)
		for (unsigned at = 0; at < 80; at++) {
			unsigned byte = 0;

			for (unsigned i = 0; i < 4; i++)
				byte |= (pattern(at * 4 + i, y) & 3) << (6 - i * 2);
			poke(0xb8000 + y % 2 * 0x2000 + y / 2 * 80 + at, byte);
		}
	compare(cga_4.name, 640, 400, want_cga_4, 0);

	set_mode(&cga_6);
	for (unsigned y = 0; y < 200; y++)
		for (unsigned at = 0; at < 80; at++) {
			unsigned byte = 0;

			for (unsigned i = 0; i < 8; i++)
				byte |= (pattern(at * 8 + i, y) & 1) << (7 - i);
			poke(0xb8000 + y % 2 * 0x2000 + y / 2 * 80 + at, byte);
		}
	compare(cga_6.name, 640, 400, want_cga_6, 0);
}

/* -- Text ------------------------------------------------------------------------------- */

static uint8_t fonts[2][256][16];
static uint8_t cells[26][80][2];
static unsigned columns, dots, scroll_x, cursor, cursor_on, blink_off, mode_bits, two_fonts;

/* Dot x, y of the page of cells. */
static uint32_t want_text(unsigned x, unsigned y)
{
	unsigned wide = columns == 40 ? 2 : 1, from = x / wide + scroll_x, column = from / dots, dot = from % dots, row = y / 16;
	const uint8_t *cell = cells[row][column]; /* behind the last one is the next row's first; behind the last row nothing */
	unsigned colour = cell[1] & 15, back = cell[1] >> 4;
	const uint8_t *glyph = fonts[two_fonts && colour & 8][cell[0]];
	bool lit = dot < 8 ? glyph[y % 16] >> (7 - dot) & 1 : cell[0] >= 0xc0 && cell[0] < 0xe0 && mode_bits & 4 && glyph[y % 16] & 1;

	if (mode_bits & 8) {
		if (back & 8 && blink_off)
			lit = false;
		back &= 7;
	}
	if (cursor_on && row * columns + column == cursor && y % 16 >= 13 && y % 16 <= 14)
		lit = true;
	return dac(text_80.attr[lit ? colour : back]);
}

/* Fonts as a BIOS loads them: plane 2, unchained, a letter every 32 bytes; then letters, through odd and even bytes. */
static void draw_letters(const struct mode *m)
{
	set_mode(m);
	set(0x3c4, 2, 4);
	set(0x3c4, 4, 6);
	set(0x3ce, 5, 0);
	set(0x3ce, 6, 4);
	for (unsigned f = 0; f < 2; f++)
		for (unsigned c = 0; c < 256; c++)
			for (unsigned y = 0; y < 16; y++)
				poke(0xa0000 + f * 0x4000 + c * 32 + y, fonts[f][c][y] = (uint8_t)draw_random());
	set(0x3c4, 2, 3);
	set(0x3c4, 4, 2);
	set(0x3ce, 5, 0x10);
	set(0x3ce, 6, 0x0e);
	for (unsigned row = 0; row < 25; row++)
		for (unsigned i = 0; i < columns; i++)
			for (unsigned b = 0; b < 2; b++)
				poke(0xb8000 + (row * columns + i) * 2 + b, cells[row][i][b] = (uint8_t)draw_random());
}

#define LATER 300000000u /* the cursor is not there */
#define BLINKS_OFF 600000000u /* it is, and what blinks is not */

static void test_text(void)
{
	columns = 80;
	dots = 9;
	mode_bits = 0x0c;
	cursor = 5 * 80 + 11;
	draw_letters(&text_80);
	is_int(peek(0xb8000 + 161), cells[1][0][1], "text: an attribute is read back");
	set(0x3d4, 0x0e, cursor >> 8);
	set(0x3d4, 0x0f, cursor & 255);
	cursor_on = 1;
	compare("text 80x25", 720, 400, want_text, 0);
	cursor_on = 0;
	compare("text, a moment later", 720, 400, want_text, LATER);
	cursor_on = blink_off = 1;
	compare("text, when what blinks is gone", 720, 400, want_text, BLINKS_OFF);
	blink_off = 0;
	set(0x3d4, 0x0a, 0x2d);
	cursor_on = 0;
	compare("text, without a cursor", 720, 400, want_text, 0);

	set_attr(0x10, mode_bits = 0);
	compare("text, with 16 colours behind, and no lines", 720, 400, want_text, 0);
	set_attr(0x10, mode_bits = 0x0c);
	set(0x3c4, 3, 4); /* A: 0x4000 */
	two_fonts = 1;
	compare("text, in two fonts", 720, 400, want_text, 0);
	set(0x3c4, 3, 0);
	two_fonts = 0;

	set_attr(0x13, 2);
	scroll_x = 3;
	compare("text, moved by three dots", 720, 400, want_text, 0);
	scroll_x = 0;
	set_attr(0x13, 0);
	set(0x3c4, 1, 1);
	dots = 8;
	compare("text, in 8 dots", 640, 400, want_text, 0);

	columns = 40;
	dots = 9;
	draw_letters(&text_40);
	set(0x3d4, 0x0a, 0x20);
	compare("text 40x25", 720, 400, want_text, 0);
}

/* -- What moves: start address, line compare, panning ------------------------------------ */

static unsigned split_at, start_row, pan_x;

static uint32_t want_moved(unsigned x, unsigned y)
{
	if (y > split_at)
		return want_16(x, y - split_at - 1);
	return want_16(x + pan_x, y + start_row);
}

static void test_moves(void)
{
	split_at = 1000;
	set_mode(&mode_12);
	draw_planes(640, 600);
	start_row = 60;
	set(0x3d4, 0x0c, start_row * 80 >> 8);
	set(0x3d4, 0x0d, start_row * 80 & 255);
	compare("a start address", 640, 480, want_moved, 0);

	split_at = 299;
	set(0x3d4, 0x11, 0);
	set(0x3d4, 0x18, split_at & 255);
	set(0x3d4, 0x07, (mode_12.crtc[7] & ~0x10) | (split_at >> 4 & 0x10));
	set(0x3d4, 0x09, mode_12.crtc[9] & ~0x40);
	compare("a split screen", 640, 480, want_moved, 0);

	/* Rows of 82 bytes, so that what comes in from the right is the row's. */
	set_mode(&mode_12);
	set(0x3d4, 0x13, 41);
	for (unsigned plane = 0; plane < 4; plane++) {
		set(0x3c4, 2, 1u << plane);
		for (unsigned y = 0; y < 480; y++)
			for (unsigned at = 0; at < 82; at++) {
				unsigned byte = 0;

				for (unsigned i = 0; i < 8; i++)
					byte |= (pattern(at * 8 + i, y) >> plane & 1) << (7 - i);
				poke(0xa0000 + y * 82 + at, byte);
			}
	}
	start_row = 0;
	split_at = 1000;
	pan_x = 5;
	set_attr(0x13, 5);
	compare("panning", 640, 480, want_moved, 0);
	split_at = 255;
	set(0x3d4, 0x11, 0);
	set(0x3d4, 0x18, 255);
	set(0x3d4, 0x07, mode_12.crtc[7] & ~0x10);
	set(0x3d4, 0x09, mode_12.crtc[9] & ~0x40);
	set_attr(0x10, 0x21);
	compare("panning above a split", 640, 480, want_moved, 0);
	pan_x = 0;
}

/* -- Colours -------------------------------------------------------------------------------- */

static uint32_t want_high(unsigned x, unsigned y)
{
	return dac((mode_12.attr[pattern(x, y) & 15] & 15) | 0x60);
}

static uint32_t want_black(unsigned x, unsigned y)
{
	(void)x, (void)y;
	return 0;
}

static uint32_t want_masked(unsigned x, unsigned y)
{
	return dac(mode_12.attr[pattern(x, y) & 5]);
}

static void test_colours(void)
{
	set_mode(&mode_12);
	draw_planes(640, 480);
	set_attr(0x12, 5);
	compare("two planes shown", 640, 480, want_masked, 0);
	set_attr(0x12, 15);
	set_attr(0x10, 0x81);
	set_attr(0x14, 6);
	compare("colours from elsewhere", 640, 480, want_high, 0);
	set(0x3c4, 1, 0x21);
	compare("the screen is off", 640, 480, want_black, 0);
	set(0x3c4, 1, 1);
	vga_port_read(&v, 0x3da);
	out(0x3c0, 0);
	compare("the palette is the program's", 640, 480, want_black, 0);

	set_mode(&mode_13);
	out(0x3c7, 5);
	is_int(vga_port_read(&v, 0x3c9), 5, "DAC: red of 5");
	is_int(vga_port_read(&v, 0x3c9), 15, "green");
	is_int(vga_port_read(&v, 0x3c9), 35, "blue");
	is_int(vga_port_read(&v, 0x3c9), 6, "and red of 6");
	is_int(vga_port_read(&v, 0x3c7), 3, "it is being read");
	set(0x3d4, 0x11, 0x8e);
	set(0x3d4, 0x01, 0);
	out(0x3d4, 1);
	is_int(vga_port_read(&v, 0x3d5), 0x4f, "CRTC: locked");
	is_int(vga_port_read(&v, 0x3b5), 0xff, "a colour card has no 0x3b5");
	out(0x3c2, 0x62);
	out(0x3b4, 1);
	is_int(vga_port_read(&v, 0x3b5), 0x4f, "a monochrome one has");
	is_int(vga_port_read(&v, 0x3d5), 0xff, "and no 0x3d5");
}

/* -- Between CPU and planes, a bit at a time --------------------------------------------------- */

static unsigned bit_of(unsigned byte, unsigned n)
{
	return byte >> n & 1;
}

static unsigned want_bit(unsigned plane, unsigned n, unsigned value, unsigned old, const uint8_t *latch)
{
	unsigned mode = v.gfx[5] & 3, turn = v.gfx[3] & 7, rotated = bit_of(value, (n + turn) & 7), was = bit_of(latch[plane], n);
	unsigned bit, masked = bit_of(v.gfx[8], n);

	if (!bit_of(v.seq[2], plane))
		return old;
	if (mode == 1)
		return was;
	bit = mode == 0 ? (bit_of(v.gfx[1], plane) ? bit_of(v.gfx[0], plane) : rotated) :
	      mode == 2 ? bit_of(value, plane) : bit_of(v.gfx[0], plane);
	if (mode == 3)
		masked &= rotated;
	switch (v.gfx[3] >> 3) {
	case 1:
		bit &= was;
		break;
	case 2:
		bit |= was;
		break;
	case 3:
		bit ^= was;
		break;
	}
	return masked ? bit : was;
}

static void test_paths(void)
{
	unsigned wrong = 0, wrong_reads = 0;

	set_mode(&mode_12);
	for (unsigned i = 0; i < 20000; i++) {
		uint8_t *at = vram + 4 * 0x1234, latch[4], old[4];
		unsigned value = draw_random() & 255, read, want = 0;

		for (unsigned r = 0; r < 9; r++)
			if (r != 6)
				set(0x3ce, r, draw_random());
		set(0x3ce, 5, v.gfx[5] & 0x0b);
		set(0x3c4, 2, draw_random());
		for (unsigned p = 0; p < 4; p++) {
			at[p] = latch[p] = (uint8_t)draw_random();
		}
		read = peek(0xa0000 + 0x1234);
		if (v.gfx[5] & 8) {
			for (unsigned n = 0; n < 8; n++) {
				unsigned same = 1;

				for (unsigned p = 0; p < 4; p++)
					same &= !bit_of(v.gfx[7], p) || bit_of(latch[p], n) == bit_of(v.gfx[2], p);
				want |= same << n;
			}
		} else {
			want = latch[v.gfx[4] & 3];
		}
		wrong_reads += read != want;
		for (unsigned p = 0; p < 4; p++)
			at[p] = old[p] = (uint8_t)draw_random();
		poke(0xa0000 + 0x1234, value);
		for (unsigned p = 0; p < 4; p++)
			for (unsigned n = 0; n < 8; n++)
				wrong += bit_of(at[p], n) != want_bit(p, n, value, bit_of(old[p], n), latch);
	}
	is_int(wrong, 0, "20000 writes in all modes");
	is_int(wrong_reads, 0, "and reads");
	out(0x3c2, 0xe1);
	is_int(peek(0xa0000), 0xff, "memory that is off");
	out(0x3c2, 0xe3);
	set(0x3ce, 6, 0x0d);
	is_int(peek(0xa0000), 0xff, "a window that is elsewhere");
}

/* -- DISPI --------------------------------------------------------------------------------------- */

static unsigned depth, virtual, from_x, from_y;

/* The value of a dot in memory, and as it is to be seen. */
static uint32_t linear_value(unsigned x, unsigned y)
{
	return pattern(x, y) * 0x01030507u & (depth == 32 ? 0xffffff : (1u << depth) - 1);
}

static uint32_t scale(uint32_t n, unsigned bits)
{
	return n << (8 - bits) | n >> (2 * bits - 8);
}

static uint32_t want_linear(unsigned x, unsigned y)
{
	uint32_t n = linear_value(x + from_x, y + from_y);

	switch (depth) {
	case 8:
		return dac(n);
	case 15:
		return scale(n >> 10, 5) << 16 | scale(n >> 5 & 31, 5) << 8 | scale(n & 31, 5);
	case 16:
		return scale(n >> 11, 5) << 16 | scale(n >> 5 & 63, 6) << 8 | scale(n & 31, 5);
	}
	return n;
}

static void dispi(unsigned index, unsigned value)
{
	vga_dispi_write(&v, index, (uint16_t)value);
}

static void test_depth(unsigned bits)
{
	unsigned bytes = (bits + 7) / 8;

	depth = bits;
	set_mode(&mode_13);
	memset(vram, 0x55, sizeof(vram));
	dispi(DISPI_XRES, 400);
	dispi(DISPI_YRES, 300);
	dispi(DISPI_BPP, bits);
	dispi(DISPI_ENABLE, DISPI_ENABLED | DISPI_LINEAR);
	is_int(vram[1000], 0, "%u bits: the frame is cleared", bits);
	dispi(DISPI_VIRT_WIDTH, virtual = 500);
	is_int(vga_dispi_read(&v, DISPI_VIRT_HEIGHT), sizeof(vram) / (500 * bytes), "%u bits: how high it is", bits);
	for (unsigned y = 0; y < 400; y++)
		for (unsigned x = 0; x < virtual; x++) {
			uint32_t n = linear_value(x, y), at = (y * virtual + x) * bytes;

			for (unsigned i = 0; i < bytes; i++) {
				dispi(DISPI_BANK, (at + i) >> 16);
				poke(0xa0000 + ((at + i) & 0xffff), n >> (i * 8));
			}
		}
	from_x = from_y = 0;
	compare("linear", 400, 300, want_linear, 0);
	dispi(DISPI_X, from_x = 77);
	dispi(DISPI_Y, from_y = 33);
	compare("linear, moved", 400, 300, want_linear, 0);
}

static void test_dispi(void)
{
	test_depth(8);
	test_depth(15);
	test_depth(16);
	test_depth(24);
	is_int(vga_dispi_read(&v, DISPI_ID), 0xb0c5, "DISPI: its version");
	dispi(DISPI_ID, 0xb0c0);
	is_int(vga_dispi_read(&v, DISPI_ID), 0xb0c0, "an older one is agreed on");
	is_int(vga_dispi_read(&v, DISPI_MEMORY_64K), sizeof(vram) >> 16, "how much memory it has");
	dispi(DISPI_BPP, 7);
	is_int(vga_dispi_read(&v, DISPI_BPP), 24, "there are no 7 bits");
	dispi(DISPI_XRES, 5000);
	is_int(vga_dispi_read(&v, DISPI_XRES), 400, "nor 5000 dots");
	dispi(DISPI_ENABLE, DISPI_CAPS);
	is_int(vga_dispi_read(&v, DISPI_XRES), DISPI_XRES_MAX, "the most there is");
	is_int(vga_dispi_read(&v, DISPI_BPP), 32, "of bits, too");
	dispi(DISPI_ENABLE, 0);
	/* A frame that is larger than memory ends in black. */
	dispi(DISPI_XRES, 1600);
	dispi(DISPI_YRES, 1200);
	dispi(DISPI_BPP, 32);
	dispi(DISPI_ENABLE, DISPI_ENABLED);
	memset(vram, 0x11, sizeof(vram));
	vga_draw(&v, 0, &s);
	ok(s.width == 1600 && s.height == 1200 && surface_row(&s, 100)[7] == 0x111111 && surface_row(&s, 1199)[7] == 0,
	   "a frame that is larger than memory ends in black");
}

/* Any registers: nothing but the room is written. */
static void test_anything(void)
{
	static uint32_t guard[1000];

	for (unsigned i = 0; i < 300; i++) {
		struct surface small = {.pixels = guard, .room = 900};

		set_mode(&mode_12);
		for (unsigned n = 0; n < 200; n++)
			out(0x3c0 + draw_random() % 32, draw_random());
		if (i % 2)
			dispi(draw_random() % DISPI_N, draw_random());
		v.crtc[0x17] |= 0x80;
		memset(guard, 0x77, sizeof(guard));
		vga_draw(&v, draw_random(), &small);
		if (guard[900] != 0x77777777) {
			ok(false, "a picture is no larger than its room");
			return;
		}
	}
	ok(true, "300 pictures of any registers are no larger than their room");
}

int main(void)
{
	v = (struct vga){.vram = vram, .size = sizeof(vram)};
	vga_reset(&v);
	compare("as it is made", 640, 480, want_black, 0);
	test_graphics();
	test_text();
	test_moves();
	test_colours();
	test_paths();
	test_dispi();
	test_anything();
	return done_testing();
}
