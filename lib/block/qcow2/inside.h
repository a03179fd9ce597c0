/* SPDX-License-Identifier: MIT */
/*
 * The inside of a qcow2 node: see qcow2.h, which has the form, and the rules by which it is written.
 *
 *	header.c       what the first sector says, and whether we can do that
 *	cache.c        pages of metadata
 *	refcount.c     how often a cluster is used; which are free
 *	commit.c       the order of writes
 *	map.c          where a guest's cluster is
 *	io.c           requests
 *	compressed.c   clusters that are compressed
 *	snapshot.c     internal snapshots
 *	create.c       new images
 *	status.c       what it says of itself
 *	resize.c       another size, nothing of its own, all of it allocated
 *	backing.c      another image behind it
 *	check.c        what is used, beside what is counted
 *	repair.c       mends that
 *	bitmaps.c      what persistent bitmaps use of the file
 */
#ifndef BLOCK_QCOW2_INSIDE_H
#define BLOCK_QCOW2_INSIDE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "block/node.h"

struct err;

/* -- The form ------------------------------------------------------------------------ */

#define QCOW2_MAGIC 0x514649fbu

enum header_at {
	AT_MAGIC = 0, AT_VERSION = 4, AT_BACKING = 8, AT_BACKING_LEN = 16, AT_CLUSTER_BITS = 20,
	AT_SIZE = 24, AT_CRYPT = 32, AT_L1_N = 36, AT_L1 = 40, AT_TABLE = 48, AT_TABLE_CLUSTERS = 56,
	AT_SNAPSHOTS_N = 60, AT_SNAPSHOTS = 64, HEADER_V2 = 72, AT_INCOMPATIBLE = 72,
	AT_COMPATIBLE = 80, AT_AUTOCLEAR = 88, AT_ORDER = 96, AT_HEADER_LEN = 100, HEADER_V3 = 104,
	AT_COMPRESSION = 104, HEADER_NEW = 112, HEADER_SECTOR = 512,
};

#define INCOMPATIBLE_DIRTY       (UINT64_C(1) << 0)
#define INCOMPATIBLE_CORRUPT     (UINT64_C(1) << 1)
#define INCOMPATIBLE_COMPRESSION (UINT64_C(1) << 3)

#define COMPATIBLE_LAZY          (UINT64_C(1) << 0)

#define EXTENSION_BACKING_FORMAT 0xe2792acau
#define EXTENSION_FEATURES       0x6803f857u
#define EXTENSION_BITMAPS        0x23852875u

#define AUTOCLEAR_BITMAPS        (UINT64_C(1) << 0) /* they are right */

/* Entries of an L1 table, and of an L2 table. */
#define ENTRY_COPIED     (UINT64_C(1) << 63) /* its refcount is 1 */
#define ENTRY_COMPRESSED (UINT64_C(1) << 62)
#define ENTRY_ZERO       UINT64_C(1)
#define ENTRY_OFFSET     UINT64_C(0x00fffffffffffe00)

#define CLUSTER_BITS_MIN 9u
#define CLUSTER_BITS_MAX 21u
#define L1_MAX           (UINT32_C(32) << 20) /* bytes */
#define TABLE_MAX        (UINT32_C(8) << 20)
#define SNAPSHOTS_MAX    4096u
#define SNAPSHOTS_BYTES  (UINT32_C(16) << 20)
#define BACKING_NAME_MAX 1023u

/* -- The node ------------------------------------------------------------------------ */

enum kind { REFCOUNTS, MAPS };
#define N_KINDS 2

struct page {
	uint64_t at; /* in the file */
	struct page *next; /* of the same hash */
	uint8_t *bytes; /* NULL: it has never been used */
	uint8_t kind;
	bool used, dirty, recent;
};

struct cache {
	struct page *pages;
	struct page **hash;
	unsigned n, hand, dirty[N_KINDS];
};

/* Entries from first up to end have changed; none if first is not below end. */
struct span {
	uint32_t first, end;
};

/* A table of offsets that is in memory: L1, or that of refcount blocks. */
struct table {
	uint64_t *entry;
	uint32_t n;
	uint64_t at;
	struct span changed;
};

/* Clusters in a row. */
struct extent {
	uint64_t first, n;
};

#define FREES_MAX 1024u

struct snapshot {
	uint64_t l1_at, disk_size;
	uint32_t l1_n;
	char *id, *name; /* in `raw`'s allocation */
	uint8_t *raw;    /* the entry of the table, as it is in the file */
	uint32_t raw_len;
};

/* A request that reads or writes some clusters of the guest, on its thread's stack. */
struct claim {
	uint64_t first, last, ticket;
	bool alone;
	struct claim *next;
};

struct qcow2 {
	struct node node; /* first */
	struct node *file, *backing;
	char *path;
	unsigned version, cluster_bits, order; /* a refcount has 2^order bits */
	uint64_t cluster;                      /* in bytes */
	unsigned unit;                         /* of a page, in bytes */
	bool zstd;
	bool unchecked;      /* nobody has looked at its counts yet */
	bool virgin_is_zero; /* what was never written of the file is zeros */

	pthread_mutex_t lock; /* of all below */
	uint8_t header[HEADER_SECTOR];
	struct table l1, refs;
	bool refs_moved; /* the header leads to another table still, with old_refs clusters */
	struct extent old_refs;
	struct cache cache;
	uint64_t end;    /* clusters of the file: no cluster behind it is used */
	uint64_t hint;   /* no cluster before it is free */
	uint64_t virgin; /* no cluster from here on was ever written */
	struct extent frees[FREES_MAX]; /* no longer used; their refcounts say otherwise until that is on the disk */
	unsigned n_frees;
	struct snapshot *snapshots;
	unsigned n_snapshots;
	uint32_t snapshots_len; /* of their table, in bytes */
	uint64_t pack_at; /* where the next compressed data may go on in a cluster that has some; 0: in none */
	bool building;  /* a snapshot: pages may be written in any order */
	bool started;   /* something was written */
	bool corrupt;   /* nothing is written any more */
	struct claim *claims;
	uint64_t tickets;
	pthread_cond_t released;

	pthread_mutex_t unpacked_lock; /* of all below; taken last */
	uint64_t unpacked_is;          /* the entry of the cluster in `unpacked`; 0: none */
	uint8_t *unpacked, *packed;
};

static inline struct qcow2 *qcow2_of(struct node *n)
{
	return (struct qcow2 *)(void *)n;
}

static inline uint64_t l2_n(const struct qcow2 *q) /* entries of an L2 table */
{
	return q->cluster / 8;
}

static inline uint64_t clusters_of(const struct qcow2 *q, uint64_t bytes)
{
	return (bytes + q->cluster - 1) >> q->cluster_bits;
}

/* -- header.c ------------------------------------------------------------------------ */

struct qcow2_tree;

/* Reads all but the backing file's name; and of a snapshot's tree no table but that one. */
int header_read(struct qcow2 *q, const struct qcow2_tree *tree, struct err *err);

/* The backing file's name and format: 0 if there is none. */
int header_backing(struct qcow2 *q, char name[BACKING_NAME_MAX + 1], char format[16], struct err *err);

/* Calls `see` for each extension of the header, until it returns true. -EINVAL: they run out of the first cluster. */
typedef bool see_extension(uint32_t type, const uint8_t *bytes, uint32_t len, void *ctx);
int header_extensions(struct qcow2 *q, see_extension *see, void *ctx, struct err *err);

/* Writes the first sector with what has changed: all of it or nothing. Lock held. */
int header_write(struct qcow2 *q);

/* Says what is wrong with the image; it is not written any more, and says so itself. Returns -EIO. Lock held. */
int corrupt(struct qcow2 *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Whether a cluster that the image speaks of can be one: whole, inside of the file, no header and no table. */
bool is_cluster(const struct qcow2 *q, uint64_t at);

/* A table in memory, from the file, and a part of it to the file. */
int table_read(struct qcow2 *q, struct table *t, uint64_t at, uint32_t n);
int table_write(struct qcow2 *q, const struct table *t, struct span span);

static inline void table_set(struct table *t, uint32_t i, uint64_t value)
{
	t->entry[i] = value;
	if (t->changed.first >= t->changed.end)
		t->changed = (struct span){i, i + 1};
	else if (i < t->changed.first)
		t->changed.first = i;
	else if (i >= t->changed.end)
		t->changed.end = i + 1;
}

/* -- cache.c: lock held -------------------------------------------------------------- */

int cache_init(struct cache *c, unsigned n); /* pages, a power of two */
void cache_fini(struct cache *c);

/* The page's byte at `at`, until the next call. To change it, say so: dirty. */
int cache_get(struct qcow2 *q, enum kind kind, uint64_t at, bool dirty, uint8_t **bytes);

/* The same if it is there, or NULL. */
uint8_t *cache_peek(struct qcow2 *q, uint64_t at);

/* Writes a copy of a cluster to another place of the file, as it is with what has changed. `room` is for a cluster. */
int cache_copy(struct qcow2 *q, enum kind kind, uint64_t from, uint64_t to, uint8_t *room);

/* Writes those of a kind that have changed. */
int cache_write(struct qcow2 *q, enum kind kind);

/* Forgets pages of a kind, or those of a cluster, changed or not. */
void cache_forget(struct qcow2 *q, enum kind kind);
void cache_forget_cluster(struct qcow2 *q, uint64_t at);

/* -- refcount.c: lock held ----------------------------------------------------------- */

int refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *count);
int refcount_add(struct qcow2 *q, uint64_t cluster, int by); /* -ERANGE: it has not that many bits */

/* Up to `want` free clusters in a row, at least one, which are taken; `fresh`: they read as zeros. */
int clusters_take(struct qcow2 *q, uint64_t want, struct extent *got, bool *fresh);

/* Exactly so many in a row. */
int clusters_take_all(struct qcow2 *q, uint64_t n, struct extent *got);

/* Those that nothing has led to yet. */
void clusters_give_back(struct qcow2 *q, struct extent e);

/* Those that nothing leads to any more, as soon as the disk knows that. */
void clusters_free(struct qcow2 *q, struct extent e);

/* A new value for a count, whatever it was. */
int refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t count);

/* The count of a cluster in the bytes of its block. */
uint64_t count_in(const struct qcow2 *q, const uint8_t *block, uint64_t cluster);
void count_into(const struct qcow2 *q, uint8_t *block, uint64_t cluster, uint64_t count);

/* Bits of a cluster's number that say which count of a block it has; the most that one can say. */
unsigned block_bits(const struct qcow2 *q);
uint64_t count_max(const struct qcow2 *q);

/* Room for so many compressed bytes, less than a cluster, that is counted. */
int room_take(struct qcow2 *q, uint64_t len, uint64_t *at);

/* Whether what the image says of its own tables can be: before it is written. */
int refcounts_check(struct qcow2 *q, struct err *err);

/* -- commit.c: lock held ------------------------------------------------------------- */

bool is_committed(const struct qcow2 *q);
int commit(struct qcow2 *q);

/* -- map.c: lock held ---------------------------------------------------------------- */

enum what { UNALLOCATED, ZEROES, DATA, PACKED };

/* Clusters of the guest that are of one kind, and in the file in a row if they are DATA. */
struct run {
	enum what what;
	bool own;       /* DATA: nothing else leads to them */
	uint64_t entry; /* of the first one */
	uint64_t n;
};

/* What is at a cluster, and at how many of the next up to `max`. own is found out if it is asked for. */
int map_find(struct qcow2 *q, uint64_t cluster, uint64_t max, bool own, struct run *run);

/* The same of what is cached; false if that is not enough. */
bool map_find_cached(struct qcow2 *q, uint64_t cluster, uint64_t max, struct run *run);

/* Makes the L2 table of a cluster one that can be changed. */
int map_prepare(struct qcow2 *q, uint64_t cluster);

/* n clusters of one table are in the file from `at` on, or have that flag, or are not there; what they were is
 * freed. *done of them are set if it fails. */
int map_set(struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t entry, uint64_t *done);

/* What an entry leads to, n is 0 if nothing; false: it cannot be. */
bool entry_place(const struct qcow2 *q, uint64_t entry, struct extent *e);

/* The same, and what cannot be is said, once. */
int entry_extent(struct qcow2 *q, uint64_t entry, struct extent *e);

static inline enum what entry_what(const struct qcow2 *q, uint64_t entry)
{
	if (entry & ENTRY_COMPRESSED)
		return PACKED;
	if (q->version >= 3 && (entry & ENTRY_ZERO))
		return ZEROES;
	return entry & ENTRY_OFFSET ? DATA : UNALLOCATED;
}

/* -- compressed.c -------------------------------------------------------------------- */

/* `len` bytes from the cluster's byte `from` on. */
int packed_read(struct qcow2 *q, uint64_t entry, uint64_t from, struct iovec *iov, unsigned n_iov);

/* Where it is in the file. */
void packed_place(const struct qcow2 *q, uint64_t entry, uint64_t *at, uint64_t *len);

/* -- snapshot.c ---------------------------------------------------------------------- */

int snapshots_read(struct qcow2 *q, struct err *err);
void snapshots_fini(struct snapshot *snapshots, unsigned n);

/* The disk is what it was then; nothing is written. */
int snapshot_enter(struct qcow2 *q, const char *name, struct err *err);

struct qcow2_snapshot;
void snapshot_look(const struct snapshot *from, struct qcow2_snapshot *s);

/* -- io.c ---------------------------------------------------------------------------- */

extern const struct node_ops qcow2_ops;

int zero_qcow2(struct node *n, uint64_t at, uint64_t len);

/* Lock not held: clusters of the guest are where they are, until they are released. */
void claim_clusters(struct qcow2 *q, struct claim *c, uint64_t at, uint64_t len, bool alone);
void release_clusters(struct qcow2 *q, struct claim *c);

/* Before the first change: features that we do not keep up are struck out. Lock held. */
int begin_writing(struct qcow2 *q);

/* -- status.c, resize.c --------------------------------------------------------------- */

int status_qcow2(struct node *n, uint64_t at, uint64_t len, struct node_status *s);
int resize_qcow2(struct node *n, uint64_t size, struct err *err);

#endif
