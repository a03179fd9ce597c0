/* SPDX-License-Identifier: MIT */
/*
 * The virtio console, one port, after section 5.3 of virtio 1.2.
 *
 *	queue 0  the driver's empty buffers; we fill them with what the user types
 *	queue 1  what the guest prints
 *
 * Both directions have backpressure. When the other end takes no more output, the chain
 * that is half printed stays with us (`part` bytes of it are gone) and the queue stands
 * still. When the guest has no buffer, virtio_console_input() takes nothing, and
 * input_room is called at the next kick of queue 0.
 *
 * Input waits for the guest's first output: Linux's driver offers buffers before it has made
 * the console that they are for, and throws away what comes in between.
 *
 * No features: one port, no size, no emergency write.
 */
#include "base/scoped.h"
#include "dev/virtio/virtio.h"
#include "state/state.h"

enum { INPUT, OUTPUT };

struct console {
	struct virtio v; /* first */
	struct virtio_console_config config;
	struct vq_chain
		chain; /* the one being printed, or filled: never both at once */
	uint64_t part; /* bytes of the first output chain that were printed already */
	bool spoken;           /* the guest has printed something */
	bool full;             /* virtio_console_input() took less than it was given */
};

/* Prints a chain from con->part on; true when all of it is gone. */
static bool print(struct console *con)
{
	struct vq_chain *chain = &con->chain;
	uint64_t skip = con->part;
	unsigned n = chain->n_out;
	struct iovec *iov = iov_cut_front(chain->iov, &n, skip);

	for (; n; iov++, n--) {
		size_t taken = iov->iov_len;

		if (con->config.output)
			taken = con->config.output(con->config.ctx, iov->iov_base,
						   iov->iov_len);
		con->part += taken;
		if (taken < iov->iov_len)
			return false;
	}
	con->part = 0;
	return true;
}

static void print_all(struct console *con)
{
	struct virtio *v = &con->v;
	struct vq *vq = &v->queues[OUTPUT];
	int rc;

	vq_begin(vq);
	while ((rc = vq_pop(vq, &con->chain)) > 0) {
		if (!print(con)) {
			vq_unpop(vq);
			break;
		}
		vq_push(vq, con->chain.head, 0);
	}
	if (rc < 0)
		virtio_broken(v, vq->broken);
	virtio_signal(v, OUTPUT);
}

/* Tells a feeder that was turned away that it is worth coming back. */
static void call_feeder(struct console *con)
{
	if (!con->full || !con->spoken)
		return;
	con->full = false;
	if (con->config.input_room)
		con->config.input_room(con->config.ctx);
}

static void kick(struct virtio *v, unsigned n)
{
	struct console *con = (struct console *)v;
	bool first = !con->spoken;

	if (n == OUTPUT) {
		con->spoken = true;
		print_all(con);
	}
	if (n == INPUT || first)
		call_feeder(con);
}

void virtio_console_output_ready(struct device *dev)
{
	struct console *con = (struct console *)dev;

	scoped_lock(&dev->lock);
	if (virtio_ready(&con->v, OUTPUT))
		print_all(con);
}

size_t virtio_console_input(struct device *dev, const uint8_t *bytes, size_t n)
{
	struct console *con = (struct console *)dev;
	struct virtio *v = &con->v;
	struct vq *vq = &v->queues[INPUT];
	struct vq_chain *chain = &con->chain;
	size_t taken = 0;
	int rc = 0;

	scoped_lock(&dev->lock);
	if (!con->spoken || !virtio_ready(v, INPUT)) {
		con->full = true;
		return 0;
	}
	vq_begin(vq);
	while (taken < n && (rc = vq_pop(vq, chain)) > 0) {
		uint64_t put = iov_scatter(chain->iov + chain->n_out, chain->n_in,
					   bytes + taken, n - taken);

		vq_push(vq, chain->head, (uint32_t)put);
		taken += put;
	}
	con->full = taken < n;
	if (rc < 0)
		virtio_broken(v, vq->broken);
	virtio_signal(v, INPUT);
	return taken;
}

static void reset(struct virtio *v)
{
	struct console *con = (struct console *)v;

	con->part = 0;
	con->spoken = false;
}

static const struct virtio_type type = {
	.name = "virtio-console",
	.id = 3,
	.class_code = 0x078000,
	.n_queues = 2,
	.queue_size = 64,
	.kick = kick,
	.reset = reset,
};

static int init(struct device *dev, const void *config, struct err *err)
{
	struct console *con = (struct console *)dev;

	con->config = *(const struct virtio_console_config *)config;
	return virtio_init(dev, &type, 0, &con->config.pci, err);
}

static const struct state_field fields[] = {
	STATE(struct console, part),
	STATE(struct console, spoken),
	{0},
};

static const struct state_table table = {.name = "console", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&virtio_state, &table, NULL};

const struct device_model virtio_console_model = {
	.name = "virtio-console",
	.summary = "virtio console with one port",
	.size = sizeof(struct console),
	.state = state,
	.init = init,
	.reset = virtio_reset,
	.fini = virtio_fini,
	.pause = virtio_pause,
	.resume = virtio_resume,
	.saving = virtio_saving,
	.loaded = virtio_loaded,
};
