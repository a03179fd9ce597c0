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
 * (RWF_NOWAIT): it is a copy, and cheaper than waking a thread. All else may block. A longer copy is a thread's, and the guest goes on.
 */
#include "block/disk.h"

#include "base/err.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/image.h"
#include "block/iov.h"
#include "block/nbd/nbd.h"
#include "block/node.h"
#include "block/pool.h"
#include "block/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define THREADS_DEFAULT 4u
#define THREADS_REMOTE  16u /* that wait for a server */
#define QUICK_READ_MAX (256 * KiB) /* longer copies are worth a thread */
#define SLOTS 1000000u             /* of forks: slot_of() reads six digits */
#define COMPLAINTS_MAX 10u         /* lines that one disk may cause in the log */

struct disk {
	struct node *node;
	int fd; /* the node's; -1: it is on a server, and has no lock */
	struct disk_info info;
	struct pool pool;
	bool has_pool;
	char *path;
	enum file_part held; /* of its lock; changes only while no request is under way */
	int written, shared; /* the qcow2 file that is written, and the same to be read by forks; -1: there is none */
	struct disk_base base; /* what a fork of a fork has behind it */
	unsigned young[DISK_MOMENTS_YOUNG], n_young; /* slots, of the latest moments; in a request that is alone */
	unsigned next_slot;  /* from a random one on, for another lodge may have had the disk before; in a request that is alone */
	bool settled;
	bool borrowed; /* its descriptor is the caller's, too, and keeps the lock when we have closed ours */
	unsigned complaints; /* relaxed atomic */
};

/* -- Opening ----------------------------------------------------------------------- */

bool disk_is_remote(const char *path)
{
	return nbd_is_uri(path);
}

static void run(void *ctx, struct disk_req *req);

static int keep_base(struct disk *disk, const struct disk_base *base, struct err *err);
static int find_kept(struct disk *disk, const char *kept, struct err *err);
static void sweep(struct disk *disk, bool all);

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
	rc = image_open(&image, config, disk->held, 0, err);
	if (rc < 0)
		return rc;
	disk->node = image.node;
	disk->fd = image.fd;
	disk->written = image.written;
	disk->shared = image.written < 0 || disk->borrowed ? -1 : file_open_again(image.written);
	if (config->base && (rc = keep_base(disk, config->base, err)) < 0)
		return rc;
	disk->info = (struct disk_info){
		.size = image.node->size, .readonly = config->readonly, .format = image.format,
		.throw_away = config->throw_away, .block = image.block, .images = image.images, .can_discard = !config->readonly,
		.undated = config->base || config->go_back || image.fd < 0 || (config->handed_over && is_device(image.fd)),
	};
	if (config->go_back && (rc = find_kept(disk, config->go_back, err)) < 0)
		return rc;
	rc = pool_init(&disk->pool, config->threads ? config->threads : image.fd < 0 ? THREADS_REMOTE : THREADS_DEFAULT,
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
	disk->written = disk->shared = -1;
	if (getrandom(&disk->next_slot, sizeof(disk->next_slot), GRND_NONBLOCK) < 0)
		disk->next_slot = (unsigned)getpid();
	disk->next_slot %= SLOTS;
	disk->borrowed = config->fd > 0;
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
	/* What another lodge may take back is not changed, nor what a saved machine remembers. */
	if (disk->node && disk->held == FILE_ALL && !disk->settled)
		sweep(disk, true);
	if (disk->node && disk->held != FILE_REST)
		node_flush(disk->node);
	if (disk->node && disk->borrowed)
		file_lock(disk->fd, F_UNLCK, FILE_ALL, NULL);
	node_close(disk->node);
	if (disk->shared >= 0)
		close(disk->shared);
	disk_base_close(&disk->base);
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

bool disk_bars(const struct disk *disk, int fd, bool readonly)
{
	struct stat ours, its;

	if (syscall(SYS_fstat, disk->fd, &ours) < 0 || syscall(SYS_fstat, fd, &its) < 0)
		return true;
	return ours.st_dev == its.st_dev && ours.st_ino == its.st_ino &&
	       (disk->borrowed || !readonly || !(disk->info.readonly || disk->info.throw_away));
}

int disk_settle(struct disk *disk, struct err *err)
{
	int rc;

	if (disk->info.throw_away)
		return err_set(err, EBUSY, "disk '%s' is written only here (snapshot=on), and gone when the guest is",
			       disk->path);
	disk->settled = true;
	rc = disk->held == FILE_REST ? 0 : node_flush(disk->node);
	return rc < 0 ? err_sys(err, -rc, "flushing disk '%s'", disk->path) : 0;
}

const struct disk_info *disk_info(const struct disk *disk)
{
	return &disk->info;
}

/* -- Doing ------------------------------------------------------------------------- */

static int keep_moment(struct disk *disk, struct disk_moment *m);

static int perform(struct disk *disk, struct disk_req *req)
{
	struct node *node = disk->node;

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
	case DISK_MOMENT:
		return keep_moment(disk, container_of(req, struct disk_moment, req));
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

	req->rc = node_is_cancelled(disk->node) ? -ECANCELED : perform(disk, req);
	if (req->rc == 0 && req->sync)
		req->rc = node_flush(disk->node);
	if (req->rc < 0 && req->rc != -ECANCELED && req->op != DISK_MOMENT)
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
	for (struct node *n = disk->node; n; n = n->behind)
		__atomic_store_n(&n->cancelled, on, __ATOMIC_RELAXED);
}

void disk_drain(struct disk *disk)
{
	pool_drain(&disk->pool);
}

/* -- Moments ------------------------------------------------------------------------- */

#define FORK_NAME "lodge-fork-"

void disk_base_close(struct disk_base *base)
{
	while (base->n)
		close(base->layer[--base->n].fd);
}

static int copy_base(struct disk_base *to, const struct disk_base *from, struct err *err)
{
	*to = (struct disk_base){.of_file = from->of_file};
	for (; to->n < from->n; to->n++) {
		to->layer[to->n] = from->layer[to->n];
		to->layer[to->n].fd = fcntl(from->layer[to->n].fd, F_DUPFD_CLOEXEC, 0);
		if (to->layer[to->n].fd < 0) {
			disk_base_close(to);
			return err_sys(err, errno, "a descriptor");
		}
	}
	return 0;
}

static int keep_base(struct disk *disk, const struct disk_base *base, struct err *err)
{
	return copy_base(&disk->base, base, err);
}

int disk_base_hold(struct disk_base *base, unsigned slot, struct err *err)
{
	struct disk_layer *l = &base->layer[base->n - 1];
	int again = file_open_again(l->fd);

	if (again < 0)
		return err_sys(err, -again, "opening a disk of a fork again, by /proc");
	close(l->fd);
	l->fd = again;
	/* Who removes it has the slot alone; who has not yet removed it shares it with us. */
	if (file_lock_slot(again, F_RDLCK, slot) < 0 || !file_slot_is_taken(again, slot))
		return err_set(err, EBUSY, "the guest's lodge has ended, or forked the guest so often meanwhile that "
			       "this fork's disk is gone");
	return 0;
}

static bool is_qcow2(const struct disk *disk)
{
	return disk->written >= 0;
}

int disk_moment_check(const struct disk *disk, struct err *err)
{
	if (disk->info.readonly)
		return 0;
	if (!is_qcow2(disk))
		return err_set(err, EBUSY, "the guest writes to disk '%s', which is raw and cannot be at two states: it is "
			       "to be qcow2 (qemu-img convert -O qcow2), or used with snapshot=on or readonly=on",
			       disk->path);
	if (disk->borrowed)
		return err_set(err, EBUSY, "disk '%s' was attached while the guest ran, and cannot be opened once more for forks: it can when the guest was "
			       "saved and restored", disk->path);
	if (disk->shared < 0)
		return err_sys(err, -disk->shared, "disk '%s' could not be opened once more by /proc, for forks", disk->path);
	if (disk->base.n == DISK_LAYERS_MAX)
		return err_set(err, EBUSY, "disk '%s' is a fork of a fork, %u deep, and that is the most", disk->path,
			       DISK_LAYERS_MAX);
	return 0;
}

/* The slot of a fork's snapshot, or -1: it is none. */
static int slot_of(const char *name)
{
	const char *at = name + sizeof(FORK_NAME) - 1;
	int slot = 0;

	if (strncmp(name, FORK_NAME, sizeof(FORK_NAME) - 1) != 0 || !*at || strlen(at) > 6)
		return -1;
	for (; *at; at++) {
		if (*at < '0' || *at > '9')
			return -1;
		slot = slot * 10 + *at - '0';
	}
	return slot;
}

static bool is_young(const struct disk *disk, unsigned slot)
{
	for (unsigned i = 0; i < disk->n_young && i < DISK_MOMENTS_YOUNG; i++)
		if (disk->young[i] == slot)
			return true;
	return false;
}

/* Removes snapshots of forks that nobody has. What cannot be removed is left, for another time. No other request runs. */
static void sweep(struct disk *disk, bool all)
{
	for (unsigned i = is_qcow2(disk) ? qcow2_snapshots(disk->node) : 0; i-- > 0;) {
		char name[32];
		int slot;

		snprintf(name, sizeof(name), "%s", qcow2_snapshot_name(disk->node, i));
		slot = slot_of(name);
		if (slot < 0 || (!all && is_young(disk, (unsigned)slot)) ||
		    file_lock_slot(disk->written, F_WRLCK, (unsigned)slot) < 0)
			continue;
		if (qcow2_snapshot_delete(disk->node, name, NULL) == 0)
			file_lock_slot(disk->written, F_UNLCK, (unsigned)slot);
	}
}

/* One that no snapshot has, nor had: a fork that comes too late must not find somebody else's. */
static unsigned free_slot(struct disk *disk)
{
	for (;;) {
		unsigned i = 0, n = qcow2_snapshots(disk->node), slot = disk->next_slot;

		disk->next_slot = (slot + 1) % SLOTS;
		while (i < n && slot_of(qcow2_snapshot_name(disk->node, i)) != (int)slot)
			i++;
		if (i == n)
			return slot;
	}
}

/* A snapshot that is to be read by forks: its slot is ours before it is there. */
static int keep_fork(struct disk *disk, struct disk_moment *m)
{
	struct disk_layer *l;
	struct qcow2_tree tree;
	int rc;

	sweep(disk, false);
	m->slot = free_slot(disk);
	snprintf(m->name, sizeof(m->name), FORK_NAME "%u", m->slot);
	if (file_lock_slot(disk->written, F_RDLCK, m->slot) < 0)
		return err_set(&m->err, EBUSY, "disk '%s': another program has locked byte %llu", disk->path,
			       (unsigned long long)FILE_SLOTS + m->slot);
	if ((rc = qcow2_snapshot_create(disk->node, m->name, &m->err)) < 0 ||
	    (rc = qcow2_snapshot_tree(disk->node, m->name, &tree, &m->err)) < 0 ||
	    (rc = copy_base(&m->base, &disk->base, &m->err)) < 0)
		return rc;
	disk->young[disk->n_young++ % DISK_MOMENTS_YOUNG] = m->slot;
	if (!disk->base.n)
		m->base.of_file = !disk->info.throw_away;
	l = &m->base.layer[m->base.n];
	*l = (struct disk_layer){fcntl(disk->shared, F_DUPFD_CLOEXEC, 0), tree.l1_at, tree.l1_n};
	if (l->fd < 0)
		return err_sys(&m->err, errno, "a descriptor");
	m->base.n++;
	return 0;
}

/* On a thread of the pool, alone. */
static int keep_moment(struct disk *disk, struct disk_moment *m)
{
	const char *name = m->keep ? m->keep : m->forget;
	int rc = 0;

	if (disk->held == FILE_REST)
		return err_set(&m->err, EBUSY, "disk '%s' is another lodge's now", disk->path);
	if (name && slot_of(name) >= 0)
		return err_set(&m->err, EINVAL, "snapshots that are called '%s' and the like are those of forks", FORK_NAME "1");
	if (name) { /* one of that name is what a failed attempt has left */
		rc = qcow2_snapshot_delete(disk->node, name, &m->err);
		rc = rc == -ENOENT ? 0 : rc;
	}
	if (rc < 0 || m->forget)
		return rc;
	return m->keep ? qcow2_snapshot_create(disk->node, m->keep, &m->err) : keep_fork(disk, m);
}

static void end_moment(struct disk_req *req)
{
	struct disk_moment *m = container_of(req, struct disk_moment, req);

	scoped_lock(&m->lock);
	m->is_ended = true;
	pthread_cond_signal(&m->ended);
}

static void begin(struct disk *disk, struct disk_moment *m, const char *keep, const char *forget)
{
	*m = (struct disk_moment){.req = {.op = DISK_MOMENT, .alone = true, .done = end_moment}, .disk = disk, .keep = keep,
				  .forget = forget};
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->ended, NULL);
	pool_add(&disk->pool, &m->req);
}

void disk_moment_begin(struct disk *disk, struct disk_moment *m, const char *keep)
{
	begin(disk, m, keep, NULL);
}

void disk_moment_forget(struct disk *disk, struct disk_moment *m, const char *kept)
{
	begin(disk, m, NULL, kept);
}

static int find_kept(struct disk *disk, const char *kept, struct err *err)
{
	struct qcow2_tree tree;

	if (!is_qcow2(disk))
		return err_set(err, EINVAL, "is no qcow2 disk that is written, so it has no snapshots");
	return qcow2_snapshot_tree(disk->node, kept, &tree, err);
}

/* A guest's disk has one size. 0: nobody knows. */
static int check_size_then(struct disk *disk, const char *kept, struct err *err)
{
	struct qcow2_snapshot s;

	for (unsigned i = 0; i < qcow2_snapshots(disk->node); i++) {
		qcow2_snapshot_look(disk->node, i, &s);
		if (strcmp(s.name, kept) == 0 && s.disk_size && s.disk_size != disk->info.size)
			return err_set(err, EINVAL, "disk '%s' has %llu bytes, and had %llu at snapshot '%s'", disk->path,
				       (unsigned long long)disk->info.size, (unsigned long long)s.disk_size, kept);
	}
	return 0;
}

int disk_go_back(struct disk *disk, const char *kept, struct err *err)
{
	int rc = find_kept(disk, kept, err);

	if (rc == 0)
		rc = check_size_then(disk, kept, err);
	return rc < 0 ? rc : qcow2_snapshot_apply(disk->node, kept, err);
}

int disk_moment_end(struct disk_moment *m, struct err *err)
{
	pthread_mutex_lock(&m->lock);
	while (!m->is_ended)
		pthread_cond_wait(&m->ended, &m->lock);
	pthread_mutex_unlock(&m->lock);
	pthread_mutex_destroy(&m->lock);
	pthread_cond_destroy(&m->ended);
	if (m->req.rc < 0)
		disk_base_close(&m->base);
	if (m->req.rc < 0 && err)
		*err = m->err;
	return m->req.rc;
}

/* -- Handing over ------------------------------------------------------------------ */

static int lock(struct disk *disk, short type, enum file_part part, struct err *err)
{
	return disk->fd < 0 ? 0 : file_lock(disk->fd, type, part, err);
}

int disk_hand_over(struct disk *disk, struct err *err)
{
	int rc;

	if (disk->info.readonly || disk->held == FILE_REST)
		return 0;
	if (disk->info.throw_away)
		return err_set(err, EBUSY, "disk '%s' is written only here (snapshot=on): it cannot move", disk->path);
	if (disk->held == FILE_FIRST && (rc = lock(disk, F_WRLCK, FILE_ALL, err)) < 0)
		return err_at(err, rc, "disk '%s', where it came from", disk->path);
	disk->held = FILE_ALL;
	rc = node_flush(disk->node);
	if (rc < 0)
		return err_sys(err, -rc, "flushing disk '%s'", disk->path);
	rc = lock(disk, F_UNLCK, FILE_FIRST, err);
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
	rc = lock(disk, F_WRLCK, FILE_ALL, err);
	if (rc < 0)
		return err_at(err, rc, "disk '%s'", disk->path);
	disk->held = FILE_ALL;
	return 0;
}
