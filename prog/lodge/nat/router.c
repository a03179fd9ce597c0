/* SPDX-License-Identifier: MIT */
/*
 * See nat.h. One thread, which waits in poll() alone: for lodge's socket, and for those that libslirp has at the time.
 *
 * What libslirp sends goes to lodge's socket, and what that does not take is kept, as far as there is room. While something is kept the
 * host's sockets are not read, so a guest that is slow slows down who sends to it; frames are lost only where that is not
 * enough, as answers to a flood of its own.
 */
#include "nat.h"

#include "base/err.h"
#include "forward.h"
#include "net/port.h"
#include "net/segment.h"

#include <arpa/inet.h>
#include <errno.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BURST 64 /* frames of the guest's, before sockets have their turn */

struct timer {
	struct timer *next;
	SlirpTimerCb fire;
	void *ctx;
	int64_t at; /* ms; INT64_MAX: it stands */
};

struct router {
	Slirp *slirp;
	struct net_port *lodge;
	struct timer *timers;
	struct segmenter heard; /* from the guest */
	struct pollfd *polls; /* the first is lodge's */
	size_t n, size;
};

static int64_t now_ns(void *ctx)
{
	struct timespec ts;

	(void)ctx;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static int64_t now_ms(void)
{
	return now_ns(NULL) / 1000000;
}

/* -- What libslirp asks for -------------------------------------------------------- */

static void put_frame(void *ctx, const struct iovec *iov, unsigned n)
{
	struct router *r = ctx;

	r->lodge->type->send(r->lodge, iov, n); /* if there is no room it is lost */
}

static ssize_t send_frame(const void *frame, size_t len, void *ctx)
{
	segment_send(&((struct router *)ctx)->heard, frame, len, put_frame, ctx);
	return (ssize_t)len;
}

static void ignore_text(const char *text, void *ctx)
{
	(void)text, (void)ctx;
}

static void ignore_fd(int fd, void *ctx)
{
	(void)fd, (void)ctx;
}

static void ignore(void *ctx)
{
	(void)ctx;
}

static void *new_timer(SlirpTimerCb fire, void *timer_ctx, void *ctx)
{
	struct router *r = ctx;
	struct timer *t = malloc(sizeof(*t));

	if (!t)
		abort(); /* as libslirp does where it has no memory */
	*t = (struct timer){.next = r->timers, .fire = fire, .ctx = timer_ctx, .at = INT64_MAX};
	r->timers = t;
	return t;
}

static void free_timer(void *timer, void *ctx)
{
	struct timer **link = &((struct router *)ctx)->timers;

	while (*link != timer)
		link = &(*link)->next;
	*link = (*link)->next;
	free(timer);
}

static void set_timer(void *timer, int64_t at, void *ctx)
{
	(void)ctx;
	((struct timer *)timer)->at = at;
}

static const SlirpCb callbacks = {
	.send_packet = send_frame, .guest_error = ignore_text, .clock_get_ns = now_ns, .timer_new = new_timer,
	.timer_free = free_timer, .timer_mod = set_timer, .register_poll_fd = ignore_fd, .unregister_poll_fd = ignore_fd,
	.notify = ignore,
};

/* -- Making one -------------------------------------------------------------------- */

/* The addresses that QEMU's users know. */
struct router *router_create(const struct router_config *c)
{
	struct router *r = calloc(1, sizeof(*r));
	SlirpConfig config = {
		.version = 4, .restricted = c->restricted, .tftp_path = c->tftp, .bootfile = c->bootfile, .in_enabled = true, .in6_enabled = true, .vprefix_len = 64,
		.if_mtu = NAT_MTU, .if_mru = NAT_MTU,
	};

	if (!r)
		abort();
	inet_pton(AF_INET, "10.0.2.0", &config.vnetwork);
	inet_pton(AF_INET, "255.255.255.0", &config.vnetmask);
	inet_pton(AF_INET, "10.0.2.2", &config.vhost);
	inet_pton(AF_INET, "10.0.2.15", &config.vdhcp_start);
	inet_pton(AF_INET, "10.0.2.3", &config.vnameserver);
	inet_pton(AF_INET6, "fec0::", &config.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &config.vhost6);
	inet_pton(AF_INET6, "fec0::3", &config.vnameserver6);
	tftp_serve(c->tftp);
	r->lodge = c->lodge;
	r->slirp = slirp_new(&config, &callbacks, r);
	return r;
}

void router_destroy(struct router *r)
{
	slirp_cleanup(r->slirp);
	free(r->polls);
	free(r);
}

int router_forward(struct router *r, const struct forward *f, const char *text, struct err *err)
{
	int flags = (f->udp ? SLIRP_HOSTFWD_UDP : 0) | (f->from.any.sa_family == AF_INET6 ? SLIRP_HOSTFWD_V6ONLY : 0);

	if (slirp_add_hostxfwd(r->slirp, &f->from.any, f->len, &f->to.any, f->len, flags) == 0)
		return 0;
	if (errno == EADDRINUSE)
		return err_set(err, EBUSY, "-p %s: port %u is in use", text, ntohs(f->from.v4.sin_port));
	if (errno == EACCES)
		return err_set(err, EACCES, "-p %s: ports below 1024 are root's", text);
	return err_sys(err, errno, "-p %s", text);
}

/* -- Running ----------------------------------------------------------------------- */

/* A guest can send fragments with which libslirp 4.7 goes astray when it puts them together: `fuzz nat` found it writing to an address of the
 * guest's choice. With an MTU of 32 KiB hardly anybody sends them, so they are lost. */
static bool is_fragment(const uint8_t *frame, size_t len)
{
	return len > 21 && frame[12] == 8 && !frame[13] && ((frame[20] & 0x3f) || frame[21]);
}

void router_input(struct router *r, const uint8_t *frame, size_t len)
{
	if (is_fragment(frame, len))
		return;
	segment_learn(&r->heard, frame, len);
	slirp_input(r->slirp, frame, (int)len);
}

/* Whether there may be more. */
static bool take_frames(struct router *r)
{
	const struct net_port_type *type = r->lodge->type;
	const uint8_t *frame;
	size_t len;

	for (unsigned left = BURST; left; left--) {
		frame = type->peek(r->lodge, &len);
		if (!frame)
			return false;
		router_input(r, frame, len);
		type->drop(r->lodge);
	}
	return true;
}

static const struct { int slirp; short poll; } events[] = {
	{SLIRP_POLL_IN, POLLIN}, {SLIRP_POLL_OUT, POLLOUT}, {SLIRP_POLL_PRI, POLLPRI}, {SLIRP_POLL_ERR, POLLERR},
	{SLIRP_POLL_HUP, POLLHUP},
};

static int add_poll(int fd, int slirp, void *ctx)
{
	struct router *r = ctx;
	struct pollfd *p;

	if (r->n == r->size) {
		r->size = r->size ? r->size * 2 : 64;
		r->polls = realloc(r->polls, r->size * sizeof(*r->polls));
		if (!r->polls)
			abort();
	}
	p = &r->polls[r->n];
	*p = (struct pollfd){.fd = fd};
	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++)
		p->events |= slirp & events[i].slirp ? events[i].poll : 0;
	return (int)r->n++;
}

static int get_events(int i, void *ctx)
{
	short revents = ((struct router *)ctx)->polls[i].revents;
	int slirp = 0;

	for (size_t k = 0; k < sizeof(events) / sizeof(events[0]); k++)
		slirp |= revents & events[k].poll ? events[k].slirp : 0;
	return slirp;
}

static int until(const struct router *r, uint32_t ms)
{
	int64_t now = now_ms(), left = ms;

	for (const struct timer *t = r->timers; t; t = t->next)
		if (t->at != INT64_MAX && t->at - now < left)
			left = t->at > now ? t->at - now : 0;
	return left >= INT32_MAX ? -1 : (int)left;
}

static void fire_timers(struct router *r)
{
	int64_t now = now_ms();

	for (struct timer *t = r->timers; t; t = t->next)
		if (t->at <= now) {
			t->at = INT64_MAX;
			t->fire(t->ctx);
		}
}

void router_run(struct router *r)
{
	bool more = false;

	while (r->lodge->up) {
		bool behind = net_stream_behind(r->lodge) > 0;
		uint32_t ms = UINT32_MAX;
		int rc;

		r->n = 0;
		add_poll(-1, 0, r);
		r->lodge->type->wants(r->lodge, true, false, &r->polls[0]);
		if (!behind)
			slirp_pollfds_fill(r->slirp, &ms, add_poll, r);
		rc = poll(r->polls, r->n, more ? 0 : until(r, ms));
		r->lodge->type->serve(r->lodge, r->polls[0].revents);
		if (!behind)
			slirp_pollfds_poll(r->slirp, rc < 0, get_events, r);
		more = take_frames(r);
		fire_timers(r);
	}
}
