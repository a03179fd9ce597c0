/* SPDX-License-Identifier: MIT */
/* What the files of the host bridge share: host.c, function.c, assign.c. */
#ifndef DEV_PCI_PRIVATE_H
#define DEV_PCI_PRIVATE_H

#include "base/macros.h"
#include "dev/pci/function.h"
#include "dev/pci/pci.h"
#include "dev/pci/port.h"

#define PCI_DEVFNS PCI_DEVFN(PCI_SLOTS, 0) /* places on a bus */

struct pci_host {
	struct device dev;
	struct pci_host_config config;
	struct pci_function *functions[PCI_DEVFNS];
	struct pci_port *ports; /* in no order */
	struct pci_function self;
	uint32_t address; /* 0xcf8 */
	uint8_t rst_cnt;  /* 0xcf9 */
	pthread_mutex_t intx_lock; /* of the next; innermost */
	unsigned intx[PCI_INTX];   /* how many functions pull the line */
};

/* Functions behind a port: of one slot. */
#define PCI_BELOW 8u

struct pci_port {
	struct device dev; /* first */
	struct pci_port_config config;
	struct pci_function fn;
	unsigned cap, msi; /* PCI Express's, MSI's */
	struct pci_function *below[PCI_BELOW];
	uint16_t events;    /* of the slot's status, until the guest clears them */
	bool had, linked;   /* what it was told last: a device is there, and its link is up */
	bool off;           /* the guest has switched the slot off */
	bool leaving, gone; /* it was asked for what is there; and has let it go */
	bool pending;       /* its interrupt is */
	struct pci_port *next; /* of the host's */
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

/* The same of all behind a port, whose windows have changed. */
void pci_update_below(struct pci_port *port);

/* Does it with each function there is. */
void pci_each(struct pci_host *host, void (*visit)(struct pci_function *fn));

/* MSI-X off, all BARs at fresh addresses, decoding on; or BARs at 0, and off, for firmware to place. */
void pci_assign_locked(struct pci_host *host);
void pci_forget_locked(struct pci_host *host);
void pci_forget(struct pci_function *fn);

/* -- port.c ------------------------------------------------------------------------------ */

/* Whether so many bytes there get through a port. */
bool pci_port_passes(const struct pci_port *port, bool io, uint64_t addr, uint64_t size);

/* What is known of it, for pci_look(). */
void pci_port_facts(const struct pci_port *port, struct pci_facts *facts);

/* Somebody has come or gone. */
void pci_port_look(struct pci_port *port);

/* Whether what is behind it can be found: its slot is on. */
bool pci_port_shows(const struct pci_port *port);

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
