/* SPDX-License-Identifier: MIT */
/*
 * The server side of the control socket: lines in, lines out. What they say is request.c's.
 *
 * It is served by the session's loop, and never waits for a client. A line that is there is answered
 * when the socket has room for what an answer has at most (poll() says POLLOUT), and until then nothing
 * more is read from that client; so who asks a thousand times and does not listen waits for himself. One
 * client more than there is room for takes the place of the oldest that has never asked anything. Those
 * that have may be waiting for the guest's end, which the end of the connection tells; so it waits for
 * one of them to go.
 *
 * A descriptor belongs to the line with whose bytes it came, and the kernel tells only the bytes that
 * were read at once: so a client sends one with a request, and no other line, before the answer. A line
 * that it was not for is refused, and it is closed.
 *
 * A client for which the guest was saved keeps it paused, and nobody else may change its life. When that
 * client goes without a word, for whatever reason, the guest goes on: so it is never lost.
 *
 * A client that waits for a migration has its answer later, is asked nothing more before that, and keeps the guest meanwhile. When
 * it goes the migration is given up, if it can be.
 *
 * Where no descriptor is left for a client, accept4() fails and the socket stays readable: then it is
 * not looked at for a second.
 */
#include "control.h"

#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "base/macros.h"
#include "failure.h"
#include "loop/loop.h"
#include "machine/migrate.h"
#include "place.h"
#include "request.h"
#include "session.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEAF_NS    UINT64_C(1000000000)
#define LINE_BYTES 4096

struct client {
	struct control *of;
	struct loop_source source;
	int fd;   /* -1: nobody */
	int file; /* that came with the line; -1: none */
	bool asked, waits;
	uint64_t number; /* it was let in as */
	size_t len;
	char *line; /* LINE_BYTES */
};

struct control {
	struct session *session;
	char dir[PLACE_MAX];
	int listen;
	uint64_t deaf_until; /* loop_now() */
	struct loop_source source;
	uint64_t n; /* clients so far */
	struct client clients[CONTROL_CLIENTS];
	struct client *keeper; /* the guest is paused for it; NULL: for nobody */
	bool was_paused;       /* before that */
	char lines[CONTROL_CLIENTS][LINE_BYTES]; /* last, and of no value: most guests have no client */
};

int control_open(struct control **out, struct session *s, struct err *err)
{
	struct control *c = malloc(sizeof(*c));
	int rc;

	*out = NULL;
	if (!c)
		return err_set(err, ENOMEM, "no memory");
	memset(c, 0, offsetof(struct control, lines));
	c->session = s;
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
		c->clients[i] = (struct client){.of = c, .fd = -1, .file = -1, .line = c->lines[i]};
	rc = place_find(c->dir, true, err);
	if (rc == 0)
		rc = c->listen = place_open(c->dir, s->name, err);
	if (rc < 0) {
		free(c);
		return rc;
	}
	*out = c;
	return 0;
}

const char *control_place(const struct control *c)
{
	return c->dir;
}

/* -- Clients ------------------------------------------------------------------------------ */

static void close_file(struct client *k)
{
	if (k->file >= 0)
		close(k->file);
	k->file = -1;
}

static void drop_client(struct control *c, struct client *k)
{
	struct err err;

	close_file(k);
	close(k->fd);
	k->fd = -1;
	k->len = 0;
	k->waits = false;
	if (c->keeper != k)
		return;
	c->keeper = NULL;
	session_migrate_cancel(c->session);
	if (!c->was_paused && !c->session->migration && session_resume(c->session, &err) < 0)
		log_warn("control", "%s", err.text);
}

/* The connections end with the process, which tells those who wait for that. */
void control_close(struct control *c)
{
	if (!c)
		return;
	place_leave(c->dir, c->session->name);
	close(c->listen);
	free(c);
}

/* A place that is free, or can be made so. */
static struct client *find_place(struct control *c)
{
	struct client *oldest = NULL;

	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		struct client *k = &c->clients[i];

		if (k->fd < 0)
			return k;
		if (!k->asked && (!oldest || k->number < oldest->number))
			oldest = k;
	}
	return oldest;
}

static void let_in(struct control *c)
{
	int fd = accept4(c->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct client *k = find_place(c);

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			c->deaf_until = loop_now() + DEAF_NS;
		return;
	}
	if (k->fd >= 0)
		drop_client(c, k);
	k->fd = fd;
	k->asked = false;
	k->number = c->n++;
}

/* -- Answers ------------------------------------------------------------------------------ */

static const char *end_of_line(const struct client *k)
{
	return memchr(k->line, '\n', k->len);
}

static void answer_error(struct json *j, const struct err *err)
{
	json_open(j, NULL, '{');
	json_open(j, "error", '{');
	json_str(j, "kind", failure_kind(err->code));
	json_str(j, "text", err->text);
	json_close(j);
	json_close(j);
}

/* The request of a line, if it may be served now. */
static const struct request *admit(const struct control *c, const struct client *k,
				   const struct json_value *line, struct err *err)
{
	const struct request *r = request_find(line, err);

	if (r && r->changes && c->keeper && c->keeper != k)
		err_set(err, EBUSY, c->session->migration ? "the guest is on its way to another lodge" :
				    "the guest is being saved");
	else if (r && r->file && k->file < 0)
		err_set(err, ERANGE, "'%s' needs a file, by SCM_RIGHTS", r->name);
	else if (r && !r->file && k->file >= 0)
		err_set(err, ERANGE, "'%s' takes no file", r->name);
	else
		return r;
	return NULL;
}

static int serve(struct control *c, struct client *k, struct call *call, const struct request *r,
		 struct err *err)
{
	int rc;

	json_open(call->answer, NULL, '{');
	rc = r->serve(call, err);
	json_close(call->answer);
	k->file = call->file;
	k->waits = rc == 0 && call->later;
	if (call->keeps) {
		c->keeper = k;
		c->was_paused = call->was_paused;
	} else if (c->keeper == k) {
		c->keeper = NULL;
	}
	return rc;
}

/* One line's. */
static void write_answer(struct control *c, struct client *k, FILE *out, size_t len, struct call *call)
{
	struct json j = {.out = out, .one_line = true};
	struct json_value *line;
	const struct request *r = NULL;
	struct err err = {0};
	int rc = json_parse(&line, k->line, len, &err);

	if (rc < 0)
		err.code = ERANGE;
	else
		r = admit(c, k, line, &err);
	*call = (struct call){
		.session = c->session, .args = line, .answer = &j, .file = k->file,
		.keeps = c->keeper == k, .was_paused = c->was_paused,
	};
	if (!r || serve(c, k, call, r, &err) < 0) {
		rewind(out);
		answer_error(&j, &err);
	}
	call->args = NULL;
	call->answer = NULL;
	free(line);
}

static bool send_all(const struct client *k, const char *text, size_t len)
{
	return send(k->fd, text, len, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

/* With the descriptors that go with it. */
static bool send_answer(const struct client *k, char *text, size_t len, const struct call *call)
{
	char room[CMSG_SPACE(sizeof(call->give))] __attribute__((aligned(8))) = {0};
	size_t size = call->n_give * sizeof(int);
	struct iovec iov = {text, len};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = CMSG_SPACE(size),
	};
	struct cmsghdr *m = CMSG_FIRSTHDR(&msg);

	if (!call->n_give)
		return send_all(k, text, len);
	m->cmsg_level = SOL_SOCKET;
	m->cmsg_type = SCM_RIGHTS;
	m->cmsg_len = CMSG_LEN(size);
	memcpy(CMSG_DATA(m), call->give, size);
	return sendmsg(k->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)len;
}

static void answer(struct control *c, struct client *k)
{
	size_t len = (size_t)(end_of_line(k) - k->line), n = 0;
	char *text = NULL;
	FILE *out = open_memstream(&text, &n);
	struct call call = {.n_give = 0};
	bool fine = out;

	if (out) {
		write_answer(c, k, out, len, &call);
		fine = fclose(out) == 0 && (k->waits || send_answer(k, text, n, &call));
	}
	for (unsigned i = 0; i < call.n_give; i++)
		close(call.give[i]);
	free(text);
	close_file(k);
	k->asked = true;
	k->len -= len + 1;
	memmove(k->line, k->line + len + 1, k->len);
	if (!fine)
		drop_client(c, k);
}

static void refuse_line(struct control *c, struct client *k)
{
	static const char text[] = "{\"error\": {\"kind\": \"usage\", \"text\": \"a request is a line "
				   "of at most 4095 bytes\"}}\n";

	send_all(k, text, sizeof(text) - 1);
	drop_client(c, k);
}

static void write_facts(struct json *j, const struct migration_facts *facts)
{
	json_open(j, NULL, '{');
	json_bool(j, "ok", true);
	json_uint(j, "sent", facts->sent);
	json_uint(j, "rounds", facts->rounds);
	json_real(j, "down_ms", facts->down_ms);
	json_close(j);
}

static void answer_later(struct client *k, const struct migration_facts *facts, const struct err *err)
{
	char *text = NULL;
	size_t n = 0;
	struct json j = {.out = open_memstream(&text, &n), .one_line = true};

	if (j.out && facts)
		write_facts(&j, facts);
	else if (j.out)
		answer_error(&j, err);
	if (j.out && fclose(j.out) == 0)
		send_all(k, text, n);
	free(text);
}

/* Who waits is the keeper. */
void control_migrated(struct control *c, const struct migration_facts *facts, const struct err *err)
{
	struct client *k = c ? c->keeper : NULL;

	if (!k || !k->waits)
		return;
	answer_later(k, facts, err);
	k->waits = false;
	c->keeper = NULL;
}

/* -- Reading ------------------------------------------------------------------------------ */

/* There is room for one: the kernel closes what is more. */
static void take_file(struct client *k, struct msghdr *msg)
{
	struct cmsghdr *m = CMSG_FIRSTHDR(msg);

	if (!m || m->cmsg_level != SOL_SOCKET || m->cmsg_type != SCM_RIGHTS ||
	    m->cmsg_len != CMSG_LEN(sizeof(int)))
		return;
	close_file(k);
	memcpy(&k->file, CMSG_DATA(m), sizeof(int));
}

static void read_client(struct control *c, struct client *k)
{
	char room[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
	struct iovec iov = {k->line + k->len, LINE_BYTES - k->len};
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = room,
		.msg_controllen = CMSG_LEN(sizeof(int)),
	};
	ssize_t n = recvmsg(k->fd, &msg, MSG_CMSG_CLOEXEC);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		drop_client(c, k);
		return;
	}
	take_file(k, &msg);
	k->len += (size_t)n;
	if (k->len == LINE_BYTES && !end_of_line(k))
		refuse_line(c, k);
}

/* -- For the session's loop --------------------------------------------------------------- */

static uint64_t prepare_client(void *ctx, struct pollfd *p)
{
	const struct client *k = ctx;

	p->fd = k->fd;
	p->events = k->waits ? POLLRDHUP : end_of_line(k) ? POLLOUT : POLLIN;
	return LOOP_NEVER;
}

static void serve_client(void *ctx, const struct pollfd *p)
{
	struct client *k = ctx;

	if (p->fd != k->fd)
		return;
	if (k->waits)
		drop_client(k->of, k);
	else if (end_of_line(k))
		answer(k->of, k);
	else
		read_client(k->of, k);
}

static uint64_t prepare_listen(void *ctx, struct pollfd *p)
{
	struct control *c = ctx;

	if (c->deaf_until > loop_now())
		return c->deaf_until;
	p->fd = find_place(c) ? c->listen : -1;
	p->events = POLLIN;
	return LOOP_NEVER;
}

static void serve_listen(void *ctx, const struct pollfd *p)
{
	if (p->revents)
		let_in(ctx);
}

/* New ones come behind those that are there: who may have to go was served first. */
int control_serve(struct control *c, struct loop *loop)
{
	int rc = 0;

	if (!c)
		return 0;
	for (unsigned i = 0; i < CONTROL_CLIENTS && rc == 0; i++) {
		struct client *k = &c->clients[i];

		k->source = (struct loop_source){prepare_client, serve_client, k};
		rc = loop_add(loop, &k->source);
	}
	c->source = (struct loop_source){prepare_listen, serve_listen, c};
	return rc < 0 ? rc : loop_add(loop, &c->source);
}
