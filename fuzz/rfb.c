/* SPDX-License-Identifier: MIT */
/*
 * Any bytes of a viewer (lib/display/rfb.c), in any pieces, while the screen changes its size and the viewer reads or does not.
 *
 *	[piece: how long, and what happens after it] [bytes]
 *
 * What must hold: no more than 64 KiB wait for it, keys are keys, and nobody is in who did not answer the challenge.
 */
#include "display/rfb.h"

#include "base/macros.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t pixels[300 * 200];
static struct surface screen = {.pixels = pixels, .room = ARRAY_SIZE(pixels)};

static void must(int fine)
{
	if (!fine)
		abort();
}

static void on_key(void *ctx, uint8_t key, bool down)
{
	(void)ctx, (void)down;
	must(key != 0);
}

static void on_pointer(void *ctx, const struct rfb_pointer *p)
{
	(void)ctx;
	must(p->width && p->width <= SURFACE_WIDTH_MAX && p->height && p->height <= SURFACE_HEIGHT_MAX);
}

static bool on_resize(void *ctx, uint16_t width, uint16_t height)
{
	(void)ctx;
	must(width && width <= SURFACE_WIDTH_MAX && height && height <= SURFACE_HEIGHT_MAX);
	return width & 1;
}

static void challenge(void *ctx, uint8_t question[RFB_CHALLENGE], uint8_t answer[RFB_CHALLENGE])
{
	(void)ctx;
	memset(question, 1, RFB_CHALLENGE);
	memset(answer, 2, RFB_CHALLENGE);
}

/* Whoever is in has said so. */
static bool has_answered(const uint8_t *data, size_t size)
{
	static const uint8_t answer[RFB_CHALLENGE] = {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};
	uint8_t all[4096];
	size_t n = 0;

	for (size_t at = 0; at < size; at += 1u + data[at] % 32) /* without the bytes between pieces */
		for (size_t i = 1; i <= data[at] % 32 && at + i < size && n < sizeof(all); i++)
			all[n++] = data[at + i];
	return n == sizeof(all) || memmem(all, n, answer, sizeof(answer));
}

static void use(struct rfb *v, uint8_t how)
{
	const uint8_t *bytes;
	struct rfb_tiles some = {.row[0] = how, .row[1] = how};
	size_t n;

	if (how & 0x20)
		surface_resize(&screen, 1 + how * 3u % 300, 1 + how * 7u % 200);
	if (how & 0x40)
		rfb_damage(v, &some);
	n = rfb_output(v, &bytes);
	must(n <= 65536);
	if (how & 0x80)
		rfb_sent(v, n > 100 ? n - how % 100 : n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool password = size && data[0] & 0x40;
	struct rfb *v = rfb_open(&(struct rfb_config){
		.name = "fuzz", .screen = &screen, .challenge = password ? challenge : NULL, .key = on_key, .pointer = on_pointer,
		.resize = on_resize});
	int rc = 0;

	must(v != NULL);
	surface_resize(&screen, 100, 70);
	for (size_t at = 0; at < size && rc == 0;) {
		uint8_t how = data[at++];
		size_t n = how % 32;

		if (n > size - at)
			n = size - at;
		rc = rfb_input(v, data + at, n, NULL);
		at += n;
		use(v, how);
	}
	must(!password || !rfb_is_in(v) || has_answered(data, size));
	rfb_close(v);
	return 0;
}
