/* SPDX-License-Identifier: MIT */
/*
 * The clock and its battery RAM: an MC146818 at ports 0x70 and 0x71. See rtc.c.
 *
 *	rtc = device_create(&rtc_model, bus, (uint64_t[]){0x70}, &(struct rtc_config){
 *		.irq = irq8, .ram_low = 512 * MiB, .loop = loop }, &err);
 *
 * It starts with the host's UTC. The loop raises the interrupt, if the guest ever enables one. The loop's thread makes
 * and destroys it.
 */
#ifndef DEV_RTC_H
#define DEV_RTC_H

#include "dev/device.h"

struct loop;

struct rtc_config {
	struct irq_line irq; /* ISA 8 */
	uint64_t ram_low;    /* guest RAM below 4 GiB, in bytes */
	uint64_t ram_high;   /* and above */
	struct loop *loop;   /* NULL: flags are set when they are looked at, and nothing interrupts */
	struct dev_clock clock; /* zeroed: the host's */
};

extern const struct device_model rtc_model;

#endif
