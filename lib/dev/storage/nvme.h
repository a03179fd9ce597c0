/* SPDX-License-Identifier: MIT */
/*
 * An NVMe controller with one namespace, which is a disk: see nvme.c.
 *
 *	nvme = device_create(&nvme_model, bus, NULL, &(struct nvme_config){.host = pci, .mem = mem, .disk = disk}, &err);
 *
 * Source: NVM Express Base Specification 1.4.
 */
#ifndef DEV_STORAGE_NVME_H
#define DEV_STORAGE_NVME_H

#include "dev/device.h"

struct disk;

struct nvme_config {
	struct device *host;
	const struct guest_mem *mem;
	unsigned slot;     /* 0: the first free one */
	struct disk *disk; /* the caller's; closed after the device is destroyed */
	unsigned number;   /* for its serial number: which of a machine's it is */
};

extern const struct device_model nvme_model;

#endif
