/* SPDX-License-Identifier: MIT */
/*
 * The bus: two sorted tables of windows, and the rules of what an access becomes.
 *
 *	access (addr, width)
 *	   |  a window holds all of it?  no: two halves, low first, down to single bytes
 *	   |  wider than the window takes?  the same
 *	   v
 *	handler(ctx, addr - base, width)       nobody there: all ones, or nothing
 *
 * This is what ISA and PCI bridges do: a 16-bit access to an 8-bit card is two cycles,
 * and an access that straddles two cards reaches both.
 *
 * The lock is a reader-writer lock held only over the lookup; the window is copied out.
 * See bus.h for what that means to a device. Windows are few (about twenty) and a
 * lookup is a binary search, so there is nothing to cache.
 */
#include "bus/bus.h"

#include "base/err.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define WINDOWS_MAX \
	256 /* in a space: 32 PCI functions with all their BARs, and the chips */

struct table {
	unsigned n;
	struct bus_window windows[WINDOWS_MAX]; /* sorted by base, never overlapping */
};

struct bus {
	pthread_rwlock_t lock; /* of the tables */
	struct table tables[BUS_SPACES];
};

struct bus *bus_create(void)
{
	struct bus *bus = calloc(1, sizeof(*bus));

	if (bus)
		pthread_rwlock_init(&bus->lock, NULL);
	return bus;
}

void bus_destroy(struct bus *bus)
{
	if (!bus)
		return;
	pthread_rwlock_destroy(&bus->lock);
	free(bus);
}

/* -- The table --------------------------------------------------------------------- */

/* How many windows begin at or below addr. */
static unsigned below(const struct table *table, uint64_t addr)
{
	unsigned low = 0, high = table->n;

	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (table->windows[mid].base <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

static bool find(struct bus *bus, enum bus_space space, uint64_t addr,
		 struct bus_window *w)
{
	const struct table *table = &bus->tables[space];
	bool found = false;
	unsigned n;

	pthread_rwlock_rdlock(&bus->lock);
	n = below(table, addr);
	if (n > 0 && addr - table->windows[n - 1].base < table->windows[n - 1].size) {
		*w = table->windows[n - 1];
		found = true;
	}
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

/* The window that would overlap, or NULL. */
static const struct bus_window *clash(const struct table *table,
				      const struct bus_window *w)
{
	unsigned n = below(table, w->base);

	if (n > 0 && w->base - table->windows[n - 1].base < table->windows[n - 1].size)
		return &table->windows[n - 1];
	if (n < table->n && table->windows[n].base - w->base < w->size)
		return &table->windows[n];
	return NULL;
}

static int insert_locked(struct table *table, const struct bus_window *w,
			 struct err *err)
{
	const struct bus_window *other = clash(table, w);
	unsigned at = below(table, w->base);

	if (other)
		return err_set(err, EEXIST, "%s at %#llx overlaps %s at %#llx", w->name,
			       (unsigned long long)w->base, other->name,
			       (unsigned long long)other->base);
	if (table->n == WINDOWS_MAX)
		return err_set(err, ENOSPC, "%s: more than %d windows", w->name,
			       WINDOWS_MAX);
	memmove(&table->windows[at + 1], &table->windows[at],
		(table->n - at) * sizeof(*w));
	table->windows[at] = *w;
	table->n++;
	return 0;
}

int bus_add(struct bus *bus, const struct bus_window *window, struct err *err)
{
	struct bus_window w = *window;
	int rc;

	if (!w.name)
		w.name = "?";
	if (w.width == 0)
		w.width = 8;
	if (w.size == 0 || w.base + w.size - 1 < w.base ||
	    (w.space == BUS_PORT && w.base + w.size > 0x10000))
		return err_set(err, EINVAL, "%s: %#llx bytes at %#llx are no window",
			       w.name, (unsigned long long)w.size,
			       (unsigned long long)w.base);
	pthread_rwlock_wrlock(&bus->lock);
	rc = insert_locked(&bus->tables[w.space], &w, err);
	pthread_rwlock_unlock(&bus->lock);
	return rc;
}

bool bus_remove(struct bus *bus, enum bus_space space, uint64_t base)
{
	struct table *table = &bus->tables[space];
	bool found = false;
	unsigned n;

	pthread_rwlock_wrlock(&bus->lock);
	n = below(table, base);
	if (n > 0 && table->windows[n - 1].base == base) {
		memmove(&table->windows[n - 1], &table->windows[n],
			(table->n - n) * sizeof(table->windows[0]));
		table->n--;
		found = true;
	}
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

const char *bus_name(struct bus *bus, enum bus_space space, uint64_t addr)
{
	struct bus_window w;

	return find(bus, space, addr, &w) ? w.name : "";
}

/* -- Accesses ---------------------------------------------------------------------- */

enum fit { FIT_NOBODY, FIT_SPLIT, FIT_WHOLE };

/* Who answers, and whether in one piece. */
static enum fit fit(struct bus *bus, enum bus_space space, uint64_t addr,
		    unsigned width, struct bus_window *w)
{
	if (!find(bus, space, addr, w))
		return width > 1 ? FIT_SPLIT : FIT_NOBODY;
	if (width > w->width || width > w->size - (addr - w->base))
		return FIT_SPLIT;
	return FIT_WHOLE;
}

uint64_t bus_read(struct bus *bus, enum bus_space space, uint64_t addr, unsigned width)
{
	unsigned half = width / 2;
	uint64_t value = bus_ones(width);
	struct bus_window w;

	switch (fit(bus, space, addr, width, &w)) {
	case FIT_SPLIT:
		value = bus_read(bus, space, addr, half);
		return value | bus_read(bus, space, addr + half, half) << (half * 8);
	case FIT_WHOLE:
		if (w.read)
			value = w.read(w.ctx, addr - w.base, width) & bus_ones(width);
		break;
	case FIT_NOBODY:
		break;
	}
	return value;
}

void bus_write(struct bus *bus, enum bus_space space, uint64_t addr, unsigned width,
	       uint64_t value)
{
	unsigned half = width / 2;
	struct bus_window w;

	value &= bus_ones(width);
	switch (fit(bus, space, addr, width, &w)) {
	case FIT_SPLIT:
		bus_write(bus, space, addr, half, value);
		bus_write(bus, space, addr + half, half, value >> (half * 8));
		return;
	case FIT_WHOLE:
		if (w.write)
			w.write(w.ctx, addr - w.base, width, value);
		break;
	case FIT_NOBODY:
		break;
	}
}
