/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: a handful of regions, sorted, and the one function that turns a number
 * which the guest chose into a pointer.
 *
 * Two invariants make guest_range() right:
 *
 *  1. For each region, base + size does not wrap, and host .. host + size is all ours.
 *     guest_mem_add() checks the first; the caller vouches for the second.
 *  2. Regions neither overlap nor change while the machine runs.
 *
 * A range never spans two regions, even if they touch in guest-physical space: their
 * host pointers do not. Real RAM has that property for devices too (nothing DMAs across
 * the hole below 4 GiB), so no driver notices.
 */
#include "bus/guest.h"

#include "base/err.h"

#include <errno.h>
#include <string.h>

int guest_mem_add(struct guest_mem *mem, const struct guest_region *region,
		  struct err *err)
{
	const char *name = region->name ? region->name : "memory";
	unsigned at = 0;

	if (region->size == 0 || region->base + region->size - 1 < region->base)
		return err_set(err, EINVAL, "%s: %#llx bytes at %#llx are no region",
			       name, (unsigned long long)region->size,
			       (unsigned long long)region->base);
	if (mem->n == GUEST_REGIONS_MAX)
		return err_set(err, ENOSPC, "%s: more than %d regions of guest memory",
			       name, GUEST_REGIONS_MAX);
	while (at < mem->n && mem->regions[at].base < region->base)
		at++;
	if ((at > 0 &&
	     region->base - mem->regions[at - 1].base < mem->regions[at - 1].size) ||
	    (at < mem->n && mem->regions[at].base - region->base < region->size))
		return err_set(err, EINVAL, "%s: overlaps another region at %#llx",
			       name, (unsigned long long)region->base);
	memmove(&mem->regions[at + 1], &mem->regions[at],
		(mem->n - at) * sizeof(mem->regions[0]));
	mem->regions[at] = *region;
	mem->n++;
	return 0;
}

const struct guest_region *guest_mem_find(const struct guest_mem *mem, gpa_t gpa)
{
	for (unsigned i = 0; i < mem->n; i++) {
		const struct guest_region *r = &mem->regions[i];

		if (gpa >= r->base && gpa - r->base < r->size)
			return r;
	}
	return NULL;
}

static uint8_t *range(const struct guest_mem *mem, gpa_t gpa, uint64_t len, bool write)
{
	const struct guest_region *r = guest_mem_find(mem, gpa);

	if (!r || len == 0 || len > r->size - (gpa - r->base) || (write && r->readonly))
		return NULL;
	if (mem->take && mem->take(mem->ctx, gpa, len, write) < 0)
		return NULL;
	return r->host + (gpa - r->base);
}

void *guest_range(const struct guest_mem *mem, gpa_t gpa, uint64_t len)
{
	return range(mem, gpa, len, true);
}

const void *guest_range_ro(const struct guest_mem *mem, gpa_t gpa, uint64_t len)
{
	return range(mem, gpa, len, false);
}

int guest_read(const struct guest_mem *mem, gpa_t gpa, void *to, uint64_t len)
{
	const void *from = range(mem, gpa, len, false);

	if (!from)
		return len ? -EFAULT : 0;
	memcpy(to, from, len);
	return 0;
}

int guest_write(const struct guest_mem *mem, gpa_t gpa, const void *from, uint64_t len)
{
	void *to = range(mem, gpa, len, true);

	if (!to)
		return len ? -EFAULT : 0;
	memcpy(to, from, len);
	return 0;
}
