/* SPDX-License-Identifier: MIT */
/*
 * A NOR flash chip of 8 bits, as far as firmware uses one for its variables:
 *
 *	write  10 or 40, then a byte   programs it: bits can become 0
 *	       20, then d0             erases the block: all bits are 1
 *	       50                      clears the status, and reads are the array's again
 *	       70                      reads are the status: 80 ready, 20 erase and 10 program have failed
 *	       90                      reads are the maker (89) and the device (18)
 *	       ff                      reads are the array's
 *
 * While reads are the array's the guest has the bytes as read-only memory, and only writes come here; otherwise it has no memory
 * there. A cleared status reads as 0, not as ready: OVMF finds the chip by that, for QEMU's does so. Nothing takes time.
 *
 * The bytes are the guest's memory, and saved with it. What changes of them is written to the file, too, a moment later and by the
 * loop; and what has not been when the machine ends, then.
 */
#include "dev/flash.h"

#include "base/err.h"
#include "base/log.h"
#include "base/scoped.h"
#include "loop/loop.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum command {
	READ_ARRAY = 0xff, READ_STATUS = 0x70, READ_ID = 0x90, CLEAR_STATUS = 0x50, PROGRAM = 0x10, PROGRAM_TOO = 0x40, ERASE = 0x20,
	CONFIRM = 0xd0,
};

#define STATUS_READY        0x80u
#define STATUS_NOT_ERASED   0x20u
#define STATUS_NOT_PROGRAMS 0x10u

#define ID_MAKER  0x89
#define ID_DEVICE 0x18

struct flash {
	struct device dev;
	struct flash_config config;
	struct loop_timer writer;
	uint32_t dirty, dirty_end; /* bytes that the file does not have; equal: it has all */
	bool complained;
	uint8_t mode;    /* what reads are: READ_ARRAY, READ_STATUS or READ_ID */
	uint8_t pending; /* the command whose second write is to come; 0: none */
	uint8_t status;
};

/* -- The file --------------------------------------------------------------------------- */

static void note(struct flash *f, uint32_t at, uint32_t len)
{
	if (f->config.wrote)
		f->config.wrote(f->config.ctx, at, len);
	if (f->config.fd < 0)
		return;
	if (f->dirty == f->dirty_end)
		f->dirty = at, f->dirty_end = at + len;
	if (at < f->dirty)
		f->dirty = at;
	if (at + len > f->dirty_end)
		f->dirty_end = at + len;
	loop_call(&f->writer);
}

/* What cannot be written now is tried again with the next change, and at the end; the first time somebody hears of it. */
static void write_file(struct flash *f)
{
	uint32_t len = f->dirty_end - f->dirty;
	ssize_t n = len ? pwrite(f->config.fd, f->config.bytes + f->dirty, len, (off_t)f->dirty) : 0;

	if (n == (ssize_t)len) {
		f->dirty = f->dirty_end = 0;
		return;
	}
	if (!f->complained)
		log_warn("firmware", "its variables have changed, and cannot be written to their file: %s; with each change that is tried again",
			 strerror(n < 0 ? errno : ENOSPC));
	f->complained = true;
}

static void fire(void *ctx)
{
	struct flash *f = ctx;

	scoped_lock(&f->dev.lock);
	write_file(f);
}

/* -- Commands --------------------------------------------------------------------------- */

static void set_mode(struct flash *f, uint8_t mode)
{
	bool was = f->mode == READ_ARRAY, is = mode == READ_ARRAY;

	f->mode = mode;
	if (was != is)
		f->config.show(f->config.ctx, is);
}

/* The second write of a command. */
static void finish(struct flash *f, uint32_t at, uint8_t value)
{
	uint8_t command = f->pending;

	f->pending = 0;
	if (command == ERASE && value != CONFIRM) {
		f->status |= STATUS_NOT_ERASED | STATUS_NOT_PROGRAMS;
	} else if (command == ERASE) {
		at &= ~(FLASH_BLOCK - 1);
		memset(f->config.bytes + at, 0xff, FLASH_BLOCK);
		note(f, at, FLASH_BLOCK);
	} else {
		f->config.bytes[at] &= value;
		note(f, at, 1);
	}
	f->status |= STATUS_READY;
	set_mode(f, READ_STATUS);
}

static void begin(struct flash *f, uint8_t command)
{
	switch (command) {
	case PROGRAM:
	case PROGRAM_TOO:
	case ERASE:
		f->pending = command;
		set_mode(f, READ_STATUS);
		return;
	case READ_STATUS:
	case READ_ID:
		set_mode(f, command);
		return;
	case CLEAR_STATUS:
		f->status = 0;
		break;
	}
	set_mode(f, READ_ARRAY); /* what is no command, too */
}

static uint64_t read_byte(void *dev, uint64_t at, unsigned width)
{
	const struct flash *f = dev;
	uint64_t value = 0;

	for (unsigned i = 0; i < width && at + i < FLASH_SIZE; i++) {
		uint8_t byte = f->status;

		if (f->mode == READ_ARRAY)
			byte = f->config.bytes[at + i];
		else if (f->mode == READ_ID)
			byte = at + i == 0 ? ID_MAKER : at + i == 1 ? ID_DEVICE : 0;
		value |= (uint64_t)byte << (i * 8);
	}
	return value;
}

/* A wider write is as many bytes, the lowest address first. */
static void write_byte(void *dev, uint64_t at, unsigned width, uint64_t value)
{
	struct flash *f = dev;

	for (unsigned i = 0; i < width && at + i < FLASH_SIZE; i++) {
		uint8_t byte = (uint8_t)(value >> (i * 8));

		if (f->pending)
			finish(f, (uint32_t)at + i, byte);
		else
			begin(f, byte);
	}
}

/* -- The model -------------------------------------------------------------------------- */

static const struct device_place places[] = {
	{BUS_MMIO, FLASH_SIZE, .read = read_byte, .write = write_byte},
	{0},
};

static int init(struct device *dev, const void *config, struct err *err)
{
	struct flash *f = (struct flash *)dev;

	(void)err;
	f->config = *(const struct flash_config *)config;
	f->mode = READ_ARRAY;
	if (f->config.fd >= 0)
		loop_timer_init(&f->writer, f->config.loop, fire, f);
	return 0;
}

static void fini(struct device *dev)
{
	struct flash *f = (struct flash *)dev;

	loop_timer_fini(&f->writer);
	if (f->config.fd >= 0)
		write_file(f);
}

/* The bytes stay. */
static void reset(struct device *dev)
{
	struct flash *f = (struct flash *)dev;

	f->pending = f->status = 0;
	set_mode(f, READ_ARRAY);
}

static int loaded(struct device *dev, uint64_t away, struct err *err)
{
	struct flash *f = (struct flash *)dev;
	uint8_t mode = f->mode;

	(void)away;
	if ((mode != READ_ARRAY && mode != READ_STATUS && mode != READ_ID) ||
	    (f->pending && f->pending != PROGRAM && f->pending != PROGRAM_TOO && f->pending != ERASE))
		return err_set(err, EINVAL, "a flash chip with mode %#x and command %#x", mode, f->pending);
	f->mode = READ_ARRAY;
	set_mode(f, mode);
	note(f, 0, FLASH_SIZE);
	return 0;
}

static const struct state_field fields[] = {
	STATE(struct flash, mode),
	STATE(struct flash, pending),
	STATE(struct flash, status),
	{0},
};

static const struct state_table table = {.name = "flash", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model flash_model = {
	.name = "flash",
	.summary = "flash chip for firmware's variables",
	.option = "--firmware",
	.size = sizeof(struct flash),
	.places = places,
	.state = state,
	.init = init,
	.reset = reset,
	.fini = fini,
	.loaded = loaded,
};
