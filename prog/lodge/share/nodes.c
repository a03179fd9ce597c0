/* SPDX-License-Identifier: MIT */
/*
 * See nodes.h. One array, which is mapped as a whole and gets memory as it is used, so that nodes
 * stay where they are; a table of buckets that finds them by what file they are; and a ring of open
 * directories, of which the one that was opened first gives way.
 *
 * A walk begins at the next directory above that is open, and opens one more each time. It opens
 * two descriptors at least before it closes one that it stands on, and an end it has: DEPTH_MAX,
 * for who moves directories from outside can make the parents of a guest's nodes a ring.
 */
#include "nodes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BUCKETS (1u << 16)

struct open_dir {
	int fd; /* -1: none */
	uint32_t node;
};

struct nodes {
	struct node *all; /* by number; 0 is none */
	uint32_t buckets[BUCKETS];
	uint32_t used, free; /* numbers below `used` were given out once; the first of those that are free again */
	int root;
	struct open_dir *dirs;
	unsigned n_dirs, next_dir;
};

/* -- Names and files ----------------------------------------------------------------------- */

bool is_name(const char *name)
{
	size_t len = strnlen(name, 256);

	return len > 0 && len < 256 && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

int stat_at(int dir, const char *name, int flags, struct statx *stx)
{
	return statx(dir, name, flags | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS | STATX_BTIME, stx) < 0
		       ? -errno : 0;
}

static struct identity identity(const struct statx *stx)
{
	bool born = stx->stx_mask & STATX_BTIME;

	return (struct identity){
		.dev = makedev(stx->stx_dev_major, stx->stx_dev_minor), .ino = stx->stx_ino,
		.born = born ? (uint64_t)stx->stx_btime.tv_sec * 1000000000u + stx->stx_btime.tv_nsec : 0,
	};
}

static bool same(const struct identity *a, const struct identity *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->born == b->born;
}

/* -- Buckets ------------------------------------------------------------------------------- */

static uint32_t *bucket(struct nodes *t, const struct identity *is)
{
	uint64_t mixed = (is->ino ^ is->dev << 32) * UINT64_C(0x9e3779b97f4a7c15);

	return &t->buckets[mixed >> 48];
}

static struct node *find_file(struct nodes *t, const struct identity *is)
{
	for (uint32_t id = *bucket(t, is); id; id = t->all[id].next)
		if (same(&t->all[id].is, is))
			return &t->all[id];
	return NULL;
}

/* It is found by what file it is, from here on; or not any more. */
static void enter(struct nodes *t, struct node *n, const struct identity *is)
{
	uint32_t *head = bucket(t, is);

	n->is = *is;
	n->known = true;
	n->next = *head;
	*head = nodes_id(t, n);
}

static void leave(struct nodes *t, struct node *n)
{
	uint32_t *at = bucket(t, &n->is), id = nodes_id(t, n);

	while (n->known && *at && *at != id)
		at = &t->all[*at].next;
	if (n->known && *at)
		*at = n->next;
	n->known = false;
	n->is = (struct identity){0};
}

/* -- Life ---------------------------------------------------------------------------------- */

static bool is_live(const struct node *n)
{
	return n->lookups || n->holds;
}

uint32_t nodes_id(const struct nodes *t, const struct node *n)
{
	return (uint32_t)(n - t->all);
}

struct node *nodes_find(const struct nodes *t, uint64_t id)
{
	return id && id < t->used && is_live(&t->all[id]) ? &t->all[id] : NULL;
}

struct node *nodes_next(const struct nodes *t, uint32_t id)
{
	while (++id < t->used)
		if (is_live(&t->all[id]))
			return &t->all[id];
	return NULL;
}

static struct node *take_free(struct nodes *t)
{
	uint32_t id = t->free, generation;

	if (id)
		t->free = t->all[id].next;
	else if (t->used < NODES_MAX)
		id = t->used++;
	else
		return NULL;
	generation = t->all[id].generation + 1;
	t->all[id] = (struct node){.dir = -1, .generation = generation};
	return &t->all[id];
}

static void close_dir(struct nodes *t, struct node *n)
{
	if (n->dir >= 0) {
		close(t->dirs[n->dir].fd);
		t->dirs[n->dir].fd = -1;
	}
	n->dir = -1;
}

/* With it goes its parent, if that was the last child and the guest has forgotten it, and so on: as deep as a guest has gone, so no recursion. */
static void drop_if_idle(struct nodes *t, struct node *n)
{
	while (!is_live(n) && nodes_id(t, n) != ROOT) {
		uint32_t parent = n->parent;

		leave(t, n);
		close_dir(t, n);
		free(n->name);
		*n = (struct node){.generation = n->generation, .dir = -1, .next = t->free};
		t->free = nodes_id(t, n);
		if (!parent)
			return;
		n = &t->all[parent];
		n->holds--;
	}
}

void nodes_hold(struct node *n)
{
	n->holds++;
}

void nodes_release(struct nodes *t, struct node *n)
{
	n->holds--;
	drop_if_idle(t, n);
}

/* Takes over `name`. */
static void set_name(struct nodes *t, struct node *n, struct node *parent, char *name)
{
	struct node *old = n->parent ? &t->all[n->parent] : NULL;

	if (parent)
		nodes_hold(parent);
	free(n->name);
	n->name = name;
	n->parent = parent ? nodes_id(t, parent) : 0;
	if (old)
		nodes_release(t, old);
}

void nodes_forget(struct nodes *t, struct node *n, uint64_t lookups)
{
	if (nodes_id(t, n) == ROOT)
		return;
	n->lookups -= lookups < n->lookups ? lookups : n->lookups;
	drop_if_idle(t, n);
}

struct node *nodes_get(struct nodes *t, struct node *parent, const char *name, const struct statx *stx)
{
	struct identity is = identity(stx);
	struct node *n = find_file(t, &is);
	char *copy = NULL;

	if (!n || n->parent != nodes_id(t, parent) || strcmp(n->name, name) != 0) {
		copy = strdup(name);
		if (!copy)
			return NULL;
	}
	if (!n) {
		n = take_free(t);
		if (!n) {
			free(copy);
			return NULL;
		}
		enter(t, n, &is);
	}
	n->lookups++;
	if (copy && nodes_id(t, n) != ROOT)
		set_name(t, n, parent, copy);
	else
		free(copy);
	return n;
}

void nodes_unname(struct nodes *t, struct node *parent, const char *name, const struct statx *stx, bool last)
{
	struct identity is = identity(stx);
	struct node *n = find_file(t, &is);

	if (!n || nodes_id(t, n) == ROOT)
		return;
	if (last)
		leave(t, n); /* another file may have its number soon */
	if (n->parent == nodes_id(t, parent) && strcmp(n->name, name) == 0)
		set_name(t, n, NULL, NULL);
}

/* -- The way to a file --------------------------------------------------------------------- */

bool nodes_is(struct nodes *t, struct node *n, const struct statx *stx)
{
	struct identity is = identity(stx);

	if (!n->known && n->parent && !find_file(t, &is))
		enter(t, n, &is);
	return n->known && same(&n->is, &is);
}

/* Opens a directory in one that is open. */
static int open_dir(struct nodes *t, struct node *n)
{
	struct node *parent = &t->all[n->parent];
	int at = nodes_id(t, parent) == ROOT ? t->root : t->dirs[parent->dir].fd;
	int fd = openat(at, n->name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct open_dir *place = &t->dirs[t->next_dir];
	struct statx stx;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR ? -ESTALE : -errno;
	if (stat_at(fd, "", AT_EMPTY_PATH, &stx) < 0 || !nodes_is(t, n, &stx)) {
		close(fd);
		return -ESTALE;
	}
	if (place->fd >= 0)
		close_dir(t, &t->all[place->node]);
	*place = (struct open_dir){fd, nodes_id(t, n)};
	n->dir = (int)t->next_dir;
	t->next_dir = (t->next_dir + 1) % t->n_dirs;
	return 0;
}

/* The highest directory on the way from a node that is not open. NULL: there is no way. */
static struct node *next_to_open(struct nodes *t, struct node *n)
{
	for (unsigned depth = 0; depth < DEPTH_MAX && n->parent; depth++) {
		struct node *parent = &t->all[n->parent];

		if (n->parent == ROOT || parent->dir >= 0)
			return n;
		n = parent;
	}
	return NULL;
}

int nodes_dir(struct nodes *t, struct node *n)
{
	if (nodes_id(t, n) == ROOT)
		return t->root;
	while (n->dir < 0) {
		struct node *next = next_to_open(t, n);
		int rc = next ? open_dir(t, next) : -ESTALE;

		if (rc < 0)
			return rc;
	}
	return t->dirs[n->dir].fd;
}

int nodes_where(struct nodes *t, struct node *n, struct where *w)
{
	*w = (struct where){t->root, ""};
	if (nodes_id(t, n) == ROOT)
		return 0;
	if (!n->parent)
		return -ESTALE;
	*w = (struct where){nodes_dir(t, &t->all[n->parent]), n->name};
	return w->dir < 0 ? w->dir : 0;
}

/* -- All of them --------------------------------------------------------------------------- */

static bool make_root(struct nodes *t)
{
	struct node *n = &t->all[ROOT];
	struct identity is;
	struct statx stx;

	if (stat_at(t->root, "", AT_EMPTY_PATH, &stx) < 0)
		return false;
	is = identity(&stx);
	*n = (struct node){.lookups = 1, .dir = -1};
	t->used = ROOT + 1;
	t->free = 0;
	memset(t->buckets, 0, sizeof(t->buckets));
	enter(t, n, &is);
	return true;
}

struct nodes *nodes_create(int root, unsigned dirs_max)
{
	struct nodes *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->root = root;
	t->n_dirs = dirs_max < 4 ? 4 : dirs_max;
	t->dirs = malloc(t->n_dirs * sizeof(*t->dirs));
	t->all = mmap(NULL, NODES_MAX * sizeof(struct node), PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (unsigned i = 0; t->dirs && i < t->n_dirs; i++)
		t->dirs[i].fd = -1;
	if (t->dirs && t->all != MAP_FAILED && make_root(t))
		return t;
	t->used = 0;
	nodes_destroy(t);
	return NULL;
}

static void close_all(struct nodes *t)
{
	for (unsigned i = 0; i < t->n_dirs; i++)
		if (t->dirs[i].fd >= 0) {
			close(t->dirs[i].fd);
			t->dirs[i].fd = -1;
		}
	for (uint32_t id = ROOT; id < t->used; id++)
		free(t->all[id].name);
}

void nodes_clear(struct nodes *t)
{
	close_all(t);
	/* Memory that was used goes back to the host. */
	madvise(t->all, t->used * sizeof(struct node), MADV_DONTNEED);
	make_root(t);
}

void nodes_destroy(struct nodes *t)
{
	if (t->dirs && t->all != MAP_FAILED)
		close_all(t);
	if (t->all != MAP_FAILED)
		munmap(t->all, NODES_MAX * sizeof(struct node));
	free(t->dirs);
	free(t);
}

/* -- Saved sessions ------------------------------------------------------------------------ */

int nodes_load(struct nodes *t, uint32_t id, const struct node *as, const char *name)
{
	struct node *n;

	if (id <= ROOT || id >= NODES_MAX || (name[0] && !is_name(name)) || as->parent >= NODES_MAX || !as->parent != !name[0])
		return -EINVAL;
	n = &t->all[id];
	if (n->name || is_live(n))
		return -EINVAL;
	*n = (struct node){.is = as->is, .lookups = as->lookups, .generation = as->generation, .dir = -1};
	if (name[0]) {
		n->name = strdup(name);
		if (!n->name)
			return -ENOMEM;
		n->parent = as->parent; /* nodes_loaded() looks whether that is there */
	}
	t->used = id >= t->used ? id + 1 : t->used;
	return 0;
}

int nodes_loaded(struct nodes *t, bool elsewhere)
{
	for (uint32_t id = ROOT + 1; id < t->used; id++) {
		struct node *n = &t->all[id];
		struct identity is = n->is;

		if (n->parent && (n->parent == id || !(n->parent == ROOT || t->all[n->parent].lookups || t->all[n->parent].name)))
			return -EINVAL;
		if (n->parent)
			nodes_hold(&t->all[n->parent]);
		n->is = (struct identity){0};
		if (!elsewhere && is.ino && !find_file(t, &is))
			enter(t, n, &is);
	}
	for (uint32_t id = ROOT + 1; id < t->used; id++)
		if (t->all[id].name)
			drop_if_idle(t, &t->all[id]);
	t->free = 0;
	for (uint32_t id = t->used; --id > ROOT;)
		if (!is_live(&t->all[id])) {
			t->all[id].next = t->free;
			t->free = id;
		}
	return 0;
}
