/* SPDX-License-Identifier: MIT */
/*
 * What targets of storage controllers begin and end with: guest RAM that is an allocation of its own, so that a sanitizer sees a byte too far, a
 * bus with a PCI host, and a disk, of which is seen that it stays as long as it was.
 *
 *	open_disks();
 *	make_bus(RAM_SIZE, data, tables, &(struct pci_host_config){...});
 *	dev = device_create(..., .mem = &mem, .host = host, ... disk, cd ...);
 *	device_reset(host);
 *	...
 *	device_destroy(dev);
 *	unmake_bus();
 */
#ifndef FUZZ_STORAGE_H
#define FUZZ_STORAGE_H

#include "base/bytes.h"
#include "block/disk.h"
#include "bus/guest.h"
#include "dev/pci/function.h"
#include "dev/pci/pci.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ECAM      0xe0000000u
#define SLOT      1
#define DISK_SIZE 65536

static struct disk *disk, *cd __attribute__((unused)); /* which is read-only */
static int file; /* the disk's */
static struct bus *bus;
static struct device *host;
static struct guest_mem mem;
static uint8_t *ram;

static inline struct disk *open_disk(bool readonly)
{
	struct disk *d;
	char path[64];

	file = memfd_create("disk", MFD_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
	if (ftruncate(file, DISK_SIZE) < 0 ||
	    disk_open(&d, &(struct disk_config){.path = path, .readonly = readonly, .threads = 2}, NULL) < 0)
		abort();
	return d;
}

/* Once, for all inputs. */
static inline void open_disks(void)
{
	if (disk)
		return;
	cd = open_disk(true);
	disk = open_disk(false); /* `file` is its */
}

/* RAM begins with the first bytes of the input. */
static inline void make_bus(size_t ram_size, const uint8_t *data, size_t n, const struct pci_host_config *config)
{
	ram = calloc(1, ram_size);
	if (!ram)
		abort();
	memcpy(ram, data, n);
	mem = (struct guest_mem){.n = 1, .regions[0] = {.size = ram_size, .host = ram}};
	bus = bus_create();
	host = device_create(&pci_host_model, bus, (uint64_t[]){0xcf8, 0xcfc, ECAM}, config, NULL);
}

static inline void unmake_bus(void)
{
	device_destroy(host);
	bus_destroy(bus);
	free(ram);
	if (lseek(file, 0, SEEK_END) != DISK_SIZE)
		abort();
}

#endif
