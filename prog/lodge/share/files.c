/* SPDX-License-Identifier: MIT */
/* Messages about what is in files and directories. See requests.c. */
#include "request.h"

#include "base/bytes.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h> /* loff_t */
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COPY_MAX     (16u << 20) /* bytes that one message has copied: it is waited for */
#define DIR_BYTES    32768u

/* -- Files ---------------------------------------------------------------------------------- */

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

int do_open(struct request *r)
{
	return open_it(r, false);
}

int do_opendir(struct request *r)
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

int do_create(struct request *r)
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

int do_release(struct request *r)
{
	return release(r, false);
}

int do_releasedir(struct request *r)
{
	return release(r, true);
}

int do_flush(struct request *r)
{
	return find_handle(r->s, le64_get(r->body), false) ? 0 : -EBADF;
}

int do_read(struct request *r)
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

int do_write(struct request *r)
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

int do_fsync(struct request *r)
{
	int fd = file_of(r->s, le64_get(r->body));

	if (fd < 0)
		return fd;
	return (le32_get(r->body + 8) & FUSE_FSYNC_FDATASYNC ? fdatasync(fd) : fsync(fd)) < 0 ? cannot() : 0;
}

int do_fsyncdir(struct request *r)
{
	const struct handle *h = find_handle(r->s, le64_get(r->body), true);

	if (!h || h->fd < 0)
		return h ? -ESTALE : -EBADF;
	return fsync(h->fd) < 0 ? cannot() : 0;
}

int do_fallocate(struct request *r)
{
	struct fuse_fallocate_in in;
	int fd;

	memcpy(&in, r->body, sizeof(in));
	fd = file_of(r->s, in.fh);
	if (fd < 0)
		return fd;
	return fallocate(fd, (int)in.mode, (off_t)in.offset, (off_t)in.length) < 0 ? cannot() : 0;
}

int do_lseek(struct request *r)
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

int do_copy(struct request *r)
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

int do_readdir(struct request *r)
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
