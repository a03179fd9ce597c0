/* SPDX-License-Identifier: MIT */
/*
 * A VGA adapter on PCI, of the kind that QEMU calls "standard VGA": see vga.c.
 *
 *	device_create(&vga_model, bus, (uint64_t[]){0x3b0, 0x1ce, 0xa0000}, &(struct vga_config){
 *		.host = pci, .vram = memory, .vram_size = 16 << 20 }, &err);
 */
#ifndef DEV_VGA_H
#define DEV_VGA_H

#include "dev/device.h"

struct surface;

#define VGA_VRAM_MAX (16u << 20)

struct vga_config {
	struct device *host; /* the PCI host */
	unsigned slot;       /* 0: the first free one */
	uint8_t *vram;       /* the owner's */
	uint32_t vram_size;  /* a power of two, from 256 KiB to 16 MiB */
	/* BAR 0 decodes there now: the guest may have the memory itself. ~0: nowhere. The host's lock is held. NULL: it is
	 * always the device that is asked. */
	void (*placed)(void *ctx, uint64_t at);
	void *ctx;
	struct dev_clock clock;
};

extern const struct device_model vga_model;

/* What its monitor shows. Any thread. */
void vga_show(struct device *dev, struct surface *s);

/* The host has placed BARs anew, by a reset: `placed` hears where. */
void vga_placed(struct device *dev);

/* A mode of 32 bits a pixel, as a boot loader leaves it for its kernel. Returns where the frame begins; 0: nowhere yet. */
uint64_t vga_set_linear(struct device *dev, unsigned width, unsigned height);

#endif
