/* SPDX-License-Identifier: MIT */
/* What is on the bus, for who asks from outside (pci.h's pci_look()). The guest notices nothing of it. */
#include "base/bytes.h"
#include "base/scoped.h"
#include "dev/pci/private.h"

static void look_at_bar(struct pci_facts_bar *facts, const struct pci_bar *bar)
{
	*facts = (struct pci_facts_bar){
		.addr = bar->mapped ? bar->addr : UINT64_MAX, .size = bar->size, .io = bar->io, .wide = bar->wide, .prefetch = bar->prefetch,
	};
}

static void look_at(struct pci_facts *facts, const struct pci_function *fn)
{
	*facts = (struct pci_facts){
		.name = fn->name, .slot = PCI_SLOT(fn->devfn), .function = fn->devfn & 7, .pin = fn->pin, .line = fn->config[PCI_LINE], .vendor = fn->vendor,
		.device = fn->device, .sub_vendor = fn->sub_vendor, .sub_device = fn->sub_device, .class = (uint16_t)(fn->class_code >> 8),
	};
	for (unsigned n = 0; n < PCI_BARS; n++)
		look_at_bar(&facts->bars[n], &fn->bars[n]);
	if (fn->bridge)
		pci_port_facts(fn->bridge, facts);
	if (fn->port) {
		facts->bus = fn->port->fn.config[PCI_SECONDARY];
		facts->above = fn->port->fn.devfn;
	}
}

/* What a port has no power for is not found. */
static unsigned look_behind(const struct pci_port *port, struct pci_facts *facts, unsigned n, unsigned max)
{
	for (unsigned i = 0; i < PCI_BELOW; i++)
		if (port->below[i] && pci_port_shows(port) && n++ < max)
			look_at(&facts[n - 1], port->below[i]);
	return n;
}

unsigned pci_look(struct device *dev, struct pci_facts *facts, unsigned max)
{
	struct pci_host *host = (struct pci_host *)dev;
	unsigned n = 0;

	scoped_lock(&dev->lock);
	for (unsigned i = 0; i < PCI_DEVFNS; i++) {
		if (!host->functions[i])
			continue;
		if (n++ < max)
			look_at(&facts[n - 1], host->functions[i]);
		if (host->functions[i]->bridge)
			n = look_behind(host->functions[i]->bridge, facts, n, max);
	}
	return n;
}
