/* SPDX-License-Identifier: MIT */
/*
 * Memory that machines share: one that was restored has its memory in its file, one that was forked in what had
 * been the other's RAM; its own memory is for pages that have been written since (softkvm.h: layers).
 *
 *	rc = ram_layers_add(m, fd, at, &err);           // layer 1, 2, ..., before the VM is opened
 *	m->ram.layers->where[page] = 1;                 // for each page that is there
 *	rc = ram_layers_open(m, &err);                  // after it was
 *
 * Devices come by way of guest_range(), which takes the pages out of the layers first.
 */
#ifndef MACHINE_LAYER_H
#define MACHINE_LAYER_H

#include <stdint.h>

struct err;
struct machine;

#define RAM_LAYERS_MAX 31 /* softkvm.h */
#define RAM_PAGE       4096u

struct ram_layer {
	int fd;
	uint64_t at;         /* RAM begins at this byte of it */
	const uint8_t *base; /* all of RAM, mapped */
};

struct ram_layers {
	unsigned n;
	struct ram_layer layer[RAM_LAYERS_MAX];
	_Atomic uint8_t *where; /* a byte each page: the number of the layer where it was at first; 0 once it is known to be its own */
};

/* One more, made of a file whose descriptor stays the caller's. For an engine that has layers. */
int ram_layers_add(struct machine *m, int fd, uint64_t at, struct err *err);

/* Tells the engine of a VM that was just made, or of slots that were. Nothing, if there are no layers; here and below. */
int ram_layers_open(struct machine *m, struct err *err);

/* The layer of each page of RAM now, or 0; NULL if there are none, or no memory. To be freed. */
uint8_t *ram_layers_now(const struct machine *m);

/* The bytes of a page, by such a map; NULL: all are its own. */
const uint8_t *ram_layers_page(const struct machine *m, const uint8_t *where, uint64_t page);

/* The layers that n pages are in, a bit each from 1. */
uint32_t ram_layers_in(const uint8_t *where, uint64_t page, uint64_t n);

/* Brings n pages at once, not one by one. -EFAULT: a layer's file has been cut, and a look at them would end us. */
int ram_layers_bring(const struct machine *m, const uint8_t *where, uint64_t page, uint64_t n,
		     struct err *err);

/* The machine has none any more: its RAM was cleared, or all of it is in other layers. */
void ram_layers_drop(struct machine *m);

#endif
