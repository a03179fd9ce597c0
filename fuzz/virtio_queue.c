/* SPDX-License-Identifier: MIT */
/*
 * A driver that writes any bytes into its rings, against the gate in
 * dev/virtio/queue.c.
 *
 * The input is guest RAM (its first page, where rings and tables can be) and a list of
 * steps of four bytes: an action, and what for. Addresses in RAM are folded into the
 * small RAM now and then, so that most inputs get past the first check.
 *
 * What must hold: each piece of a chain lies in RAM, out pieces may be read, in pieces
 * may be written, a chain has at most VQ_IOV_MAX of them, and at most `size` requests
 * are in flight. RAM is an allocation of its own, so a sanitizer sees a byte too far. Rings are split, or packed.
 */
#include "base/bytes.h"
#include "dev/virtio/queue.h"

#include <stdlib.h>
#include <string.h>

#define RAM_BASE 0x100000u
#define RAM_SIZE 0x4000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int fine)
{
	if (!fine)
		abort();
}

static void use_chain(struct vq *vq, const uint8_t *ram, struct vq_chain *chain)
{
	static volatile uint8_t sink;

	must(vq->in_flight <= vq->size && vq->taken <= vq->size && chain->n_out + chain->n_in <= VQ_IOV_MAX);
	for (unsigned i = 0; i < chain->n_out + chain->n_in; i++) {
		uint8_t *p = chain->iov[i].iov_base;
		size_t len = chain->iov[i].iov_len;

		must(p >= ram && len > 0 && len <= RAM_SIZE &&
		     p + len <= ram + RAM_SIZE);
		if (i < chain->n_out)
			sink = p[0] ^ p[len - 1];
		else
			p[len - 1] = sink;
	}
}

/* Values that matter more often than chance would have it. */
static uint64_t interesting(const uint8_t *step)
{
	switch (step[3] % 4) {
	case 0:
		return le16_get(step + 1);
	case 1:
		return RAM_BASE + le16_get(step + 1) % RAM_SIZE;
	case 2:
		return (RAM_BASE + le16_get(step + 1) % RAM_SIZE) & ~15u;
	default:
		return (uint64_t)le16_get(step + 1) << 48 | 0xfff8;
	}
}

static void do_step(struct vq *vq, uint8_t *ram, struct vq_chain *chain,
		    const uint8_t *step)
{
	uint64_t value = interesting(step);

	switch (step[0] % 13) {
	case 0:
		vq_reset(vq);
		break;
	case 1:
		if (!vq->enabled)
			vq->size = (uint16_t)(step[3] & 1 ? 1u << step[1] % 10 : value);
		break;
	case 2:
		if (!vq->enabled)
			vq->desc_gpa = value;
		break;
	case 3:
		if (!vq->enabled)
			vq->avail_gpa = value;
		break;
	case 4:
		if (!vq->enabled)
			vq->used_gpa = value;
		break;
	case 5:
		if (!vq->enabled)
			vq_enable(vq);
		break;
	case 6: /* the driver writes a byte */
		ram[le16_get(step + 1) % RAM_SIZE] = step[3];
		break;
	case 7: /* or an address */
		le64_put(ram + le16_get(step + 1) % (RAM_SIZE - 8), value);
		break;
	case 8: /* or makes one more available */
		if (vq->enabled && !vq->packed)
			le16_put(vq->avail + 2,
				 (uint16_t)(le16_get(vq->avail + 2) + 1));
		if (vq->enabled && vq->packed)
			le16_put(vq->desc + (vq->last_avail & 0x7fff) * 16 + 14,
				 (uint16_t)(step[1] % 8 | (vq->last_avail & 0x8000 ? 0x80 : 0x8000)));
		break;
	case 9:
		vq_begin(vq);
		__attribute__((fallthrough));
	case 10:
		if (vq_pop(vq, chain) > 0) {
			use_chain(vq, ram, chain);
			if (step[1] & 1)
				vq_push(vq, chain->head, step[2]);
			else if (step[1] & 2)
				vq_unpop(vq);
		}
		break;
	case 11:
		vq->event_idx = step[1] & 1;
		vq_wants_interrupt(vq);
		break;
	case 12:
		if (!vq->enabled)
			vq_settle(vq, step[1] & 1, step[1] & 2);
		else if (step[1] & 4 && !vq->broken && !vq->in_flight)
			vq_loaded(vq);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct vq_chain chain;
	size_t page = size / 2 < 4096 ? size / 2 : 4096;
	uint8_t *ram = calloc(1, RAM_SIZE);
	struct guest_mem mem = {.n = 1, .regions[0] = {
		.base = RAM_BASE, .size = RAM_SIZE, .host = ram}};
	struct vq vq = {.mem = &mem, .max = 256};

	must(ram != NULL);
	memcpy(ram, data, page);
	vq_reset(&vq);
	vq.size = 16;
	vq.desc_gpa = RAM_BASE;
	vq.avail_gpa = RAM_BASE + 0x100;
	vq.used_gpa = RAM_BASE + 0x1000;
	for (; page + 4 <= size; page += 4)
		do_step(&vq, ram, &chain, data + page);
	free(ram);
	return 0;
}
