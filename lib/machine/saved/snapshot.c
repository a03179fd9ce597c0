/* SPDX-License-Identifier: MIT */
/* The file of a snapshot, and how it becomes a fork again; snapshot.h has the form. It is as hostile as any. */
#include "machine/snapshot.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/memfile.h"
#include "machine/fork.h"
#include "machine/map.h"
#include "machine/saved/form.h"
#include "machine/saved/inside.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(((struct snapshot *)0)->ids) / 8 >= RAM_LAYERS_MAX, "an id for each layer");

/* -- Writing ----------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static size_t state_len(const struct saved *state)
{
	return SAVED_HEADER + state->body_len;
}

static int make_body(uint8_t *body, const struct saved *state, const uint8_t *where, const uint64_t *ids,
		     unsigned n, struct err *err)
{
	uint64_t pages = state->memory_len / SAVED_PAGE;
	int rc = blob_read(&state->file, 0, body, state_len(state), err);

	memcpy(body + state_len(state), where, pages);
	for (unsigned i = 0; i < n; i++)
		le64_put(body + state_len(state) + pages + i * 8, ids[i]);
	return rc;
}

static int put_header(int fd, const struct saved *state, unsigned n, uint64_t sum, struct err *err)
{
	uint8_t header[SAVED_HEADER] = SNAPSHOT_MAGIC;

	le32_put(header + AT_VERSION, SNAPSHOT_VERSION);
	le32_put(header + AT_SNAPSHOT_LAYERS, n);
	le64_put(header + AT_SNAPSHOT_STATE, state_len(state));
	le64_put(header + AT_SNAPSHOT_LEN, state->memory_len);
	le64_put(header + AT_SNAPSHOT_CREATED, now_ns());
	le64_put(header + AT_BODY_SUM, sum);
	le64_put(header + AT_HEADER_SUM, saved_sum(header, AT_HEADER_SUM));
	return saved_put(fd, header, sizeof(header), 0, err);
}

int snapshot_write(int fd, const struct saved *state, const uint8_t *where, const uint64_t *ids, unsigned n,
		   struct err *err)
{
	size_t len = state_len(state) + (size_t)(state->memory_len / SAVED_PAGE) + n * 8;
	uint8_t *body = malloc(len);
	int rc = body ? 0 : err_set(err, ENOMEM, "no memory");

	if (rc == 0)
		rc = make_body(body, state, where, ids, n, err);
	if (rc == 0)
		rc = saved_put(fd, body, len, SAVED_HEADER, err);
	if (rc == 0)
		rc = put_header(fd, state, n, saved_sum(body, len), err);
	free(body);
	return rc;
}

/* -- Reading ----------------------------------------------------------------------- */

/* All of the file is header and body. */
static int check_lengths(const struct snapshot *s, uint64_t state, struct err *err)
{
	uint64_t most = SAVED_HEADER + JSON_TEXT_MAX + SAVED_SECTIONS_MAX + saved_chunks(MAP_SIZE_MAX) * 8;

	if (s->memory_len == 0 || s->memory_len % SAVED_PAGE || s->memory_len > MAP_SIZE_MAX ||
	    state < SAVED_HEADER || state > most || s->n > RAM_LAYERS_MAX ||
	    s->file.size != SAVED_HEADER + state + s->memory_len / SAVED_PAGE + s->n * 8)
		return err_set(err, EINVAL, "the file is cut, or its header makes no sense");
	return 0;
}

static int read_body(struct snapshot *s, uint64_t sum, struct err *err)
{
	uint64_t pages = s->memory_len / SAVED_PAGE;
	size_t len = s->state_len + (size_t)pages + s->n * 8;
	int rc;

	s->body = malloc(len);
	if (!s->body)
		return err_set(err, ENOMEM, "no memory");
	rc = blob_read(&s->file, SAVED_HEADER, s->body, len, err);
	if (rc == 0 && saved_sum(s->body, len) != sum)
		rc = err_set(err, EINVAL, "it has changed since it was written");
	for (uint64_t p = 0; rc == 0 && p < pages; p++)
		if (s->body[s->state_len + p] > s->n)
			rc = err_set(err, EINVAL, "page %" PRIu64 " is in layer %u of %u", p,
				     s->body[s->state_len + p], s->n);
	for (unsigned i = 0; rc == 0 && i < s->n; i++)
		s->ids[i] = le64_get(s->body + s->state_len + pages + i * 8);
	return rc;
}

static int read_all(struct snapshot *s, struct err *err)
{
	static const struct saved_kind kind = {"snapshot", SNAPSHOT_MAGIC, SNAPSHOT_VERSION};
	uint8_t header[SAVED_HEADER];
	int rc = saved_read_header(&s->file, &kind, header, err);

	if (rc < 0)
		return rc;
	s->n = le32_get(header + AT_SNAPSHOT_LAYERS);
	s->memory_len = le64_get(header + AT_SNAPSHOT_LEN);
	s->created = le64_get(header + AT_SNAPSHOT_CREATED);
	rc = check_lengths(s, le64_get(header + AT_SNAPSHOT_STATE), err);
	if (rc < 0)
		return rc;
	s->state_len = (size_t)le64_get(header + AT_SNAPSHOT_STATE);
	return read_body(s, le64_get(header + AT_BODY_SUM), err);
}

int snapshot_open(struct snapshot *s, int fd, const char *path, struct err *err)
{
	int rc;

	*s = (struct snapshot){.file = {.role = "snapshot", .path = path, .fd = fd}};
	rc = read_all(s, err);
	if (rc == 0)
		return 0;
	snapshot_close(s);
	return err_at(err, rc, "'%s'", path);
}

void snapshot_close(struct snapshot *s)
{
	free(s->body);
	blob_close(&s->file);
	*s = (struct snapshot){.file = {.fd = -1}};
}

/* -- To a fork --------------------------------------------------------------------- */

/* A file in memory that begins with these bytes. */
static int memory_file(const char *name, const uint8_t *bytes, size_t len, uint64_t size, struct err *err)
{
	int fd = memfile_create(name, size);
	int rc = fd < 0 ? err_sys(err, -fd, "memory for a snapshot") : saved_put(fd, bytes, len, 0, err);

	if (rc == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return rc;
}

/* Its own header says where its memory would be; all of that is checked as with any saved machine. */
static int make_state(const struct snapshot *s, struct machine_fork *f, struct saved **saved, struct err *err)
{
	uint64_t at = le64_get(s->body + AT_MEMORY);
	int fd, rc;

	if (at < s->state_len || at > align_up(s->state_len, SAVED_CHUNK))
		return err_set(err, EINVAL, "'%s': the state in it makes no sense", s->file.path);
	f->state = memory_file("lodge-state", s->body, s->state_len, at + s->memory_len, err);
	if (f->state < 0)
		return f->state;
	fd = fcntl(f->state, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(err, errno, "a descriptor");
	rc = saved_open_fd(saved, fd, s->file.path, err);
	if (rc < 0)
		return rc;
	if ((*saved)->memory_len != s->memory_len)
		return err_set(err, EINVAL, "'%s' has other memory than the state in it", s->file.path);
	return 0;
}

static int make_fork(const struct snapshot *s, const struct layer *layers, struct machine_fork *f,
		     struct saved **saved, struct err *err)
{
	size_t pages = (size_t)(s->memory_len / SAVED_PAGE);
	int rc = make_state(s, f, saved, err);

	if (rc < 0)
		return rc;
	f->where = memory_file("lodge-where", s->body + s->state_len, pages, pages, err);
	if (f->where < 0)
		return f->where;
	for (; f->n < s->n; f->n++) {
		f->layer[f->n].at = layers[f->n].memory_at;
		f->layer[f->n].fd = fcntl(layers[f->n].file.fd, F_DUPFD_CLOEXEC, 0);
		if (f->layer[f->n].fd < 0)
			return err_sys(err, errno, "a descriptor");
	}
	return 0;
}

int snapshot_fork(const struct snapshot *s, const struct layer *layers, struct machine_fork *f,
		  struct saved **saved, struct err *err)
{
	int rc = snapshot_check(s, layers, err);

	*f = (struct machine_fork){.state = -1, .where = -1};
	*saved = NULL;
	if (rc == 0)
		rc = make_fork(s, layers, f, saved, err);
	if (rc == 0)
		return 0;
	machine_fork_close(f);
	saved_close(*saved);
	*saved = NULL;
	return rc;
}

/* -- From a fork ------------------------------------------------------------------- */

uint64_t snapshot_memory(const struct saved *state)
{
	return state->memory_len;
}

static int note_piece(void *where, uint64_t at, uint64_t len)
{
	memset((uint8_t *)where + at / SAVED_PAGE, 1, (size_t)((len + SAVED_PAGE - 1) / SAVED_PAGE));
	return 0;
}

static int state_as_layer(const struct saved *state, struct machine_fork *f, uint8_t *where, struct err *err)
{
	f->layer[0].at = state->memory_at;
	f->layer[0].fd = fcntl(f->state, F_DUPFD_CLOEXEC, 0);
	if (f->layer[0].fd < 0)
		return err_sys(err, errno, "a descriptor");
	f->n = 1;
	return saved_memory(state, note_piece, where);
}

static int read_where(const struct machine_fork *f, uint8_t *where, uint64_t pages, struct err *err)
{
	const struct blob file = {.role = "map of memory", .path = "", .fd = f->where, .size = pages};
	int rc = blob_read(&file, 0, where, pages, err);

	for (uint64_t p = 0; rc == 0 && p < pages; p++)
		if (where[p] > f->n)
			return err_set(err, EINVAL, "page %" PRIu64 " is in layer %u of %u", p, where[p], f->n);
	return rc;
}

uint8_t *snapshot_where(const struct saved *state, struct machine_fork *f, struct err *err)
{
	uint64_t pages = state->memory_len / SAVED_PAGE;
	uint8_t *where = calloc(pages, 1);
	int rc = where ? 0 : err_set(err, ENOMEM, "no memory");

	if (rc == 0)
		rc = f->where >= 0 ? read_where(f, where, pages, err) : state_as_layer(state, f, where, err);
	if (rc == 0)
		return where;
	free(where);
	return NULL;
}
