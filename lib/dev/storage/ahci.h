/* SPDX-License-Identifier: MIT */
/*
 * A SATA controller, as Intel's ICH9 has it, with disks and CD drives at its ports: see ahci.c.
 *
 *	ahci = device_create(&ahci_model, bus, NULL, &(struct ahci_config){
 *		.host = pci, .devfn = PCI_DEVFN(31, 2), .mem = mem, .drives = {{.disk = disk}, {.disk = cd, .is_cd = true}} }, &err);
 *
 * Source: Serial ATA AHCI 1.3.1 Specification.
 */
#ifndef DEV_STORAGE_AHCI_H
#define DEV_STORAGE_AHCI_H

#include "dev/device.h"

#define AHCI_PORTS 6u

struct disk;

struct ahci_drive {
	bool is_cd;
	struct disk *disk; /* the caller's; of a CD drive what lies in it, or NULL */
};

struct ahci_config {
	struct device *host;
	const struct guest_mem *mem;
	unsigned devfn; /* 0: the first free slot */
	struct ahci_drive drives[AHCI_PORTS]; /* neither disk nor CD drive: nothing is plugged in */
};

extern const struct device_model ahci_model;

/* Another medium for the CD drive at a port; NULL: none. What was in it is the caller's again. -EBUSY: the guest wants to keep it, and
 * has heard that it is not to; `force` takes it all the same. Owner's thread. */
int ahci_change(struct device *ahci, unsigned port, struct disk *disk, bool force, struct err *err);

/* Whether the tray of a CD drive is open; and whether the guest keeps it from being opened by hand. */
bool ahci_is_open(struct device *ahci, unsigned port);
bool ahci_is_locked(struct device *ahci, unsigned port);

#endif
