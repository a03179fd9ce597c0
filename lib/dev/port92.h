/* SPDX-License-Identifier: MIT */
/* System control port A: fast reset and the A20 gate that is always open. See port92.c.
 * */
#ifndef DEV_PORT92_H
#define DEV_PORT92_H

#include "dev/device.h"

struct port92_config {
	struct power_line power;
};

extern const struct device_model port92_model;

#endif
