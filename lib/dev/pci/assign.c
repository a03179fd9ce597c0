/* SPDX-License-Identifier: MIT */
/*
 * What firmware does to BARs: gives each an address, aligned to its size, in the
 * windows that the board has for them, and switches decoding on. A kernel that is
 * loaded without firmware finds the machine as if there had been one.
 *
 * A function of which a BAR fits nowhere keeps its decoding off; it is the kernel's to
 * place. Expansion ROMs stay off, as firmware leaves them when it has copied them.
 */
#include "base/bytes.h"
#include "base/macros.h"
#include "dev/pci/msix.h"
#include "dev/pci/private.h"

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
	uint64_t io, io_end, mem, mem_end, mem64, mem64_end;
};

static bool place_bar(struct space *space, struct pci_function *fn, unsigned n)
{
	const struct pci_bar *bar = &fn->bars[n];
	uint64_t addr;

	if (bar->size == 0)
		return true;
	if (bar->io)
		addr = take(&space->io, space->io_end, bar->size);
	else if (bar->wide && space->mem64)
		addr = take(&space->mem64, space->mem64_end, bar->size);
	else
		addr = take(&space->mem, space->mem_end, bar->size);
	put_bar(fn, n, addr);
	return addr != 0;
}

/* All BARs of a function, and the decoders for those it has. */
static void place(struct space *space, struct pci_function *fn)
{
	uint16_t command = 0;
	bool fits = true;

	for (unsigned n = 0; n < PCI_BARS; n++) {
		fits &= place_bar(space, fn, n);
		if (fn->bars[n].size)
			command |= fn->bars[n].io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	}
	le16_put(fn->config + PCI_COMMAND, fits ? command : 0);
	pci_update_decoders(fn);
}

void pci_forget(struct pci_function *fn)
{
	le16_put(fn->config + PCI_COMMAND, 0);
	fn->config[PCI_LINE] = 0;
	pci_update_decoders(fn);
	if (fn->msix)
		msix_reset(fn->msix);
	for (unsigned n = 0; n < PCI_BARS; n++)
		if (fn->bars[n].size)
			put_bar(fn, n, 0);
	le32_put(fn->config + PCI_ROM_BASE, 0);
}

void pci_forget_locked(struct pci_host *host)
{
	pci_each(host, pci_forget);
}

void pci_assign_locked(struct pci_host *host)
{
	const struct pci_host_config *c = &host->config;
	struct space space = {
		.io = c->io_base, .io_end = c->io_base + c->io_size,
		.mem = c->mem_base, .mem_end = c->mem_base + c->mem_size,
		.mem64 = c->mem64_base, .mem64_end = c->mem64_base + c->mem64_size,
	};

	pci_forget_locked(host);
	for (unsigned i = 0; i < PCI_DEVFNS; i++)
		if (host->functions[i])
			place(&space, host->functions[i]);
}
