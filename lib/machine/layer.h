/* SPDX-License-Identifier: MIT */
/*
 * A machine that was restored has its memory in its file, and its own memory only for pages that have been
 * written since (softkvm.h: layers).
 *
 *	rc = ram_layer_add(m, fd, at, pages, &err);     // before the VM is opened
 *	rc = ram_layer_open(m, &err);                   // after
 *
 * Devices come by way of guest_range(), which takes the pages out of the layer first.
 */
#ifndef MACHINE_LAYER_H
#define MACHINE_LAYER_H

#include <stdint.h>

struct err;
struct machine;
struct map_ram;

/* The file has all of RAM from byte `at` on, of which the pages of the bitmap (one bit each) are the machine's until they
 * are written. The bitmap is malloc()'s, and taken over. For an engine that has layers. */
int ram_layer_add(struct machine *m, int fd, uint64_t at, uint64_t *pages, struct err *err);

/* Tells the engine of a VM that was just made. Nothing, if there is no layer; here and below. */
int ram_layer_open(struct machine *m, struct err *err);

/* 1 for each page of RAM that is in the layer, else 0; NULL if there is none, or no memory. To be freed. */
uint8_t *ram_layer_pages(const struct machine *m);

/* The bytes that the layer has for a page. */
const uint8_t *ram_layer_page(const struct map_ram *ram, uint64_t page);

/* The machine has none any more: its RAM was cleared. */
void ram_layer_drop(struct machine *m);

#endif
