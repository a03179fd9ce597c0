/* SPDX-License-Identifier: MIT */
/*
 * What all virtio devices do, after section 2 of virtio 1.2: status, features, queues,
 * resets and interrupts. pci.c puts the registers where a driver finds them.
 *
 * The driver's way through the status byte, and ours through a reset:
 *
 *	0 -> ACKNOWLEDGE -> DRIVER -> FEATURES_OK -> DRIVER_OK           kicks count from here
 *	                              (refused: reads back as 0)
 *	any -> write 0 -> [requests under way: reads as non-zero] -> 0    driver polls for it
 *	any -> the driver lied -> NEEDS_RESET                             until it writes 0
 *
 * Between the write of 0 and the 0 that is read no ring is touched, and no request
 * starts; those that are under way may still write to the memory they were given. A reset
 * of one queue (VIRTIO_F_RING_RESET) is the same with queue_reset, which reads as 1 until then; and it waits for
 * requests of all queues, for nobody counts them by queue.
 *
 * Whether rings are packed is settled with the features, while no queue is enabled.
 *
 * Interrupts go by MSI-X when it is on, by INTA otherwise.
 */
#include "base/log.h"
#include "dev/virtio/virtio.h"

#define STATUS_DRIVER_OK   0x04u
#define STATUS_NEEDS_RESET 0x40u

#define ISR_QUEUE  1u
#define ISR_CONFIG 2u

#define COMPLAINTS_MAX 10u /* lines that one device may cause in the log */

/* -- Interrupts -------------------------------------------------------------------- */

static void interrupt(struct virtio *v, uint16_t vector, uint8_t isr)
{
	if (msix_enabled(&v->msix)) {
		msix_notify(&v->msix, vector);
		return;
	}
	v->isr |= isr;
	pci_intx_set(&v->fn, true);
}

void virtio_signal(struct virtio *v, unsigned n)
{
	struct vq *vq = &v->queues[n];

	if (vq->enabled && !vq->broken && vq_wants_interrupt(vq))
		interrupt(v, vq->vector, ISR_QUEUE);
}

void virtio_broken(struct virtio *v, const char *why)
{
	if (v->status & STATUS_NEEDS_RESET)
		return;
	if (v->complaints++ < COMPLAINTS_MAX)
		log_warn(v->type->name, "the guest's ring makes no sense (%s); "
			 "nothing moves until its driver resets the device", why);
	v->status |= STATUS_NEEDS_RESET;
	if (v->status & STATUS_DRIVER_OK)
		interrupt(v, v->config_vector, ISR_CONFIG);
}

void virtio_config_changed(struct virtio *v)
{
	v->generation++;
	if (v->status & STATUS_DRIVER_OK)
		interrupt(v, v->config_vector, ISR_CONFIG);
}

/* -- Life -------------------------------------------------------------------------- */

bool virtio_ready(const struct virtio *v, unsigned n)
{
	return (v->status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) ==
		       STATUS_DRIVER_OK &&
	       !v->resetting && v->queues[n].enabled;
}

static void settle_queue(struct virtio *v, unsigned n)
{
	vq_settle(&v->queues[n], virtio_has(v, VIRTIO_F_EVENT_IDX), virtio_has(v, VIRTIO_F_RING_PACKED));
}

static void finish_queue_resets(struct virtio *v)
{
	for (unsigned n = 0; n < v->type->n_queues; n++) {
		if (!(v->queue_resets >> n & 1))
			continue;
		vq_reset(&v->queues[n]);
		settle_queue(v, n);
		if (v->type->queue_reset)
			v->type->queue_reset(v, n);
	}
	v->queue_resets = 0;
}

static void finish_reset(struct virtio *v)
{
	v->resetting = v->legacy = false;
	v->queue_resets = 0;
	v->status = v->isr = 0;
	v->accepted = 0;
	v->offered_select = v->accepted_select = 0;
	v->queue_select = 0;
	v->config_vector = MSIX_NONE;
	for (unsigned n = 0; n < v->type->n_queues; n++)
		vq_reset(&v->queues[n]);
	pci_intx_set(&v->fn, false);
	if (v->type->reset)
		v->type->reset(v);
}

/* No ring is touched from here on, and the status is 0 when no request is under way. */
static void start_reset(struct virtio *v)
{
	v->resetting = true;
	for (unsigned n = 0; n < v->type->n_queues; n++)
		v->queues[n].enabled = false;
	if (v->under_way == 0)
		finish_reset(v);
	else if (v->type->cancel)
		v->type->cancel(v);
}

void virtio_begin(struct virtio *v)
{
	v->under_way++;
}

void virtio_end(struct virtio *v)
{
	if (--v->under_way)
		return;
	pthread_cond_broadcast(&v->idle);
	if (v->resetting)
		finish_reset(v);
	else
		finish_queue_resets(v);
}

void virtio_reset(struct device *dev)
{
	struct virtio *v = (struct virtio *)dev;

	start_reset(v);
	while (v->under_way)
		pthread_cond_wait(&v->idle, &dev->lock);
}

void virtio_kick(struct virtio *v, uint64_t n)
{
	if (n < v->type->n_queues && virtio_ready(v, (unsigned)n))
		v->type->kick(v, (unsigned)n);
}

uint8_t virtio_take_isr(struct virtio *v)
{
	uint8_t isr = v->isr;

	v->isr = 0;
	pci_intx_set(&v->fn, false);
	return isr;
}

/* -- Common configuration ---------------------------------------------------------- */

/* The selected queue; one that does not exist is a scratch that reads as size 0. */
static struct vq *selected(struct virtio *v)
{
	return v->queue_select < v->type->n_queues ? &v->queues[v->queue_select] : NULL;
}

static uint64_t read_offered_select(void *dev, unsigned at)
{
	(void)at;
	return ((struct virtio *)dev)->offered_select;
}

static void write_offered_select(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct virtio *)dev)->offered_select = (uint32_t)value;
}

static uint64_t read_offered(void *dev, unsigned at)
{
	struct virtio *v = dev;

	(void)at;
	return v->offered_select < 2
		       ? (uint32_t)(v->offered >> (v->offered_select * 32))
		       : 0;
}

static uint64_t read_accepted_select(void *dev, unsigned at)
{
	(void)at;
	return ((struct virtio *)dev)->accepted_select;
}

static void write_accepted_select(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct virtio *)dev)->accepted_select = (uint32_t)value;
}

static uint64_t read_accepted(void *dev, unsigned at)
{
	struct virtio *v = dev;

	(void)at;
	return v->accepted_select < 2
		       ? (uint32_t)(v->accepted >> (v->accepted_select * 32))
		       : 0;
}

static bool any_enabled(const struct virtio *v)
{
	for (unsigned n = 0; n < v->type->n_queues; n++)
		if (v->queues[n].enabled)
			return true;
	return false;
}

/* A queue is what was settled when it was enabled, also for a driver that takes FEATURES_OK back, and where it is loaded. */
static void write_accepted(void *dev, unsigned at, uint64_t value)
{
	struct virtio *v = dev;
	unsigned shift = v->accepted_select * 32;

	(void)at;
	if (v->accepted_select < 2 && !v->legacy && !(v->status & VIRTIO_FEATURES_OK) && !any_enabled(v))
		v->accepted = (v->accepted & ~(UINT64_C(0xffffffff) << shift)) |
			      value << shift;
}

static uint16_t checked_vector(struct virtio *v, uint64_t value)
{
	return value < v->msix.n ? (uint16_t)value : MSIX_NONE;
}

static uint64_t read_config_vector(void *dev, unsigned at)
{
	(void)at;
	return ((struct virtio *)dev)->config_vector;
}

static void write_config_vector(void *dev, unsigned at, uint64_t value)
{
	struct virtio *v = dev;

	(void)at;
	v->config_vector = checked_vector(v, value);
}

static uint64_t read_num_queues(void *dev, unsigned at)
{
	(void)at;
	return ((struct virtio *)dev)->type->n_queues;
}

static uint64_t read_status(void *dev, unsigned at)
{
	(void)at;
	return ((struct virtio *)dev)->status;
}

/* Accepts the features, or leaves FEATURES_OK out for the driver to see. */
static uint8_t check_features(struct virtio *v, uint8_t status)
{
	if ((v->accepted & ~v->offered) || !(v->accepted & VIRTIO_F_VERSION_1) || any_enabled(v))
		return status & (uint8_t)~VIRTIO_FEATURES_OK;
	for (unsigned n = 0; n < v->type->n_queues; n++)
		settle_queue(v, n);
	if (v->type->negotiated)
		v->type->negotiated(v);
	return status;
}

static void write_status(void *dev, unsigned at, uint64_t value)
{
	struct virtio *v = dev;
	uint8_t status = (uint8_t)value;

	(void)at;
	if (v->resetting)
		return;
	if (status == 0) {
		start_reset(v);
		return;
	}
	if (v->legacy) /* it has another driver */
		return;
	if (status & ~v->status & VIRTIO_FEATURES_OK)
		status = check_features(v, status);
	if (!(status & VIRTIO_FEATURES_OK))
		status &= (uint8_t)~STATUS_DRIVER_OK;
	v->status = status | (v->status & STATUS_NEEDS_RESET);
}

static uint64_t read_generation(void *dev, unsigned at)
{
	(void)at;
	return ((struct virtio *)dev)->generation;
}

static uint64_t read_queue_select(void *dev, unsigned at)
{
	(void)at;
	return ((struct virtio *)dev)->queue_select;
}

static void write_queue_select(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct virtio *)dev)->queue_select = (uint16_t)value;
}

static uint64_t read_queue_size(void *dev, unsigned at)
{
	struct vq *vq = selected(dev);

	(void)at;
	return vq ? vq->size : 0;
}

static void write_queue_size(void *dev, unsigned at, uint64_t value)
{
	struct vq *vq = selected(dev);

	(void)at;
	if (vq && !vq->enabled)
		vq->size = (uint16_t)value;
}

static uint64_t read_queue_vector(void *dev, unsigned at)
{
	struct vq *vq = selected(dev);

	(void)at;
	return vq ? vq->vector : MSIX_NONE;
}

static void write_queue_vector(void *dev, unsigned at, uint64_t value)
{
	struct vq *vq = selected(dev);

	(void)at;
	if (vq)
		vq->vector = checked_vector(dev, value);
}

static uint64_t read_queue_enable(void *dev, unsigned at)
{
	struct vq *vq = selected(dev);

	(void)at;
	return vq ? vq->enabled : 0;
}

static void write_queue_enable(void *dev, unsigned at, uint64_t value)
{
	struct virtio *v = dev;
	struct vq *vq = selected(v);

	(void)at;
	if (!vq || value != 1 || vq->enabled || v->resetting || v->queue_resets >> v->queue_select & 1 ||
	    !(v->status & VIRTIO_FEATURES_OK))
		return;
	if (vq_enable(vq) < 0)
		virtio_broken(v, vq->broken);
}

static uint64_t read_notify_off(void *dev, unsigned at)
{
	struct virtio *v = dev;

	(void)at;
	return selected(v) ? v->queue_select : 0;
}

static uint64_t read_notify_data(void *dev, unsigned at)
{
	(void)dev, (void)at; /* of a feature that is not offered */
	return 0;
}

static uint64_t read_queue_reset(void *dev, unsigned at)
{
	struct virtio *v = dev;

	(void)at;
	return selected(v) ? v->queue_resets >> v->queue_select & 1 : 0;
}

static void write_queue_reset(void *dev, unsigned at, uint64_t value)
{
	struct virtio *v = dev;
	struct vq *vq = selected(v);

	(void)at;
	if (!vq || value != 1 || v->resetting || !virtio_has(v, VIRTIO_F_RING_RESET))
		return;
	vq->enabled = false;
	v->queue_resets |= 1u << v->queue_select;
	if (v->under_way == 0)
		finish_queue_resets(v);
}

/* The six halves of the three ring addresses, desc, driver, device, from 0x20 on. */
static gpa_t *ring_addr(struct vq *vq, unsigned at)
{
	gpa_t *addr[] = {&vq->desc_gpa, &vq->avail_gpa, &vq->used_gpa};

	return addr[(at - 0x20) / 8];
}

static uint64_t read_ring(void *dev, unsigned at)
{
	struct vq *vq = selected(dev);

	return vq ? (uint32_t)(*ring_addr(vq, at) >> (at % 8 * 8)) : 0;
}

static void write_ring(void *dev, unsigned at, uint64_t value)
{
	struct vq *vq = selected(dev);
	unsigned shift = at % 8 * 8;
	gpa_t *addr;

	if (!vq || vq->enabled)
		return;
	addr = ring_addr(vq, at);
	*addr = (*addr & ~(UINT64_C(0xffffffff) << shift)) | value << shift;
}

const struct reg virtio_common_regs[] = {
	{.at = 0x00, .width = 4, .name = "device_feature_select",
	 .read = read_offered_select, .write = write_offered_select},
	{.at = 0x04, .width = 4, .name = "device_feature", .read = read_offered},
	{.at = 0x08, .width = 4, .name = "driver_feature_select",
	 .read = read_accepted_select, .write = write_accepted_select},
	{.at = 0x0c, .width = 4, .name = "driver_feature",
	 .read = read_accepted, .write = write_accepted},
	{.at = 0x10, .width = 2, .name = "config_msix_vector",
	 .read = read_config_vector, .write = write_config_vector},
	{.at = 0x12, .width = 2, .name = "num_queues", .read = read_num_queues},
	{.at = 0x14, .width = 1, .name = "device_status",
	 .read = read_status, .write = write_status},
	{.at = 0x15, .width = 1, .name = "config_generation", .read = read_generation},
	{.at = 0x16, .width = 2, .name = "queue_select",
	 .read = read_queue_select, .write = write_queue_select},
	{.at = 0x18, .width = 2, .name = "queue_size",
	 .read = read_queue_size, .write = write_queue_size},
	{.at = 0x1a, .width = 2, .name = "queue_msix_vector",
	 .read = read_queue_vector, .write = write_queue_vector},
	{.at = 0x1c, .width = 2, .name = "queue_enable",
	 .read = read_queue_enable, .write = write_queue_enable},
	{.at = 0x1e, .width = 2, .name = "queue_notify_off", .read = read_notify_off},
	{.at = 0x20, .width = 4, .count = 6, .name = "queue_desc, _driver, _device",
	 .read = read_ring, .write = write_ring},
	{.at = 0x38, .width = 2, .name = "queue_notify_data", .read = read_notify_data},
	{.at = 0x3a, .width = 2, .name = "queue_reset",
	 .read = read_queue_reset, .write = write_queue_reset},
	{0},
};
