/* SPDX-License-Identifier: MIT */
/*
 * FUSE's messages: <linux/fuse.h>, version 7.31 of the protocol, as virtio 1.2, section 5.11 has it.
 *
 * A row of the table for each message that is understood: how long it is at least, what follows (a
 * name, two), whether it changes something, and the function for it, which puts its answer behind
 * the header and returns its length, or -errno. Messages that are in no row are answered with
 * ENOSYS, from which Linux learns not to ask again: extended attributes, locks (they are the
 * guest's own then), ioctl.
 *
 * Nothing may be remembered: entries and attributes are valid for no time, so that what is changed
 * here is seen there with the next look at it.
 *
 * Files are opened with O_NOFOLLOW and O_NONBLOCK, only regular ones, and when one is open it is
 * looked whether it is the one that was meant: between the look at a name and its opening somebody
 * else can put something there, another guest perhaps. So nothing is done to a file by its name
 * that could follow a symbolic link: a mode is set by fchmod().
 */
#include "inside.h"

#include "base/bytes.h"
#include "base/macros.h"
#include "dev/virtio/fs_link.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OLDEST_MINOR 27u
#define OUR_MINOR    31u
#define COPY_MAX     (16u << 20) /* bytes that one message has copied: it is waited for */
#define DIR_BYTES    32768u

struct request {
	struct share *s;
	struct node *node;
	const uint8_t *body;  /* of `len` bytes, at least those of the row; aligned as they came */
	size_t len;
	const char *name, *name2; /* that follow, of rows that have some */
	uint8_t *answer;      /* behind the header */
	size_t room;
};

static int cannot(void)
{
	return -errno;
}

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

static void drop_handle(struct share *s, struct handle *h)
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

static struct handle *find_handle(struct share *s, uint64_t number, bool is_dir)
{
	struct handle *h = number && number <= s->n_handles ? &s->handles[number] : NULL;

	return h && h->node && h->is_dir == is_dir ? h : NULL;
}

/* The descriptor of a file that the guest has open, or -errno. */
static int file_of(struct share *s, uint64_t number)
{
	const struct handle *h = find_handle(s, number, false);

	return !h ? -EBADF : h->fd < 0 ? -ESTALE : h->fd;
}

/* Any descriptor of a file whose name is gone; -1: none. */
static int open_file(const struct node *n)
{
	for (const struct handle *h = n->handles; h; h = h->next)
		if (h->fd >= 0)
			return h->fd;
	return -1;
}

/* -- Files --------------------------------------------------------------------------------- */

/* By its name, or if that is not its any more, by a descriptor that is open. */
static int stat_node(struct share *s, struct node *n, struct statx *stx)
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
static int our_flags(uint32_t flags)
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

static int answer_attr(struct request *r, const struct statx *stx)
{
	struct fuse_attr_out out = {0};

	if (r->room < sizeof(out))
		return -EINVAL;
	put_attr(&out.attr, stx);
	memcpy(r->answer, &out, sizeof(out));
	return sizeof(out);
}

/* A file that was found or made, by its name: the guest knows it from now on. */
static int answer_entry(struct request *r, const char *name, struct node **made)
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

/* -- Messages: the session ----------------------------------------------------------------- */

static int do_init(struct request *r)
{
	struct fuse_init_in in = {0};
	struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = OUR_MINOR};

	memcpy(&in, r->body, r->len < sizeof(in) ? r->len : sizeof(in));
	if (r->room < sizeof(out))
		return -EINVAL;
	share_clear(r->s);
	if (in.major < FUSE_KERNEL_VERSION || (in.major == FUSE_KERNEL_VERSION && in.minor < OLDEST_MINOR))
		return -EPROTO;
	r->s->begun = in.major == FUSE_KERNEL_VERSION; /* of a later one the driver asks again for ours */
	out.max_readahead = in.max_readahead;
	out.flags = in.flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA | FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES |
				FUSE_ATOMIC_O_TRUNC);
	out.max_background = 64;
	out.congestion_threshold = 48;
	out.max_write = FS_DATA_MAX;
	out.max_pages = FS_DATA_MAX / 4096;
	out.time_gran = 1;
	memcpy(r->answer, &out, sizeof(out));
	return sizeof(out);
}

static int do_destroy(struct request *r)
{
	share_clear(r->s);
	return 0;
}

static int do_forget(struct request *r)
{
	nodes_forget(r->s->nodes, r->node, le64_get(r->body));
	return 0;
}

static int do_batch_forget(struct request *r)
{
	size_t n = le32_get(r->body), room = (r->len - sizeof(struct fuse_batch_forget_in)) / sizeof(struct fuse_forget_one);
	const uint8_t *at = r->body + sizeof(struct fuse_batch_forget_in);

	for (; n && room; n--, room--, at += sizeof(struct fuse_forget_one)) {
		struct node *node = nodes_find(r->s->nodes, le64_get(at));

		if (node)
			nodes_forget(r->s->nodes, node, le64_get(at + 8));
	}
	return 0;
}

static int do_statfs(struct request *r)
{
	struct fuse_statfs_out out = {0};
	struct statfs st;

	if (r->room < sizeof(out))
		return -EINVAL;
	if (fstatfs(r->s->root, &st) < 0)
		return cannot();
	out.st = (struct fuse_kstatfs){
		.blocks = st.f_blocks, .bfree = st.f_bfree, .bavail = st.f_bavail, .files = st.f_files, .ffree = st.f_ffree,
		.bsize = (uint32_t)st.f_bsize, .namelen = 255, .frsize = (uint32_t)st.f_frsize,
	};
	memcpy(r->answer, &out, sizeof(out));
	return sizeof(out);
}

/* -- Messages: names ------------------------------------------------------------------------ */

static int do_lookup(struct request *r)
{
	return answer_entry(r, r->name, NULL);
}

static int do_readlink(struct request *r)
{
	struct where w;
	int rc = nodes_where(r->s->nodes, r->node, &w);
	ssize_t n;

	if (rc < 0)
		return rc;
	n = readlinkat(w.dir, w.name, (char *)r->answer, r->room);
	return n < 0 ? cannot() : (int)n;
}

static int do_symlink(struct request *r)
{
	int dir = nodes_dir(r->s->nodes, r->node);

	if (dir < 0)
		return dir;
	if (symlinkat(r->name2, dir, r->name) < 0)
		return cannot();
	return answer_entry(r, r->name, NULL);
}

/* Regular files alone; bits that would have it run with its owner's rights it does not get. */
static int do_mknod(struct request *r)
{
	struct fuse_mknod_in in;
	int dir = nodes_dir(r->s->nodes, r->node), fd;

	memcpy(&in, r->body, sizeof(in));
	if (!S_ISREG(in.mode))
		return -EPERM;
	if (dir < 0)
		return dir;
	fd = openat(dir, r->name, our_flags(O_WRONLY) | O_CREAT | O_EXCL, in.mode & 01777);
	if (fd < 0)
		return cannot();
	close(fd);
	return answer_entry(r, r->name, NULL);
}

static int do_mkdir(struct request *r)
{
	struct fuse_mkdir_in in;
	int dir = nodes_dir(r->s->nodes, r->node);

	memcpy(&in, r->body, sizeof(in));
	if (dir < 0)
		return dir;
	if (mkdirat(dir, r->name, in.mode & 01777) < 0)
		return cannot();
	return answer_entry(r, r->name, NULL);
}

static int remove_name(struct request *r, int flags)
{
	int dir = nodes_dir(r->s->nodes, r->node);
	struct statx stx;
	int rc = dir < 0 ? dir : stat_at(dir, r->name, 0, &stx);

	if (rc < 0)
		return rc;
	if (unlinkat(dir, r->name, flags) < 0)
		return cannot();
	nodes_unname(r->s->nodes, r->node, r->name, &stx, flags || stx.stx_nlink < 2);
	return 0;
}

static int do_unlink(struct request *r)
{
	return remove_name(r, 0);
}

static int do_rmdir(struct request *r)
{
	return remove_name(r, AT_REMOVEDIR);
}

/* A node's directory that stays open whatever else is done: the caller closes it. */
static int hold_dir(struct share *s, uint64_t id)
{
	struct node *n = nodes_find(s->nodes, id);
	int fd = n ? nodes_dir(s->nodes, n) : -ENOENT;

	if (fd < 0)
		return fd;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? cannot() : fd;
}

/* What has a name now is the guest's node of that name, if it knows it. */
static void learn_name(struct share *s, struct node *dir, int fd, const char *name)
{
	struct statx stx;
	struct node *n = stat_at(fd, name, 0, &stx) == 0 ? nodes_get(s->nodes, dir, name, &stx) : NULL;

	if (n)
		nodes_forget(s->nodes, n, 1);
}

static int rename_between(struct request *r, int from, int to, struct node *target, unsigned flags)
{
	struct statx old;
	bool replaces = !(flags & RENAME_EXCHANGE) && stat_at(to, r->name2, 0, &old) == 0;

	if (syscall(SYS_renameat2, from, r->name, to, r->name2, flags) < 0)
		return cannot();
	if (replaces)
		nodes_unname(r->s->nodes, target, r->name2, &old, old.stx_nlink < 2 || S_ISDIR(old.stx_mode));
	learn_name(r->s, target, to, r->name2);
	if (flags & RENAME_EXCHANGE)
		learn_name(r->s, r->node, from, r->name);
	return 0;
}

/* Both nodes are held: a guest may have forgotten a directory, which is then there only for the file in it that goes. */
static int rename_held(struct request *r, int from, int to, struct node *target, unsigned flags)
{
	int rc;

	nodes_hold(r->node);
	nodes_hold(target);
	rc = rename_between(r, from, to, target, flags);
	nodes_release(r->s->nodes, target);
	nodes_release(r->s->nodes, r->node);
	return rc;
}

static int rename_to(struct request *r, uint64_t to, unsigned flags)
{
	int old = hold_dir(r->s, nodes_id(r->s->nodes, r->node)), new = hold_dir(r->s, to), rc;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		rc = -EINVAL;
	else if (old < 0 || new < 0)
		rc = old < 0 ? old : new;
	else
		rc = rename_held(r, old, new, nodes_find(r->s->nodes, to), flags);
	if (old >= 0)
		close(old);
	if (new >= 0)
		close(new);
	return rc;
}

static int do_rename(struct request *r)
{
	return rename_to(r, le64_get(r->body), 0);
}

static int do_rename2(struct request *r)
{
	return rename_to(r, le64_get(r->body), le32_get(r->body + 8));
}

static int do_link(struct request *r)
{
	struct node *n = nodes_find(r->s->nodes, le64_get(r->body));
	int to = hold_dir(r->s, nodes_id(r->s->nodes, r->node)), rc;
	struct where w;
	struct statx stx;

	rc = to < 0 ? to : n ? nodes_where(r->s->nodes, n, &w) : -ENOENT;
	if (rc == 0)
		rc = stat_at(w.dir, w.name, w.name[0] ? 0 : AT_EMPTY_PATH, &stx);
	if (rc == 0 && !nodes_is(r->s->nodes, n, &stx))
		rc = -ESTALE;
	if (rc == 0 && linkat(w.dir, w.name, to, r->name, 0) < 0)
		rc = cannot();
	if (to >= 0)
		close(to);
	return rc < 0 ? rc : answer_entry(r, r->name, NULL);
}

/* -- Messages: attributes ------------------------------------------------------------------- */

static int do_getattr(struct request *r)
{
	struct statx stx;
	int rc = stat_node(r->s, r->node, &stx);

	return rc < 0 ? rc : answer_attr(r, &stx);
}

/* A descriptor by which the file can be changed. *own: it is to be closed. */
static int changeable(struct request *r, const struct fuse_setattr_in *in, int flags, bool is_dir, bool *own)
{
	int fd = in->valid & FATTR_FH ? file_of(r->s, in->fh) : -EBADF;

	*own = fd < 0;
	if (fd < 0)
		fd = open_node(r->s, r->node, our_flags((uint32_t)flags), is_dir);
	if (fd == -ESTALE && open_file(r->node) >= 0) {
		*own = false;
		fd = open_file(r->node);
	}
	return fd;
}

/* Bits by which a program runs with its owner's rights stay where they are, and come nowhere. Of the file that is open: the guest may have
 * named another one. */
static int change_mode(int fd, unsigned mode)
{
	struct statx stx;
	int rc = stat_at(fd, "", AT_EMPTY_PATH, &stx);

	if (rc < 0)
		return rc;
	if ((mode & (S_ISUID | S_ISGID)) & ~(stx.stx_mode | (S_ISDIR(stx.stx_mode) ? S_ISGID : 0u)))
		return -EPERM;
	return fchmod(fd, mode & 07777) < 0 ? cannot() : 0;
}

static int set_mode(struct request *r, const struct fuse_setattr_in *in, const struct statx *stx)
{
	bool own, is_dir = S_ISDIR(stx->stx_mode);
	int fd, rc;

	fd = changeable(r, in, O_RDONLY, is_dir, &own);
	if (fd == -EACCES && !is_dir)
		fd = changeable(r, in, O_WRONLY, is_dir, &own);
	if (fd < 0)
		return fd;
	rc = change_mode(fd, in->mode);
	if (own)
		close(fd);
	return rc;
}

static int set_size(struct request *r, const struct fuse_setattr_in *in)
{
	bool own;
	int fd = changeable(r, in, O_WRONLY, false, &own), rc;

	if (fd < 0)
		return fd;
	rc = in->size > INT64_MAX ? -EFBIG : ftruncate(fd, (off_t)in->size) < 0 ? cannot() : 0;
	if (own)
		close(fd);
	return rc;
}

static struct timespec time_of(const struct fuse_setattr_in *in, unsigned set, unsigned now, uint64_t sec, uint32_t nsec)
{
	if (in->valid & now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	if (in->valid & set)
		return (struct timespec){.tv_sec = (time_t)sec, .tv_nsec = nsec % 1000000000u};
	return (struct timespec){.tv_nsec = UTIME_OMIT};
}

static int set_times(struct request *r, const struct fuse_setattr_in *in)
{
	const struct timespec times[] = {
		time_of(in, FATTR_ATIME, FATTR_ATIME_NOW, in->atime, in->atimensec),
		time_of(in, FATTR_MTIME, FATTR_MTIME_NOW, in->mtime, in->mtimensec),
	};
	struct where w;
	struct statx stx;
	int rc = nodes_where(r->s->nodes, r->node, &w), fd;

	if (rc == 0 && !w.name[0])
		w.name = ".";
	if (rc == 0)
		rc = stat_at(w.dir, w.name, 0, &stx);
	if (rc == 0 && nodes_is(r->s->nodes, r->node, &stx))
		return utimensat(w.dir, w.name, times, AT_SYMLINK_NOFOLLOW) < 0 ? cannot() : 0;
	fd = open_file(r->node);
	if (fd < 0)
		return -ESTALE;
	return futimens(fd, times) < 0 ? cannot() : 0;
}

static int do_setattr(struct request *r)
{
	struct fuse_setattr_in in;
	struct statx stx;
	int rc = stat_node(r->s, r->node, &stx);

	memcpy(&in, r->body, sizeof(in));
	if (rc == 0 && ((in.valid & FATTR_UID && in.uid != stx.stx_uid) || (in.valid & FATTR_GID && in.gid != stx.stx_gid)))
		rc = -EPERM;
	if (rc == 0 && in.valid & FATTR_MODE)
		rc = set_mode(r, &in, &stx);
	if (rc == 0 && in.valid & FATTR_SIZE)
		rc = set_size(r, &in);
	if (rc == 0 && in.valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW))
		rc = set_times(r, &in);
	return rc < 0 ? rc : do_getattr(r);
}

/* -- Messages: files ------------------------------------------------------------------------ */

static int answer_open(struct request *r, int handle, size_t at)
{
	struct fuse_open_out out = {.fh = (uint64_t)handle};

	memcpy(r->answer + at, &out, sizeof(out));
	return (int)(at + sizeof(out));
}

static int open_it(struct request *r, bool is_dir)
{
	struct fuse_open_in in;
	int flags, fd, handle;

	memcpy(&in, r->body, sizeof(in));
	if (r->room < sizeof(struct fuse_open_out))
		return -EINVAL;
	if (r->s->readonly && (in.flags & O_ACCMODE) != O_RDONLY)
		return -EROFS;
	flags = is_dir ? our_flags(O_RDONLY) : our_flags(in.flags);
	fd = open_node(r->s, r->node, flags, is_dir);
	if (fd < 0)
		return fd;
	if (in.flags & O_TRUNC && !is_dir && (in.flags & O_ACCMODE) != O_RDONLY && ftruncate(fd, 0) < 0) {
		handle = cannot();
		close(fd);
		return handle;
	}
	handle = add_handle(r->s, 0, r->node, fd, flags, is_dir);
	return handle < 0 ? handle : answer_open(r, handle, 0);
}

static int do_open(struct request *r)
{
	return open_it(r, false);
}

static int do_opendir(struct request *r)
{
	return open_it(r, true);
}

/* Opens a regular file by its name, which need not be there. */
static int create_file(int dir, const char *name, const struct fuse_create_in *in)
{
	struct statx stx;
	int fd;

	if (stat_at(dir, name, 0, &stx) == 0 && !S_ISREG(stx.stx_mode) && !(in->flags & O_EXCL))
		return S_ISDIR(stx.stx_mode) ? -EISDIR : S_ISLNK(stx.stx_mode) ? -ELOOP : -EPERM;
	fd = openat(dir, name, our_flags(in->flags) | O_CREAT | (int)(in->flags & (O_EXCL | O_TRUNC)), in->mode & 01777);
	if (fd < 0)
		return cannot();
	if (stat_at(fd, "", AT_EMPTY_PATH, &stx) < 0 || !S_ISREG(stx.stx_mode)) {
		close(fd);
		return -EPERM;
	}
	return fd;
}

static int do_create(struct request *r)
{
	struct fuse_create_in in;
	int dir = nodes_dir(r->s->nodes, r->node), fd, at, handle;
	struct node *n;
	struct statx stx;

	memcpy(&in, r->body, sizeof(in));
	if (r->room < sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out))
		return -EINVAL;
	fd = dir < 0 ? dir : create_file(dir, r->name, &in);
	if (fd < 0)
		return fd;
	at = answer_entry(r, r->name, &n);
	if (at >= 0 && (stat_at(fd, "", AT_EMPTY_PATH, &stx) < 0 || !nodes_is(r->s->nodes, n, &stx))) {
		nodes_forget(r->s->nodes, n, 1);
		at = -ESTALE; /* somebody else has put another there */
	}
	if (at < 0) {
		close(fd);
		return at;
	}
	handle = add_handle(r->s, 0, n, fd, our_flags(in.flags), false);
	if (handle >= 0)
		return answer_open(r, handle, (size_t)at);
	nodes_forget(r->s->nodes, n, 1);
	return handle;
}

static int release(struct request *r, bool is_dir)
{
	struct handle *h = find_handle(r->s, le64_get(r->body), is_dir);

	if (!h)
		return -EBADF;
	drop_handle(r->s, h);
	return 0;
}

static int do_release(struct request *r)
{
	return release(r, false);
}

static int do_releasedir(struct request *r)
{
	return release(r, true);
}

static int do_flush(struct request *r)
{
	return find_handle(r->s, le64_get(r->body), false) ? 0 : -EBADF;
}

static int do_read(struct request *r)
{
	struct fuse_read_in in;
	int fd;
	ssize_t n;

	memcpy(&in, r->body, sizeof(in));
	fd = file_of(r->s, in.fh);
	if (fd < 0)
		return fd;
	n = pread(fd, r->answer, in.size < r->room ? in.size : r->room, (off_t)in.offset);
	return n < 0 ? cannot() : (int)n;
}

static int do_write(struct request *r)
{
	struct fuse_write_in in;
	struct fuse_write_out out = {0};
	int fd;
	ssize_t n;

	memcpy(&in, r->body, sizeof(in));
	fd = file_of(r->s, in.fh);
	if (fd < 0)
		return fd;
	if (in.size > r->len - sizeof(in) || r->room < sizeof(out))
		return -EINVAL;
	n = pwrite(fd, r->body + sizeof(in), in.size, (off_t)in.offset);
	if (n < 0)
		return cannot();
	out.size = (uint32_t)n;
	memcpy(r->answer, &out, sizeof(out));
	return sizeof(out);
}

static int do_fsync(struct request *r)
{
	int fd = file_of(r->s, le64_get(r->body));

	if (fd < 0)
		return fd;
	return (le32_get(r->body + 8) & FUSE_FSYNC_FDATASYNC ? fdatasync(fd) : fsync(fd)) < 0 ? cannot() : 0;
}

static int do_fsyncdir(struct request *r)
{
	const struct handle *h = find_handle(r->s, le64_get(r->body), true);

	if (!h || h->fd < 0)
		return h ? -ESTALE : -EBADF;
	return fsync(h->fd) < 0 ? cannot() : 0;
}

static int do_fallocate(struct request *r)
{
	struct fuse_fallocate_in in;
	int fd;

	memcpy(&in, r->body, sizeof(in));
	fd = file_of(r->s, in.fh);
	if (fd < 0)
		return fd;
	return fallocate(fd, (int)in.mode, (off_t)in.offset, (off_t)in.length) < 0 ? cannot() : 0;
}

static int do_lseek(struct request *r)
{
	struct fuse_lseek_in in;
	struct fuse_lseek_out out;
	int fd;
	off_t at;

	memcpy(&in, r->body, sizeof(in));
	fd = file_of(r->s, in.fh);
	if (fd < 0)
		return fd;
	if ((in.whence != SEEK_DATA && in.whence != SEEK_HOLE) || r->room < sizeof(out))
		return -EINVAL;
	at = lseek(fd, (off_t)in.offset, (int)in.whence);
	if (at < 0)
		return cannot();
	out.offset = (uint64_t)at;
	memcpy(r->answer, &out, sizeof(out));
	return sizeof(out);
}

static int do_copy(struct request *r)
{
	struct fuse_copy_file_range_in in;
	struct fuse_write_out out = {0};
	loff_t from_at, to_at;
	int from, to;
	ssize_t n;

	memcpy(&in, r->body, sizeof(in));
	from = file_of(r->s, in.fh_in);
	to = file_of(r->s, in.fh_out);
	if (from < 0 || to < 0)
		return from < 0 ? from : to;
	if (in.flags || r->room < sizeof(out))
		return -EINVAL;
	from_at = (loff_t)in.off_in;
	to_at = (loff_t)in.off_out;
	n = copy_file_range(from, &from_at, to, &to_at, in.len < COPY_MAX ? in.len : COPY_MAX, 0);
	if (n < 0)
		return cannot();
	out.size = (uint32_t)n;
	memcpy(r->answer, &out, sizeof(out));
	return sizeof(out);
}

/* -- Messages: directories ------------------------------------------------------------------ */

/* One name, as FUSE writes it; 0: there is no room for it. */
static size_t put_name(uint8_t *at, size_t room, const struct dirent64 *d)
{
	size_t len = strlen(d->d_name);
	struct fuse_dirent out = {
		.ino = strcmp(d->d_name, "..") == 0 ? UINT32_MAX : d->d_ino, /* whose that is, outside, is not told */
		.off = (uint64_t)d->d_off, .namelen = (uint32_t)len, .type = d->d_type,
	};
	size_t size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + len);

	if (size > room)
		return 0;
	memset(at, 0, size);
	memcpy(at, &out, FUSE_NAME_OFFSET);
	memcpy(at + FUSE_NAME_OFFSET, d->d_name, len);
	return size;
}

/* What the host says of the directory, as far as there is room; the rest is read again. */
static size_t put_names(struct handle *h, const uint8_t *from, size_t n, uint8_t *to, size_t room)
{
	size_t done = 0;

	for (size_t at = 0; at < n;) {
		const struct dirent64 *d = (const void *)(from + at);
		size_t size = put_name(to + done, room - done, d);

		if (!size) {
			lseek(h->fd, (off_t)h->at, SEEK_SET);
			break;
		}
		done += size;
		h->at = (uint64_t)d->d_off;
		at += d->d_reclen;
	}
	return done;
}

static int do_readdir(struct request *r)
{
	uint8_t names[DIR_BYTES] __attribute__((aligned(8)));
	struct fuse_read_in in;
	struct handle *h;
	size_t room;
	long n;

	memcpy(&in, r->body, sizeof(in));
	h = find_handle(r->s, in.fh, true);
	if (!h || h->fd < 0)
		return h ? -ESTALE : -EBADF;
	room = in.size < r->room ? in.size : r->room;
	if (in.offset != h->at && lseek(h->fd, (off_t)in.offset, SEEK_SET) < 0)
		return cannot();
	h->at = in.offset;
	n = syscall(SYS_getdents64, h->fd, names, room < DIR_BYTES ? room : DIR_BYTES);
	if (n < 0)
		return cannot();
	return (int)put_names(h, names, (size_t)n, r->answer, room);
}

/* -- The table ------------------------------------------------------------------------------ */

enum { CHANGES = 1, ANY_NODE = 2, BEFORE_INIT = 4 };

struct message {
	unsigned opcode;
	int (*serve)(struct request *r);
	size_t len;      /* of its struct */
	unsigned names;  /* that follow */
	unsigned flags;
};

static const struct message messages[] = {
	{FUSE_INIT, do_init, 16, 0, ANY_NODE | BEFORE_INIT},
	{FUSE_DESTROY, do_destroy, 0, 0, ANY_NODE},
	{FUSE_LOOKUP, do_lookup, 0, 1, 0},
	{FUSE_FORGET, do_forget, sizeof(struct fuse_forget_in), 0, 0},
	{FUSE_BATCH_FORGET, do_batch_forget, sizeof(struct fuse_batch_forget_in), 0, ANY_NODE},
	{FUSE_GETATTR, do_getattr, sizeof(struct fuse_getattr_in), 0, 0},
	{FUSE_SETATTR, do_setattr, sizeof(struct fuse_setattr_in), 0, CHANGES},
	{FUSE_READLINK, do_readlink, 0, 0, 0},
	{FUSE_SYMLINK, do_symlink, 0, 2, CHANGES},
	{FUSE_MKNOD, do_mknod, sizeof(struct fuse_mknod_in), 1, CHANGES},
	{FUSE_MKDIR, do_mkdir, sizeof(struct fuse_mkdir_in), 1, CHANGES},
	{FUSE_UNLINK, do_unlink, 0, 1, CHANGES},
	{FUSE_RMDIR, do_rmdir, 0, 1, CHANGES},
	{FUSE_RENAME, do_rename, sizeof(struct fuse_rename_in), 2, CHANGES},
	{FUSE_RENAME2, do_rename2, sizeof(struct fuse_rename2_in), 2, CHANGES},
	{FUSE_LINK, do_link, sizeof(struct fuse_link_in), 1, CHANGES},
	{FUSE_OPEN, do_open, sizeof(struct fuse_open_in), 0, 0},
	{FUSE_CREATE, do_create, sizeof(struct fuse_create_in), 1, CHANGES},
	{FUSE_READ, do_read, sizeof(struct fuse_read_in), 0, 0},
	{FUSE_WRITE, do_write, sizeof(struct fuse_write_in), 0, CHANGES},
	{FUSE_STATFS, do_statfs, 0, 0, 0},
	{FUSE_RELEASE, do_release, sizeof(struct fuse_release_in), 0, 0},
	{FUSE_FSYNC, do_fsync, sizeof(struct fuse_fsync_in), 0, 0},
	{FUSE_FLUSH, do_flush, sizeof(struct fuse_flush_in), 0, 0},
	{FUSE_OPENDIR, do_opendir, sizeof(struct fuse_open_in), 0, 0},
	{FUSE_READDIR, do_readdir, sizeof(struct fuse_read_in), 0, 0},
	{FUSE_RELEASEDIR, do_releasedir, sizeof(struct fuse_release_in), 0, 0},
	{FUSE_FSYNCDIR, do_fsyncdir, sizeof(struct fuse_fsync_in), 0, 0},
	{FUSE_FALLOCATE, do_fallocate, sizeof(struct fuse_fallocate_in), 0, CHANGES},
	{FUSE_LSEEK, do_lseek, sizeof(struct fuse_lseek_in), 0, 0},
	{FUSE_COPY_FILE_RANGE, do_copy, sizeof(struct fuse_copy_file_range_in), 0, CHANGES},
};

static const struct message *find_message(unsigned opcode)
{
	for (unsigned i = 0; i < ARRAY_SIZE(messages); i++)
		if (messages[i].opcode == opcode)
			return &messages[i];
	return NULL;
}

/* The names at the end of a message. Of a symbolic link the second is any text. */
static int take_names(struct request *r, const struct message *m)
{
	const char *at = (const char *)r->body + m->len, *end = (const char *)r->body + r->len;
	const char **into[] = {&r->name, &r->name2};

	for (unsigned i = 0; i < m->names; i++) {
		const char *zero = memchr(at, 0, (size_t)(end - at));

		if (!zero)
			return -EINVAL;
		if (zero - at > 255 && !(m->opcode == FUSE_SYMLINK && i == 1))
			return -ENAMETOOLONG;
		if (!is_name(at) && !(m->opcode == FUSE_SYMLINK && i == 1))
			return -EINVAL;
		*into[i] = at;
		at = zero + 1;
	}
	return 0;
}

static int serve(struct request *r, const struct fuse_in_header *head)
{
	const struct message *m = find_message(head->opcode);
	int rc;

	if (!m)
		return -ENOSYS;
	if (!r->s->begun && !(m->flags & BEFORE_INIT))
		return -EIO;
	if (r->len < m->len)
		return -EINVAL;
	if (r->s->readonly && m->flags & CHANGES)
		return -EROFS;
	r->node = nodes_find(r->s->nodes, head->nodeid);
	if (!r->node && !(m->flags & ANY_NODE))
		return -ESTALE;
	rc = take_names(r, m);
	return rc < 0 ? rc : m->serve(r);
}

size_t share_request(struct share *s, const uint8_t *message, size_t len, uint8_t *answer, size_t room)
{
	struct fuse_in_header head = {0};
	struct fuse_out_header out = {0};
	struct request r = {.s = s, .answer = answer + sizeof(out), .room = room - sizeof(out)};
	int rc = -EINVAL;

	memcpy(&head, message, len < sizeof(head) ? len : sizeof(head));
	if (len >= sizeof(head)) {
		r.body = message + sizeof(head);
		r.len = len - sizeof(head);
		rc = serve(&r, &head);
	}
	out.unique = head.unique;
	out.error = rc < 0 ? rc : 0;
	out.len = (uint32_t)sizeof(out) + (rc > 0 ? (uint32_t)rc : 0);
	memcpy(answer, &out, sizeof(out));
	return out.len;
}

/* -- Life ---------------------------------------------------------------------------------- */

void share_clear(struct share *s)
{
	for (unsigned i = 1; i <= s->n_handles; i++)
		if (s->handles[i].node)
			drop_handle(s, &s->handles[i]);
	nodes_clear(s->nodes);
	s->begun = false;
}

struct share *share_create(int root, bool readonly, unsigned descriptors)
{
	struct share *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->root = root;
	s->readonly = readonly;
	s->n_handles = descriptors / 2 < HANDLES_MAX ? descriptors / 2 : HANDLES_MAX;
	s->nodes = nodes_create(root, descriptors / 4 < 1024 ? descriptors / 4 : 1024);
	if (s->nodes)
		return s;
	free(s);
	return NULL;
}

void share_destroy(struct share *s)
{
	share_clear(s);
	nodes_destroy(s->nodes);
	free(s);
}
