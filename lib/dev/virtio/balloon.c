/* SPDX-License-Identifier: MIT */
/*
 * The virtio balloon, after section 5.5 of virtio 1.2: a guest gives memory back to its host.
 *
 *	queue 0   pages that the guest gives up (inflate): numbers of 4 KiB pages, 4 bytes each
 *	queue 1   pages that it takes again (deflate)
 *	queue 2   statistics: one buffer that waits here until somebody wants to know
 *	queue 3   reports of free pages: the buffers are the pages
 *	queue 4   the same
 *
 * How many pages it is to give up is in the configuration, `num_pages`; how many it has is
 * `actual`. Both are its driver's to obey: a guest that does not is only as large as it was.
 * Reports come by themselves: what its kernel has had free for a while.
 *
 * What is given up is dropped by guest_drop(), so that the host has the memory again; the guest
 * finds zeros there if it looks. Nothing is told when a page is taken again: it is memory like any
 * other, from the first touch on.
 *
 * Statistics are asked for every few seconds, by giving the buffer back; between that the driver's
 * last numbers stand. The buffer stays in the ring until then, so that nothing is in flight while
 * the guest is saved.
 *
 * Reports have queue 4 by the specification, for 3 is that of hints, which are not offered; Linux
 * counts only queues whose features are there, so there it is 3.
 *
 * A queue of numbers is hostile as any: each is a page of RAM, or is skipped, and at most PAGES_MAX
 * in a request are looked at.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/scoped.h"
#include "dev/virtio/virtio.h"
#include "loop/loop.h"
#include "state/state.h"

#include <string.h>

#define F_STATS          (UINT64_C(1) << 1)
#define F_DEFLATE_ON_OOM (UINT64_C(1) << 2)
#define F_REPORTING      (UINT64_C(1) << 5)

enum { INFLATE, DEFLATE, STATS, REPORT, REPORT_TOO, QUEUES };

#define PAGE_SHIFT  12
#define PAGE        4096u
#define PAGES_MAX   1024u /* Linux has 256 in a request; and a kick, of 128 requests, is that many calls of the host's at most in each */
#define CONFIG_SIZE 8u
#define STAT_SIZE   10u /* tag (2), value (8) */
#define ASK_NS      UINT64_C(5000000000)

struct balloon {
	struct virtio v; /* first */
	struct virtio_balloon_config config;
	struct loop_timer ask;
	bool paused;
	uint32_t target, actual; /* pages */
	uint64_t stats[VIRTIO_BALLOON_STATS];
	uint32_t known; /* a bit for each of them */
	struct vq_chain chain;
};

/* -- Pages -------------------------------------------------------------------------- */

/* Pages one behind the other are dropped at once. */
struct run {
	uint64_t first, n;
};

static void drop_run(struct balloon *b, struct run *r)
{
	void *host = r->n ? guest_range(b->v.queues[0].mem, r->first << PAGE_SHIFT, r->n << PAGE_SHIFT) : NULL;

	if (host)
		guest_drop(b->v.queues[0].mem, host, r->n << PAGE_SHIFT);
	r->n = 0;
}

static void add_page(struct balloon *b, struct run *r, uint32_t page)
{
	if (r->n && page == r->first + r->n) {
		r->n++;
	} else if (r->n && page + UINT64_C(1) == r->first) {
		r->first--;
		r->n++;
	} else {
		drop_run(b, r);
		*r = (struct run){page, 1};
	}
}

static void inflate(struct balloon *b)
{
	struct iovec *iov = b->chain.iov;
	unsigned n = b->chain.n_out;
	struct run run = {0, 0};
	uint8_t number[4];

	for (unsigned i = 0; i < PAGES_MAX && iov_gather(iov, n, number, 4) == 4; i++) {
		add_page(b, &run, le32_get(number));
		iov = iov_cut_front(iov, &n, 4);
	}
	drop_run(b, &run);
}

static void drop_reported(struct balloon *b)
{
	const struct iovec *in = b->chain.iov + b->chain.n_out;

	for (unsigned i = 0; i < b->chain.n_in; i++)
		guest_drop(b->v.queues[0].mem, in[i].iov_base, in[i].iov_len);
}

static void serve_pages(struct balloon *b, unsigned n)
{
	struct virtio *v = &b->v;
	struct vq *vq = &v->queues[n];
	int rc;

	vq_begin(vq);
	while ((rc = vq_pop(vq, &b->chain)) > 0) {
		if (n == INFLATE)
			inflate(b);
		else if (n != DEFLATE)
			drop_reported(b);
		vq_push(vq, b->chain.head, 0);
	}
	if (rc < 0)
		virtio_broken(v, vq->broken);
	virtio_signal(v, n);
}

/* -- Statistics --------------------------------------------------------------------- */

static void read_stats(struct balloon *b)
{
	uint8_t bytes[VIRTIO_BALLOON_STATS * 2 * STAT_SIZE];
	size_t len = iov_gather(b->chain.iov, b->chain.n_out, bytes, sizeof(bytes));

	for (size_t at = 0; at + STAT_SIZE <= len; at += STAT_SIZE) {
		unsigned tag = le16_get(bytes + at);

		if (tag < VIRTIO_BALLOON_STATS) {
			b->stats[tag] = le64_get(bytes + at + 2);
			b->known |= 1u << tag;
		}
	}
}

/* Reads the buffer that is there; gives it back, if it is to be filled again. */
static void serve_stats(struct balloon *b, bool again)
{
	struct virtio *v = &b->v;
	struct vq *vq = &v->queues[STATS];
	int rc;

	vq_begin(vq);
	rc = vq_pop(vq, &b->chain);
	if (rc < 0)
		virtio_broken(v, vq->broken);
	if (rc <= 0)
		return;
	read_stats(b);
	if (again)
		vq_push(vq, b->chain.head, 0);
	else
		vq_unpop(vq);
	virtio_signal(v, STATS);
}

static void ask(void *ctx)
{
	struct balloon *b = ctx;

	scoped_lock(&b->v.dev.lock);
	if (b->paused)
		return;
	if (virtio_ready(&b->v, STATS) && virtio_has(&b->v, F_STATS))
		serve_stats(b, true);
	loop_timer_set(&b->ask, loop_now() + ASK_NS);
}

/* -- From outside ------------------------------------------------------------------- */

void virtio_balloon_set(struct device *dev, uint64_t bytes)
{
	struct balloon *b = (struct balloon *)dev;

	scoped_lock(&dev->lock);
	b->target = bytes >> PAGE_SHIFT < UINT32_MAX ? (uint32_t)(bytes >> PAGE_SHIFT) : UINT32_MAX;
	virtio_config_changed(&b->v);
}

void virtio_balloon_look(struct device *dev, struct virtio_balloon_facts *facts)
{
	const struct balloon *b = (const struct balloon *)dev;

	scoped_lock(&dev->lock);
	*facts = (struct virtio_balloon_facts){
		.target = (uint64_t)b->target << PAGE_SHIFT, .actual = (uint64_t)b->actual << PAGE_SHIFT, .known = b->known,
	};
	memcpy(facts->stats, b->stats, sizeof(b->stats));
}

/* -- The model ---------------------------------------------------------------------- */

static void kick(struct virtio *v, unsigned n)
{
	struct balloon *b = (struct balloon *)v;

	if (n == STATS)
		serve_stats(b, false);
	else if (n < REPORT || virtio_has(v, F_REPORTING))
		serve_pages(b, n);
}

static uint8_t config_read(struct virtio *v, unsigned at)
{
	const struct balloon *b = (const struct balloon *)v;

	return (uint8_t)((at < 4 ? b->target : b->actual) >> at % 4 * 8);
}

static void config_write(struct virtio *v, unsigned at, uint8_t value)
{
	struct balloon *b = (struct balloon *)v;
	unsigned shift = at % 4 * 8;

	if (at >= 4)
		b->actual = (b->actual & ~(UINT32_C(0xff) << shift)) | (uint32_t)value << shift;
}

/* The driver lets go of all; what somebody wants of it stays. */
static void reset(struct virtio *v)
{
	struct balloon *b = (struct balloon *)v;

	b->actual = 0;
	b->known = 0;
}

static const struct virtio_type type = {
	.name = "virtio-balloon",
	.id = 5,
	.legacy = 0x1002,
	.class_code = 0x00ff00,
	.n_queues = QUEUES,
	.queue_size = 128,
	.features = F_STATS | F_DEFLATE_ON_OOM | F_REPORTING,
	.config_size = CONFIG_SIZE,
	.kick = kick,
	.config_read = config_read,
	.config_write = config_write,
	.reset = reset,
};

static int init(struct device *dev, const void *config, struct err *err)
{
	struct balloon *b = (struct balloon *)dev;
	int rc;

	b->config = *(const struct virtio_balloon_config *)config;
	rc = virtio_init(dev, &type, 0, &b->config.pci, err);
	if (rc < 0 || !b->config.loop)
		return rc;
	loop_timer_init(&b->ask, b->config.loop, ask, b);
	loop_timer_set(&b->ask, loop_now() + ASK_NS);
	return 0;
}

static void fini(struct device *dev)
{
	loop_timer_fini(&((struct balloon *)dev)->ask);
	virtio_fini(dev);
}

static void pause_balloon(struct device *dev)
{
	struct balloon *b = (struct balloon *)dev;

	b->paused = true;
	loop_timer_set(&b->ask, LOOP_NEVER);
	virtio_pause(dev);
}

static void resume_balloon(struct device *dev)
{
	struct balloon *b = (struct balloon *)dev;

	b->paused = false;
	loop_timer_set(&b->ask, loop_now() + ASK_NS);
	virtio_resume(dev);
}

static const struct state_field fields[] = {
	STATE(struct balloon, target),
	STATE(struct balloon, actual),
	STATE(struct balloon, v.generation),
	{0},
};

static const struct state_table table = {.name = "balloon", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&virtio_state, &table, NULL};

const struct device_model virtio_balloon_model = {
	.name = "virtio-balloon",
	.summary = "virtio balloon: memory that the guest gives back",
	.option = "--balloon",
	.size = sizeof(struct balloon),
	.bar = virtio_common_regs,
	.state = state,
	.init = init,
	.reset = virtio_reset,
	.fini = fini,
	.pause = pause_balloon,
	.resume = resume_balloon,
	.saving = virtio_saving,
	.loaded = virtio_loaded,
};
