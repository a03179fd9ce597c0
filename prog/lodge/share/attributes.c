/* SPDX-License-Identifier: MIT */
/* Messages about what a file is: whose, how large, of which mode, from when. See requests.c. */
#include "request.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

int do_getattr(struct request *r)
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

int do_setattr(struct request *r)
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
