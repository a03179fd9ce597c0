/* SPDX-License-Identifier: MIT */
/* What messages have in common: files that the guest has open, how one is found and opened again, and what is said of it. */
#include "request.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* -- Handles ------------------------------------------------------------------------------- */

int add_handle(struct share *s, unsigned i, struct node *n, int fd, int flags, bool is_dir)
{
	struct handle *h;

	for (unsigned j = 1; !i && j <= s->n_handles; j++)
		i = s->handles[j].node ? 0 : j;
	if (!i || i > s->n_handles || s->handles[i].node) {
		if (fd >= 0)
			close(fd);
		return -ENFILE;
	}
	h = &s->handles[i];
	*h = (struct handle){.fd = fd, .flags = flags, .node = nodes_id(s->nodes, n), .is_dir = is_dir, .next = n->handles};
	n->handles = h;
	nodes_hold(n);
	return (int)i;
}

void drop_handle(struct share *s, struct handle *h)
{
	struct node *n = nodes_find(s->nodes, h->node); /* it is held */
	struct handle **at = &n->handles;

	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
	if (h->fd >= 0)
		close(h->fd);
	h->node = 0;
	nodes_release(s->nodes, n);
}

struct handle *find_handle(struct share *s, uint64_t number, bool is_dir)
{
	struct handle *h = number && number <= s->n_handles ? &s->handles[number] : NULL;

	return h && h->node && h->is_dir == is_dir ? h : NULL;
}

/* The descriptor of a file that the guest has open, or -errno. */
int file_of(struct share *s, uint64_t number)
{
	const struct handle *h = find_handle(s, number, false);

	return !h ? -EBADF : h->fd < 0 ? -ESTALE : h->fd;
}

/* Any descriptor of a file whose name is gone; -1: none. */
int open_file(const struct node *n)
{
	for (const struct handle *h = n->handles; h; h = h->next)
		if (h->fd >= 0)
			return h->fd;
	return -1;
}

/* -- Files --------------------------------------------------------------------------------- */

/* By its name, or if that is not its any more, by a descriptor that is open. */
int stat_node(struct share *s, struct node *n, struct statx *stx)
{
	struct where w;
	int rc = nodes_where(s->nodes, n, &w), fd;

	if (rc == 0)
		rc = stat_at(w.dir, w.name, w.name[0] ? 0 : AT_EMPTY_PATH, stx);
	if (rc == 0 && nodes_is(s->nodes, n, stx))
		return 0;
	fd = open_file(n);
	if (fd >= 0)
		return stat_at(fd, "", AT_EMPTY_PATH, stx);
	return rc == -EACCES ? rc : -ESTALE;
}

/* Of the flags that a guest opens with those that mean something here. */
int our_flags(uint32_t flags)
{
	return (int)(flags & (O_ACCMODE | O_APPEND | O_SYNC | O_DSYNC)) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
}

int open_node(struct share *s, struct node *n, int flags, bool is_dir)
{
	struct where w;
	struct statx stx;
	int rc = nodes_where(s->nodes, n, &w), fd;

	if (rc == 0)
		rc = stat_at(w.dir, w.name, w.name[0] ? 0 : AT_EMPTY_PATH, &stx);
	if (rc < 0 || !nodes_is(s->nodes, n, &stx))
		return rc == -EACCES ? rc : -ESTALE;
	if (is_dir ? !S_ISDIR(stx.stx_mode) : !S_ISREG(stx.stx_mode))
		return is_dir ? -ENOTDIR : S_ISDIR(stx.stx_mode) ? -EISDIR : -EPERM;
	fd = openat(w.dir, w.name[0] ? w.name : ".", flags | (is_dir ? O_DIRECTORY : 0));
	if (fd < 0)
		return cannot();
	if (stat_at(fd, "", AT_EMPTY_PATH, &stx) < 0 || !nodes_is(s->nodes, n, &stx)) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

static void put_attr(struct fuse_attr *a, const struct statx *x)
{
	*a = (struct fuse_attr){
		.ino = x->stx_ino, .size = x->stx_size, .blocks = x->stx_blocks,
		.atime = (uint64_t)x->stx_atime.tv_sec, .atimensec = x->stx_atime.tv_nsec,
		.mtime = (uint64_t)x->stx_mtime.tv_sec, .mtimensec = x->stx_mtime.tv_nsec,
		.ctime = (uint64_t)x->stx_ctime.tv_sec, .ctimensec = x->stx_ctime.tv_nsec,
		.mode = x->stx_mode, .nlink = x->stx_nlink, .uid = x->stx_uid, .gid = x->stx_gid,
		.rdev = 0, .blksize = x->stx_blksize,
	};
}

int answer_attr(struct request *r, const struct statx *stx)
{
	struct fuse_attr_out out = {0};

	if (r->room < sizeof(out))
		return -EINVAL;
	put_attr(&out.attr, stx);
	memcpy(r->answer, &out, sizeof(out));
	return sizeof(out);
}

/* A file that was found or made, by its name: the guest knows it from now on. */
int answer_entry(struct request *r, const char *name, struct node **made)
{
	int dir = nodes_dir(r->s->nodes, r->node);
	struct fuse_entry_out out = {0};
	struct statx stx;
	struct node *n;
	int rc;

	if (dir < 0)
		return dir;
	if (r->room < sizeof(out))
		return -EINVAL;
	rc = stat_at(dir, name, 0, &stx);
	if (rc < 0)
		return rc;
	n = nodes_get(r->s->nodes, r->node, name, &stx);
	if (!n)
		return -ENFILE;
	out.nodeid = nodes_id(r->s->nodes, n);
	out.generation = n->generation;
	put_attr(&out.attr, &stx);
	memcpy(r->answer, &out, sizeof(out));
	if (made)
		*made = n;
	return sizeof(out);
}
