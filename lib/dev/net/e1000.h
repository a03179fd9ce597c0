/* SPDX-License-Identifier: MIT */
/*
 * A network card that most systems know: Intel's 82540EM. See e1000.c.
 *
 *	nic = device_create(&e1000_model, bus, NULL, &(struct e1000_config){
 *		.host = pci, .mem = mem, .port = port, .loop = loop, .mac = {...} }, &err);
 *
 * Source: PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (Intel 317453).
 */
#ifndef DEV_NET_E1000_H
#define DEV_NET_E1000_H

#include "dev/device.h"
#include "dev/pci/function.h"
#include "net/mac.h"

struct loop;
struct net_port;

struct e1000_config {
	struct device *host;
	const struct guest_mem *mem;
	unsigned slot;         /* 0: the first free one */
	struct net_port *port; /* stays the caller's; closed after the device is destroyed. NULL: no cable is plugged in */
	struct loop *loop;     /* which waits for it; NULL: nobody does */
	uint8_t mac[MAC_LEN];
	struct pci_rom rom;
};

extern const struct device_model e1000_model;

/* As virtio_net_plug() and virtio_net_link(). */
void e1000_plug(struct device *nic, bool in);
bool e1000_link(struct device *nic);

#endif
