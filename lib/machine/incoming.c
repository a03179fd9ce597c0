/* SPDX-License-Identifier: MIT */
/*
 * See incoming.h. Memory goes from the stream into a memfd, which becomes the machine's RAM; the state into another, which is
 * a saved machine once its memory is a hole of the right size.
 *
 * Nothing that the stream says is allocated: memory is sparse, and grows by what was sent.
 */
#include "machine/incoming.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/memfile.h"
#include "machine/map.h"
#include "machine/saved/form.h"
#include "machine/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#define STATE_MAX (SAVED_SECTIONS_MAX + 16 * MiB) /* description, sums of 512 GiB */

struct frame {
	uint32_t type, count;
	uint64_t value;
};

struct reader {
	struct incoming *in;
	int fd;
	uint64_t size, state_len; /* of memory; of the state, 0 before it was sent */
	struct err *err;
	uint8_t bytes[STREAM_RUN * STREAM_PAGE];
};

/* -- Bytes ------------------------------------------------------------------------- */

static int get(struct reader *r, void *to, size_t len)
{
	while (len) {
		ssize_t n = read(r->fd, to, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(r->err, errno, "receiving the guest");
		if (n == 0)
			return err_set(r->err, EIO, "the stream ended before the guest was here");
		to = (uint8_t *)to + n;
		len -= (size_t)n;
	}
	return 0;
}

static int get_frame(struct reader *r, struct frame *f)
{
	uint8_t head[STREAM_HEAD];
	int rc = get(r, head, sizeof(head));

	*f = (struct frame){le32_get(head), le32_get(head + 4), le64_get(head + 8)};
	return rc;
}

static int put(struct reader *r, int fd, const void *bytes, size_t len, uint64_t at)
{
	if (pwrite(fd, bytes, len, (off_t)at) == (ssize_t)len)
		return 0;
	return err_sys(r->err, errno, "memory for the guest");
}

/* -- Frames ------------------------------------------------------------------------ */

static int begin(struct reader *r)
{
	struct frame f;
	int rc = get_frame(r, &f);

	if (rc < 0)
		return rc;
	if (f.type != STREAM_BEGIN)
		return err_set(r->err, EINVAL, "this is no guest that migrates");
	if (f.count != STREAM_VERSION)
		return err_set(r->err, EINVAL, "the stream is version %u: this lodge knows %u", f.count,
			       STREAM_VERSION);
	if (f.value < MAP_MEMORY_MIN || f.value > MAP_SIZE_MAX || f.value % STREAM_PAGE)
		return err_set(r->err, EINVAL, "a guest with %" PRIu64 " bytes of memory", f.value);
	r->size = f.value;
	r->in->ram = memfile_create("lodge-ram", r->size);
	r->in->state = memfile_create("lodge-state", 0);
	if (r->in->ram < 0 || r->in->state < 0)
		return err_set(r->err, ENOMEM, "no memory for a guest of %" PRIu64 " MiB", r->size >> 20);
	return 0;
}

static int check_pages(struct reader *r, const struct frame *f)
{
	if (f->count == 0 || f->count > STREAM_RUN || f->value % STREAM_PAGE || f->value > r->size ||
	    f->count * (uint64_t)STREAM_PAGE > r->size - f->value)
		return err_set(r->err, EINVAL, "%u pages at 0x%" PRIx64 " of a memory of 0x%" PRIx64,
			       f->count, f->value, r->size);
	return 0;
}

static int take_pages(struct reader *r, const struct frame *f)
{
	size_t len = f->count * (size_t)STREAM_PAGE;
	int rc;

	if ((rc = check_pages(r, f)) < 0 || (rc = get(r, r->bytes, len)) < 0)
		return rc;
	return put(r, r->in->ram, r->bytes, len, f->value);
}

/* The page may have been sent before, when it was something else. */
static int take_zeros(struct reader *r, const struct frame *f)
{
	int rc = check_pages(r, f);

	if (rc == 0 && fallocate(r->in->ram, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)f->value,
				 (off_t)f->count * STREAM_PAGE) < 0)
		rc = err_sys(r->err, errno, "memory for the guest");
	return rc;
}

static int take_state(struct reader *r, const struct frame *f)
{
	uint64_t at = 0;
	int rc = 0;

	if (r->state_len || f->value < SAVED_HEADER || f->value > STATE_MAX)
		return err_set(r->err, EINVAL, "a state of %" PRIu64 " bytes", f->value);
	while (rc == 0 && at < f->value) {
		size_t len = f->value - at < sizeof(r->bytes) ? (size_t)(f->value - at) : sizeof(r->bytes);

		rc = get(r, r->bytes, len);
		if (rc == 0)
			rc = put(r, r->in->state, r->bytes, len, at);
		at += len;
	}
	r->state_len = f->value;
	if (rc == 0 && ftruncate(r->in->state, (off_t)(r->state_len + r->size)) < 0)
		rc = err_sys(r->err, errno, "memory for the guest");
	return rc;
}

/* 1 at the end. */
static int take(struct reader *r)
{
	struct frame f;
	int rc = get_frame(r, &f);

	if (rc < 0)
		return rc;
	switch (f.type) {
	case STREAM_PAGES:
		return take_pages(r, &f);
	case STREAM_ZEROS:
		return take_zeros(r, &f);
	case STREAM_STATE:
		return take_state(r, &f);
	case STREAM_END:
		r->in->paused = f.count;
		return r->state_len ? 1 : err_set(r->err, EINVAL, "the stream ended without the guest's state");
	}
	return err_set(r->err, EINVAL, "a frame of type %u, which this lodge does not know", f.type);
}

int incoming_receive(struct incoming *in, int fd, struct err *err)
{
	static struct reader r;
	int rc;

	*in = (struct incoming){.state = -1, .ram = -1};
	r = (struct reader){.in = in, .fd = fd, .err = err};
	rc = begin(&r);
	while (rc == 0)
		rc = take(&r);
	if (rc < 0)
		incoming_close(in);
	return rc < 0 ? rc : 0;
}

/* -- The answer -------------------------------------------------------------------- */

int incoming_accept(int fd, struct err *err)
{
	static const char byte = STREAM_RUNS;

	if (write(fd, &byte, 1) == 1)
		return 0;
	return err_set(err, EIO, "the other side is gone: the guest is not run here, for it may run there");
}

void incoming_refuse(int fd, const char *why)
{
	char text[STREAM_TEXT];
	size_t len = strnlen(why, STREAM_TEXT - 1);
	ssize_t n;

	text[0] = STREAM_REFUSED;
	memcpy(text + 1, why, len);
	n = write(fd, text, len + 1);
	(void)n; /* who is gone knows */
}

void incoming_close(struct incoming *in)
{
	if (in->state >= 0)
		close(in->state);
	if (in->ram >= 0)
		close(in->ram);
	*in = (struct incoming){.state = -1, .ram = -1};
}
