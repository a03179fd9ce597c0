/* SPDX-License-Identifier: MIT */
/*
 * The virtio file system device, after section 5.11 of virtio 1.2: a directory of the host's, for a guest.
 *
 *	queue 0   requests that are not to wait behind others (FORGET)
 *	queue 1   requests: messages of FUSE, answers
 *
 * No file is opened here and no message understood. Both are done by a process of its own
 * (prog/lodge/share), to which a request goes as the driver wrote it, by a socket (fs_link.h); its
 * answer goes where the driver wants it. Of a message its number (`unique`) is read, for the answer
 * where that process has ended: EIO.
 *
 *	a vCPU's thread                              the loop's thread
 *	kick: vq_pop -> slot -> writev()             poll() -> read() -> slot -> copy, vq_push, interrupt
 *	  no room in the socket: the rest of the       POLLOUT: the rest, and what waits in the rings
 *	  request is kept, the rings wait
 *	  no free slot: the rings wait               a slot is free: what waits in the rings
 *
 * So nobody waits for anybody. A slot belongs to its request until the answer has come, or the
 * driver has reset the device: what comes for a request of before is dropped, for each has a cookie
 * of its own. A request that is half sent when that happens is sent to its end from the same
 * memory, or the stream would be none any more.
 *
 * A device that is paused has no request under way. What the guest knows of its files (a million
 * names, perhaps) is that process's to remember; it is asked for it when the guest is saved, and
 * another one is given it when that is loaded.
 *
 * Left out: several request queues, for one process does one request after the other; notifications; DAX.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/log.h"
#include "base/scoped.h"
#include "dev/virtio/fs_link.h"
#include "dev/virtio/virtio.h"
#include "loop/loop.h"
#include "state/state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define QUEUES      2u
#define QUEUE_SIZE  128u
#define SLOTS       64u       /* a bit each */
#define SLOT_BITS   8u
#define SERIALS     0x7fffffu /* as many as a cookie has room for */
#define REQUEST_MIN 40u       /* a header of FUSE's requests */
#define UNIQUE_AT   8u
#define CONFIG_SIZE 40u
#define SOCK_ROOM   (1 << 20) /* as far as the host lets us */

struct slot {
	uint8_t queue;
	uint16_t head;
	uint32_t cookie;
	uint32_t room; /* for its answer; less than FS_ROOM_MIN: there is none */
	unsigned n_in;
	uint64_t unique;
	struct iovec in[VQ_IOV_MAX];
};

struct fs {
	struct virtio v; /* first */
	struct virtio_fs_config config;
	struct loop_source source;
	struct loop_timer call; /* wakes the loop: the socket takes no more */
	bool paused, lost;      /* lost: the process has ended, or says what it never would */
	uint32_t serial; /* of the next request */
	uint64_t busy;          /* slots. Not in them: a reset would touch a page for each */
	struct vq_chain chain;
	/* The request that is being sent: its cookie's slot, or -1 if that is of before a reset, and what is left of it. */
	struct fs_head head;
	int sending;
	struct iovec out[1 + VQ_IOV_MAX];
	struct iovec *rest;
	unsigned n_rest;
	/* Answers as they come: whole ones, and the beginning of one. */
	size_t n_got;
	uint8_t got[sizeof(struct fs_head) + FS_MESSAGE_MAX];
	struct slot slots[SLOTS];
	uint32_t session_len;
	uint8_t session[FS_SESSION_MAX];
};

#define ALL_BUSY UINT64_MAX

static bool is_busy(const struct fs *f, unsigned slot)
{
	return f->busy >> slot & 1;
}

/* -- Answers ------------------------------------------------------------------------ */

static void complete(struct fs *f, struct slot *s, const uint8_t *bytes, uint32_t len)
{
	iov_scatter(s->in, s->n_in, bytes, len);
	vq_push(&f->v.queues[s->queue], s->head, len);
	f->busy &= ~(UINT64_C(1) << (s - f->slots));
}

static void complete_with_error(struct fs *f, struct slot *s)
{
	uint8_t answer[FS_ROOM_MIN];

	le32_put(answer, FS_ROOM_MIN);
	le32_put(answer + 4, (uint32_t)-EIO);
	le64_put(answer + 8, s->unique);
	complete(f, s, answer, s->room < FS_ROOM_MIN ? 0 : FS_ROOM_MIN);
}

static void signal_all(struct fs *f)
{
	for (unsigned n = 0; n < QUEUES; n++)
		if (virtio_ready(&f->v, n))
			virtio_signal(&f->v, n);
}

/* Nobody is there any more, or nobody whom one can believe. */
static void lose(struct fs *f, const char *how)
{
	if (f->lost)
		return;
	f->lost = true;
	f->n_rest = 0;
	f->sending = -1;
	log_warn("share", "'%s': lodge-share %s; what the guest does there fails with EIO", f->config.tag, how);
	for (unsigned i = 0; i < SLOTS; i++)
		if (is_busy(f, i))
			complete_with_error(f, &f->slots[i]);
	signal_all(f);
}

/* An answer as a whole. One to a request of before a reset is nobody's. */
static void take_answer(struct fs *f, const struct fs_head *head, const uint8_t *bytes)
{
	unsigned i = head->cookie & ((1u << SLOT_BITS) - 1);
	struct slot *s = i < SLOTS ? &f->slots[i] : NULL;

	if (!s || !is_busy(f, i) || head->cookie != s->cookie || (int)i == f->sending)
		return;
	/* SAFE: not more than there is room for, whatever the process says */
	complete(f, s, bytes, head->len < s->room ? head->len : s->room);
}

static size_t take_answers(struct fs *f)
{
	size_t at = 0;

	while (f->n_got - at >= sizeof(struct fs_head)) {
		struct fs_head head;

		memcpy(&head, f->got + at, sizeof(head));
		if (head.len > FS_MESSAGE_MAX) {
			lose(f, "has ended");
			return f->n_got;
		}
		if (f->n_got - at - sizeof(head) < head.len)
			break;
		take_answer(f, &head, f->got + at + sizeof(head));
		at += sizeof(head) + head.len;
	}
	return at;
}

static void receive(struct fs *f)
{
	size_t room = sizeof(f->got) - f->n_got, used;
	ssize_t n = f->lost ? -1 : read(f->config.fd, f->got + f->n_got, room);

	if (f->lost || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	if (n <= 0) {
		lose(f, "has ended");
		return;
	}
	f->n_got += (size_t)n;
	used = take_answers(f);
	f->n_got -= used;
	memmove(f->got, f->got + used, f->n_got);
	signal_all(f);
}

/* -- Requests ------------------------------------------------------------------------ */

/* One that wants no answer is done with when it is sent. */
static void end_sending(struct fs *f)
{
	struct slot *s = f->sending >= 0 ? &f->slots[f->sending] : NULL;

	f->sending = -1;
	if (s && s->room < FS_ROOM_MIN)
		complete(f, s, NULL, 0);
}

/* As much as the socket takes. */
static void flush(struct fs *f)
{
	while (f->n_rest) {
		ssize_t n = writev(f->config.fd, f->rest, (int)f->n_rest);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			loop_call(&f->call);
			return;
		}
		if (n < 0) {
			lose(f, "has ended");
			return;
		}
		f->rest = iov_cut_front(f->rest, &f->n_rest, (uint64_t)n);
		if (!f->n_rest)
			end_sending(f);
	}
}

static struct slot *take_slot(struct fs *f, unsigned queue)
{
	struct vq_chain *c = &f->chain;
	unsigned i = (unsigned)__builtin_ctzll(~f->busy);
	struct slot *s = &f->slots[i];
	uint8_t header[REQUEST_MIN];

	iov_gather(c->iov, c->n_out, header, sizeof(header));
	f->busy |= UINT64_C(1) << i;
	s->queue = (uint8_t)queue;
	s->head = c->head;
	s->cookie = (f->serial++ & SERIALS) << SLOT_BITS | i;
	s->room = c->in_len < FS_MESSAGE_MAX ? (uint32_t)c->in_len : FS_MESSAGE_MAX;
	s->n_in = c->n_in;
	s->unique = le64_get(header + UNIQUE_AT);
	memcpy(s->in, c->iov + c->n_out, c->n_in * sizeof(c->iov[0]));
	return s;
}

static void start(struct fs *f, unsigned queue)
{
	struct vq_chain *c = &f->chain;
	struct slot *s = take_slot(f, queue);

	if (f->lost) {
		complete_with_error(f, s);
		return;
	}
	f->sending = (int)(s - f->slots);
	f->head = (struct fs_head){.len = (uint32_t)c->out_len, .cookie = s->cookie, .room = s->room};
	f->out[0] = (struct iovec){&f->head, sizeof(f->head)};
	memcpy(f->out + 1, c->iov, c->n_out * sizeof(c->iov[0]));
	f->rest = f->out;
	f->n_rest = 1 + c->n_out;
	flush(f);
}

static void take_requests(struct fs *f, unsigned queue)
{
	struct virtio *v = &f->v;
	struct vq *vq = &v->queues[queue];
	int rc = 0;

	if (f->paused || f->n_rest || f->busy == ALL_BUSY || !virtio_ready(v, queue))
		return;
	vq_begin(vq);
	while (!f->n_rest && f->busy != ALL_BUSY && (rc = vq_pop(vq, &f->chain)) > 0) {
		if (f->chain.out_len >= REQUEST_MIN && f->chain.out_len <= FS_MESSAGE_MAX) {
			start(f, queue);
			continue;
		}
		vq_unpop(vq);
		vq->broken = "a request that is shorter or longer than any is";
	}
	if (rc < 0)
		virtio_broken(v, vq->broken);
	virtio_signal(v, queue);
}

static void take_all(struct fs *f)
{
	for (unsigned n = 0; n < QUEUES; n++)
		take_requests(f, n);
}

static void kick(struct virtio *v, unsigned n)
{
	take_requests((struct fs *)v, n);
}

/* -- The loop ------------------------------------------------------------------------ */

static uint64_t prepare(void *ctx, struct pollfd *p)
{
	struct fs *f = ctx;

	scoped_lock(&f->v.dev.lock);
	if (!f->paused && !f->lost)
		*p = (struct pollfd){f->config.fd, (short)(POLLIN | (f->n_rest ? POLLOUT : 0)), 0};
	return LOOP_NEVER;
}

static void serve(void *ctx, const struct pollfd *p)
{
	struct fs *f = ctx;

	scoped_lock(&f->v.dev.lock);
	if (f->paused || f->lost)
		return;
	if (p->revents & POLLOUT)
		flush(f);
	if (p->revents & (POLLIN | POLLHUP | POLLERR))
		receive(f);
	take_all(f);
}

/* prepare() is asked again afterwards. */
static void look_again(void *ctx)
{
	(void)ctx;
}

/* -- The session --------------------------------------------------------------------- */

/*
 * Nothing else happens in lodge meanwhile. A file system of the host's whose server is gone (NFS) holds that process up for as
 * long as it likes; it does not hold lodge up for longer than this.
 */
static void wait_for(struct fs *f, short events)
{
	struct pollfd p = {f->config.fd, events, 0};

	if (poll(&p, 1, f->config.patience_ms) == 0)
		lose(f, "does not answer");
}

/* All of it; false: it is lost. What the process has to say meanwhile is read, or it would read nothing. */
static bool put(struct fs *f, const void *bytes, size_t len)
{
	for (size_t done = 0; done < len && !f->lost;) {
		struct iovec part = {(uint8_t *)(uintptr_t)bytes + done, len - done};
		ssize_t n = writev(f->config.fd, &part, 1);

		if (n >= 0)
			done += (size_t)n;
		else if (errno != EAGAIN && errno != EINTR)
			lose(f, "has ended");
		if (n < 0 && !f->lost) {
			wait_for(f, POLLIN | POLLOUT);
			receive(f);
		}
	}
	return !f->lost;
}

static bool get(struct fs *f, void *bytes, size_t len)
{
	for (size_t done = 0; done < len && !f->lost;) {
		ssize_t n = read(f->config.fd, (uint8_t *)bytes + done, len - done);

		if (n > 0)
			done += (size_t)n;
		else if (n < 0 && errno == EAGAIN)
			wait_for(f, POLLIN);
		else if (n == 0 || errno != EINTR)
			lose(f, "has ended");
	}
	return !f->lost;
}

/* Half an answer, to a request of before a reset, is read to its end. */
static void drop_half(struct fs *f)
{
	struct fs_head head;

	if (f->n_got && f->n_got < sizeof(head)) {
		if (!get(f, f->got + f->n_got, sizeof(head) - f->n_got))
			return;
		f->n_got = sizeof(head);
	}
	memcpy(&head, f->got, sizeof(head));
	if (f->n_got && head.len <= FS_MESSAGE_MAX)
		get(f, f->got + f->n_got, sizeof(head) + head.len - f->n_got);
	else if (f->n_got)
		lose(f, "has ended");
	f->n_got = 0;
}

/* What the process says to a request that is none of the driver's; nothing else is under way. False: it is lost. */
static bool ask(struct fs *f, uint32_t cookie, const uint8_t *bytes, uint32_t len, uint8_t *answer, uint32_t *answer_len)
{
	struct fs_head head = {.len = len, .cookie = cookie, .room = *answer_len};

	if (!put(f, &head, sizeof(head)) || !put(f, bytes, len))
		return false;
	drop_half(f);
	do { /* more of them may still come */
		if (!get(f, &head, sizeof(head)))
			return false;
		if (head.len > *answer_len || (head.cookie != cookie && head.len > FS_MESSAGE_MAX)) {
			lose(f, "has ended");
			return false;
		}
		if (!get(f, answer, head.len))
			return false;
	} while (head.cookie != cookie);
	*answer_len = head.len;
	return true;
}

static void saving(struct device *dev)
{
	struct fs *f = (struct fs *)dev;

	virtio_saving(dev);
	f->session_len = FS_SESSION_MAX;
	if (f->lost || !ask(f, FS_SAVE, NULL, 0, f->session, &f->session_len))
		f->session_len = 0;
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct fs *f = (struct fs *)dev;
	uint32_t len = FS_MESSAGE_MAX;
	int rc = virtio_loaded(dev, away, err);

	if (rc < 0 || f->lost || !f->session_len)
		return rc;
	if (!ask(f, FS_LOAD, f->session, f->session_len, f->got, &len))
		return err_set(err, EIO, "'%s': lodge-share has ended", f->config.tag);
	return len ? err_set(err, EINVAL, "'%s': %.*s", f->config.tag, (int)(len < 200 ? len : 200), (const char *)f->got) : 0;
}

/* -- The model ----------------------------------------------------------------------- */

static void pause_fs(struct device *dev)
{
	struct fs *f = (struct fs *)dev;

	f->paused = true;
	while (!f->lost && (f->busy || f->n_rest)) {
		wait_for(f, (short)(POLLIN | (f->n_rest ? POLLOUT : 0)));
		flush(f);
		receive(f);
	}
	virtio_pause(dev);
}

static void resume_fs(struct device *dev)
{
	((struct fs *)dev)->paused = false;
	virtio_resume(dev);
}

/* Whoever waits for an answer is not there any more. */
static void reset(struct virtio *v)
{
	struct fs *f = (struct fs *)v;

	f->busy = 0;
	f->sending = -1;
}

static void queue_reset(struct virtio *v, unsigned n)
{
	struct fs *f = (struct fs *)v;

	for (unsigned i = 0; i < SLOTS; i++)
		if (is_busy(f, i) && f->slots[i].queue == n) {
			f->busy &= ~(UINT64_C(1) << i);
			f->sending = (int)i == f->sending ? -1 : f->sending;
		}
}

static uint8_t config_read(struct virtio *v, unsigned at)
{
	const char *tag = ((struct fs *)v)->config.tag;

	if (at < FS_TAG_MAX)
		return at < strlen(tag) ? (uint8_t)tag[at] : 0;
	return at == FS_TAG_MAX; /* so many request queues */
}

static const struct virtio_type type = {
	.name = "virtio-fs",
	.id = 26,
	.class_code = 0x018000,
	.n_queues = QUEUES,
	.queue_size = QUEUE_SIZE,
	.config_size = CONFIG_SIZE,
	.kick = kick,
	.config_read = config_read,
	.reset = reset,
	.queue_reset = queue_reset,
};

static int init(struct device *dev, const void *config, struct err *err)
{
	struct fs *f = (struct fs *)dev;
	int rc, room = SOCK_ROOM;

	f->config = *(const struct virtio_fs_config *)config;
	f->lost = f->config.fd < 0;
	f->sending = -1;
	rc = virtio_init(dev, &type, 0, &f->config.pci, err);
	if (rc < 0 || f->lost)
		return rc;
	fcntl(f->config.fd, F_SETFL, O_NONBLOCK);
	setsockopt(f->config.fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	if (!f->config.loop)
		return 0;
	loop_timer_init(&f->call, f->config.loop, look_again, f);
	f->source = (struct loop_source){prepare, serve, f};
	return loop_add(f->config.loop, &f->source) < 0 ? err_set(err, ENOMEM, "out of memory") : 0;
}

static void fini(struct device *dev)
{
	struct fs *f = (struct fs *)dev;

	if (f->config.loop)
		loop_remove(f->config.loop, &f->source);
	loop_timer_fini(&f->call);
	virtio_fini(dev);
}

/* The rest is the machine's: the directory, and who has it. */
static const struct state_field fields[] = {
	STATE_UPTO(struct fs, session_len, FS_SESSION_MAX),
	STATE_COUNTED(struct fs, session, session_len),
	{0},
};

static const struct state_table table = {.name = "fs", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&virtio_state, &table, NULL};

const struct device_model virtio_fs_model = {
	.name = "virtio-fs",
	.summary = "virtio file system: a shared directory",
	.option = "--share",
	.size = sizeof(struct fs),
	.bar = virtio_common_regs,
	.state = state,
	.init = init,
	.reset = virtio_reset,
	.fini = fini,
	.pause = pause_fs,
	.resume = resume_fs,
	.saving = saving,
	.loaded = loaded,
};
