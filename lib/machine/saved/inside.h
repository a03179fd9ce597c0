/* SPDX-License-Identifier: MIT */
/* A saved machine that is open, for the files of this directory and who makes a machine of it. */
#ifndef MACHINE_SAVED_INSIDE_H
#define MACHINE_SAVED_INSIDE_H

#include <stddef.h>
#include <stdint.h>

#include "machine/boot/blob.h"
#include "machine/machine.h"
#include "machine/saved.h"

struct saved {
	struct blob file;
	uint64_t description_len, sections_len, memory_at, memory_len, body_sum;
	uint8_t *body; /* description, sections, checksums of memory */
	size_t body_len;
	struct json_value *description;
	struct saved_disk disks[MACHINE_DISKS_MAX];
	unsigned n_disks;
};

/* Calls take() for each piece of guest memory that the file has, in order, until one returns other than 0. What
 * the file system does not know as a hole is a piece, too. */
int saved_memory(const struct saved *s, int (*take)(void *ctx, uint64_t at, uint64_t len),
		 void *ctx);

#endif
