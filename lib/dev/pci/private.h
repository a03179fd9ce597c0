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
	return n == PCI_ROM ? PCI_ROM_BASE : PCI_BAR0 + n * 4;
}

/* Fills configuration space from what the device said it is. */
void pci_init_config(struct pci_function *fn);

/* The functions below hold the host's lock. */

/* Brings fn's windows on the bus to where its BARs and command register say. */
void pci_update_decoders(struct pci_function *fn);

/* MSI-X off, all BARs at fresh addresses, decoding on; or BARs at 0, and off, for firmware to place. */
void pci_assign_locked(struct pci_host *host);
void pci_forget_locked(struct pci_host *host);

/* -- What the models of a host bridge share: host.c, mch.c ----------------------------- */

void pci_host_init(struct pci_host *host, const struct pci_host_config *config, uint16_t vendor, uint16_t device);
void pci_host_fini(struct device *dev);
void pci_host_saving(struct device *dev);
extern const struct state_table *const pci_host_state[];
extern const struct reg pci_address_regs[];
uint64_t pci_data_read(void *dev, uint64_t at, unsigned width);
void pci_data_write(void *dev, uint64_t at, unsigned width, uint64_t value);
uint64_t pci_ecam_read(void *dev, uint64_t at, unsigned width);
void pci_ecam_write(void *dev, uint64_t at, unsigned width, uint64_t value);

#endif
