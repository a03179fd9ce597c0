/* SPDX-License-Identifier: MIT */
/* Between queue.c and packed.c: what both kinds of rings have in common. */
#ifndef DEV_VIRTIO_RING_H
#define DEV_VIRTIO_RING_H

#include "base/bytes.h"
#include "dev/virtio/queue.h"

#include <errno.h>
#include <string.h>

#define DESC_SIZE     16u
#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next; /* next: of a packed one the request's id, and before flags */
};

static inline int ring_broken(struct vq *vq, const char *why)
{
	vq->broken = why;
	return -EPROTO;
}

/* SAFE: all fields that are loaded and stored are 2-byte aligned, as vq_enable() checked. */
static inline uint16_t ring_load(const uint8_t *at)
{
	return le16toh(__atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_ACQUIRE));
}

static inline void ring_store(uint8_t *at, uint16_t value)
{
	__atomic_store_n((uint16_t *)(void *)at, htole16(value), __ATOMIC_RELEASE);
}

/* One more piece of a chain, in guest RAM. 0 or -EPROTO. */
int ring_add_piece(struct vq *vq, struct vq_chain *chain, const struct desc *d);

/* -- packed.c ---------------------------------------------------------------------- */

int packed_find_rings(struct vq *vq);

/* Before it is enabled: breaks it if its places, which may have been loaded, are none. Nothing is in flight. */
void packed_check(struct vq *vq);
int packed_pop(struct vq *vq, struct vq_chain *chain);
void packed_unpop(struct vq *vq);
void packed_publish(struct vq *vq, unsigned n);
bool packed_wants_interrupt(struct vq *vq);

#endif
