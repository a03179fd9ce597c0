/* SPDX-License-Identifier: MIT */
/*
 * The window at 0xa0000: what a VGA does to a byte on its way between CPU and planes.
 *
 * A read fills the latches, a byte of each plane, and gives one of them, or a comparison of all. A write makes a byte for each plane:
 *
 *	write mode   0: the byte, rotated, or bits of set/reset     function (with the latches)   bit mask
 *	             1: the latches
 *	             2: bits of the byte, one a plane                function                      bit mask
 *	             3: set/reset                                    function                      bit mask and the byte, rotated
 *
 * Four bytes are one word here, plane 0 lowest, and all of it is done to words: WORD[n] has 0xff where n has a 1.
 *
 * Which byte of which planes an address is: all planes (unchained), one of two by its lowest bit (odd/even: text and CGA), or one of four by
 * its two lowest (chain 4). Higher bits take the place of these in a plane's address, as in the CRTC's (draw.c). With DISPI enabled it is
 * 64 KiB of the frame.
 */
#include "dev/vga/core.h"

#include "base/bytes.h"

static const uint32_t words[16] = {
	0x00000000, 0x000000ff, 0x0000ff00, 0x0000ffff, 0x00ff0000, 0x00ff00ff, 0x00ffff00, 0x00ffffff,
	0xff000000, 0xff0000ff, 0xff00ff00, 0xff00ffff, 0xffff0000, 0xffff00ff, 0xffffff00, 0xffffffff,
};

#define WORD(n) words[(n) & 15]

/* From 0xa0000 on. */
static const struct {
	uint32_t from, size;
} maps[4] = {{0, 0x20000}, {0, 0x10000}, {0x10000, 0x8000}, {0x18000, 0x8000}};

/* The address inside of the map; false if it is not there. */
static bool find(const struct vga *v, uint32_t *at)
{
	unsigned map = v->gfx[GFX_MISC] >> 2 & 3;

	if (!(v->misc & MISC_RAM) || *at < maps[map].from || *at - maps[map].from >= maps[map].size)
		return false;
	*at -= maps[map].from;
	return true;
}

/* NULL: there is none. */
static uint8_t *linear(const struct vga *v, uint32_t at)
{
	uint64_t byte = ((uint64_t)v->dispi[DISPI_BANK] << 16) + (at & 0xffff);

	return byte < v->size ? v->vram + byte : NULL;
}

static uint32_t chained(uint32_t at)
{
	return (at & ~3u) | (at >> 14 & 3);
}

static uint32_t odd_even(uint32_t at)
{
	return (at & ~1u) | (at >> 16 & 1);
}

static uint32_t repeat(uint8_t byte)
{
	return byte * 0x01010101u;
}

static uint8_t rotate(const struct vga *v, uint8_t byte)
{
	unsigned n = v->gfx[GFX_ROTATE] & 7;

	return (uint8_t)(byte >> n | byte << (8 - n));
}

static uint32_t apply(const struct vga *v, uint32_t word, uint32_t latch)
{
	switch (v->gfx[GFX_ROTATE] >> 3 & 3) {
	case 1:
		return word & latch;
	case 2:
		return word | latch;
	case 3:
		return word ^ latch;
	}
	return word;
}

static uint32_t make(const struct vga *v, uint8_t byte, uint32_t latch)
{
	uint32_t bits = repeat(v->gfx[GFX_BITS]), set = WORD(v->gfx[GFX_SET]), which = WORD(v->gfx[GFX_SET_ENABLE]);
	uint32_t word;

	switch (v->gfx[GFX_MODE] & 3) {
	case 0:
		word = (set & which) | (repeat(rotate(v, byte)) & ~which);
		break;
	case 1:
		return latch;
	case 2:
		word = WORD(byte);
		break;
	default:
		word = set;
		bits &= repeat(rotate(v, byte));
	}
	return (apply(v, word, latch) & bits) | (latch & ~bits);
}

void vga_window_write(struct vga *v, uint32_t at, uint8_t value)
{
	uint32_t planes = WORD(v->seq[SEQ_PLANES]), old;
	uint8_t *p;

	if (!find(v, &at))
		return;
	if (vga_is_linear(v)) {
		p = linear(v, at);
		if (p)
			*p = value;
		return;
	}
	if (v->seq[SEQ_MEMORY] & MEMORY_CHAIN_4) {
		planes &= WORD(1u << (at & 3));
		at = chained(at);
	} else if (!(v->seq[SEQ_MEMORY] & MEMORY_NOT_OD_EV)) {
		planes &= WORD(at & 1 ? 10 : 5);
		at = odd_even(at);
	}
	p = v->vram + (at % VGA_PLANE) * 4;
	old = le32_get(p);
	le32_put(p, (make(v, value, le32_get(v->latch)) & planes) | (old & ~planes));
}

/* A bit for each of eight pixels: whether it has the colour, in the planes that one cares about. */
static uint8_t compare(const struct vga *v, uint32_t latch)
{
	uint32_t differ = (latch ^ WORD(v->gfx[GFX_COMPARE])) & WORD(v->gfx[GFX_CARE]);

	return (uint8_t)~(differ | differ >> 8 | differ >> 16 | differ >> 24);
}

uint8_t vga_window_read(struct vga *v, uint32_t at)
{
	unsigned plane = v->gfx[GFX_READ_PLANE] & 3;
	const uint8_t *p;

	if (!find(v, &at))
		return 0xff;
	if (vga_is_linear(v)) {
		p = linear(v, at);
		return p ? *p : 0xff;
	}
	if (v->seq[SEQ_MEMORY] & MEMORY_CHAIN_4) {
		plane = at & 3;
		at = chained(at);
	} else if (v->gfx[GFX_MODE] & MODE_OD_EV) {
		plane = (plane & 2) | (at & 1);
		at = odd_even(at);
	}
	p = v->vram + (at % VGA_PLANE) * 4;
	le32_put(v->latch, le32_get(p));
	if (v->gfx[GFX_MODE] & MODE_READ_COMPARE)
		return compare(v, le32_get(v->latch));
	return v->latch[plane];
}
