/* SPDX-License-Identifier: MIT */
/* The clock and its battery RAM: an MC146818 at ports 0x70 and 0x71. See rtc.c. */
#ifndef DEV_RTC_H
#define DEV_RTC_H

#include "dev/device.h"

struct rtc_config {
	struct irq_line irq; /* ISA 8 */
	uint64_t ram_low;    /* guest RAM below 4 GiB, in bytes */
	uint64_t ram_high;   /* and above */
	struct dev_clock clock;
};

extern const struct device_model rtc_model;

#endif
