/* SPDX-License-Identifier: MIT */
/*
 * See migrate.h for what it promises, stream.h for what is sent.
 *
 *	round 1     all pages that there are                             the machine runs
 *	round 2..   those that were written since the round before began the machine runs, perhaps slowed down
 *	the last    what is left can be sent in DOWN_MS, or it is enough the machine stands still
 *
 * Between two rounds the machine is paused for a moment, so that the pages which vCPUs have written (the engine's dirty log)
 * and those which devices have (guest_range(): map_ram.written) are one set of one moment, with no device in
 * the middle of a page. A page is read while the guest may write it: then it is in the next set.
 *
 * Disks that are written go with the last of it: when the machine stands still, and they have ended what they had begun, they
 * are handed over (block/disk.h), before its state is sent. If it stays here after all they are taken back; the other lodge
 * may be dying, and have one a moment longer than its end of the socket: then that is tried again.
 *
 * A page of a layer is read where it was when the round began. If it has moved since, it was written since.
 */
#include "machine/migrate.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/memfile.h"
#include "block/disk.h"
#include "machine/layer.h"
#include "machine/private.h"
#include "machine/region.h"
#include "machine/saved/form.h"
#include "machine/stream.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define DOWN_MS    30  /* as long as the last round may take, by what it took so far */
#define ROUNDS_MAX 60  /* then it is enough */
#define SLICE_MS   20  /* of which the machine stands still for `brake` */
#define RATE       100e3 /* bytes per ms, before it is known */
#define BRAKE_MAX  18
#define BRAKE_STEP 3

#define RETRY_MS   5 /* for a disk */

enum stage { PAGES, STATE, END, WAITING, STAYS };

struct migration {
	struct machine *m;
	struct migration_plan plan;
	struct migration_facts facts;
	enum stage stage;
	bool was_paused, last; /* the last round: it stands still */
	uint64_t pages, at, left; /* of RAM; the next to look at; to be sent in this round */
	uint64_t *todo, *dirty;   /* a bit a page: to be sent; room for a log */
	uint8_t *where;           /* layers, when the round began */
	unsigned brake;           /* ms of SLICE_MS */
	uint64_t left_before;     /* when the round before began */
	double began, stopped;    /* ms: the round; the machine in the last one */
	double rate;              /* bytes per ms, of the last round that was long enough */
	uint64_t sent_before;
	struct err why;           /* it stays */
	int state;                /* memfd */
	uint64_t state_at, state_len;
	size_t n_out, out_at;     /* bytes in out, and how many have gone */
	uint8_t out[STREAM_HEAD + STREAM_RUN * STREAM_PAGE];
};

static double now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

/* -- What is to be sent ------------------------------------------------------------ */

static void mark(struct migration *g, uint64_t first, uint64_t end)
{
	for (uint64_t p = first; p < end; p++)
		g->todo[p / 64] |= UINT64_C(1) << (p % 64);
}

/* All that is not zeros, as far as the host knows. */
static void mark_all(struct migration *g)
{
	int fd = g->m->ram.fd;
	off_t data = 0, hole;

	for (uint64_t p = 0; g->where && p < g->pages; p++)
		if (g->where[p])
			mark(g, p, p + 1);
	while ((data = lseek(fd, data, SEEK_DATA)) >= 0) {
		hole = lseek(fd, data, SEEK_HOLE);
		mark(g, (uint64_t)data / RAM_PAGE, (uint64_t)hole / RAM_PAGE);
		data = hole;
	}
}

static int add_log(struct migration *g, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < g->m->mem.n; i++) {
		const struct guest_region *r = &g->m->mem.regions[i];
		uint64_t first = (uint64_t)(r->host - g->m->ram.host) / RAM_PAGE;

		if (r->base == GUEST_NOWHERE)
			continue;
		rc = vm_dirty(&g->m->vm, i, g->dirty, err);
		for (uint64_t p = 0; rc == 0 && p < r->size / RAM_PAGE; p++)
			if (g->dirty[p / 64] >> (p % 64) & 1)
				mark(g, first + p, first + p + 1);
	}
	return rc;
}

static void add_written(struct migration *g)
{
	for (uint64_t i = 0; i < (g->pages + 63) / 64; i++)
		g->todo[i] |= atomic_exchange(&g->m->ram.written[i], 0);
}

static void count(struct migration *g)
{
	g->left = 0;
	g->at = 0;
	for (uint64_t i = 0; i < (g->pages + 63) / 64; i++)
		g->left += (uint64_t)__builtin_popcountll(g->todo[i]);
}

static int pause_it(struct migration *g, struct err *err)
{
	return machine_life(g->m) == MACHINE_PAUSED ? 0 : machine_pause(g->m, err);
}

static int resume_it(struct migration *g, struct err *err)
{
	return g->was_paused || machine_life(g->m) != MACHINE_PAUSED ? 0 : machine_resume(g->m, err);
}

/* The machine is paused. What is sent from now on is of this moment or later. */
static int begin_round(struct migration *g, struct err *err)
{
	free(g->where);
	g->where = ram_layers_now(g->m);
	if (g->m->ram.layers && !g->where)
		return err_set(err, ENOMEM, "no memory");
	count(g);
	g->facts.rounds++;
	g->began = now_ms();
	g->sent_before = g->facts.sent;
	return g->last ? 0 : resume_it(g, err);
}

/* Bytes that can be sent while it stands still. */
static uint64_t bearable(const struct migration *g)
{
	return (uint64_t)(g->rate * DOWN_MS);
}

static int next_round(struct migration *g, struct err *err)
{
	double took = now_ms() - g->began;
	int rc = pause_it(g, err);

	g->stopped = now_ms();
	if (took > 1)
		g->rate = (double)(g->facts.sent - g->sent_before) / took;
	if (rc < 0 || (rc = add_log(g, err)) < 0)
		return rc;
	add_written(g);
	g->left_before = g->left;
	count(g);
	g->last = g->was_paused || g->left * RAM_PAGE <= bearable(g) || g->facts.rounds >= ROUNDS_MAX;
	if (g->left * 4 > g->left_before * 3 && g->facts.rounds > 2 && g->brake < BRAKE_MAX)
		g->brake += BRAKE_STEP;
	return begin_round(g, err);
}

/* -- Frames ------------------------------------------------------------------------ */

static void head(struct migration *g, uint32_t type, uint32_t n, uint64_t value)
{
	le32_put(g->out, type);
	le32_put(g->out + 4, n);
	le64_put(g->out + 8, value);
	g->n_out = STREAM_HEAD;
	g->out_at = 0;
}

static bool is_todo(const struct migration *g, uint64_t p)
{
	return p < g->pages && g->todo[p / 64] >> (p % 64) & 1;
}

/* The pages from `at` on that are to be sent, at most a frame. */
static unsigned find_run(struct migration *g)
{
	unsigned n = 0;

	while (g->at < g->pages && !is_todo(g, g->at))
		g->at = g->todo[g->at / 64] >> (g->at % 64) ? g->at + 1 : (g->at / 64 + 1) * 64;
	while (n < STREAM_RUN && is_todo(g, g->at + n))
		n++;
	return n;
}

/* A copy of each, for the guest may write them; up to where zeros begin, or end. */
static unsigned copy_run(struct migration *g, unsigned n, bool *zeros)
{
	unsigned i;

	for (i = 0; i < n; i++) {
		uint8_t *to = g->out + STREAM_HEAD + i * STREAM_PAGE;
		bool is_zero;

		memcpy(to, ram_layers_page(g->m, g->where, g->at + i), STREAM_PAGE);
		is_zero = is_all_zero(to, STREAM_PAGE);
		if (i && is_zero != *zeros)
			break;
		*zeros = is_zero;
	}
	return i;
}

static int put_pages(struct migration *g, struct err *err)
{
	unsigned n = find_run(g);
	bool zeros = false;
	int rc;

	if (!n)
		return 0;
	rc = ram_layers_bring(g->m, g->where, g->at, n, err);
	if (rc < 0)
		return rc;
	n = copy_run(g, n, &zeros);
	head(g, zeros ? STREAM_ZEROS : STREAM_PAGES, n, g->at * RAM_PAGE);
	g->n_out += zeros ? 0 : n * (size_t)STREAM_PAGE;
	for (unsigned i = 0; i < n; i++, g->at++, g->left--)
		g->todo[g->at / 64] &= ~(UINT64_C(1) << (g->at % 64));
	return 0;
}

static int hand_over_disks(const struct migration *g, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < g->m->config.n_disks; i++)
		rc = disk_hand_over(g->m->config.disks[i], err);
	return rc;
}

static int make_state(struct migration *g, struct err *err)
{
	uint8_t header[SAVED_HEADER];
	int rc = hand_over_disks(g, err);

	if (rc < 0)
		return rc;

	g->state = memfile_create("lodge-state", 0);
	if (g->state < 0)
		return err_sys(err, -g->state, "memory for the guest's state");
	rc = machine_save_state(g->m, g->state, err);
	if (rc == 0 && pread(g->state, header, sizeof(header), 0) != sizeof(header))
		rc = err_sys(err, errno, "the guest's state");
	if (rc == 0)
		g->state_len = le64_get(header + AT_MEMORY);
	return rc;
}

static int put_state(struct migration *g, struct err *err)
{
	size_t room = sizeof(g->out) - STREAM_HEAD, len;
	int rc = g->state < 0 ? make_state(g, err) : 0;

	if (rc < 0)
		return rc;
	g->n_out = g->out_at = 0;
	if (g->state_at == 0)
		head(g, STREAM_STATE, 0, g->state_len);
	len = g->state_len - g->state_at < room ? (size_t)(g->state_len - g->state_at) : room;
	if (pread(g->state, g->out + g->n_out, len, (off_t)g->state_at) != (ssize_t)len)
		return err_sys(err, errno, "the guest's state");
	g->n_out += len;
	g->state_at += len;
	if (g->state_at == g->state_len)
		g->stage = END;
	return 0;
}

/* The next frame, if there is one. */
static int fill(struct migration *g, struct err *err)
{
	int rc = 0;

	switch (g->stage) {
	case PAGES:
		rc = put_pages(g, err);
		if (rc == 0 && !g->n_out && g->last)
			g->stage = STATE;
		else if (rc == 0 && !g->n_out)
			rc = next_round(g, err);
		return rc;
	case STATE:
		return put_state(g, err);
	case END:
		head(g, STREAM_END, g->was_paused, 0);
		g->stage = WAITING;
		return 0;
	case WAITING:
	case STAYS:
		break;
	}
	return 0;
}

/* -- The other side ---------------------------------------------------------------- */

/* The sandbox has recvmsg() for all. */
static ssize_t receive(const struct migration *g, char *to, size_t room)
{
	struct iovec iov = {to, room};

	return recvmsg(g->plan.fd, &(struct msghdr){.msg_iov = &iov, .msg_iovlen = 1}, MSG_DONTWAIT);
}

static int refused(struct migration *g, char *text, ssize_t n, struct err *err)
{
	ssize_t more;

	while (n < STREAM_TEXT - 1 &&
	       (more = receive(g, text + n, (size_t)(STREAM_TEXT - 1 - n))) > 0)
		n += more;
	text[n] = 0;
	for (char *c = text + 1; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = '?';
	return err_set(err, EIO, "the other side: %s", text + 1);
}

/* 1: it runs there. 0: nothing was said. -ECONNRESET: the other side has gone, without a word. */
static int hear(struct migration *g, struct err *err)
{
	char text[STREAM_TEXT];
	ssize_t n = receive(g, text, sizeof(text) - 1);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return err_set(err, ECONNRESET, "the other side has gone before the guest was there");
	if (text[0] == STREAM_RUNS && g->stage == WAITING)
		return 1;
	if (text[0] == STREAM_REFUSED)
		return refused(g, text, n, err);
	return err_set(err, EIO, "the other side says what makes no sense");
}

static int send_out(struct migration *g, struct err *err)
{
	ssize_t n = send(g->plan.fd, g->out + g->out_at, g->n_out - g->out_at, MSG_DONTWAIT | MSG_NOSIGNAL);
	int rc;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (n < 0) {
		rc = hear(g, err);
		return rc < 0 ? rc : err_set(err, ECONNRESET, "the other side has gone before the guest was there");
	}
	g->out_at += (size_t)n;
	g->facts.sent += (uint64_t)n;
	if (g->out_at == g->n_out)
		g->out_at = g->n_out = 0;
	return 0;
}

/* -- Steps ------------------------------------------------------------------------- */

static bool brakes(const struct migration *g)
{
	return g->brake && !g->last && !g->was_paused && g->stage == PAGES;
}

/* Stands still for a part of each slice. */
static int slow_down(struct migration *g, struct err *err)
{
	if (!brakes(g))
		return 0;
	return (uint64_t)now_ms() % SLICE_MS < g->brake ? pause_it(g, err) : resume_it(g, err);
}

/* As soon as it has its disks. */
static enum migration_now stay(struct migration *g, struct err *err)
{
	struct err unheard;

	if ((machine_take_disks(g->m, &unheard) < 0 || resume_it(g, &unheard) < 0) &&
	    machine_life(g->m) == MACHINE_PAUSED)
		return MIGRATION_GOES_ON;
	*err = g->why;
	return MIGRATION_FAILED;
}

static enum migration_now fail(struct migration *g, int rc, struct err *err)
{
	if (g->stage == WAITING && rc == -ECONNRESET && !g->plan.direct)
		return MIGRATION_UNKNOWN;
	close(g->plan.fd);
	g->plan.fd = -1;
	g->stage = STAYS;
	g->why = *err;
	return stay(g, err);
}

enum migration_now migration_step(struct migration *g, struct err *err)
{
	int rc;

	if (g->stage == STAYS)
		return stay(g, err);
	rc = hear(g, err);
	if (rc == 0 && machine_life(g->m) == MACHINE_ENDED)
		rc = err_set(err, EINVAL, "the machine has ended");
	if (rc > 0) {
		g->facts.down_ms = now_ms() - g->stopped;
		return MIGRATION_DONE;
	}
	if (rc == 0)
		rc = slow_down(g, err);
	for (unsigned i = 0; rc == 0 && i < 4; i++) {
		if (!g->n_out)
			rc = fill(g, err);
		if (rc == 0 && g->n_out)
			rc = send_out(g, err);
	}
	return rc < 0 ? fail(g, rc, err) : MIGRATION_GOES_ON;
}

int migration_fd(const struct migration *g)
{
	return g->plan.fd;
}

short migration_events(const struct migration *g)
{
	return g->stage == WAITING && !g->n_out ? POLLIN : POLLIN | POLLOUT;
}

int migration_patience(const struct migration *g)
{
	if (g->stage == STAYS)
		return RETRY_MS;
	return brakes(g) ? 1 : -1;
}

bool migration_is_sent(const struct migration *g)
{
	return g->stage >= WAITING;
}

struct migration_facts migration_facts(const struct migration *g)
{
	return g->facts;
}

/* -- Beginning and end ------------------------------------------------------------- */

/* The machine is paused, for the moment. */
static int begin(struct migration *g, struct err *err)
{
	size_t bitmap = (size_t)(g->pages + 63) / 64 * 8;
	int rc;

	g->todo = calloc(1, bitmap);
	g->dirty = malloc(bitmap);
	if (!g->m->ram.written)
		g->m->ram.written = calloc(1, bitmap);
	if (!g->todo || !g->dirty || !g->m->ram.written)
		return err_set(err, ENOMEM, "no memory");
	rc = machine_log(g->m, true, err);
	if (rc < 0)
		return rc;
	g->where = ram_layers_now(g->m);
	mark_all(g);
	add_written(g); /* of an earlier one */
	g->stopped = now_ms();
	g->last = !g->plan.live || g->was_paused;
	head(g, STREAM_BEGIN, STREAM_VERSION, g->m->ram.size);
	return begin_round(g, err);
}

int migration_begin(struct migration **out, struct machine *m, const struct migration_plan *plan,
		    struct err *err)
{
	struct migration *g = calloc(1, sizeof(*g));
	int rc;

	*out = NULL;
	if (!g)
		return err_set(err, ENOMEM, "no memory");
	*g = (struct migration){
		.m = m, .plan = *plan, .state = -1, .pages = m->ram.size / RAM_PAGE, .rate = RATE,
		.was_paused = machine_life(m) == MACHINE_PAUSED,
	};
	rc = pause_it(g, err);
	if (rc == 0)
		rc = begin(g, err);
	if (rc < 0) {
		g->plan.fd = -1;
		migration_end(g);
		return rc;
	}
	*out = g;
	return 0;
}

void migration_end(struct migration *g)
{
	struct err unheard;

	if (!g)
		return;
	if (g->stage != WAITING)
		resume_it(g, &unheard);
	if (g->m->vm.fd >= 0)
		machine_log(g->m, false, &unheard);
	if (g->plan.fd >= 0)
		close(g->plan.fd);
	if (g->state >= 0)
		close(g->state);
	free(g->where);
	free(g->todo);
	free(g->dirty);
	free(g);
}
