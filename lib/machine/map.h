/* SPDX-License-Identifier: MIT */
/*
 * Guest RAM: how much there can be and where, who uses the first MiB before the guest does, and the memory that it
 * is in. What else has addresses is board_map.h's.
 *
 *	0                 RAM, to the end of guest memory or of BOARD_RAM_LOW
 *	  0x00500           GDT for the 64-bit entry            (gone once the kernel runs)
 *	  0x06000           PVH start info                      (gone)
 *	  0x07000           Linux zero page                     (gone)
 *	  0x09000-0x0f000   identity page tables, 4 GiB         (gone)
 *	  0x20000-0x30000   kernel command line                 (gone)
 *	  0x9fc00-0x100000  reserved: where a PC has its BIOS, and the board its tables
 *	4 GiB             the rest of RAM
 *
 * A board with firmware has other memory besides: a flash chip, a ROM, and a page with the VM generation ID; and one with a screen
 * has video memory, and behind that pictures of a virtio GPU. All of it is in one file, RAM first, so that what saves, forks and migrates a guest needs to know of no other.
 */
#ifndef MACHINE_MAP_H
#define MACHINE_MAP_H

#include <stdbool.h>
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
#define MAP_BIOS        0x20000 /* of the ROM, as much is below it, too */
#define MAP_SCREEN      0xa0000 /* where a PC has it, to */
#define MAP_SCREEN_LAST 0xbffff /* here: no RAM on a board with firmware */

#define MAP_HIGH        (4 * GiB)
#define MAP_VRAM        (16 * MiB)
#define MAP_PICTURES    (128 * MiB) /* of a virtio GPU */

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
unsigned map_phys_bits(const struct board_map *board, uint64_t memory);

/* Where RAM below the hole ends. */
gpa_t map_low_end(const struct board_map *board, uint64_t memory);

/* How many bytes such a guest's memory is, with what is no RAM. `video`, here and below, is how many of them belong to its screen: 0,
 * MAP_VRAM, or MAP_PICTURES more. */
uint64_t map_size(const struct board_map *board, uint64_t memory, uint64_t video);

#define MAP_SIZE_MAX (MAP_MEMORY_MAX + 256 * MiB) /* at most */

/* The memory of this process: one memfd, mapped once, seen by the guest as some regions. */
struct map_ram {
	int fd;
	uint8_t *host;
	uint64_t size;             /* map_size() */
	uint64_t memory;           /* of which that much, from its beginning, is RAM */
	uint8_t *flash, *rom, *genid; /* NULL: there is none, or it is in RAM */
	uint8_t *vram;             /* MAP_VRAM bytes; NULL: there is no screen */
	uint8_t *pictures;         /* MAP_PICTURES bytes; NULL: there is no virtio GPU */
	unsigned screen;           /* the region that leads there; it is nowhere until the adapter says where */
	unsigned shadow;           /* the first of MCH_SHADOWS regions, if there is a ROM */
	unsigned variables;        /* the flash's region */
	struct ram_layers *layers; /* layer.h; NULL: all of it is in the memfd */
	_Atomic uint64_t *written; /* a bit for each page that a device was let write to; NULL: nobody has asked yet */
};

/* Makes the memory of a guest with `memory` bytes of RAM, and adds its regions to mem. Nothing is reserved: pages come as the guest
 * touches them. On failure there is nothing to undo. `fd` is a memfd of map_size(), of which it takes a duplicate; -1: a
 * new one. */
int map_ram_create(struct map_ram *ram, const struct board_map *board, uint64_t memory, uint64_t video, int fd,
		   struct guest_mem *mem, struct err *err);

/* Where shadow region n is (dev/pci/mch.h: what a board with a ROM has below 1 MiB, each RAM or ROM), and what is there after a reset: the end of the ROM, or nothing (NULL). */
gpa_t map_shadow_base(unsigned n);
uint8_t *map_shadow_rom(const struct map_ram *ram, const struct board_map *board, unsigned n);

/* Another memfd at the same address, all zeros; the old one's descriptor is the caller's. -errno: then
 * nothing has changed. */
int map_ram_renew(struct map_ram *ram);

/* RAM is zeros again, and the host's pages given back; what is mapped stays mapped. */
void map_ram_clear(struct map_ram *ram);
void map_ram_destroy(struct map_ram *ram);

#endif
