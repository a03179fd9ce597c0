/* SPDX-License-Identifier: MIT */
/*
 * A USB controller after the xHCI specification 1.2, with USB 2 devices at its ports. See xhci.c.
 *
 *	x = device_create(&xhci_model, bus, NULL, &(struct xhci_config){
 *		.host = pci, .mem = mem, .ports = {{.kind = XHCI_TABLET}, {.kind = XHCI_DISK, .disk = disk}}}, &err);
 *	xhci_key(x, 0x1e, true);
 */
#ifndef DEV_USB_XHCI_H
#define DEV_USB_XHCI_H

#include "dev/device.h"

struct disk;
struct guest_mem;
struct loop;

#define XHCI_PORTS 8u

enum xhci_kind { XHCI_NOTHING, XHCI_KEYBOARD, XHCI_TABLET, XHCI_DISK };

struct xhci_port_config {
	enum xhci_kind kind;
	struct disk *disk; /* of a disk: stays the caller's */
};

struct xhci_config {
	struct device *host; /* the PCI host */
	const struct guest_mem *mem;
	struct loop *loop;   /* where long transfers go on */
	unsigned slot;       /* 0: the first free one */
	struct xhci_port_config ports[XHCI_PORTS];
};

extern const struct device_model xhci_model;

/* As virtio_keyboard_key() and virtio_tablet_point() (dev/virtio/devices.h). Any thread. */
int xhci_key(struct device *dev, uint8_t key, bool down);
bool xhci_point(struct device *dev, uint16_t x, uint16_t y, int dz, uint8_t buttons);

#endif
