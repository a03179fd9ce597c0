/* SPDX-License-Identifier: MIT */
/* What the files of the host bridge share: host.c, function.c, assign.c. */
#ifndef DEV_PCI_PRIVATE_H
#define DEV_PCI_PRIVATE_H

#include "base/macros.h"
#include "dev/pci/function.h"
#include "dev/pci/pci.h"

#define PCI_DEVFNS PCI_DEVFN(PCI_SLOTS, 0) /* places on a bus */

struct pci_host {
	struct device dev;
	struct pci_host_config config;
	struct pci_function *functions[PCI_DEVFNS];
	struct pci_function self;
	uint32_t address; /* 0xcf8 */
	uint8_t rst_cnt;  /* 0xcf9 */
	pthread_mutex_t intx_lock; /* of the next; innermost */
	unsigned intx[PCI_INTX];   /* how many functions pull the line */
};

static inline struct pci_host *pci_host_of(const struct pci_function *fn)
{
	return (struct pci_host *)fn->host;
}

/* Where BAR n is in configuration space. */
static inline unsigned pci_bar_at(unsigned n)
{
	return PCI_BAR0 + n * 4;
}

/* Fills configuration space from what the device said it is. */
void pci_init_config(struct pci_function *fn);

/* The functions below hold the host's lock. */

/* Brings fn's windows on the bus to where its BARs and command register say. */
void pci_update_decoders(struct pci_function *fn);

/* MSI-X off, all BARs at fresh addresses, decoding on. */
void pci_assign_locked(struct pci_host *host);

#endif
