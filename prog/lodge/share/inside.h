/* SPDX-License-Identifier: MIT */
/* The inside of a share, for the files of this directory. */
#ifndef SHARE_INSIDE_H
#define SHARE_INSIDE_H

#include "nodes.h"
#include "share.h"

#define HANDLES_MAX 4096u

/* A file or directory that the guest has open. Its number is its place, from 1. */
struct handle {
	int fd;              /* -1: it was open, and cannot be opened again */
	int flags;           /* it was opened with */
	uint32_t node;       /* 0: the handle is free */
	bool is_dir;
	uint64_t at;         /* of a directory: what it says next */
	struct handle *next; /* of the same file */
};

struct share {
	int root;
	bool readonly, begun; /* begun: the driver has said FUSE_INIT */
	struct nodes *nodes;
	unsigned n_handles; /* there may be */
	struct handle handles[HANDLES_MAX + 1];
};

/* Opens a node's file or directory: a descriptor, or -errno. */
int open_node(struct share *s, struct node *n, int flags, bool is_dir);

/* Puts it into place `i`, or in the first free one, if that is 0: its number, or -ENFILE. */
int add_handle(struct share *s, unsigned i, struct node *n, int fd, int flags, bool is_dir);

/* Forgets all that the guest knows. */
void share_clear(struct share *s);

#endif
