/* SPDX-License-Identifier: MIT */
/*
 * What firmware does to BARs: gives each an address, aligned to its size, in the windows that
 * the board has for them. A kernel that is loaded without firmware finds them so, as if there
 * had been one; decoding is off, which is the driver's to switch on.
 *
 * A BAR that fits nowhere gets address 0 and stays the kernel's to place.
 */
#include "base/bytes.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "dev/pci/msix.h"
#include "dev/pci/private.h"

#define IO_BASE 0xc000u
#define IO_END  0x10000u

/* Takes size bytes, aligned to size, from [*next, end); 0 if they do not fit. */
static uint64_t take(uint64_t *next, uint64_t end, uint64_t size)
{
	uint64_t at = align_up(*next, size);

	if (at < *next || at > end || end - at < size)
		return 0;
	*next = at + size;
	return at;
}

static void put_bar(struct pci_function *fn, unsigned n, uint64_t addr)
{
	uint32_t flags = le32_get(fn->config + pci_bar_at(n)) & 0xf;

	le32_put(fn->config + pci_bar_at(n), (uint32_t)addr | flags);
	if (fn->bars[n].wide)
		le32_put(fn->config + pci_bar_at(n + 1), (uint32_t)(addr >> 32));
}

/* What is still free of the three windows. */
struct space {
	uint64_t io, mem, mem_end, mem64, mem64_end;
};

static void place_bar(struct space *space, struct pci_function *fn, unsigned n)
{
	const struct pci_bar *bar = &fn->bars[n];
	uint64_t addr;

	if (bar->size == 0)
		return;
	if (bar->io)
		addr = take(&space->io, IO_END, bar->size);
	else if (bar->wide && space->mem64)
		addr = take(&space->mem64, space->mem64_end, bar->size);
	else
		addr = take(&space->mem, space->mem_end, bar->size);
	put_bar(fn, n, addr);
}

static void forget(struct pci_function *fn)
{
	le16_put(fn->config + PCI_COMMAND, 0);
	fn->config[PCI_LINE] = 0;
	pci_update_decoders(fn);
	if (fn->msix)
		msix_reset(fn->msix);
}

void pci_assign_locked(struct pci_host *host)
{
	const struct pci_host_config *c = &host->config;
	struct space space = {
		.io = IO_BASE,
		.mem = c->mem_base, .mem_end = c->mem_base + c->mem_size,
		.mem64 = c->mem64_base, .mem64_end = c->mem64_base + c->mem64_size,
	};

	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		struct pci_function *fn = host->slots[slot];

		if (!fn)
			continue;
		forget(fn);
		for (unsigned n = 0; n < PCI_BARS; n++)
			place_bar(&space, fn, n);
	}
}

void pci_host_assign(struct device *dev)
{
	scoped_lock(&dev->lock);
	pci_assign_locked((struct pci_host *)dev);
}
