/* SPDX-License-Identifier: MIT */
/*
 * The firmware configuration device: named files that the board has for firmware. See fw_cfg.c.
 *
 *	static const struct fw_cfg_item items[] = {
 *		{.key = FW_CFG_CPUS, .bytes = cpus, .size = 2},
 *		{.name = "etc/e820", .bytes = table, .size = sizeof(table)},
 *	};
 *	device_create(&fw_cfg_model, bus, (uint64_t[]){0x510}, &(struct fw_cfg_config){
 *		.mem = &mem, .items = items, .n = 2 }, &err);
 *
 * Source: "QEMU Firmware Configuration (fw_cfg) Device", docs/specs/fw_cfg of QEMU.
 */
#ifndef DEV_FW_CFG_H
#define DEV_FW_CFG_H

#include "dev/device.h"

#define FW_CFG_SIZE      12 /* ports */
#define FW_CFG_NAME_MAX  55
#define FW_CFG_ITEMS_MAX 32

/* Keys of items without a name. */
#define FW_CFG_CPUS      0x05 /* 16 bits */
#define FW_CFG_CPUS_MAX  0x0f /* 16 bits: one more than the highest APIC id */

struct fw_cfg_item {
	const char *name; /* NULL: it has only its key */
	uint16_t key;     /* if it has no name; little-endian numbers */
	uint32_t size;
	const void *bytes; /* must outlive the device */
};

struct fw_cfg_config {
	const struct guest_mem *mem;
	const struct fw_cfg_item *items; /* as long as the device */
	unsigned n;                      /* at most FW_CFG_ITEMS_MAX */
};

extern const struct device_model fw_cfg_model;

#endif
