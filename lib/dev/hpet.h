/* SPDX-License-Identifier: MIT */
/*
 * High precision event timers: a counter in memory, and three comparators that interrupt. See hpet.c.
 *
 *	hpet = device_create(&hpet_model, bus, (uint64_t[]){0xfed00000}, &(struct hpet_config){
 *		.irq = {.set = irq, .ctx = m}, .replace = replace, .ctx = m, .loop = loop }, &err);
 *
 * Source: IA-PC HPET Specification 1.0a.
 */
#ifndef DEV_HPET_H
#define DEV_HPET_H

#include "dev/device.h"

struct loop;

#define HPET_BLOCK_ID 0x8086a201u /* the lower half of its capabilities, which ACPI's table has, too */
#define HPET_ROUTES   0x00f00000u /* interrupt lines that a timer can have: 20 to 23, which are nobody's else */

struct hpet_config {
	struct irq_line irq; /* of whatever line: its gsi is filled in */
	/* Timers 0 and 1 have the lines of the PIT and the RTC, 0 and 8, from now on, or these have them again. */
	void (*replace)(void *ctx, bool on);
	void *ctx;
	struct loop *loop; /* in which comparators are waited for; NULL: nobody does */
	struct dev_clock clock;
};

extern const struct device_model hpet_model;

/* What is due is done: what the loop does, for tests. */
void hpet_look(struct device *hpet);

#endif
