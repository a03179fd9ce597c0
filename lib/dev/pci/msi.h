/* SPDX-License-Identifier: MIT */
/*
 * MSI: one message for all that a function has to say. See msi.c.
 *
 *	cap = msi_add_cap(&fn, &err);
 *	...
 *	if (!msi_notify(&fn, cap))
 *		pci_intx_set(&fn, true);        // the driver has not switched it on
 */
#ifndef DEV_PCI_MSI_H
#define DEV_PCI_MSI_H

#include "dev/pci/function.h"

#define PCI_CAP_MSI 0x05

/* After pci_add(). The capability's offset, or -ENOSPC. */
int msi_add_cap(struct pci_function *fn, struct err *err);

/* Off, as after power-on. */
void msi_reset(struct pci_function *fn, unsigned cap);

/* Whether it is on, and so the pin off. Any thread. */
bool msi_enabled(struct pci_function *fn, unsigned cap);

/* Sends the message, if it is on. Any thread. */
bool msi_notify(struct pci_function *fn, unsigned cap);

#endif
