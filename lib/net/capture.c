/* SPDX-License-Identifier: MIT */
/*
 * See port.h. A port in front of another, which notes each frame that passes in a file of tcpdump's (pcap, version 2.4, with
 * nanoseconds; LINKTYPE_ETHERNET).
 *
 * Frames pass on a vCPU's thread, and a file can be slow: so they are noted in one of two buffers, and the loop's thread writes the other. When both
 * are full frames pass unnoted, and at the end a line says how many.
 *
 * Headers of virtio are left out: frames that the kernel is to finish are in the file as they were given to it, without checksums and longer
 * than the MTU, as tcpdump sees them on the interface.
 */
#include "net/port.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "loop/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BUFFER   (2u << 20)
#define DELAY_NS UINT64_C(100000000)
#define RECORD   16u

struct buffer {
	size_t n;
	uint8_t bytes[BUFFER];
};

struct capture {
	struct net_port port;
	struct net_port_type type;
	struct net_port *inner;
	int fd; /* -1: it could not be written */
	struct loop_timer write;
	struct buffer *spare; /* the loop's thread's */
	pthread_mutex_t lock; /* of what is below */
	struct buffer *used;
	uint64_t lost;
};

static struct capture *of(struct net_port *p)
{
	return container_of(p, struct capture, port);
}

/* -- Notes ------------------------------------------------------------------------- */

static void put_record(uint8_t *at, size_t len)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	le32_put(at, (uint32_t)now.tv_sec);
	le32_put(at + 4, (uint32_t)now.tv_nsec);
	le32_put(at + 8, (uint32_t)len);
	le32_put(at + 12, (uint32_t)len);
}

static void copy(uint8_t *to, const struct iovec *iov, unsigned n, size_t skip)
{
	for (unsigned i = 0; i < n; i++) {
		size_t cut = skip < iov[i].iov_len ? skip : iov[i].iov_len;

		memcpy(to, (const uint8_t *)iov[i].iov_base + cut, iov[i].iov_len - cut);
		to += iov[i].iov_len - cut;
		skip -= cut;
	}
}

static void note(struct capture *c, const struct iovec *iov, unsigned n)
{
	size_t skip = c->type.vnet ? NET_VNET : 0, len = 0;
	struct buffer *b;

	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	len -= skip < len ? skip : len;
	scoped_lock(&c->lock);
	b = c->used;
	if (RECORD + len > BUFFER - b->n) {
		c->lost++;
		return;
	}
	if (!b->n)
		loop_timer_set(&c->write, loop_now() + DELAY_NS);
	put_record(b->bytes + b->n, len);
	copy(b->bytes + b->n + RECORD, iov, n, skip);
	b->n += RECORD + len;
}

/* -- The file ---------------------------------------------------------------------- */

static void put(struct capture *c, const uint8_t *bytes, size_t len)
{
	while (len && c->fd >= 0) {
		ssize_t n = write(c->fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			log_warn("capture", "the file cannot be written any more: %s", strerror(errno));
			close(c->fd);
			c->fd = -1;
			return;
		}
		bytes += n;
		len -= (size_t)n;
	}
}

static struct buffer *swap(struct capture *c)
{
	struct buffer *full = c->used;

	scoped_lock(&c->lock);
	c->used = c->spare;
	c->spare = full;
	return full;
}

static void write_notes(void *ctx)
{
	struct capture *c = ctx;
	struct buffer *b = swap(c);

	put(c, b->bytes, b->n);
	b->n = 0;
}

static void put_head(struct capture *c)
{
	uint8_t head[24] = {0};

	le32_put(head, 0xa1b23c4d);
	le16_put(head + 4, 2);
	le16_put(head + 6, 4);
	le32_put(head + 16, 1u << 18); /* no frame is longer */
	le32_put(head + 20, 1);
	put(c, head, sizeof(head));
}

/* -- The port ---------------------------------------------------------------------- */

static bool send_frame(struct net_port *p, const struct iovec *iov, unsigned n)
{
	struct capture *c = of(p);
	bool sent = c->inner->type->send(c->inner, iov, n);

	p->up = c->inner->up;
	if (sent)
		note(c, iov, n);
	return sent;
}

static const uint8_t *peek(struct net_port *p, size_t *len)
{
	struct capture *c = of(p);
	const uint8_t *frame = c->inner->type->peek(c->inner, len);

	p->up = c->inner->up;
	return frame;
}

static void drop(struct net_port *p)
{
	struct capture *c = of(p);
	struct iovec iov;

	iov.iov_base = (void *)(uintptr_t)c->inner->type->peek(c->inner, &iov.iov_len);
	if (iov.iov_base)
		note(c, &iov, 1);
	c->inner->type->drop(c->inner);
}

static void wants(const struct net_port *p, bool frames, bool room, struct pollfd *poll)
{
	const struct capture *c = container_of(p, struct capture, port);

	c->inner->type->wants(c->inner, frames, room, poll);
}

static void serve(struct net_port *p, short revents)
{
	struct capture *c = of(p);

	c->inner->type->serve(c->inner, revents);
	p->up = c->inner->up;
}

static void offload(struct net_port *p, unsigned what)
{
	struct capture *c = of(p);

	if (c->inner->type->offload)
		c->inner->type->offload(c->inner, what);
}

static void free_all(struct capture *c)
{
	free(c->used);
	free(c->spare);
	free(c);
}

static void close_capture(struct net_port *p)
{
	struct capture *c = of(p);

	loop_timer_fini(&c->write);
	write_notes(c);
	if (c->fd >= 0)
		close(c->fd);
	if (c->lost)
		log_warn("capture", "%llu frames are not in the file, which was too slow", (unsigned long long)c->lost);
	c->inner->type->close(c->inner);
	pthread_mutex_destroy(&c->lock);
	free_all(c);
}

int net_capture(struct net_port **p, struct net_port *inner, const char *path, struct loop *loop, struct err *err)
{
	struct capture *c = calloc(1, sizeof(*c));

	*p = NULL;
	if (!c || !(c->used = calloc(1, sizeof(*c->used))) || !(c->spare = calloc(1, sizeof(*c->spare)))) {
		if (c)
			free_all(c);
		return err_set(err, ENOMEM, "no memory");
	}
	c->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (c->fd < 0) {
		free_all(c);
		return err_sys(err, errno, "'%s'", path);
	}
	c->inner = inner;
	c->type = (struct net_port_type){.vnet = inner->type->vnet, .send = send_frame, .peek = peek, .drop = drop, .wants = wants,
					 .serve = serve, .offload = offload, .close = close_capture};
	c->port = (struct net_port){.type = &c->type, .mtu = inner->mtu, .up = inner->up, .checked = inner->checked};
	pthread_mutex_init(&c->lock, NULL);
	loop_timer_init(&c->write, loop, write_notes, c);
	put_head(c);
	*p = &c->port;
	return 0;
}
