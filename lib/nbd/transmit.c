/* SPDX-License-Identifier: MIT */
/*
 * Requests: checked, given to the disk, answered as it is done with them, in whatever order that is.
 *
 * A flush makes lasting what was answered before it came, of all clients: there is one disk. So does FUA, for what cannot do that by
 * itself.
 *
 * The data of a write that is refused comes all the same, and is skipped.
 */
#include "nbd/private.h"

#include "base/bytes.h"
#include "base/macros.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>

struct request {
	unsigned flags;
	enum nbd_command command;
	uint64_t cookie, at;
	uint32_t len;
};

static step came_request, came_data;

/* -- Answers ------------------------------------------------------------------------ */

static uint32_t error_of(int rc)
{
	switch (-rc) {
	case EROFS: case EPERM: case EACCES: return NBD_EPERM;
	case ENOMEM: return NBD_ENOMEM;
	case EINVAL: return NBD_EINVAL;
	case ENOSPC: case EDQUOT: case EFBIG: return NBD_ENOSPC;
	case EOVERFLOW: return NBD_EOVERFLOW;
	case EOPNOTSUPP: return NBD_ENOTSUP;
	default: return NBD_EIO;
	}
}

static void put_chunk(struct answer *a, enum nbd_chunk type, size_t len)
{
	be32_put(a->header, NBD_CHUNK);
	be16_put(a->header + 4, NBD_CHUNK_DONE);
	be16_put(a->header + 6, (uint16_t)type);
	be64_put(a->header + 8, a->cookie);
	be32_put(a->header + 16, (uint32_t)len);
	a->n_header = 20;
}

/* Who has asked for structured replies gets reads in chunks: one each. */
static void put_structured(struct answer *a, int rc)
{
	if (rc < 0) {
		put_chunk(a, NBD_CHUNK_ERROR, 6);
		be32_put(a->header + 20, error_of(rc));
		be16_put(a->header + 24, 0); /* no text */
		a->n_header = 26;
	} else {
		put_chunk(a, NBD_CHUNK_DATA, 8 + a->n_room);
		be64_put(a->header + 20, a->disk.at);
		a->n_header = 28;
	}
}

static void put_simple(struct answer *a, int rc)
{
	be32_put(a->header, NBD_SIMPLE);
	be32_put(a->header + 4, rc < 0 ? error_of(rc) : 0);
	be64_put(a->header + 8, a->cookie);
	a->n_header = 16;
}

static void finish(struct answer *a, int rc)
{
	bool has_data = a->command == NBD_CMD_READ && rc == 0;

	if (a->command == NBD_CMD_READ && a->of->structured)
		put_structured(a, rc);
	else
		put_simple(a, rc);
	a->n_bytes = has_data ? a->n_room : 0;
	answer_send(a);
}

/* -- The disk ------------------------------------------------------------------------ */

/* On one of the disk's threads. */
static void done(struct disk_req *req)
{
	struct answer *a = container_of(req, struct answer, disk);
	struct nbd_server *s = a->of->of;

	a->next = NULL;
	pthread_mutex_lock(&s->lock);
	*s->done_last = a;
	s->done_last = &a->next;
	pthread_mutex_unlock(&s->lock);
	loop_call(&s->woken);
}

static void submit(struct answer *a);

/* The disk has ended what it was asked, and the loop's thread knows it. */
static void step_done(struct answer *a)
{
	if (a->then_flush && a->disk.rc == 0 && a->of->fd >= 0) {
		a->then_flush = false;
		a->disk.op = DISK_FLUSH;
		submit(a);
	} else {
		finish(a, a->disk.rc);
	}
}

static void submit(struct answer *a)
{
	a->disk.done = done;
	if (disk_submit(a->of->of->config.disk, &a->disk))
		step_done(a);
}

void transmit_done(void *server)
{
	struct nbd_server *s = server;
	struct answer *list;

	{
		scoped_lock(&s->lock);
		list = s->done;
		s->done = NULL;
		s->done_last = &s->done;
	}
	while (list) {
		struct answer *a = list;

		list = a->next;
		step_done(a);
	}
}

/* -- Requests ------------------------------------------------------------------------ */

struct rule {
	bool is_known;
	unsigned flags;     /* that it may have; FUA is asked of reads and flushes, too, by clients that set it everywhere, and means nothing there */
	bool changes;       /* the disk */
	bool in_memory;     /* its data is in the message or in the answer */
	enum disk_op op;
};

static const struct rule rules[NBD_COMMANDS] = {
	[NBD_CMD_READ] = {.is_known = true, .flags = NBD_CMD_FUA | NBD_CMD_DF, .in_memory = true, .op = DISK_READ},
	[NBD_CMD_WRITE] = {.is_known = true, .flags = NBD_CMD_FUA, .changes = true, .in_memory = true, .op = DISK_WRITE},
	[NBD_CMD_FLUSH] = {.is_known = true, .flags = NBD_CMD_FUA, .op = DISK_FLUSH},
	[NBD_CMD_TRIM] = {.is_known = true, .flags = NBD_CMD_FUA, .changes = true, .op = DISK_DISCARD},
	/* No hole: files keep what they have, and in qcow2 there are clusters of zeros, which take no room until they are written. */
	[NBD_CMD_WRITE_ZEROES] = {.is_known = true, .flags = NBD_CMD_FUA | NBD_CMD_NO_HOLE, .changes = true, .op = DISK_ZERO},
};

/* 0, or why not. */
static int check(const struct nbd_server *s, const struct request *r)
{
	const struct disk_info *info = disk_info(s->config.disk);
	const struct rule *rule = &rules[r->command < NBD_COMMANDS ? r->command : NBD_CMD_DISC];

	if (!rule->is_known || r->flags & ~rule->flags)
		return -EINVAL;
	if (r->command == NBD_CMD_FLUSH)
		return 0;
	if (rule->changes && info->readonly)
		return -EPERM;
	if (rule->in_memory && r->len > NBD_LENGTH_MAX)
		return -EOVERFLOW;
	if (r->at > info->size || r->len > info->size - r->at)
		return rule->changes ? -ENOSPC : -EINVAL;
	return r->len && r->at % DISK_SECTOR == 0 && r->len % DISK_SECTOR == 0 ? 0 : -EINVAL;
}

static void want_request(struct client *c)
{
	c->want = NBD_REQUEST_LEN;
	c->step = came_request;
}

static void fill(struct answer *a, const struct request *r)
{
	bool fua = r->flags & NBD_CMD_FUA && rules[r->command].changes;

	a->disk = (struct disk_req){.op = rules[r->command].op, .at = r->at, .len = r->len};
	if (rules[r->command].in_memory) {
		a->iov = (struct iovec){a->bytes, r->len};
		a->disk.iov = &a->iov;
		a->disk.n_iov = 1;
	}
	a->then_flush = fua && r->command == NBD_CMD_TRIM;
	a->disk.sync = fua && !a->then_flush;
}

/* False: there is no memory even to say that. */
static bool answer_request(struct client *c, const struct request *r)
{
	int rc = check(c->of, r);
	bool data = rc == 0 && rules[r->command].in_memory;
	struct answer *a = answer_new(c, data ? r->len : 0);

	if (!a && data && r->command == NBD_CMD_READ) {
		a = answer_new(c, 0);
		rc = -ENOMEM;
	}
	if (!a)
		return false;
	a->cookie = r->cookie;
	a->command = r->command;
	if (r->command == NBD_CMD_WRITE && rc < 0)
		c->skip = r->len;
	if (rc < 0) {
		finish(a, rc);
		return true;
	}
	fill(a, r);
	if (r->command != NBD_CMD_WRITE) {
		submit(a);
		return true;
	}
	c->into = a;
	c->n_into = 0;
	c->step = came_data;
	return true;
}

static bool came_request(struct client *c, const uint8_t *bytes)
{
	struct request r = {
		.flags = be16_get(bytes + 4), .command = be16_get(bytes + 6), .cookie = be64_get(bytes + 8), .at = be64_get(bytes + 16),
		.len = be32_get(bytes + 24),
	};

	if (be32_get(bytes) != NBD_REQUEST)
		return false;
	if (r.command == NBD_CMD_DISC) {
		c->ending = true;
		return true;
	}
	return answer_request(c, &r);
}

static bool came_data(struct client *c, const uint8_t *none)
{
	struct answer *a = c->into;

	(void)none;
	c->into = NULL;
	want_request(c);
	submit(a);
	return true;
}

void transmit_begin(struct client *c)
{
	want_request(c);
}
