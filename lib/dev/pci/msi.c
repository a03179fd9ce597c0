/* SPDX-License-Identifier: MIT */
/*
 * MSI, after the PCI Local Bus Specification 3.0, section "MSI Capability Structure": the form with 64 bits of address, one message, and
 * no masks.
 *
 *	capability: id 5, next, control (7: 64 bits, 0: enable), address (8), data (2)
 *
 * All of it is configuration space, which the host bridge's lock for pins guards.
 */
#include "dev/pci/msi.h"

#include "base/bytes.h"
#include "base/scoped.h"
#include "dev/pci/private.h"

#include <string.h>

#define CONTROL 2 /* from the capability's start */
#define ADDRESS 4
#define DATA    12

#define CONTROL_ENABLE 0x01u
#define CONTROL_WIDE   0x80u

int msi_add_cap(struct pci_function *fn, struct err *err)
{
	uint8_t body[12] = {CONTROL_WIDE};
	int cap = pci_add_cap(fn, PCI_CAP_MSI, body, sizeof(body), err);

	if (cap < 0)
		return cap;
	fn->writable[cap + CONTROL] = CONTROL_ENABLE;
	le64_put(fn->writable + cap + ADDRESS, ~UINT64_C(3));
	le16_put(fn->writable + cap + DATA, 0xffff);
	return cap;
}

void msi_reset(struct pci_function *fn, unsigned cap)
{
	scoped_lock(&pci_host_of(fn)->intx_lock);
	fn->config[cap + CONTROL] = CONTROL_WIDE;
	memset(fn->config + cap + ADDRESS, 0, 10);
}

static bool read_message(struct pci_function *fn, unsigned cap, uint64_t *addr, uint32_t *data)
{
	scoped_lock(&pci_host_of(fn)->intx_lock);
	*addr = le64_get(fn->config + cap + ADDRESS);
	*data = le16_get(fn->config + cap + DATA);
	return fn->config[cap + CONTROL] & CONTROL_ENABLE;
}

bool msi_enabled(struct pci_function *fn, unsigned cap)
{
	uint64_t addr;
	uint32_t data;

	return read_message(fn, cap, &addr, &data);
}

bool msi_notify(struct pci_function *fn, unsigned cap)
{
	uint64_t addr;
	uint32_t data;

	if (!read_message(fn, cap, &addr, &data))
		return false;
	pci_msi_send(fn, addr, data);
	return true;
}
