/* SPDX-License-Identifier: MIT */
/*
 * lodge-vnc: viewers at one side, a guest's screen, keyboard and pointer at the other.
 *
 * lodge starts it for --display vnc=..., and gives it all that it has: a socket to lodge, the picture, a socket that listens (link.h).
 * It opens nothing, and has shut itself in before the first stranger's byte (lib/sandbox, role "vnc"). It ends when lodge does.
 *
 * One thread, which waits in poll() alone. Viewers are served in turn, a piece each: 256 bytes from it, what its socket takes to it. What a
 * viewer types goes to lodge before more is read of anyone.
 *
 * The screen is looked at while a viewer waits for something to change, 30 times a second while it does change, and after a while in which
 * it does not five times. Nobody looks: nothing is drawn.
 *
 * Whoever is not in yet (its handshake, its password) gives up its place for a newer one when all are taken.
 */
#include "link.h"

#include "base/err.h"
#include "base/log.h"
#include "display/rfb.h"
#include "sandbox/sandbox.h"

#include <errno.h>
#include <nettle/des.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define VIEWERS   32
#define PIECE     256 /* bytes at once from a viewer: */
#define EVENTS    64  /* an event has six or more */
#define FAST_NS   UINT64_C(33000000)
#define SLOW_NS   UINT64_C(200000000)
#define DEAF_NS   UINT64_C(100000000) /* after accept() failed: no descriptors, say */
#define NOTES     100 /* about who was not let in */

struct viewer {
	int fd; /* -1: nobody */
	uint64_t number;
	struct rfb *rfb;
};

static struct {
	struct viewer viewers[VIEWERS];
	uint64_t so_far;
	char password[LINK_PASSWORD_MAX];
	struct surface shown, seen; /* what lodge draws; what viewers are shown of it */
	bool asked;                 /* lodge is drawing */
	bool resizes;               /* the guest's screen can have another size, as lodge said last */
	uint64_t next, pause;       /* when it is asked again, how long that was */
	uint64_t deaf_until;
	struct link_message events[EVENTS];
	unsigned n_events, first_event;
	unsigned buttons; /* of the pointer, as they were told last */
	unsigned notes;
} d;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* -- To lodge ------------------------------------------------------------------------- */

static void add_event(struct link_message m)
{
	if (d.first_event + d.n_events < EVENTS)
		d.events[d.first_event + d.n_events++] = m;
	d.pause = FAST_NS; /* something will happen */
	d.next = d.next < now() + FAST_NS ? d.next : now() + FAST_NS;
}

static void on_key(void *ctx, uint8_t key, bool down)
{
	(void)ctx;
	add_event((struct link_message){.what = LINK_KEY, .key = key, .down = down});
}

/* Its buttons are left, right, middle for lodge; the wheel's two are clicks here. */
static void on_pointer(void *ctx, const struct rfb_pointer *p)
{
	unsigned buttons = p->buttons, pressed = buttons & ~d.buttons;

	(void)ctx;
	add_event((struct link_message){
		.what = LINK_POINTER, .x = p->x, .y = p->y, .of_x = p->width, .of_y = p->height,
		.dz = (int16_t)((pressed & 16 ? 1 : 0) - (pressed & 8 ? 1 : 0)),
		.buttons = (uint8_t)((buttons & 1) | (buttons & 4) >> 1 | (buttons & 2) << 1),
	});
	d.buttons = buttons;
}

static bool on_resize(void *ctx, uint16_t width, uint16_t height)
{
	(void)ctx;
	if (d.resizes)
		add_event((struct link_message){.what = LINK_RESIZE, .width = width, .height = height});
	return d.resizes;
}

/* False: it takes no more now. */
static bool tell(const struct link_message *m)
{
	if (send(LINK_LODGE, m, sizeof(*m), MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(*m))
		return true;
	if (errno != EAGAIN && errno != EINTR)
		exit(0); /* lodge has ended */
	return false;
}

static void tell_events(void)
{
	while (d.n_events && tell(&d.events[d.first_event])) {
		d.first_event++;
		d.n_events--;
	}
	if (!d.n_events)
		d.first_event = 0;
}

/* -- Viewers --------------------------------------------------------------------------- */

/* VNC's password is a DES key, with the bits of each byte the other way around. */
static uint8_t turn(uint8_t byte)
{
	uint8_t turned = 0;

	for (unsigned i = 0; i < 8; i++)
		turned |= (uint8_t)((byte >> i & 1) << (7 - i));
	return turned;
}

static void make_challenge(void *ctx, uint8_t challenge[RFB_CHALLENGE], uint8_t answer[RFB_CHALLENGE])
{
	struct des_ctx des;
	uint8_t key[8];

	(void)ctx;
	if (getrandom(challenge, RFB_CHALLENGE, 0) != RFB_CHALLENGE)
		abort();
	for (unsigned i = 0; i < sizeof(key); i++)
		key[i] = turn((uint8_t)d.password[i]);
	des_set_key(&des, key);
	des_encrypt(&des, RFB_CHALLENGE, answer, challenge);
}

static void drop(struct viewer *w, const struct err *err)
{
	if (err && d.notes++ < NOTES)
		log_note("vnc", "a viewer is sent away: %s", err->text);
	close(w->fd);
	rfb_close(w->rfb);
	*w = (struct viewer){.fd = -1};
}

/* Free, or of the oldest that is not in. NULL: all are. */
static struct viewer *find_place(void)
{
	struct viewer *oldest = NULL;

	for (struct viewer *w = d.viewers; w < d.viewers + VIEWERS; w++) {
		if (w->fd < 0)
			return w;
		if (!rfb_is_in(w->rfb) && (!oldest || w->number < oldest->number))
			oldest = w;
	}
	return oldest;
}

static void let_in(void)
{
	const struct rfb_config config = {
		.name = "lodge", .screen = &d.seen, .challenge = d.password[0] ? make_challenge : NULL,
		.key = on_key, .pointer = on_pointer, .resize = on_resize,
	};
	int fd = accept4(LINK_LISTEN, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct viewer *w = find_place();

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			d.deaf_until = now() + DEAF_NS;
		return;
	}
	if (w->fd >= 0)
		drop(w, NULL);
	*w = (struct viewer){.fd = fd, .number = d.so_far++, .rfb = rfb_open(&config)};
	if (!w->rfb)
		drop(w, NULL);
}

static void read_viewer(struct viewer *w)
{
	uint8_t bytes[PIECE];
	struct err err = {0};
	ssize_t n = recv(w->fd, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		drop(w, NULL);
	else if (rfb_input(w->rfb, bytes, (size_t)n, &err) < 0 && rfb_is_over(w->rfb))
		drop(w, &err);
	else if (err.text[0] && d.notes++ < NOTES)
		log_note("vnc", "a viewer is sent away: %s", err.text);
}

static void write_viewer(struct viewer *w)
{
	const uint8_t *bytes;
	size_t len = rfb_output(w->rfb, &bytes);
	ssize_t n = len ? send(w->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

	if (n < 0 && errno != EAGAIN && errno != EINTR)
		drop(w, NULL);
	else if (n > 0)
		rfb_sent(w->rfb, (size_t)n);
	if (w->fd >= 0 && rfb_is_over(w->rfb))
		drop(w, NULL);
}

/* -- The screen ------------------------------------------------------------------------- */

static void take_picture(const struct link_message *m)
{
	struct rfb_tiles changed;

	d.asked = false;
	if (!m->width || !m->height || m->width > SURFACE_WIDTH_MAX || m->height > SURFACE_HEIGHT_MAX)
		exit(1);
	d.resizes = m->down;
	d.shown.width = m->width;
	d.shown.height = m->height;
	if (!rfb_compare(&d.seen, &d.shown, &changed)) {
		d.pause = d.pause * 5 / 4 < SLOW_NS ? d.pause * 5 / 4 : SLOW_NS;
		return;
	}
	d.pause = FAST_NS;
	for (struct viewer *w = d.viewers; w < d.viewers + VIEWERS; w++)
		if (w->fd >= 0)
			rfb_damage(w->rfb, &changed);
}

static void hear_lodge(void)
{
	struct link_message m;
	ssize_t n = recv(LINK_LODGE, &m, sizeof(m), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(m))
		exit(0); /* lodge has ended */
	if (m.what == LINK_SHOWN)
		take_picture(&m);
	else if (m.what == LINK_PASSWORD)
		memcpy(d.password, m.password, sizeof(d.password));
}

static bool somebody_waits(void)
{
	for (struct viewer *w = d.viewers; w < d.viewers + VIEWERS; w++)
		if (w->fd >= 0 && rfb_waits(w->rfb))
			return true;
	return false;
}

/* Until when there is nothing to do but for the sockets; in milliseconds for poll(). */
static int look(void)
{
	uint64_t at = now();

	if (!somebody_waits() || d.asked)
		return d.deaf_until > at ? 100 : -1;
	if (at < d.next)
		return (int)((d.next - at) / 1000000 + 1);
	d.asked = tell(&(struct link_message){.what = LINK_SHOW});
	d.next = at + d.pause;
	return d.asked ? -1 : 10;
}

/* -- All ----------------------------------------------------------------------------------- */

static void serve(void)
{
	struct pollfd fds[VIEWERS + 2];
	int wait = look();

	fds[0] = (struct pollfd){LINK_LODGE, (short)(POLLIN | (d.n_events ? POLLOUT : 0)), 0};
	fds[1] = (struct pollfd){d.deaf_until <= now() && find_place() ? LINK_LISTEN : -1, POLLIN, 0};
	for (unsigned i = 0; i < VIEWERS; i++) {
		struct viewer *w = &d.viewers[i];
		const uint8_t *bytes;
		short out = w->fd >= 0 && rfb_output(w->rfb, &bytes) ? POLLOUT : 0;

		fds[i + 2] = (struct pollfd){w->fd, (short)((d.n_events ? 0 : POLLIN) | out), 0};
	}
	poll(fds, VIEWERS + 2, wait);
	if (fds[0].revents)
		hear_lodge();
	tell_events();
	for (unsigned i = 0; i < VIEWERS; i++) {
		struct viewer *w = &d.viewers[i];

		if (fds[i + 2].revents & POLLOUT)
			write_viewer(w);
		if (w->fd >= 0 && fds[i + 2].revents & (POLLIN | POLLHUP | POLLERR) && !d.n_events) {
			read_viewer(w);
			tell_events();
		}
	}
	if (fds[1].revents)
		let_in();
}

static void *map(int fd, int prot)
{
	void *at = mmap(NULL, SURFACE_PIXELS_MAX * 4, prot, (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | MAP_NORESERVE,
			fd, 0);

	if (at == MAP_FAILED)
		exit(1);
	return at;
}

int main(void)
{
	closefrom(LINK_LISTEN + 1);
	d.shown = (struct surface){.pixels = map(LINK_PICTURE, PROT_READ), .room = SURFACE_PIXELS_MAX};
	d.seen = (struct surface){.pixels = map(-1, PROT_READ | PROT_WRITE), .room = SURFACE_PIXELS_MAX, .width = 640, .height = 480};
	d.pause = FAST_NS;
	for (unsigned i = 0; i < VIEWERS; i++)
		d.viewers[i].fd = -1;
#ifndef LODGE_SANITIZED /* whose runtime makes system calls of its own */
	sandbox_alone("vnc", &(struct sandbox_needs){.network = false});
#endif
	for (;;)
		serve();
}
