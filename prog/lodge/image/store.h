/* SPDX-License-Identifier: MIT */
/*
 * Where images are: ~/.local/share/lodge/images, as NAME.qcow2, or NAME.img if raw. There is nothing else about them, so a file that is put
 * there is an image, and one is removed by who removes the file. Guests read them only (disk.h, throw_away), so both may be
 * done while some run.
 */
#ifndef LODGE_IMAGE_STORE_H
#define LODGE_IMAGE_STORE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/disk.h"
#include "prog/lodge/place.h"

struct err;

struct image_facts {
	char name[PLACE_NAME_MAX];
	char path[PATH_MAX];
	enum disk_format format;
	uint64_t size, stored; /* the disk's, the file's */
	int64_t made;          /* seconds since 1970 */
	char why[160];         /* not "": it cannot be opened */
};

/* The directory; it is there. */
int store_find(char dir[PATH_MAX], struct err *err);

/* Whether there is an image of that name, and its file. */
bool store_has(const char *name, char path[PATH_MAX]);

/* All of them, by name. free() *facts; how many, or -errno. */
int store_list(struct image_facts **facts, struct err *err);

/* One. -ENOENT with a sentence. */
int store_look(struct image_facts *facts, const char *name, struct err *err);

/* Waits until nobody else makes the image of that name; it stays so until the descriptor is closed. */
int store_lock(const char *name, struct err *err);

/* A directory under ~/.cache/lodge of this process alone; others of that kind that nobody has any more are removed. `lock` is the
 * descriptor that holds it. */
int store_work(char dir[PATH_MAX], int *lock, struct err *err);

/* With all in it. */
void store_remove_dir(const char *dir);

#endif
