/* SPDX-License-Identifier: MIT */
/*
 * Virtio entropy, after section 5.4 of virtio 1.2: the smallest virtio device, and the
 * one to read before writing another.
 *
 * It has one queue. The driver puts buffers there; we fill each with random bytes from
 * the host's kernel and give it back. Nothing else: no features, no configuration.
 *
 * A buffer gets at most CHUNK bytes: what the guest asks for is not what a vCPU waits
 * for. The driver is told how many it got and asks again.
 */
#include "dev/virtio/virtio.h"

#include <sys/random.h>

#define CHUNK 4096u

struct rng {
	struct virtio v; /* first */
};

static uint32_t fill(const struct vq_chain *chain)
{
	const struct iovec *in = chain->iov + chain->n_out;
	uint8_t bytes[CHUNK];
	uint64_t want = chain->in_len < CHUNK ? chain->in_len : CHUNK;
	ssize_t got = getrandom(bytes, want, 0);

	return got < 0 ? 0
		       : (uint32_t)iov_scatter(in, chain->n_in, bytes, (uint64_t)got);
}

static void kick(struct virtio *v, unsigned n)
{
	struct vq *vq = &v->queues[n];
	struct vq_chain chain;
	int rc;

	vq_begin(vq);
	while ((rc = vq_pop(vq, &chain)) > 0)
		vq_push(vq, chain.head, fill(&chain));
	if (rc < 0)
		virtio_broken(v, vq->broken);
	virtio_signal(v, n);
}

static const struct virtio_type type = {
	.name = "virtio-rng",
	.id = 4,
	.legacy = 0x1005,
	.class_code = 0x00ff00,
	.n_queues = 1,
	.queue_size = 64,
	.kick = kick,
};

static int init(struct device *dev, const void *config, struct err *err)
{
	const struct virtio_rng_config *c = config;

	return virtio_init(dev, &type, 0, &c->pci, err);
}

static const struct state_table *const state[] = {&virtio_state, NULL};

const struct device_model virtio_rng_model = {
	.name = "virtio-rng",
	.summary = "virtio entropy source",
	.size = sizeof(struct rng),
	.bar = virtio_common_regs,
	.state = state,
	.init = init,
	.reset = virtio_reset,
	.fini = virtio_fini,
	.pause = virtio_pause,
	.resume = virtio_resume,
	.saving = virtio_saving,
	.loaded = virtio_loaded,
};
