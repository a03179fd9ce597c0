/* SPDX-License-Identifier: MIT */
/*
 * Raw disks: a file (or block device) whose bytes are the disk's.
 *
 * Opening checks all that can be wrong with an image while there is a person to tell:
 * that it is there, is a file, may be used, is made of whole sectors, and that nobody
 * else writes to it. The lock is an open-file-description lock on the whole file:
 * shared for a readonly disk, exclusive otherwise. It goes away with the descriptor,
 * however the process ends, and other programs that lock disk images the same way (QEMU
 * does) see it. What is read of a disk is read when it is locked.
 *
 * A disk that is written is handed over in two parts, so that its lock is never free:
 *
 *	bytes          0 to 149      150 to the end
 *	               here          here              one lodge has it
 *	               -             here              disk_hand_over(): it writes no more
 *	               there         here              disk_open() of one that is handed over
 *	               there         -                 here it is closed
 *
 * Whoever else wants the disk wants all of it, and finds one of the two taken; QEMU, which locks bytes from 100
 * on and others from 200 on, wants some of both. If the other lodge dies its part is free, and
 * disk_take_back() takes it; if it lives, it does not.
 *
 * A request's way:
 *
 *	disk_submit -> checks -> read of cached bytes, at once      true
 *	                     \-> pool's list -> run -> done         false
 *
 * Reads of what the host has in its page cache are done in the caller's thread
 * (RWF_NOWAIT): it is a copy, and cheaper than waking a thread. All else may block.
 *
 * Flush is fdatasync(). A write that is done is in the host's page cache, so a flush
 * that is submitted after it covers it, whichever thread does which: that is all the
 * order there is. When fdatasync() fails the kernel may have dropped the dirty pages,
 * so a second one that succeeds proves nothing: every flush after a failed one fails
 * too.
 */
#include "block/disk.h"

#include "base/err.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS_DEFAULT 4u
#define QUICK_READ_MAX (256 * KiB) /* longer copies are worth a thread */
#define COMPLAINTS_MAX 10u         /* lines that one disk may cause in the log */

/* Parts of a disk's lock. */
enum part { ALL, FIRST, REST };

static const struct {
	off_t at, len; /* 0: to the end */
} parts[] = {[ALL] = {0, 0}, [FIRST] = {0, 150}, [REST] = {150, 0}};

struct disk {
	int fd;
	struct disk_info info;
	struct pool pool;
	bool has_pool;
	char *path;
	enum part held; /* of its lock; changes only while no request is under way */
	/* Relaxed atomics: hints and latches that any thread sets. */
	bool no_quick;   /* the file system cannot say whether it would block */
	bool sync_failed;
	bool cancelled;
	unsigned complaints;
};

/* -- Opening ----------------------------------------------------------------------- */

static int open_file(const struct disk_config *config, struct err *err)
{
	/* NONBLOCK: a FIFO must not make us wait; files and disks do not care. */
	int flags = O_CLOEXEC | O_NONBLOCK | (config->readonly ? O_RDONLY : O_RDWR);
	int fd = open(config->path, flags);

	if (fd >= 0)
		return fd;
	switch (errno) {
	case EISDIR:
		return err_set(err, EISDIR, "is a directory, not a disk image");
	case EROFS:
	case EACCES:
		if (!config->readonly && access(config->path, R_OK) == 0)
			return err_set(err, errno, "may be read but not written; "
				       "use it with readonly=on");
	}
	return err_sys(err, errno, "cannot open it");
}

static int device_size(int fd, struct disk_info *info, struct err *err)
{
	unsigned int block = 0;

	if (ioctl(fd, BLKGETSIZE64, &info->size) < 0)
		return err_sys(err, errno, "cannot find out its size");
	if (ioctl(fd, BLKPBSZGET, &block) == 0)
		info->block = block;
	return 0;
}

static int look_at(int fd, struct disk_info *info, struct err *err)
{
	struct stat st;
	int rc = 0;

	if (fstat(fd, &st) < 0)
		return err_sys(err, errno, "cannot look at it");
	if (S_ISDIR(st.st_mode))
		return err_set(err, EISDIR, "is a directory, not a disk image");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(err, EINVAL, "is neither a file nor a block device");
	info->size = (uint64_t)st.st_size;
	info->block = 4096;
	if (S_ISBLK(st.st_mode))
		rc = device_size(fd, info, err);
	if (rc < 0)
		return rc;
	if (info->size == 0)
		return err_set(err, EINVAL, "is empty");
	if (info->size % DISK_SECTOR)
		return err_set(err, EINVAL, "has %llu bytes, not a multiple of %u",
			       (unsigned long long)info->size, DISK_SECTOR);
	if (info->block < DISK_SECTOR || info->block > 64 * KiB ||
	    (info->block & (info->block - 1)))
		info->block = 4096;
	return 0;
}

/* Takes a part of the lock, whatever of it we have, or gives it up. */
static int lock(int fd, short type, enum part part, struct err *err)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET,
			  .l_start = parts[part].at, .l_len = parts[part].len};

	if (fcntl(fd, F_OFD_SETLK, &l) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(err, EBUSY, type == F_RDLCK
			       ? "another lodge (or other program) is writing to it"
			       : "another lodge (or other program) is using it");
	return err_sys(err, errno, "cannot lock it");
}

static int lock_opened(struct disk *disk, const struct disk_config *config, struct err *err)
{
	if (config->readonly)
		return lock(disk->fd, F_RDLCK, ALL, err);
	disk->held = config->handed_over ? FIRST : ALL;
	return lock(disk->fd, F_WRLCK, disk->held, err);
}

/* A device that another computer has written: neither what is cached of it here nor its node's date says so. */
static void forget_device(struct disk *disk)
{
	struct stat st;

	if (fstat(disk->fd, &st) < 0 || !S_ISBLK(st.st_mode))
		return;
	posix_fadvise(disk->fd, 0, 0, POSIX_FADV_DONTNEED);
	disk->info.undated = true;
}

/* A friendly word for the most frequent mistake. */
static void warn_of_format(const struct disk *disk)
{
	char magic[4];

	if (pread(disk->fd, magic, sizeof(magic), 0) == sizeof(magic) &&
	    !memcmp(magic, "QFI\xfb", sizeof(magic)))
		log_warn("disk",
			 "'%s' looks like a qcow2 image; it is used as a raw one",
			 disk->path);
}

static void run(void *ctx, struct disk_req *req);

static int open_disk(struct disk *disk, const struct disk_config *config,
		     struct err *err)
{
	int rc;

	disk->fd = open_file(config, err);
	if (disk->fd < 0)
		return disk->fd;
	if ((rc = lock_opened(disk, config, err)) < 0 || (rc = look_at(disk->fd, &disk->info, err)) < 0)
		return rc;
	if (config->handed_over)
		forget_device(disk);
	disk->info.readonly = config->readonly;
	disk->info.can_discard = !config->readonly;
	rc = pool_init(&disk->pool, config->threads ? config->threads : THREADS_DEFAULT,
		       run, disk);
	disk->has_pool = true;
	if (rc < 0)
		return err_sys(err, -rc, "cannot start a thread for it");
	disk->path = strdup(config->path);
	if (!disk->path)
		return err_set(err, ENOMEM, "out of memory");
	warn_of_format(disk);
	return 0;
}

int disk_open(struct disk **out, const struct disk_config *config, struct err *err)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	int rc;

	*out = NULL;
	if (!disk)
		return err_set(err, ENOMEM, "out of memory");
	disk->fd = -1;
	rc = open_disk(disk, config, err);
	if (rc < 0) {
		disk_close(disk);
		return err_at(err, rc, "disk '%s'", config->path);
	}
	*out = disk;
	return 0;
}

void disk_close(struct disk *disk)
{
	if (!disk)
		return;
	if (disk->has_pool)
		pool_fini(&disk->pool);
	if (disk->fd >= 0) {
		if (!disk->info.readonly && disk->held != REST)
			fdatasync(disk->fd);
		close(disk->fd);
	}
	free(disk->path);
	free(disk);
}

const char *disk_path(const struct disk *disk)
{
	return disk->path;
}

uint64_t disk_written(const struct disk *disk)
{
	struct stat st;

	/* Bare, because libc may make a call of it that could take a path, which no sandbox allows. */
	if (syscall(SYS_fstat, disk->fd, &st) < 0)
		return 0;
	return (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
}

const struct disk_info *disk_info(const struct disk *disk)
{
	return &disk->info;
}

/* -- Doing ------------------------------------------------------------------------- */

/* Drops done bytes from the front of a request. */
static void advance(struct disk_req *req, uint64_t n)
{
	req->at += n;
	while (req->n_iov && n >= req->iov->iov_len) {
		n -= req->iov->iov_len;
		req->iov++;
		req->n_iov--;
	}
	if (req->n_iov && n) {
		req->iov->iov_base = (uint8_t *)req->iov->iov_base + n;
		req->iov->iov_len -= n;
	}
}

static bool is_cancelled(const struct disk *disk)
{
	return __atomic_load_n(&disk->cancelled, __ATOMIC_RELAXED);
}

static int transfer(struct disk *disk, struct disk_req *req)
{
	while (req->n_iov && !is_cancelled(disk)) {
		ssize_t n = req->op == DISK_READ
			? preadv(disk->fd, req->iov, (int)req->n_iov, (off_t)req->at)
			: pwritev(disk->fd, req->iov, (int)req->n_iov, (off_t)req->at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO; /* the file has become shorter */
		advance(req, (uint64_t)n);
	}
	return req->n_iov ? -ECANCELED : 0;
}

static int flush(struct disk *disk)
{
	if (__atomic_load_n(&disk->sync_failed, __ATOMIC_RELAXED))
		return -EIO;
	if (disk->info.readonly || fdatasync(disk->fd) == 0)
		return 0;
	__atomic_store_n(&disk->sync_failed, true, __ATOMIC_RELAXED);
	return -errno;
}

static int punch(struct disk *disk, const struct disk_req *req, int mode)
{
	int rc;

	do {
		rc = fallocate(disk->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)req->at,
			       (off_t)req->len);
	} while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

static int write_zeroes(struct disk *disk, const struct disk_req *req)
{
	static const uint8_t zeroes[64 * KiB];
	uint64_t at = req->at, left = req->len;

	while (left && !is_cancelled(disk)) {
		size_t part = left < sizeof(zeroes) ? left : sizeof(zeroes);
		ssize_t n = pwrite(disk->fd, zeroes, part, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (uint64_t)n;
		left -= (uint64_t)n;
	}
	return left ? -ECANCELED : 0;
}

static int zero(struct disk *disk, const struct disk_req *req)
{
	int rc = punch(disk, req, FALLOC_FL_ZERO_RANGE);

	if (rc == -EOPNOTSUPP)
		rc = punch(disk, req, FALLOC_FL_PUNCH_HOLE);
	return rc == -EOPNOTSUPP ? write_zeroes(disk, req) : rc;
}

/* Discarding is a hint: where the file system has no holes, nothing happens. */
static int discard(struct disk *disk, const struct disk_req *req)
{
	int rc = punch(disk, req, FALLOC_FL_PUNCH_HOLE);

	return rc == -EOPNOTSUPP ? 0 : rc;
}

static int perform(struct disk *disk, struct disk_req *req)
{
	switch (req->op) {
	case DISK_READ:
	case DISK_WRITE:
		return transfer(disk, req);
	case DISK_FLUSH:
		return flush(disk);
	case DISK_DISCARD:
		return discard(disk, req);
	case DISK_ZERO:
		return zero(disk, req);
	}
	return -EINVAL;
}

static const char *const op_names[] = {
	[DISK_READ] = "reading from", [DISK_WRITE] = "writing to", [DISK_FLUSH] = "flushing",
	[DISK_DISCARD] = "discarding in", [DISK_ZERO] = "zeroing in",
};

static void complain(struct disk *disk, const struct disk_req *req)
{
	unsigned n = __atomic_fetch_add(&disk->complaints, 1, __ATOMIC_RELAXED);

	if (n < COMPLAINTS_MAX)
		log_warn("disk", "%s '%s' at byte %llu: %s", op_names[req->op],
			 disk->path, (unsigned long long)req->at, strerror(-req->rc));
}

/* On a thread of the pool. */
static void run(void *ctx, struct disk_req *req)
{
	struct disk *disk = ctx;

	req->rc = is_cancelled(disk) ? -ECANCELED : perform(disk, req);
	if (req->rc == 0 && req->sync)
		req->rc = flush(disk);
	if (req->rc < 0 && req->rc != -ECANCELED)
		complain(disk, req);
}

/* -- Submitting -------------------------------------------------------------------- */

static uint64_t length(const struct disk_req *req)
{
	uint64_t len = 0;

	if (req->op == DISK_DISCARD || req->op == DISK_ZERO)
		return req->len;
	for (unsigned i = 0; i < req->n_iov; i++)
		len += req->iov[i].iov_len;
	return len;
}

static int check(const struct disk *disk, const struct disk_req *req, uint64_t len)
{
	if (disk->held == REST)
		return -EBUSY;
	if (req->op == DISK_FLUSH)
		return 0;
	if (len == 0 || len % DISK_SECTOR || req->at % DISK_SECTOR ||
	    req->n_iov > DISK_IOV_MAX)
		return -EINVAL;
	if (req->at > disk->info.size || len > disk->info.size - req->at)
		return -EINVAL;
	return req->op != DISK_READ && disk->info.readonly ? -EROFS : 0;
}

/* Reads what can be read without waiting; true if that was all of it. */
static bool quick_read(struct disk *disk, struct disk_req *req, uint64_t len)
{
	ssize_t n;

	if (len > QUICK_READ_MAX || __atomic_load_n(&disk->no_quick, __ATOMIC_RELAXED))
		return false;
	n = preadv2(disk->fd, req->iov, (int)req->n_iov, (off_t)req->at, RWF_NOWAIT);
	if (n < 0 && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL))
		__atomic_store_n(&disk->no_quick, true, __ATOMIC_RELAXED);
	return n >= 0 && (uint64_t)n == len;
}

bool disk_submit(struct disk *disk, struct disk_req *req)
{
	uint64_t len = length(req);

	req->rc = check(disk, req, len);
	if (req->rc < 0)
		return true;
	if (req->op == DISK_READ && quick_read(disk, req, len))
		return true;
	pool_add(&disk->pool, req);
	return false;
}

void disk_cancel(struct disk *disk, bool on)
{
	__atomic_store_n(&disk->cancelled, on, __ATOMIC_RELAXED);
}

void disk_drain(struct disk *disk)
{
	pool_drain(&disk->pool);
}

/* -- Handing over ------------------------------------------------------------------ */

int disk_hand_over(struct disk *disk, struct err *err)
{
	int rc;

	if (disk->info.readonly || disk->held == REST)
		return 0;
	if (disk->held == FIRST && (rc = lock(disk->fd, F_WRLCK, ALL, err)) < 0)
		return err_at(err, rc, "disk '%s', where it came from", disk->path);
	disk->held = ALL;
	rc = flush(disk);
	if (rc < 0)
		return err_sys(err, -rc, "flushing disk '%s'", disk->path);
	rc = lock(disk->fd, F_UNLCK, FIRST, err);
	if (rc < 0)
		return err_at(err, rc, "disk '%s'", disk->path);
	disk->held = REST;
	return 0;
}

int disk_take_back(struct disk *disk, struct err *err)
{
	int rc;

	if (disk->held != REST)
		return 0;
	rc = lock(disk->fd, F_WRLCK, ALL, err);
	if (rc < 0)
		return err_at(err, rc, "disk '%s'", disk->path);
	disk->held = ALL;
	return 0;
}
