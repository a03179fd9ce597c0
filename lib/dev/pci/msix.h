/* SPDX-License-Identifier: MIT */
/*
 * MSI-X: a table of messages in a BAR, one for each thing a device has to say. See
 * msix.c.
 *
 *	msix_init(&nic->msix, &nic->fn, 3, 1);   // three vectors, table and PBA in BAR 1
 *	...
 *	if (msix_enabled(&nic->msix))
 *		msix_notify(&nic->msix, vector);
 */
#ifndef DEV_PCI_MSIX_H
#define DEV_PCI_MSIX_H

#include "dev/pci/function.h"

#include <pthread.h>

#define MSIX_VECTORS_MAX 64u
#define MSIX_BAR_SIZE    0x1000u
#define MSIX_NONE        0xffffu /* a vector number that says nothing */

struct msix {
	struct pci_function *fn;
	pthread_mutex_t lock; /* of all below; the innermost but for the engine's */
	unsigned n, cap;
	bool enabled, masked;
	uint8_t table[MSIX_VECTORS_MAX * 16];
	uint64_t pending; /* a bit for each vector that was masked when it was needed */
};

/* Its state inside the struct `type`, for the model's table. The function's capability says whether it is on. */
#define MSIX_STATE(type, msix) STATE_ARRAY(type, msix.table), STATE(type, msix.pending)

/* Before pci_add(): makes the BAR. After it: msix_add_cap(). */
void msix_init(struct msix *msix, struct pci_function *fn, unsigned n, unsigned bar);
int msix_add_cap(struct msix *msix, unsigned bar, struct err *err);
void msix_fini(struct msix *msix); /* one that was never made is fine */
void msix_reset(struct msix *msix); /* off, all vectors masked */

/* Whether the driver switched MSI-X on, and so the pin off. Any thread. */
bool msix_enabled(struct msix *msix);

/* Sends vector's message, or keeps it pending while it is masked. MSIX_NONE, or a
 * vector that does not exist: nothing. Any thread. */
void msix_notify(struct msix *msix, unsigned vector);

/* The host calls this after the guest wrote configuration space. */
void msix_config_written(struct msix *msix);

/* Configuration space and the table are loaded. Sends nothing. */
void msix_loaded(struct msix *msix);

/* BAR accesses, for a BAR that holds more than the table. */
uint64_t msix_read(struct msix *msix, uint64_t at, unsigned width);
void msix_write(struct msix *msix, uint64_t at, unsigned width, uint64_t value);

#endif
