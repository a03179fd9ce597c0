/* SPDX-License-Identifier: MIT */
/*
 * A flash chip with firmware's variables. See flash.c.
 *
 *	flash = device_create(&flash_model, bus, (uint64_t[]){0xffc00000}, &(struct flash_config){
 *		.bytes = ram.flash, .fd = fd, .loop = loop, .show = show, .ctx = m }, &err);
 *
 * Source: Intel's Common Flash Interface and Command Sets (application note 646), command set 1, with 8 bits of data.
 */
#ifndef DEV_FLASH_H
#define DEV_FLASH_H

#include "dev/device.h"

#define FLASH_SIZE  0x84000u /* bytes: the variables of OVMF's build for 4 MiB */
#define FLASH_BLOCK 0x1000u  /* bytes: what is erased at once */

struct loop;

struct flash_config {
	uint8_t *bytes; /* FLASH_SIZE of them; the guest's memory */
	/* From now on the guest reads them itself, or its reads come to the chip; lock held. Writes come to it always. */
	void (*show)(void *ctx, bool array);
	/* The chip has written that many bytes, which no log of the guest's writes has; lock held. May be NULL. */
	void (*wrote)(void *ctx, uint32_t at, uint32_t len);
	void *ctx;
	int fd; /* of a file that is to have them, too; -1: none. The caller's; open as long as the device is */
	struct loop *loop; /* which writes it; with fd */
};

extern const struct device_model flash_model;

#endif
