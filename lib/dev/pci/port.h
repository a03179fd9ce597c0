/* SPDX-License-Identifier: MIT */
/*
 * A PCI Express root port: a bridge with one slot behind it, in which a device may be. See port.c.
 *
 *	port = device_create(&pci_port_model, bus, NULL, &(struct pci_port_config){.host = mch, .devfn = PCI_DEVFN(28, 0), .number = 1}, &err);
 *	nvme = device_create(&nvme_model, bus, NULL, &(struct nvme_config){.host = port, ...}, &err);
 *
 * It takes the host's place for who is behind it. Firmware numbers its bus and places its windows, so a board without any has no ports.
 *
 * Devices come and go while the guest runs:
 *
 *	disk = device_create(..., {.host = port}); pci_port_tell(port);     // no vCPU runs; the guest hears of it when one does
 *	pci_port_press(port, &err);                                         // asks it to let the device go
 *	... config.let_go(ctx), from a vCPU, or a reset ...
 *	if (pci_port_has_let_go(port))                                      // no vCPU runs
 *		device_destroy(disk), pci_port_tell(port);
 *
 * Source: PCI-to-PCI Bridge Architecture Specification 1.2; PCI Express Base Specification 3.0, 7.8.
 */
#ifndef DEV_PCI_PORT_H
#define DEV_PCI_PORT_H

#include "dev/pci/pci.h"

#define PCI_PORTS 8u /* in a slot of bus 0, a function each */

struct pci_port_config {
	struct device *host;
	unsigned devfn;
	uint8_t number; /* of its slot, as the guest is told */
	/* The guest has let go what it was asked for. With the host's lock held; may be NULL. */
	void (*let_go)(void *ctx);
	void *ctx;
};

extern const struct device_model pci_port_model;

/* Who is behind it has changed: the guest hears of it. */
void pci_port_tell(struct device *port);

/* Asks the guest to let go what is there. Again, if it does not; -EBUSY while it is about to, for then it would keep it. */
int pci_port_press(struct device *port, struct err *err);

/* It was asked, and has: what is there is hidden from it. */
bool pci_port_has_let_go(struct device *port);

#endif
