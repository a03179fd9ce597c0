/* SPDX-License-Identifier: MIT */
/*
 * The debug console of virtual machines' firmware: a port for bytes. See debugcon.c.
 *
 *	device_create(&debugcon_model, bus, (uint64_t[]){0x402}, &(struct debugcon_config){.to = file}, &err);
 */
#ifndef DEV_DEBUGCON_H
#define DEV_DEBUGCON_H

#include "dev/device.h"

#include <stdio.h>

struct debugcon_config {
	FILE *to; /* NULL: nobody listens, and firmware is told so */
};

extern const struct device_model debugcon_model;

#endif
