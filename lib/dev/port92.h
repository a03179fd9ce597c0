/* SPDX-License-Identifier: MIT */
/*
 * System control port A, 0x92: fast reset, and the A20 gate that is always open. See port92.c.
 *
 *	device_create(&port92_model, bus, (uint64_t[]){0x92}, &(struct port92_config){.power = power}, &err);
 */
#ifndef DEV_PORT92_H
#define DEV_PORT92_H

#include "dev/device.h"

struct port92_config {
	struct power_line power; /* asked for POWER_RESET */
};

extern const struct device_model port92_model;

#endif
