/* SPDX-License-Identifier: MIT */
/*
 * What all devices have in common: a model, a lock, windows made of named registers.
 *
 * A model is one file with one exported name, and declares what it is: `lodge run --device help`, the manual
 * page, the state test and the fuzz targets go by that (docs/devices.md). The board makes a device of it:
 *
 *	struct device *rtc = device_create(&rtc_model, bus, (uint64_t[]){0x70}, &(struct rtc_config){
 *		.irq = irq8, .ram_low = 512 << 20 }, &err);
 *	...
 *	device_reset(rtc);    // the machine's reset line; no vCPU runs
 *	device_pause(rtc);    // no vCPU runs; its timers stop, what it had begun ends
 *	device_save(rtc, "rtc", &out);
 *	device_resume(rtc);
 *	device_destroy(rtc);  // no vCPU runs any more
 *
 * The file of a model has a private struct that begins with `struct device`, handlers
 * of a few lines, a table of registers, and the model. The registers' handlers are
 * called with the device's lock held, so they are written as if there were one thread.
 */
#ifndef DEV_DEVICE_H
#define DEV_DEVICE_H

#include "bus/bus.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct err;
struct device;
struct state_in;
struct state_out;
struct state_table;

/*
 * A register, or `count` equal ones in a row. An access that fits one is one call; a
 * wider one is several, lowest address first; a narrower read takes its bytes out of
 * the whole register, a narrower write is ignored.
 */
struct reg {
	uint16_t at;      /* from the window's base */
	uint8_t width;    /* in bytes: 1, 2, 4 or 8 */
	uint16_t count;   /* 0 means 1 */
	const char *name; /* the data sheet's; NULL ends the table */
	uint64_t (*read)(void *dev, unsigned at);              /* NULL: all ones */
	void (*write)(void *dev, unsigned at, uint64_t value); /* NULL: ignored */
};

/* A window that the board has given a place: of registers, or of what is no table. */
struct device_place {
	enum bus_space space;
	uint64_t size; /* 0 ends the list */
	const struct reg *regs;
	/* If that is NULL. Lock held; at most four bytes wide. */
	uint64_t (*read)(void *dev, uint64_t at, unsigned width);
	void (*write)(void *dev, uint64_t at, unsigned width, uint64_t value);
};

struct device_model {
	const char *name;    /* what a person asks for */
	const char *summary; /* one line */
	const char *option;  /* of lodge run: what makes one; NULL: each guest has it */
	size_t size;         /* of the private struct */
	/* device_create() claims these, where it is told. NULL: none. */
	const struct device_place *places;
	/* Of a PCI function: the registers at the beginning of its BAR bar_n. NULL: it is none, or has none. */
	const struct reg *bar;
	unsigned bar_n;
	/* What of the private struct is the guest's (state/state.h). What a device has of the host, and what follows
	 * from other fields, is no state. Ends with NULL; NULL: none at all. */
	const struct state_table *const *state;
	/* Takes over config (which the model's header defines). On failure fini is
	 * called. */
	int (*init)(struct device *dev, const void *config, struct err *err);
	void (*reset)(struct device *dev); /* lock held; the state after power-on */
	void (*fini)(struct device *dev); /* of a device that may be half made; may be NULL */

	/* Around a pause of the machine; lock held, may be NULL. After pause() it changes nothing, neither
	 * itself nor guest memory nor a line, until resume(), which takes up what waits. */
	void (*pause)(struct device *dev);
	void (*resume)(struct device *dev);
	/* Fills in fields that are kept for the table only. May be NULL. */
	void (*saving)(struct device *dev);
	/* The tables are loaded, into a device that was just made, and `away` ns have passed since they were
	 * saved: checks what the values say together and makes what follows from them. Raises no line: the
	 * interrupt controllers know. No thread but this one knows the device. May be NULL. */
	int (*loaded)(struct device *dev, uint64_t away, struct err *err);
};

#define DEVICE_WINDOWS_MAX 8

struct device_window {
	struct device *dev;
	const struct device_place *place;
	uint64_t base;
};

struct device {
	const struct device_model *model;
	struct bus *bus;
	pthread_mutex_t lock;
	unsigned n_windows;
	struct device_window windows[DEVICE_WINDOWS_MAX];
};

/* A device in its reset state, or NULL with err set. `at` is where each of the model's places is: NULL if it has
 * none. */
struct device *device_create(const struct device_model *model, struct bus *bus, const uint64_t *at,
			     const void *config, struct err *err);
void device_reset(struct device *dev);
void device_destroy(struct device *dev); /* NULL is fine */

/* No vCPU runs between the two. What is under way ends first: may take as long as a disk does. */
void device_pause(struct device *dev);
void device_resume(struct device *dev);

/* Of a paused device, in sections "id/table": 0 or -ENOMEM. */
int device_save(struct device *dev, const char *id, struct state_out *out);

/* Into a device that was just made; it is paused then. 0, or -EINVAL or -ENOENT with err, and it is good for nothing but
 * device_destroy(). Counts the sections it used. */
int device_load(struct device *dev, const char *id, const struct state_in *in, uint64_t away,
		unsigned *used, struct err *err);

/* -- For models -------------------------------------------------------------------- */

/* Finds and calls the registers; the device's lock is held. For windows that move
 * (BARs). */
uint64_t regs_read(const struct reg *regs, void *dev, uint64_t at, unsigned width);
void regs_write(const struct reg *regs, void *dev, uint64_t at, unsigned width,
		uint64_t value);

/* Nanoseconds: of a clock that never jumps, and since 1970 in UTC. Tests replace them.
 * */
struct dev_clock {
	uint64_t (*monotonic)(void *ctx);
	uint64_t (*realtime)(void *ctx);
	void *ctx;
};

uint64_t dev_monotonic(
	const struct dev_clock *clock); /* NULL members: the host's clock */
uint64_t dev_realtime(const struct dev_clock *clock);

/* -- The list of everything: models.c ---------------------------------------------- */

extern const struct device_model *const device_models[]; /* ends with NULL */

/* -- What they declare, for people: help.c ------------------------------------------- */

/* A line for each model: name, where it is, how many fields a saved machine has of it, summary. */
void device_list(FILE *to);

/* One of them: registers, and fields with their bounds. -ERANGE: there is none of that name. */
int device_describe(const char *name, FILE *to, struct err *err);

#endif
