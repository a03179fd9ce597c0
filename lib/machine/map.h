/* SPDX-License-Identifier: MIT */
/*
 * Guest RAM: how much there can be and where, who uses the first MiB before the guest does, and the memory that it
 * is in. What else has addresses is board_map.h's.
 *
 *	0                 RAM, to the end of guest memory or to 3 GiB
 *	  0x00500           GDT for the 64-bit entry            (gone once the kernel runs)
 *	  0x06000           PVH start info                      (gone)
 *	  0x07000           Linux zero page                     (gone)
 *	  0x09000-0x0f000   identity page tables, 4 GiB         (gone)
 *	  0x20000-0x30000   kernel command line                 (gone)
 *	  0x9fc00-0x100000  reserved: where a PC has its BIOS, and the board its tables
 *	4 GiB             the rest of RAM
 */
#ifndef MACHINE_MAP_H
#define MACHINE_MAP_H

#include <stdint.h>

#include "base/macros.h"
#include "bus/guest.h"

struct board_map;
struct err;

#define MAP_GDT         0x500
#define MAP_PVH_INFO    0x6000
#define MAP_ZERO_PAGE   0x7000
#define MAP_PAGE_TABLES 0x9000
#define MAP_CMDLINE     0x20000
#define MAP_CMDLINE_MAX 0x10000 /* with the NUL */
#define MAP_EBDA        0x9fc00
#define MAP_BIOS_END    0x100000

#define MAP_HOLE        (3 * GiB) /* RAM below ends here at the latest */
#define MAP_HIGH        (4 * GiB)

#define MAP_MEMORY_MIN  (32 * MiB)
#define MAP_MEMORY_MAX  (512 * GiB)

/* What RAM there is, as the boot protocols tell it; types are those of E820. */
enum map_type { MAP_RAM = 1, MAP_RESERVED = 2 };

struct map_entry {
	gpa_t base;
	uint64_t size;
	enum map_type type;
};

#define MAP_ENTRIES_MAX 8

/* Fills out for a guest with that much memory on that board; returns how many entries. */
unsigned map_entries(const struct board_map *board, uint64_t memory, struct map_entry out[MAP_ENTRIES_MAX]);

/* How many bits the physical addresses of such a guest's board have: 36, or what its RAM needs. */
unsigned map_phys_bits(uint64_t memory);

/* Where RAM below the hole ends. */
static inline gpa_t map_low_end(uint64_t memory)
{
	return memory < MAP_HOLE ? memory : MAP_HOLE;
}

/* Guest RAM of this process: one memfd, mapped once, seen by the guest as one or two regions. */
struct map_ram {
	int fd;
	uint8_t *host;
	uint64_t size;
	struct ram_layers *layers; /* layer.h; NULL: all of it is in the memfd */
	_Atomic uint64_t *written; /* a bit for each page that a device was let write to; NULL: nobody has asked yet */
};

/* Makes the RAM and adds its regions to mem. Nothing is reserved: pages come as the guest
 * touches them. On failure there is nothing to undo. `fd` is a memfd of that size, of which it takes a duplicate; -1: a
 * new one. */
int map_ram_create(struct map_ram *ram, uint64_t size, int fd, struct guest_mem *mem,
		   struct err *err);

/* Another memfd at the same address, all zeros; the old one's descriptor is the caller's. -errno: then
 * nothing has changed. */
int map_ram_renew(struct map_ram *ram);

/* Back to zeros, and the host's pages given back; what is mapped stays mapped. */
void map_ram_clear(struct map_ram *ram);
void map_ram_destroy(struct map_ram *ram);

#endif
