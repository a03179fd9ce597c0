/* SPDX-License-Identifier: MIT */
/* The ports of the IDE controller: a command's, the same for each cable, and the bus master's. See ide.c. */
#include "dev/storage/ide_private.h"

/* -- Registers of a command --------------------------------------------------------------------------- */

static uint64_t read_data(struct cable *c, unsigned width)
{
	struct transfer *t = &c->t;
	uint64_t value = 0;

	if (t->phase != IN || active(c) != selected(c))
		return 0;
	for (unsigned i = 0; i < width && t->at < t->stop; i++)
		value |= (uint64_t)t->bytes[t->at++] << i * 8; /* SAFE: stop is at most the buffer's end */
	if (t->at == t->stop)
		ide_was_read(c);
	return value;
}

static void write_data(struct cable *c, unsigned width, uint64_t value)
{
	struct transfer *t = &c->t;

	if ((t->phase != OUT && t->phase != PACKET) || active(c) != selected(c))
		return;
	for (unsigned i = 0; i < width && t->at < t->stop; i++)
		t->bytes[t->at++] = (uint8_t)(value >> i * 8); /* SAFE: as above */
	if (t->at < t->stop)
		return;
	if (t->phase == PACKET)
		ide_begin_packet(c);
	else
		ide_was_written(c);
}

static uint8_t status(struct cable *c)
{
	return ide_is_busy(c) ? ATA_BUSY : selected(c)->status;
}

/* Of a drive that is not there all is 0. */
static uint64_t read_task(struct cable *c, unsigned at)
{
	struct drive *d = selected(c);

	if (!d->plugged)
		return 0;
	switch (at) {
	case 1:
		return d->error;
	case 6:
		return c->device;
	case 7:
		if (!ide_is_busy(c)) {
			d->irq = false;
			ide_update_line(c);
		}
		return status(c);
	default:
		return c->control & CONTROL_UPPER ? d->before[at] : d->now[at];
	}
}

static void write_task(struct cable *c, unsigned at, uint8_t value)
{
	if (ide_is_busy(c))
		return;
	c->control &= (uint8_t)~CONTROL_UPPER;
	if (at == 7) {
		ide_begin(c, value);
	} else if (at == 6) {
		c->device = value;
		ide_update_line(c);
	} else {
		for (unsigned i = 0; i < 2; i++) {
			c->drives[i].before[at] = c->drives[i].now[at];
			c->drives[i].now[at] = value;
		}
	}
}

static uint64_t read_alternate(struct cable *c)
{
	return selected(c)->plugged ? status(c) : 0;
}

static void write_control(struct cable *c, uint8_t value)
{
	uint8_t before = c->control;

	c->control = value & (CONTROL_NO_IRQ | CONTROL_RESET | CONTROL_UPPER);
	if (c->control & CONTROL_RESET)
		ide_start_reset(c);
	else if (before & CONTROL_RESET)
		ide_finish_reset(c);
	ide_update_line(c);
}

/* The same for each cable: a handler knows its device, and no more. */
#define HANDLERS(n)                                                                        \
	static uint64_t read_data16_##n(void *dev, unsigned at)                            \
	{                                                                                  \
		(void)at;                                                                  \
		return read_data(CABLE(dev, n), 2);                                        \
	}                                                                                  \
	static void write_data16_##n(void *dev, unsigned at, uint64_t value)               \
	{                                                                                  \
		(void)at;                                                                  \
		write_data(CABLE(dev, n), 2, value);                                       \
	}                                                                                  \
	static uint64_t read_data32_##n(void *dev, unsigned at)                            \
	{                                                                                  \
		(void)at;                                                                  \
		return read_data(CABLE(dev, n), 4);                                        \
	}                                                                                  \
	static void write_data32_##n(void *dev, unsigned at, uint64_t value)               \
	{                                                                                  \
		(void)at;                                                                  \
		write_data(CABLE(dev, n), 4, value);                                       \
	}                                                                                  \
	static uint64_t read_task_##n(void *dev, unsigned at)                              \
	{                                                                                  \
		return read_task(CABLE(dev, n), at);                                       \
	}                                                                                  \
	static void write_task_##n(void *dev, unsigned at, uint64_t value)                 \
	{                                                                                  \
		write_task(CABLE(dev, n), at, (uint8_t)value);                             \
	}                                                                                  \
	static uint64_t read_alternate_##n(void *dev, unsigned at)                         \
	{                                                                                  \
		(void)at;                                                                  \
		return read_alternate(CABLE(dev, n));                                      \
	}                                                                                  \
	static void write_control_##n(void *dev, unsigned at, uint64_t value)              \
	{                                                                                  \
		(void)at;                                                                  \
		write_control(CABLE(dev, n), (uint8_t)value);                              \
	}                                                                                  \
	const struct reg ide_task_##n[] = {                                             \
		{.at = 0, .width = 2, .name = "DATA", .read = read_data16_##n, .write = write_data16_##n}, \
		{.at = 1, .width = 1, .name = "ERROR, FEATURES", .read = read_task_##n, .write = write_task_##n}, \
		{.at = 2, .width = 1, .name = "COUNT", .read = read_task_##n, .write = write_task_##n}, \
		{.at = 3, .width = 1, .count = 3, .name = "LBA, low to high", .read = read_task_##n, .write = write_task_##n}, \
		{.at = 6, .width = 1, .name = "DEVICE", .read = read_task_##n, .write = write_task_##n}, \
		{.at = 7, .width = 1, .name = "STATUS, COMMAND", .read = read_task_##n, .write = write_task_##n}, \
		{.at = 0, .width = 4, .name = "DATA, two words", .read = read_data32_##n, .write = write_data32_##n}, \
		{0},                                                                       \
	};                                                                                 \
	const struct reg ide_control_##n[] = {                                          \
		{.at = 0, .width = 1, .name = "ALTERNATE STATUS, CONTROL", .read = read_alternate_##n, .write = write_control_##n}, \
		{0},                                                                       \
	}

HANDLERS(0);
HANDLERS(1);

/* -- Registers of the bus master ----------------------------------------------------------------------- */

static uint64_t read_bm_command(void *dev, unsigned at)
{
	return CABLE(dev, at / 8)->bm_command;
}

/* What has begun ends; ACTIVE says when. */
static void write_bm_command(void *dev, unsigned at, uint64_t value)
{
	struct cable *c = CABLE(dev, at / 8);
	bool starts = value & BM_START && !(c->bm_command & BM_START);

	c->bm_command = (uint8_t)value & BM_KEPT;
	if (starts) {
		c->bm_status |= BM_ACTIVE;
		ide_run_dma_if_ready(c);
	} else if (!(value & BM_START) && !c->under_way) {
		c->bm_status &= (uint8_t)~BM_ACTIVE;
	}
}

static uint64_t read_bm_status(void *dev, unsigned at)
{
	return CABLE(dev, at / 8)->bm_status;
}

static void write_bm_status(void *dev, unsigned at, uint64_t value)
{
	struct cable *c = CABLE(dev, at / 8);

	c->bm_status &= (uint8_t)~(value & (BM_ERROR | BM_IRQ));
	c->bm_status = (uint8_t)((c->bm_status & ~BM_DMA) | (value & BM_DMA));
}

static uint64_t read_table(void *dev, unsigned at)
{
	return CABLE(dev, at / 8)->table;
}

static void write_table(void *dev, unsigned at, uint64_t value)
{
	CABLE(dev, at / 8)->table = (uint32_t)value & ~3u;
}

const struct reg ide_bus_master[] = {
	{.at = 0x0, .width = 1, .name = "BMICOM, primary", .read = read_bm_command, .write = write_bm_command},
	{.at = 0x2, .width = 1, .name = "BMISTA, primary", .read = read_bm_status, .write = write_bm_status},
	{.at = 0x4, .width = 4, .name = "BMIDTP, primary", .read = read_table, .write = write_table},
	{.at = 0x8, .width = 1, .name = "BMICOM, secondary", .read = read_bm_command, .write = write_bm_command},
	{.at = 0xa, .width = 1, .name = "BMISTA, secondary", .read = read_bm_status, .write = write_bm_status},
	{.at = 0xc, .width = 4, .name = "BMIDTP, secondary", .read = read_table, .write = write_table},
	{0},
};
