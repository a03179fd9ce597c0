/* SPDX-License-Identifier: MIT */
/* Connections: who is let in, bytes in and out. See private.h. */
#include "nbd/private.h"

#include "base/err.h"
#include "base/macros.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECES 64u /* of memory, in one sendmsg() */

/* -- Answers ------------------------------------------------------------------------ */

struct answer *answer_new(struct client *c, size_t n_room)
{
	struct answer *a = calloc(1, sizeof(*a));

	if (a && n_room && !(a->bytes = malloc(n_room))) {
		free(a);
		a = NULL;
	}
	if (a) {
		a->of = c;
		a->n_room = n_room;
		c->n_answers++;
		c->held += n_room;
	}
	return a;
}

void answer_free(struct answer *a)
{
	a->of->n_answers--;
	a->of->held -= a->n_room;
	free(a->bytes);
	free(a);
}

void answer_send(struct answer *a)
{
	struct client *c = a->of;

	if (c->fd < 0) {
		answer_free(a);
		return;
	}
	a->next = NULL;
	*c->out_last = a;
	c->out_last = &a->next;
}

/* -- Leaving ------------------------------------------------------------------------ */

static void drop(struct client *c)
{
	close(c->fd);
	c->fd = -1;
	while (c->out) {
		struct answer *a = c->out;

		c->out = a->next;
		answer_free(a);
	}
	c->out_last = &c->out;
	if (c->into)
		answer_free(c->into);
	c->into = NULL;
	free(c->in);
	c->in = NULL;
	if (c->of->config.left && nbd_server_clients(c->of) == 0)
		c->of->config.left(c->of->config.ctx);
}

/* -- Sending ------------------------------------------------------------------------ */

static unsigned gather(const struct client *c, struct iovec *iov)
{
	unsigned n = 0;

	for (struct answer *a = c->out; a && n + 2 <= PIECES; a = a->next) {
		size_t body = a->sent > a->n_header ? a->sent - a->n_header : 0;

		if (a->sent < a->n_header)
			iov[n++] = (struct iovec){a->header + a->sent, a->n_header - a->sent};
		if (a->n_bytes > body)
			iov[n++] = (struct iovec){a->bytes + body, a->n_bytes - body};
	}
	return n;
}

static void account(struct client *c, size_t sent)
{
	while (c->out) {
		struct answer *a = c->out;
		size_t left = a->n_header + a->n_bytes - a->sent, n = sent < left ? sent : left;

		a->sent += n;
		sent -= n;
		if (n < left)
			return;
		c->out = a->next;
		if (!c->out)
			c->out_last = &c->out;
		answer_free(a);
	}
}

/* As much as the socket takes. False: nobody is there. */
static bool send_all(struct client *c)
{
	while (c->out) {
		struct iovec iov[PIECES];
		struct msghdr message = {.msg_iov = iov, .msg_iovlen = gather(c, iov)};
		ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		account(c, (size_t)n);
	}
	return !c->ending || c->n_answers;
}

/* -- Receiving ---------------------------------------------------------------------- */

/* Whether it may ask for more. */
static bool is_heard(const struct client *c)
{
	return !c->ending && (c->into || c->skip || (c->n_answers < ANSWERS_MAX && c->held < HELD_MAX));
}

/* Whether a step can be made with what has come. */
static bool is_ready(const struct client *c)
{
	return is_heard(c) && (c->into || c->skip ? c->in_n > 0 : c->in_n >= c->want);
}

static const uint8_t *use(struct client *c, size_t n)
{
	const uint8_t *at = c->in + c->in_at;

	c->in_at += n;
	c->in_n -= n;
	return at;
}

/* 1: some have come; 0: not now; -1: there are no more. */
static int receive(struct client *c, uint8_t *to, size_t room, size_t *n)
{
	ssize_t got = read(c->fd, to, room);

	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	*n = (size_t)got;
	return got ? 1 : -1;
}

/* The data of a write: what has come with its request, and then straight from the socket. */
static int receive_into(struct client *c)
{
	size_t left = c->into->n_room - c->n_into, n = c->in_n < left ? c->in_n : left;
	int rc = 1;

	if (n)
		memcpy(c->into->bytes + c->n_into, use(c, n), n);
	else
		rc = receive(c, c->into->bytes + c->n_into, left, &n);
	if (rc <= 0)
		return rc;
	c->n_into += n;
	if (c->n_into < c->into->n_room)
		return 1;
	return c->step(c, NULL) ? 1 : -1;
}

static int receive_more(struct client *c)
{
	size_t n = 0;
	int rc;

	memmove(c->in, c->in + c->in_at, c->in_n);
	c->in_at = 0;
	rc = receive(c, c->in + c->in_n, IN_ROOM - c->in_n, &n);
	c->in_n += n;
	return rc;
}

static int go_on(struct client *c)
{
	if (c->into)
		return receive_into(c);
	if (c->skip && c->in_n) {
		size_t n = c->skip < c->in_n ? (size_t)c->skip : c->in_n;

		use(c, n);
		c->skip -= n;
		return 1;
	}
	if (!c->skip && c->in_n >= c->want)
		return c->step(c, use(c, c->want)) ? 1 : -1;
	return receive_more(c);
}

/* So many steps at most, for others wait, too. False: it is over. */
static bool hear(struct client *c)
{
	int rc = 1;

	for (unsigned i = 0; rc > 0 && i < 2 * ANSWERS_MAX && is_heard(c); i++)
		rc = go_on(c);
	return rc >= 0;
}

static uint64_t prepare(void *ctx, struct pollfd *p)
{
	const struct client *c = ctx;

	p->fd = c->fd;
	p->events = (short)((is_heard(c) ? POLLIN : 0) | (c->out ? POLLOUT : 0));
	return c->fd >= 0 && is_ready(c) ? 0 : LOOP_NEVER;
}

static void serve(void *ctx, const struct pollfd *p)
{
	struct client *c = ctx;

	if (c->fd < 0 || c->fd != p->fd)
		return;
	if ((p->revents & (POLLHUP | POLLERR) && !is_heard(c)) || !hear(c) || !send_all(c))
		drop(c);
}

/* -- The door ------------------------------------------------------------------------ */

static struct client *free_place(struct nbd_server *s)
{
	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++)
		if (s->clients[i].fd < 0 && !s->clients[i].n_answers)
			return &s->clients[i];
	return NULL;
}

static void clear(struct nbd_server *s, struct client *c)
{
	*c = (struct client){.of = s, .source = c->source, .fd = -1};
	c->out_last = &c->out;
}

int nbd_server_let_in(struct nbd_server *s, int fd)
{
	struct client *c = free_place(s);

	if (!c) {
		close(fd);
		return -EBUSY;
	}
	clear(s, c);
	c->fd = fd;
	c->in = malloc(IN_ROOM);
	if (!c->in || !negotiate_begin(c)) {
		drop(c);
		return -ENOMEM;
	}
	return 0;
}

static uint64_t prepare_door(void *ctx, struct pollfd *p)
{
	struct nbd_server *s = ctx;

	p->fd = free_place(s) ? s->config.listening : -1;
	p->events = POLLIN;
	return LOOP_NEVER;
}

static void serve_door(void *ctx, const struct pollfd *p)
{
	struct nbd_server *s = ctx;
	int fd = p->revents ? accept4(s->config.listening, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;

	if (fd >= 0)
		nbd_server_let_in(s, fd);
}

/* -- Its life ------------------------------------------------------------------------- */

int nbd_server_create(struct nbd_server **server, const struct nbd_server_config *config, struct err *err)
{
	struct nbd_server *s = calloc(1, sizeof(*s));
	int rc = s ? 0 : -ENOMEM;

	if (s) {
		s->config = *config;
		s->done_last = &s->done;
		pthread_mutex_init(&s->lock, NULL);
		loop_timer_init(&s->woken, config->loop, transmit_done, s);
		s->door = (struct loop_source){.prepare = prepare_door, .serve = serve_door, .ctx = s};
		rc = loop_add(config->loop, &s->door);
	}
	for (unsigned i = 0; rc == 0 && i < NBD_CLIENTS_MAX; i++) {
		struct client *c = &s->clients[i];

		c->source = (struct loop_source){.prepare = prepare, .serve = serve, .ctx = c};
		clear(s, c);
		rc = loop_add(config->loop, &c->source);
	}
	if (rc < 0) {
		nbd_server_destroy(s);
		return err_set(err, ENOMEM, "no memory");
	}
	*server = s;
	return 0;
}

void nbd_server_destroy(struct nbd_server *s)
{
	if (!s)
		return;
	s->config.left = NULL;
	loop_remove(s->config.loop, &s->door);
	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++) {
		loop_remove(s->config.loop, &s->clients[i].source);
		if (s->clients[i].of && s->clients[i].fd >= 0)
			drop(&s->clients[i]);
	}
	disk_drain(s->config.disk);
	transmit_done(s);
	loop_timer_fini(&s->woken);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

unsigned nbd_server_clients(const struct nbd_server *s)
{
	unsigned n = 0;

	for (unsigned i = 0; i < NBD_CLIENTS_MAX; i++)
		n += s->clients[i].fd >= 0;
	return n;
}
