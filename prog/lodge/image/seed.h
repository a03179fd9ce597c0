/* SPDX-License-Identifier: MIT */
/*
 * A seed: a small disk with files, by which a guest's first boot learns who it is (cloud-init's data source NoCloud).
 *
 *	struct seed_file files[] = {{"user-data", bytes, len}, ...};
 *	size_t len = seed_size(files, n);
 *
 *	seed_make(files, n, image);              `len` bytes
 *
 * It is a FAT12 file system with the label cidata (ECMA-107), names as VFAT has them, and depends on nothing but the files.
 */
#ifndef LODGE_IMAGE_SEED_H
#define LODGE_IMAGE_SEED_H

#include <stddef.h>
#include <stdint.h>

#define SEED_FILES_MAX 8
#define SEED_NAME_MAX  26u         /* bytes of ASCII: two entries of a directory for the long name */
#define SEED_FILE_MAX  (1u << 20) /* bytes */

struct seed_file {
	const char *name;
	const void *bytes;
	size_t len;
};

/* Of the image; 0: too many files, too long a name, or too large a file. */
size_t seed_size(const struct seed_file *files, unsigned n);

/* Fills an image of that size, which is zeros. */
void seed_make(const struct seed_file *files, unsigned n, uint8_t *image);

#endif
