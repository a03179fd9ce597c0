/* SPDX-License-Identifier: MIT */
/*
 * A picture: what a monitor shows of a machine at one moment.
 *
 *	struct surface s = {.pixels = room, .room = SURFACE_PIXELS_MAX};
 *	surface_resize(&s, 720, 400);
 *	surface_row(&s, y)[x] = 0x00ff8000;          // red, green, blue from bit 16 down; the rest is nothing
 *
 * Who makes one gives it the room, and that is its bound: a guest's registers say how large its picture is.
 */
#ifndef DISPLAY_SURFACE_H
#define DISPLAY_SURFACE_H

#include <stddef.h>
#include <stdint.h>

#define SURFACE_WIDTH_MAX  4096u
#define SURFACE_HEIGHT_MAX 2304u
#define SURFACE_PIXELS_MAX ((size_t)SURFACE_WIDTH_MAX * SURFACE_HEIGHT_MAX)

struct surface {
	uint32_t width, height; /* rows follow each other without a gap */
	uint32_t *pixels;
	size_t room; /* in pixels */
};

/* Larger ones are cut, below and then at the right. What it shows then is whatever was there. */
static inline void surface_resize(struct surface *s, uint32_t width, uint32_t height)
{
	s->width = width < SURFACE_WIDTH_MAX ? width : SURFACE_WIDTH_MAX;
	s->height = height < SURFACE_HEIGHT_MAX ? height : SURFACE_HEIGHT_MAX;
	if (s->width && s->height > s->room / s->width)
		s->height = (uint32_t)(s->room / s->width);
}

static inline uint32_t *surface_row(const struct surface *s, uint32_t y)
{
	return s->pixels + (size_t)y * s->width;
}

#endif
