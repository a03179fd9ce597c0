/* SPDX-License-Identifier: MIT */
/*
 * The LPC bridge of Intel's ICH9: where firmware finds the PC's ISA bus, and says which PIC inputs PCI's lines are on. See lpc.c.
 *
 *	lpc = device_create(&lpc_model, bus, NULL, &(struct lpc_config){
 *		.host = mch, .isa = {.set = vm_irq, .ctx = vm}, .pci = {irq16, irq17, irq18, irq19}, .pm = 0x600 }, &err);
 *
 * The host bridge is made first, and its lines are lpc_pirq() with this device.
 *
 * Source: Intel I/O Controller Hub 9 Family Datasheet, chapter 13.
 */
#ifndef DEV_PCI_LPC_H
#define DEV_PCI_LPC_H

#include "dev/pci/pci.h"

#define LPC_DEVFN (31 << 3) /* slot 31, function 0: where firmware looks for it */

struct lpc_config {
	struct device *host;
	struct irq_line isa;           /* of whatever line: its gsi is filled in */
	struct irq_line pci[PCI_INTX]; /* the same pins at the IOAPIC */
	uint16_t pm;                   /* where ACPI's ports are */
};

extern const struct device_model lpc_model;

/* An irq_line's set: pin n, of PIRQA to PIRQD. Any thread. */
void lpc_pirq(void *lpc, unsigned n, bool level);

#endif
