/* SPDX-License-Identifier: MIT */
/*
 * A node: bytes that can be read and written, by whatever means. A raw file is one (file.h), a qcow2 image on
 * top of another node is one (qcow2.h). lib/block's own, and for who makes an image (prog/lodge/image): others have disks (disk.h).
 *
 *	struct node *n = ...;
 *	struct iovec iov = {bytes, len};
 *
 *	rc = node_write(n, at, &iov, 1);
 *	rc = node_flush(n);                     // lasting, if both are 0
 *	node_close(n);
 *
 * Calls come from several threads at once and may block; only close comes alone. Ranges are inside of `size` and made of
 * whole sectors, which the disk has checked, but for nodes that grow. What is done before a flush begins
 * is lasting when it has ended. Errors are -errno.
 */
#ifndef BLOCK_NODE_H
#define BLOCK_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct err;
struct node;

/* What is at a place; of so many bytes from there on the same can be said. */
struct node_status {
	uint64_t len;
	bool here;      /* this node says what it is, or one behind it: depth */
	bool data;      /* it was written */
	bool zero;      /* it reads as zeros */
	bool packed;    /* data, and compressed */
	bool has_place; /* the bytes are in the file, from `place` on */
	uint64_t place;
	unsigned depth; /* 0: the node itself */
};

struct node_ops {
	/* All of the iov, which may be changed. */
	int (*read)(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov);
	int (*write)(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov);
	int (*zero)(struct node *n, uint64_t at, uint64_t len);
	/* A hint: it may be zeros afterwards, or what it was. */
	int (*discard)(struct node *n, uint64_t at, uint64_t len);
	int (*flush)(struct node *n);
	/* `len` bytes if the host has them cached: never waits. Otherwise false, and the iov's bytes may be anything. */
	bool (*read_cached)(struct node *n, uint64_t at, const struct iovec *iov, unsigned n_iov, uint64_t len);
	/* Of up to len bytes, which are inside of `size`. */
	int (*status)(struct node *n, uint64_t at, uint64_t len, struct node_status *status);
	/* Makes it longer, by zeros, or shorter. No other request is under way; lasting when it has ended. */
	int (*resize)(struct node *n, uint64_t size, struct err *err);
	/* Without a flush. */
	void (*close)(struct node *n);
};

struct node {
	const struct node_ops *ops;
	uint64_t size;   /* in bytes */
	bool readonly;
	bool cancelled;  /* relaxed atomic: reads and writes end as soon as they can, with -ECANCELED */
	struct node *behind; /* what it reads of, and never writes; NULL: nothing */
};

static inline bool node_is_cancelled(const struct node *n)
{
	return __atomic_load_n(&n->cancelled, __ATOMIC_RELAXED);
}

static inline int node_read(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	return n->ops->read(n, at, iov, n_iov);
}

static inline int node_write(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	return n->ops->write(n, at, iov, n_iov);
}

static inline int node_get(struct node *n, uint64_t at, void *bytes, size_t len)
{
	return node_read(n, at, &(struct iovec){bytes, len}, 1);
}

static inline int node_put(struct node *n, uint64_t at, const void *bytes, size_t len)
{
	return node_write(n, at, &(struct iovec){(void *)bytes, len}, 1);
}

static inline int node_flush(struct node *n)
{
	return n->readonly ? 0 : n->ops->flush(n);
}

static inline void node_close(struct node *n) /* NULL is fine */
{
	if (n)
		n->ops->close(n);
}

#endif
