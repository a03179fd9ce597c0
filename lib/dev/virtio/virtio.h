/* SPDX-License-Identifier: MIT */
/*
 * For those who write virtio devices: what they have in common, on PCI.
 *
 * A device's private struct begins with `struct virtio`; its file fills in a
 * virtio_type and ends with a device_model whose init calls virtio_init(). rng.c is the
 * smallest:
 *
 *	static void kick(struct virtio *v, unsigned n)
 *	{
 *		vq_begin(&v->queues[n]);
 *		while ((rc = vq_pop(&v->queues[n], &chain)) > 0)
 *			vq_push(&v->queues[n], chain.head, fill(&chain));
 *		if (rc < 0)
 *			virtio_broken(v, v->queues[n].broken);
 *		virtio_signal(v, n);
 *	}
 *
 * Source: virtio 1.2, sections 2 (all devices), 4.1 (PCI), 5 (each).
 *
 * All functions of a virtio_type are called with the device's lock held. A request that
 * is finished later, by another thread, is announced with virtio_begin() and ended with
 * virtio_end(): a reset by the driver is not complete before the last one has ended, so
 * no byte of guest memory changes behind the back of a driver that has reset the
 * device.
 */
#ifndef DEV_VIRTIO_VIRTIO_H
#define DEV_VIRTIO_VIRTIO_H

#include "dev/device.h"
#include "dev/pci/function.h"
#include "dev/pci/msix.h"
#include "dev/virtio/devices.h"
#include "dev/virtio/queue.h"
#include "state/state.h"

#define VIRTIO_QUEUES_MAX 17u
#define VIRTIO_QUEUES_OLD 8u /* in the table of all; a device that has more saves those in one of its own */

#define VIRTIO_FEATURES_OK 0x08u /* a bit of the status */

#define VIRTIO_F_ANY_LAYOUT    (UINT64_C(1) << 27) /* of the legacy interface */
#define VIRTIO_F_INDIRECT_DESC (UINT64_C(1) << 28)
#define VIRTIO_F_EVENT_IDX     (UINT64_C(1) << 29)
#define VIRTIO_F_VERSION_1     (UINT64_C(1) << 32)
#define VIRTIO_F_RING_PACKED   (UINT64_C(1) << 34)
#define VIRTIO_F_RING_RESET    (UINT64_C(1) << 40)

struct virtio;

struct virtio_type {
	const char *name;
	uint16_t id;         /* virtio's device id: 1 net, 2 block, .. */
	uint16_t legacy;     /* PCI's device id, if there was one before virtio 1.0; 0: there was none */
	uint32_t class_code; /* PCI's */
	unsigned n_queues;
	uint16_t queue_size; /* a power of two, at most VQ_SIZE_MAX */
	uint64_t features;   /* besides what all have */
	unsigned config_size;
	/* Where the registers are: BAR `bar` from bar_at on, and MSI-X's in the next one. A device that has other things in its BARs adds them
	 * and itself to v->fn in more(), before the function is on the bus, and may be NULL. */
	uint8_t bar;
	uint16_t bar_at;
	void (*more)(struct virtio *v);
	/* The driver kicked queue n, or memory became free: work on it. */
	void (*kick)(struct virtio *v, unsigned n);
	/* The driver reads byte `at` of the configuration, or writes it; NULL: zeroes,
	 * nothing. */
	uint8_t (*config_read)(struct virtio *v, unsigned at);
	void (*config_write)(struct virtio *v, unsigned at, uint8_t value);
	/* Features are settled: adapt. May be NULL. */
	void (*negotiated)(struct virtio *v);
	/* The driver resets: what is under way need not be done any more. May be NULL. */
	void (*cancel)(struct virtio *v);
	/* No request is under way: forget everything. May be NULL. */
	void (*reset)(struct virtio *v);
	/* The same of queue n alone, whose driver begins anew with it. May be NULL. */
	void (*queue_reset)(struct virtio *v, unsigned n);
};

struct virtio {
	struct device dev; /* first */
	const struct virtio_type *type;
	struct pci_function fn;
	struct msix msix;
	struct vq queues[VIRTIO_QUEUES_MAX];
	uint64_t offered, accepted; /* features */
	uint32_t offered_select, accepted_select;
	uint16_t queue_select, config_vector;
	uint8_t status, isr;
	uint8_t generation;  /* of the configuration: for a device that changes its own, and has it in a table of its own */
	bool legacy;        /* its driver uses the legacy interface */
	unsigned bar;       /* where today's registers are */
	unsigned pci_cfg;   /* where the PCI_CFG capability is */
	unsigned under_way; /* requests between virtio_begin() and virtio_end() */
	bool resetting;     /* the driver wrote 0, requests are still under way */
	unsigned queue_resets; /* the driver resets these queues, a bit each; the same */
	unsigned complaints;
	pthread_cond_t idle; /* under_way became 0 */
};

/* For a model's init: extra features besides the type's, and the place on the bus. */
int virtio_init(struct device *dev, const struct virtio_type *type, uint64_t extra,
		const struct virtio_place *place, struct err *err);

/* A model's reset, fini and pause; they wait until no request is under way. */
void virtio_reset(struct device *dev);
void virtio_fini(struct device *dev);
void virtio_pause(struct device *dev);

/* A model's resume: all queues are looked at, as if the driver had kicked them. */
void virtio_resume(struct device *dev);

/* A model's saving and loaded, and the first of its tables. */
void virtio_saving(struct device *dev);
int virtio_loaded(struct device *dev, uint64_t away, struct err *err);
extern const struct state_table virtio_state;
extern const struct state_field virtio_queue_fields[];

static inline bool virtio_has(const struct virtio *v, uint64_t feature)
{
	return v->accepted & feature;
}

/* Whether queue n may be worked on. */
bool virtio_ready(const struct virtio *v, unsigned n);

/* Interrupts the driver if it wants to hear of what was pushed to queue n. */
void virtio_signal(struct virtio *v, unsigned n);

/* What config_read() says has changed by itself: interrupts the driver. */
void virtio_config_changed(struct virtio *v);

/* The driver lied: log a line, set NEEDS_RESET, touch no ring until it resets. */
void virtio_broken(struct virtio *v, const char *why);

/* A request goes to another thread; it is finished. Lock held, for both. */
void virtio_begin(struct virtio *v);
void virtio_end(struct virtio *v);

/* -- Between device.c, pci.c and legacy.c -------------------------------------------- */

/* The driver reads and writes the configuration. */
uint64_t virtio_read_config(struct virtio *v, uint64_t at, unsigned width);
void virtio_write_config(struct virtio *v, uint64_t at, unsigned width, uint64_t value);

/* The legacy interface's BAR. */
#define VIRTIO_LEGACY_SIZE 128u
uint64_t virtio_legacy_read(void *ctx, uint64_t at, unsigned width);
void virtio_legacy_write(void *ctx, uint64_t at, unsigned width, uint64_t value);

extern const struct reg virtio_common_regs[];

/* What the function's handlers do, for more(): the registers, counted from bar_at; and after a write to configuration space. */
#define VIRTIO_BAR_SIZE 0x4000u
uint64_t virtio_bar_read(void *ctx, uint64_t at, unsigned width);
void virtio_bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value);
void virtio_config_written(void *ctx, unsigned at, unsigned width);

/* The driver rang for queue n, which may not exist. */
void virtio_kick(struct virtio *v, uint64_t n);

/* What kinds of INTx there were since the last call; lets the pin go. */
uint8_t virtio_take_isr(struct virtio *v);

#endif
