/* SPDX-License-Identifier: MIT */
/*
 * One port of bytes that firmware says of itself. A read is 0xe9 if somebody listens; SeaBIOS and OVMF look, and are silent
 * otherwise.
 *
 * What comes is put into the file by lines, or by LINE bytes without an end, so that a guest that writes for ever costs no more
 * calls than lines, and `to` is written by whole lines between those of others.
 */
#include "dev/debugcon.h"

#define PRESENT 0xe9
#define LINE    256

struct debugcon {
	struct device dev;
	struct debugcon_config config;
	unsigned n;
	char line[LINE];
};

static uint64_t read_present(void *dev, unsigned at)
{
	(void)at;
	return ((struct debugcon *)dev)->config.to ? PRESENT : 0xff;
}

static void put_line(struct debugcon *d)
{
	fwrite(d->line, 1, d->n, d->config.to);
	fflush(d->config.to);
	d->n = 0;
}

static void write_byte(void *dev, unsigned at, uint64_t value)
{
	struct debugcon *d = dev;

	(void)at;
	if (!d->config.to)
		return;
	d->line[d->n++] = (char)value;
	if (d->n == LINE || (char)value == '\n')
		put_line(d);
}

static const struct reg regs[] = {
	{.at = 0, .width = 1, .name = "byte", .read = read_present, .write = write_byte},
	{0},
};

static const struct device_place places[] = {
	{BUS_PORT, 1, .regs = regs},
	{0},
};

static int init(struct device *dev, const void *config, struct err *err)
{
	(void)err;
	((struct debugcon *)dev)->config = *(const struct debugcon_config *)config;
	return 0;
}

/* At the end, too. */
static void reset(struct device *dev)
{
	struct debugcon *d = (struct debugcon *)dev;

	if (d->n)
		put_line(d);
}

const struct device_model debugcon_model = {
	.name = "debugcon",
	.summary = "port 0x402: what firmware says of itself",
	.option = "--firmware",
	.size = sizeof(struct debugcon),
	.places = places,
	.init = init,
	.reset = reset,
	.fini = reset,
};
