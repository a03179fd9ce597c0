/* SPDX-License-Identifier: MIT */
/*
 * The files that a guest knows: FUSE calls each by a number, from the first time that its name is
 * looked up until the guest forgets it.
 *
 *	struct node *n = nodes_get(t, parent, "name", &stx);      looked up once more
 *	rc = nodes_dir(t, n);                                      a descriptor of a directory
 *	rc = nodes_where(t, n, &w);                                where a file is: a directory and a name in it
 *	nodes_forget(t, n, 1);
 *
 * A node is a name in a parent, and which file that was: device, inode, time of birth. No file is
 * open for it, for a guest can know a million. So each use walks: from the next directory above
 * that is open, name by name, and looks whether it is that file still. What was renamed by somebody
 * else, or replaced, is not found then: -ESTALE, and the guest looks it up again.
 *
 * No way leads out. A name is one component, never "." or "..", and no symbolic link is followed
 * (O_NOFOLLOW, AT_SYMLINK_NOFOLLOW): what they mean is for the guest to find out, in its own tree.
 * There is nothing here that openat2() would add.
 *
 * All numbers that a guest says are checked by nodes_find(). All memory is bounded: NODES_MAX
 * nodes, DIRS_MAX open directories.
 */
#ifndef SHARE_NODES_H
#define SHARE_NODES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#define NODES_MAX (1u << 20)
#define DEPTH_MAX 1024u /* directories one in the other */
#define ROOT      1u    /* its number, in FUSE, too */

struct handle;

/* Which file. */
struct identity {
	uint64_t dev, ino, born; /* born: 0 where the file system does not know */
};

struct node {
	struct identity is;
	uint64_t lookups;       /* that the guest has not forgotten; 0 and no holds: the node is free */
	char *name;             /* in its parent */
	uint32_t parent;        /* 0: nowhere any more */
	uint32_t holds;         /* children, and open handles */
	uint32_t next;          /* of the same bucket, or the next free one */
	uint32_t generation;
	int dir;                /* its place among the open directories; -1: it is not open */
	bool known;             /* `is` says which file it is; false: it was loaded, and is what has its name */
	struct handle *handles; /* files that are open */
};

struct nodes;

/* Of a directory that is open, O_PATH, and stays the caller's. NULL: no memory. */
struct nodes *nodes_create(int root, unsigned dirs_max);
void nodes_destroy(struct nodes *t);

/* All but the root are forgotten. */
void nodes_clear(struct nodes *t);

uint32_t nodes_id(const struct nodes *t, const struct node *n);

/* NULL: the guest does not know that. */
struct node *nodes_find(const struct nodes *t, uint64_t id);

/* The node of a file that is there by this name, which was looked up once more. NULL: there are too many. */
struct node *nodes_get(struct nodes *t, struct node *parent, const char *name, const struct statx *stx);

/* Its name is gone: -ESTALE from now on, unless it is looked up by another. `last`: so is the file. */
void nodes_unname(struct nodes *t, struct node *parent, const char *name, const struct statx *stx, bool last);

void nodes_forget(struct nodes *t, struct node *n, uint64_t lookups);
void nodes_hold(struct node *n);
void nodes_release(struct nodes *t, struct node *n);

/* A directory's descriptor (O_PATH), which is open until the next call for another node. Or -errno. */
int nodes_dir(struct nodes *t, struct node *n);

/* Where a node is: a name in a directory. Of the root "", for which calls need AT_EMPTY_PATH. */
struct where {
	int dir;
	const char *name;
};

/* 0 or -errno. What is there is not looked at. */
int nodes_where(struct nodes *t, struct node *n, struct where *w);

/* Whether this is the node's file. */
bool nodes_is(struct nodes *t, struct node *n, const struct statx *stx);

/* What is known of a file by its name; AT_EMPTY_PATH may be among the flags. 0 or -errno. */
int stat_at(int dir, const char *name, int flags, struct statx *stx);

/* One component, not "." or "..". */
bool is_name(const char *name);

/* -- Saved sessions ------------------------------------------------------------------------ */

/* A node as it was, with its number; a parent that is not there yet will be. 0 or -EINVAL. */
int nodes_load(struct nodes *t, uint32_t id, const struct node *as, const char *name);

/* When all are there: 0, or -EINVAL for a parent that is none. `elsewhere`: the root is another directory than it was. */
int nodes_loaded(struct nodes *t, bool elsewhere);

/* The next node behind number `id`, or NULL. */
struct node *nodes_next(const struct nodes *t, uint32_t id);

#endif
