/* SPDX-License-Identifier: MIT */
/*
 * The screen, keyboard and mouse of a machine that has them (struct machine_config's `screen`). Any thread.
 *
 *	machine_show(m, &surface);
 *	machine_key(m, 0x1e, true);
 *	machine_key(m, 0x1e, false);
 */
#ifndef MACHINE_SCREEN_H
#define MACHINE_SCREEN_H

#include <stdbool.h>
#include <stdint.h>

struct machine;
struct surface;

/* What its monitor shows now. False: it has none. */
bool machine_show(struct machine *m, struct surface *s);

/* A key goes down or up (display/keys.h), the mouse moves (dev/i8042.h). False: it is dropped, for the machine does not run, or its guest has
 * not taken what came before. */
bool machine_key(struct machine *m, uint8_t key, bool down);
bool machine_mouse(struct machine *m, int dx, int dy, int dz, uint8_t buttons);

#endif
