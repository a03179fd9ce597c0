/* SPDX-License-Identifier: MIT */
/*
 * What firmware talks to: shadow RAM and configuration space of the memory controller, PIC lines of the LPC bridge, fw_cfg by
 * bytes and by DMA, the debug console.
 */
#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "dev/debugcon.h"
#include "dev/flash.h"
#include "dev/fw_cfg.h"
#include "dev/pci/function.h"
#include "dev/pci/lpc.h"
#include "dev/pci/mch.h"
#include "loop/loop.h"
#include "tests/tap.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM 0x10000u

static uint8_t ram[RAM];
static struct guest_mem mem;
static struct bus *bus;

static void out(unsigned port, unsigned width, uint64_t value)
{
	bus_write(bus, BUS_PORT, port, width, value);
}

static uint64_t in(unsigned port, unsigned width)
{
	return bus_read(bus, BUS_PORT, port, width);
}

static void config(unsigned devfn, unsigned at, unsigned width, uint64_t value)
{
	out(0xcf8, 4, 0x80000000u | devfn << 8 | (at & 0xfc));
	out(0xcfc + (at & 3), width, value);
}

static uint32_t config_in(unsigned devfn, unsigned at, unsigned width)
{
	out(0xcf8, 4, 0x80000000u | devfn << 8 | (at & 0xfc));
	return (uint32_t)in(0xcfc + (at & 3), width);
}

/* -- The memory controller ---------------------------------------------------------------- */

static char shadows[MCH_SHADOWS + 1]; /* of each: '-', or r, w, b(oth) */
static unsigned changes;
static uint64_t stored_at;
static unsigned stored;

static void shadow(void *ctx, unsigned n, bool reads, bool writes)
{
	(void)ctx;
	shadows[n] = "-rwb"[reads | writes << 1];
	changes++;
}

static void store(void *ctx, uint64_t at, uint8_t value)
{
	(void)ctx;
	stored_at = at;
	stored = value;
}

static struct device *make_mch(void)
{
	memset(shadows, '-', MCH_SHADOWS);
	return device_create(&mch_model, bus, (uint64_t[]){0xcf8, 0xcfc},
			     &(struct mch_config){.shadow = shadow, .store = store}, NULL);
}

static void test_shadows(struct device *mch)
{
	is_int(config_in(0, 0, 4), 0x29c08086, "a Q35's memory controller");
	config(0, 0x90, 1, 0x30);
	is_str(shadows, "------------b", "PAM0: the last 64 KiB");
	is_int(changes, 1, "and nothing else is said");
	config(0, 0x91, 4, 0x00331321);
	is_str(shadows, "rwbrbb------b", "PAM1 to 3: two pieces each, the lower one first");
	config(0, 0x96, 1, 0xff);
	is_str(shadows, "rwbrbb----bbb", "PAM6");
	is_int(config_in(0, 0x96, 1), 0x33, "of whose bits four are there");

	bus_write(bus, BUS_MMIO, 0xc4010, 4, 0x12345678);
	ok(stored_at == 0x4013 && stored == 0x12, "a write behind what is read goes to RAM, by bytes");
	bus_write(bus, BUS_MMIO, 0xc7ffe, 4, 0x12345678);
	ok(stored_at == 0x7fff && stored == 0x56, "and ends where the next piece is not so");
	stored = 0;
	bus_write(bus, BUS_MMIO, 0xc0010, 4, 1);
	bus_write(bus, BUS_MMIO, 0xe0010, 4, 1);
	is_int(stored, 0, "one to a piece that is not written goes nowhere");
	config(0, 0x90, 1, 0x20);
	bus_write(bus, BUS_MMIO, 0xfffff, 1, 7);
	is_int(stored_at, 0x3ffff, "the last byte is of the last piece");
	device_reset(mch);
	is_str(shadows, "-------------", "after a reset all is ROM");
}

static void test_ecam(struct device *mch)
{
	is_int(bus_read(bus, BUS_MMIO, 0xb0000000, 4), 0xffffffff, "configuration space is nowhere in memory");
	config(0, 0x60, 4, 0xb0000001);
	is_int(bus_read(bus, BUS_MMIO, 0xb0000000, 4), 0x29c08086, "PCIEXBAR puts it there");
	is_int(bus_read(bus, BUS_MMIO, 0xb0100000, 4), 0xffffffff, "bus 1 has nobody");
	is_int(bus_read(bus, BUS_MMIO, 0xbffff000, 4), 0xffffffff, "nor has bus 255");
	is_str(bus_name(bus, BUS_MMIO, 0xbffff000), "pci configuration", "which is in the window");
	config(0, 0x60, 4, 0xe4000005);
	is_int(bus_read(bus, BUS_MMIO, 0xe4000000, 4), 0x29c08086, "64 MiB of it, elsewhere");
	is_str(bus_name(bus, BUS_MMIO, 0xe8000000), "", "and no more");
	is_str(bus_name(bus, BUS_MMIO, 0xb0000000), "", "nor where it was");
	config(0, 0x60, 4, 0xb0000007);
	is_str(bus_name(bus, BUS_MMIO, 0xb0000000), "", "a length that there is not");
	config(0, 0x60, 4, 0xb0000001);
	device_reset(mch);
	is_str(bus_name(bus, BUS_MMIO, 0xb0000000), "", "a reset takes it away");
}

/* Two CPUs decode and hide BARs of two functions, as Linux does without a lock of its own. */
static struct pci_function two[2];

static uint64_t read_nothing(void *ctx, uint64_t at, unsigned width)
{
	(void)ctx, (void)at, (void)width;
	return 0;
}

static void *toggle(void *arg)
{
	unsigned n = arg != NULL;
	uint64_t command = 0xb0000000u + (PCI_DEVFN(1 + n, 0) << 12) + PCI_COMMAND;

	for (unsigned i = 0; i < 20000; i++)
		bus_write(bus, BUS_MMIO, command, 2, i % 2 ? 0 : PCI_COMMAND_MEMORY);
	return NULL;
}

static void test_two_cpus(struct device *mch)
{
	pthread_t other;

	config(0, 0x60, 4, 0xb0000001);
	for (unsigned n = 0; n < 2; n++) {
		two[n] = (struct pci_function){.name = n ? "second" : "first", .vendor = 1, .device = 2, .ctx = two};
		two[n].bars[0] = (struct pci_bar){.size = 0x1000, .read = read_nothing};
		pci_add(mch, &two[n], PCI_DEVFN(1 + n, 0), NULL);
		config(PCI_DEVFN(1 + n, 0), PCI_BAR0, 4, 0xc0000000u + n * 0x1000);
	}
	pthread_create(&other, NULL, toggle, bus);
	toggle(NULL);
	pthread_join(other, NULL);
	device_reset(mch);
	ok(!bus_name(bus, BUS_MMIO, 0xc0000000)[0] && !bus_name(bus, BUS_MMIO, 0xc0001000)[0], "two CPUs leave no BAR behind");
	pci_remove(&two[1]);
	pci_remove(&two[0]);
}

/* -- The LPC bridge ---------------------------------------------------------------------- */

static uint32_t isa, pci;

static void set_line(void *ctx, unsigned gsi, bool level)
{
	uint32_t *lines = ctx;

	*lines = level ? *lines | 1u << gsi : *lines & ~(1u << gsi);
}

static void test_lpc(struct device *mch)
{
	struct lpc_config c = {.host = mch, .isa = {.set = set_line, .ctx = &isa}, .pm = 0x600};
	struct device *lpc;

	for (unsigned i = 0; i < PCI_INTX; i++)
		c.pci[i] = (struct irq_line){.set = set_line, .ctx = &pci, .gsi = 16 + i};
	lpc = device_create(&lpc_model, bus, NULL, &c, NULL);
	is_int(config_in(LPC_DEVFN, 0, 4), 0x29188086, "an ICH9's bridge, in slot 31");
	config(LPC_DEVFN, 0x40, 4, 0xb000);
	is_int(config_in(LPC_DEVFN, 0x40, 4), 0x601, "ACPI's ports stay where the board has them");
	lpc_pirq(lpc, 1, true);
	ok(pci == 1u << 17 && isa == 0, "a pin is an input of the IOAPIC, and of no PIC");
	config(LPC_DEVFN, 0x61, 1, 10);
	is_int(isa, 1 << 10, "until it is routed: at once, for it is pulled");
	config(LPC_DEVFN, 0x62, 1, 10);
	lpc_pirq(lpc, 2, true);
	lpc_pirq(lpc, 1, false);
	ok(isa == 1 << 10 && pci == 1u << 18, "two pins share an input: one still pulls it");
	lpc_pirq(lpc, 2, false);
	is_int(isa, 0, "nobody pulls it");
	lpc_pirq(lpc, 2, true);
	config(LPC_DEVFN, 0x62, 1, 11);
	is_int(isa, 1 << 11, "another input");
	for (unsigned bad = 0; bad < 16; bad++) {
		bool reserved = bad < 3 || bad == 8 || bad == 13;

		config(LPC_DEVFN, 0x62, 1, bad);
		is_int(isa, reserved ? 0 : 1 << bad, "input %u is %sfor PCI", bad, reserved ? "not " : "");
	}
	device_reset(lpc);
	is_int(isa, 0, "after a reset none is routed");
	device_destroy(lpc);
}

/* -- fw_cfg ------------------------------------------------------------------------------ */

static const struct fw_cfg_item items[] = {
	{.key = FW_CFG_CPUS, .bytes = "\3\0", .size = 2},
	{.name = "etc/a", .bytes = "first", .size = 5},
	{.name = "etc/b", .bytes = "another", .size = 7},
};

static void request(uint32_t what, uint32_t len, uint64_t to)
{
	be32_put(ram + 0x100, what);
	be32_put(ram + 0x104, len);
	be64_put(ram + 0x108, to);
	out(0x514, 4, 0);
	out(0x518, 4, __builtin_bswap32(0x100));
}

static uint32_t answer(void)
{
	return be32_get(ram + 0x100);
}

static void test_bytes(void)
{
	char text[8] = {0};

	out(0x510, 2, 0);
	for (unsigned i = 0; i < 4; i++)
		text[i] = (char)in(0x511, 1);
	is_str(text, "QEMU", "the signature");
	is_int(in(0x511, 1), 0, "zeros behind its end");
	out(0x510, 2, 1);
	is_int(in(0x511, 1), 3, "it has DMA");
	out(0x510, 2, FW_CFG_CPUS);
	is_int(in(0x511, 1), 3, "a key's item");
	out(0x510, 2, 0x21);
	is_int(in(0x511, 1), 'a', "the second file");
	out(0x510, 2, 0x4021);
	is_int(in(0x511, 1), 'a', "the bit for writing is ignored");
	out(0x510, 2, 0x22);
	is_int(in(0x511, 1), 0, "no third one");
	ok(in(0x514, 4) == 0x554d4551 && in(0x518, 4) == 0x47464320, "DMA's signature");
}

static void test_dma(void)
{
	request(0x19 << 16 | 8 | 2, 4 + 64, 0x1000);
	is_int(answer(), 0, "the directory by DMA");
	is_int(be32_get(ram + 0x1000), 2, "two files");
	ok(be32_get(ram + 0x1004) == 5 && be16_get(ram + 0x1008) == 0x20, "size and key of the first");
	is_str((char *)ram + 0x100c, "etc/a", "its name");
	request(0x21 << 16 | 8, 0, 0);
	request(4, 2, 0);
	memset(ram + 0x2000, 0xff, 16);
	request(2, 8, 0x2000);
	ok(!memcmp(ram + 0x2000, "other\0\0\0\xff", 9), "selected, skipped, read: the rest, then zeros, and no more");
	memset(ram + 0x2ff0, 0xff, 64);
	request(0x21 << 16 | 8 | 2, 24, 0x2ffc);
	is_int(answer(), 0, "across pages, which may be of several regions");
	ok(!memcmp(ram + 0x2ffb, "\xff" "another\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff", 26), "it is all there");
	request(0x20 << 16 | 8 | 2, 5, RAM - 4);
	is_int(answer(), 1, "an address with less memory is an error");
	request(0x20 << 16 | 8 | 2, 0xffffffff, 0);
	is_int(answer(), 1, "so is a length that is more than memory");
	request(0x20 << 16 | 8 | 0x10, 5, 0x1000);
	is_int(answer(), 1, "and a write");
	request(4, 0xffffffff, 0);
	request(4, 0xffffffff, 0);
	is_int(in(0x511, 1), 0, "nothing comes round");
	out(0x518, 4, __builtin_bswap32(RAM - 8));
	ok(true, "a request that is not in memory is nothing");
}

/* -- The flash chip ---------------------------------------------------------------------- */

static uint8_t chip[FLASH_SIZE];
static bool shown;

static void show(void *ctx, bool array)
{
	(void)ctx;
	shown = array;
}

static void chip_out(unsigned at, uint8_t value)
{
	bus_write(bus, BUS_MMIO, 0xffc00000u + at, 1, value);
}

static unsigned chip_in(unsigned at)
{
	return (unsigned)bus_read(bus, BUS_MMIO, 0xffc00000u + at, 1);
}

static void test_flash(struct loop *loop)
{
	int fd = memfd_create("variables", MFD_CLOEXEC);
	struct flash_config c = {.bytes = chip, .show = show, .fd = fd, .loop = loop};
	struct device *dev;
	uint8_t file[2] = {0};

	memset(chip, 0xff, sizeof(chip));
	shown = true;
	dev = device_create(&flash_model, bus, (uint64_t[]){0xffc00000}, &c, NULL);
	chip_out(0, 0x70);
	ok(!shown && chip_in(5) == 0, "the status: nothing is ready that was not begun, as OVMF looks for it");
	chip_out(0, 0xff);
	ok(shown && chip_in(5) == 0xff, "and the array again");
	chip_out(0, 0x90);
	ok(chip_in(0) == 0x89 && chip_in(1) == 0x18, "maker and device");
	chip_out(0x1234, 0x10);
	chip_out(0x1234, 0x5a);
	ok(!shown && chip_in(0) == 0x80, "a byte is programmed, and it is ready");
	chip_out(0x1234, 0x40);
	chip_out(0x1234, 0xf0);
	is_int(chip[0x1234], 0x50, "bits become 0, never 1");
	chip_out(0x1fff, 0x20);
	chip_out(0x1fff, 0xd0);
	ok(chip[0x1234] == 0xff && chip[0x1000] == 0xff, "a block is erased");
	chip_out(0x1fff, 0x20);
	chip_out(0x1fff, 0x10);
	is_int(chip_in(0), 0xb0, "an erase without its second half fails");
	chip_out(0, 0x50);
	ok(shown, "the status cleared, reads are the array's");
	chip_out(0, 0x70);
	is_int(chip_in(0), 0, "and it is");
	chip_out(FLASH_SIZE - 1, 0x10);
	chip_out(FLASH_SIZE - 1, 0x11);
	chip_out(7, 0x10);
	chip_out(7, 0x77);
	loop_once(loop);
	ok(pread(fd, file, 1, 7) == 1 && pread(fd, file + 1, 1, FLASH_SIZE - 1) == 1 && file[0] == 0x77 && file[1] == 0x11,
	   "the file has what has changed");
	chip_out(8, 0x10);
	chip_out(8, 0x78);
	device_reset(dev);
	ok(shown && chip[8] == 0x78, "a reset leaves the bytes");
	device_destroy(dev);
	ok(pread(fd, file, 1, 8) == 1 && file[0] == 0x78, "and the end writes what the loop has not");
	close(fd);
}

/* Into a file that is full, or goes: that is said, once. */
static void test_failed_write(struct loop *loop)
{
	int fd = open("/dev/full", O_RDWR | O_CLOEXEC), heard = memfd_create("stderr", MFD_CLOEXEC), before = dup(STDERR_FILENO);
	struct flash_config c = {.bytes = chip, .show = show, .fd = fd, .loop = loop};
	struct device *dev = device_create(&flash_model, bus, (uint64_t[]){0xffc00000}, &c, NULL);
	char text[1024] = {0}, *once;

	dup2(heard, STDERR_FILENO);
	for (unsigned i = 0; i < 2; i++) {
		chip_out(7, 0x10);
		chip_out(7, 0x77);
		loop_once(loop);
	}
	device_destroy(dev);
	dup2(before, STDERR_FILENO);
	ok(pread(heard, text, sizeof(text) - 1, 0) > 0, "what cannot be written is said: %s", text);
	once = strstr(text, "No space left");
	ok(once && !strchr(once, '\n')[1], "why, and once");
	close(before), close(heard), close(fd);
}

/* -- The debug console -------------------------------------------------------------------- */

static void test_debugcon(void)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	struct device *dev = device_create(&debugcon_model, bus, (uint64_t[]){0x402}, &(struct debugcon_config){.to = f}, NULL);

	is_int(in(0x402, 1), 0xe9, "somebody listens");
	for (const char *p = "a line\nand a half"; *p; p++)
		out(0x402, 1, (uint8_t)*p);
	is_str(text, "a line\n", "lines come whole");
	for (unsigned i = 0; i < 300; i++)
		out(0x402, 1, '.');
	is_int(n, 7 + 256, "or by 256 bytes");
	device_reset(dev);
	is_int(n, 7 + 10 + 300, "and at a reset");
	device_destroy(dev);
	fclose(f);
	free(text);
	dev = device_create(&debugcon_model, bus, (uint64_t[]){0x402}, &(struct debugcon_config){0}, NULL);
	is_int(in(0x402, 1), 0xff, "nobody listens");
	out(0x402, 1, 'x');
	device_destroy(dev);
}

int main(void)
{
	struct device *mch, *fw;
	struct loop *loop;

	bus = bus_create();
	guest_mem_add(&mem, &(struct guest_region){.size = RAM, .host = ram}, NULL);
	mch = make_mch();
	test_shadows(mch);
	test_ecam(mch);
	test_two_cpus(mch);
	test_lpc(mch);
	device_destroy(mch);
	fw = device_create(&fw_cfg_model, bus, (uint64_t[]){0x510},
			   &(struct fw_cfg_config){.mem = &mem, .items = items, .n = ARRAY_SIZE(items)}, NULL);
	test_bytes();
	test_dma();
	device_destroy(fw);
	test_debugcon();
	is_int(loop_create(&loop, NULL), 0, "a loop");
	test_flash(loop);
	test_failed_write(loop);
	loop_destroy(loop);
	bus_destroy(bus);
	return done_testing();
}
