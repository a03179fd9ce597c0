/* SPDX-License-Identifier: MIT */
/* A disk image from the parts that a recipe has made (lodge-image-debian says which). */
#ifndef LODGE_IMAGE_DISK_H
#define LODGE_IMAGE_DISK_H

#include <stdint.h>

struct err;

#define PARTS_SIZE_LEAST (1ull << 30)
#define PARTS_SIZE_MOST  (16ull << 40)

/* How long the root partition is of a disk of `size` bytes, which is whole MiB. */
uint64_t parts_root_size(uint64_t size);

/* Writes the disk as qcow2 into `fd`, an empty file, from the parts in `dir`. The same parts give the same bytes. */
int parts_write(const char *dir, int fd, uint64_t size, struct err *err);

#endif
