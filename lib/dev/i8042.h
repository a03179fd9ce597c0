/* SPDX-License-Identifier: MIT */
/* The keyboard controller without a keyboard, for those who reset by it. See i8042.c.
 * */
#ifndef DEV_I8042_H
#define DEV_I8042_H

#include "dev/device.h"

struct i8042_config {
	struct power_line power;
};

extern const struct device_model i8042_model;

#endif
