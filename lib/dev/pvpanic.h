/* SPDX-License-Identifier: MIT */
/*
 * pvpanic, port 0x505: how a guest says that it panicked. See pvpanic.c.
 *
 *	device_create(&pvpanic_model, bus, (uint64_t[]){0x505}, &(struct pvpanic_config){
 *		.panicked = told, .ctx = us }, &err);
 */
#ifndef DEV_PVPANIC_H
#define DEV_PVPANIC_H

#include "dev/device.h"

struct pvpanic_config {
	/* On a vCPU's thread, the device's lock held, as often as the guest likes: must not wait.
	 * crash_kernel: a second kernel takes over, the guest will go on. */
	void (*panicked)(void *ctx, bool crash_kernel);
	void *ctx;
};

extern const struct device_model pvpanic_model;

#endif
