/* SPDX-License-Identifier: MIT */
/*
 * The file (or block device) under a disk: its bytes are the node's.
 *
 * Opening checks all that can be wrong with a file while there is a person to tell: that it is there, is a file,
 * may be used, and that nobody else writes to it. The lock is an open-file-description lock on the whole file: shared
 * for a readonly disk, exclusive otherwise. It goes away with the descriptor, however the process ends, and other
 * programs that lock disk images see it. A shared lock is that of QEMU's readers, byte by byte, so that they and we may read
 * at the same time: each use of an image has a number, byte 100 + n is locked by who makes it, and byte 200 + n by who
 * cannot bear that others do (0: read, 1: write, 3: change its size).
 *
 * Flush is fdatasync(). A write that is done is in the host's page cache, so a flush that begins after it covers
 * it, whichever thread does which: that is all the order there is. When fdatasync() fails the kernel may have
 * dropped the dirty pages, so a second one that succeeds proves nothing: every flush after a failed one fails too.
 */
#include "block/file.h"

#include "base/err.h"
#include "base/macros.h"
#include "block/iov.h"
#include "block/node.h"
#include "block/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct file {
	struct node node; /* first */
	int fd;
	bool grows, is_volatile;
	/* Relaxed atomics: hints and latches that any thread sets. */
	bool no_cached; /* the file system cannot say whether it would block */
	bool sync_failed;
};

/* -- Opening ----------------------------------------------------------------------- */

int file_open(const char *path, bool readonly, struct err *err)
{
	/* NONBLOCK: a FIFO must not make us wait; files and disks do not care. */
	int fd = open(path, O_CLOEXEC | O_NONBLOCK | (readonly ? O_RDONLY : O_RDWR));

	if (fd >= 0)
		return fd;
	switch (errno) {
	case EISDIR:
		return err_set(err, EISDIR, "is a directory, not a disk image");
	case EROFS:
	case EACCES:
		if (!readonly && access(path, R_OK) == 0)
			return err_set(err, errno, "may be read but not written; "
				       "use it with readonly=on");
	}
	return err_sys(err, errno, "cannot open it");
}

static const struct {
	off_t at, len;
} parts[] = {[FILE_ALL] = {0, FILE_SLOTS}, [FILE_FIRST] = {0, 150}, [FILE_REST] = {150, FILE_SLOTS - 150}};

static int lock_bytes(int fd, int request, struct flock *l, short type, off_t at, off_t len)
{
	*l = (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = len};
	return fcntl(fd, request, l) == 0 ? 0 : errno == EACCES || errno == EAGAIN ? -EBUSY : -errno;
}

/* Shared by readers: takes three bytes, and nobody may have those against which they stand; but for a shared lock of the whole
 * file, which is how other readers do it. */
static int lock_shared(int fd)
{
	static const off_t takes[] = {100, 201, 203}, against[] = {200, 101, 103};
	struct flock l;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < ARRAY_SIZE(takes); i++)
		rc = lock_bytes(fd, F_OFD_SETLK, &l, F_RDLCK, takes[i], 1);
	for (unsigned i = 0; rc == 0 && i < ARRAY_SIZE(against); i++) {
		rc = lock_bytes(fd, F_OFD_GETLK, &l, F_WRLCK, against[i], 1);
		if (rc == 0 && l.l_type != F_UNLCK && !(l.l_type == F_RDLCK && l.l_start == 0))
			rc = -EBUSY;
	}
	if (rc < 0)
		lock_bytes(fd, F_OFD_SETLK, &l, F_UNLCK, 0, 300);
	return rc;
}

int file_lock(int fd, short type, enum file_part part, struct err *err)
{
	struct flock l;
	int rc = type == F_RDLCK ? lock_shared(fd)
				 : lock_bytes(fd, F_OFD_SETLK, &l, type, parts[part].at, parts[part].len);

	if (rc == 0)
		return 0;
	if (rc == -EBADF) /* of a descriptor that came from elsewhere */
		return err_set(err, EBADF, type == F_RDLCK ? "is not open to be read" : "is open to be read only");
	if (rc == -EBUSY)
		return err_set(err, EBUSY, type == F_RDLCK
			       ? "another lodge (or other program) is writing to it"
			       : "another lodge (or other program) is using it");
	return rc < 0 ? err_sys(err, -rc, "cannot lock it") : 0;
}

int file_lock_slot(int fd, short type, unsigned slot)
{
	struct flock l;

	return lock_bytes(fd, F_OFD_SETLK, &l, type, FILE_SLOTS + slot, 1);
}

bool file_slot_is_taken(int fd, unsigned slot)
{
	struct flock l;

	return lock_bytes(fd, F_OFD_GETLK, &l, F_WRLCK, FILE_SLOTS + slot, 1) == 0 && l.l_type != F_UNLCK;
}

int file_open_again(int fd)
{
	char name[32];
	int again;

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd); /* it may have no other name */
	again = open(name, O_RDONLY | O_CLOEXEC);
	return again < 0 ? -errno : again;
}

static int device_size(int fd, uint64_t *size, uint32_t *block, struct err *err)
{
	unsigned int physical = 0;

	if (ioctl(fd, BLKGETSIZE64, size) < 0)
		return err_sys(err, errno, "cannot find out its size");
	if (ioctl(fd, BLKPBSZGET, &physical) == 0)
		*block = physical;
	return 0;
}

static int look_at(struct file *f, uint32_t *block, struct err *err)
{
	struct stat st;
	int rc = 0;

	/* Bare, because libc may make a call of it that could take a path, which no sandbox allows. */
	if (syscall(SYS_fstat, f->fd, &st) < 0)
		return err_sys(err, errno, "cannot look at it");
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "is a directory, not a disk image");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, EINVAL, "is neither a file nor a block device");
	f->node.size = (uint64_t)st.st_size;
	*block = 4096;
	if (S_ISBLK(st.st_mode))
		rc = device_size(f->fd, &f->node.size, block, err);
	if (*block < 512 || *block > 64 * KiB || (*block & (*block - 1)))
		*block = 4096;
	return rc;
}

/* -- Doing ------------------------------------------------------------------------- */

static struct file *of(struct node *n)
{
	return container_of(n, struct file, node);
}

static int clear(struct iovec *iov, unsigned n_iov)
{
	for (unsigned i = 0; i < n_iov; i++)
		memset(iov[i].iov_base, 0, iov[i].iov_len);
	return 0;
}

static int transfer(struct file *f, bool is_read, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	while (n_iov && !node_is_cancelled(&f->node)) {
		ssize_t n = is_read ? preadv(f->fd, iov, (int)n_iov, (off_t)at)
				    : pwritev(f->fd, iov, (int)n_iov, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0 && is_read && f->grows)
			return clear(iov, n_iov);
		if (n == 0)
			return -EIO; /* the file has become shorter */
		at += (uint64_t)n;
		iov_skip(&iov, &n_iov, (uint64_t)n);
	}
	return n_iov ? -ECANCELED : 0;
}

/* How much of it the host has cached. */
static uint64_t read_now(struct file *f, uint64_t at, const struct iovec *iov, unsigned n_iov)
{
	ssize_t got;

	if (__atomic_load_n(&f->no_cached, __ATOMIC_RELAXED))
		return 0;
	got = preadv2(f->fd, iov, (int)n_iov, (off_t)at, RWF_NOWAIT);
	if (got < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
		__atomic_store_n(&f->no_cached, true, __ATOMIC_RELAXED);
	return got < 0 ? 0 : (uint64_t)got;
}

static int read_file(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	uint64_t got = read_now(of(n), at, iov, n_iov);

	iov_skip(&iov, &n_iov, got);
	if (!n_iov)
		return 0;
	pool_wait();
	return transfer(of(n), true, at + got, iov, n_iov);
}

/* A part of a page may have to be read first. */
static int write_file(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	if ((at | iov_length(iov, n_iov)) & 4095)
		pool_wait();
	return transfer(of(n), false, at, iov, n_iov);
}

static int flush_file(struct node *n)
{
	struct file *f = of(n);

	if (f->is_volatile)
		return 0;
	if (__atomic_load_n(&f->sync_failed, __ATOMIC_RELAXED))
		return -EIO;
	pool_wait();
	if (fdatasync(f->fd) == 0)
		return 0;
	__atomic_store_n(&f->sync_failed, true, __ATOMIC_RELAXED);
	return -errno;
}

static int punch(struct file *f, uint64_t at, uint64_t len, int mode)
{
	int rc;

	pool_wait();
	do {
		rc = fallocate(f->fd, mode, (off_t)at, (off_t)len);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static int write_zeroes(struct file *f, uint64_t at, uint64_t len)
{
	static const uint8_t zeroes[64 * KiB];

	pool_wait();
	while (len && !node_is_cancelled(&f->node)) {
		struct iovec iov = {(void *)zeroes, len < sizeof(zeroes) ? len : sizeof(zeroes)};
		size_t part = iov.iov_len;
		int rc = transfer(f, false, at, &iov, 1);

		if (rc < 0)
			return rc;
		at += part;
		len -= part;
	}
	return len ? -ECANCELED : 0;
}

static int zero_file(struct node *n, uint64_t at, uint64_t len)
{
	struct file *f = of(n);
	int rc = punch(f, at, len, FALLOC_FL_ZERO_RANGE | (f->grows ? 0 : FALLOC_FL_KEEP_SIZE));

	if (rc == -EOPNOTSUPP && !f->grows)
		rc = punch(f, at, len, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
	return rc == -EOPNOTSUPP ? write_zeroes(f, at, len) : rc;
}

/* Where the file system has no holes, nothing happens. */
static int discard_file(struct node *n, uint64_t at, uint64_t len)
{
	int rc = punch(of(n), at, len, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);

	return rc == -EOPNOTSUPP ? 0 : rc;
}

static bool read_cached_file(struct node *n, uint64_t at, const struct iovec *iov, unsigned n_iov,
			     uint64_t len)
{
	return read_now(of(n), at, iov, n_iov) == len;
}

/* What is behind the end of a file whose size is no multiple of a sector is zeros. */
static int status_file(struct node *n, uint64_t at, uint64_t len, struct node_status *s)
{
	off_t data = lseek(of(n)->fd, (off_t)at, SEEK_DATA), hole;

	*s = (struct node_status){.len = len, .here = true, .data = true, .has_place = true, .place = at};
	if ((data < 0 && errno == ENXIO) || (data >= 0 && (uint64_t)data > at)) {
		s->data = false;
		s->zero = true;
		if (data >= 0 && (uint64_t)data - at < len)
			s->len = (uint64_t)data - at;
	} else if (data >= 0) {
		hole = lseek(of(n)->fd, (off_t)at, SEEK_HOLE);
		if (hole > 0 && (uint64_t)hole > at && (uint64_t)hole - at < len)
			s->len = (uint64_t)hole - at;
	}
	return 0;
}

static int resize_file(struct node *n, uint64_t size, struct err *err)
{
	if (size > INT64_MAX)
		return err_set(err, EFBIG, "%llu bytes are more than a file can have", (unsigned long long)size);
	if (ftruncate(of(n)->fd, (off_t)size) < 0 || fsync(of(n)->fd) < 0)
		return err_sys(err, errno, "changing its size");
	n->size = size;
	return 0;
}

static void close_file(struct node *n)
{
	close(of(n)->fd);
	free(of(n));
}

static const struct node_ops ops = {
	.read = read_file, .write = write_file, .zero = zero_file, .discard = discard_file,
	.flush = flush_file, .read_cached = read_cached_file, .status = status_file, .resize = resize_file,
	.close = close_file,
};

int file_node(struct node **node, int fd, unsigned flags, uint32_t *block, struct err *err)
{
	struct file *f = calloc(1, sizeof(*f));
	uint32_t unheard;
	int rc;

	*node = NULL;
	if (!f) {
		close(fd);
		return err_set(err, ENOMEM, "out of memory");
	}
	f->node.ops = &ops;
	f->node.readonly = flags & FILE_READONLY;
	f->grows = flags & FILE_GROWS;
	f->is_volatile = flags & FILE_VOLATILE;
	f->fd = fd;
	rc = look_at(f, block ? block : &unheard, err);
	if (rc < 0)
		close_file(&f->node);
	else
		*node = &f->node;
	return rc;
}
