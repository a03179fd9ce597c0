/* SPDX-License-Identifier: MIT */
/*
 * Guest memory: a handful of regions, and the one function that turns a number
 * which the guest chose into a pointer.
 *
 * Two invariants make guest_range() right:
 *
 *  1. For each region, base + size does not wrap, and host .. host + size is all ours, whatever the region
 *     leads to. fits() checks the first; the caller vouches for the second.
 *  2. What a look finds was so at one moment: `changes` is even before it and the same after it, or it looks again. Else a
 *     region that becomes RAM would be, for a moment, a ROM that can be written.
 *
 * A range never spans two regions, even if they touch in guest-physical space: their
 * host pointers do not. Real RAM has that property for devices too (nothing DMAs across
 * the hole below 4 GiB), so no driver notices.
 */
#include "bus/guest.h"

#include "base/err.h"

#include <errno.h>
#include <string.h>

/* Whether `size` bytes can be at `base`, beside all regions but number `but`. */
static int fits(const struct guest_mem *mem, unsigned but, const struct guest_region *region, struct err *err)
{
	const char *name = region->name ? region->name : "memory";

	if (region->size == 0 || region->base + region->size - 1 < region->base)
		return err_set(err, EINVAL, "%s: %#llx bytes at %#llx are no region",
			       name, (unsigned long long)region->size,
			       (unsigned long long)region->base);
	for (unsigned i = 0; i < mem->n; i++) {
		const struct guest_region *r = &mem->regions[i];

		if (i != but && r->base != GUEST_NOWHERE && region->base <= r->base + (r->size - 1) &&
		    r->base <= region->base + (region->size - 1))
			return err_set(err, EINVAL, "%s: overlaps another region at %#llx",
				       name, (unsigned long long)region->base);
	}
	return 0;
}

int guest_mem_add(struct guest_mem *mem, const struct guest_region *region,
		  struct err *err)
{
	int rc = region->base == GUEST_NOWHERE ? 0 : fits(mem, mem->n, region, err);

	if (rc < 0)
		return rc;
	if (mem->n == GUEST_REGIONS_MAX)
		return err_set(err, ENOSPC, "%s: more than %d regions of guest memory",
			       region->name ? region->name : "memory", GUEST_REGIONS_MAX);
	mem->regions[mem->n++] = *region;
	return 0;
}

int guest_mem_change(struct guest_mem *mem, unsigned i, gpa_t base, uint8_t *host, bool readonly, struct err *err)
{
	struct guest_region *r = &mem->regions[i], to = *r;
	int rc;

	to.base = base;
	rc = base == GUEST_NOWHERE ? 0 : fits(mem, i, &to, err);
	if (rc < 0)
		return rc;
	__atomic_fetch_add(&mem->changes, 1, __ATOMIC_ACQ_REL);
	__atomic_store_n(&r->readonly, readonly, __ATOMIC_RELEASE);
	__atomic_store_n(&r->host, host, __ATOMIC_RELEASE);
	__atomic_store_n(&r->base, base, __ATOMIC_RELEASE);
	__atomic_fetch_add(&mem->changes, 1, __ATOMIC_RELEASE);
	return 0;
}

static bool find(const struct guest_mem *mem, gpa_t gpa, struct guest_region *region)
{
	for (unsigned i = 0; i < mem->n; i++) {
		const struct guest_region *r = &mem->regions[i];
		gpa_t base = __atomic_load_n(&r->base, __ATOMIC_ACQUIRE);

		if (base == GUEST_NOWHERE || gpa < base || gpa - base >= r->size)
			continue;
		*region = (struct guest_region){
			.base = base,
			.size = r->size,
			.host = __atomic_load_n(&r->host, __ATOMIC_ACQUIRE),
			.readonly = __atomic_load_n(&r->readonly, __ATOMIC_ACQUIRE),
			.changes = r->changes,
			.name = r->name,
		};
		return true;
	}
	return false;
}

bool guest_mem_find(const struct guest_mem *mem, gpa_t gpa, struct guest_region *region)
{
	unsigned before;
	bool found;

	do {
		before = __atomic_load_n(&mem->changes, __ATOMIC_ACQUIRE);
		found = find(mem, gpa, region);
	} while (before % 2 || before != __atomic_load_n(&mem->changes, __ATOMIC_ACQUIRE));
	return found;
}

static uint8_t *range(const struct guest_mem *mem, gpa_t gpa, uint64_t len, bool write)
{
	struct guest_region r;

	if (!guest_mem_find(mem, gpa, &r) || len == 0 || len > r.size - (gpa - r.base) || (write && r.readonly))
		return NULL;
	if (mem->take && mem->take(mem->ctx, &r, gpa, len, write) < 0)
		return NULL;
	return r.host + (gpa - r.base);
}

void *guest_range(const struct guest_mem *mem, gpa_t gpa, uint64_t len)
{
	return range(mem, gpa, len, true);
}

const void *guest_range_ro(const struct guest_mem *mem, gpa_t gpa, uint64_t len)
{
	return range(mem, gpa, len, false);
}

void guest_drop(const struct guest_mem *mem, void *host, uint64_t len)
{
	if (mem->drop)
		mem->drop(mem->ctx, host, len);
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
