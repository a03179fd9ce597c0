/* SPDX-License-Identifier: MIT */
/*
 * A driver of an NVMe controller, for tests.
 *
 *	nvme_start(slot);                              // the admin queue
 *	nvme_make_queues(slot, 1, 16);                 // queue 1 of each kind, of 16 entries
 *	uint8_t *c = nvme_put(1, 2, 1, address, lba, blocks - 1);
 *	nvme_ring(slot, 1);
 *	status = nvme_wait(slot, 1);
 */
#ifndef DEV_TESTS_NVME_H
#define DEV_TESTS_NVME_H

#include "dev/tests/guest.h"

#include <sched.h>

#define NVME_SQ(n) (0x60000u + (n) * 0x2000u)
#define NVME_CQ(n) (NVME_SQ(n) + 0x1000u)
#define NVME_ADMIN_ENTRIES 32u

static struct {
	unsigned tail, head, size;
	bool phase;
} nvme_queues[18];

static inline void nvme_forget(unsigned n, unsigned size)
{
	nvme_queues[n].tail = nvme_queues[n].head = 0;
	nvme_queues[n].size = size;
	nvme_queues[n].phase = true;
	memset(g_ram + NVME_SQ(n), 0, 0x2000);
}

/* A command, of which a test may change what it likes: the next of submission queue n. */
static inline uint8_t *nvme_put(unsigned n, uint8_t code, uint32_t space, uint64_t at, uint64_t lba, uint32_t blocks)
{
	uint8_t *c = g_ram + NVME_SQ(n) + (size_t)nvme_queues[n].tail * 64;

	memset(c, 0, 64);
	c[0] = code;
	le16_put(c + 2, (uint16_t)(nvme_queues[n].tail + 0x100));
	le32_put(c + 4, space);
	le64_put(c + 24, at);
	le64_put(c + 40, lba);
	le32_put(c + 48, blocks);
	nvme_queues[n].tail = (nvme_queues[n].tail + 1) % nvme_queues[n].size;
	return c;
}

static inline void nvme_ring(unsigned slot, unsigned n)
{
	bar_out(slot, 0, 0x1000 + n * 8, 4, nvme_queues[n].tail);
}

/* The status of the next one that has ended, and its result. */
static inline unsigned nvme_wait_result(unsigned slot, unsigned n, uint32_t *result)
{
	uint8_t *e = g_ram + NVME_CQ(n) + (size_t)nvme_queues[n].head * 16;
	uint16_t status;

	while (((status = __atomic_load_n((uint16_t *)(void *)(e + 14), __ATOMIC_ACQUIRE)) & 1) != nvme_queues[n].phase)
		sched_yield();
	*result = le32_get(e);
	if (++nvme_queues[n].head == nvme_queues[n].size) {
		nvme_queues[n].head = 0;
		nvme_queues[n].phase = !nvme_queues[n].phase;
	}
	bar_out(slot, 0, 0x1004 + n * 8, 4, nvme_queues[n].head);
	return status >> 1;
}

static inline unsigned nvme_wait(unsigned slot, unsigned n)
{
	uint32_t result;

	return nvme_wait_result(slot, n, &result);
}

static inline void nvme_start(unsigned slot)
{
	cfg_write(slot, 4, 2, 6);
	bar_out(slot, 0, 0x14, 4, 0);
	while (bar_in(slot, 0, 0x1c, 4) & 1)
		sched_yield();
	nvme_forget(0, NVME_ADMIN_ENTRIES);
	bar_out(slot, 0, 0x24, 4, (NVME_ADMIN_ENTRIES - 1) << 16 | (NVME_ADMIN_ENTRIES - 1));
	bar_out(slot, 0, 0x28, 8, NVME_SQ(0));
	bar_out(slot, 0, 0x30, 8, NVME_CQ(0));
	bar_out(slot, 0, 0x14, 4, 0x00460001);
}

/* An admin command: its status. */
static inline unsigned nvme_admin_do(unsigned slot, uint8_t code, uint64_t at, uint32_t dw10, uint32_t dw11)
{
	uint8_t *c = nvme_put(0, code, 0, at, 0, 0);

	le32_put(c + 40, dw10);
	le32_put(c + 44, dw11);
	nvme_ring(slot, 0);
	return nvme_wait(slot, 0);
}

static inline unsigned nvme_make_queues(unsigned slot, unsigned n, unsigned size)
{
	unsigned status;

	nvme_forget(n, size);
	status = nvme_admin_do(slot, 0x05, NVME_CQ(n), (size - 1) << 16 | n, n << 16 | 3);
	return status ? status : nvme_admin_do(slot, 0x01, NVME_SQ(n), (size - 1) << 16 | n, n << 16 | 1);
}

#endif
