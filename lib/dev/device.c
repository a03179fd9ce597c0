/* SPDX-License-Identifier: MIT */
/*
 * Devices in general: how they are made and unmade, and how an access finds its
 * register.
 *
 * A window of registers looks like the table in a data sheet, and this file is what
 * makes the table live:
 *
 *	access at 4, width 4:   reg at 4 width 2, reg at 6 width 2   -> two calls, combined
 *	access at 5, width 1:   inside reg at 4 width 2              -> its second byte
 *	access at 9, width 1:   nothing                              -> 0xff
 *
 * Narrow writes into a wide register are dropped: what chips do with them differs, no
 * driver of ours depends on it, and merging them with a read would run the read's side
 * effects.
 *
 * The device's lock is taken here, once per access, so that handlers need not think of
 * it.
 */
#include "dev/device.h"

#include "base/err.h"
#include "base/scoped.h"
#include "state/state.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

/* -- Windows ----------------------------------------------------------------------- */

static uint64_t read_window(void *ctx, uint64_t at, unsigned width)
{
	struct device_window *w = ctx;

	scoped_lock(&w->dev->lock);
	return w->place->regs ? regs_read(w->place->regs, w->dev, at, width) : w->place->read(w->dev, at, width);
}

static void write_window(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct device_window *w = ctx;

	scoped_lock(&w->dev->lock);
	if (w->place->regs)
		regs_write(w->place->regs, w->dev, at, width, value);
	else
		w->place->write(w->dev, at, width, value);
}

static int claim(struct device *dev, const struct device_place *place, uint64_t base, struct err *err)
{
	struct device_window *w = &dev->windows[dev->n_windows];
	int rc;

	if (dev->n_windows == DEVICE_WINDOWS_MAX)
		return err_set(err, ENOSPC, "more than %d windows", DEVICE_WINDOWS_MAX);
	*w = (struct device_window){.dev = dev, .place = place, .base = base};
	rc = bus_add(dev->bus, &(struct bus_window){
		.name = dev->model->name, .space = place->space, .base = base, .size = place->size,
		.width = place->regs ? 8 : 4, .read = read_window, .write = write_window, .ctx = w,
	}, err);
	if (rc == 0)
		dev->n_windows++;
	return rc;
}

/* -- Making and unmaking ------------------------------------------------------------ */

struct device *device_create(const struct device_model *model, struct bus *bus, const uint64_t *at,
			     const void *config, struct err *err)
{
	struct device *dev = calloc(1, model->size);
	int rc = 0;

	if (!dev) {
		err_set(err, ENOMEM, "%s: out of memory", model->name);
		return NULL;
	}
	dev->model = model;
	dev->bus = bus;
	pthread_mutex_init(&dev->lock, NULL);
	if (model->init)
		rc = model->init(dev, config, err);
	for (const struct device_place *p = model->places; p && p->size && rc == 0; p++)
		rc = claim(dev, p, *at++, err);
	if (rc < 0) {
		err_at(err, rc, "%s", model->name);
		device_destroy(dev);
		return NULL;
	}
	device_reset(dev);
	return dev;
}

void device_reset(struct device *dev)
{
	scoped_lock(&dev->lock);
	if (dev->model->reset)
		dev->model->reset(dev);
}

void device_destroy(struct device *dev)
{
	if (!dev)
		return;
	for (unsigned i = 0; i < dev->n_windows; i++)
		bus_remove(dev->bus, dev->windows[i].place->space, dev->windows[i].base);
	if (dev->model->fini)
		dev->model->fini(dev);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
}

/* -- State ------------------------------------------------------------------------- */

void device_pause(struct device *dev)
{
	scoped_lock(&dev->lock);
	if (dev->model->pause)
		dev->model->pause(dev);
}

void device_resume(struct device *dev)
{
	scoped_lock(&dev->lock);
	if (dev->model->resume)
		dev->model->resume(dev);
}

static void section_name(char name[STATE_NAME_MAX + 1], const char *id,
			 const struct state_table *table)
{
	snprintf(name, STATE_NAME_MAX + 1, "%s/%s", id, table->name);
}

int device_save(struct device *dev, const char *id, struct state_out *out)
{
	const struct state_table *const *t = dev->model->state;
	char name[STATE_NAME_MAX + 1];
	int rc = 0;

	scoped_lock(&dev->lock);
	if (dev->model->saving)
		dev->model->saving(dev);
	for (; t && *t && rc == 0; t++) {
		section_name(name, id, *t);
		rc = state_save(out, name, *t, dev);
	}
	return rc;
}

int device_load(struct device *dev, const char *id, const struct state_in *in, uint64_t away,
		unsigned *used, struct err *err)
{
	const struct state_table *const *t = dev->model->state;
	char name[STATE_NAME_MAX + 1];
	struct state_section section;
	int rc = 0;

	device_pause(dev);
	for (; t && *t && rc == 0; t++, ++*used) {
		section_name(name, id, *t);
		rc = state_find(in, name, &section, err);
		if (rc == 0)
			rc = state_load(&section, *t, dev, err);
	}
	if (rc == 0 && dev->model->loaded)
		rc = dev->model->loaded(dev, away, err);
	return rc < 0 ? err_at(err, rc, "%s", id) : 0;
}

/* -- Registers --------------------------------------------------------------------- */

/* Whether the access lies in one register of the row; *first is where that one begins.
 * */
static bool holds(const struct reg *reg, uint64_t at, unsigned width, unsigned *first)
{
	unsigned end = reg->at + reg->width * (reg->count ? reg->count : 1u);

	if (at < reg->at || at >= end)
		return false;
	*first = (unsigned)(at - (at - reg->at) % reg->width);
	return at + width <= *first + reg->width;
}

/* The register for an access, the one of just this width before a wider one. */
static const struct reg *find(const struct reg *regs, uint64_t at, unsigned width,
			      unsigned *first)
{
	const struct reg *wider = NULL;
	unsigned begin;

	for (const struct reg *reg = regs; reg->name; reg++) {
		if (!holds(reg, at, width, &begin) || (wider && reg->width != width))
			continue;
		*first = begin;
		wider = reg;
		if (reg->width == width)
			return reg;
	}
	return wider;
}

uint64_t regs_read(const struct reg *regs, void *dev, uint64_t at, unsigned width)
{
	unsigned half = width / 2, first;
	const struct reg *reg = find(regs, at, width, &first);
	uint64_t value;

	if (reg) {
		value = reg->read ? reg->read(dev, first) : UINT64_MAX;
		return (value >> ((at - first) * 8)) & bus_ones(width);
	}
	if (width == 1)
		return bus_ones(1);
	value = regs_read(regs, dev, at, half);
	return value | regs_read(regs, dev, at + half, half) << (half * 8);
}

void regs_write(const struct reg *regs, void *dev, uint64_t at, unsigned width,
		uint64_t value)
{
	unsigned half = width / 2, first;
	const struct reg *reg = find(regs, at, width, &first);

	if (reg) {
		if (reg->width == width && reg->write)
			reg->write(dev, first, value & bus_ones(width));
		return;
	}
	if (width == 1)
		return;
	regs_write(regs, dev, at, half, value);
	regs_write(regs, dev, at + half, half, value >> (half * 8));
}

/* -- Time -------------------------------------------------------------------------- */

static uint64_t host_clock(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t dev_monotonic(const struct dev_clock *clock)
{
	return clock->monotonic ? clock->monotonic(clock->ctx)
				: host_clock(CLOCK_MONOTONIC);
}

uint64_t dev_realtime(const struct dev_clock *clock)
{
	return clock->realtime ? clock->realtime(clock->ctx)
			       : host_clock(CLOCK_REALTIME);
}
