/* SPDX-License-Identifier: MIT */
/*
 * A file that is under its name whole, or not at all: there is what was there before.
 *
 *	rc = newfile_open(&n, "vm.lodge", &err);        n.fd is empty
 *	... write to it ...
 *	rc = newfile_publish(&n, &err);                 lasting, and under its name
 *	newfile_close(&n);                              if not published: nothing is left of it
 */
#ifndef LODGE_NEWFILE_H
#define LODGE_NEWFILE_H

#include <limits.h>

struct err;

struct newfile {
	int fd, dir;
	char name[NAME_MAX + 1];      /* in dir */
	char temporary[NAME_MAX + 1]; /* what it is called until then; "": it has no name */
};

/* Where `path` leads, if it is a link. Readable for this user alone. */
int newfile_open(struct newfile *n, const char *path, struct err *err);
int newfile_publish(struct newfile *n, struct err *err);
void newfile_close(struct newfile *n);

#endif
