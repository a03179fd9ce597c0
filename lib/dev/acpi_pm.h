/* SPDX-License-Identifier: MIT */
/*
 * ACPI's fixed hardware: PM1a events and control, the PM timer, GPE block 0. See
 * acpi_pm.c. The board puts these numbers into the FADT and the SSDT (_S5).
 *
 *	pm = device_create(&acpi_pm_model, bus, (uint64_t[]){0x600}, &(struct acpi_pm_config){
 *		.sci = irq9, .power = power }, &err);
 *	...
 *	acpi_pm_power_button(pm);   // the guest gets an SCI and shuts itself down
 *
 * Source: ACPI Specification, chapter 4.
 */
#ifndef DEV_ACPI_PM_H
#define DEV_ACPI_PM_H

#include "dev/device.h"

/* Offsets from the base, and lengths: the FADT's PM1a_EVT, PM1a_CNT, PM_TMR, GPE0. */
#define ACPI_PM1_EVT      0x00
#define ACPI_PM1_EVT_LEN  4
#define ACPI_PM1_CNT      0x04
#define ACPI_PM1_CNT_LEN  2
#define ACPI_PM_TMR       0x08
#define ACPI_PM_TMR_LEN   4
#define ACPI_GPE0         0x20
#define ACPI_GPE0_LEN     4
#define ACPI_SMI_EN       0x30
#define ACPI_PM_SIZE      0x40

#define ACPI_PM_S5 5 /* SLP_TYPa for _S5 */

struct acpi_pm_config {
	struct irq_line sci;     /* level, active high */
	struct power_line power; /* asked for POWER_OFF */
	struct dev_clock clock;  /* zeroed: the host's */
};

extern const struct device_model acpi_pm_model;

/* The user presses the button; the guest is asked to shut down. Any thread. */
void acpi_pm_power_button(struct device *pm);

/* General-purpose event n, of 0 to 15, has happened: the guest runs \_GPE._Enn of the DSDT. Any thread. */
void acpi_pm_event(struct device *pm, unsigned n);

#endif
