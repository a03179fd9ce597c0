/* SPDX-License-Identifier: MIT */
/*
 * The host bridge: both ways into configuration space, BAR sizing and moving, pins that
 * share a line, MSI-X masks, and the reset port inside 0xcf8.
 */
#include "dev/pci/msix.h"
#include "dev/pci/port.h"
#include "dev/tests/guest.h"
#include "state/state.h"
#include "tests/tap.h"

#include <errno.h>
#include <stdlib.h>

static struct pci_function fn, other;
static struct msix msix;
static uint64_t last_at, last_value;

static uint64_t bar_read(void *ctx, uint64_t at, unsigned width)
{
	(void)width;
	return (ctx == &fn ? 0x1000 : 0x2000) | at;
}

static void bar_write(void *ctx, uint64_t at, unsigned width, uint64_t value)
{
	(void)ctx;
	(void)width;
	last_at = at;
	last_value = value;
}

static uint32_t mech1(uint32_t address, unsigned at, unsigned width)
{
	bus_write(g_bus, BUS_PORT, 0xcf8, 4, address);
	return (uint32_t)bus_read(g_bus, BUS_PORT, 0xcfc + at, width);
}

static void add_functions(void)
{
	struct err err = {0};

	fn = (struct pci_function){
		.name = "fn",
		.vendor = 0x1234,
		.device = 0x5678,
		.class_code = 0x010203,
		.revision = 4,
		.sub_vendor = 0xaaaa,
		.sub_device = 0xbbbb,
		.pin = 1,
		.ctx = &fn,
		.bars[0] = {.size = 0x1000, .read = bar_read, .write = bar_write},
		.bars[2] = {.size = 0x100000,
			    .wide = true,
			    .prefetch = true,
			    .read = bar_read,
			    .write = bar_write},
		.bars[4] = {.size = 0x20,
			    .io = true,
			    .read = bar_read,
			    .write = bar_write},
	};
	other = (struct pci_function){
		.name = "other", .vendor = 1, .device = 2, .pin = 1, .ctx = &other,
		.bars[0] = {.size = 0x1000, .read = bar_read, .write = bar_write},
	};
	msix_init(&msix, &other, 3, 1);
	is_int(pci_add(g_host, &fn, PCI_DEVFN(5, 0), &err), 0, "a function in slot 5");
	is_int(pci_add(g_host, &other, PCI_DEVFN(5, 0), &err), -EBUSY, "a taken slot is refused");
	is_str(err.text, "PCI slot 5 is taken by fn", "by name");
	is_int(pci_add(g_host, &other, PCI_DEVFN(32, 0), NULL), -ENOSPC, "there is no slot 32");
	is_int(pci_add(g_host, &other, 0, NULL), 0, "any slot");
	is_int(other.devfn, PCI_DEVFN(1, 0), "is the first one");
	is_int(msix_add_cap(&msix, 1, NULL), 0, "and a capability");
	device_reset(g_host);
}

static void test_config(void)
{
	is_int(mech1(0x80002800, 0, 4), 0x56781234, "mechanism 1: device and vendor");
	is_int(mech1(0x80002800, 2, 2), 0x5678, "the upper half");
	is_int(mech1(0x80002808, 3, 1), 0x01, "the class, one byte");
	is_int(mech1(0x00002800, 0, 4), 0xffffffff, "not without the enable bit");
	is_int(mech1(0x80002900, 0, 4), 0xffffffff, "no function 1");
	is_int(mech1(0x80012800, 0, 4), 0xffffffff, "no bus 1");
	is_int(mech1(0x80003000, 0, 4), 0xffffffff, "no slot 6");
	is_int(mech1(0x80000000, 0, 4), 0x00081b36, "slot 0 is the bridge");
	is_int(bus_read(g_bus, BUS_PORT, 0xcf8, 4), 0x80000000, "0xcf8 reads back");
	is_int(cfg_read(5, 8, 4), 0x01020304, "ECAM: class and revision");
	is_int(cfg_read(5, 0x2c, 4), 0xbbbbaaaa, "ECAM: subsystem");
	is_int(cfg_read(5, 0x100, 4), 0xffffffff, "nothing behind 256 bytes");
	is_int(bus_read(g_bus, BUS_MMIO, ECAM_BASE + 0x280fe, 8), -1, "nor halfway");
	cfg_write(5, 0, 4, 0);
	cfg_write(5, 8, 4, 0);
	is_int(cfg_read(5, 0, 4), 0x56781234, "identities cannot be written");
	cfg_write(5, PCI_LINE, 1, 11);
	is_int(cfg_read(5, PCI_LINE, 2), 0x010b, "the line can, the pin cannot");
	cfg_write(5, 4, 2, 0xffff);
	is_int(cfg_read(5, 4, 2), 0x0407, "four bits of command");
	cfg_write(5, 4, 2, 0);
}

static void test_bars(void)
{
	uint32_t bar0, bar2, io;

	device_reset(g_host);
	bar0 = cfg_read(5, 0x10, 4);
	bar2 = cfg_read(5, 0x18, 4);
	io = cfg_read(5, 0x20, 4);
	ok(bar0 >= MEM_BASE && bar0 % 0x1000 == 0, "BAR 0 has an address after reset");
	is_int(bar2 & 0xf, 0xc, "BAR 2 is wide and prefetchable");
	is_int((bar2 & ~0xfu) % 0x100000, 0, "and aligned to its size");
	is_int(io & 3, 1, "BAR 4 is for ports");
	is_int(bus_read(g_bus, BUS_MMIO, bar0, 4), 0x1000,
	       "and decodes, as after firmware");
	cfg_write(5, 4, 2, 0);
	is_int(bus_read(g_bus, BUS_MMIO, bar0, 4), 0xffffffff,
	       "until that is switched off");
	cfg_write(5, 0x10, 4, 0xffffffff);
	is_int(cfg_read(5, 0x10, 4), 0xfffff000, "sizing: 4 KiB");
	cfg_write(5, 0x18, 4, 0xffffffff);
	cfg_write(5, 0x1c, 4, 0xffffffff);
	is_int(cfg_read(5, 0x18, 4), 0xfff0000c, "sizing: 1 MiB, wide, prefetchable");
	is_int(cfg_read(5, 0x1c, 4), 0xffffffff, "all of the upper half");
	cfg_write(5, 0x20, 4, 0xffffffff);
	is_int(cfg_read(5, 0x20, 4), 0xffffffe1, "sizing: 32 ports");
	cfg_write(5, 0x14, 4, 0xffffffff);
	is_int(cfg_read(5, 0x14, 4), 0, "BAR 1 is not there");

	cfg_write(5, 0x10, 4, 0xc0005000);
	cfg_write(5, 0x18, 4, 0);
	cfg_write(5, 0x1c, 4, 0x12);
	cfg_write(5, 0x20, 4, 0xc100);
	cfg_write(5, 4, 2, 7);
	is_int(bus_read(g_bus, BUS_MMIO, 0xc0005010, 4), 0x1010, "BAR 0 decodes");
	is_int(bus_read(g_bus, BUS_MMIO, 0x1200000010, 4), 0x1010, "BAR 2 above 4 GiB");
	is_int(bus_read(g_bus, BUS_PORT, 0xc104, 2), 0x1004, "BAR 4");
	bus_write(g_bus, BUS_MMIO, 0xc0005020, 4, 99);
	is_int(last_at, 0x20, "a write arrives");
	is_int(last_value, 99, "with its value");
	cfg_write(5, 0x10, 4, 0xc0007000);
	is_int(bus_read(g_bus, BUS_MMIO, 0xc0005010, 4), 0xffffffff, "moved away");
	is_int(bus_read(g_bus, BUS_MMIO, 0xc0007010, 4), 0x1010, "to there");
	cfg_write(5, 4, 2, 6);
	is_int(bus_read(g_bus, BUS_PORT, 0xc104, 2), 0xffff, "ports off");
	is_int(bus_read(g_bus, BUS_MMIO, 0xc0007010, 4), 0x1010, "memory still on");

	cfg_write(1, 0x10, 4, 0xc0007000);
	cfg_write(1, 4, 2, 2);
	is_int(bus_read(g_bus, BUS_MMIO, 0xc0007010, 4), 0x1010,
	       "two at one place: the first");
	cfg_write(5, 0x10, 4, 0xc0009000);
	is_int(bus_read(g_bus, BUS_MMIO, 0xc0007010, 4), 0x2010,
	       "it moves: the second");
	cfg_write(5, 0x10, 4, ECAM_BASE);
	is_int(cfg_read(5, 0, 4), 0x56781234, "a BAR over ECAM does not cut us off");
	device_reset(g_host);
	is_int(cfg_read(5, 0x10, 4), bar0, "reset brings the addresses back");
	is_int(bus_read(g_bus, BUS_MMIO, bar0, 4), 0x1000, "with decoding on");
}

static void test_pins(void)
{
	unsigned line = pci_intx(5, 1);

	is_int(pci_intx(1, 1), line, "slots 1 and 5 share a line");
	pci_intx_set(&fn, true);
	ok(g_intx[line], "one pulls it");
	is_int(cfg_read(5, 6, 2) & 8, 8, "and says so in its status");
	pci_intx_set(&other, true);
	pci_intx_set(&fn, false);
	ok(g_intx[line], "the other still pulls");
	cfg_write(1, 4, 2, 0x400);
	ok(!g_intx[line], "until it is told not to");
	cfg_write(1, 4, 2, 0);
	ok(g_intx[line], "and again");
	pci_intx_set(&other, false);
	ok(!g_intx[line], "nobody pulls");
	pci_intx_set(&fn, true);
	is_int(cfg_read(5, 6, 2) & 8, 8, "the status has the pin");
	pci_function_saving(&fn);
	is_int(fn.saved[6] & 8, 0, "what is saved has not, whoever has looked when: it follows");
	pci_function_loaded(&fn);
	ok(cfg_read(5, 6, 2) & 8 && fn.pulls, "and is there when it is loaded");
	pci_intx_set(&fn, false);
	is_int(cfg_read(5, 6, 2) & 8, 0, "until it is let go");
}

static void test_msix(void)
{
	unsigned cap = find_cap(1, PCI_CAP_MSIX, 0);

	cfg_write(1, 4, 2, 2);
	ok(cap, "there is a capability");
	is_int(cfg_read(1, cap + 2, 2), 2, "three vectors");
	is_int(bar_in(1, 1, 28, 4), 1, "they come up masked");
	msix_notify(&msix, 1);
	is_int(g_messages, 0, "nothing while it is off");
	cfg_write(1, cap + 2, 2, 0x8000);
	bar_out(1, 1, 16, 4, 0xfee01000);
	bar_out(1, 1, 20, 4, 0);
	bar_out(1, 1, 24, 4, 0x4055);
	msix_notify(&msix, 1);
	is_int(g_messages, 0, "nothing while the vector is masked");
	is_int(bar_in(1, 1, 0x800, 8), 2, "but it is pending");
	bar_out(1, 1, 28, 4, 0);
	is_int(g_messages, 1, "unmasking sends it");
	is_int(g_msi_addr, 0xfee01000, "to the address");
	is_int(g_msi_data, 0x4055, "with the data");
	is_int(bar_in(1, 1, 0x800, 8), 0, "and it is pending no more");
	cfg_write(1, cap + 2, 2, 0xc000);
	msix_notify(&msix, 1);
	is_int(g_messages, 1, "the function's mask holds it back");
	cfg_write(1, cap + 2, 2, 0x8000);
	is_int(g_messages, 2, "and lets it go");
	msix_notify(&msix, 3);
	msix_notify(&msix, MSIX_NONE);
	is_int(g_messages, 2, "vectors that are not there say nothing");
	bar_out(1, 1, 0x30, 8, UINT64_MAX);
	is_int(bar_in(1, 1, 0x30, 8), 0, "behind the table is nothing");
	device_reset(g_host);
	is_int(cfg_read(1, cap + 2, 2), 2, "a reset turns it off");
}

/* -- More functions, more configuration space ------------------------------------------- */

static struct pci_function second, express;

static uint32_t cfg_of(unsigned devfn, unsigned at, unsigned width)
{
	return (uint32_t)bus_read(g_bus, BUS_MMIO, ECAM_BASE + devfn * 0x1000 + at, width);
}

static void test_functions(void)
{
	unsigned line = pci_intx(5, 2);
	struct err err = {0};

	second = (struct pci_function){
		.name = "second", .vendor = 3, .device = 4, .pin = 2, .ctx = &second,
		.bars[0] = {.size = 0x1000, .read = bar_read, .write = bar_write},
	};
	is_int(pci_add(g_host, &second, PCI_DEVFN(7, 3), &err), -EINVAL, "a function 3 of an empty slot is refused");
	is_str(err.text, "function 3 of PCI slot 7: nobody would look for it without a function 0", "with a reason");
	is_int(cfg_read(5, 0x0e, 1), 0, "one function");
	is_int(pci_add(g_host, &second, PCI_DEVFN(5, 3), &err), 0, "another one in its slot");
	is_int(pci_add(g_host, &express, PCI_DEVFN(5, 3), &err), -EBUSY, "whose place is taken then");
	is_str(err.text, "function 3 of PCI slot 5 is taken by second", "by name");
	is_int(cfg_read(5, 0x0e, 1), 0x80, "function 0 says that there are more");
	is_int(mech1(0x80002b00, 0, 4), 0x00040003, "mechanism 1 finds it");
	is_int(cfg_of(PCI_DEVFN(5, 3), 0, 4), 0x00040003, "ECAM, too");
	is_int(cfg_of(PCI_DEVFN(5, 1), 0, 4), 0xffffffff, "but not one in between");
	device_reset(g_host);
	ok(cfg_of(PCI_DEVFN(5, 3), 0x10, 4) >= MEM_BASE && cfg_of(PCI_DEVFN(5, 3), 4, 2) == 2, "it is given an address");

	pci_intx_set(&fn, true);
	ok(g_intx[pci_intx(5, 1)] && !g_intx[line], "each has its pin");
	pci_intx_set(&second, true);
	pci_intx_set(&fn, false);
	ok(g_intx[line] && !g_intx[pci_intx(5, 1)], "and its line");
	pci_remove(&second);
	ok(!g_intx[line], "which is let go with it");
}

static void test_express(void)
{
	static const uint8_t body[250] = {1, 2, 3, 4};
	struct err err = {0};
	int rc = 0;

	express = (struct pci_function){.name = "express", .vendor = 5, .device = 6, .express = true};
	is_int(cfg_read(5, 0x100, 4), 0xffffffff, "a PCI function has nothing behind 256 bytes");
	is_int(pci_add_ext_cap(&fn, 1, 1, body, 4, &err), -ENOSPC, "nor room there");
	is_int(pci_add(g_host, &express, PCI_DEVFN(6, 0), NULL), 0, "an express function");
	is_int(cfg_read(6, 0x100, 4), 0, "has");
	is_int(cfg_read(6, 0xffc, 4), 0, "4 KiB of them");
	is_int(pci_add_ext_cap(&express, 0x0b, 1, body, 8, &err), 0x100, "an extended capability is at 0x100");
	is_int(pci_add_ext_cap(&express, 0x0d, 2, body, 6, &err), 0x10c, "the next one behind it");
	is_int(cfg_read(6, 0x100, 4), 0x10c1000b, "the first one says so");
	is_int(cfg_read(6, 0x10c, 4), 0x0002000d, "the second one is the last");
	express.writable[0x110] = 0xf0;
	cfg_write(6, 0x110, 4, 0xffffffff);
	is_int(cfg_read(6, 0x110, 4), 0x040302f1, "of it is written what may be");
	pci_function_saving(&express);
	cfg_write(6, 0x110, 4, 0);
	pci_function_loaded(&express);
	is_int(cfg_read(6, 0x110, 4), 0x040302f1, "and that is saved and loaded");

	is_int(pci_add_cap(&express, 9, body, 90, &err), 0x40, "a capability");
	is_int(pci_add_cap(&express, 9, body, 98, &err), 0x9c, "another one, to the end");
	rc = pci_add_cap(&express, 9, body, 1, &err);
	is_int(rc, -ENOSPC, "there is no room for a third");
	is_str(err.text, "express: no room for a capability of 3 bytes at 0x100", "and a sentence says so");
	is_int(cfg_read(6, 0x9d, 1), 0, "the list ends before it");
	is_int(cfg_read(6, 0x100, 4), 0x10c1000b, "and nothing was written over");
	for (rc = 0; rc >= 0;)
		rc = pci_add_ext_cap(&express, 1, 1, body, 250, &err);
	is_int(rc, -ENOSPC, "extended ones end with 4 KiB");
	pci_remove(&express);
}

static void test_look(void)
{
	struct pci_facts facts[3];

	is_int(pci_look(g_host, facts, 3), 3, "three functions are there");
	ok(facts[2].slot == 5 && facts[2].function == 0, "in the order of their places");
	is_str(facts[2].name, "fn", "by their names");
	ok(facts[2].vendor == 0x1234 && facts[2].device == 0x5678 && facts[2].class == 0x0102 && facts[2].sub_vendor == 0xaaaa && facts[2].pin == 1,
	   "with what they are");
	is_int((long)facts[2].bars[0].addr, cfg_read(5, 0x10, 4), "a BAR is where the guest sees it");
	ok(facts[2].bars[0].size == 0x1000 && facts[2].bars[2].wide && facts[2].bars[2].prefetch && facts[2].bars[4].io && !facts[2].bars[1].size,
	   "and what it is");
	is_int(pci_look(g_host, facts, 1), 3, "where there is room for one they are as many");
}

/* Configuration space of a function behind a port, whose bus firmware has numbered. */
static uint32_t behind(unsigned bus, unsigned at)
{
	return mech1(0x80000000 | bus << 16 | at, 0, 4);
}

static void set_behind(unsigned bus, unsigned at, uint32_t value)
{
	mech1(0x80000000 | bus << 16 | at, 0, 4);
	bus_write(g_bus, BUS_PORT, 0xcfc, 4, value);
}

static void test_port(void)
{
	struct pci_function child = {
		.name = "child", .vendor = 0x4321, .device = 0x8765, .pin = 2, .ctx = &fn,
		.bars[0] = {.size = 0x1000, .read = bar_read, .write = bar_write},
		.bars[1] = {.size = 0x20, .io = true, .read = bar_read, .write = bar_write},
	}, next = {.name = "next", .vendor = 1, .device = 1};
	struct device *port = device_create(&pci_port_model, g_bus, NULL, &(struct pci_port_config){
		.host = g_host, .devfn = PCI_DEVFN(28, 0), .number = 3}, NULL);
	unsigned cap = find_cap(28, 0x10, 0);
	struct err err = {0};

	is_int(cfg_read(28, 0x0e, 1), 1, "a port has a bridge's header");
	is_int(cfg_read(28, cap + 2, 2), 0x0142, "and is one of PCI Express, with a slot");
	is_int(cfg_read(28, cap + 0x1a, 2), 0, "which is empty");
	is_int(pci_add(port, &child, 0, &err), 0, "a function behind it");
	is_int(pci_add(port, &next, PCI_DEVFN(1, 0), &err), -EINVAL, "has no neighbour");
	is_int(pci_add(port, &next, 0, &err), -EBUSY, "and is alone at its place");
	is_int(cfg_read(28, cap + 0x1a, 2), 0x40, "the slot says that it is there");
	is_int(cfg_read(28, cap + 0x12, 2) & 0x2000, 0x2000, "its link, too");
	is_int((int)behind(7, 0), -1, "on a bus without a number it is not found");
	cfg_write(28, 0x18, 4, 0x00070700);
	is_int(behind(7, 0), 0x87654321, "but on the one that its port has");
	is_int((int)mech1(0x80000000 | 7 << 16 | 1 << 11, 0, 4), -1, "as device 0 alone");
	set_behind(7, 0x10, 0xd0200000);
	set_behind(7, 0x14, 0xd000);
	set_behind(7, 4, 3);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0200010, 4), 0xffffffff, "its registers are nowhere");
	cfg_write(28, 0x20, 4, 0xd020d020);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0200010, 4), 0xffffffff, "until the port passes memory");
	cfg_write(28, 4, 2, 3);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0200010, 4), 0x1010, "and they are in a window");
	cfg_write(28, 0x20, 4, 0xd040d030);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0200010, 4), 0xffffffff, "which moves away");
	cfg_write(28, 0x24, 4, 0xd020d020);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0200010, 4), 0x1010, "or they are in the other window");
	cfg_write(28, 0x28, 4, 1);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0200010, 4), 0xffffffff, "which has 64 bits, and ends before it begins");
	is_int(bus_read(g_bus, BUS_PORT, 0xd004, 4), 0xffffffff, "ports are nowhere");
	cfg_write(28, 0x1c, 2, 0xd0d0);
	is_int(bus_read(g_bus, BUS_PORT, 0xd004, 4), 0x1004, "until they pass");
	pci_intx_set(&child, true);
	ok(g_intx[1], "pin B is the port's slot's");
	pci_intx_set(&child, false);
	ok(!g_intx[1], "and comes down");
	device_reset(port);
	device_reset(g_host);
	is_int((int)behind(7, 0), -1, "a reset forgets the number");
	is_int(bus_read(g_bus, BUS_PORT, 0xd004, 4), 0xffffffff, "and the windows");
	pci_remove(&child);
	is_int(cfg_read(28, cap + 0x1a, 2), 0, "who is removed is gone");
	device_destroy(port);
	is_int((int)cfg_read(28, 0, 4), -1, "as is a port");
}

/* -- A slot whose devices come and go -------------------------------------------------------------- */

#define OFF 0x0400u /* of slot control: power, */
#define DARK 0x0300u /* and the indicator */
#define LISTEN 0x1021u /* button, link, interrupts */

static unsigned g_let_go, g_slot; /* the port's capability */

static void count_let_go(void *ctx)
{
	(void)ctx;
	g_let_go++;
}

/* Slot status, which is cleared of that, as pciehp does. */
static unsigned take_events(void)
{
	unsigned status = cfg_read(28, g_slot + 0x1a, 2);

	cfg_write(28, g_slot + 0x1a, 2, status);
	return status;
}

static void control_slot(unsigned value)
{
	cfg_write(28, g_slot + 0x18, 2, value);
}

static bool is_linked(void)
{
	return cfg_read(28, g_slot + 0x12, 2) & 0x2000;
}

static void test_comes(struct device *port, struct pci_function *child)
{
	is_int(cfg_read(28, g_slot + 0x14, 4) & 0x7f, 0x53, "a slot has a button, power and its indicator, and is for hot plug");
	control_slot(LISTEN | OFF | DARK);
	is_int(take_events(), 0x10, "a command is completed, and nobody is there");
	is_int(take_events(), 0, "and that is cleared by ones");
	g_msi_addr = 0;
	pci_add(port, child, 0, NULL);
	pci_port_tell(port);
	ok(g_msi_addr, "a device that comes is a message");
	g_msi_addr = 0;
	pci_port_tell(port);
	ok(!g_msi_addr, "but one, as long as it is not cleared");
	is_int(cfg_read(28, g_slot + 0x1a, 2), 0x49, "a button, a change, and it is there");
	ok(!is_linked() && behind(7, 0) == UINT32_MAX, "but without power it is not found");
	cfg_write(28, g_slot + 0x1a, 1, 0x01);
	is_int(cfg_read(28, g_slot + 0x1a, 2), 0x48, "one event is cleared");
	cfg_write(28, g_slot + 0x1b, 1, 0xff);
	is_int(take_events(), 0x48, "and by a byte that has none no other");
	control_slot(LISTEN | 0x200);
	ok(is_linked() && behind(7, 0) == 0x87654321, "with power it is");
	is_int(take_events(), 0x150, "and the link's change is an event");
	control_slot(LISTEN | 0x100);
	take_events();
}

static void test_goes(struct device *port, struct pci_function *child)
{
	struct err err = {0};

	set_behind(7, 4, 3);
	g_msi_addr = 0;
	is_int(pci_port_press(port, NULL), 0, "the button is pressed");
	ok(g_msi_addr && take_events() == 0x41, "which the guest hears");
	control_slot(LISTEN | 0x200);
	is_int(pci_port_press(port, &err), -EBUSY, "it is not pressed again while the indicator blinks");
	is_str(err.text, "the guest is about to let it go", "which is a sentence");
	control_slot(LISTEN | 0x200 | OFF);
	ok(behind(7, 0) == UINT32_MAX && !g_let_go && !pci_port_has_let_go(port), "without power it is not found, and not gone yet");
	control_slot(LISTEN | DARK | OFF);
	ok(g_let_go == 1 && pci_port_has_let_go(port), "with the indicator off it is");
	control_slot(LISTEN | 0x100);
	ok(behind(7, 0) == UINT32_MAX && !is_linked(), "for good");
	take_events();
	is_int(pci_port_press(port, NULL), -EBUSY, "nobody can ask for it any more");
	pci_remove(child);
	pci_port_tell(port);
	ok(!pci_port_has_let_go(port) && take_events() == 0, "taken out, it leaves nothing");
}

/* Power that goes without having been asked for, and a reset. */
static void test_power(struct device *port, struct pci_function *child)
{
	g_let_go = 0;
	pci_add(port, child, 0, NULL);
	pci_port_tell(port);
	control_slot(LISTEN | 0x100);
	set_behind(7, 4, 3);
	control_slot(LISTEN | OFF | DARK);
	control_slot(LISTEN | 0x100);
	is_int(behind(7, 4) & 3, 0, "a device whose power was off is as new");
	is_int((int)g_let_go, 0, "and stays, if nobody has asked for it");
	control_slot(LISTEN | OFF | DARK);
	is_int(pci_port_press(port, NULL), 0, "one that has no power");
	is_int((int)g_let_go, 1, "is let go at once");
	pci_remove(child);
	pci_port_tell(port);

	pci_add(port, child, 0, NULL);
	pci_port_tell(port);
	control_slot(LISTEN | 0x100);
	pci_port_press(port, NULL);
	device_reset(port);
	is_int((int)g_let_go, 2, "a reset is the end of what the guest was asked for");
	is_int(cfg_read(28, g_slot + 0x1a, 2), 0, "after which nobody is there");
	pci_remove(child);
	pci_port_tell(port);
	pci_add(port, child, 0, NULL);
	device_reset(port);
	is_int(cfg_read(28, g_slot + 0x18, 2) << 16 | cfg_read(28, g_slot + 0x1a, 2), 0x01000040, "what is there at a reset has power, and is no event");
}

/* All that can be written, in all widths: some device is there all the time, and none comes to harm. */
static void test_hostile_slot(struct device *port, struct pci_function *child)
{
	bool sane = true;

	for (unsigned i = 0; i < 4096; i++) {
		unsigned at = g_slot + 0x10 + i % 16, width = 1u << (i / 16 % 3);
		uint32_t value = i * 0x9e3779b1u;

		cfg_write(28, at & ~(width - 1), width, i % 5 ? value : UINT32_MAX);
		if (i % 97 == 0)
			pci_port_press(port, NULL);
		sane &= (cfg_read(28, g_slot + 0x1a, 2) & ~0x159u) == 0 && cfg_read(28, g_slot + 0x14, 1) == 0x53;
	}
	ok(sane, "a guest that writes everything finds what there is, and no more");
	pci_remove(child);
	pci_port_tell(port);
	device_reset(port);
}

/* A saved machine may say that a device is gone which is not there: the next one that comes stays. */
static struct device *test_gone_of_nobody(struct device *port, const struct pci_port_config *config, struct pci_function *child)
{
	struct state_out out = {0};
	unsigned used = 0;

	control_slot(LISTEN | OFF | DARK);
	pci_add(port, child, 0, NULL);
	pci_port_tell(port);
	pci_port_press(port, NULL);
	ok(pci_port_has_let_go(port), "a device is gone");
	is_int(device_save(port, "p", &out), 0, "and saved, before it was taken out");
	pci_remove(child);
	device_destroy(port);
	port = device_create(&pci_port_model, g_bus, NULL, config, NULL);
	is_int(device_load(port, "p", &(struct state_in){.bytes = out.bytes, .len = out.len}, 0, &used, NULL), 0, "where it is loaded, nobody is there");
	pci_add(port, child, 0, NULL);
	pci_port_tell(port);
	ok(!pci_port_has_let_go(port) && cfg_read(28, g_slot + 0x1a, 2) & 0x40, "and who comes then is not gone");
	pci_remove(child);
	pci_port_tell(port);
	device_reset(port);
	free(out.bytes);
	return port;
}

static void test_slot(void)
{
	struct pci_function child = {.name = "child", .vendor = 0x4321, .device = 0x8765};
	struct pci_port_config config = {.host = g_host, .devfn = PCI_DEVFN(28, 0), .number = 3, .let_go = count_let_go};
	struct device *port = device_create(&pci_port_model, g_bus, NULL, &config, NULL);
	unsigned msi = find_cap(28, 0x05, 0);

	g_slot = find_cap(28, 0x10, 0);
	cfg_write(28, 0x18, 4, 0x00070700);
	cfg_write(28, msi + 4, 4, 0xfee00000);
	cfg_write(28, msi + 2, 2, 1);
	test_comes(port, &child);
	test_goes(port, &child);
	test_power(port, &child);
	test_hostile_slot(port, &child);
	port = test_gone_of_nobody(port, &config, &child);
	cfg_write(28, 0x18, 4, 0x00070700);
	control_slot(LISTEN);
	pci_add(port, &child, 0, NULL);
	pci_port_tell(port);
	ok(g_intx[pci_intx(28, 1)], "without messages it is the pin");
	take_events();
	ok(!g_intx[pci_intx(28, 1)], "until the event is cleared");
	pci_remove(&child);
	device_destroy(port);
}

static void test_rom(void)
{
	static const uint8_t bytes[] = {0x55, 0xaa, 3, 4, 5, 6};
	struct pci_function with = {
		.name = "with a ROM", .bars[0] = {.size = 0x1000, .read = bar_read, .write = bar_write},
		.rom = {.size = 0x1000, .bytes = bytes, .len = sizeof(bytes)},
	};

	is_int(cfg_read(5, 0x30, 4), 0, "a function without a ROM");
	cfg_write(5, 0x30, 4, 0xffffffff);
	is_int(cfg_read(5, 0x30, 4), 0, "has no place for one");
	pci_add(g_host, &with, PCI_DEVFN(9, 0), NULL);
	device_reset(g_host);
	is_int(cfg_read(9, 0x30, 4), 0, "one that has a ROM finds it switched off");
	cfg_write(9, 0x30, 4, 0xfffffffe);
	is_int(cfg_read(9, 0x30, 4), 0xfffff000, "it says how large it is");
	cfg_write(9, 0x30, 4, 0xd0000000);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0000000, 4), 0xffffffff, "and is nowhere");
	cfg_write(9, 0x30, 4, 0xd0000001);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0000000, 4), 0x0403aa55, "until it is switched on");
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0000004, 4), 0xffff0605, "to its end");
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0000ffe, 2), 0xffff, "and all ones behind that");
	bus_write(g_bus, BUS_MMIO, 0xd0000000, 4, 0);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0000000, 1), 0x55, "it cannot be written");
	cfg_write(9, 0x30, 4, 0xd0001001);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0001000, 2), 0xaa55, "it moves");
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0000000, 2), 0xffff, "and leaves nothing");
	cfg_write(9, 4, 2, 0);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0001000, 2), 0xffff, "without memory decoding it is nowhere");
	cfg_write(9, 4, 2, 2);
	device_reset(g_host);
	is_int(bus_read(g_bus, BUS_MMIO, 0xd0001000, 2), 0xffff, "nor after a reset");
	is_int(cfg_read(9, 0x30, 4), 0, "which switches it off");
	pci_remove(&with);
}

static void test_reset_port(void)
{
	bus_write(g_bus, BUS_PORT, 0xcf9, 1, 0x02);
	is_int(g_resets, 0, "0xcf9: arming");
	bus_write(g_bus, BUS_PORT, 0xcf9, 1, 0x06);
	is_int(g_resets, 1, "0xcf9: reset");
}

int main(void)
{
	g_start();
	add_functions();
	test_config();
	test_bars();
	test_pins();
	test_msix();
	test_rom();
	test_port();
	test_slot();
	test_reset_port();
	test_functions();
	test_express();
	test_look();
	pci_remove(&fn);
	is_int(cfg_read(5, 0, 4), 0xffffffff, "a removed function is gone");
	pci_remove(&other);
	msix_fini(&msix);
	g_stop();
	return done_testing();
}
