/* SPDX-License-Identifier: MIT */
/*
 * A guest for tests of PCI and virtio devices: RAM, a host bridge, and a driver that
 * does what drivers do, by port and memory accesses alone. With it a test can play an
 * honest guest in one line and a lying one in two.
 */
#ifndef DEV_TESTS_GUEST_H
#define DEV_TESTS_GUEST_H

#include "base/bytes.h"
#include "base/err.h"
#include "dev/pci/function.h"
#include "dev/pci/pci.h"
#include "dev/virtio/devices.h"

#include <string.h>

#define RAM_SIZE  0x100000u
#define ECAM_BASE 0xe0000000u
#define MEM_BASE  0xc0000000u

/* Where the driver puts queue n of size 16 or less: descriptors, avail, used; and free
 * RAM. */
#define DESC(n)  (0x1000u + (n) * 0x1000u)
#define AVAIL(n) (DESC(n) + 0x400)
#define USED(n)  (DESC(n) + 0x800)
#define FREE_RAM 0x10000u

#define F_NEXT     1u
#define F_WRITE    2u
#define F_INDIRECT 4u

static uint8_t g_ram[RAM_SIZE];
static struct guest_mem g_mem;
static struct bus *g_bus;
static struct device *g_host;
static bool g_intx[PCI_INTX];
static unsigned g_messages;
static uint64_t g_msi_addr;
static uint32_t g_msi_data;
static unsigned g_resets;

static inline void g_set_intx(void *ctx, unsigned gsi, bool level)
{
	(void)ctx;
	g_intx[gsi] = level;
}

static inline void g_send_msi(void *ctx, uint64_t addr, uint32_t data)
{
	(void)ctx;
	g_msi_addr = addr;
	g_msi_data = data;
	__atomic_fetch_add(&g_messages, 1, __ATOMIC_SEQ_CST);
}

static inline void g_ask(void *ctx, enum power_wish wish, const char *who)
{
	(void)ctx;
	(void)who;
	g_resets += wish == POWER_RESET;
}

static inline void g_start(void)
{
	struct pci_host_config config = {
		.io_base = 0xc000, .io_size = 0x4000, .mem_base = MEM_BASE, .mem_size = 0x10000000,
		.msi = {.send = g_send_msi}, .power = {.ask = g_ask},
	};

	for (unsigned i = 0; i < PCI_INTX; i++)
		config.intx[i] = (struct irq_line){.set = g_set_intx, .gsi = i};
	g_bus = bus_create();
	g_mem = (struct guest_mem){0};
	guest_mem_add(&g_mem, &(struct guest_region){.size = RAM_SIZE, .host = g_ram},
		      NULL);
	g_host = device_create(&pci_host_model, g_bus, (uint64_t[]){0xcf8, 0xcfc, ECAM_BASE}, &config, NULL);
}

static inline void g_stop(void)
{
	device_destroy(g_host);
	bus_destroy(g_bus);
}

/* -- Accesses ---------------------------------------------------------------------- */

static inline uint32_t cfg_read(unsigned slot, unsigned at, unsigned width)
{
	return (uint32_t)bus_read(g_bus, BUS_MMIO, ECAM_BASE + slot * 0x8000 + at,
				  width);
}

static inline void cfg_write(unsigned slot, unsigned at, unsigned width, uint32_t value)
{
	bus_write(g_bus, BUS_MMIO, ECAM_BASE + slot * 0x8000 + at, width, value);
}

static inline uint64_t bar_in(unsigned slot, unsigned bar, unsigned at, unsigned width)
{
	uint64_t base = cfg_read(slot, 0x10 + bar * 4, 4) & ~0xfu;

	return bus_read(g_bus, BUS_MMIO, base + at, width);
}

static inline void bar_out(unsigned slot, unsigned bar, unsigned at, unsigned width,
			   uint64_t value)
{
	uint64_t base = cfg_read(slot, 0x10 + bar * 4, 4) & ~0xfu;

	bus_write(g_bus, BUS_MMIO, base + at, width, value);
}

/* The offset of the first capability with this id, or of a virtio one of this type; 0.
 * */
static inline unsigned find_cap(unsigned slot, unsigned id, unsigned type)
{
	unsigned at = cfg_read(slot, 0x34, 1);

	while (at && (cfg_read(slot, at, 1) != id ||
		      (type && cfg_read(slot, at + 3, 1) != type)))
		at = cfg_read(slot, at + 1, 1);
	return at;
}

/* -- The driver -------------------------------------------------------------------- */

#define STATUS 0x14u

static inline uint64_t offered(unsigned slot)
{
	uint64_t low, high;

	bar_out(slot, 0, 0, 4, 0);
	low = bar_in(slot, 0, 4, 4);
	bar_out(slot, 0, 0, 4, 1);
	high = bar_in(slot, 0, 4, 4);
	return high << 32 | low;
}

static inline void accept_features(unsigned slot, uint64_t features)
{
	bar_out(slot, 0, 8, 4, 0);
	bar_out(slot, 0, 12, 4, (uint32_t)features);
	bar_out(slot, 0, 8, 4, 1);
	bar_out(slot, 0, 12, 4, features >> 32);
}

static inline void set_queue(unsigned slot, unsigned n, unsigned size)
{
	memset(g_ram + DESC(n), 0, 0x1000);
	bar_out(slot, 0, 0x16, 2, n);
	bar_out(slot, 0, 0x18, 2, size);
	bar_out(slot, 0, 0x1a, 2, n + 1); /* vector */
	bar_out(slot, 0, 0x20, 8, DESC(n));
	bar_out(slot, 0, 0x28, 8, AVAIL(n));
	bar_out(slot, 0, 0x30, 8, USED(n));
	bar_out(slot, 0, 0x1c, 2, 1);
}

static inline void set_msix(unsigned slot)
{
	unsigned cap = find_cap(slot, PCI_CAP_MSIX, 0);

	unsigned last = cfg_read(slot, cap + 2, 2) & 0x7ff;

	for (unsigned v = 0; v <= last; v++) {
		bar_out(slot, 1, v * 16, 8, 0xfee00000);
		bar_out(slot, 1, v * 16 + 8, 4, 0x40 + v);
		bar_out(slot, 1, v * 16 + 12, 4, 0);
	}
	cfg_write(slot, cap + 2, 2, 0x8000);
}

/* Brings a device up as Linux does, with these of the features it offers. */
static inline bool drive(unsigned slot, uint64_t features, unsigned queues,
			 unsigned size)
{
	cfg_write(slot, 4, 2, 6);
	bar_out(slot, 0, STATUS, 1, 0);
	while (bar_in(slot, 0, STATUS, 1))
		;
	set_msix(slot);
	bar_out(slot, 0, STATUS, 1, 1);
	bar_out(slot, 0, STATUS, 1, 3);
	accept_features(slot, offered(slot) & (features | UINT64_C(1) << 32));
	bar_out(slot, 0, STATUS, 1, 11);
	if (bar_in(slot, 0, STATUS, 1) != 11)
		return false;
	for (unsigned n = 0; n < queues; n++)
		set_queue(slot, n, size);
	bar_out(slot, 0, STATUS, 1, 15);
	return bar_in(slot, 0, STATUS, 1) == 15;
}

static inline void put_desc_at(unsigned at, uint64_t addr, uint32_t len, unsigned flags,
			       unsigned next)
{
	le64_put(g_ram + at, addr);
	le32_put(g_ram + at + 8, len);
	le16_put(g_ram + at + 12, (uint16_t)flags);
	le16_put(g_ram + at + 14, (uint16_t)next);
}

static inline void put_desc(unsigned n, unsigned i, uint64_t addr, uint32_t len,
			    unsigned flags, unsigned next)
{
	put_desc_at(DESC(n) + i * 16, addr, len, flags, next);
}

/* Makes a chain available. */
static inline void offer(unsigned n, unsigned size, unsigned head)
{
	uint16_t idx = le16_get(g_ram + AVAIL(n) + 2);

	le16_put(g_ram + AVAIL(n) + 4 + idx % size * 2, (uint16_t)head);
	__atomic_store_n((uint16_t *)(void *)(g_ram + AVAIL(n) + 2),
			 (uint16_t)(idx + 1), __ATOMIC_SEQ_CST);
}

static inline void kick(unsigned slot, unsigned n)
{
	bar_out(slot, 0, 0x3000 + n * 4, 2, n);
}

static inline uint16_t used_idx(unsigned n)
{
	return __atomic_load_n((uint16_t *)(void *)(g_ram + USED(n) + 2),
			       __ATOMIC_SEQ_CST);
}

/* The length in the newest used entry. */
static inline uint32_t used_len(unsigned n, unsigned size)
{
	return le32_get(g_ram + USED(n) + 4 + (used_idx(n) - 1u) % size * 8 + 4);
}

#endif
