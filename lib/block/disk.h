/* SPDX-License-Identifier: MIT */
/*
 * A disk: an image file, raw or qcow2, locked, or an export of an NBD server; with asynchronous requests.
 *
 *	struct disk *disk;
 *	int rc = disk_open(&disk, &(struct disk_config){.path = "root.img"}, &err);
 *
 *	struct disk_req req = {.op = DISK_READ, .at = 0, .iov = iov, .n_iov = 1, .done = done};
 *	if (disk_submit(disk, &req))
 *		...                   // finished already: req.rc says how
 *	                              // else done(&req) runs on one of the disk's threads
 *
 * A request and everything it points at belongs to the disk from disk_submit() until
 * that returns true or done is called. Requests run in any order and at the same time;
 * a FLUSH makes lasting what was done *before it was submitted*.
 *
 * Errors are -errno, in err with one sentence when a disk is opened, in req.rc when it is used:
 * -EIO from the host, -EINVAL for what is out of range, -EROFS for a change to a readonly disk,
 * -ECANCELED for what disk_cancel() ended, -EBUSY for a disk that was handed over.
 *
 * A disk can go from one lodge to another, which name the same file, and is locked all the time:
 *
 *	disk_drain(disk); disk_hand_over(disk, &err);     // here; then
 *	disk_open(..., .handed_over = true ...);          // there
 *	disk_close(disk);                                 // here; or, if there nobody has it (any more):
 *	disk_take_back(disk, &err);
 */
#ifndef BLOCK_DISK_H
#define BLOCK_DISK_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/err.h"

struct disk;

#define DISK_SECTOR  512u
#define DISK_IOV_MAX 256u /* pieces of memory in a request */

/* What a file is; the option says it, or else its name: FILE.qcow2 is qcow2, all others are raw. */
enum disk_format { DISK_BY_NAME, DISK_RAW, DISK_QCOW2 };

extern const char *const disk_formats[DISK_QCOW2 + 1]; /* "raw", "qcow2" */

/* Whether a path names a server, nbd://HOST/NAME or nbd+unix:///NAME?socket=PATH, and no file. */
bool disk_is_remote(const char *path);

struct disk_base;

struct disk_config {
	const char *path; /* of a file, or what disk_is_remote() */
	int fd; /* of the file, if it is open already: nothing can be behind it then. Stays the caller's; 0: it is not */
	enum disk_format format;
	bool readonly;
	bool throw_away; /* the file is only read; what is written goes when the disk is closed */
	unsigned threads; /* that do its I/O; 0 means 4 */
	bool handed_over; /* by another lodge, which has called disk_hand_over() */
	const char *snapshot;         /* readonly: what it was at that one, by its name or number */
	const char *go_back;          /* to a kept moment, by disk_go_back(): it must be there */
	const struct disk_base *base; /* with throw_away: what a fork is to have, rather than the file as it is now */
};

struct disk_info {
	uint64_t size; /* in bytes, a multiple of DISK_SECTOR */
	bool readonly;
	enum disk_format format;
	bool throw_away;
	uint32_t block; /* preferred I/O size, 512 to 64 KiB */
	unsigned images; /* it and those behind it */
	bool can_discard;
	bool undated; /* disk_written() does not tell who wrote it */
};

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_ZERO, DISK_MOMENT };

struct disk_req {
	enum disk_op op;
	uint64_t at;  /* in bytes */
	uint64_t len; /* DISCARD and ZERO only; READ and WRITE count their iov */
	struct iovec *iov; /* is changed when a request is done in parts */
	unsigned n_iov;
	bool sync; /* WRITE, ZERO: lasting before done is called */
	void (*done)(struct disk_req *req);
	int rc; /* for done: 0 or -errno */
	struct disk_req *next; /* the disk's */
	bool alone; /* the same */
};

/* Opens and locks: shared for readonly and throw_away, alone otherwise. err names the file and the
 * reason. */
int disk_open(struct disk **disk, const struct disk_config *config, struct err *err);

/* Waits for what is under way, makes it lasting, and closes. NULL is fine. */
void disk_close(struct disk *disk);

/* What it is; the same for its whole life, which the pointer shares. Any thread. */
const struct disk_info *disk_info(const struct disk *disk);

/* Its file, as it was named; when that was last written, in ns since 1970. */
const char *disk_path(const struct disk *disk);
uint64_t disk_written(const struct disk *disk);

/* Whether another disk of this descriptor would have or take its lock: it is the same file, and one of the two is written, or this one came as a descriptor, too. */
bool disk_bars(const struct disk *disk, int fd, bool readonly);

/* Writes and flushes all that its file does not have yet, so that this changes no more. No request is under way. -EBUSY: its
 * writes are thrown away. */
int disk_settle(struct disk *disk, struct err *err);

/* Starts a request, and never waits for the disk. True: it is finished already, done is
 * not called. What is out of range or not made of whole sectors ends with -EINVAL, a
 * change to a readonly disk with -EROFS. Any thread. */
bool disk_submit(struct disk *disk, struct disk_req *req);

/* From on to off, requests end as soon as they can, done or not: nobody wants them any more. Never
 * waits. Any thread. */
void disk_cancel(struct disk *disk, bool on);

/* Waits until no request is under way. The caller holds no lock that a done needs. */
void disk_drain(struct disk *disk);

/* Makes a disk that is written lasting, and lets another lodge open it; requests end with -EBUSY from here on. None is under
 * way. -errno: it is as it was. -EBUSY: the lodge that it came from has not closed it yet. One that is
 * readonly is left alone, as is one that was handed over. */
int disk_hand_over(struct disk *disk, struct err *err);

/* It stays here. -EBUSY: somebody else has it, and it is as it was. Any other disk is fine. */
int disk_take_back(struct disk *disk, struct err *err);

/* -- Moments ------------------------------------------------------------------------- */

/*
 * What a disk is at one moment, kept for others: an internal snapshot of the qcow2 file that is written.
 *
 *	here                                             there, in a fork
 *	... the guest is paused ...
 *	disk_moment_begin(disk, &m, NULL);
 *	... the guest goes on ...
 *	disk_moment_end(&m, &err);                       m.base and m.slot come, descriptors and all
 *	                                                 disk_base_hold(&base, slot, &err);
 *	                                                 disk_open(..., .throw_away = true, .base = &base)
 *
 * A fork reads what nobody writes, as long as the snapshot is there. For that it has a lock on a byte behind the disk's, the
 * slot's, on a descriptor of its own; the snapshot is removed by a later moment, or when the disk is closed, if nobody has
 * the slot. Those of the last DISK_MOMENTS_YOUNG moments are not, while the disk is open: who asked may not hold it yet.
 */
#define DISK_LAYERS_MAX    8u
#define DISK_MOMENTS_YOUNG 8u

/* A snapshot in a qcow2 file, which is open to be read. */
struct disk_layer {
	int fd;
	uint64_t l1_at;
	uint32_t l1_n;
};

/* What is behind a fork's writes: layers, the last one first, and then the disk's file, or what is behind that. */
struct disk_base {
	bool of_file; /* the first layer is in the disk's file */
	struct disk_layer layer[DISK_LAYERS_MAX];
	unsigned n;
};

/* Closes the descriptors of its layers; a zeroed one is fine. */
void disk_base_close(struct disk_base *base);

/* Takes the slot of the last layer. -EBUSY: that is gone already. */
int disk_base_hold(struct disk_base *base, unsigned slot, struct err *err);

/* Whether a moment of it can be had; -EBUSY with what would do, if it is written and raw. */
int disk_moment_check(const struct disk *disk, struct err *err);

struct disk_moment {
	struct disk_req req;
	struct disk *disk;
	const char *keep, *forget;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool is_ended;
	struct err err;
	char name[32];
	unsigned slot;
	struct disk_base base; /* the caller's, who closes it */
};

/* Begins: requests from here on wait until it has ended, and those before have. With a name the snapshot is kept under
 * that, without a slot; one that has it already makes room. Never waits. */
void disk_moment_begin(struct disk *disk, struct disk_moment *m, const char *keep);

/* The same, to remove a kept one, if it is there. */
void disk_moment_forget(struct disk *disk, struct disk_moment *m, const char *kept);

/* The disk is what it was at a kept moment. No request is under way, and no guest has seen it. */
int disk_go_back(struct disk *disk, const char *kept, struct err *err);

/* Waits until it has ended. 0 or -errno; then there is no base. */
int disk_moment_end(struct disk_moment *m, struct err *err);

#endif
