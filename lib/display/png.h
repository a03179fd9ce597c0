/* SPDX-License-Identifier: MIT */
/*
 * A picture as a PNG file (ISO/IEC 15948).
 *
 *	rc = png_write(out, &surface, &err);
 */
#ifndef DISPLAY_PNG_H
#define DISPLAY_PNG_H

#include <stdio.h>

struct err;
struct surface;

/* 0, or -errno with a sentence. Whether all of it could be written, fclose() says. */
int png_write(FILE *out, const struct surface *s, struct err *err);

#endif
