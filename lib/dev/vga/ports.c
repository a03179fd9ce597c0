/* SPDX-License-Identifier: MIT */
/*
 * The registers of a VGA: four index and data pairs, the colour table, a few alone; and DISPI's.
 *
 *	0x3c4, 0x3c5   sequencer       which planes are written, how memory is addressed, which fonts
 *	0x3d4, 0x3d5   CRTC            where the picture is in memory, how large it is, the cursor (0x3b4 on a monochrome one)
 *	0x3ce, 0x3cf   graphics        what happens to bytes on their way between CPU and planes
 *	0x3c0, 0x3c1   attribute       16 colours to 64; panning. One port for index and data: it takes turns
 *	0x3c6..0x3c9   DAC             256 colours to red, green and blue
 *	0x3c2, 0x3cc   miscellaneous   written and read
 *	0x3ba, 0x3da   status 1        retrace; reading it makes 0x3c0 an index
 *
 * A register has the bits that IBM's has; others read as 0. Timing has no effect: the picture is made when somebody looks at it.
 * So retrace is there at each second look, and who waits for it never waits.
 */
#include "dev/vga/core.h"

#include "base/macros.h"

#include <string.h>

static const uint8_t seq_bits[SEQ_N] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e};
static const uint8_t gfx_bits[GFX_N] = {0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff};
static const uint8_t attr_bits[ATTR_N] = {
	0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f, 0x3f,
	[ATTR_MODE] = 0xef, [ATTR_OVERSCAN] = 0xff, [ATTR_PLANES] = 0x3f, [ATTR_PAN] = 0x0f, [ATTR_COLOURS] = 0x0f,
};

void vga_reset(struct vga *v)
{
	*v = (struct vga){.vram = v->vram, .size = v->size, .dac_mask = 0xff};
	v->dispi[DISPI_ID] = DISPI_ID5;
	v->dispi[DISPI_BPP] = 8;
}

/* -- Pairs ------------------------------------------------------------------------- */

static uint8_t get(const uint8_t *regs, unsigned n, unsigned at)
{
	return at < n ? regs[at] : 0;
}

static void put(uint8_t *regs, const uint8_t *bits, unsigned n, unsigned at, uint8_t value)
{
	if (at < n)
		regs[at] = value & bits[at];
}

/* The first eight are locked by a bit of another: a program that knows only EGA must not harm the monitor. One bit is free. */
static void write_crtc(struct vga *v, uint8_t value)
{
	bool locked = v->crtc[CRTC_V_RETRACE_END] & 0x80;
	unsigned at = v->crtc_at;

	if (at == CRTC_OVERFLOW && locked)
		v->crtc[at] = (uint8_t)((v->crtc[at] & ~0x10) | (value & 0x10));
	else if (at < CRTC_N && !(locked && at <= CRTC_OVERFLOW))
		v->crtc[at] = value;
}

static void write_attr(struct vga *v, uint8_t value)
{
	if (!v->attr_data)
		v->attr_at = value & 0x3f;
	else
		put(v->attr, attr_bits, ATTR_N, v->attr_at & 0x1f, value);
	v->attr_data = !v->attr_data;
}

/* -- Colours ------------------------------------------------------------------------ */

static uint8_t dac_bits(const struct vga *v)
{
	return v->dispi[DISPI_ENABLE] & DISPI_DAC_8 ? 0xff : 0x3f;
}

/* The third of three is the end of a colour. */
static bool step_dac(struct vga *v)
{
	v->dac_part = (uint8_t)((v->dac_part + 1) % 3);
	return v->dac_part == 0;
}

static uint8_t read_dac(struct vga *v)
{
	uint8_t value = v->palette[v->dac_at * 3 + v->dac_part] & dac_bits(v);

	v->dac_at += step_dac(v);
	return value;
}

static void write_dac(struct vga *v, uint8_t value)
{
	v->dac_new[v->dac_part] = value & dac_bits(v);
	if (step_dac(v))
		memcpy(v->palette + v->dac_at++ * 3, v->dac_new, 3);
}

static void begin_dac(struct vga *v, uint8_t at, bool reads)
{
	v->dac_at = at;
	v->dac_part = 0;
	v->dac_reads = reads;
}

/* -- Ports -------------------------------------------------------------------------- */

static uint8_t read_status(struct vga *v)
{
	v->attr_data = false;
	v->retrace = !v->retrace;
	return v->retrace ? 0x09 : 0;
}

/* CRTC, status 1 and feature control are at 0x3dx or 0x3bx. */
static bool is_elsewhere(const struct vga *v, unsigned port)
{
	return (port < 0x3c0 && v->misc & MISC_COLOUR) || (port >= 0x3d0 && !(v->misc & MISC_COLOUR));
}

uint8_t vga_port_read(struct vga *v, unsigned port)
{
	if (is_elsewhere(v, port))
		return 0xff;
	switch (port) {
	case 0x3c0:
		return v->attr_at;
	case 0x3c1:
		return get(v->attr, ATTR_N, v->attr_at & 0x1f);
	case 0x3c2: /* a monitor is there */
		return 0x10;
	case 0x3c4:
		return v->seq_at;
	case 0x3c5:
		return get(v->seq, SEQ_N, v->seq_at);
	case 0x3c6:
		return v->dac_mask;
	case 0x3c7:
		return v->dac_reads ? 3 : 0;
	case 0x3c8:
		return v->dac_at;
	case 0x3c9:
		return read_dac(v);
	case 0x3ca:
		return v->feature;
	case 0x3cc:
		return v->misc;
	case 0x3ce:
		return v->gfx_at;
	case 0x3cf:
		return get(v->gfx, GFX_N, v->gfx_at);
	case 0x3b4:
	case 0x3d4:
		return v->crtc_at;
	case 0x3b5:
	case 0x3d5:
		return get(v->crtc, CRTC_N, v->crtc_at);
	case 0x3ba:
	case 0x3da:
		return read_status(v);
	}
	return 0xff;
}

void vga_port_write(struct vga *v, unsigned port, uint8_t value)
{
	if (is_elsewhere(v, port))
		return;
	switch (port) {
	case 0x3c0:
		write_attr(v, value);
		break;
	case 0x3c2:
		v->misc = value & 0xef;
		break;
	case 0x3c4:
		v->seq_at = value;
		break;
	case 0x3c5:
		put(v->seq, seq_bits, SEQ_N, v->seq_at, value);
		break;
	case 0x3c6:
		v->dac_mask = value;
		break;
	case 0x3c7:
		begin_dac(v, value, true);
		break;
	case 0x3c8:
		begin_dac(v, value, false);
		break;
	case 0x3c9:
		write_dac(v, value);
		break;
	case 0x3ce:
		v->gfx_at = value;
		break;
	case 0x3cf:
		put(v->gfx, gfx_bits, GFX_N, v->gfx_at, value);
		break;
	case 0x3b4:
	case 0x3d4:
		v->crtc_at = value;
		break;
	case 0x3b5:
	case 0x3d5:
		write_crtc(v, value);
		break;
	case 0x3ba:
	case 0x3da:
		v->feature = value & 0x0b;
		break;
	}
}

/* -- DISPI -------------------------------------------------------------------------- */

static uint32_t bytes_per_pixel(const struct vga *v)
{
	return (v->dispi[DISPI_BPP] + 7u) / 8;
}

static bool is_depth(uint16_t bpp)
{
	return bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

bool vga_is_sound(const struct vga *v)
{
	const uint16_t *d = v->dispi;

	return d[DISPI_XRES] <= DISPI_XRES_MAX && d[DISPI_YRES] <= DISPI_YRES_MAX && is_depth(d[DISPI_BPP]);
}

/* How many rows of that width are in memory. */
static uint16_t rows(const struct vga *v)
{
	uint32_t pitch = v->dispi[DISPI_VIRT_WIDTH] * bytes_per_pixel(v), n = pitch ? v->size / pitch : 0;

	return n > UINT16_MAX ? UINT16_MAX : (uint16_t)n;
}

/* Enabling it is what sets a mode. */
static void enable(struct vga *v, uint16_t value)
{
	bool was = vga_is_linear(v);
	uint16_t *d = v->dispi;

	if (value & DISPI_ENABLED && !was) {
		d[DISPI_VIRT_WIDTH] = d[DISPI_XRES];
		d[DISPI_VIRT_HEIGHT] = rows(v);
		d[DISPI_X] = d[DISPI_Y] = d[DISPI_BANK] = 0;
		if (!(value & DISPI_NO_CLEAR))
			memset(v->vram, 0, v->size);
	}
	d[DISPI_ENABLE] = value & (DISPI_ENABLED | DISPI_CAPS | DISPI_DAC_8 | DISPI_LINEAR | DISPI_NO_CLEAR);
}

uint16_t vga_dispi_read(const struct vga *v, unsigned index)
{
	bool caps = v->dispi[DISPI_ENABLE] & DISPI_CAPS;

	switch (index) {
	case DISPI_XRES:
		return caps ? DISPI_XRES_MAX : v->dispi[index];
	case DISPI_YRES:
		return caps ? DISPI_YRES_MAX : v->dispi[index];
	case DISPI_BPP:
		return caps ? 32 : v->dispi[index];
	case DISPI_MEMORY_64K:
		return (uint16_t)(v->size >> 16);
	}
	return index < DISPI_N ? v->dispi[index] : 0;
}

/* What there cannot be is not taken. */
void vga_dispi_write(struct vga *v, unsigned index, uint16_t value)
{
	uint16_t *d = v->dispi;

	switch (index) {
	case DISPI_ID:
		if (value >= 0xb0c0 && value <= DISPI_ID5)
			d[DISPI_ID] = value;
		break;
	case DISPI_XRES:
		if (value && value <= DISPI_XRES_MAX)
			d[DISPI_XRES] = value;
		break;
	case DISPI_YRES:
		if (value && value <= DISPI_YRES_MAX)
			d[DISPI_YRES] = value;
		break;
	case DISPI_BPP:
		if (is_depth(value))
			d[DISPI_BPP] = value;
		break;
	case DISPI_ENABLE:
		enable(v, value);
		break;
	case DISPI_BANK:
		if (value < v->size >> 16)
			d[DISPI_BANK] = value;
		break;
	case DISPI_VIRT_WIDTH:
		if (value >= d[DISPI_XRES]) {
			d[DISPI_VIRT_WIDTH] = value;
			d[DISPI_VIRT_HEIGHT] = rows(v);
		}
		break;
	case DISPI_X:
	case DISPI_Y:
		d[index] = value;
		break;
	}
}
