/* SPDX-License-Identifier: MIT */
/*
 * What all virtio devices have of state, and how they are paused.
 *
 * A paused device has no request under way: each that began has ended, and the driver finds it in its
 * used ring. So nothing of a request is in a section, and which descriptors are free is in guest memory.
 * What waits in the rings is begun at resume, as is a request that the driver offered meanwhile.
 *
 * Where the rings are is resolved again when they are loaded, by the same checks as when the driver
 * enabled them. A driver that had lied (NEEDS_RESET) is still a liar.
 */
#include "base/err.h"
#include "dev/virtio/virtio.h"
#include "state/state.h"

#include <errno.h>

void virtio_pause(struct device *dev)
{
	struct virtio *v = (struct virtio *)dev;

	while (v->under_way)
		pthread_cond_wait(&v->idle, &dev->lock);
}

void virtio_resume(struct device *dev)
{
	struct virtio *v = (struct virtio *)dev;

	for (unsigned n = 0; n < v->type->n_queues; n++) {
		if (vq_resume(&v->queues[n]) < 0)
			virtio_broken(v, v->queues[n].broken);
		virtio_kick(v, n);
	}
}

void virtio_saving(struct device *dev)
{
	pci_function_saving(&((struct virtio *)dev)->fn);
}

int virtio_loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct virtio *v = (struct virtio *)dev;

	(void)away;
	if (v->legacy && (v->bar == 0 || v->status & VIRTIO_FEATURES_OK || v->accepted & ~(uint64_t)(uint32_t)(v->offered | VIRTIO_F_ANY_LAYOUT)))
		return err_set(err, EINVAL, "the driver is one of before virtio 1.0, and uses what this device does not offer those");
	if (v->status & VIRTIO_FEATURES_OK && v->accepted & ~v->offered) /* before, a driver may have said anything */
		return err_set(err, EINVAL,
			       "the driver uses features 0x%llx, which this device does not offer",
			       (unsigned long long)(v->accepted & ~v->offered));
	for (unsigned n = 0; n < v->type->n_queues; n++) {
		struct vq *vq = &v->queues[n];

		vq->packed = virtio_has(v, VIRTIO_F_RING_PACKED);
		if (vq_loaded(vq) < 0)
			return err_set(err, EINVAL, "queue %u: %s", n, vq->broken);
	}
	pci_function_loaded(&v->fn);
	return 0;
}

const struct state_field virtio_queue_fields[] = {
	STATE(struct vq, size),
	STATE(struct vq, desc_gpa),
	STATE(struct vq, avail_gpa),
	STATE(struct vq, used_gpa),
	STATE(struct vq, vector),
	STATE(struct vq, event_idx),
	STATE(struct vq, enabled),
	STATE(struct vq, last_avail),
	STATE(struct vq, used),
	STATE(struct vq, signalled),
	{0},
};

static const struct state_field fields[] = {
	PCI_FUNCTION_STATE(struct virtio, fn),
	MSIX_STATE(struct virtio, msix),
	STATE(struct virtio, accepted),
	STATE(struct virtio, offered_select),
	STATE(struct virtio, accepted_select),
	STATE(struct virtio, queue_select),
	STATE(struct virtio, config_vector),
	STATE(struct virtio, status),
	STATE(struct virtio, isr),
	{.name = "queues", .offset = offsetof(struct virtio, queues), .part = virtio_queue_fields, .size = sizeof(struct vq),
	 .count = VIRTIO_QUEUES_OLD},
	STATE_SINCE(2, struct virtio, legacy),
	{0},
};

const struct state_table virtio_state = {.name = "virtio", .version = 2, .fields = fields};
