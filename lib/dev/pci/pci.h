/* SPDX-License-Identifier: MIT */
/*
 * PCI for the board: the host bridge and how functions get onto it.
 *
 * One bus (0), 32 slots, of up to eight functions. Slot 0 is the host bridge itself.
 * Configuration by mechanism 1 (ports 0xcf8, 0xcfc) and by ECAM. For those who write
 * PCI devices, see pci/function.h.
 *
 *	pci = device_create(&pci_host_model, bus, (uint64_t[]){0xcf8, 0xcfc, 0xe0000000}, &(struct pci_host_config){
 *		.io_base = 0xc000, .io_size = 0x4000, .mem_base = 0xc0000000, .mem_size = 0x20000000,
 *		.intx = {irq16, irq17, irq18, irq19}, .msi = msi, .power = power }, &err);
 *	... devices add their functions ...
 *	device_reset(pci);                      // gives every BAR its address
 *
 * Source: PCI Local Bus Specification 3.0; PCI Express Base Specification (ECAM).
 */
#ifndef DEV_PCI_PCI_H
#define DEV_PCI_PCI_H

#include "dev/device.h"

#define PCI_SLOTS     32
#define PCI_INTX      4
#define PCI_ECAM_SIZE (1u << 20) /* bus 0 only: what MCFG says too */

#define PCI_RST_CNT  1    /* reset control, from the address port on; */
#define PCI_RST_FULL 0x0e /* this written resets all */

struct pci_host_config {
	/* Where BARs are put at reset, as firmware would; also the SSDT's _CRS windows.
	 * */
	uint64_t io_base, io_size;
	uint64_t mem_base, mem_size;     /* below 4 GiB */
	uint64_t mem64_base, mem64_size; /* 0: 64-bit BARs go below as well */
	struct irq_line intx[PCI_INTX]; /* see pci_intx() */
	struct msi_sink msi;
	struct power_line power; /* port 0xcf9 */
};

extern const struct device_model pci_host_model;

/* A function as its configuration space shows it: for who wants to know, not for the guest. */
struct pci_facts {
	const char *name; /* the device's */
	uint8_t bus, slot, function, pin, line;
	uint16_t vendor, device, sub_vendor, sub_device, class; /* the latter without the interface's byte */
	struct pci_facts_bar {
		uint64_t addr, size; /* size 0: this BAR does not exist; addr UINT64_MAX: it is nowhere */
		bool io, wide, prefetch;
	} bars[6];
	bool bridge;         /* it is a root port */
	uint8_t above;      /* of what is behind one: that one's PCI_DEVFN(); else 0 */
	uint8_t first, last; /* of a bridge: the bus behind it, and the last one behind that; */
	struct pci_facts_range {
		uint64_t base, limit; /* nothing passes: the limit is the smaller one */
	} io, memory, prefetch;      /* what passes to them */
};

/* Fills in at most max, in the order of their places, each bridge before what is behind it; returns how many there are. Any thread. */
unsigned pci_look(struct device *host, struct pci_facts *facts, unsigned max);

/* Which of the four lines pin (1 is A) of a slot is on: the _PRT has the same rule. An ICH9's own slots, from 25 on, are wired as its
 * routes say, which firmware leaves as they are: pin A is line 0. */
static inline unsigned pci_intx(unsigned slot, unsigned pin)
{
	return (slot < 25 ? slot + pin - 1 : pin - 1) % PCI_INTX;
}

#endif
