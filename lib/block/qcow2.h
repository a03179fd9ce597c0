/* SPDX-License-Identifier: MIT */
/*
 * qcow2: an image that grows as it is written, with snapshots inside and another image behind, after QEMU's
 * docs/interop/qcow2.txt. Version 3 and version 2.
 *
 *	rc = qcow2_open(&node, &(struct qcow2_config){.file = file, .path = "root.qcow2"}, &err);
 *
 * The file is clusters of 512 bytes to 2 MiB. The first has the header. Two trees lead from it to all others:
 *
 *	header -> L1 table -> L2 tables -> clusters with the guest's data      where they are
 *	       -> refcount table -> refcount blocks                            how often each cluster is used
 *	       -> snapshot table -> an L1 table each
 *
 * A cluster that is used once may be written; one that is used more often belongs to a snapshot, too, and is copied
 * first. An entry of the active L1 and L2 tables says by a bit (COPIED) that what it leads to is used once.
 * We write that bit and never believe it: the refcount decides.
 *
 * The order of writes. The host's disk keeps what was flushed; of what was not, any part may be there after a crash, by
 * sectors. In every such state the image is whole, but for clusters that are counted and not used (leaks):
 *
 *	1. A cluster is counted, and its data is there, before anything leads to it. So: refcount blocks
 *	   and data, flush; refcount table, flush; L2 tables; flush; L1 table; flush.
 *	2. Nothing leads to a cluster any more before it is counted less: freed clusters wait (`frees`) for the flush of
 *	   the tables that led to them. Until then they are not used again.
 *	3. A new L2 table or refcount block is written before anything leads to it.
 *	4. Between 1 and 2 nothing else orders writes: a page of refcounts that has changed has only more than
 *	   is used, a page of an L2 table leads only to what is counted and there. So a page can be written at any time after the
 *	   flush that rule 1 asks for, and by sectors.
 *	5. What changes many refcounts and COPIED bits at once (snapshots) is built beside: new refcount blocks and
 *	   their table, new L2 tables and L1 table, new snapshot table, in clusters that are free. They are flushed, and one
 *	   write of the header's sector leads to all of them. Before it the image is as it was, after it as it is to be.
 *	6. The same for a refcount table that has become too small, by itself.
 *	7. Opening writes nothing. The first change strikes out features that we do not keep up (autoclear), flushed
 *	   before anything else is written.
 *
 * commit() (commit.c) is rules 1 and 2. Between two of them all changes of metadata are in the cache, which is bounded: when all
 * its pages have changed, that is a commit, too. What is read of a cluster is never another one's data:
 * a request that changes where a cluster is has it alone (claims, io.c).
 *
 * An image is hostile: every offset in it is checked where it is used (is_cluster(), entry_extent()), every size has a
 * bound where it is read (header.c), and what leads out of the file is not followed (image.c). An image that
 * contradicts itself is not written any more, and gets its `corrupt` bit.
 *
 * Left out: encryption, external data files, extended L2 entries, which are refused by name; dirty bitmaps, which
 * are struck out when the image is written, as their form demands; a dirty bit (lazy refcounts), with which an image can
 * be read and not written until a check has counted it. docs/qcow2.md says how all this is known to hold.
 */
#ifndef BLOCK_QCOW2_H
#define BLOCK_QCOW2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct node;

struct qcow2_config {
	struct node *file;    /* is taken over, whatever comes */
	struct node *backing; /* the same, or NULL: the image has none */
	bool readonly;
	bool unchecked;       /* its counts may be wrong, and it may be marked so: for qcow2_check() */
	const char *path;     /* for sentences */
	unsigned pages;       /* of metadata in memory, a power of two; 0: 2 MiB */
	const char *snapshot; /* readonly: what it was at that one, as qcow2_snapshot_apply_said() takes it; NULL: what it is */
	/* What a snapshot has, of a file that somebody else may write meanwhile: readonly. 0: what the disk is now. */
	struct qcow2_tree {
		uint64_t l1_at;
		uint32_t l1_n;
	} tree;
};

/* Whether a file's first bytes say that it is one. */
bool qcow2_is(struct node *file);

/* Name and format of the image behind it: "" if there is none. -EINVAL for what is no qcow2. */
int qcow2_backing(struct node *file, char name[1024], char format[16], struct err *err);

/* The node is the disk that the image has. 0 or -errno with a sentence. */
int qcow2_open(struct node **node, const struct qcow2_config *config, struct err *err);

/* A new image, in an empty file. `backing` may be NULL, and is a name; so is its format. */
struct qcow2_new {
	uint64_t size;         /* in bytes, a multiple of 512 */
	unsigned version;      /* 2 or 3 */
	unsigned cluster_bits; /* 9 to 21 */
	unsigned order;        /* refcounts of 2^order bits, 0 to 6 */
	bool lazy; /* says that others may keep counts up late, which we do not */
	bool zstd; /* what is compressed is, by that */
	const char *backing, *backing_format;
};

#define QCOW2_NEW(bytes) {.size = (bytes), .version = 3, .cluster_bits = 16, .order = 4}

/* Writes it. The file stays the caller's. */
int qcow2_create(struct node *file, const struct qcow2_new *new, struct err *err);

/* -- What it is, and other forms of it: no other request is under way ---------------------- */

struct qcow2_form {
	unsigned version, order;
	uint64_t cluster;
	bool zstd, dirty, corrupt, lazy;
};

/* Name and format of what is behind it, as it says; "": nothing is. */
int qcow2_backing_of(struct node *node, char name[1024], char format[16], struct err *err);

/* How it is written down. */
void qcow2_form(struct node *node, struct qcow2_form *form);

/* Compresses a cluster (behind the disk's end are zeros) into less than one; *len is 0 if that cannot be. Any thread. */
int qcow2_pack(struct node *node, const void *bytes, void *packed, size_t *len);

/* Writes what that has made of the cluster at `at`. Any thread. */
int qcow2_write_packed(struct node *node, uint64_t at, const void *packed, size_t len);

/* All clusters have a place in the file, and read as they did. `full`: of which the host has the room. */
int qcow2_allocate(struct node *node, bool full, struct err *err);

/* Nothing is its own any more: all is what is behind it, or zeros. */
int qcow2_empty(struct node *node, struct err *err);

/* Another image is behind it from here on, or none (NULL). What is open behind it stays. */
int qcow2_set_backing(struct node *node, const char *name, const char *format, struct err *err);

/* What a check found, and what of it was mended. Counts of clusters, or of entries that lead nowhere. */
struct qcow2_check {
	uint64_t corruptions, leaks, corruptions_fixed, leaks_fixed;
	uint64_t end; /* first byte of the file behind all that is used */
	uint64_t total, allocated, fragmented, packed; /* of the disk's clusters */
};

enum qcow2_mend { QCOW2_MEND_NOTHING, QCOW2_MEND_LEAKS, QCOW2_MEND_ALL };

/* Looks at all of an image but the data, and mends it if it is to, which never makes it worse. `say` hears of the first
 * faults, a line each; or NULL. 0 if it came to its end, whatever it found. */
int qcow2_check(struct node *node, enum qcow2_mend mend, struct qcow2_check *found, void (*say)(const char *line),
		struct err *err);

/* -- Snapshots: no other request is under way -------------------------------------------- */

/* What the disk is now, under a name that it has not. */
int qcow2_snapshot_create(struct node *node, const char *name, struct err *err);

/* It is again what it was then. -ENOENT: there is none of that name. */
int qcow2_snapshot_apply(struct node *node, const char *name, struct err *err);
int qcow2_snapshot_delete(struct node *node, const char *name, struct err *err);

/* The same by a word that a person says: snapshot.id=ID, snapshot.name=NAME, or one of both; what it is first is what qemu-img takes
 * it for: to apply, an id; to delete, a name. */
int qcow2_snapshot_apply_said(struct node *node, const char *word, struct err *err);
int qcow2_snapshot_delete_said(struct node *node, const char *word, struct err *err);

/* Where it is, for as long as it is there. */
int qcow2_snapshot_tree(struct node *node, const char *name, struct qcow2_tree *tree, struct err *err);

/* How many there are, and what the first, second, ... is called. */
unsigned qcow2_snapshots(struct node *node);
const char *qcow2_snapshot_name(struct node *node, unsigned i);

/* More of it. Strings are the node's, and a stranger's. */
struct qcow2_snapshot {
	const char *id, *name;
	uint64_t disk_size; /* 0: nobody knows */
	uint32_t seconds, ns; /* when, since 1970 */
	uint64_t clock;     /* the guest's, in ns */
	uint64_t state_len; /* bytes of a machine's state that are with it */
	uint64_t icount;    /* UINT64_MAX: none */
};

/* Of the first, second, ... one. */
void qcow2_snapshot_look(struct node *node, unsigned i, struct qcow2_snapshot *snapshot);

#endif
