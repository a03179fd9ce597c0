/* SPDX-License-Identifier: MIT */
/*
 * From registers and memory to the picture, as a VGA's shift registers make it, a row of dots at a time.
 *
 * The CRTC counts characters along a row, from the start address on, and rows of dots inside of a character. The count becomes an
 * address by the mode: as it is, times 2 or times 4, and for CGA's interlaced modes a bit or two of the row are put in. There it finds a
 * byte in each plane, and these four are
 *
 *	text            a character, its attribute, (its font is in plane 2), nothing: 8 or 9 dots
 *	16 colours      a bit each of 8 dots
 *	CGA             two bits each of 8 dots, in planes 0 and 1
 *	256 colours     4 dots, each twice as wide
 *
 * A picture has the dots that a monitor gets: at half the dot clock each is drawn twice, and a row of 200-line modes, too.
 *
 * A program may set anything: sizes are bounded by the surface, addresses by the planes.
 *
 * Left out: overscan, dots of a cut ninth column in graphics, blinking in graphics.
 */
#include "dev/vga/core.h"

#include "base/bytes.h"
#include "display/surface.h"

#include <string.h>

#define BLINK_NS      266666667u /* 16 frames of 60 a second: how long a cursor is there, and then is not */
#define DOTS_MAX      SURFACE_WIDTH_MAX
#define NO_MODE_W     640u /* of a screen that was never set up */
#define NO_MODE_H     480u

struct picture {
	const struct vga *v;
	uint32_t palette[256]; /* as pixels */
	uint32_t colours[16];  /* of the attribute controller, as pixels */
	bool cursor, blinks;   /* what blinks is to be seen now: the cursor; characters */
	bool is_text;
	unsigned chars, dots;  /* of a row, and of a character */
	unsigned wide;         /* pixels of a dot */
	uint32_t row[DOTS_MAX + 32];
};

/* -- Colours ------------------------------------------------------------------------ */

static uint32_t pixel(const struct vga *v, unsigned index)
{
	const uint8_t *rgb = v->palette + (index & 255) * 3u;
	uint32_t value = 0;

	for (unsigned i = 0; i < 3; i++) {
		uint32_t part = rgb[i];

		if (!(v->dispi[DISPI_ENABLE] & DISPI_DAC_8))
			part = (part & 0x3f) << 2 | (part & 0x3f) >> 4;
		value = value << 8 | part;
	}
	return value;
}

/* Four bits to eight: by the palette registers to six, two more from one for all. */
static unsigned colour(const struct vga *v, unsigned index)
{
	unsigned c = v->attr[index] & 0x3f;

	if (v->attr[ATTR_MODE] & ATTR_MODE_COLOURS)
		c = (c & 0x0f) | (v->attr[ATTR_COLOURS] & 3u) << 4;
	return (c | (v->attr[ATTR_COLOURS] & 0x0cu) << 4) & v->dac_mask;
}

static void find_colours(struct picture *p)
{
	for (unsigned i = 0; i < 256; i++)
		p->palette[i] = pixel(p->v, i & p->v->dac_mask);
	for (unsigned i = 0; i < 16; i++)
		p->colours[i] = pixel(p->v, colour(p->v, i));
}

/* -- Addresses ---------------------------------------------------------------------- */

static uint32_t address(const struct vga *v, uint32_t count, unsigned row)
{
	unsigned mode = v->crtc[CRTC_MODE];
	uint32_t at = count;

	if (v->crtc[CRTC_UNDERLINE] & 0x40)
		at = count << 2 | (count >> 12 & 3);
	else if (!(mode & 0x40))
		at = count << 1 | (count >> (mode & 0x20 ? 15 : 13) & 1);
	if (!(mode & 1))
		at = (at & ~0x2000u) | (row & 1) << 13;
	if (!(mode & 2))
		at = (at & ~0x4000u) | (row >> 1 & 1) << 14;
	return at % VGA_PLANE;
}

static const uint8_t *planes(const struct vga *v, uint32_t count, unsigned row)
{
	return v->vram + address(v, count, row) * 4;
}

/* How the counter goes on along a row: each character, each second, or each fourth. */
static uint32_t step(const struct vga *v, unsigned n)
{
	if (v->crtc[CRTC_UNDERLINE] & 0x20)
		return n >> 2;
	return v->crtc[CRTC_MODE] & 8 ? n >> 1 : n;
}

/* -- Dots --------------------------------------------------------------------------- */

/* Of the two fonts that attribute bit 3 chooses from. Where they are: bits 1, 0, 4 of the register, or 3, 2, 5. */
static uint32_t font(const struct vga *v, bool second)
{
	unsigned r = v->seq[SEQ_FONTS];
	unsigned n = second ? (r >> 2 & 3) | (r >> 3 & 4) : (r & 3) | (r >> 2 & 4);

	return (n & 3) * 0x4000 + (n & 4 ? 0x2000 : 0);
}

static bool is_at_cursor(const struct picture *p, uint32_t count, unsigned row)
{
	const uint8_t *c = p->v->crtc;
	uint32_t at = (uint32_t)(c[CRTC_CURSOR_HIGH] << 8 | c[CRTC_CURSOR_LOW]);
	unsigned first = c[CRTC_CURSOR_START] & 0x1f, last = c[CRTC_CURSOR_END] & 0x1f;

	return p->cursor && !(c[CRTC_CURSOR_START] & 0x20) && (count & 0xffff) == at && row >= first && row <= last;
}

static unsigned glyph(const struct picture *p, const uint8_t *cell, unsigned row)
{
	const struct vga *v = p->v;
	uint32_t at = font(v, cell[1] & 8) + cell[0] * 32u + row;

	if (v->attr[ATTR_MODE] & ATTR_MODE_MONO && (cell[1] & 7) == 1 && row == (v->crtc[CRTC_UNDERLINE] & 0x1fu))
		return 0xff;
	return v->vram[at % VGA_PLANE * 4 + 2];
}

static void draw_text(const struct picture *p, uint32_t *to, uint32_t count, unsigned row)
{
	const struct vga *v = p->v;
	const uint8_t *cell = planes(v, count, row);
	unsigned bits = glyph(p, cell, row), front = cell[1] & 15, back = cell[1] >> 4;
	bool blinking = v->attr[ATTR_MODE] & ATTR_MODE_BLINK;
	bool is_line = v->attr[ATTR_MODE] & ATTR_MODE_LINES && (cell[0] & 0xe0) == 0xc0;

	if (blinking && back & 8 && !p->blinks)
		front = back & 7;
	if (blinking)
		back &= 7;
	bits = bits << 1 | (is_line ? bits & 1 : 0);
	if (is_at_cursor(p, count, row))
		bits = 0x1ff;
	for (unsigned i = 0; i < p->dots; i++)
		to[i] = p->colours[(bits >> (8 - i) & 1 ? front : back) & v->attr[ATTR_PLANES] & 15];
}

static void draw_16(const struct picture *p, uint32_t *to, const uint8_t *bytes)
{
	unsigned shown = p->v->attr[ATTR_PLANES];

	for (unsigned i = 0; i < 8; i++) {
		unsigned n = 0;

		for (unsigned plane = 0; plane < 4; plane++)
			n |= (bytes[plane] >> (7 - i) & 1u) << plane;
		to[i] = p->colours[n & shown & 15];
	}
}

static void draw_cga(const struct picture *p, uint32_t *to, const uint8_t *bytes)
{
	unsigned shown = p->v->attr[ATTR_PLANES];

	for (unsigned i = 0; i < 8; i++) {
		unsigned plane = i / 4, shift = 6 - i % 4 * 2;
		unsigned n = (bytes[plane] >> shift & 3u) | (bytes[plane + 2] >> shift & 3u) << 2;

		to[i] = p->colours[n & shown & 15];
	}
}

static void draw_256(const struct picture *p, uint32_t *to, const uint8_t *bytes)
{
	for (unsigned i = 0; i < 8; i++)
		to[i] = p->palette[bytes[i / 2]];
}

static void draw_char(const struct picture *p, uint32_t *to, uint32_t count, unsigned row)
{
	unsigned mode = p->v->gfx[GFX_MODE];

	if (p->is_text)
		draw_text(p, to, count, row);
	else if (mode & MODE_SHIFT_256)
		draw_256(p, to, planes(p->v, count, row));
	else if (mode & MODE_SHIFT_2)
		draw_cga(p, to, planes(p->v, count, row));
	else
		draw_16(p, to, planes(p->v, count, row));
}

/* By how many dots the picture is moved to the left. With nine of them a character's 8 is none. */
static unsigned panning(const struct picture *p)
{
	unsigned pan = p->v->attr[ATTR_PAN];

	if (p->dots == 9)
		return pan > 7 ? 0 : pan + 1;
	return pan & 7;
}

static void draw_row(struct picture *p, uint32_t start, unsigned row, unsigned pan, uint32_t *to, unsigned width)
{
	for (unsigned n = 0; n <= p->chars; n++)
		draw_char(p, p->row + n * p->dots, start + step(p->v, n), row);
	for (unsigned x = 0; x < width; x++)
		to[x] = p->row[pan + x / p->wide];
}

/* -- The screen ---------------------------------------------------------------------- */

static unsigned with_overflow(const struct vga *v, unsigned low, unsigned bit8, unsigned bit9)
{
	unsigned over = v->crtc[CRTC_OVERFLOW];

	return low | (over >> bit8 & 1u) << 8 | (over >> bit9 & 1u) << 9;
}

static unsigned line_compare(const struct vga *v)
{
	return v->crtc[CRTC_LINE_COMPARE] | (v->crtc[CRTC_OVERFLOW] & 0x10u) << 4 | (v->crtc[CRTC_CELL] & 0x40u) << 3;
}

static void measure(struct picture *p, struct surface *s)
{
	const struct vga *v = p->v;
	unsigned lines = with_overflow(v, v->crtc[CRTC_V_DISPLAY_END], 1, 6) + 1;

	p->is_text = !(v->gfx[GFX_MISC] & GFX_MISC_GRAPHICS);
	p->dots = p->is_text && !(v->seq[SEQ_CLOCKING] & CLOCKING_8_DOTS) ? 9 : 8;
	p->wide = v->seq[SEQ_CLOCKING] & CLOCKING_HALF ? 2 : 1;
	p->chars = v->crtc[CRTC_H_DISPLAY_END] + 1u;
	surface_resize(s, p->chars * p->dots * p->wide, v->crtc[CRTC_MODE] & 4 ? lines * 2 : lines);
}

/* Where the CRTC is. */
struct beam {
	uint32_t start;
	unsigned row, pan;
	bool again; /* this row of dots was drawn once of two times */
};

static void next_row(const struct vga *v, struct beam *b)
{
	if (v->crtc[CRTC_CELL] & 0x80 && !b->again) {
		b->again = true;
		return;
	}
	b->again = false;
	if (b->row == (v->crtc[CRTC_CELL] & 0x1fu)) {
		b->row = 0;
		b->start += v->crtc[CRTC_OFFSET] * 2u;
	} else {
		b->row = (b->row + 1) & 0x1f;
	}
}

static void draw_planes(struct picture *p, struct surface *s)
{
	const struct vga *v = p->v;
	unsigned compare = line_compare(v), every = v->crtc[CRTC_MODE] & 4 ? 2 : 1;
	struct beam b = {
		.start = (uint32_t)(v->crtc[CRTC_START_HIGH] << 8 | v->crtc[CRTC_START_LOW]) +
			 (v->crtc[CRTC_PRESET_ROW] >> 5 & 3u),
		.row = v->crtc[CRTC_PRESET_ROW] & 0x1f,
		.pan = panning(p),
	};

	for (unsigned y = 0; y < s->height; y++) {
		draw_row(p, b.start, b.row, b.pan, surface_row(s, y), s->width);
		if (y % every != every - 1)
			continue;
		next_row(v, &b);
		if (y / every == compare) {
			b = (struct beam){.pan = v->attr[ATTR_MODE] & ATTR_MODE_PAN_TOP ? 0 : b.pan};
		}
	}
}

static void draw_black(struct surface *s)
{
	memset(s->pixels, 0, (size_t)s->width * s->height * sizeof(*s->pixels));
}

/* -- DISPI --------------------------------------------------------------------------- */

static uint32_t widen(uint32_t value, unsigned bits)
{
	return value << (8 - bits) | value >> (2 * bits - 8);
}

static uint32_t unpack(const struct picture *p, const uint8_t *at, unsigned bpp)
{
	uint32_t n;

	switch (bpp) {
	case 8:
		return p->palette[*at];
	case 15:
		n = le16_get(at);
		return widen(n >> 10 & 31, 5) << 16 | widen(n >> 5 & 31, 5) << 8 | widen(n & 31, 5);
	case 16:
		n = le16_get(at);
		return widen(n >> 11, 5) << 16 | widen(n >> 5 & 63, 6) << 8 | widen(n & 31, 5);
	case 24:
		return (uint32_t)(at[0] | at[1] << 8 | at[2] << 16);
	}
	return le32_get(at) & 0xffffff;
}

/* What is not in memory is black. */
static void draw_linear(const struct picture *p, struct surface *s)
{
	const uint16_t *d = p->v->dispi;
	unsigned bytes = (d[DISPI_BPP] + 7u) / 8;
	uint64_t pitch = (uint64_t)d[DISPI_VIRT_WIDTH] * bytes, first = d[DISPI_Y] * pitch + (uint64_t)d[DISPI_X] * bytes;

	surface_resize(s, d[DISPI_XRES], d[DISPI_YRES]);
	for (unsigned y = 0; y < s->height; y++) {
		uint64_t from = first + y * pitch, left = from < p->v->size ? (p->v->size - from) / bytes : 0;
		uint32_t *row = surface_row(s, y);

		for (unsigned x = 0; x < s->width; x++) /* SAFE: `left` pixels are in memory */
			row[x] = x < left ? unpack(p, p->v->vram + from + (uint64_t)x * bytes, d[DISPI_BPP]) : 0;
	}
}

void vga_draw(const struct vga *v, uint64_t now, struct surface *s)
{
	struct picture p = {.v = v, .cursor = now / BLINK_NS % 2 == 0, .blinks = now / BLINK_NS / 2 % 2 == 0};

	find_colours(&p);
	if (vga_is_linear(v)) {
		draw_linear(&p, s);
		return;
	}
	measure(&p, s);
	if (!(v->crtc[CRTC_MODE] & 0x80)) /* no sync: the monitor is asleep */
		surface_resize(s, NO_MODE_W, NO_MODE_H);
	if (!(v->crtc[CRTC_MODE] & 0x80) || !(v->attr_at & ATTR_AT_SHOWS) || v->seq[SEQ_CLOCKING] & CLOCKING_OFF)
		draw_black(s);
	else
		draw_planes(&p, s);
}
