/* SPDX-License-Identifier: MIT */
/*
 * The server side of the control socket: who is there, and for whom the guest is kept. What they say is for the files of qmp/.
 *
 * It is served by the session's loop, and never waits for a client: peer.c has what becomes of one that does not read, or send. One
 * client more than there is room for takes the place of the oldest that has never asked anything. Those
 * that have may be waiting for the guest's end, which the end of the connection tells; so it waits for
 * one of them to go.
 *
 * A client for which the guest was saved keeps it paused, and nobody else may change its life. When that
 * client goes without a word, for whatever reason, the guest goes on: so it is never lost.
 *
 * A client that waits for a migration has its answer later, is asked nothing more before that, and keeps the guest meanwhile. When
 * it goes the migration is given up, if it can be.
 *
 * What lies in CD drives the guest decides, too, and tells nobody: while there are clients, somebody looks once a second, which
 * is also as often as a guest that plays with a drive is told of.
 *
 * Where no descriptor is left for a client, accept4() fails and the socket stays readable: then it is
 * not looked at for a second.
 */
#include "control.h"

#include "base/err.h"
#include "base/log.h"
#include "loop/loop.h"
#include "peer.h"
#include "place.h"
#include "qmp/command.h"
#include "qmp/request.h"
#include "qmp/serve.h"
#include "qmp/text.h"
#include "session.h"
#include "told.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEAF_NS    UINT64_C(1000000000)
#define LOOK_NS    UINT64_C(1000000000)

struct client {
	struct control *of;
	struct loop_source source;
	struct peer peer;
	bool asked, talks; /* anything; and all that there is: it has negotiated */
	bool waits;        /* for the answer to `request`, which comes later */
	uint64_t number;   /* it was let in as */
	struct qmp_request request;
};

struct control {
	struct session *session;
	char dir[PLACE_MAX];
	int listen;
	uint64_t deaf_until, look_at; /* loop_now() */
	struct loop_source source, watch;
	uint64_t n; /* clients so far */
	struct client clients[CONTROL_CLIENTS];
	struct client *keeper; /* the guest is paused for it; NULL: for nobody */
	bool was_paused;       /* before that */
	/* Last, and of no value: most guests have no client. */
	char bytes[CONTROL_CLIENTS][PEER_BYTES], late[CONTROL_CLIENTS][PEER_LATE];
};

int control_open(struct control **out, struct session *s, struct err *err)
{
	struct control *c = malloc(sizeof(*c));
	int rc;

	*out = NULL;
	if (!c)
		return err_set(err, ENOMEM, "no memory");
	memset(c, 0, offsetof(struct control, bytes));
	c->session = s;
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		c->clients[i].of = c;
		peer_init(&c->clients[i].peer, c->bytes[i], c->late[i]);
	}
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

void control_event(struct control *c, const char *name, const char *data)
{
	struct qmp_text t;

	if (!c || !qmp_text_event(&t, name, data))
		return;
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
		if (c->clients[i].talks)
			peer_say(&c->clients[i].peer, t.bytes, t.n);
	free(t.bytes);
}

static void drop_client(struct control *c, struct client *k)
{
	struct err err;

	peer_close(&k->peer);
	qmp_request_free(&k->request);
	k->asked = k->talks = k->waits = false;
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
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		qmp_files_close(&c->clients[i].peer.files);
		qmp_request_free(&c->clients[i].request);
	}
	free(c);
}

/* A place that is free, or can be made so. */
static struct client *find_place(struct control *c)
{
	struct client *oldest = NULL;

	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		struct client *k = &c->clients[i];

		if (k->peer.fd < 0)
			return k;
		if (!k->asked && (!oldest || k->number < oldest->number))
			oldest = k;
	}
	return oldest;
}

/* What is said first is a few bytes: a new socket has room for them. */
static void greet(struct client *k)
{
	struct qmp_text t;

	if (qmp_text_greeting(&t))
		peer_say(&k->peer, t.bytes, t.n);
	else
		k->peer.lost = true;
	free(t.bytes);
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
	if (k->peer.fd >= 0)
		drop_client(c, k);
	peer_open(&k->peer, fd);
	k->number = c->n++;
	greet(k);
}

/* -- Answers ------------------------------------------------------------------------------ */

/* Whether somebody else keeps the guest from what this would change. */
static int check_keeper(const struct control *c, const struct client *k, struct err *err)
{
	if (!k->request.command->changes || !c->keeper || c->keeper == k)
		return 0;
	return err_set(err, EBUSY, c->session->migration ? "the guest is on its way to another lodge" : "the guest is being saved");
}

/* What serving it has changed between this client and the guest. */
static void note(struct control *c, struct client *k, const struct call *call)
{
	k->talks = true;
	k->waits = call->later;
	if (call->keeps) {
		c->keeper = k;
		c->was_paused = call->was_paused;
	} else if (c->keeper == k) {
		c->keeper = NULL;
	}
}

static bool serve(struct control *c, struct client *k, struct qmp_text *t, struct call *call)
{
	bool fine;

	*call = (struct call){
		.session = c->session, .args = k->request.args, .files = &k->peer.files,
		.keeps = c->keeper == k, .was_paused = c->was_paused,
	};
	fine = qmp_text_serve(t, &k->request, call);
	note(c, k, call);
	return fine && (k->waits || peer_answer(&k->peer, t->bytes, t->n, call->give, call->n_give));
}

/* False: the client is gone, or there is no memory for what it asks. */
static bool answer(struct control *c, struct client *k)
{
	struct call call = {.n_give = 0};
	const struct peer *p = &k->peer;
	struct qmp_text t = {.bytes = NULL};
	struct err err = {0};
	bool fine;

	if (qmp_request_read(&k->request, p->bytes + p->begin, p->whole, k->talks, &err) < 0 || check_keeper(c, k, &err) < 0)
		fine = qmp_text_error(&t, k->request.id, k->request.class, &err) && peer_answer(&k->peer, t.bytes, t.n, NULL, 0);
	else
		fine = serve(c, k, &t, &call);
	for (unsigned i = 0; i < call.n_give; i++)
		close(call.give[i]);
	free(t.bytes);
	if (!k->waits)
		qmp_request_free(&k->request);
	return fine;
}

/* Who waits is the keeper. */
void control_migrated(struct control *c, const struct migration_facts *facts, const struct err *err)
{
	struct client *k = c ? c->keeper : NULL;
	struct qmp_text t;

	if (!k || !k->waits)
		return;
	if (facts ? qmp_text_migrated(&t, k->request.id, facts) : qmp_text_error(&t, k->request.id, QMP_GENERIC, err))
		peer_say(&k->peer, t.bytes, t.n);
	else
		k->peer.lost = true; /* no memory: it would wait for ever */
	free(t.bytes);
	qmp_request_free(&k->request);
	k->waits = false;
	c->keeper = NULL;
}

/* -- For the session's loop --------------------------------------------------------------- */

static uint64_t prepare_client(void *ctx, struct pollfd *p)
{
	const struct client *k = ctx;

	p->fd = k->peer.fd;
	p->events = k->waits ? (short)(POLLRDHUP | (k->peer.n_late ? POLLOUT : 0)) : peer_events(&k->peer);
	return k->peer.lost ? 0 : LOOP_NEVER;
}

/* False: it is gone. */
static bool serve_request(struct client *k)
{
	k->asked = true;
	if (!answer(k->of, k))
		return false;
	peer_next(&k->peer);
	return true;
}

/* `more`: poll() said something else than that there is room. */
static bool go_on(struct client *k, bool more)
{
	struct peer *p = &k->peer;

	if (p->n_late)
		peer_send_late(p);
	if (p->lost || (k->waits && more))
		return false;
	if (k->waits || p->n_late)
		return true;
	if (peer_has_request(p))
		return serve_request(k);
	return !more || peer_read(p);
}

static void serve_client(void *ctx, const struct pollfd *p)
{
	struct client *k = ctx;

	if (k->peer.fd >= 0 && p->fd == k->peer.fd && !go_on(k, p->revents & ~POLLOUT))
		drop_client(k->of, k);
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

static bool has_listener(const struct control *c)
{
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++)
		if (c->clients[i].talks)
			return true;
	return false;
}

static uint64_t prepare_watch(void *ctx, struct pollfd *p)
{
	const struct control *c = ctx;

	(void)p;
	return c->session->config->n_cds && has_listener(c) ? c->look_at : LOOP_NEVER;
}

static void serve_watch(void *ctx, const struct pollfd *p)
{
	struct control *c = ctx;

	(void)p;
	if (loop_now() < c->look_at)
		return;
	told_trays(c->session);
	c->look_at = loop_now() + LOOK_NS;
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
	c->watch = (struct loop_source){prepare_watch, serve_watch, c};
	if (rc == 0)
		rc = loop_add(loop, &c->source);
	return rc < 0 ? rc : loop_add(loop, &c->watch);
}
