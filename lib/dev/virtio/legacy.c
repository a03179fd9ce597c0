/* SPDX-License-Identifier: MIT */
/*
 * Virtio as it was before 1.0, for old drivers: section 4.1.4.10 of virtio 1.2 and "Legacy Interface" all over it. A device that has it is transitional: it
 * has both, and what the driver uses first is what it is until it is reset.
 *
 *	BAR 0, ports  +00  features, 32 bits     +0c  size of the queue, which is ours    +12  status
 *	              +04  those accepted        +0e  which queue                         +13  which kind of interrupt
 *	              +08  where it is, in pages +10  notifications                       +14  with MSI-X on, two vectors
 *	              then the configuration
 *
 * What is other than today: no FEATURES_OK, so features are settled when a queue is given a place, and count with DRIVER_OK; a queue's three parts
 * follow each other from a page on, with the used ring in a page of its own; a reset is over when the write is, since no driver looks, so
 * it waits here for what the disk has.
 */
#include "base/macros.h"
#include "base/scoped.h"
#include "dev/virtio/virtio.h"

#define PAGE 4096u

#define AT_FEATURES 0x00u
#define AT_ACCEPTED 0x04u
#define AT_QUEUE    0x08u
#define AT_SIZE     0x0cu
#define AT_SELECT   0x0eu
#define AT_NOTIFY   0x10u
#define AT_STATUS   0x12u
#define AT_ISR      0x13u
#define AT_VECTORS  0x14u

#define STATUS_DRIVER_OK   0x04u
#define STATUS_NEEDS_RESET 0x40u

static struct vq *selected(struct virtio *v)
{
	return v->queue_select < v->type->n_queues ? &v->queues[v->queue_select] : NULL;
}

/* Lock held, which is let go meanwhile. */
static void wait_idle(struct virtio *v)
{
	while (v->under_way)
		pthread_cond_wait(&v->idle, &v->dev.lock);
}

/* -- Queues -------------------------------------------------------------------------------- */

/* SAFE: vq_enable() looks at the addresses. */
static void place_queue(struct virtio *v, struct vq *vq, uint32_t page)
{
	uint64_t at = (uint64_t)page * PAGE;

	vq->size = vq->max;
	vq->desc_gpa = at;
	vq->avail_gpa = at + vq->size * 16u;
	vq->used_gpa = align_up(vq->avail_gpa + 6 + vq->size * 2u, PAGE);
	vq_settle(vq, virtio_has(v, VIRTIO_F_EVENT_IDX), false);
	if (vq_enable(vq) < 0)
		virtio_broken(v, vq->broken);
}

static void write_queue(struct virtio *v, uint32_t page)
{
	struct vq *vq = selected(v);
	unsigned n = v->queue_select;
	uint16_t vector;

	if (!vq || v->resetting || !v->legacy) /* a driver says what it is first: ACKNOWLEDGE */
		return;
	if (page) {
		if (!vq->enabled)
			place_queue(v, vq, page);
		return;
	}
	vq->enabled = false;
	wait_idle(v);
	vector = vq->vector;
	vq_reset(vq);
	vq->vector = vector;
	if (v->type->queue_reset)
		v->type->queue_reset(v, n);
}

static uint32_t read_queue(struct virtio *v)
{
	const struct vq *vq = selected(v);

	return vq && vq->enabled ? (uint32_t)(vq->desc_gpa / PAGE) : 0;
}

/* -- Status ---------------------------------------------------------------------------------- */

static bool any_enabled(const struct virtio *v)
{
	for (unsigned n = 0; n < v->type->n_queues; n++)
		if (v->queues[n].enabled)
			return true;
	return false;
}

/* What a driver of today's has said is no word of one of before. One that has queues must reset first. */
static void write_status(struct virtio *v, uint8_t value)
{
	if (!value) {
		virtio_reset(&v->dev);
		return;
	}
	if (!v->legacy && any_enabled(v))
		return;
	if (!v->legacy)
		v->accepted = 0;
	v->legacy = true;
	if (value & ~v->status & STATUS_DRIVER_OK && v->type->negotiated)
		v->type->negotiated(v);
	v->status = (uint8_t)((value & ~(VIRTIO_FEATURES_OK | STATUS_NEEDS_RESET)) | (v->status & STATUS_NEEDS_RESET));
}

/* -- Registers -------------------------------------------------------------------------------- */

static unsigned config_at(struct virtio *v)
{
	return msix_enabled(&v->msix) ? AT_VECTORS + 4 : AT_VECTORS;
}

static uint16_t vector(struct virtio *v, unsigned at)
{
	const struct vq *vq = selected(v);

	return at == AT_VECTORS ? v->config_vector : vq ? vq->vector : MSIX_NONE;
}

static void set_vector(struct virtio *v, unsigned at, uint64_t value)
{
	uint16_t n = value < v->msix.n ? (uint16_t)value : MSIX_NONE;
	struct vq *vq = selected(v);

	if (at == AT_VECTORS)
		v->config_vector = n;
	else if (vq)
		vq->vector = n;
}

static uint64_t read_register(struct virtio *v, unsigned at)
{
	switch (at) {
	case AT_FEATURES:
		return (uint32_t)v->offered | VIRTIO_F_ANY_LAYOUT;
	case AT_ACCEPTED:
		return (uint32_t)v->accepted;
	case AT_QUEUE:
		return read_queue(v);
	case AT_SIZE:
		return selected(v) ? selected(v)->max : 0;
	case AT_SELECT:
		return v->queue_select;
	case AT_STATUS:
		return v->status;
	case AT_ISR:
		return virtio_take_isr(v);
	case AT_VECTORS:
	case AT_VECTORS + 2:
		return vector(v, at);
	default:
		return 0;
	}
}

static void write_register(struct virtio *v, unsigned at, uint64_t value)
{
	switch (at) {
	case AT_ACCEPTED:
		if (!any_enabled(v) && !(v->status & STATUS_DRIVER_OK))
			v->accepted = (uint32_t)value & ((uint32_t)v->offered | VIRTIO_F_ANY_LAYOUT);
		break;
	case AT_QUEUE:
		write_queue(v, (uint32_t)value);
		break;
	case AT_SELECT:
		v->queue_select = (uint16_t)value;
		break;
	case AT_NOTIFY:
		virtio_kick(v, value & 0xffff);
		break;
	case AT_STATUS:
		write_status(v, (uint8_t)value);
		break;
	case AT_VECTORS:
	case AT_VECTORS + 2:
		set_vector(v, at, value & 0xffff);
		break;
	default:
		break;
	}
}

uint64_t virtio_legacy_read(void *ctx, uint64_t at, unsigned width)
{
	struct virtio *v = ctx;
	unsigned config = config_at(v);

	scoped_lock(&v->dev.lock);
	return at < config ? read_register(v, (unsigned)at) : virtio_read_config(v, at - config, width);
}

/* A driver of today has the device for itself until it resets it. */
void virtio_legacy_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct virtio *v = ctx;
	unsigned config = config_at(v);

	scoped_lock(&v->dev.lock);
	if (v->status & VIRTIO_FEATURES_OK && !(at == AT_STATUS && !(uint8_t)value))
		return;
	if (at < config)
		write_register(v, (unsigned)at, value);
	else
		virtio_write_config(v, at - config, width, value);
}
