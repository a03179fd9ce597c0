/* SPDX-License-Identifier: MIT */
/*
 * A driver of an IDE controller, for tests: by ports alone.
 *
 *	ide_start();
 *	ide_task(cable, drive, lba, count);
 *	out(cable, 7, 0x20);                    // READ SECTORS
 *	ide_wait(cable);
 *	ide_in(cable, bytes, 512);
 */
#ifndef DEV_TESTS_IDE_H
#define DEV_TESTS_IDE_H

#include "dev/storage/ide.h"
#include "dev/tests/guest.h"

#include <sched.h>

#define IDE_SLOT 6u
#define IDE_TABLE(cable) (0x60000u + (cable) * 0x1000u)

static bool ide_line[2];

static inline void ide_set_line(void *ctx, unsigned gsi, bool level)
{
	(void)ctx;
	ide_line[gsi] = level;
}

/* A controller with these drives. */
static inline struct device *ide_make(const struct ide_drive drives[IDE_DRIVES])
{
	struct ide_config config = {.host = g_host, .mem = &g_mem, .slot = IDE_SLOT};

	for (unsigned i = 0; i < IDE_CABLES; i++)
		config.irq[i] = (struct irq_line){.set = ide_set_line, .gsi = i};
	memcpy(config.drives, drives, sizeof(config.drives));
	return device_create(&ide_model, g_bus, (uint64_t[]){0x1f0, 0x3f6, 0x170, 0x376}, &config, NULL);
}

static inline unsigned ide_port(unsigned cable, unsigned at)
{
	return (cable ? 0x170u : 0x1f0u) + at;
}

static inline unsigned ide_get(unsigned cable, unsigned at)
{
	return (unsigned)bus_read(g_bus, BUS_PORT, ide_port(cable, at), 1);
}

static inline void ide_put(unsigned cable, unsigned at, unsigned value)
{
	bus_write(g_bus, BUS_PORT, ide_port(cable, at), 1, value);
}

static inline void ide_control(unsigned cable, unsigned value)
{
	bus_write(g_bus, BUS_PORT, cable ? 0x376 : 0x3f6, 1, value);
}

static inline unsigned ide_alternate(unsigned cable)
{
	return (unsigned)bus_read(g_bus, BUS_PORT, cable ? 0x376 : 0x3f6, 1);
}

/* Not busy any more: its status. */
static inline unsigned ide_wait(unsigned cable)
{
	while (ide_alternate(cable) & 0x80)
		sched_yield();
	return ide_get(cable, 7);
}

static inline void ide_task(unsigned cable, unsigned drive, uint32_t lba, unsigned count)
{
	ide_put(cable, 6, 0xe0 | drive << 4 | lba >> 24);
	ide_put(cable, 1, 0);
	ide_put(cable, 2, count);
	ide_put(cable, 3, lba & 0xff);
	ide_put(cable, 4, lba >> 8 & 0xff);
	ide_put(cable, 5, lba >> 16 & 0xff);
}

/* Of 48 bits, and of a count of 16. */
static inline void ide_task_48(unsigned cable, unsigned drive, uint64_t lba, unsigned count)
{
	ide_task(cable, drive, (uint32_t)(lba >> 24) & 0xffffff, count >> 8);
	ide_task(cable, drive, (uint32_t)lba & 0xffffff, count & 0xff);
}

static inline void ide_in(unsigned cable, uint8_t *to, unsigned len)
{
	for (unsigned i = 0; i < len; i += 2)
		le16_put(to + i, (uint16_t)bus_read(g_bus, BUS_PORT, ide_port(cable, 0), 2));
}

static inline void ide_out(unsigned cable, const uint8_t *from, unsigned len)
{
	for (unsigned i = 0; i < len; i += 2)
		bus_write(g_bus, BUS_PORT, ide_port(cable, 0), 2, le16_get(from + i));
}

/* -- The bus master ---------------------------------------------------------------------- */

static inline unsigned ide_bm(unsigned cable, unsigned at)
{
	return (cfg_read(IDE_SLOT, 0x20, 4) & ~3u) + cable * 8 + at;
}

/* Entry i of a cable's table. */
static inline void ide_entry(unsigned cable, unsigned i, uint32_t at, unsigned len, bool last)
{
	uint8_t *e = g_ram + IDE_TABLE(cable) + (size_t)i * 8;

	le32_put(e, at);
	le16_put(e + 4, (uint16_t)len);
	le16_put(e + 6, last ? 0x8000 : 0);
}

static inline void ide_dma(unsigned cable, bool to_memory)
{
	bus_write(g_bus, BUS_PORT, ide_bm(cable, 4), 4, IDE_TABLE(cable));
	bus_write(g_bus, BUS_PORT, ide_bm(cable, 2), 1, 6);
	bus_write(g_bus, BUS_PORT, ide_bm(cable, 0), 1, to_memory ? 9 : 1);
}

static inline unsigned ide_bm_status(unsigned cable)
{
	return (unsigned)bus_read(g_bus, BUS_PORT, ide_bm(cable, 2), 1);
}

static inline void ide_stop(unsigned cable)
{
	bus_write(g_bus, BUS_PORT, ide_bm(cable, 0), 1, 0);
}

static inline void ide_start(void)
{
	cfg_write(IDE_SLOT, 4, 2, 5);
}

#endif
