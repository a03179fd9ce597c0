/* SPDX-License-Identifier: MIT */
/* What a monitor says of itself (VESA E-EDID 1.4): it is called "Lodge", and likes one size best. */
#ifndef DEV_VGA_EDID_H
#define DEV_VGA_EDID_H

#include <stdint.h>

#define EDID_SIZE   128u
#define EDID_LEAST  64u   /* of width and height; */
#define EDID_WIDTH_MAX  4095u /* it has 12 bits */
#define EDID_HEIGHT_MAX 2304u

/* Width and height are from EDID_LEAST to these. */
void edid_make(uint8_t to[EDID_SIZE], unsigned width, unsigned height);

#endif
