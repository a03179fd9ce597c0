/* SPDX-License-Identifier: MIT */
/*
 * From an image's name to a node: its file, locked, its format, and what is behind it. For lib/block, and for lodge-img, which
 * has images and no disks:
 *
 *	struct image image;
 *	rc = image_open(&image, &(struct disk_config){.path = "a.qcow2", .readonly = true}, FILE_ALL, IMAGE_ODD, &err);
 *	... image.node ...
 *	node_close(image.node);
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
	int fd;                  /* of its file: the node's; -1: it is on a server */
	int written;             /* of the qcow2 file that is written, the same or another one; -1: there is none */
	enum disk_format format;
	uint32_t block;          /* preferred I/O size */
	unsigned images;         /* it and those behind it */
};

enum {
	IMAGE_UNLOCKED = 1,  /* it takes no locks: somebody may write it meanwhile */
	IMAGE_BARE = 2,      /* what is behind it is not opened, and reads as zeros */
	IMAGE_UNCHECKED = 4, /* it may be damaged: for qcow2_check() */
	IMAGE_ODD = 8,       /* a raw one of any size, also of none, and whatever it begins with */
	IMAGE_ANYWHERE = 16, /* what is behind it may be in any directory */
};

/* With its lock, of which `part` is taken if it is written. `how`: of those above. The node is whole or NULL. */
int image_open(struct image *image, const struct disk_config *config, enum file_part part, unsigned how, struct err *err);

/* The whole name and the format of what is behind a qcow2 image, if we would open that; "": nothing is. */
int image_behind(const char *path, unsigned how, char real[], enum disk_format *format, struct err *err);

/* The same for a name that the image does not have yet. */
int image_may_have_behind(const char *path, const char *name, const char *format, unsigned how, char real[], struct err *err);

#endif
