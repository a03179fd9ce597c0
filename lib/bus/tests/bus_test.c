/* SPDX-License-Identifier: MIT */
/*
 * The promises of bus/guest.h and bus/bus.h: no pointer outside a region, and what
 * becomes of accesses that are too wide, straddle, or find nobody.
 */
#include "base/err.h"
#include "bus/bus.h"
#include "tests/tap.h"

#include <errno.h>

/* -- Guest memory ------------------------------------------------------------------ */

static uint8_t ram[0x1000], rom[0x100], high[0x1000];

static const struct {
	const char *name;
	gpa_t gpa;
	uint64_t len;
	bool write, fine;
} ranges[] = {
	{"the first byte", 0, 1, true, true},
	{"all of it", 0, 0x1000, true, true},
	{"one byte too many", 0, 0x1001, true, false},
	{"the last byte", 0xfff, 1, true, true},
	{"over the end", 0xfff, 2, true, false},
	{"nothing", 0, 0, true, false},
	{"behind the end", 0x1000, 1, true, false},
	{"a hole", 0x2000, 1, true, false},
	{"into ROM", 0xf000, 16, true, false},
	{"out of ROM", 0xf000, 16, false, true},
	{"a length that wraps", 0x800, UINT64_MAX, true, false},
	{"a length that wraps to the start", 0x800, UINT64_MAX - 0x7ff, true, false},
	{"the last address", UINT64_MAX, 1, true, true},
	{"the top region", UINT64_MAX - 0xfff, 0x1000, true, true},
	{"over the top", UINT64_MAX - 0xfff, 0x1001, true, false},
};

/* Region 1 is the ROM at 0xf000, region 2 the RAM at 0. */
static void test_change(struct guest_mem *mem)
{
	struct guest_region r;
	struct err err = {0};

	is_int(guest_mem_change(mem, 1, 0x800, rom, true, &err), -EINVAL, "a region cannot move into another");
	is_str(err.text, "rom: overlaps another region at 0x800", "and the reason told");
	ok(guest_mem_find(mem, 0xf000, &r) && r.host == rom && r.readonly, "it is where it was");
	is_int(guest_mem_change(mem, 1, GUEST_NOWHERE, rom, true, NULL), 0, "it can be hidden");
	ok(!guest_range_ro(mem, 0xf000, 1), "then it is not there");
	mem->regions[0].size--;
	ok(!guest_range_ro(mem, GUEST_NOWHERE, 1), "nor where that number would be");
	mem->regions[0].size++;
	is_int(guest_mem_change(mem, 2, 0xf000, ram, false, NULL), 0, "another can be there meanwhile");
	is_int(guest_mem_change(mem, 1, 0xf000, rom, true, NULL), -EINVAL, "so that it cannot come back");
	is_int(guest_mem_change(mem, 1, 0, high, false, NULL), 0, "it can be elsewhere, and other memory");
	ok(guest_range(mem, 4, 1) == high + 4, "that can be written");
	ok(guest_range(mem, 0xf004, 1) == ram + 4, "as the other can");
}

static void test_guest(void)
{
	struct guest_mem mem = {0};
	struct err err = {0};
	uint32_t v = 0x11223344;

	is_int(guest_mem_add(&mem,
			     &(struct guest_region){.name = "top",
						    .base = UINT64_MAX - 0xfff,
						    .size = 0x1000,
						    .host = high},
			     &err),
	       0, "a region that ends at the last address");
	is_int(guest_mem_add(&mem, &(struct guest_region){
		.name = "rom", .base = 0xf000, .size = sizeof(rom), .host = rom,
		.readonly = true}, &err), 0, "a ROM");
	is_int(guest_mem_add(&mem,
			     &(struct guest_region){.name = "ram",
						    .base = 0,
						    .size = sizeof(ram),
						    .host = ram},
			     &err),
	       0, "RAM");
	is_int(guest_mem_add(&mem, &(struct guest_region){
		.name = "more", .base = 0xfff, .size = 2, .host = ram}, &err), -EINVAL,
		"an overlap is refused");
	is_str(err.text, "more: overlaps another region at 0xfff",
	       "and the reason told");
	is_int(guest_mem_add(&mem,
			     &(struct guest_region){.name = "wide",
						    .base = 0x5000,
						    .size = 0x20000,
						    .host = ram},
			     NULL),
	       -EINVAL, "so is one that swallows another");
	is_int(guest_mem_add(&mem, &(struct guest_region){
		.base = UINT64_MAX - 1, .size = 4, .host = ram}, NULL), -EINVAL,
		"and one that wraps");
	is_int(guest_mem_add(&mem, &(struct guest_region){.base = 0x8000}, NULL),
	       -EINVAL, "and an empty one");
	is_int(mem.n, 3, "three regions are left");

	for (unsigned i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		const void *p = ranges[i].write
			? guest_range(&mem, ranges[i].gpa, ranges[i].len)
			: guest_range_ro(&mem, ranges[i].gpa, ranges[i].len);

		ok(!p == !ranges[i].fine, "range: %s", ranges[i].name);
	}
	is_int(guest_write(&mem, 0xffc, &v, 4), 0, "a write at the end");
	is_int(ram[0xfff], 0x11, "arrives");
	is_int(guest_write(&mem, 0xffd, &v, 4), -EFAULT, "one over the end does not");
	is_int(ram[0xfff], 0x11, "not even in part");
	is_int(guest_read(&mem, 0x123456, &v, 0), 0,
	       "reading nothing is fine anywhere");
	test_change(&mem);
}

/* -- Windows ----------------------------------------------------------------------- */

struct probe {
	uint64_t at, value;
	unsigned width, n;
};

static uint64_t probe_read(void *ctx, uint64_t at, unsigned width)
{
	struct probe *p = ctx;

	p->at = at;
	p->width = width;
	p->n++;
	return 0xf0f1f2f3f4f5f600 | at;
}

static void probe_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	struct probe *p = ctx;

	p->at = at;
	p->width = width;
	p->value = value;
	p->n++;
}

static void test_bus(void)
{
	struct bus *bus = bus_create();
	struct probe byte = {0}, wide = {0};
	struct bus_window b = {
		.name = "byte", .space = BUS_PORT, .base = 0x100, .size = 4, .width = 1,
		.read = probe_read, .write = probe_write, .ctx = &byte,
	};
	struct bus_window w = {
		.name = "wide", .space = BUS_MMIO, .base = 0x40000000, .size = 0x1000,
		.read = probe_read, .write = probe_write, .ctx = &wide,
	};
	struct err err = {0};

	is_int(bus_add(bus, &b, &err), 0, "a port window");
	is_int(bus_add(bus, &w, &err), 0, "a memory window");
	is_int(bus_add(bus, &(struct bus_window){.name = "x", .space = BUS_PORT,
	       .base = 0x103, .size = 2}, &err), -EEXIST, "an overlap is refused");
	is_str(err.text, "x at 0x103 overlaps byte at 0x100", "by name");
	is_int(bus_add(bus, &(struct bus_window){.name = "x", .space = BUS_PORT,
	       .base = 0xffff, .size = 2}, NULL), -EINVAL, "ports end at 0xffff");
	is_int(bus_add(bus, &(struct bus_window){.name = "x", .space = BUS_MMIO,
	       .base = 0x103, .size = 2}, NULL), 0, "the spaces are apart");
	is_str(bus_name(bus, BUS_MMIO, 0x40000fff), "wide", "a window's name");
	is_str(bus_name(bus, BUS_PORT, 0x104), "", "nobody's is empty");

	is_int(bus_read(bus, BUS_PORT, 0x101, 1), 0x01, "a byte");
	is_int(bus_read(bus, BUS_PORT, 0x100, 4), 0x03020100, "four bytes, one by one");
	is_int(bus_read(bus, BUS_PORT, 0x102, 4), 0xffff0302, "over the end: ones");
	is_int(bus_read(bus, BUS_PORT, 0xfe, 4), 0x0100ffff, "from before the start");
	is_int(bus_read(bus, BUS_PORT, 0x200, 2), 0xffff, "nobody: ones");
	is_int(bus_read(bus, BUS_MMIO, UINT64_MAX, 8), -1,
	       "at the end of the world, too");
	byte.n = 0;
	bus_write(bus, BUS_PORT, 0x100, 2, 0x1234);
	is_int(byte.n, 2, "a wide write is two");
	is_int(byte.value, 0x12, "the high byte last");

	is_int(bus_read(bus, BUS_MMIO, 0x40000008, 8), (long long)0xf0f1f2f3f4f5f608,
	       "eight bytes at once");
	is_int(wide.width, 8, "in one piece");
	is_int(bus_read(bus, BUS_MMIO, 0x40000ffc, 8), (long long)0xfffffffff4f5fffc,
	       "eight bytes of which four are there");
	bus_write(bus, BUS_MMIO, 0x40000010, 2, 0xabcd1234);
	is_int(wide.value, 0x1234, "a value is cut to its width");

	ok(!bus_remove(bus, BUS_MMIO, 0x40000010), "only a window's base removes it");
	ok(bus_remove(bus, BUS_MMIO, 0x40000000), "it is removed");
	is_int(bus_read(bus, BUS_MMIO, 0x40000008, 4), 0xffffffff,
	       "and nobody answers");
	bus_destroy(bus);
}

int main(void)
{
	test_guest();
	test_bus();
	return done_testing();
}
