/* SPDX-License-Identifier: MIT */
/*
 * The keyboard controller without a keyboard, ports 0x60 and 0x64, for those who reset by it.
 * See i8042.c.
 *
 *	device_create(&i8042_model, bus, (uint64_t[]){0x60, 0x64}, &(struct i8042_config){.power = power}, &err);
 */
#ifndef DEV_I8042_H
#define DEV_I8042_H

#include "dev/device.h"

struct i8042_config {
	struct power_line power; /* asked for POWER_RESET */
};

extern const struct device_model i8042_model;

#endif
