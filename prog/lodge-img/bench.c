/* SPDX-License-Identifier: MIT */
/*
 * lodge-img bench: requests to an image, as a guest's disk makes them (block/disk.h), so many at a time. The time that it says
 * is a measurement of this computer at this moment.
 */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DEPTH_MAX 1024u

struct bench {
	const char *path;
	const char *format, *at, *buffer, *step, *cache, *aio;
	unsigned count, depth, flush_interval, pattern;
	bool writes, native, no_drain, quiet, shares;
};

static const struct bench defaults = {.count = 75000, .depth = 64};

static const struct option options[] = {
	{"-c", "N", "requests in all (default: 75000)", OPTION_NUMBER, offsetof(struct bench, count), 1, 1u << 31, NULL},
	{"-d", "N", "requests at a time, 1 to 1024 (default: 64)", OPTION_NUMBER, offsetof(struct bench, depth), 1, DEPTH_MAX, NULL},
	OPTION_FORMAT(offsetof(struct bench, format)),
	{"-w", NULL, "writes, and does not read", OPTION_FLAG, offsetof(struct bench, writes), 0, 0, NULL},
	{"--pattern", "N", "the byte that is written, 0 to 255 (default: 0)", OPTION_NUMBER, offsetof(struct bench, pattern), 0, 255, NULL},
	{"--flush-interval", "N", "a flush after so many writes (default: none)", OPTION_NUMBER, offsetof(struct bench, flush_interval), 0, 1u << 31, NULL},
	{"--no-drain", NULL, "goes on while it flushes", OPTION_FLAG, offsetof(struct bench, no_drain), 0, 0, NULL},
	{"-o", "SIZE", "where the first one is (default: 0)", OPTION_TEXT, offsetof(struct bench, at), 0, 0, NULL},
	{"-s", "SIZE", "of each (default: 4k)", OPTION_TEXT, offsetof(struct bench, buffer), 0, 0, NULL},
	{"-S", "SIZE", "how far the next one is from it (default: as -s)", OPTION_TEXT, offsetof(struct bench, step), 0, 0, NULL},
	{"-n", NULL, "changes nothing: there is one way of doing I/O", OPTION_FLAG, offsetof(struct bench, native), 0, 0, NULL},
	{"-i", "threads|native|io_uring", "the same", OPTION_WORD, offsetof(struct bench, aio), 0, 0, NULL},
	OPTION_CACHE(offsetof(struct bench, cache)),
	OPTION_QUIET(offsetof(struct bench, quiet)),
	OPTION_SHARE(offsetof(struct bench, shares)),
	{0},
};

struct benching;

struct slot {
	struct disk_req req;
	struct iovec iov;
	struct benching *b;
	struct slot *next;
};

struct benching {
	const struct bench *c;
	struct disk *disk;
	uint64_t at, first, size, step, end;
	unsigned begun, under_way, since_flush;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	struct slot *free;
	int rc;
};

/* Lock held. */
static void end(struct slot *s)
{
	struct benching *b = s->b;

	if (s->req.rc < 0 && b->rc == 0)
		b->rc = s->req.rc;
	b->under_way--;
	s->next = b->free;
	b->free = s;
	pthread_cond_signal(&b->ended);
}

static void done(struct disk_req *req)
{
	struct slot *s = container_of(req, struct slot, req);
	scoped_lock(&s->b->lock);

	end(s);
}

/* Lock held, but while the disk has it. */
static void submit(struct benching *b, enum disk_op op)
{
	struct slot *s = b->free;
	bool now;

	b->free = s->next;
	b->under_way++;
	s->iov.iov_len = b->size;
	s->req = (struct disk_req){.op = op, .at = b->at, .iov = &s->iov, .n_iov = 1, .done = done};
	pthread_mutex_unlock(&b->lock);
	now = disk_submit(b->disk, &s->req);
	pthread_mutex_lock(&b->lock);
	if (now)
		end(s);
}

static void wait_until(struct benching *b, unsigned under_way)
{
	while (b->under_way > under_way)
		pthread_cond_wait(&b->ended, &b->lock);
}

static void next(struct benching *b)
{
	submit(b, b->c->writes ? DISK_WRITE : DISK_READ);
	b->begun++;
	b->at += b->step;
	if (b->at > b->end - b->size || b->at < b->first)
		b->at = b->first;
	if (!b->c->flush_interval || ++b->since_flush < b->c->flush_interval)
		return;
	b->since_flush = 0;
	wait_until(b, b->c->no_drain ? b->c->depth - 1 : 0);
	submit(b, DISK_FLUSH);
	if (!b->c->no_drain)
		wait_until(b, 0);
}

static int run(struct benching *b)
{
	scoped_lock(&b->lock);
	while (b->begun < b->c->count && b->rc == 0) {
		wait_until(b, b->c->depth - 1);
		next(b);
	}
	wait_until(b, 0);
	return b->rc;
}

static int find_sizes(struct benching *b, struct err *err)
{
	const struct bench *c = b->c;
	int rc = 0;

	b->size = 4096;
	if (c->buffer)
		rc = img_number(&b->size, c->buffer, "-s", err);
	b->step = b->size;
	if (rc == 0 && c->step)
		rc = img_number(&b->step, c->step, "-S", err);
	if (rc == 0 && c->at)
		rc = img_number(&b->first, c->at, "-o", err);
	b->at = b->first;
	b->end = disk_info(b->disk)->size;
	if (rc == 0 && (b->size == 0 || b->size % 512 || b->size > 64 * MiB || b->step % 512 || b->first % 512))
		rc = err_set(err, EINVAL, "-s, -S and -o are multiples of 512, and -s is 512 to 64M");
	if (rc == 0 && (b->first > b->end || b->size > b->end - b->first))
		rc = err_set(err, EINVAL, "requests of %llu bytes from %llu on are not in a disk of %llu",
			     (unsigned long long)b->size, (unsigned long long)b->first, (unsigned long long)b->end);
	if (rc == 0 && b->size * (c->depth + UINT64_C(1)) > GiB)
		rc = err_set(err, EINVAL, "%u requests of %llu bytes at a time are more than 1 GiB", c->depth,
			     (unsigned long long)b->size);
	if (rc == 0 && c->flush_interval && !c->writes)
		rc = err_set(err, EINVAL, "--flush-interval is for -w");
	return rc;
}

/* Slots and their memory in one piece. */
static struct slot *make_slots(struct benching *b, uint8_t **bytes, struct err *err)
{
	unsigned n = b->c->depth + 1; /* one for a flush */
	struct slot *slots = calloc(n, sizeof(*slots));

	*bytes = aligned_alloc(4096, align_up(n * b->size, UINT64_C(4096)));
	if (!slots || !*bytes) {
		err_set(err, ENOMEM, "no memory for %u requests of %llu bytes", n, (unsigned long long)b->size);
		free(slots);
		return NULL;
	}
	memset(*bytes, (int)b->c->pattern, n * b->size);
	for (unsigned i = 0; i < n; i++) {
		slots[i] = (struct slot){.b = b, .iov.iov_base = *bytes + i * b->size, .next = b->free};
		b->free = &slots[i];
	}
	return slots;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int bench(struct benching *b, struct err *err)
{
	uint8_t *bytes = NULL;
	struct slot *slots = NULL;
	double before;
	int rc = find_sizes(b, err);

	if (rc == 0)
		slots = make_slots(b, &bytes, err);
	if (rc == 0 && slots) {
		if (!b->c->quiet)
			printf("Sending %u %s requests, %llu bytes each, %u in parallel (starting at offset %llu, step size %llu)\n",
			       b->c->count, b->c->writes ? "write" : "read", (unsigned long long)b->size, b->c->depth,
			       (unsigned long long)b->first, (unsigned long long)b->step);
		before = seconds();
		rc = run(b);
		if (rc < 0)
			rc = err_sys(err, -rc, "a request");
		else if (!b->c->quiet)
			printf("Run completed in %.3f seconds.\n", seconds() - before);
	} else if (rc == 0) {
		rc = -ENOMEM;
	}
	free(slots);
	free(bytes);
	return rc;
}

/* lib/block's disks want to know the format: as for other verbs, it is found out. */
static int find_format(const struct bench *c, struct disk_config *config, struct err *err)
{
	struct image image;
	int rc = img_open(&image, &(struct want){.path = c->path, .format = c->format, .how = img_how(c->shares, false)}, err);

	if (rc < 0)
		return rc;
	*config = (struct disk_config){.path = c->path, .format = image.format, .readonly = !c->writes};
	return img_close(&image, c->path, false, err);
}

static int bench_main(void *parsed)
{
	struct benching b = {.c = parsed, .lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
	struct disk_config config;
	struct err err = {0};
	int rc = find_format(b.c, &config, &err);

	if (rc == 0)
		rc = disk_open(&b.disk, &config, &err);
	if (rc == 0) {
		rc = bench(&b, &err);
		if (rc < 0)
			err_at(&err, rc, "'%s'", b.c->path);
		disk_close(b.disk);
	}
	return rc < 0 ? img_fail(&err) : EXIT_OK;
}

const struct verb verb_bench = {
	.name = "bench",
	.summary = "requests to an image, and how long they take",
	.text = FORMAT_TEXT,
	.operand = "FILE",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct bench),
	.defaults = &defaults,
	.main = bench_main,
};
