/* SPDX-License-Identifier: MIT */
/*
 * The tables that firmware would leave in memory: ACPI and SMBIOS.
 *
 * Without firmware both are written at start and again at each reset, into the part of the first MiB that
 * the board reserves for them, so that kernels find them by their signatures even when
 * no boot protocol hands over an address. With firmware they are files for it, and it puts them where it likes.
 */
#ifndef MACHINE_TABLES_TABLES_H
#define MACHINE_TABLES_TABLES_H

#include <stdbool.h>
#include <stdint.h>

#include "bus/guest.h"

struct board_map;
struct err;
struct shelf;

struct tables_plan {
	const struct board_map *map;
	const struct guest_mem *mem; /* for those that put */
	unsigned cpus;   /* their APIC ids are 0 to cpus - 1 */
	uint64_t memory; /* bytes */
	bool screen;     /* with a keyboard */
	bool hpet;
};

/* Writes the ACPI tables; the RSDP is at BOARD_RSDP then. */
int acpi_put(const struct tables_plan *plan, struct err *err);

/* Makes them where they are not going to be: in a shelf, whose notes say what has to be made good when they are moved. The
 * RSDP points into the shelf by an offset, and all checksums are 0. */
#define ACPI_RSDP_SIZE    36
#define ACPI_RSDP_OLD     20 /* that much is ACPI 1.0's */
#define ACPI_RSDP_SUM     8  /* of these */
#define ACPI_RSDP_XSDT    24 /* 64 bits */
#define ACPI_RSDP_SUM_ALL 32
int acpi_make(const struct tables_plan *plan, struct shelf *s, uint8_t rsdp[ACPI_RSDP_SIZE], struct err *err);

/* Writes the SMBIOS entry point and structures at BOARD_SMBIOS. */
int smbios_put(const struct tables_plan *plan, struct err *err);

/* The structures alone, into that many bytes, and an entry point of version 2.8, which firmware makes good. How many bytes they are, or
 * -ENOSPC. */
#define SMBIOS_ANCHOR_SIZE 31
int smbios_make(const struct tables_plan *plan, uint8_t *to, uint32_t size, uint8_t anchor[SMBIOS_ANCHOR_SIZE], struct err *err);

/* Puts a few instructions at f000:fff0 that reset the machine, for who jumps there. */
int vector_put(const struct tables_plan *plan, struct err *err);

/* The body of the SSDT, for acpi.c. */
void ssdt_fill(struct shelf *s, const struct tables_plan *plan);

#endif
