/* SPDX-License-Identifier: MIT */
/*
 * The tables that firmware would leave in memory: ACPI and SMBIOS.
 *
 * Both are written at start and again at each reset, into the part of the first MiB that
 * machine/map.h reserves for them, so that kernels find them by their signatures even when
 * no boot protocol hands over an address.
 */
#ifndef MACHINE_TABLES_TABLES_H
#define MACHINE_TABLES_TABLES_H

#include <stdint.h>

#include "bus/guest.h"

struct err;

struct tables_plan {
	const struct guest_mem *mem;
	unsigned cpus;   /* their APIC ids are 0 to cpus - 1 */
	uint64_t memory; /* bytes */
};

/* Writes the ACPI tables; the RSDP is at MAP_RSDP then. */
int acpi_put(const struct tables_plan *plan, struct err *err);

/* Writes the SMBIOS entry point and structures at MAP_SMBIOS. */
int smbios_put(const struct tables_plan *plan, struct err *err);

/* Puts a few instructions at f000:fff0 that reset the machine, for who jumps there. */
int vector_put(const struct tables_plan *plan, struct err *err);

#endif
