/* SPDX-License-Identifier: MIT */
/*
 * A file in memory, as a node, that remembers all that was done to it: each write, and between which flushes. It
 * can also fail from the nth change on, as a host does whose disk is full.
 *
 *	struct ram *ram = ram_create();
 *	... &ram->node ...
 *	ram_at(ram, event, copy)        the file as it was then
 *
 * In one source of a test's program.
 */
#ifndef BLOCK_TESTS_RAM_H
#define BLOCK_TESTS_RAM_H

#include "base/macros.h"
#include "block/node.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct ram_event {
	bool is_flush;
	uint64_t at;
	size_t len;
	uint8_t *bytes;
};

struct ram {
	struct node node;
	uint8_t *bytes;
	uint64_t room;
	bool records;
	struct ram_event *events;
	unsigned n_events, max_events;
	long left; /* changes until all fail; -1: none does */
	int error;
	bool keep; /* close leaves it alone */
};

static bool ram_fails(struct ram *r)
{
	if (r->left == 0)
		return true;
	if (r->left > 0)
		r->left--;
	return false;
}

static void ram_room(struct ram *r, uint64_t end)
{
	if (end > r->room) {
		uint64_t room = end * 2;

		r->bytes = realloc(r->bytes, room);
		memset(r->bytes + r->room, 0, room - r->room);
		r->room = room;
	}
	if (end > r->node.size)
		r->node.size = end;
}

static void ram_note(struct ram *r, bool is_flush, uint64_t at, const void *bytes, size_t len)
{
	struct ram_event *e;

	if (!r->records)
		return;
	if (r->n_events == r->max_events) {
		r->max_events = r->max_events * 2 + 64;
		r->events = realloc(r->events, r->max_events * sizeof(*e));
	}
	e = &r->events[r->n_events++];
	*e = (struct ram_event){.is_flush = is_flush, .at = at, .len = len, .bytes = malloc(len + 1)};
	if (len)
		memcpy(e->bytes, bytes, len);
}

static void ram_put(struct ram *r, uint64_t at, const void *bytes, size_t len)
{
	ram_room(r, at + len);
	memcpy(r->bytes + at, bytes, len);
}

static int ram_read(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	struct ram *r = container_of(n, struct ram, node);

	for (unsigned i = 0; i < n_iov; at += iov[i++].iov_len) {
		uint64_t there = at < r->node.size ? r->node.size - at : 0;

		if (there > iov[i].iov_len)
			there = iov[i].iov_len;
		memset(iov[i].iov_base, 0, iov[i].iov_len);
		if (there)
			memcpy(iov[i].iov_base, r->bytes + at, there);
	}
	return 0;
}

static int ram_write(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	struct ram *r = container_of(n, struct ram, node);
	size_t len = 0;

	if (ram_fails(r))
		return -r->error;
	for (unsigned i = 0; i < n_iov; len += iov[i++].iov_len)
		ram_put(r, at + len, iov[i].iov_base, iov[i].iov_len);
	ram_note(r, false, at, r->bytes + at, len);
	return 0;
}

static int ram_zero(struct node *n, uint64_t at, uint64_t len)
{
	struct ram *r = container_of(n, struct ram, node);
	uint8_t *zeros = calloc(1, len);

	if (ram_fails(r)) {
		free(zeros);
		return -r->error;
	}
	ram_put(r, at, zeros, len);
	ram_note(r, false, at, zeros, len);
	free(zeros);
	return 0;
}

/* Of what the file has. */
static int ram_discard(struct node *n, uint64_t at, uint64_t len)
{
	struct ram *r = container_of(n, struct ram, node);

	if (at >= r->node.size)
		return 0;
	return ram_zero(n, at, at + len > r->node.size ? r->node.size - at : len);
}

static int ram_flush(struct node *n)
{
	struct ram *r = container_of(n, struct ram, node);

	if (ram_fails(r))
		return -r->error;
	ram_note(r, true, 0, NULL, 0);
	return 0;
}

static bool ram_read_cached(struct node *n, uint64_t at, const struct iovec *iov, unsigned n_iov, uint64_t len)
{
	return at + len <= n->size && ram_read(n, at, (struct iovec *)iov, n_iov) == 0;
}

static int ram_status(struct node *n, uint64_t at, uint64_t len, struct node_status *s)
{
	(void)n;
	*s = (struct node_status){.len = len, .here = true, .data = true, .has_place = true, .place = at};
	return 0;
}

static int ram_resize(struct node *n, uint64_t size, struct err *err)
{
	struct ram *r = container_of(n, struct ram, node);

	(void)err;
	if (ram_fails(r))
		return -r->error;
	if (size > n->size)
		ram_put(r, size - 1, "", 1);
	n->size = size;
	ram_note(r, false, size - 1, "", 1);
	return 0;
}

static void ram_forget_events(struct ram *r)
{
	for (unsigned i = 0; i < r->n_events; i++)
		free(r->events[i].bytes);
	r->n_events = 0;
}

static void ram_destroy(struct ram *r)
{
	ram_forget_events(r);
	free(r->events);
	free(r->bytes);
	free(r);
}

static void ram_close(struct node *n)
{
	struct ram *r = container_of(n, struct ram, node);

	if (!r->keep)
		ram_destroy(r);
}

static const struct node_ops ram_ops = {
	.read = ram_read, .write = ram_write, .zero = ram_zero, .discard = ram_discard,
	.flush = ram_flush, .read_cached = ram_read_cached, .status = ram_status, .resize = ram_resize, .close = ram_close,
};

static struct ram *ram_create(void)
{
	struct ram *r = calloc(1, sizeof(*r));

	r->node.ops = &ram_ops;
	r->left = -1;
	r->error = ENOSPC;
	r->keep = true;
	return r;
}

__attribute__((unused))
static struct ram *ram_copy(const struct ram *from)
{
	struct ram *r = ram_create();

	ram_put(r, 0, from->bytes, from->node.size);
	return r;
}

#endif
