/* SPDX-License-Identifier: MIT */
/*
 * The memory map of the board: where RAM is, where it is not, and who uses the first MiB
 * before the guest does.
 *
 *	0                 RAM, to the end of guest memory or to 3 GiB
 *	  0x00500           GDT for the 64-bit entry            (gone once the kernel runs)
 *	  0x06000           PVH start info                      (gone)
 *	  0x07000           Linux zero page                     (gone)
 *	  0x09000-0x0f000   identity page tables, 4 GiB         (gone)
 *	  0x20000-0x30000   kernel command line                 (gone)
 *	  0x9fc00-0x100000  reserved: where a PC has its BIOS
 *	    0xe0000           ACPI tables, 64 KiB
 *	    0xf0000           RSDP, SMBIOS entry point and tables
 *	    0xf2000           VM generation ID, 16 bytes, in a page of its own
 *	0xc0000000        PCI windows, when RAM ends before or here
 *	0xe0000000        ECAM, one bus
 *	0xf0000000        PCI windows again
 *	0xfec00000        IOAPIC
 *	0xfee00000        local APICs
 *	0xfffbc000        identity map page and TSS of the kernel's KVM (Intel needs them)
 *	4 GiB             the rest of RAM
 */
#ifndef MACHINE_MAP_H
#define MACHINE_MAP_H

#include <stdint.h>

#include "base/macros.h"
#include "bus/guest.h"

struct err;


#define MAP_GDT         0x500
#define MAP_PVH_INFO    0x6000
#define MAP_ZERO_PAGE   0x7000
#define MAP_PAGE_TABLES 0x9000
#define MAP_CMDLINE     0x20000
#define MAP_CMDLINE_MAX 0x10000 /* with the NUL */
#define MAP_EBDA        0x9fc00
#define MAP_TABLES      0xe0000
#define MAP_TABLES_SIZE 0x10000
#define MAP_RSDP        0xf0000
#define MAP_SMBIOS      0xf0040
#define MAP_SMBIOS_SIZE 0x1000
#define MAP_GENID       0xf2000
#define MAP_BIOS_END    0x100000

#define MAP_HOLE        (3 * GiB) /* RAM below ends here at the latest */
#define MAP_PCI_LOW     0xc0000000u
#define MAP_ECAM        0xe0000000u
#define MAP_ECAM_SIZE   0x100000u
#define MAP_PCI_HIGH    0xf0000000u
#define MAP_PCI_END     0xfe000000u
#define MAP_IOAPIC      0xfec00000u
#define MAP_LAPIC       0xfee00000u
#define MAP_KVM_IDMAP   0xfffbc000u
#define MAP_KVM_TSS     0xfffbd000u
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

/* Fills out for a guest with that much memory; returns how many entries. */
unsigned map_entries(uint64_t memory, struct map_entry out[MAP_ENTRIES_MAX]);

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
