/* SPDX-License-Identifier: MIT */
/* An image by a recipe. */
#ifndef LODGE_IMAGE_BUILD_H
#define LODGE_IMAGE_BUILD_H

#include <stdint.h>

struct err;

#define BUILD_SIZE (8ull << 30)

struct build {
	const char *name;   /* the image's */
	const char *recipe; /* "debian", or a program's path */
	const char *suite, *include; /* NULL: the recipe knows */
	uint64_t size;
};

/* Makes it, in the place of one that is there. 0 or -errno. */
int build_run(const struct build *b, struct err *err);

#endif
