/* SPDX-License-Identifier: MIT */
/*
 * The split virtqueue, device side, after section 2.7 of virtio 1.2; and the way to the packed one, which is packed.c.
 *
 * The guest shares these rings with us and may be hostile, so nothing in them is
 * believed:
 *
 *  1. The rings' addresses and size are resolved once, in vq_enable(), through guest_range();
 *     the pointers cover exactly `size` entries and the event field behind them.
 *  2. Every field is read once, into a local, and what was checked is what is used.
 *  3. The driver is never more than `size` entries ahead, nor are more than `size` requests
 *     in flight, however often it names the same head. Who keeps `size` request slots always
 *     finds a free one.
 *  4. A chain has at most VQ_IOV_MAX descriptors, so a loop ends there. An indirect table is
 *     one level deep, whole descriptors, at most VQ_IOV_MAX of them, and ends its chain.
 *  5. A descriptor's memory is all RAM (or, if it is only read, ROM), and not empty.
 *  6. Between two vq_begin() there are at most `size` requests, though another vCPU, or the data
 *     that a request writes, may offer more all the time.
 *
 * When one of these is not so, the queue is broken: vq_pop() says -EPROTO from then on,
 * the device sets NEEDS_RESET, and the driver may start over.
 *
 * Two memory orders matter. We read avail's idx before the entries it covers (acquire)
 * and write used's entries before its idx (release). And when we say from where on we want
 * kicks, or skip an interrupt, there is a full barrier between writing our index and reading the
 * other's, for each side writes one and reads the other:
 *
 *	device                          driver
 *	avail_event = end               avail idx = n
 *	-- full barrier --              -- full barrier --
 *	read avail idx                  read avail_event
 *
 * Without it both could read the old value, and nobody would move again.
 */
#include "dev/virtio/ring.h"

#include <string.h>

#define AVAIL_NO_INTERRUPT 1u

/* -- Ring fields ------------------------------------------------------------------- */

static uint8_t *used_event(const struct vq *vq)
{
	return vq->avail + 4 + 2u * vq->size;
}

static uint8_t *avail_event(const struct vq *vq)
{
	return vq->used_ring + 4 + 8u * vq->size;
}

static struct desc read_desc(const uint8_t *table, unsigned n)
{
	uint8_t copy[DESC_SIZE];

	memcpy(copy, table + n * DESC_SIZE, DESC_SIZE);
	return (struct desc){
		.addr = le64_get(copy), .len = le32_get(copy + 8),
		.flags = le16_get(copy + 12), .next = le16_get(copy + 14),
	};
}

/* -- Life -------------------------------------------------------------------------- */

void vq_reset(struct vq *vq)
{
	*vq = (struct vq){
		.mem = vq->mem, .max = vq->max, .size = vq->max, .vector = 0xffff};
}

void vq_settle(struct vq *vq, bool event_idx, bool packed)
{
	vq->event_idx = event_idx;
	vq->packed = packed;
	vq->last_avail = vq->used = packed ? 0x8000 : 0; /* the wrap counters begin with 1 */
	vq->end = 0;
}

static int find_rings(struct vq *vq)
{
	uint16_t n = vq->size;

	if (vq->packed)
		return packed_find_rings(vq);
	vq->desc = (uint8_t *)(uintptr_t)guest_range_ro(vq->mem, vq->desc_gpa, n * DESC_SIZE);
	vq->avail = guest_range(vq->mem, vq->avail_gpa, 6u + 2u * n);
	vq->used_ring = guest_range(vq->mem, vq->used_gpa, 6u + 8u * n);
	if (vq->desc && vq->avail && vq->used_ring)
		return 0;
	vq->broken = "rings are not in RAM";
	return -EINVAL;
}

int vq_enable(struct vq *vq)
{
	uint16_t n = vq->size;

	if (n == 0 || n > vq->max || (!vq->packed && n & (n - 1)))
		vq->broken = vq->packed ? "queue size is not in range" : "queue size is no power of two in range";
	else if (vq->desc_gpa % 16 || vq->avail_gpa % (vq->packed ? 4 : 2) || vq->used_gpa % 4)
		vq->broken = "rings are not aligned";
	else if (vq->packed)
		packed_check(vq);
	if (vq->broken || find_rings(vq) < 0)
		return -EINVAL;
	vq->enabled = true;
	return 0;
}

int vq_resume(struct vq *vq)
{
	return vq->enabled && !vq->broken ? find_rings(vq) : 0;
}

int vq_loaded(struct vq *vq)
{
	bool enabled = vq->enabled;

	vq->enabled = false;
	vq->broken = NULL;
	vq->in_flight = vq->taken = 0;
	vq->end = vq->packed ? 0 : vq->last_avail;
	return enabled ? vq_enable(vq) : 0;
}

/* -- Taking a request -------------------------------------------------------------- */

int ring_add_piece(struct vq *vq, struct vq_chain *chain, const struct desc *d)
{
	unsigned n = chain->n_out + chain->n_in;
	void *host;

	if (n == VQ_IOV_MAX)
		return ring_broken(vq, "a chain that is too long, or a loop");
	if (d->len > VQ_BYTES_MAX - chain->in_len - chain->out_len)
		return ring_broken(vq, "a chain of more than 256 MiB");
	if (d->flags & DESC_WRITE)
		host = guest_range(vq->mem, d->addr, d->len);
	else /* never written through: it stays among the out pieces */
		host = (void *)(uintptr_t)guest_range_ro(vq->mem, d->addr, d->len);
	if (!host)
		return ring_broken(vq, "a descriptor that is empty or not in RAM");
	if (d->flags & DESC_WRITE) {
		chain->n_in++;
		chain->in_len += d->len;
	} else if (chain->n_in) {
		return ring_broken(vq, "a readable descriptor after a writable one");
	} else {
		chain->n_out++;
		chain->out_len += d->len;
	}
	chain->iov[n] = (struct iovec){.iov_base = host, .iov_len = d->len};
	return 0;
}

/* Follows a chain in a table of n descriptors from entry `at`. *indirect gets the
 * descriptor of an indirect table if the chain ends in one; NULL where none is allowed.
 * */
static int walk(struct vq *vq, struct vq_chain *chain, const uint8_t *table, unsigned n,
		unsigned at, struct desc *indirect)
{
	for (unsigned steps = 0; steps < n; steps++) {
		struct desc d;
		int rc;

		if (at >= n)
			return ring_broken(vq, "a descriptor number out of range");
		d = read_desc(table, at);
		if (d.flags & DESC_INDIRECT) {
			if (!indirect || (d.flags & (DESC_NEXT | DESC_WRITE)))
				return ring_broken(
					vq, "an indirect descriptor where none may be");
			*indirect = d;
			return 0;
		}
		rc = ring_add_piece(vq, chain, &d);
		if (rc < 0 || !(d.flags & DESC_NEXT))
			return rc;
		at = d.next;
	}
	return ring_broken(vq, "a chain that loops");
}

static int walk_indirect(struct vq *vq, struct vq_chain *chain, const struct desc *d)
{
	unsigned n = d->len / DESC_SIZE;
	const uint8_t *table = guest_range_ro(vq->mem, d->addr, d->len);

	if (!table || d->len % DESC_SIZE || n > VQ_IOV_MAX)
		return ring_broken(vq, "an indirect table of a wrong size or not in RAM");
	return walk(vq, chain, table, n, 0, NULL);
}

/* Who offers more before it can see our avail_event does not kick, so we look again; an honest
 * driver has no more than `size` to offer, so that often. */
void vq_begin(struct vq *vq)
{
	uint16_t idx;

	if (!vq->enabled)
		return;
	if (vq->packed) {
		vq->end = vq->size;
		return;
	}
	idx = ring_load(vq->avail + 2);
	for (unsigned n = 0; vq->event_idx && n <= vq->size; n++) {
		vq->end = idx;
		ring_store(avail_event(vq), idx);
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		idx = ring_load(vq->avail + 2);
		if (idx == vq->end)
			break;
	}
	vq->end = idx;
}

static int available(struct vq *vq)
{
	if (vq->end == vq->last_avail)
		return 0;
	if ((uint16_t)(vq->end - vq->last_avail) > vq->size)
		return ring_broken(vq, "an index that jumps ahead");
	if (vq->in_flight == vq->size)
		return ring_broken(vq, "more requests than descriptors");
	return 1;
}

int vq_pop(struct vq *vq, struct vq_chain *chain)
{
	struct desc indirect = {0};
	int rc;

	if (vq->broken)
		return -EPROTO;
	if (!vq->enabled)
		return 0;
	chain->n_out = chain->n_in = 0;
	chain->out_len = chain->in_len = 0;
	if (vq->packed)
		return packed_pop(vq, chain);
	rc = available(vq);
	if (rc <= 0)
		return rc;
	chain->head = ring_load(vq->avail + 4 + 2u * (vq->last_avail % vq->size));
	rc = walk(vq, chain, vq->desc, vq->size, chain->head, &indirect);
	if (rc == 0 && indirect.flags)
		rc = walk_indirect(vq, chain, &indirect);
	if (rc < 0)
		return rc;
	vq->last_avail++;
	vq->in_flight++;
	return 1;
}

void vq_unpop(struct vq *vq)
{
	if (vq->packed) {
		packed_unpop(vq);
		return;
	}
	vq->last_avail--;
	vq->in_flight--;
}

/* -- Giving it back ---------------------------------------------------------------- */

void vq_put(struct vq *vq, unsigned i, uint16_t head, uint32_t len)
{
	uint8_t *entry = vq->used_ring + 4 + 8u * ((vq->used + i) % vq->size);

	if (vq->packed) { /* SAFE: i is less than there are requests in flight */
		vq->put[i].head = head;
		vq->put[i].len = len;
		return;
	}
	le32_put(entry, head);
	le32_put(entry + 4, len);
}

void vq_publish(struct vq *vq, unsigned n)
{
	if (vq->packed) {
		packed_publish(vq, n);
		return;
	}
	vq->used = (uint16_t)(vq->used + n);
	ring_store(vq->used_ring + 2, vq->used);
	vq->in_flight = (uint16_t)(vq->in_flight - n);
}

void vq_push(struct vq *vq, uint16_t head, uint32_t len)
{
	vq_put(vq, 0, head, len);
	vq_publish(vq, 1);
}

bool vq_wants_interrupt(struct vq *vq)
{
	uint16_t old = vq->signalled, event;

	if (vq->packed)
		return packed_wants_interrupt(vq);
	if (vq->used == old || !vq->enabled)
		return false;
	vq->signalled = vq->used;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (!vq->event_idx)
		return !(ring_load(vq->avail) & AVAIL_NO_INTERRUPT);
	event = ring_load(used_event(vq));
	/* Did `used` step over event + 1? All modulo 2^16. */
	return (uint16_t)(vq->used - event - 1) < (uint16_t)(vq->used - old);
}

/* -- Pieces of memory -------------------------------------------------------------- */

uint64_t iov_gather(const struct iovec *iov, unsigned n, void *to, uint64_t len)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		uint64_t part =
			iov[i].iov_len < len - done ? iov[i].iov_len : len - done;

		memcpy((uint8_t *)to + done, iov[i].iov_base, part);
		done += part;
	}
	return done;
}

uint64_t iov_scatter(const struct iovec *iov, unsigned n, const void *from,
		     uint64_t len)
{
	uint64_t done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		uint64_t part =
			iov[i].iov_len < len - done ? iov[i].iov_len : len - done;

		memcpy(iov[i].iov_base, (const uint8_t *)from + done, part);
		done += part;
	}
	return done;
}

struct iovec *iov_cut_front(struct iovec *iov, unsigned *n, uint64_t len)
{
	while (*n && len >= iov->iov_len) {
		len -= iov->iov_len;
		iov++;
		--*n;
	}
	if (*n && len) {
		iov->iov_base = (uint8_t *)iov->iov_base + len;
		iov->iov_len -= len;
	}
	return iov;
}

void iov_cut_back(struct iovec *iov, unsigned *n, uint64_t len)
{
	while (*n && len >= iov[*n - 1].iov_len) {
		len -= iov[*n - 1].iov_len;
		--*n;
	}
	if (*n)
		iov[*n - 1].iov_len -= len;
}
