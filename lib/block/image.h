/* SPDX-License-Identifier: MIT */
/*
 * From an image's name to a node: its file, locked, its format, and what is behind it. lib/block's own.
 */
#ifndef BLOCK_IMAGE_H
#define BLOCK_IMAGE_H

#include <stdint.h>

#include "block/disk.h"
#include "block/file.h"

struct err;
struct node;

struct image {
	struct node *node;
	int fd;                  /* of its file: the node's */
	int written;             /* of the qcow2 file that is written, the same or another one; -1: there is none */
	enum disk_format format;
	uint32_t block;          /* preferred I/O size */
	unsigned images;         /* it and those behind it */
};

/* With its lock, of which `part` is taken if it is written. The node is whole or NULL. */
int image_open(struct image *image, const struct disk_config *config, enum file_part part, struct err *err);

#endif
