/* SPDX-License-Identifier: MIT */
/*
 * The tables that firmware would leave in memory: ACPI and SMBIOS.
 *
 * Both are written at start and again at each reset, into the part of the first MiB that
 * the board reserves for them, so that kernels find them by their signatures even when
 * no boot protocol hands over an address.
 */
#ifndef MACHINE_TABLES_TABLES_H
#define MACHINE_TABLES_TABLES_H

#include <stdint.h>

#include "bus/guest.h"

struct board_map;
struct err;
struct shelf;

struct tables_plan {
	const struct board_map *map;
	const struct guest_mem *mem;
	unsigned cpus;   /* their APIC ids are 0 to cpus - 1 */
	uint64_t memory; /* bytes */
};

/* Writes the ACPI tables; the RSDP is at BOARD_RSDP then. */
int acpi_put(const struct tables_plan *plan, struct err *err);

/* Writes the SMBIOS entry point and structures at BOARD_SMBIOS. */
int smbios_put(const struct tables_plan *plan, struct err *err);

/* Puts a few instructions at f000:fff0 that reset the machine, for who jumps there. */
int vector_put(const struct tables_plan *plan, struct err *err);

/* The body of the SSDT, for acpi.c. */
void ssdt_fill(struct shelf *s, const struct tables_plan *plan);

#endif
