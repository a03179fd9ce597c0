/* SPDX-License-Identifier: MIT */
/*
 * A monitor's EDID. Its preferred timing is of 60 Hz, with short pauses between rows and frames, for there is no beam that has to fly back:
 *
 *	width   48 dots   32 sync   80 dots          height   3 lines   6 sync   the rest
 */
#include "dev/vga/edid.h"

#include "base/bytes.h"

#include <string.h>

#define H_BLANK 160u
#define H_FRONT 48u
#define H_SYNC  32u
#define V_FRONT 3u
#define V_SYNC  6u
#define HZ      60u
#define TIMING  54u /* where it begins */

static const uint8_t monitor[EDID_SIZE] = {
	0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00,
	0x30, 0x87, 0x01, 0x00, 0x01, 0x00, 0x00, 0x00, /* "LDG", product 1 */
	0, 36, 1, 4,                  /* week, year 2026, EDID 1.4 */
	0xa5, 34, 19, 120, 0x06,      /* digital, 8 bits; 34 x 19 cm; gamma 2.2; sRGB, a preferred timing */
	0xee, 0x91, 0xa3, 0x54, 0x4c, 0x99, 0x26, 0x0f, 0x50, 0x54, /* sRGB's colours */
	0x21, 0x08, 0x00,             /* 640x480, 800x600, 1024x768 at 60 Hz */
	0x81, 0xc0, 0x81, 0x80, 0xa9, 0xc0, 0xd1, 0xc0, /* 1280x720, 1280x1024, 1600x900, 1920x1080 */
	0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01, 0x01,
	[TIMING + 17] = 0x1e,         /* separate syncs, both positive */
	0, 0, 0, 0xfc, 0, 'L', 'o', 'd', 'g', 'e', '\n', ' ', ' ', ' ', ' ', ' ', ' ', ' ',
	0, 0, 0, 0xfd, 0, 50, 90, 30, 160, 62, 0x01, '\n', ' ', ' ', ' ', ' ', ' ', ' ', /* ranges: Hz, kHz, 620 MHz */
	0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
	0x00, 0x00,
};

static unsigned millimetres(unsigned dots)
{
	return dots * 254 / 960;
}

void edid_make(uint8_t to[EDID_SIZE], unsigned width, unsigned height)
{
	unsigned v_blank = height / 40 + V_FRONT + V_SYNC + 6, mm[2] = {millimetres(width), millimetres(height)};
	uint8_t *t = to + TIMING, sum = 0;

	memcpy(to, monitor, EDID_SIZE);
	le16_put(t, (uint16_t)((uint64_t)(width + H_BLANK) * (height + v_blank) * HZ / 10000)); /* of 10 kHz */
	t[2] = (uint8_t)width;
	t[3] = (uint8_t)H_BLANK;
	t[4] = (uint8_t)(width >> 8 << 4 | H_BLANK >> 8);
	t[5] = (uint8_t)height;
	t[6] = (uint8_t)v_blank;
	t[7] = (uint8_t)(height >> 8 << 4 | v_blank >> 8);
	t[8] = (uint8_t)H_FRONT;
	t[9] = (uint8_t)H_SYNC;
	t[10] = (uint8_t)(V_FRONT << 4 | V_SYNC);
	t[12] = (uint8_t)mm[0];
	t[13] = (uint8_t)mm[1];
	t[14] = (uint8_t)(mm[0] >> 8 << 4 | mm[1] >> 8);
	for (unsigned i = 0; i < EDID_SIZE - 1; i++)
		sum = (uint8_t)(sum + to[i]);
	to[EDID_SIZE - 1] = (uint8_t)-sum; /* all bytes together are 0 */
}
