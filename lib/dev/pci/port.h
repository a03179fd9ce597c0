/* SPDX-License-Identifier: MIT */
/*
 * A PCI Express root port: a bridge with one slot behind it, in which a device may be. See port.c.
 *
 *	port = device_create(&pci_port_model, bus, NULL, &(struct pci_port_config){.host = mch, .devfn = PCI_DEVFN(28, 0), .number = 1}, &err);
 *	nvme = device_create(&nvme_model, bus, NULL, &(struct nvme_config){.host = port, ...}, &err);
 *
 * It takes the host's place for who is behind it. Firmware numbers its bus and places its windows, so a board without any has no ports.
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
};

extern const struct device_model pci_port_model;

#endif
