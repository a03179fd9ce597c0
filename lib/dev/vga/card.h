/* SPDX-License-Identifier: MIT */
/*
 * What a VGA adapter on PCI has, whichever it is: the standard one (dev/vga.c), or virtio's (dev/virtio/gpu.c).
 *
 *	BAR 0            video memory, as one linear frame: vga_frame_read(), vga_frame_write()
 *	BAR 2    0x000   EDID of a monitor, 128 bytes: vga_mmio_regs[], which begin the BAR
 *	         0x400   ports 0x3c0 to 0x3df
 *	         0x500   DISPI's registers, 16 bits each
 *	0x3b0..0x3df     VGA's ports: vga_places[]
 *	0x1ce, 0x1cf     DISPI's index and data, 16 bits each
 *	0xa0000..0xbffff the window, as VGA's graphics controller sees memory
 *
 * Handlers are called with a device, and find its card by vga_card_of().
 */
#ifndef DEV_VGA_CARD_H
#define DEV_VGA_CARD_H

#include "dev/pci/function.h"
#include "dev/vga.h"
#include "dev/vga/core.h"
#include "dev/vga/edid.h"
#include "state/state.h"

struct vga_card {
	struct vga_config config;
	struct pci_function *fn; /* that it is */
	struct vga vga;
	uint8_t edid[EDID_SIZE];
};

struct vga_card *vga_card_of(void *dev);

/* Of each model. */
struct vga_card *vga_device_card(struct device *dev);
struct vga_card *virtio_vga_card(struct device *dev);

/* -EINVAL: that is no size for video memory. */
int vga_card_init(struct vga_card *c, const struct vga_config *config, struct pci_function *fn, struct err *err);

#define VGA_MMIO_SIZE 0x1000u

extern const struct device_place vga_places[];
extern const struct reg vga_mmio_regs[];
uint64_t vga_frame_read(void *ctx, uint64_t at, unsigned width);
void vga_frame_write(void *ctx, uint64_t at, unsigned width, uint64_t value);

/* BAR 0 may be elsewhere. */
void vga_card_placed(struct vga_card *c);

/* A model's table has this row, and its loaded() asks whether that is sound: 0 or -EINVAL. */
extern const struct state_field vga_fields[];
#define VGA_CARD_STATE(type, card)                                                         \
	{.name = "vga", .offset = offsetof(type, card.vga), .part = vga_fields, .size = sizeof(struct vga)}
int vga_card_loaded(const struct vga_card *c, struct err *err);

#endif
