/* SPDX-License-Identifier: MIT */
/*
 * The gate for virtqueues: everything a guest writes into a ring passes vq_pop(), and
 * what comes out of it is safe to use.
 *
 *	    descriptors          available ring (guest writes)   used ring (we write)
 *	   +---------------+     flags                           flags
 *	 0 | addr len flags|     idx ------------------+         idx
 *	 1 |  next         |     [head][head][head]... |         [head,len][head,len]...
 *	 . |               |        ^last_avail        v            ^used
 *	   +---------------+     avail_event at the end of used, used_event at the end of avail
 *
 * or, where the driver has taken VIRTIO_F_RING_PACKED, one ring of descriptors that both write (packed.c). Who uses a queue sees no difference.
 *
 *	struct vq_chain chain;
 *	int rc;
 *
 *	vq_begin(vq);
 *	while ((rc = vq_pop(vq, &chain)) > 0) {
 *		...                                 // chain.iov is guest RAM, bounded
 *		vq_push(vq, chain.head, written);
 *	}
 *	if (vq_wants_interrupt(vq))
 *		...
 *
 * The owner's lock is held for all of it. A chain's memory stays valid without it.
 */
#ifndef DEV_VIRTIO_QUEUE_H
#define DEV_VIRTIO_QUEUE_H

#include "bus/guest.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define VQ_SIZE_MAX 256u
#define VQ_IOV_MAX  256u /* descriptors in a chain */
#define VQ_BYTES_MAX (256u << 20) /* in all of them: a restored guest's memory is brought page by page, with the lock held */

struct vq {
	const struct guest_mem *mem;
	uint16_t max;              /* the largest size on offer */
	uint16_t size;             /* what the driver chose */
	gpa_t desc_gpa, avail_gpa, used_gpa;
	uint16_t vector;           /* of its interrupt */
	bool event_idx, packed;    /* negotiated; the second is set while the queue is not enabled (vq_settle()) */
	bool enabled;
	/* while enabled: */
	uint8_t *desc; /* is only read, if it is not packed */
	uint8_t *avail,
		*used_ring; /* guest RAM, checked for size entries and the event; packed: the events of driver and device */
	uint16_t last_avail;        /* the next entry of avail to take */
	uint16_t end;               /* where vq_pop() stops until the next vq_begin() */
	uint16_t used;              /* the next entry of used to fill */
	uint16_t signalled;         /* `used` when vq_wants_interrupt() last looked; packed: how many descriptors since then */
	uint16_t in_flight; /* popped and not yet pushed: never more than size */
	const char *broken; /* what the driver did wrong; NULL while all is well */
	/* of a packed one: last_avail and used are places in the ring, with the wrap counter in bit 15; end is how many requests vq_pop() gives
	 * until the next vq_begin() */
	uint16_t taken; /* descriptors in flight: never more than size */
	struct {
		uint16_t id, n; /* the driver's word for it, its descriptors in the ring */
	} request[VQ_SIZE_MAX]; /* in flight, by chain.head */
	uint16_t free[VQ_SIZE_MAX]; /* places in `request`: the first size - in_flight are free; then come those that were popped last */
	struct {
		uint16_t head;
		uint32_t len;
	} put[VQ_SIZE_MAX]; /* until vq_publish() */
};

/* A request: n_out pieces to read, then n_in pieces to write. */
struct vq_chain {
	uint16_t head;
	unsigned n_out, n_in;
	uint64_t out_len, in_len; /* in bytes */
	struct iovec iov[VQ_IOV_MAX];
};

/* As after power-on: off, of the largest size, not broken, split. */
void vq_reset(struct vq *vq);

/* What was negotiated, for a queue that is not enabled. */
void vq_settle(struct vq *vq, bool event_idx, bool packed);

/* The device is about to go on: finds the rings again, for their memory may be other memory at the same address
 * (machine/fork.h). -EINVAL if they cannot be. */
int vq_resume(struct vq *vq);

/* Its fields are loaded: finds the rings again. -EINVAL if they cannot be. Nothing is in flight. */
int vq_loaded(struct vq *vq);

/* Resolves the three rings' addresses. -EINVAL (and vq->broken says why) if they cannot
 * be. */
int vq_enable(struct vq *vq);

/* What the driver has offered by now is what vq_pop() will give; for all that it offers later it
 * kicks again. So a loop around vq_pop() has an end, whatever the guest does meanwhile. */
void vq_begin(struct vq *vq);

/* The next request: 1; 0 when there was no more at vq_begin(); -EPROTO when the ring makes no
 * sense: vq->broken says why, and nothing works until reset. */
int vq_pop(struct vq *vq, struct vq_chain *chain);

/* Takes the last vq_pop() back: the request comes again. For who found no room for it.
 * */
void vq_unpop(struct vq *vq);

/* Gives a request back; len is how many bytes of its in part were written. */
void vq_push(struct vq *vq, uint16_t head, uint32_t len);

/* The same for several that the driver is to see at once: each is put at its place i, from 0, and then all n are published. */
void vq_put(struct vq *vq, unsigned i, uint16_t head, uint32_t len);
void vq_publish(struct vq *vq, unsigned n);

/* Whether the driver asked to be told of what was pushed since the last call. */
bool vq_wants_interrupt(struct vq *vq);

/* -- Pieces of memory -------------------------------------------------------------- */

/* Copies up to len bytes out of, or into, a list of pieces; returns how many. */
uint64_t iov_gather(const struct iovec *iov, unsigned n, void *to, uint64_t len);
uint64_t iov_scatter(const struct iovec *iov, unsigned n, const void *from,
		     uint64_t len);

/* Cuts len bytes from the front or the back of *n pieces; returns the new first piece.
 * The pieces are at least that long in all. */
struct iovec *iov_cut_front(struct iovec *iov, unsigned *n, uint64_t len);
void iov_cut_back(struct iovec *iov, unsigned *n, uint64_t len);

#endif
