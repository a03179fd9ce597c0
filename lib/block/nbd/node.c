/* SPDX-License-Identifier: MIT */
/*
 * Requests to a server, of many threads on one connection.
 *
 * A thread puts its question on the list, sends it, and waits for the answer, which may come after those to later questions. There is
 * no thread of the connection's own: of those that wait one listens for all, and when it has its answer another takes its place.
 *
 *	ask -> send (one at a time; it listens, too, lest both sides wait for each other to read)
 *	    -> until it is answered: listen, if nobody does, or wait
 *
 * Bytes are received with the lock held, which never waits (the socket does not block); only poll() is without it. So a read can be
 * given up at any moment, when its node is cancelled: it stays on the list without its memory, what comes for it is dropped, and the
 * connection lives on. What changes the disk is waited for, whoever wants it no more: a write that was given up could come to the disk after
 * a later one.
 *
 * A server that takes nothing for SILENCE_MS while a question is sent, or says nothing for as long while one is older than that, is gone:
 * so nobody waits for ever, neither a guest nor who wants to end its lodge.
 *
 * Only what could be a file's is called, readv() and writev(), so that a disk's threads need not be let at sockets as such; a server
 * that has gone raises SIGPIPE, which the process ignores.
 *
 * After the first thing that makes no sense, or the end of the connection, all questions end with -EIO.
 */
#include "block/nbd/nbd.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/scoped.h"
#include "block/iov.h"
#include "block/nbd/protocol.h"
#include "block/node.h"
#include "block/pool.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS  100        /* how often it is seen whether the node is cancelled */
#define SILENCE_MS 60000u
#define GIVEN_UP_MAX 256u   /* reads that a server has not answered, and nobody waits for */
#define ZERO_MAX (1u << 30) /* bytes that are zeroed or trimmed at once */
#define REPLY    16u

struct question {
	struct question *next;
	uint64_t cookie;
	struct iovec iov[64]; /* where the data of a read goes; used up as it comes */
	struct iovec *at;
	unsigned n_iov;
	uint64_t left;        /* bytes of that which have not come */
	uint64_t asked;       /* when all of it was sent, in ms */
	bool is_read, is_answered, is_given_up;
	int rc;
};

struct nbd {
	struct node node;
	int fd;
	struct nbd_export export;
	char *name; /* for the log */
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	struct question *first;
	bool listens, sends;  /* somebody does */
	bool is_dead;
	unsigned n_given_up;
	uint64_t came, went;  /* when bytes did last, in ms */
	uint64_t cookie;
	uint8_t head[REPLY];  /* of the answer that comes */
	unsigned n_head;
	struct question *now; /* whose data comes */
};

static struct nbd *of(struct node *n)
{
	return container_of(n, struct nbd, node);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* -- The list (lock held) -------------------------------------------------------------- */

static void die(struct nbd *d, const char *why)
{
	if (!d->is_dead)
		log_warn("disk", "'%s' is gone: %s", d->name, why);
	d->is_dead = true;
	pthread_cond_broadcast(&d->changed);
}

static void take_off(struct nbd *d, struct question *q)
{
	struct question **at = &d->first;

	while (*at != q)
		at = &(*at)->next;
	*at = q->next;
	if (d->now == q)
		d->now = NULL;
}

/* Who asked takes it off, or nobody wants it any more. */
static void answered(struct nbd *d, struct question *q, int rc)
{
	d->now = NULL;
	q->rc = rc;
	q->is_answered = true;
	if (q->is_given_up) {
		d->n_given_up--;
		take_off(d, q);
		free(q);
	}
	pthread_cond_broadcast(&d->changed);
}

static void give_up(struct nbd *d, struct question *q)
{
	q->is_given_up = true;
	q->n_iov = 0;
	if (++d->n_given_up > GIVEN_UP_MAX)
		die(d, "its server leaves too much without an answer");
}

/* -- Listening (lock held) ------------------------------------------------------------- */

static int errno_of(uint32_t error)
{
	switch (error) {
	case 0: return 0;
	case NBD_EPERM: return -EROFS;
	case NBD_ENOMEM: return -ENOMEM;
	case NBD_EINVAL: return -EINVAL;
	case NBD_ENOSPC: return -ENOSPC;
	case NBD_ENOTSUP: return -EOPNOTSUPP;
	default: return -EIO;
	}
}

static void take_head(struct nbd *d)
{
	uint64_t cookie = be64_get(d->head + 8);
	struct question *q = d->first;
	int rc = errno_of(be32_get(d->head + 4));

	d->n_head = 0;
	while (q && q->cookie != cookie)
		q = q->next;
	if (be32_get(d->head) != NBD_SIMPLE || !q || q->is_answered)
		die(d, "its server answers what nobody has asked");
	else if (rc == 0 && q->left)
		d->now = q;
	else
		answered(d, q, rc);
}

/* What a read that was given up gets. */
static ssize_t drop(int fd, uint64_t n)
{
	uint8_t bytes[4096];

	return read(fd, bytes, n < sizeof(bytes) ? n : sizeof(bytes));
}

static ssize_t receive_data(struct nbd *d, struct question *q)
{
	ssize_t n = q->n_iov ? readv(d->fd, q->at, (int)q->n_iov) : drop(d->fd, q->left);

	if (n <= 0)
		return n;
	q->left -= (uint64_t)n;
	if (q->n_iov)
		iov_skip(&q->at, &q->n_iov, (uint64_t)n);
	if (!q->left)
		answered(d, q, 0);
	return n;
}

static ssize_t receive_head(struct nbd *d)
{
	ssize_t n = read(d->fd, d->head + d->n_head, REPLY - d->n_head);

	if (n > 0)
		d->n_head += (unsigned)n;
	if (d->n_head == REPLY)
		take_head(d);
	return n;
}

/* All that has come. */
static void receive(struct nbd *d)
{
	ssize_t n = 1;

	while (n > 0 && !d->is_dead) {
		n = d->now ? receive_data(d, d->now) : receive_head(d);
		if (n > 0)
			d->came = now_ms();
	}
	if (n == 0)
		die(d, "its server has closed the connection");
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		die(d, strerror(errno));
}

/* Until something has come, or may be sent, or LOOK_MS have gone. */
static void look(struct nbd *d, short events)
{
	struct pollfd p = {.fd = d->fd, .events = events};

	pthread_mutex_unlock(&d->lock);
	poll(&p, 1, LOOK_MS);
	pthread_mutex_lock(&d->lock);
	if (p.revents & ~POLLOUT && !d->is_dead)
		receive(d);
}

static void wait_for_change(struct nbd *d)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += LOOK_MS * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&d->changed, &d->lock, &until);
}

static bool is_given_up(const struct nbd *d, const struct question *q)
{
	return q->is_read && node_is_cancelled(&d->node);
}

static void listen_or_wait(struct nbd *d)
{
	if (d->listens) {
		wait_for_change(d);
		return;
	}
	d->listens = true;
	look(d, POLLIN);
	d->listens = false;
	pthread_cond_broadcast(&d->changed);
}

static int wait_for_answer(struct nbd *d, struct question *q)
{
	int rc;

	q->asked = now_ms();
	while (!q->is_answered && !d->is_dead && !is_given_up(d, q)) {
		listen_or_wait(d);
		if (!q->is_answered && now_ms() - q->asked > SILENCE_MS && now_ms() - d->came > SILENCE_MS)
			die(d, "its server says nothing for a minute");
	}
	if (!q->is_answered && !d->is_dead) {
		give_up(d, q);
		return -ECANCELED;
	}
	rc = q->is_answered ? q->rc : -EIO;
	take_off(d, q);
	free(q);
	return rc;
}

/* -- Asking ---------------------------------------------------------------------------- */

/* All of it, or the connection is dead. */
static void send_all(struct nbd *d, struct iovec *iov, unsigned n_iov)
{
	while (d->sends && !d->is_dead)
		wait_for_change(d);
	d->sends = true;
	d->went = now_ms();
	while (n_iov && !d->is_dead) {
		ssize_t n = writev(d->fd, iov, (int)n_iov);

		if (n >= 0) {
			iov_skip(&iov, &n_iov, (uint64_t)n);
			d->went = now_ms();
		} else if (errno == EAGAIN && now_ms() - d->went > SILENCE_MS) {
			die(d, "its server does not listen for a minute");
		} else if (errno == EAGAIN) {
			look(d, POLLIN | POLLOUT);
		} else if (errno != EINTR) {
			die(d, strerror(errno));
		}
	}
	d->sends = false;
	pthread_cond_broadcast(&d->changed);
}

static void put_head(uint8_t *head, enum nbd_command command, uint64_t cookie, uint64_t at, uint64_t len)
{
	be32_put(head, NBD_REQUEST);
	be16_put(head + 4, 0);
	be16_put(head + 6, (uint16_t)command);
	be64_put(head + 8, cookie);
	be64_put(head + 16, at);
	be32_put(head + 24, (uint32_t)len);
}

/* The iov is of a read or a write, and has 63 pieces at most. */
static int ask(struct nbd *d, enum nbd_command command, uint64_t at, uint64_t len, const struct iovec *iov, unsigned n_iov)
{
	struct question *q = calloc(1, sizeof(*q));
	uint8_t head[NBD_REQUEST_LEN];
	struct iovec out[64] = {{head, sizeof(head)}};

	if (!q)
		return -ENOMEM;
	pool_wait();
	q->at = q->iov;
	q->is_read = command == NBD_CMD_READ;
	if (q->is_read) {
		memcpy(q->iov, iov, n_iov * sizeof(*iov));
		q->n_iov = n_iov;
		q->left = len;
		n_iov = 0;
	} else if (n_iov) {
		memcpy(out + 1, iov, n_iov * sizeof(*iov));
	}
	scoped_lock(&d->lock);
	q->cookie = ++d->cookie;
	q->next = d->first;
	d->first = q;
	put_head(head, command, q->cookie, at, len);
	send_all(d, out, 1 + n_iov);
	return wait_for_answer(d, q);
}

/* In parts that the server takes. */
static int transfer(struct nbd *d, enum nbd_command command, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	uint64_t len = iov_length(iov, n_iov);
	int rc = 0;

	while (len && rc == 0) {
		struct iovec part[63];
		unsigned n = n_iov < ARRAY_SIZE(part) ? n_iov : (unsigned)ARRAY_SIZE(part);
		uint64_t some = iov_length(iov, n);

		some = some < d->export.most ? some : d->export.most;
		n = iov_take(&iov, &n_iov, some, part);
		rc = node_is_cancelled(&d->node) ? -ECANCELED : ask(d, command, at, some, part, n);
		at += some;
		len -= some;
	}
	return rc;
}

/* -- A node ---------------------------------------------------------------------------- */

static int read_nbd(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	return transfer(of(n), NBD_CMD_READ, at, iov, n_iov);
}

static int write_nbd(struct node *n, uint64_t at, struct iovec *iov, unsigned n_iov)
{
	return transfer(of(n), NBD_CMD_WRITE, at, iov, n_iov);
}

/* For a server that has no command for it. */
static int write_zeros(struct nbd *d, uint64_t at, uint64_t len)
{
	static const uint8_t zeros[64 * KiB];
	int rc = 0;

	while (len && rc == 0) {
		struct iovec iov = {(void *)(uintptr_t)zeros, len < sizeof(zeros) ? len : sizeof(zeros)};
		size_t some = iov.iov_len;

		rc = transfer(d, NBD_CMD_WRITE, at, &iov, 1);
		at += some;
		len -= some;
	}
	return rc;
}

static int clear(struct nbd *d, enum nbd_command command, uint64_t at, uint64_t len)
{
	int rc = 0;

	while (len && rc == 0) {
		uint64_t some = len < ZERO_MAX ? len : ZERO_MAX;

		rc = node_is_cancelled(&d->node) ? -ECANCELED : ask(d, command, at, some, NULL, 0);
		at += some;
		len -= some;
	}
	return rc;
}

static int zero_nbd(struct node *n, uint64_t at, uint64_t len)
{
	struct nbd *d = of(n);

	return d->export.flags & NBD_SEND_WRITE_ZEROES ? clear(d, NBD_CMD_WRITE_ZEROES, at, len) : write_zeros(d, at, len);
}

static int discard_nbd(struct node *n, uint64_t at, uint64_t len)
{
	struct nbd *d = of(n);

	return d->export.flags & NBD_SEND_TRIM ? clear(d, NBD_CMD_TRIM, at, len) : 0;
}

static int flush_nbd(struct node *n)
{
	struct nbd *d = of(n);

	return d->export.flags & NBD_SEND_FLUSH ? ask(d, NBD_CMD_FLUSH, 0, 0, NULL, 0) : 0;
}

static bool read_cached_nbd(struct node *n, uint64_t at, const struct iovec *iov, unsigned n_iov, uint64_t len)
{
	(void)n, (void)at, (void)iov, (void)n_iov, (void)len;
	return false;
}

/* Nobody has asked the server. */
static int status_nbd(struct node *n, uint64_t at, uint64_t len, struct node_status *s)
{
	(void)n, (void)at;
	*s = (struct node_status){.len = len, .here = true, .data = true};
	return 0;
}

static int resize_nbd(struct node *n, uint64_t size, struct err *err)
{
	(void)n, (void)size;
	return err_set(err, ENOTSUP, "its size is its server's affair");
}

static void close_nbd(struct node *n)
{
	struct nbd *d = of(n);
	uint8_t head[NBD_REQUEST_LEN];

	put_head(head, NBD_CMD_DISC, 0, 0, 0);
	if (!d->is_dead && write(d->fd, head, sizeof(head)) < 0)
		d->is_dead = true; /* it sees us go without a word */
	while (d->first) {
		struct question *q = d->first;

		d->first = q->next;
		free(q);
	}
	close(d->fd);
	pthread_mutex_destroy(&d->lock);
	pthread_cond_destroy(&d->changed);
	free(d->name);
	free(d);
}

static const struct node_ops nbd_ops = {
	.read = read_nbd, .write = write_nbd, .zero = zero_nbd, .discard = discard_nbd, .flush = flush_nbd, .read_cached = read_cached_nbd,
	.status = status_nbd, .resize = resize_nbd, .close = close_nbd,
};

/* -- Opening --------------------------------------------------------------------------- */

static int check(struct nbd_export *e, bool readonly, struct err *err)
{
	if (e->size > INT64_MAX)
		return err_set(err, EFBIG, "its server says that it has %llu bytes", (unsigned long long)e->size);
	if (e->flags & NBD_READ_ONLY && !readonly)
		return err_set(err, EROFS, "its server does not let it be written: readonly=on, or snapshot=on, would do");
	if (e->least > 512 || e->most < 64 * KiB)
		return err_set(err, ENOTSUP, "its server takes requests of %u to %u bytes: of 512 and 65536 are needed", e->least, e->most);
	if (e->most > NBD_LENGTH_MAX)
		e->most = NBD_LENGTH_MAX;
	e->most &= ~511u;
	if (e->preferred < 512 || e->preferred > 64 * KiB || e->preferred & (e->preferred - 1))
		e->preferred = 4096;
	return 0;
}

static int make(struct nbd **out, const char *uri, struct err *err)
{
	struct nbd *d = calloc(1, sizeof(*d));
	pthread_condattr_t attr;

	if (!d || !(d->name = strdup(uri))) {
		free(d);
		return err_set(err, ENOMEM, "out of memory");
	}
	pthread_mutex_init(&d->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&d->changed, &attr);
	pthread_condattr_destroy(&attr);
	*out = d;
	return 0;
}

int nbd_open(struct node **node, const char *uri, bool readonly, uint32_t *block, struct err *err)
{
	struct nbd_address address;
	struct nbd_export export;
	struct nbd *d = NULL;
	int rc = nbd_parse(&address, uri, err);
	scoped_fd int fd = -1;

	if (rc < 0 || (rc = fd = nbd_dial(&address, &export, err)) < 0 || (rc = check(&export, readonly, err)) < 0 ||
	    (rc = make(&d, uri, err)) < 0)
		return rc;
	d->node = (struct node){.ops = &nbd_ops, .size = export.size, .readonly = readonly};
	d->export = export;
	d->fd = keep_fd(&fd);
	*block = export.preferred;
	*node = &d->node;
	return 0;
}
