/* SPDX-License-Identifier: MIT */
/*
 * Memory that guests share: a machine that was restored, or forked, has its memory in a file, or in
 * another's, and its own memory only for pages that it has written since (softkvm.h: layers).
 *
 *	rc = ram_layers_add(m, fd, at, pages, &err);      // before the VM is opened
 *	rc = ram_layers_open(m, &err);                    // after
 *
 * Devices come by way of guest_range(), which takes the pages out of the layers first.
 */
#ifndef MACHINE_LAYERS_H
#define MACHINE_LAYERS_H

#include <stdint.h>

struct err;
struct guest_mem;
struct machine;
struct map_ram;
struct vm;

/* So many machines of machines can be forked, or restored, one from another. */
#define RAM_LAYERS_MAX 31

/* The file has all of RAM from byte `at` on, of which the pages of the bitmap (one bit each) are the machine's until they
 * are written. -EOPNOTSUPP if the engine cannot do it. */
int ram_layers_add(struct machine *m, int fd, uint64_t at, const uint64_t *pages, struct err *err);

/* Tells the engine of a VM that was just made. */
int ram_layers_open(struct machine *m, struct err *err);

/* The layer of each page of RAM, from 1, or 0; NULL if there are none, or no memory. To be freed. */
uint8_t *ram_layers_of(const struct machine *m);

/* The page's bytes in that layer. */
const uint8_t *ram_layers_page(const struct map_ram *ram, unsigned layer, uint64_t page);

/* The machine has none any more: its RAM was cleared. */
void ram_layers_drop(struct machine *m);

#endif
