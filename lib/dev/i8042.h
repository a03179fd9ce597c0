/* SPDX-License-Identifier: MIT */
/*
 * The keyboard controller, ports 0x60 and 0x64: with a keyboard and a mouse, or with nothing, for those who reset by it. See i8042.c.
 *
 *	kbc = device_create(&i8042_model, bus, (uint64_t[]){0x60, 0x64}, &(struct i8042_config){
 *		.power = power, .plugged = true, .irq_keyboard = irq1, .irq_mouse = irq12 }, &err);
 *	i8042_key(kbc, 0x1e, true);
 */
#ifndef DEV_I8042_H
#define DEV_I8042_H

#include "dev/device.h"

struct i8042_config {
	struct power_line power; /* asked for POWER_RESET */
	bool plugged;            /* keyboard and mouse are there */
	struct irq_line irq_keyboard, irq_mouse;
};

extern const struct device_model i8042_model;

/* Somebody presses a key, or lets it go: its number is ps2.h's. False: it is dropped. Any thread. */
bool i8042_key(struct device *dev, uint8_t key, bool down);

/* Moves the mouse to the right, down, and its wheel; buttons are down that are 1: left, right, middle from bit 0 on. Any thread. */
void i8042_mouse(struct device *dev, int dx, int dy, int dz, uint8_t buttons);

#endif
