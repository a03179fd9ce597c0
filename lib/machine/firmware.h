/* SPDX-License-Identifier: MIT */
/*
 * What a machine with firmware has for it: the ROM's contents, and the items of its fw_cfg.
 *
 *	rc = firmware_load(m, &err);              // at start; a reset leaves it there
 *	rc = firmware_describe(m, &fw, &err);     // once
 *	... device_create(&fw_cfg_model, ..., {.items = fw->items, .n = fw->n}) ...
 */
#ifndef MACHINE_FIRMWARE_H
#define MACHINE_FIRMWARE_H

#include <stdint.h>

#include "dev/fw_cfg.h"
#include "machine/tables/tables.h"

struct err;
struct machine;
struct machine_config;

#define FIRMWARE_TABLES  (64 * 1024) /* bytes; here and below */
#define FIRMWARE_SMBIOS  4096
#define FIRMWARE_LOADER  (24 * 128)
#define FIRMWARE_BOOT    2048
#define FIRMWARE_SCREEN  (64 * 1024) /* where firmware puts it there is no more room */
#define FIRMWARE_NET     (256 * 1024)

struct firmware {
	struct fw_cfg_item items[FW_CFG_ITEMS_MAX];
	unsigned n;
	uint8_t cpus[2], serial[8];
	uint8_t e820[8 * 20];
	uint8_t tables[FIRMWARE_TABLES], rsdp[ACPI_RSDP_SIZE], loader[FIRMWARE_LOADER];
	uint8_t smbios[FIRMWARE_SMBIOS], anchor[SMBIOS_ANCHOR_SIZE];
	uint8_t screen[FIRMWARE_SCREEN]; /* the option ROM of the VGA adapter */
	uint8_t net[FIRMWARE_NET]; /* that of the network card */
	uint32_t net_len;
	char boot[FIRMWARE_BOOT]; /* paths of what is to be booted, a line each */
};

/* Puts the image at the end of the ROM, and variables into the flash. -EINVAL and the like, with a sentence that names the file. */
int firmware_load(struct machine *m, struct err *err);

/* Paths of what firmware is to boot from, in order, a line each: how many bytes, with a 0 at the end; 0: there is nothing. */
size_t firmware_boot_order(const struct machine_config *c, char *text, size_t room);

/* Fills fw, which was zeroed, for the machine's configuration. */
int firmware_describe(const struct machine *m, struct firmware *fw, struct err *err);

#endif
