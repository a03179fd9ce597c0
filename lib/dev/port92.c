/* SPDX-License-Identifier: MIT */
/*
 * System control port A (0x92), which IBM's PS/2 brought: bit 1 is the A20 gate, and a
 * change of bit 0 from 0 to 1 resets the CPU at once. The gate can be written and read
 * back, but address line 20 is always on: no system of this century wants it off.
 */
#include "dev/port92.h"

#include "state/state.h"

#define FAST_RESET 0x01u
#define A20        0x02u

struct port92 {
	struct device dev;
	struct port92_config config;
	uint8_t value;
};

static uint64_t read_control(void *dev, unsigned at)
{
	(void)at;
	return ((struct port92 *)dev)->value;
}

static void write_control(void *dev, unsigned at, uint64_t value)
{
	struct port92 *port = dev;
	bool reset = value & ~(unsigned)port->value & FAST_RESET;

	(void)at;
	port->value = value & (FAST_RESET | A20);
	if (reset)
		power_ask(&port->config.power, POWER_RESET, "port 0x92");
}

static const struct reg regs[] = {
	{.at = 0, .width = 1, .name = "control", .read = read_control, .write = write_control},
	{0},
};

static const struct device_place places[] = {
	{BUS_PORT, 1, .regs = regs},
	{0},
};

static int init(struct device *dev, const void *config, struct err *err)
{
	(void)err;
	((struct port92 *)dev)->config = *(const struct port92_config *)config;
	return 0;
}

static void reset(struct device *dev)
{
	((struct port92 *)dev)->value = A20;
}

static const struct state_field fields[] = {
	STATE(struct port92, value),
	{0},
};

static const struct state_table table = {.name = "control", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model port92_model = {
	.name = "port92",
	.summary = "system control port A: fast reset",
	.size = sizeof(struct port92),
	.places = places,
	.state = state,
	.init = init,
	.reset = reset,
};
