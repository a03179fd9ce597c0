/* SPDX-License-Identifier: MIT */
/*
 * From a scanout and a cursor to what a monitor shows: see gpu.h. Pictures are in the store, which is always there; a guest that
 * changes them meanwhile sees a picture of two moments, as on a monitor without synchronisation.
 */
#include "dev/virtio/gpu.h"

#include "base/bytes.h"
#include "base/macros.h"
#include "display/surface.h"

#include <string.h>

#define NO_ALPHA 4u

/* Named as the specification does: bytes in memory, from the lowest address on. */
static const struct gpu_format formats[] = {
	{1, 2, 1, 0, 3},          /* B8G8R8A8 */
	{2, 2, 1, 0, NO_ALPHA},   /* B8G8R8X8 */
	{3, 1, 2, 3, 0},          /* A8R8G8B8 */
	{4, 1, 2, 3, NO_ALPHA},   /* X8R8G8B8 */
	{67, 0, 1, 2, 3},         /* R8G8B8A8 */
	{68, 3, 2, 1, NO_ALPHA},  /* X8B8G8R8 */
	{121, 3, 2, 1, 0},        /* A8B8G8R8 */
	{134, 0, 1, 2, NO_ALPHA}, /* R8G8B8X8 */
};

const struct gpu_format *gpu_format(uint32_t format)
{
	for (unsigned i = 0; i < ARRAY_SIZE(formats); i++)
		if (formats[i].format == format)
			return &formats[i];
	return NULL;
}

static const uint8_t *pixel_at(const struct gpu_picture *p, uint32_t x, uint32_t y)
{
	return p->pixels + ((uint64_t)y * p->width + x) * 4;
}

static uint32_t colour(const struct gpu_format *f, const uint8_t *at)
{
	return (uint32_t)at[f->r] << 16 | (uint32_t)at[f->g] << 8 | at[f->b];
}

/* SAFE: the rectangle is in the picture, and the surface no larger than it. */
static void draw_scanout(const struct gpu_picture *p, const struct gpu_rect *r, struct surface *s)
{
	for (uint32_t y = 0; y < s->height; y++) {
		const uint8_t *from = pixel_at(p, r->x, r->y + y);
		uint32_t *to = surface_row(s, y);

		if (p->format->r == 2 && p->format->b == 0)
			for (uint32_t x = 0; x < s->width; x++)
				to[x] = le32_get(from + 4 * x) & 0xffffff;
		else
			for (uint32_t x = 0; x < s->width; x++)
				to[x] = colour(p->format, from + 4 * x);
	}
}

/* Its colours are multiplied by its alpha already, as drivers have them. */
static uint32_t blend(uint32_t below, uint32_t colour, unsigned alpha)
{
	uint32_t value = 0;

	for (unsigned shift = 0; shift < 24; shift += 8) {
		uint32_t part = (colour >> shift & 255) + ((below >> shift & 255) * (255 - alpha) + 127) / 255;

		value |= (part < 255 ? part : 255) << shift;
	}
	return value;
}

static void draw_cursor(const struct gpu_shot *shot, struct surface *s)
{
	const struct gpu_picture *p = &shot->cursor;

	for (uint32_t row = 0; row < GPU_CURSOR; row++)
		for (uint32_t column = 0; column < GPU_CURSOR; column++) {
			int64_t x = (int64_t)shot->scene.cursor_x + column, y = (int64_t)shot->scene.cursor_y + row;
			const uint8_t *from = pixel_at(p, column, row);
			unsigned alpha = p->format->a == NO_ALPHA ? 255 : from[p->format->a];
			uint32_t *to;

			if (x < 0 || y < 0 || x >= s->width || y >= s->height)
				continue;
			to = surface_row(s, (uint32_t)y) + x;
			*to = blend(*to, colour(p->format, from), alpha);
		}
}

void gpu_draw(const struct gpu_shot *shot, struct surface *s)
{
	surface_resize(s, shot->scene.rect.width, shot->scene.rect.height);
	if (shot->scanout.format)
		draw_scanout(&shot->scanout, &shot->scene.rect, s);
	else
		memset(s->pixels, 0, (size_t)s->width * s->height * sizeof(*s->pixels));
	if (shot->cursor.format)
		draw_cursor(shot, s);
}
