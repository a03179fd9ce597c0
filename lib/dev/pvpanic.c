/* SPDX-License-Identifier: MIT */
/*
 * pvpanic, after docs/specs/pvpanic of QEMU: one byte of port space.
 *
 *	bit 0   the guest has panicked, and does nothing more on its own
 *	bit 1   it has panicked, and a crash kernel takes over
 *
 * A read says which bits are understood, a write says what has happened. Drivers find the port
 * by the ACPI device QEMU0001 (machine/tables/ssdt.c). The specification's bit 2, a shutdown in
 * order, is not offered: the ACPI block hears of that. There is a PCI form as well; it would take
 * one of the slots, and the drivers for both come in the same packages.
 */
#include "dev/pvpanic.h"

#define PANICKED     0x01u
#define CRASH_LOADED 0x02u

struct pvpanic {
	struct device dev;
	struct pvpanic_config config;
};

static uint64_t read_events(void *dev, unsigned at)
{
	(void)dev;
	(void)at;
	return PANICKED | CRASH_LOADED;
}

static void write_events(void *dev, unsigned at, uint64_t value)
{
	const struct pvpanic_config *c = &((struct pvpanic *)dev)->config;

	(void)at;
	if (c->panicked && value & PANICKED)
		c->panicked(c->ctx, false);
	else if (c->panicked && value & CRASH_LOADED)
		c->panicked(c->ctx, true);
}

static const struct reg regs[] = {
	{.at = 0, .width = 1, .name = "events", .read = read_events, .write = write_events},
	{0},
};

static const struct device_place places[] = {
	{BUS_PORT, 1, .regs = regs},
	{0},
};

static int init(struct device *dev, const void *config, struct err *err)
{
	(void)err;
	((struct pvpanic *)dev)->config = *(const struct pvpanic_config *)config;
	return 0;
}

static void reset(struct device *dev)
{
	(void)dev; /* it remembers nothing */
}

const struct device_model pvpanic_model = {
	.name = "pvpanic",
	.summary = "port by which a guest says that it panicked",
	.size = sizeof(struct pvpanic),
	.places = places,
	.init = init,
	.reset = reset,
};
