/* SPDX-License-Identifier: MIT */
/*
 * What images can be had under which name: a table of ours, and before it the user's files, ~/.config/lodge/catalogue and
 * /etc/lodge/catalogue, a line each:
 *
 *	# NAME   HOW    FROM
 *	debian   build  debian bookworm                       the recipe, and its suite
 *	mine     build  /home/me/recipes/mine                  a program (lodge-image-debian says what it is to do)
 *	cloud    pull   https://example.org/disk.qcow2 SHA256   the sum may be left out
 */
#ifndef LODGE_IMAGE_CATALOGUE_H
#define LODGE_IMAGE_CATALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct err;

#define CATALOGUE_LINE 4096

struct catalogue_entry {
	char line[CATALOGUE_LINE]; /* cut into words */
	const char *name, *how, *from, *more; /* more: the suite or the sum; NULL */
	bool builds;
};

/* Takes a line apart. 1, 0 for one that says nothing, or -EINVAL with a sentence. */
int catalogue_parse(struct catalogue_entry *entry, const char *line, struct err *err);

/* 0, or -ENOENT with a sentence. */
int catalogue_find(struct catalogue_entry *entry, const char *name, struct err *err);

/* Each name once, the first that has it. A line that is none is an error. */
int catalogue_each(void (*each)(void *ctx, const struct catalogue_entry *entry), void *ctx, struct err *err);

#endif
