/* SPDX-License-Identifier: MIT */
/*
 * What is where on a board: every address, port and interrupt line that a guest can meet, in one table.
 *
 *	const struct board_place *com1 = &board_direct.at[BOARD_COM1];     com1->base, com1->line
 *
 * All else follows from it: where devices are made and which lines they get (board.c), what BARs may have,
 * ACPI and SMBIOS tables (tables/), what E820 reserves (map.c), and the tables of docs/board.md, which a test
 * compares with it. No other file has such a number of its own; but how much RAM there is, and what boot
 * protocols put into it, is map.h's.
 */
#ifndef MACHINE_BOARD_MAP_H
#define MACHINE_BOARD_MAP_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct err;

/* What a board can have. In the order of docs/board.md: memory, then ports. */
enum board_part {
	BOARD_RAM_LOW,
	BOARD_VGA_WINDOW,
	BOARD_TABLES,
	BOARD_RSDP,
	BOARD_SMBIOS,
	BOARD_GENID,
	BOARD_VECTOR,
	BOARD_PCI_LOW,
	BOARD_ECAM,
	BOARD_PCI_HIGH,
	BOARD_IOAPIC,
	BOARD_HPET,
	BOARD_LAPIC,
	BOARD_KVM_PAGES,
	BOARD_FLASH,
	BOARD_ROM,
	BOARD_RAM_HIGH,
	BOARD_PIC,
	BOARD_PIT,
	BOARD_I8042_DATA,
	BOARD_SPEAKER,
	BOARD_I8042_COMMAND,
	BOARD_RTC,
	BOARD_PORT92,
	BOARD_PIC_SLAVE,
	BOARD_IDE_SECOND,
	BOARD_DISPI,
	BOARD_IDE,
	BOARD_IDE_SECOND_CONTROL,
	BOARD_VGA,
	BOARD_IDE_CONTROL,
	BOARD_COM1,
	BOARD_DEBUGCON,
	BOARD_PVPANIC,
	BOARD_FW_CFG,
	BOARD_PM,
	BOARD_PCI_ADDRESS,
	BOARD_PCI_DATA,
	BOARD_PCI_IO,
	BOARD_PARTS,
};

enum board_space {
	BOARD_MEMORY,
	BOARD_IN_RAM, /* memory that is RAM: what firmware leaves there */
	BOARD_PORTS,
	BOARD_SPACES,
};

struct board_place {
	const char *what; /* as docs/board.md has it; NULL: this board has no such part */
	enum board_space space;
	uint64_t base, size;
	uint8_t line, n_lines; /* global interrupt numbers, from `line` on */
	const char *model;     /* of the device whose it is; NULL: the engine's, or nobody's */
};

struct board_map {
	const char *name; /* as --board has it, and a saved machine */
	struct board_place at[BOARD_PARTS];
};

/* The boards of docs/board.md: one for kernels that are put into memory, and one for firmware. */
extern const struct board_map board_direct, board_q35;

/* NULL: there is none of that name. */
const struct board_map *board_find(const char *name);

/* -EINVAL, and err names both, if two parts share an address, a port or a line; or if one is nowhere, or not
 * where its space is. */
int board_check(const struct board_map *map, struct err *err);

/* The tables of docs/board.md. */
void board_print(const struct board_map *map, FILE *to);

/* Whether it is a place of that model's: a virtio-vga is where a vga is, of which a board has one. */
bool board_is_of(const struct board_place *p, const char *model);

/* Where the devices of a model are on each board, a line each. */
void board_print_model(const char *model, FILE *to);

static inline uint64_t board_last(const struct board_place *p)
{
	return p->base + p->size - 1;
}

#endif
