/* SPDX-License-Identifier: MIT */
/* The files that snapshots keep memory in; snapshot.h has the form. They are as hostile as any: each length is compared with
 * the file's before anything is made of it. */
#include "machine/snapshot.h"

#include "base/err.h"
#include "machine/map.h"
#include "machine/saved/form.h"
#include "machine/saved/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static size_t pages_len(uint64_t memory)
{
	return (size_t)(memory / SAVED_PAGE + 7) / 8;
}

static size_t body_len(uint64_t memory)
{
	return LAYER_ORIGIN + pages_len(memory) + (size_t)saved_chunks(memory) * 8;
}

static uint8_t *sums_of(uint8_t *body, uint64_t memory)
{
	return body + LAYER_ORIGIN + pages_len(memory);
}

/* -- Where it comes from ----------------------------------------------------------- */

/* "boot/device/inode/time", or "" where the host does not tell. */
static void origin_of(int fd, char text[LAYER_ORIGIN])
{
	int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	char boot[37] = "";
	struct stat st;

	memset(text, 0, LAYER_ORIGIN);
	if (file >= 0 && read(file, boot, 36) == 36 && fstat(fd, &st) == 0)
		snprintf(text, LAYER_ORIGIN, "%s/%" PRIx64 "/%" PRIx64 "/%" PRIx64 ".%09ld", boot,
			 (uint64_t)st.st_dev, (uint64_t)st.st_ino, (uint64_t)st.st_ctim.tv_sec,
			 st.st_ctim.tv_nsec);
	if (file >= 0)
		close(file);
}

static bool is_same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static bool is_same(const struct layer *l, const struct layer_source *source)
{
	char origin[LAYER_ORIGIN];

	if (is_same_file(l->file.fd, source->fd))
		return l->memory_at == source->at;
	origin_of(source->fd, origin);
	return origin[0] && memcmp(origin, l->body, LAYER_ORIGIN) == 0;
}

static bool has_page(const struct layer *l, uint64_t page)
{
	return l->body[LAYER_ORIGIN + page / 8] >> page % 8 & 1;
}

bool layer_has(const struct layer *l, const struct layer_source *source)
{
	if (l->memory_len != source->memory || !is_same(l, source))
		return false;
	for (uint64_t p = 0; p < source->memory / SAVED_PAGE; p++)
		if (source->where[p] == source->number && !has_page(l, p))
			return false;
	return true;
}

/* -- Writing ----------------------------------------------------------------------- */

/* What is wanted of a chunk, with zeros between; whether anything is. */
static int read_chunk(const struct layer_source *source, uint64_t at, uint8_t *chunk, size_t len,
		      uint8_t *pages, bool *any, struct err *err)
{
	const struct blob file = {.role = "layer of memory", .path = "", .fd = source->fd,
				  .size = source->at + source->memory};
	int rc = 0;

	*any = false;
	for (size_t from = 0, to; rc == 0 && from < len; from = to) {
		uint64_t page = (at + from) / SAVED_PAGE;

		for (to = from; to < len && source->where[(at + to) / SAVED_PAGE] == source->number;
		     to += SAVED_PAGE, page++)
			pages[page / 8] |= (uint8_t)(1 << page % 8);
		if (to == from) {
			to += SAVED_PAGE;
			memset(chunk + from, 0, SAVED_PAGE);
			continue;
		}
		*any = true;
		rc = blob_read(&file, source->at + at + from, chunk + from, to - from, err);
	}
	return rc;
}

static int put_memory(int fd, const struct layer_source *source, uint64_t begin, uint8_t *body,
		      uint64_t *stored, struct err *err)
{
	uint8_t *chunk = malloc(SAVED_CHUNK), *sums = sums_of(body, source->memory);
	int rc = chunk ? 0 : err_set(err, ENOMEM, "no memory");

	for (uint64_t at = 0; rc == 0 && at < source->memory; at += SAVED_CHUNK) {
		uint64_t left = source->memory - at, before = *stored;
		size_t len = (size_t)(left < SAVED_CHUNK ? left : SAVED_CHUNK);
		bool any;

		rc = read_chunk(source, at, chunk, len, body + LAYER_ORIGIN, &any, err);
		if (rc < 0 || !any)
			continue;
		rc = saved_put_chunk(fd, chunk, len, begin + at, stored, err);
		if (*stored > before)
			le64_put(sums + at / SAVED_CHUNK * 8, saved_sum(chunk, len));
	}
	free(chunk);
	return rc;
}

static int put_header(int fd, const struct layer *l, struct err *err)
{
	uint8_t header[SAVED_HEADER] = LAYER_MAGIC;

	le32_put(header + AT_VERSION, LAYER_VERSION);
	le64_put(header + AT_LAYER_LEN, l->memory_len);
	le64_put(header + AT_LAYER_MEMORY, l->memory_at);
	le64_put(header + AT_LAYER_STORED, l->stored);
	le64_put(header + AT_BODY_SUM, l->id);
	le64_put(header + AT_HEADER_SUM, saved_sum(header, AT_HEADER_SUM));
	return saved_put(fd, header, sizeof(header), 0, err);
}

int layer_write(int fd, const struct layer_source *source, uint64_t *id, struct err *err)
{
	size_t len = body_len(source->memory);
	struct layer l = {.memory_len = source->memory, .body = calloc(1, len)};
	int rc = l.body ? 0 : err_set(err, ENOMEM, "no memory");

	l.memory_at = align_up(SAVED_HEADER + len, SAVED_CHUNK);
	if (rc == 0) {
		origin_of(source->fd, (char *)l.body);
		rc = put_memory(fd, source, l.memory_at, l.body, &l.stored, err);
	}
	if (rc == 0 && ftruncate(fd, (off_t)(l.memory_at + l.memory_len)) < 0)
		rc = err_sys(err, errno, "writing memory");
	if (rc == 0)
		rc = saved_put(fd, l.body, len, SAVED_HEADER, err);
	if (rc == 0) {
		*id = l.id = saved_sum(l.body, len);
		rc = put_header(fd, &l, err);
	}
	free(l.body);
	return rc;
}

/* -- Reading ----------------------------------------------------------------------- */

static int check_lengths(const struct layer *l, struct err *err)
{
	uint64_t size = l->file.size;

	if (l->memory_len == 0 || l->memory_len % SAVED_PAGE || l->memory_len > MAP_SIZE_MAX ||
	    l->memory_at % SAVED_CHUNK || l->memory_at < SAVED_HEADER + body_len(l->memory_len) ||
	    l->memory_at > size || l->memory_len != size - l->memory_at || l->stored > l->memory_len)
		return err_set(err, EINVAL, "the file is cut, or its header makes no sense");
	return 0;
}

static int read_header(struct layer *l, struct err *err)
{
	static const struct saved_kind kind = {"layer of a snapshot", LAYER_MAGIC, LAYER_VERSION};
	uint8_t header[SAVED_HEADER];
	int rc = saved_read_header(&l->file, &kind, header, err);

	if (rc < 0)
		return rc;
	l->memory_len = le64_get(header + AT_LAYER_LEN);
	l->memory_at = le64_get(header + AT_LAYER_MEMORY);
	l->stored = le64_get(header + AT_LAYER_STORED);
	l->id = le64_get(header + AT_BODY_SUM);
	return check_lengths(l, err);
}

static int read_body(struct layer *l, struct err *err)
{
	size_t len = body_len(l->memory_len);
	int rc;

	l->body = malloc(len);
	if (!l->body)
		return err_set(err, ENOMEM, "no memory");
	rc = blob_read(&l->file, SAVED_HEADER, l->body, len, err);
	if (rc == 0 && saved_sum(l->body, len) != l->id)
		rc = err_set(err, EINVAL, "what it says of itself has changed since it was written");
	return rc;
}

int layer_open(struct layer *l, int fd, const char *path, struct err *err)
{
	int rc;

	*l = (struct layer){.file = {.role = "layer", .path = path, .fd = fd}};
	if ((rc = read_header(l, err)) < 0 || (rc = read_body(l, err)) < 0) {
		layer_close(l);
		return err_at(err, rc, "'%s'", path);
	}
	return 0;
}

void layer_close(struct layer *l)
{
	free(l->body);
	blob_close(&l->file);
	*l = (struct layer){.file = {.fd = -1}};
}

int layer_check(const struct layer *l, struct err *err)
{
	int rc = saved_check_memory(&l->file, l->memory_at, l->memory_len, sums_of(l->body, l->memory_len), err);

	return rc < 0 ? err_at(err, rc, "'%s'", l->file.path) : 0;
}

/* -- Beside a snapshot ------------------------------------------------------------- */

static int check_layer(const struct snapshot *s, unsigned i, const struct layer *l, struct err *err)
{
	const uint8_t *where = s->body + s->state_len;

	if (l->id != s->ids[i])
		return err_set(err, EINVAL, "'%s' is another layer than the snapshot was made with", l->file.path);
	if (l->memory_len != s->memory_len)
		return err_set(err, EINVAL, "'%s' has %" PRIu64 " bytes of memory, its snapshot %" PRIu64, l->file.path,
			       l->memory_len, s->memory_len);
	for (uint64_t p = 0; p < s->memory_len / SAVED_PAGE; p++)
		if (where[p] == i + 1 && !has_page(l, p))
			return err_set(err, EINVAL, "'%s' does not have page %" PRIu64 ", which its snapshot wants",
				       l->file.path, p);
	return 0;
}

int snapshot_check(const struct snapshot *s, const struct layer *layers, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < s->n; i++)
		rc = check_layer(s, i, &layers[i], err);
	return rc;
}
