/* SPDX-License-Identifier: MIT */
/*
 * The bus: what a device knows of the computer around it.
 *
 * A device claims *windows* of port or memory space, and gets the accesses that fall
 * into them; it raises *interrupt lines* and sends *messages* (MSI) through callbacks
 * that the board filled in. It reaches guest memory through bus/guest.h. It never knows
 * a CPU.
 *
 *	struct bus_window w = {
 *		.name = "uart", .space = BUS_PORT, .base = 0x3f8, .size = 8,
 *		.width = 1, .read = uart_read, .write = uart_write, .ctx = uart,
 *	};
 *	bus_add(bus, &w, &err);
 *
 * and the board, on an exit from the engine:
 *
 *	uint64_t v = bus_read(bus, BUS_PORT, 0x3fd, 1);
 *
 * Threads. Accesses come from all vCPU threads at once. The bus holds its own lock only
 * while it looks a window up, never while a handler runs; so a handler may add and
 * remove windows (a PCI BAR moves), and an access that another thread began just before
 * bus_remove() may still reach the handler just after. Therefore a device outlives the
 * bus's last access: the board stops the vCPUs before it destroys devices.
 *
 * Each device has its own lock, which its handlers take. It may be held while an irq or
 * msi callback is called; these callbacks never call back into a device or the bus. The
 * order is:
 *
 *	PCI host's lock  ->  a device's lock  ->  bus lock, or that of memory's regions, or the engine's locks
 */
#ifndef BUS_BUS_H
#define BUS_BUS_H

#include "bus/guest.h"

#include <stdbool.h>
#include <stdint.h>

struct err;
struct bus;

/* -- Windows ----------------------------------------------------------------------- */

enum bus_space { BUS_PORT, BUS_MMIO, BUS_SPACES };

struct bus_window {
	const char *name; /* for traces and messages; lives as long as the window */
	enum bus_space space;
	uint64_t base;
	uint64_t size;
	/* The widest access the handlers take, in bytes (1, 2, 4, 8; 0 means 8). The
	 * bus splits wider ones, as an 8-bit ISA card would see them, lowest address
	 * first. */
	uint8_t width;
	/* `at` counts from the base; width is 1, 2, 4 or 8 and at + width <= size. Any
	 * alignment. A read's bits above the width are ignored. NULL: all ones, and
	 * ignored. */
	uint64_t (*read)(void *ctx, uint64_t at, unsigned width);
	void (*write)(void *ctx, uint64_t at, unsigned width, uint64_t value);
	void *ctx;
};

/* NULL only when out of memory. Its windows are gone before it is destroyed, or nobody
 * accesses it any more; NULL is fine. */
struct bus *bus_create(void);
void bus_destroy(struct bus *bus);

/* Copies the window in. -EINVAL: empty or wrapping; -EEXIST: overlaps another (err
 * names both); -ENOSPC: too many. Any thread. */
int bus_add(struct bus *bus, const struct bus_window *window, struct err *err);

/* Removes the window that begins at base; true if there was one. Any thread. */
bool bus_remove(struct bus *bus, enum bus_space space, uint64_t base);

/* One access by the guest; width is 1, 2, 4 or 8. Unclaimed bytes read as all ones,
 * unclaimed writes vanish. The value is cut to the width. */
uint64_t bus_read(struct bus *bus, enum bus_space space, uint64_t addr, unsigned width);
void bus_write(struct bus *bus, enum bus_space space, uint64_t addr, unsigned width,
	       uint64_t value);

/* The name of the window that holds addr, "" if none does: for traces. It lives as long
 * as whoever named the window. Any thread. */
const char *bus_name(struct bus *bus, enum bus_space space, uint64_t addr);

/* All ones in the width's bytes: what nobody answers. */
static inline uint64_t bus_ones(unsigned width)
{
	return width >= 8 ? UINT64_MAX : (UINT64_C(1) << (width * 8)) - 1;
}

/* -- Lines and messages ------------------------------------------------------------ */

/* An interrupt line. One device drives it; who shares a line puts an OR in between
 * (pci.c). */
struct irq_line {
	void (*set)(void *ctx, unsigned gsi, bool level);
	void *ctx;
	unsigned gsi;
};

static inline void irq_set(const struct irq_line *line, bool level)
{
	if (line->set)
		line->set(line->ctx, line->gsi, level);
}

/* A message-signalled interrupt: a write of data to addr, which the interrupt
 * controllers understand and memory does not see. */
struct msi_sink {
	void (*send)(void *ctx, uint64_t addr, uint32_t data);
	void *ctx;
};

static inline void msi_send(const struct msi_sink *sink, uint64_t addr, uint32_t data)
{
	if (sink->send)
		sink->send(sink->ctx, addr, data);
}

/* What software can ask of the power supply. Called from a vCPU thread inside an
 * access, with the device's lock held: note the wish and return, do not act on it
 * here. */
enum power_wish { POWER_OFF, POWER_RESET };

struct power_line {
	/* who: "acpi", "i8042", ...: a static string */
	void (*ask)(void *ctx, enum power_wish wish, const char *who);
	void *ctx;
};

static inline void power_ask(const struct power_line *line, enum power_wish wish,
			     const char *who)
{
	if (line->ask)
		line->ask(line->ctx, wish, who);
}

#endif
