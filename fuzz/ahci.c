/* SPDX-License-Identifier: MIT */
/*
 * A driver that puts any bytes into a SATA controller's registers, lists, tables and commands, against dev/storage.
 *
 * The input is guest RAM (as far as tables go) and steps of eight bytes: what, which slot, and values. Some steps make a
 * command that is whole but for what the input says, so that most get past the first checks. A disk, a CD drive and an empty one are there.
 *
 * Nothing may crash, hang, or touch a byte outside of guest RAM, which is an allocation of its own; the disk stays as long as it was.
 */
#include "dev/storage/ahci.h"
#include "fuzz/storage.h"

#define RAM_SIZE 0x10000u
#define ABAR     0xc0000000u
#define PORTS    3u
#define LIST(port)  ((port) * 0x2000u)
#define FIS(port)   (LIST(port) + 0x400u)
#define TABLE(port, tag) (LIST(port) + 0x800u + (tag) * 0x100u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void out(unsigned at, uint32_t value)
{
	bus_write(bus, BUS_MMIO, ABAR + at, 4, value);
}

static void port_out(unsigned port, unsigned at, uint32_t value)
{
	out(0x100 + port * 0x80 + at, value);
}

static void start(unsigned port)
{
	port_out(port, 0x18, 0);
	port_out(port, 0x00, LIST(port));
	port_out(port, 0x04, 0);
	port_out(port, 0x08, FIS(port));
	port_out(port, 0x0c, 0);
	port_out(port, 0x14, UINT32_MAX);
	port_out(port, 0x18, 0x11);
}

/* A header, and a table with regions that are in RAM. */
static uint8_t *put(unsigned port, unsigned tag, const uint8_t *step)
{
	uint8_t *h = ram + LIST(port) + (size_t)tag * 32, *t = ram + TABLE(port, tag);

	memset(h, 0, 32);
	memset(t, 0, 0x80);
	le16_put(h, 5);
	le16_put(h + 2, step[2] % 8);
	le64_put(h + 8, TABLE(port, tag));
	t[0] = 0x27;
	t[1] = 0x80;
	t[7] = 0x40;
	for (unsigned i = 0; i < step[2] % 8u; i++) {
		le64_put(t + 0x80 + i * 16, (uint64_t)(step[3] + i * 16) << 8);
		le32_put(t + 0x80 + i * 16 + 12, step[3] & 1 ? 511 : (uint32_t)step[4] << 2 | 1);
	}
	return t;
}

static void command(unsigned port, unsigned tag, const uint8_t *step)
{
	static const uint8_t codes[] = {0xec, 0x25, 0x35, 0x60, 0x61, 0x06, 0x2f, 0xb0, 0xef, 0xea, 0x20, 0x30, 0xc8, 0xa1, 0xa0, 0x00};
	uint8_t *t = put(port, tag, step);

	t[2] = step[5] & 0x80 ? step[5] : codes[step[5] % sizeof(codes)];
	t[4] = step[6];
	t[12] = step[7];
	t[3] = t[2] == 0x06 ? 1 : step[7];
	if (t[2] == 0x60 || t[2] == 0x61) {
		t[12] = (uint8_t)(tag << 3);
		port_out(port, 0x34, 1u << tag);
	}
	port_out(port, 0x38, 1u << tag);
}

static void packet(unsigned port, unsigned tag, const uint8_t *step)
{
	uint8_t *t = put(port, tag, step);

	t[2] = 0xa0;
	t[3] = step[4] & 1;
	ram[LIST(port) + tag * 32] |= 0x20;
	t[0x40] = step[5];
	t[0x41] = step[7] & 3;
	t[0x44] = step[6];
	t[0x45] = step[6] & 15;
	t[0x48] = step[7];
	t[0x49] = step[7] & 0x10;
	port_out(port, 0x38, 1u << tag);
}

static void do_step(struct device *ahci, const uint8_t *step)
{
	unsigned port = step[1] >> 5 & 3, tag = step[1] % 16;

	switch (step[0] % 8) {
	case 0:
		out(le16_get(step + 2) % 0x300 & ~3u, le32_get(step + 4));
		break;
	case 1:
		bus_read(bus, BUS_MMIO, ABAR + le16_get(step + 2) % 0x300, 1u << step[4] % 4);
		break;
	case 2:
	case 3:
		if (port < PORTS)
			command(port, tag, step);
		break;
	case 4:
		if (port < PORTS)
			packet(port, tag, step);
		break;
	case 5: /* the driver writes four bytes, or an address */
		memcpy(ram + le16_get(step + 2) % (RAM_SIZE - 8), step + 4, 4);
		break;
	case 6:
		if (port < PORTS)
			start(port);
		break;
	case 7:
		ahci_change(ahci, 1 + (step[2] & 1), step[3] & 1 ? cd : NULL, step[4] & 1, NULL);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t tables = size / 4 < 0x1000 ? size / 4 : 0x1000;
	struct device *ahci;

	open_disks();
	make_bus(RAM_SIZE, data, tables, &(struct pci_host_config){.mem_base = ABAR, .mem_size = 0x100000});
	ahci = device_create(&ahci_model, bus, NULL, &(struct ahci_config){
		.host = host, .mem = &mem, .devfn = PCI_DEVFN(SLOT, 0),
		.drives = {{.disk = disk}, {.is_cd = true, .disk = cd}, {.is_cd = true}}}, NULL);
	device_reset(host);
	for (unsigned port = 0; port < PORTS; port++)
		start(port);
	for (data += tables, size -= tables; size >= 8; data += 8, size -= 8)
		do_step(ahci, data);
	device_destroy(ahci);
	unmake_bus();
	return 0;
}
