/* SPDX-License-Identifier: MIT */
/*
 * The screen, keyboard and pointer of a machine that has them (struct machine_config's `screen`).
 *
 *	machine_show(m, &surface);
 *	machine_key(m, 0x1e, true);
 *	machine_key(m, 0x1e, false);
 *	machine_point(m, &(struct machine_pointer){.x = 100, .y = 50, .width = 1024, .height = 768, .buttons = 1});
 *
 * A guest has two keyboards and two pointers: PS/2's, which firmware and boot loaders know, and virtio's; and perhaps USB's. A virtio device
 * whose driver is ready takes what comes, else a USB device that is configured, else it is PS/2's: so a guest sees each thing once, and what has no driver is no hole that keys fall into. A key
 * goes up where it went down.
 */
#ifndef MACHINE_SCREEN_H
#define MACHINE_SCREEN_H

#include <stdbool.h>
#include <stdint.h>

/* Where the pointer is, on a picture of that size; how far the wheel was turned down; which buttons are down: left, right, middle from bit 0
 * on. */
struct machine_pointer {
	unsigned x, y, width, height;
	int dz;
	uint8_t buttons;
};

struct machine;
struct machine_config;
struct surface;

/* How much of its memory is the screen's (map.h). */
uint64_t machine_video(const struct machine_config *c);

/* What its monitor shows now. False: it has none. Any thread. */
bool machine_show(struct machine *m, struct surface *s);

/* Whether its guest takes another size of monitor; and that is to be this one. False: it does not hear of it. */
bool machine_can_resize(struct machine *m);
bool machine_resize(struct machine *m, unsigned width, unsigned height);

/* A key goes down or up (display/keys.h), the pointer is somewhere. False: it is dropped, for the machine does not run, or its guest has
 * not taken what came before. The owner's thread. */
bool machine_key(struct machine *m, uint8_t key, bool down);
bool machine_point(struct machine *m, const struct machine_pointer *p);

/* The same for who says how it moves and not where it is: that is PS/2's mouse, whatever other pointers the guest has. */
bool machine_mouse(struct machine *m, int dx, int dy, int dz, uint8_t buttons);

#endif
