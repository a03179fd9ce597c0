/* SPDX-License-Identifier: MIT */
/*
 * A driver of a SATA controller, for tests: one command at a time, in a table of its own in guest RAM.
 *
 *	sata_start(slot, port);
 *	sata_put_command(port, tag, 0x25, lba, count, address, len);
 *	sata_issue(slot, port, tag);
 *	... reads PxTFD, PxIS
 */
#ifndef DEV_TESTS_SATA_H
#define DEV_TESTS_SATA_H

#include "dev/tests/guest.h"

#include <sched.h>

#define SATA_BAR 5u

enum { P_CLB = 0x00, P_FB = 0x08, P_IS = 0x10, P_IE = 0x14, P_CMD = 0x18, P_TFD = 0x20, P_SIG = 0x24, P_SSTS = 0x28, P_SCTL = 0x2c,
       P_SERR = 0x30, P_SACT = 0x34, P_CI = 0x38 };

/* Where the driver has a port's list, answers, and tables. */
#define SATA_LIST(port)       (0x40000u + (port) * 0x4000u)
#define SATA_FIS(port)        (SATA_LIST(port) + 0x400u)
#define SATA_TABLE(port, tag) (SATA_LIST(port) + 0x1000u + (tag) * 0x100u)

static inline uint32_t port_in(unsigned slot, unsigned port, unsigned at)
{
	return (uint32_t)bar_in(slot, SATA_BAR, 0x100 + port * 0x80 + at, 4);
}

static inline void port_out(unsigned slot, unsigned port, unsigned at, uint32_t value)
{
	bar_out(slot, SATA_BAR, 0x100 + port * 0x80 + at, 4, value);
}

static inline void sata_start(unsigned slot, unsigned port)
{
	cfg_write(slot, 4, 2, 6);
	port_out(slot, port, P_CMD, 0);
	while (port_in(slot, port, P_CMD) & 0x8000)
		sched_yield();
	port_out(slot, port, P_CLB, SATA_LIST(port));
	port_out(slot, port, P_CLB + 4, 0);
	port_out(slot, port, P_FB, SATA_FIS(port));
	port_out(slot, port, P_FB + 4, 0);
	port_out(slot, port, P_SERR, UINT32_MAX);
	port_out(slot, port, P_IS, UINT32_MAX);
	port_out(slot, port, P_IE, UINT32_MAX);
	port_out(slot, port, P_CMD, 0x11);
	bar_out(slot, SATA_BAR, 4, 4, 0x80000002);
}

/* A region of memory: number i of the table. */
static inline void sata_put_region(unsigned port, unsigned tag, unsigned i, uint64_t at, uint32_t len)
{
	uint8_t *r = g_ram + SATA_TABLE(port, tag) + 0x80 + (size_t)i * 16;

	le64_put(r, at);
	le32_put(r + 8, 0);
	le32_put(r + 12, len - 1);
}

/* The command, with one region, if len is not 0. */
static inline uint8_t *sata_put_command(unsigned port, unsigned tag, uint8_t command, uint64_t lba, unsigned count, uint64_t at,
					uint32_t len)
{
	uint8_t *h = g_ram + SATA_LIST(port) + (size_t)tag * 32, *t = g_ram + SATA_TABLE(port, tag);

	memset(t, 0, 0x80);
	memset(h, 0, 32);
	le16_put(h, 5);
	le16_put(h + 2, len != 0);
	le64_put(h + 8, SATA_TABLE(port, tag));
	t[0] = 0x27;
	t[1] = 0x80;
	t[2] = command;
	t[7] = 0x40;
	le32_put(t + 4, (uint32_t)lba & 0xffffff);
	t[7] = 0x40;
	le32_put(t + 8, (uint32_t)(lba >> 24) & 0xffffff);
	le16_put(t + 12, (uint16_t)count);
	if (len)
		sata_put_region(port, tag, 0, at, len);
	return t;
}

/* A queued one. */
static inline void sata_put_queued(unsigned port, unsigned tag, bool writes, uint64_t lba, unsigned count, uint64_t at)
{
	uint8_t *t = sata_put_command(port, tag, writes ? 0x61 : 0x60, lba, tag << 3, at, count * 512);

	t[3] = (uint8_t)count;
	t[11] = (uint8_t)(count >> 8);
}

/* An ATAPI one. */
static inline uint8_t *sata_put_packet(unsigned port, unsigned tag, uint8_t command, uint64_t at, uint32_t len)
{
	uint8_t *t = sata_put_command(port, tag, 0xa0, 0, 0, at, len);

	g_ram[SATA_LIST(port) + tag * 32] |= 0x20;
	t[3] = 1; /* DMA */
	t[0x40] = command;
	return t + 0x40;
}

static inline void sata_issue(unsigned slot, unsigned port, unsigned tag)
{
	port_out(slot, port, P_CI, 1u << tag);
}

/* Until it has ended, or the port has halted. */
static inline void sata_wait(unsigned slot, unsigned port, unsigned tag)
{
	while ((port_in(slot, port, P_CI) | port_in(slot, port, P_SACT)) >> tag & 1 && !(port_in(slot, port, P_IS) & 0x60000000))
		sched_yield();
}

static inline uint32_t sata_do(unsigned slot, unsigned port, unsigned tag)
{
	port_out(slot, port, P_IS, UINT32_MAX);
	sata_issue(slot, port, tag);
	sata_wait(slot, port, tag);
	return port_in(slot, port, P_TFD);
}

#endif
