/* SPDX-License-Identifier: MIT */
/*
 * A disk's requests, its threads and its lock; what it is made of are nodes (node.h).
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
 */
#include "block/disk.h"

#include "base/err.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/image.h"
#include "block/iov.h"
#include "block/node.h"
#include "block/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS_DEFAULT 4u
#define QUICK_READ_MAX (256 * KiB) /* longer copies are worth a thread */
#define COMPLAINTS_MAX 10u         /* lines that one disk may cause in the log */

struct disk {
	struct node *node;
	int fd; /* the node's */
	struct disk_info info;
	struct pool pool;
	bool has_pool;
	char *path;
	enum file_part held; /* of its lock; changes only while no request is under way */
	unsigned complaints; /* relaxed atomic */
};

/* -- Opening ----------------------------------------------------------------------- */

static void run(void *ctx, struct disk_req *req);

/* Of a device that moves its node's date says nothing. */
static bool is_device(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISBLK(st.st_mode);
}

static int open_disk(struct disk *disk, const struct disk_config *config,
		     struct err *err)
{
	struct image image;
	int rc;

	disk->held = config->handed_over ? FILE_FIRST : FILE_ALL;
	rc = image_open(&image, config, disk->held, err);
	if (rc < 0)
		return rc;
	disk->node = image.node;
	disk->fd = image.fd;
	disk->info = (struct disk_info){
		.size = image.node->size, .readonly = config->readonly, .format = image.format,
		.throw_away = config->throw_away, .block = image.block, .can_discard = !config->readonly,
		.undated = config->handed_over && is_device(image.fd),
	};
	rc = pool_init(&disk->pool, config->threads ? config->threads : THREADS_DEFAULT,
		       run, disk);
	disk->has_pool = true;
	if (rc < 0)
		return err_sys(err, -rc, "cannot start a thread for it");
	disk->path = strdup(config->path);
	return disk->path ? 0 : err_set(err, ENOMEM, "out of memory");
}

int disk_open(struct disk **out, const struct disk_config *config, struct err *err)
{
	struct disk *disk = calloc(1, sizeof(*disk));
	int rc;

	*out = NULL;
	if (!disk)
		return err_set(err, ENOMEM, "out of memory");
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
	if (disk->node && disk->held != FILE_REST)
		node_flush(disk->node);
	node_close(disk->node);
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

int disk_settle(struct disk *disk, struct err *err)
{
	int rc;

	if (disk->info.throw_away)
		return err_set(err, EBUSY, "disk '%s' is written only here (snapshot=on), and gone when the guest is",
			       disk->path);
	rc = disk->held == FILE_REST ? 0 : node_flush(disk->node);
	return rc < 0 ? err_sys(err, -rc, "flushing disk '%s'", disk->path) : 0;
}

const struct disk_info *disk_info(const struct disk *disk)
{
	return &disk->info;
}

/* -- Doing ------------------------------------------------------------------------- */

static int perform(struct node *node, struct disk_req *req)
{
	switch (req->op) {
	case DISK_READ:
		return node_read(node, req->at, req->iov, req->n_iov);
	case DISK_WRITE:
		return node_write(node, req->at, req->iov, req->n_iov);
	case DISK_FLUSH:
		return node_flush(node);
	case DISK_DISCARD:
		return node->ops->discard(node, req->at, req->len);
	case DISK_ZERO:
		return node->ops->zero(node, req->at, req->len);
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

	req->rc = node_is_cancelled(disk->node) ? -ECANCELED : perform(disk->node, req);
	if (req->rc == 0 && req->sync)
		req->rc = node_flush(disk->node);
	if (req->rc < 0 && req->rc != -ECANCELED)
		complain(disk, req);
}

/* -- Submitting -------------------------------------------------------------------- */

static uint64_t length(const struct disk_req *req)
{
	bool is_range = req->op == DISK_DISCARD || req->op == DISK_ZERO;

	return is_range ? req->len : iov_length(req->iov, req->n_iov);
}

static int check(const struct disk *disk, const struct disk_req *req, uint64_t len)
{
	if (disk->held == FILE_REST)
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

bool disk_submit(struct disk *disk, struct disk_req *req)
{
	uint64_t len = length(req);

	req->rc = check(disk, req, len);
	if (req->rc < 0)
		return true;
	if (req->op == DISK_READ && len <= QUICK_READ_MAX &&
	    disk->node->ops->read_cached(disk->node, req->at, req->iov, req->n_iov, len))
		return true;
	pool_add(&disk->pool, req);
	return false;
}

void disk_cancel(struct disk *disk, bool on)
{
	__atomic_store_n(&disk->node->cancelled, on, __ATOMIC_RELAXED);
}

void disk_drain(struct disk *disk)
{
	pool_drain(&disk->pool);
}

/* -- Handing over ------------------------------------------------------------------ */

int disk_hand_over(struct disk *disk, struct err *err)
{
	int rc;

	if (disk->info.readonly || disk->held == FILE_REST)
		return 0;
	if (disk->info.throw_away)
		return err_set(err, EBUSY, "disk '%s' is written only here (snapshot=on): it cannot move", disk->path);
	if (disk->held == FILE_FIRST && (rc = file_lock(disk->fd, F_WRLCK, FILE_ALL, err)) < 0)
		return err_at(err, rc, "disk '%s', where it came from", disk->path);
	disk->held = FILE_ALL;
	rc = node_flush(disk->node);
	if (rc < 0)
		return err_sys(err, -rc, "flushing disk '%s'", disk->path);
	rc = file_lock(disk->fd, F_UNLCK, FILE_FIRST, err);
	if (rc < 0)
		return err_at(err, rc, "disk '%s'", disk->path);
	disk->held = FILE_REST;
	return 0;
}

int disk_take_back(struct disk *disk, struct err *err)
{
	int rc;

	if (disk->held != FILE_REST)
		return 0;
	rc = file_lock(disk->fd, F_WRLCK, FILE_ALL, err);
	if (rc < 0)
		return err_at(err, rc, "disk '%s'", disk->path);
	disk->held = FILE_ALL;
	return 0;
}
