/* SPDX-License-Identifier: MIT */
/*
 * A VGA without a bus: registers, memory, and the picture that they make. Nothing here knows of guests, files or threads, so a
 * test can drive it as a program drives the card:
 *
 *	struct vga v = {.vram = memory, .size = sizeof(memory)};
 *	vga_reset(&v);
 *	vga_port_write(&v, 0x3c4, 2);  vga_port_write(&v, 0x3c5, 0x0f);     // ports.c
 *	vga_window_write(&v, 0x0000, 0x41);                                 // planes.c: byte 0xa0000
 *	vga_draw(&v, now, &surface);                                        // draw.c
 *
 * Sources: IBM's Personal System/2 Hardware Interface Technical Reference (Video Subsystem), and the description of the
 * Bochs display interface (DISPI) in the VBE documents of Bochs.
 *
 * Video memory is one array. Its first 256 KiB are the four planes of 64 KiB, a byte of each in turn: byte `o` of plane `p` is at
 * 4 * o + p, so the four bytes that a VGA's 32 data lines carry at once are one word. With DISPI enabled it is a frame of pixels in
 * rows from its beginning on.
 */
#ifndef DEV_VGA_CORE_H
#define DEV_VGA_CORE_H

#include <stdbool.h>
#include <stdint.h>

struct surface;

enum { SEQ_RESET, SEQ_CLOCKING, SEQ_PLANES, SEQ_FONTS, SEQ_MEMORY, SEQ_N };
enum {
	GFX_SET, GFX_SET_ENABLE, GFX_COMPARE, GFX_ROTATE, GFX_READ_PLANE, GFX_MODE, GFX_MISC, GFX_CARE,
	GFX_BITS, GFX_N,
};
enum { ATTR_MODE = 16, ATTR_OVERSCAN, ATTR_PLANES, ATTR_PAN, ATTR_COLOURS, ATTR_N };
enum {
	CRTC_H_DISPLAY_END = 0x01, CRTC_OVERFLOW = 0x07, CRTC_PRESET_ROW, CRTC_CELL, CRTC_CURSOR_START, CRTC_CURSOR_END,
	CRTC_START_HIGH, CRTC_START_LOW, CRTC_CURSOR_HIGH, CRTC_CURSOR_LOW, CRTC_V_RETRACE_END = 0x11,
	CRTC_V_DISPLAY_END, CRTC_OFFSET, CRTC_UNDERLINE, CRTC_MODE = 0x17, CRTC_LINE_COMPARE, CRTC_N,
};

#define MISC_COLOUR       0x01u /* ports 0x3dx, not 0x3bx */
#define MISC_RAM          0x02u
#define CLOCKING_8_DOTS   0x01u
#define CLOCKING_HALF     0x08u
#define CLOCKING_OFF      0x20u
#define MEMORY_NOT_OD_EV  0x04u
#define MEMORY_CHAIN_4    0x08u
#define MODE_READ_COMPARE 0x08u
#define MODE_OD_EV        0x10u
#define MODE_SHIFT_2      0x20u /* CGA's two bits a pixel */
#define MODE_SHIFT_256    0x40u
#define GFX_MISC_GRAPHICS 0x01u
#define ATTR_MODE_MONO    0x02u
#define ATTR_MODE_LINES   0x04u /* line drawing characters are nine dots wide */
#define ATTR_MODE_BLINK   0x08u
#define ATTR_MODE_PAN_TOP 0x20u /* only above the line that is compared */
#define ATTR_MODE_COLOURS 0x80u /* two bits of the colour are ATTR_COLOURS' */
#define ATTR_AT_SHOWS     0x20u /* of the index: the palette is the screen's, not the program's */

/* The Bochs display interface. */
enum {
	DISPI_ID, DISPI_XRES, DISPI_YRES, DISPI_BPP, DISPI_ENABLE, DISPI_BANK, DISPI_VIRT_WIDTH, DISPI_VIRT_HEIGHT,
	DISPI_X, DISPI_Y, DISPI_MEMORY_64K, DISPI_N,
};
#define DISPI_ID5       0xb0c5u
#define DISPI_ENABLED   0x01u
#define DISPI_CAPS      0x02u /* XRES, YRES, BPP read as the most there is */
#define DISPI_DAC_8     0x20u
#define DISPI_LINEAR    0x40u
#define DISPI_NO_CLEAR  0x80u
#define DISPI_XRES_MAX  4096u
#define DISPI_YRES_MAX  2304u

#define VGA_PLANE 0x10000u

struct vga {
	uint8_t *vram; /* the owner's */
	uint32_t size; /* at least 4 * VGA_PLANE */

	uint8_t misc, feature;
	uint8_t seq_at, seq[SEQ_N];
	uint8_t crtc_at, crtc[CRTC_N];
	uint8_t gfx_at, gfx[GFX_N];
	uint8_t attr_at, attr[ATTR_N];
	bool attr_data; /* what comes next at 0x3c0 is data */
	uint8_t dac_mask, dac_at;
	uint8_t dac_part;  /* of three: red, green, blue */
	bool dac_reads;    /* 0x3c7 was written last */
	uint8_t dac_new[3]; /* what 0x3c9 got so far */
	uint8_t palette[256 * 3]; /* as it was written: of 6 bits, or 8 */
	uint8_t latch[4];  /* a byte of each plane */
	bool retrace;      /* what 0x3da says next */
	uint16_t dispi_at, dispi[DISPI_N];
};

void vga_reset(struct vga *v);

/* A byte of ports 0x3b0 to 0x3df. */
uint8_t vga_port_read(struct vga *v, unsigned port);
void vga_port_write(struct vga *v, unsigned port, uint8_t value);

/* Whether DISPI's registers are such as it lets them be: those of a file may be others. */
bool vga_is_sound(const struct vga *v);

uint16_t vga_dispi_read(const struct vga *v, unsigned index);
void vga_dispi_write(struct vga *v, unsigned index, uint16_t value);

/* A byte of 0xa0000 to 0xbffff, counted from 0xa0000. */
uint8_t vga_window_read(struct vga *v, uint32_t at);
void vga_window_write(struct vga *v, uint32_t at, uint8_t value);

static inline bool vga_is_linear(const struct vga *v)
{
	return v->dispi[DISPI_ENABLE] & DISPI_ENABLED;
}

/* The whole screen, and how large it is. `now` in nanoseconds: for what blinks. */
void vga_draw(const struct vga *v, uint64_t now, struct surface *s);

#endif
