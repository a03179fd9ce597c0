/* SPDX-License-Identifier: MIT */
/*
 * The server's side of one VNC connection (RFC 6143, "RFB"), without its socket: bytes of a viewer go in, bytes for it come out.
 *
 *	v = rfb_open(&config);
 *	rc = rfb_input(v, bytes, n, &err);          // < 0: it is over, and err says why
 *	rfb_damage(v, &tiles);                      // what has changed on the screen
 *	n = rfb_output(v, &bytes);                  // what waits to be sent; makes more when that is sent
 *	rfb_sent(v, n);
 *
 * A viewer asks for each update, and gets one when something has changed that it has not. The screen is cut into tiles, and of each a
 * viewer has a bit: to be sent. So one that is slow has what there is at the moment when its tile's turn comes, nothing is queued for it but
 * one piece of 64 KiB, and it holds up nobody.
 *
 * Versions 3.3, 3.7, 3.8; no password or VNC's (DES of a challenge). Encodings raw and ZRLE; DesktopSize and ExtendedDesktopSize, by which a viewer asks for a size
 * (the RFB protocol as its community keeps it); QEMU's extended key events. Pixels
 * of any true-colour format of 8, 16 or 32 bits.
 */
#ifndef DISPLAY_RFB_H
#define DISPLAY_RFB_H

#include "display/surface.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct rfb;

#define RFB_TILE      64u
#define RFB_COLUMNS   (SURFACE_WIDTH_MAX / RFB_TILE)
#define RFB_ROWS      (SURFACE_HEIGHT_MAX / RFB_TILE)
#define RFB_CHALLENGE 16

/* A bit for each tile: column x of row y is bit x of row[y]. */
struct rfb_tiles {
	uint64_t row[RFB_ROWS];
};

/* Copies what has changed of one picture to the other, which gets its size, too. Those tiles are set; true if there are any. */
bool rfb_compare(struct surface *seen, const struct surface *now, struct rfb_tiles *changed);

/* Where a viewer's pointer is, on a screen as large as it was told. Buttons from bit 0 on: left, middle, right, wheel up, wheel down. */
struct rfb_pointer {
	uint16_t x, y, width, height;
	uint8_t buttons;
};

struct rfb_config {
	const char *name;             /* of the desktop */
	const struct surface *screen; /* may change between calls */
	/* What a viewer who knows the password makes of a challenge, that is drawn there. NULL: there is no password. */
	void (*challenge)(void *ctx, uint8_t challenge[RFB_CHALLENGE], uint8_t answer[RFB_CHALLENGE]);
	void (*key)(void *ctx, uint8_t key, bool down); /* by its number (dev/ps2.h) */
	void (*pointer)(void *ctx, const struct rfb_pointer *p);
	/* A viewer wants a screen of that size. False: it cannot be had. */
	bool (*resize)(void *ctx, uint16_t width, uint16_t height);
	void *ctx;
};

/* NULL: no memory. What config points to outlives it. */
struct rfb *rfb_open(const struct rfb_config *config);
void rfb_close(struct rfb *v);

/* 0, or -EPROTO, -EACCES. */
int rfb_input(struct rfb *v, const uint8_t *bytes, size_t n, struct err *err);

/* This is to be sent again. */
void rfb_damage(struct rfb *v, const struct rfb_tiles *tiles);

/* It has passed the handshake; it has, and waits for something to change. */
bool rfb_is_in(const struct rfb *v);
bool rfb_waits(const struct rfb *v);

/* How many bytes wait for its socket, and where they are until the next call; and so many of them were sent. */
size_t rfb_output(struct rfb *v, const uint8_t **bytes);
void rfb_sent(struct rfb *v, size_t n);

/* There is nothing more to say to it. */
bool rfb_is_over(const struct rfb *v);

#endif
