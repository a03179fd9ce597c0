/* SPDX-License-Identifier: MIT */
/*
 * A message of the guest's, for those who serve it: requests.c has the list of them and those of the session, names.c, attributes.c and files.c the
 * others, handles.c what they have in common.
 */
#ifndef SHARE_REQUEST_H
#define SHARE_REQUEST_H

#include "inside.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/stat.h>

struct request {
	struct share *s;
	struct node *node;
	const uint8_t *body;  /* of `len` bytes, at least those of the row; aligned as they came */
	size_t len;
	const char *name, *name2; /* that follow, of rows that have some */
	uint8_t *answer;      /* behind the header */
	size_t room;
};

static inline int cannot(void)
{
	return -errno;
}

/* -- handles.c ------------------------------------------------------------------------------ */

void drop_handle(struct share *s, struct handle *h);
struct handle *find_handle(struct share *s, uint64_t number, bool is_dir);

/* The descriptor of a file that the guest has open, or -errno; any one of a file whose name is gone, or -1. */
int file_of(struct share *s, uint64_t number);
int open_file(const struct node *n);

/* Of the flags that a guest opens with those that mean something here. */
int our_flags(uint32_t flags);

int stat_node(struct share *s, struct node *n, struct statx *stx);

/* Answers: of a file; of one that was found or made by its name, which is in *made, if that is wanted. */
int answer_attr(struct request *r, const struct statx *stx);
int answer_entry(struct request *r, const char *name, struct node **made);

/* -- Messages: names.c, attributes.c, files.c -------------------------------------------------- */

int do_lookup(struct request *r), do_readlink(struct request *r), do_symlink(struct request *r),
	do_mknod(struct request *r), do_mkdir(struct request *r), do_unlink(struct request *r),
	do_rmdir(struct request *r), do_rename(struct request *r), do_rename2(struct request *r),
	do_link(struct request *r);
int do_getattr(struct request *r), do_setattr(struct request *r);
int do_open(struct request *r), do_opendir(struct request *r), do_create(struct request *r),
	do_release(struct request *r), do_releasedir(struct request *r), do_flush(struct request *r),
	do_read(struct request *r), do_write(struct request *r), do_fsync(struct request *r),
	do_fsyncdir(struct request *r), do_fallocate(struct request *r), do_lseek(struct request *r),
	do_copy(struct request *r), do_readdir(struct request *r);

#endif
