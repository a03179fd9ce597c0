/* SPDX-License-Identifier: MIT */
/*
 * A PNG is a signature and chunks: length, four letters, bytes, a checksum of the last two. A picture of eight bits a colour needs three of
 * them: IHDR has its size, IDAT its rows, each behind a byte that says how it was filtered, as one zlib stream; IEND is empty.
 *
 * zlib is what makes it, and that Lodge has already for its disks. libpng would add a library, and its errors by longjmp(), for
 * what is forty lines here. Rows are filtered by "up": what is as in the row above becomes 0.
 */
#include "display/png.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "display/surface.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define FILTER_UP 2

static void put_chunk(FILE *out, const char *type, const uint8_t *bytes, size_t n)
{
	uint8_t head[8], tail[4];
	uLong sum = crc32(0, (const Bytef *)type, 4);

	be32_put(head, (uint32_t)n);
	memcpy(head + 4, type, 4);
	be32_put(tail, (uint32_t)(n ? crc32(sum, bytes, (uInt)n) : sum));
	fwrite(head, sizeof(head), 1, out);
	fwrite(bytes, n, 1, out);
	fwrite(tail, sizeof(tail), 1, out);
}

static void put_header(FILE *out, const struct surface *s)
{
	static const uint8_t signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
	uint8_t header[13] = {[8] = 8 /* bits of a colour */, [9] = 2 /* three of them */};

	be32_put(header, s->width);
	be32_put(header + 4, s->height);
	fwrite(signature, sizeof(signature), 1, out);
	put_chunk(out, "IHDR", header, sizeof(header));
}

static uint8_t part(uint32_t pixel, unsigned i)
{
	return (uint8_t)(pixel >> (16 - 8 * i));
}

static void filter_row(const struct surface *s, uint32_t y, uint8_t *to)
{
	*to++ = FILTER_UP;
	for (uint32_t x = 0; x < s->width; x++) {
		uint32_t pixel = surface_row(s, y)[x], above = y ? surface_row(s, y - 1)[x] : 0;

		for (unsigned i = 0; i < 3; i++)
			*to++ = (uint8_t)(part(pixel, i) - part(above, i));
	}
}

int png_write(FILE *out, const struct surface *s, struct err *err)
{
	size_t pitch = 1 + (size_t)s->width * 3;
	uLong size = (uLong)(pitch * s->height), packed = compressBound(size);
	scoped_mem uint8_t *rows = malloc(size ? size : 1), *bytes = malloc(packed);

	if (!rows || !bytes)
		return err_set(err, ENOMEM, "no memory for a picture of %u x %u", s->width, s->height);
	for (uint32_t y = 0; y < s->height; y++)
		filter_row(s, y, rows + y * pitch);
	if (compress(bytes, &packed, rows, size) != Z_OK)
		return err_set(err, ENOMEM, "no memory to compress a picture of %u x %u", s->width, s->height);
	put_header(out, s);
	put_chunk(out, "IDAT", bytes, packed);
	put_chunk(out, "IEND", bytes, 0);
	return 0;
}
