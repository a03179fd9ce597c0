/* SPDX-License-Identifier: MIT */
/*
 * The packed virtqueue, device side, after section 2.8 of virtio 1.2: one ring, in which the
 * driver's descriptors lie one behind the other, and in which we write what has become of them.
 *
 *	 addr (8)                      len (4)  id (2)  flags (2)
 *	+-----------------------------+--------+-------+---------+
 *	|  .. in flight ..                                       |  <- used: what ends next is told here, whichever it is
 *	|  .. in flight ..                                       |
 *	|  available                                             |  <- last_avail
 *	|  the driver's                                          |
 *	+-----------------------------+--------+-------+---------+
 *
 * A descriptor is the driver's or ours by two bits of its flags, AVAIL and USED, which mean the
 * other thing each time around: both sides have a wrap counter (bit 15 of our two places).
 * Available: AVAIL is the counter, USED is not. Used: both are.
 *
 * The invariants of queue.c hold here, too; what differs:
 *
 *  1. There is no index, so nobody can be ahead of it. A driver is never asked to be silent (our
 *     event structure says ENABLE), so that what it makes available is told by a kick, always;
 *     vq_pop() gives `size` requests until the next vq_begin().
 *  2. A chain's descriptors lie in the ring, and those in flight are never more than it has: so
 *     what we write for what has ended never goes beyond what we have read.
 *  3. The id of a request is the driver's, any 16 bits, and goes back as it came: chain.head is a
 *     number of ours.
 *  4. Flags are read first (acquire), the rest after that; and written last (release), those of the
 *     first descriptor of several last of all.
 *
 * What a chain with an indirect table is made of lies in the table in order, and it has one
 * descriptor in the ring.
 */
#include "dev/virtio/ring.h"

#define AVAIL (1u << 7)
#define USED  (1u << 15)
#define WRAP  0x8000u /* in a place of ours, and in the driver's event */

#define AT_LEN   8u
#define AT_ID    12u
#define AT_FLAGS 14u

enum { EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC };

static uint8_t *at_place(const struct vq *vq, uint16_t place)
{
	return vq->desc + (place & (WRAP - 1)) * DESC_SIZE;
}

static uint16_t advance(const struct vq *vq, uint16_t place, unsigned n)
{
	unsigned next = (place & (WRAP - 1)) + n;

	if (next < vq->size)
		return (uint16_t)(next | (place & WRAP));
	return (uint16_t)((next - vq->size) | (~(unsigned)place & WRAP));
}

int packed_find_rings(struct vq *vq)
{
	vq->desc = guest_range(vq->mem, vq->desc_gpa, vq->size * DESC_SIZE);
	vq->avail = guest_range(vq->mem, vq->avail_gpa, 4);
	vq->used_ring = guest_range(vq->mem, vq->used_gpa, 4);
	if (!vq->desc || !vq->avail || !vq->used_ring) {
		vq->broken = "rings are not in RAM";
		return -EINVAL;
	}
	ring_store(vq->used_ring + 2, EVENT_ENABLE);
	for (unsigned i = 0; i < vq->size && !vq->in_flight; i++)
		vq->free[i] = (uint16_t)i;
	return 0;
}

void packed_check(struct vq *vq)
{
	if ((vq->used & (WRAP - 1)) >= vq->size || vq->used != vq->last_avail)
		vq->broken = "places in the ring that make no sense";
}

/* -- Taking a request -------------------------------------------------------------- */

static struct desc read_desc(const uint8_t *at, uint16_t flags)
{
	uint8_t copy[AT_FLAGS];

	memcpy(copy, at, AT_FLAGS);
	return (struct desc){
		.addr = le64_get(copy), .len = le32_get(copy + AT_LEN), .next = le16_get(copy + AT_ID), .flags = flags,
	};
}

static int walk_indirect(struct vq *vq, struct vq_chain *chain, const struct desc *d)
{
	const uint8_t *table = guest_range_ro(vq->mem, d->addr, d->len);
	unsigned n = d->len / DESC_SIZE;
	int rc = 0;

	if (!table || d->len % DESC_SIZE || n > VQ_IOV_MAX)
		return ring_broken(vq, "an indirect table of a wrong size or not in RAM");
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		uint8_t copy[DESC_SIZE];
		struct desc piece;

		memcpy(copy, table + i * DESC_SIZE, DESC_SIZE);
		piece = read_desc(copy, le16_get(copy + AT_FLAGS));
		if (piece.flags & DESC_INDIRECT)
			return ring_broken(vq, "an indirect descriptor where none may be");
		rc = ring_add_piece(vq, chain, &piece);
	}
	return rc;
}

/* From one that is available on. Returns how many descriptors it has, its id in *id. */
static int walk(struct vq *vq, struct vq_chain *chain, uint16_t flags, uint16_t *id)
{
	uint16_t place = vq->last_avail;

	for (unsigned n = 1; n <= (unsigned)(vq->size - vq->taken); n++) {
		struct desc d = read_desc(at_place(vq, place), flags);
		int rc;

		if ((flags & (DESC_INDIRECT | DESC_NEXT)) == (DESC_INDIRECT | DESC_NEXT))
			return ring_broken(vq, "an indirect descriptor where none may be");
		rc = flags & DESC_INDIRECT ? walk_indirect(vq, chain, &d) : ring_add_piece(vq, chain, &d);
		*id = d.next;
		if (rc < 0 || !(flags & DESC_NEXT))
			return rc < 0 ? rc : (int)n;
		place = advance(vq, place, 1);
		flags = ring_load(at_place(vq, place) + AT_FLAGS);
	}
	return ring_broken(vq, "more descriptors than the ring has");
}

int packed_pop(struct vq *vq, struct vq_chain *chain)
{
	uint16_t flags, id;
	bool wrap = vq->last_avail & WRAP;
	int n;

	if (!vq->end)
		return 0;
	flags = ring_load(at_place(vq, vq->last_avail) + AT_FLAGS);
	if (!(flags & AVAIL) == wrap || !(flags & USED) != wrap)
		return 0;
	n = walk(vq, chain, flags, &id);
	if (n < 0)
		return n;
	/* SAFE: each request in flight has a descriptor, and one more than those was free */
	chain->head = vq->free[vq->size - ++vq->in_flight];
	vq->request[chain->head].id = id;
	vq->request[chain->head].n = (uint16_t)n;
	vq->taken = (uint16_t)(vq->taken + n);
	vq->last_avail = advance(vq, vq->last_avail, (unsigned)n);
	vq->end--;
	return 1;
}

void packed_unpop(struct vq *vq)
{
	unsigned n = vq->request[vq->free[vq->size - vq->in_flight--]].n;

	vq->taken = (uint16_t)(vq->taken - n);
	/* back is once around, but for the rest; and that changes the counter once too often */
	vq->last_avail = (uint16_t)(advance(vq, vq->last_avail, vq->size - n) ^ WRAP);
	vq->end++;
}

/* -- Giving it back ---------------------------------------------------------------- */

void packed_publish(struct vq *vq, unsigned n)
{
	uint8_t *first = at_place(vq, vq->used);
	uint16_t first_flags = 0;

	for (unsigned i = 0; i < n; i++) {
		uint8_t *at = at_place(vq, vq->used);
		uint16_t head = vq->put[i].head, flags = vq->used & WRAP ? AVAIL | USED : 0;
		unsigned len = vq->request[head].n;

		flags |= vq->put[i].len ? DESC_WRITE : 0;
		le32_put(at + AT_LEN, vq->put[i].len);
		le16_put(at + AT_ID, vq->request[head].id);
		if (i)
			ring_store(at + AT_FLAGS, flags);
		else
			first_flags = flags;
		vq->used = advance(vq, vq->used, len);
		vq->taken = (uint16_t)(vq->taken - len);
		vq->signalled = (uint16_t)(vq->signalled + len < vq->size ? vq->signalled + len : vq->size);
		vq->free[vq->size - vq->in_flight--] = head;
	}
	if (n)
		ring_store(first + AT_FLAGS, first_flags);
}

bool packed_wants_interrupt(struct vq *vq)
{
	int since = vq->signalled, used = vq->used & (WRAP - 1), event;
	uint16_t flags, place;

	if (!since || !vq->enabled)
		return false;
	vq->signalled = 0;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	flags = ring_load(vq->avail + 2);
	if (flags != EVENT_DESC || !vq->event_idx)
		return flags != EVENT_DISABLE;
	place = ring_load(vq->avail);
	event = (place & (WRAP - 1)) - ((place ^ vq->used) & WRAP ? vq->size : 0);
	return event >= used - since && event < used; /* it was one of those */
}
