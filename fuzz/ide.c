/* SPDX-License-Identifier: MIT */
/*
 * A driver that puts any bytes into an IDE controller's ports, tables and data, against dev/storage.
 *
 * The input is guest RAM (as far as tables go) and steps of eight bytes: what, at which cable and drive, and values. Some steps make a command that
 * is whole but for what the input says, and some move as many words as it wants, so that most get past the first checks. Two disks and two CD drives
 * are there, one of them empty.
 *
 * Nothing may crash, hang, or touch a byte outside of guest RAM, which is an allocation of its own; the disk stays as long as it was.
 */
#include "dev/storage/ide.h"
#include "fuzz/storage.h"

#define RAM_SIZE  0x4000u
#define BMBA      0xc000u
#define TABLE(cable) ((cable) * 0x100u)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void out(unsigned port, unsigned width, uint64_t value)
{
	bus_write(bus, BUS_PORT, port, width, value);
}

static unsigned port_of(unsigned cable, unsigned at)
{
	return (cable ? 0x170u : 0x1f0u) + at;
}

/* As many words as `n`, one way or the other. */
static void move(unsigned cable, unsigned n, bool in, const uint8_t *step)
{
	for (; n; n--)
		if (in)
			bus_read(bus, BUS_PORT, port_of(cable, 0), step[7] & 1 ? 4 : 2);
		else
			out(port_of(cable, 0), step[7] & 1 ? 4 : 2, le32_get(step + 4));
}

static void start(unsigned cable, const uint8_t *step)
{
	for (unsigned i = 0; i < 4; i++) {
		uint8_t *e = ram + TABLE(cable) + (size_t)i * 8;

		le32_put(e, (uint32_t)(step[2] + i * 16) << 8);
		le16_put(e + 4, (uint16_t)(step[3] & 1 ? 512 : step[3] << 1));
		le16_put(e + 6, (uint16_t)(step[4] >> i & 1 ? 0x8000 : 0));
	}
	out(BMBA + cable * 8 + 4, 4, TABLE(cable));
	out(BMBA + cable * 8, 1, step[5] & 9);
}

static void command(unsigned cable, unsigned drive, const uint8_t *step)
{
	static const uint8_t codes[] = {0x20, 0x24, 0x30, 0x34, 0x29, 0x39, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0x25, 0x35, 0x06, 0xec, 0xa1, 0x47,
					0x91, 0xef, 0x90};

	out(port_of(cable, 6), 1, (step[7] & 1 ? 0xa0u : 0xe0u) | drive << 4);
	for (unsigned i = 1; i < 6; i++) {
		out(port_of(cable, i), 1, i == 2 ? step[3] & 0xfu : 0);
		out(port_of(cable, i), 1, i < 5 ? step[1 + i] : 0);
	}
	out(port_of(cable, 7), 1, step[6] & 0x80 ? step[6] : codes[step[6] % sizeof(codes)]);
}

static void packet(unsigned cable, const uint8_t *step)
{
	out(port_of(cable, 6), 1, 0xb0);
	out(port_of(cable, 1), 1, step[2]);
	out(port_of(cable, 4), 1, step[3]);
	out(port_of(cable, 5), 1, step[3] >> 4);
	out(port_of(cable, 7), 1, 0xa0);
	out(port_of(cable, 0), 2, step[4] | (step[7] & 3u) << 8);
	out(port_of(cable, 0), 2, step[6] & 0x80);
	out(port_of(cable, 0), 2, step[5] << 8 | (step[6] & 15u));
	out(port_of(cable, 0), 2, step[6] & 3u);
	out(port_of(cable, 0), 2, step[7]);
	out(port_of(cable, 0), 2, step[7] & 0x10);
}

static void do_step(struct device *ide, const uint8_t *step)
{
	unsigned cable = step[1] >> 7, drive = step[1] >> 6 & 1;

	switch (step[0] % 10) {
	case 0:
		out(port_of(cable, step[2] % 8), 1u << step[3] % 3, le32_get(step + 4));
		break;
	case 1:
		bus_read(bus, BUS_PORT, port_of(cable, step[2] % 8), 1u << step[3] % 3);
		break;
	case 2:
	case 3:
		command(cable, drive, step);
		break;
	case 4:
		packet(cable, step);
		break;
	case 5: /* the driver writes four bytes, or an address */
		memcpy(ram + le16_get(step + 2) % (RAM_SIZE - 8), step + 4, 4);
		break;
	case 6:
		start(cable, step);
		break;
	case 7:
		ide_change(ide, 1, step[3] & 1 ? cd : NULL, step[4] & 1, NULL);
		break;
	case 8:
		move(cable, le16_get(step + 2) % 0x1100, step[6] & 1, step);
		break;
	case 9:
		out(cable ? 0x376 : 0x3f6, 1, step[2]);
		out(BMBA + step[3] % 16, 1u << step[4] % 3, le32_get(step + 4));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t tables = size / 4 < 0x800 ? size / 4 : 0x800;
	struct device *ide;

	open_disks();
	make_bus(RAM_SIZE, data, tables, &(struct pci_host_config){.io_base = BMBA, .io_size = 0x1000});
	ide = device_create(&ide_model, bus, (uint64_t[]){0x1f0, 0x3f6, 0x170, 0x376}, &(struct ide_config){
		.host = host, .mem = &mem, .slot = SLOT,
		.drives = {{.disk = disk}, {.is_cd = true, .disk = cd}, {.disk = disk}, {.is_cd = true}}}, NULL);
	device_reset(host);
	for (data += tables, size -= tables; size >= 8; data += 8, size -= 8)
		do_step(ide, data);
	device_destroy(ide);
	unmake_bus();
	return 0;
}
