/* SPDX-License-Identifier: MIT */
/*
 * A driver that puts any bytes into an NVMe controller's registers, doorbells, queues and lists, against dev/storage.
 *
 * The input is guest RAM (as far as queues and lists go) and steps of eight bytes. Some make a command that is whole but for what the
 * input says, so that most get past the first checks.
 *
 * Nothing may crash, hang, or touch a byte outside of guest RAM, which is an allocation of its own; the disk stays as long as it was.
 */
#include "dev/storage/nvme.h"
#include "fuzz/storage.h"

#define RAM_SIZE 0x10000u
#define BAR      0xc0000000u
#define QUEUES   3u
#define SQ(n)    ((n) * 0x1000u)
#define CQ(n)    ((n) * 0x1000u + 0x8000u)
#define ENTRIES  16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned tail[QUEUES];

static void out(unsigned at, unsigned width, uint64_t value)
{
	bus_write(bus, BUS_MMIO, BAR + at, width, value);
}

static uint8_t *put(unsigned n, uint8_t code, uint64_t at)
{
	uint8_t *c = ram + SQ(n) + tail[n] * 64;

	memset(c, 0, 64);
	c[0] = code;
	le32_put(c + 4, 1);
	le64_put(c + 24, at);
	tail[n] = (tail[n] + 1) % ENTRIES;
	return c;
}

static void ring(unsigned n)
{
	out(0x1000 + n * 8, 4, tail[n]);
}

static void start(void)
{
	memset(tail, 0, sizeof(tail));
	out(0x14, 4, 0);
	out(0x24, 4, (ENTRIES - 1) << 16 | (ENTRIES - 1));
	out(0x28, 8, SQ(0));
	out(0x30, 8, CQ(0));
	out(0x14, 4, 0x00460001);
	for (unsigned n = 1; n < QUEUES; n++) {
		uint8_t *c = put(0, 5, CQ(n));

		le32_put(c + 40, (ENTRIES - 1) << 16 | n);
		le32_put(c + 44, n << 16 | 3);
		c = put(0, 1, SQ(n));
		le32_put(c + 40, (ENTRIES - 1) << 16 | n);
		le32_put(c + 44, n << 16 | 1);
		ring(0);
	}
}

static void command(const uint8_t *step)
{
	static const uint8_t io[] = {0, 1, 2, 8, 9}, admin[] = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12};
	unsigned n = step[1] % QUEUES;
	uint8_t code = step[2] & 0x80 ? step[2] : n ? io[step[2] % sizeof(io)] : admin[step[2] % sizeof(admin)];
	uint8_t *c = put(n, code, (uint64_t)step[3] << 8 | (step[1] & 0x80 ? 4 : 0));

	le64_put(c + 32, (uint64_t)step[4] << 8 | (step[1] & 0x40 ? 0xf8 : 0));
	le32_put(c + 40, n ? step[5] : step[5] | (uint32_t)step[6] << 16);
	le32_put(c + 44, n && code != 9 ? 0 : step[6] & 7u);
	le32_put(c + 48, n ? step[7] : 0);
	ring(n);
}

static void do_step(const uint8_t *step)
{
	switch (step[0] % 8) {
	case 0:
		out(le16_get(step + 2) % 0x40 & ~3u, step[1] & 1 ? 8 : 4, le32_get(step + 4));
		break;
	case 1:
		bus_read(bus, BUS_MMIO, BAR + le16_get(step + 2) % 0x40, 1u << step[4] % 4);
		break;
	case 2:
	case 3:
		command(step);
		break;
	case 4: /* whatever bell */
		out(0x1000 + step[1] % 48 * 4u, 4, le16_get(step + 2) % 20u);
		break;
	case 5: /* the driver writes four bytes, or an address */
		memcpy(ram + le16_get(step + 2) % (RAM_SIZE - 8), step + 4, 4);
		break;
	case 6:
		start();
		break;
	case 7: /* what has ended was seen */
		out(0x1004 + step[1] % QUEUES * 8, 4, step[2] % ENTRIES);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t bytes = size / 4 < 0x1000 ? size / 4 : 0x1000;
	struct device *nvme;

	open_disks();
	make_bus(RAM_SIZE, data, 0, &(struct pci_host_config){.mem_base = BAR, .mem_size = 0x100000});
	nvme = device_create(&nvme_model, bus, NULL, &(struct nvme_config){.host = host, .mem = &mem, .slot = SLOT, .disk = disk}, NULL);
	device_reset(host);
	start();
	memcpy(ram + SQ(QUEUES), data, bytes);
	for (data += bytes, size -= bytes; size >= 8; data += 8, size -= 8)
		do_step(data);
	device_destroy(nvme);
	unmake_bus();
	return 0;
}
