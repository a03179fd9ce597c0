/* SPDX-License-Identifier: MIT */
/*
 * Guest memory, as devices and loaders see it: the one door.
 *
 * A guest-physical address (gpa) is a number that the guest chose. It becomes a host
 * pointer in exactly one place, guest_range(), which takes a length so that nobody can
 * forget it.
 *
 *	uint8_t *p = guest_range(mem, gpa, 512);
 *	if (!p)
 *		return -EFAULT;         // not RAM, or not all of it
 *
 * The regions are added before the first vCPU runs. Afterwards one can move, be hidden, lead to other
 * memory or become read-only, by guest_mem_change(), while others look: a look sees the old place or
 * the new one, and a pointer that was handed out stays good, for all memory stays mapped. So none of this needs
 * a lock. The guest's vCPUs write the same bytes at the same time: a
 * value that was checked must be the value that is used. Copy first (guest_read()),
 * check the copy. Fields of what was read are taken out with base/bytes.h.
 *
 * Memory of a restored machine may be elsewhere until it is touched. Then `take` brings it, page by page, before a
 * pointer to it is handed out; what was brought once stays, and a pointer to it, too. And it hears what may be
 * written through a pointer, which the guest's dirty log does not have.
 */
#ifndef BUS_GUEST_H
#define BUS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

typedef uint64_t gpa_t;

#define GUEST_REGIONS_MAX 24
#define GUEST_NOWHERE     UINT64_MAX /* the base of a region that is hidden */

struct guest_region {
	gpa_t base;     /* or GUEST_NOWHERE */
	uint64_t size;  /* in bytes, never 0, and always the same */
	uint8_t *host;  /* where byte `base` is in this process */
	bool readonly;  /* a ROM: devices may read, never write */
	bool changes;   /* by guest_mem_change() */
	const char *name;
};

struct guest_mem {
	/* Brings what is not there yet: 0, or -EFAULT, and there is no such memory. Any thread. NULL: all is there. */
	int (*take)(void *ctx, const struct guest_region *region, gpa_t gpa, uint64_t len, bool write);
	/* The host may have this memory: its bytes are zeros, or what they were, from now on. NULL: it does not want it. */
	void (*drop)(void *ctx, void *host, uint64_t len);
	void *ctx;
	unsigned n;
	unsigned changes; /* odd: somebody is changing a region */
	struct guest_region
		regions[GUEST_REGIONS_MAX]; /* as they were added, never overlapping */
};

/* Adds a region, the last one; the memory stays the caller's. -EINVAL for an empty, wrapping or
 * overlapping one, -ENOSPC when the table is full. Only before the machine runs. */
int guest_mem_add(struct guest_mem *mem, const struct guest_region *region,
		  struct err *err);

/* Region i, one that changes, is here from now on, or nowhere, leads to this memory, and may be written or not. -EINVAL, and nothing has changed, if
 * another one is there. Any thread, but one at a time. */
int guest_mem_change(struct guest_mem *mem, unsigned i, gpa_t base, uint8_t *host, bool readonly, struct err *err);

/* The region that holds gpa, as it was at one moment; false if none does. */
bool guest_mem_find(const struct guest_mem *mem, gpa_t gpa, struct guest_region *region);

/* len bytes of writable guest RAM at gpa, or NULL if not all of them are in one region.
 * A len of 0 is NULL too: there is no pointer to nothing. */
void *guest_range(const struct guest_mem *mem, gpa_t gpa, uint64_t len);

/* The same for reading only: ROM counts as well. */
const void *guest_range_ro(const struct guest_mem *mem, gpa_t gpa, uint64_t len);

/* What guest_range() has returned need not be kept: nobody will want what is in these bytes. */
void guest_drop(const struct guest_mem *mem, void *host, uint64_t len);

/* Copies; 0 or -EFAULT with nothing copied. A len of 0 is fine and does nothing. */
int guest_read(const struct guest_mem *mem, gpa_t gpa, void *to, uint64_t len);
int guest_write(const struct guest_mem *mem, gpa_t gpa, const void *from, uint64_t len);

#endif
