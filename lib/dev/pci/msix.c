/* SPDX-License-Identifier: MIT */
/*
 * MSI-X, after the PCI Local Bus Specification 3.0, section "MSI-X Capability and Table
 * Structures".
 *
 *	BAR +0      table, 16 bytes a vector: address (8), data (4), control (4, bit 0 masks)
 *	BAR +800    pending bits, one a vector, read-only
 *
 *	capability: id 11, next, control (15 enable, 14 mask all, 10..0 size - 1),
 *	            table offset | BAR, PBA offset | BAR
 *
 * A vector that is notified while it, or the function, is masked becomes pending; when
 * the last mask falls the message is sent and the bit clears. Vectors come up masked.
 *
 * Table entries are accessed by 4 or 8 bytes; the bus hands us what the guest used, and
 * we take 4 at a time.
 */
#include "dev/pci/msix.h"

#include "base/bytes.h"
#include "base/scoped.h"

#include <string.h>

#define PBA_AT 0x800u

#define CONTROL        2 /* from the capability's start */
#define CONTROL_ENABLE 0x8000u
#define CONTROL_MASK   0x4000u

#define ENTRY_DATA    8
#define ENTRY_CONTROL 12
#define ENTRY_MASKED  1u

static uint64_t bar_read(void *msix, uint64_t at, unsigned width)
{
	return msix_read(msix, at, width);
}

static void bar_write(void *msix, uint64_t at, unsigned width, uint64_t value)
{
	msix_write(msix, at, width, value);
}

void msix_init(struct msix *msix, struct pci_function *fn, unsigned n, unsigned bar)
{
	pthread_mutex_init(&msix->lock, NULL);
	msix->fn = fn;
	msix->n = n < MSIX_VECTORS_MAX ? n : MSIX_VECTORS_MAX;
	fn->msix = msix;
	fn->bars[bar] = (struct pci_bar){
		.size = MSIX_BAR_SIZE,
		.read = bar_read,
		.write = bar_write,
		.ctx = msix,
	};
	msix_reset(msix);
}

int msix_add_cap(struct msix *msix, unsigned bar, struct err *err)
{
	uint8_t body[10];
	int cap;

	le16_put(body, (uint16_t)(msix->n - 1));
	le32_put(body + 2, bar);
	le32_put(body + 6, PBA_AT | bar);
	cap = pci_add_cap(msix->fn, PCI_CAP_MSIX, body, sizeof(body), err);
	if (cap < 0)
		return cap;
	msix->cap = (unsigned)cap;
	le16_put(msix->fn->writable + msix->cap + CONTROL,
		 CONTROL_ENABLE | CONTROL_MASK);
	return 0;
}

void msix_fini(struct msix *msix)
{
	if (msix->fn)
		pthread_mutex_destroy(&msix->lock);
}

void msix_reset(struct msix *msix)
{
	scoped_lock(&msix->lock);
	memset(msix->table, 0, sizeof(msix->table));
	for (unsigned v = 0; v < msix->n; v++)
		msix->table[v * 16 + ENTRY_CONTROL] = ENTRY_MASKED;
	msix->pending = 0;
	msix->enabled = msix->masked = false;
	if (msix->cap)
		le16_put(msix->fn->config + msix->cap + CONTROL,
			 (uint16_t)(msix->n - 1));
}

bool msix_enabled(struct msix *msix)
{
	scoped_lock(&msix->lock);
	return msix->enabled;
}

/* -- Messages ---------------------------------------------------------------------- */

static bool is_masked(const struct msix *msix, unsigned vector)
{
	return msix->masked ||
	       (msix->table[vector * 16 + ENTRY_CONTROL] & ENTRY_MASKED);
}

static void send_locked(struct msix *msix, unsigned vector)
{
	const uint8_t *entry = msix->table + vector * 16;

	pci_msi_send(msix->fn, le64_get(entry), le32_get(entry + ENTRY_DATA));
}

static void send_pending_locked(struct msix *msix)
{
	for (unsigned v = 0; v < msix->n; v++) {
		uint64_t bit = UINT64_C(1) << v;

		if (!(msix->pending & bit) || !msix->enabled || is_masked(msix, v))
			continue;
		msix->pending &= ~bit;
		send_locked(msix, v);
	}
}

void msix_notify(struct msix *msix, unsigned vector)
{
	if (vector >= msix->n)
		return;
	scoped_lock(&msix->lock);
	if (!msix->enabled)
		return;
	if (is_masked(msix, vector))
		msix->pending |= UINT64_C(1) << vector;
	else
		send_locked(msix, vector);
}

static void read_control_locked(struct msix *msix)
{
	uint16_t control = le16_get(msix->fn->config + msix->cap + CONTROL);

	msix->enabled = control & CONTROL_ENABLE;
	msix->masked = control & CONTROL_MASK;
}

void msix_config_written(struct msix *msix)
{
	if (!msix->cap)
		return;
	scoped_lock(&msix->lock);
	read_control_locked(msix);
	send_pending_locked(msix);
}

void msix_loaded(struct msix *msix)
{
	scoped_lock(&msix->lock);
	read_control_locked(msix);
}

/* -- The BAR ----------------------------------------------------------------------- */

static uint32_t read_dword(const struct msix *msix, uint64_t at)
{
	if (at < msix->n * 16)
		return le32_get(msix->table + at);
	if (at >= PBA_AT && at < PBA_AT + 8)
		return (uint32_t)(msix->pending >> ((at - PBA_AT) * 8));
	return 0;
}

static void write_dword(struct msix *msix, uint64_t at, uint32_t value)
{
	if (at >= msix->n * 16)
		return;
	if (at % 16 == ENTRY_CONTROL)
		value &= ENTRY_MASKED;
	le32_put(msix->table + at, value);
	if (at % 16 == ENTRY_CONTROL)
		send_pending_locked(msix);
}

uint64_t msix_read(struct msix *msix, uint64_t at, unsigned width)
{
	uint64_t value;

	scoped_lock(&msix->lock);
	if (at % 4 + width > 4 && (at % 4 || width != 8))
		return UINT64_MAX;
	value = read_dword(msix, at & ~UINT64_C(3));
	if (width == 8)
		value |= (uint64_t)read_dword(msix, at + 4) << 32;
	return value >> (at % 4 * 8);
}

void msix_write(struct msix *msix, uint64_t at, unsigned width, uint64_t value)
{
	if (at % 4 || width < 4)
		return;
	scoped_lock(&msix->lock);
	write_dword(msix, at, (uint32_t)value);
	if (width == 8)
		write_dword(msix, at + 4, (uint32_t)(value >> 32));
}
