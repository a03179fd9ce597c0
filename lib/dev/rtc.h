/* SPDX-License-Identifier: MIT */
/*
 * The clock and its battery RAM: an MC146818 at ports 0x70 and 0x71. See rtc.c.
 *
 *	rtc = device_create(&rtc_model, bus, (uint64_t[]){0x70}, &(struct rtc_config){
 *		.irq = irq8, .ram_low = 512 * MiB }, &err);
 *
 * It starts with the host's UTC. A thread of its own raises the interrupt, if the guest ever
 * enables one; device_destroy() ends it.
 */
#ifndef DEV_RTC_H
#define DEV_RTC_H

#include "dev/device.h"

struct rtc_config {
	struct irq_line irq; /* ISA 8 */
	uint64_t ram_low;    /* guest RAM below 4 GiB, in bytes */
	uint64_t ram_high;   /* and above */
	struct dev_clock clock; /* zeroed: the host's */
};

extern const struct device_model rtc_model;

#endif
