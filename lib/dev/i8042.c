/* SPDX-License-Identifier: MIT */
/*
 * The keyboard controller (Intel 8042) with nothing plugged in, at ports 0x60 and 0x64.
 *
 * What is left of it on a machine without a keyboard is its output port: bit 0 is the
 * CPU's reset line, and writing command 0xfe pulses it. That is how a PC reboots when
 * all else fails. Software also asks it to test itself, so it answers: the controller
 * is well, both ports are there, and nobody presses a key.
 *
 * The board's FADT says that there is no 8042, so ACPI systems do not look for one.
 */
#include "dev/i8042.h"

#include "state/state.h"

#define STATUS_FULL   0x01u /* a byte waits at 0x60 */
#define STATUS_SYSTEM 0x04u /* self-test passed */
#define STATUS_KEYLOCK 0x10u /* not locked */

#define OUT_RUN 0x01u /* the output port's bit 0: 0 resets the CPU */
#define OUT_A20 0x02u

struct i8042 {
	struct device dev;
	struct i8042_config config;
	uint8_t mode;    /* the command byte */
	uint8_t answer;  /* what 0x60 reads */
	bool full;       /* it was not read yet */
	uint8_t pending; /* the command that waits for a byte at 0x60; 0: none */
};

static void reply(struct i8042 *kbc, uint8_t byte)
{
	kbc->answer = byte;
	kbc->full = true;
}

static uint64_t read_data(void *dev, unsigned at)
{
	struct i8042 *kbc = dev;

	(void)at;
	kbc->full = false;
	return kbc->answer;
}

static void write_data(void *dev, unsigned at, uint64_t value)
{
	struct i8042 *kbc = dev;
	uint8_t command = kbc->pending;

	(void)at;
	kbc->pending = 0;
	if (command == 0x60)
		kbc->mode = (uint8_t)value;
	else if (command == 0xd1 && !(value & OUT_RUN))
		power_ask(&kbc->config.power, POWER_RESET, "i8042");
}

static uint64_t read_status(void *dev, unsigned at)
{
	struct i8042 *kbc = dev;

	(void)at;
	return STATUS_SYSTEM | STATUS_KEYLOCK | (kbc->full ? STATUS_FULL : 0);
}

static void write_command(void *dev, unsigned at, uint64_t value)
{
	struct i8042 *kbc = dev;

	(void)at;
	kbc->pending = 0;
	switch (value) {
	case 0x20: /* read the command byte */
		reply(kbc, kbc->mode);
		break;
	case 0x60: /* write it */
	case 0xd1: /* write the output port */
	case 0xd2: /* a byte as if from the keyboard, from the mouse, to the mouse: lost */
	case 0xd3:
	case 0xd4:
		kbc->pending = (uint8_t)value;
		break;
	case 0xaa: /* test the controller */
		reply(kbc, 0x55);
		break;
	case 0xa9: /* test the ports */
	case 0xab:
		reply(kbc, 0);
		break;
	case 0xd0: /* read the output port */
		reply(kbc, OUT_RUN | OUT_A20);
		break;
	case 0xfe: /* pulse the reset line */
		power_ask(&kbc->config.power, POWER_RESET, "i8042");
		break;
	}
}

static const struct reg data_regs[] = {
	{.at = 0, .width = 1, .name = "data", .read = read_data, .write = write_data},
	{0},
};

static const struct reg command_regs[] = {
	{.at = 0, .width = 1, .name = "status", .read = read_status, .write = write_command},
	{0},
};

static const struct device_place places[] = {
	{BUS_PORT, 1, .regs = data_regs},
	{BUS_PORT, 1, .regs = command_regs},
	{0},
};

static int init(struct device *dev, const void *config, struct err *err)
{
	(void)err;
	((struct i8042 *)dev)->config = *(const struct i8042_config *)config;
	return 0;
}

static void reset(struct device *dev)
{
	struct i8042 *kbc = (struct i8042 *)dev;

	kbc->mode = 0;
	kbc->full = false;
	kbc->pending = 0;
}

static const struct state_field fields[] = {
	STATE(struct i8042, mode),
	STATE(struct i8042, answer),
	STATE(struct i8042, full),
	STATE(struct i8042, pending),
	{0},
};

static const struct state_table table = {.name = "controller", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model i8042_model = {
	.name = "i8042",
	.summary = "keyboard controller without a keyboard",
	.size = sizeof(struct i8042),
	.places = places,
	.state = state,
	.init = init,
	.reset = reset,
};
