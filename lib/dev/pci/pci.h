/* SPDX-License-Identifier: MIT */
/*
 * PCI for the board: the host bridge and how functions get onto it.
 *
 * One bus (0), 32 slots, one function each. Slot 0 is the host bridge itself.
 * Configuration by mechanism 1 (ports 0xcf8, 0xcfc) and by ECAM. For those who write
 * PCI devices, see pci/function.h.
 */
#ifndef DEV_PCI_PCI_H
#define DEV_PCI_PCI_H

#include "dev/device.h"

#define PCI_SLOTS     32
#define PCI_INTX      4
#define PCI_ECAM_SIZE (1u << 20) /* bus 0 only: what MCFG says too */

struct pci_host_config {
	uint64_t ecam_base; /* of PCI_ECAM_SIZE bytes; 0: no ECAM */
	/* Where BARs are put at reset, as firmware would; also the DSDT's _CRS windows.
	 * */
	uint64_t mem_base, mem_size;     /* below 4 GiB */
	uint64_t mem64_base, mem64_size; /* 0: 64-bit BARs go below as well */
	struct irq_line intx[PCI_INTX]; /* see pci_intx() */
	struct msi_sink msi;
	struct power_line power; /* port 0xcf9 */
};

extern const struct device_model pci_host_model;

/* Which of the four lines pin (1 is A) of a slot is on: the _PRT has the same rule. */
static inline unsigned pci_intx(unsigned slot, unsigned pin)
{
	return (slot + pin - 1) % PCI_INTX;
}

#endif
