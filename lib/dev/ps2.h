/* SPDX-License-Identifier: MIT */
/*
 * A PS/2 keyboard and a PS/2 mouse, without the controller that they are plugged into (i8042.c): bytes go in, bytes come out.
 *
 *	ps2_keyboard_reset(&k);
 *	ps2_keyboard_write(&k, 0xf4);               // what the guest sends: "go on"
 *	ps2_keyboard_key(&k, 0x1e, true);           // somebody presses A
 *	while (k.out.n) ... ps2_take(&k.out)        // 0xfa, 0x1c
 *
 * A key is called by its number on the first PC's keyboard (scan code set 1), and those that came later, whose codes have a prefix 0xe0,
 * by that number and 0x80: what RFB's QEMU extension sends, too.
 */
#ifndef DEV_PS2_H
#define DEV_PS2_H

#include "state/state.h"

#include <stdbool.h>
#include <stdint.h>

#define PS2_KEY_EXTENDED 0x80u
#define PS2_KEY_PAUSE    0xc6u /* whose code is like no other's */

/* Bytes for the controller. */
struct ps2_queue {
	uint8_t bytes[256];
	uint8_t head;
	uint16_t n;
};

struct ps2_keyboard {
	struct ps2_queue out;
	uint8_t command; /* that waits for its argument; 0: none */
	uint8_t leds;    /* bits 0 to 2: scroll, num, caps lock */
	uint8_t rate;    /* of repeating; kept, not used: who holds a key at the other end of a network repeats it there */
	uint8_t last;    /* sent; to be sent again if that is asked for */
	bool scans;
};

struct ps2_mouse {
	struct ps2_queue out;
	uint8_t command;
	uint8_t resolution, rate;
	uint8_t rates[2];  /* set before this one: 200, 100, 80 asks for a wheel */
	uint8_t last;
	bool reports;      /* by itself, in stream mode; */
	bool remote, wrap; /* when asked; sends back what it gets */
	bool doubles;      /* "scaling 2:1": kept, for drivers do better */
	bool wheel;        /* packets have a fourth byte */
	uint8_t buttons, told; /* now, and in the last packet; bits 0 to 2: left, right, middle */
	int32_t dx, dy, dz;    /* moved since then: right, down, wheel down */
};

extern const struct state_field ps2_keyboard_fields[], ps2_mouse_fields[];

/* The oldest byte; there is one. */
uint8_t ps2_take(struct ps2_queue *q);

void ps2_keyboard_reset(struct ps2_keyboard *k);
void ps2_keyboard_write(struct ps2_keyboard *k, uint8_t byte);

/* False: it is dropped, for the guest has not taken what came before. */
bool ps2_keyboard_key(struct ps2_keyboard *k, uint8_t key, bool down);

void ps2_mouse_reset(struct ps2_mouse *m);
void ps2_mouse_write(struct ps2_mouse *m, uint8_t byte);
void ps2_mouse_move(struct ps2_mouse *m, int dx, int dy, int dz, uint8_t buttons);

/* Makes a packet of what has happened, if one is due and the last one is taken. After each byte that was. */
void ps2_mouse_report(struct ps2_mouse *m);

/* What a controller's translation makes of a byte of scan code set 2: the same key's of set 1. */
extern const uint8_t ps2_translation[256];

#endif
