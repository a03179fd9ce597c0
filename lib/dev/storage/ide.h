/* SPDX-License-Identifier: MIT */
/*
 * An IDE controller, as Intel's PIIX3 has it: two cables at the ports of a PC, with two disks or CD drives each. See ide.c.
 *
 *	ide = device_create(&ide_model, bus, (uint64_t[]){0x1f0, 0x3f6, 0x170, 0x376}, &(struct ide_config){
 *		.host = pci, .mem = mem, .slot = 30, .irq = {irq14, irq15}, .drives = {{.disk = disk}, {.disk = cd, .is_cd = true}} }, &err);
 *
 * Source: ATA8-ACS and ATA/ATAPI-7; Programming Interface for Bus Master IDE Controller 1.0; Intel 82371SB (PIIX3) Datasheet.
 */
#ifndef DEV_STORAGE_IDE_H
#define DEV_STORAGE_IDE_H

#include "dev/device.h"

#define IDE_CABLES 2u
#define IDE_DRIVES 4u /* the first and second at the primary cable, then at the secondary one */

struct disk;

struct ide_drive {
	bool is_cd;
	struct disk *disk; /* the caller's; of a CD drive what lies in it, or NULL */
};

struct ide_config {
	struct device *host;
	const struct guest_mem *mem;
	unsigned slot; /* 0: the first free one */
	struct irq_line irq[IDE_CABLES];
	struct ide_drive drives[IDE_DRIVES]; /* neither disk nor CD drive: nothing is there */
};

extern const struct device_model ide_model;

/* As ahci_change(), ahci_is_open() and ahci_is_locked(). */
int ide_change(struct device *ide, unsigned place, struct disk *disk, bool force, struct err *err);
bool ide_is_open(struct device *ide, unsigned place);
bool ide_is_locked(struct device *ide, unsigned place);

#endif
