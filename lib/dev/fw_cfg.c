/* SPDX-License-Identifier: MIT */
/*
 * fw_cfg: a selector, and the bytes of what it selects, one by one or by DMA.
 *
 *	+0   selector   16 bits, write: the key; the next byte is its first
 *	+1   data        8 bits, read: the next byte; 0 behind the end
 *	+4   DMA        64 bits, big-endian, in two halves: where a request is; the lower half begins it
 *
 * Keys below 0x20 are fixed; files have those from 0x20 on, and key 0x19 is their directory. A request is 16
 * bytes in guest memory, big-endian: what to do and a key, a length, an address. What to do becomes 0, or an error.
 *
 * Everything is the board's and constant, so that state is the selector, the place in the item, and half an address.
 * The guest's length is not believed: no more than DMA_MAX is done at once, for a vCPU is here until the end. Writes to items are
 * refused: there is none that the guest may write.
 */
#include "dev/fw_cfg.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "state/state.h"

#include <errno.h>
#include <string.h>

#define KEY_SIGNATURE  0x00
#define KEY_ID         0x01
#define KEY_DIRECTORY  0x19
#define KEY_FILE       0x20
#define KEY_WRITE      0x4000 /* an old way to write items: ignored */
#define KEY_NONE       0xffff

#define ID_TRADITIONAL 0x1
#define ID_DMA         0x2

#define DMA 4

#define DMA_SIGNATURE UINT64_C(0x51454d5520434647) /* "QEMU CFG" */

#define DO_ERROR  0x01u
#define DO_READ   0x02u
#define DO_SKIP   0x04u
#define DO_SELECT 0x08u
#define DO_WRITE  0x10u

#define DMA_MAX (16 * MiB)
#define PAGE    4096u

#define ENTRY 64 /* of the directory */

struct fw_cfg {
	struct device dev;
	struct fw_cfg_config config;
	uint8_t directory[4 + FW_CFG_ITEMS_MAX * ENTRY];
	uint32_t directory_len;
	uint16_t key;
	uint32_t at;    /* of its next byte */
	uint32_t dma_high;
};

/* -- Items ------------------------------------------------------------------------------ */

static const struct fw_cfg_item *find_item(const struct fw_cfg *f, uint16_t key)
{
	uint16_t file = KEY_FILE;

	for (unsigned i = 0; i < f->config.n; i++) {
		const struct fw_cfg_item *item = &f->config.items[i];

		if (key == (item->name ? file++ : item->key))
			return item;
	}
	return NULL;
}

/* The bytes of what is selected from `at` on; how many. */
static uint32_t rest(const struct fw_cfg *f, const uint8_t **bytes)
{
	static const uint8_t id[4] = {ID_TRADITIONAL | ID_DMA};
	const struct fw_cfg_item *item = find_item(f, f->key);
	uint32_t size = 0;

	*bytes = NULL;
	if (f->key == KEY_SIGNATURE)
		*bytes = (const uint8_t *)"QEMU", size = 4;
	else if (f->key == KEY_ID)
		*bytes = id, size = sizeof(id);
	else if (f->key == KEY_DIRECTORY)
		*bytes = f->directory, size = f->directory_len;
	else if (item)
		*bytes = item->bytes, size = item->size;
	if (f->at >= size)
		return 0;
	*bytes += f->at;
	return size - f->at;
}

static void select_key(struct fw_cfg *f, uint16_t key)
{
	f->key = key & (uint16_t)~KEY_WRITE;
	f->at = 0;
}

/* -- Requests --------------------------------------------------------------------------- */

static void move_on(struct fw_cfg *f, uint32_t n)
{
	f->at = n > UINT32_MAX - f->at ? UINT32_MAX : f->at + n;
}

/* Bytes that are in one page, and so in one region of memory. */
static bool copy_piece(struct fw_cfg *f, gpa_t to, uint32_t len)
{
	const uint8_t *bytes;
	uint32_t n = rest(f, &bytes);
	uint8_t *host = guest_range(f->config.mem, to, len);

	if (!host)
		return false;
	if (n > len)
		n = len;
	if (n)
		memcpy(host, bytes, n);
	memset(host + n, 0, len - n);
	move_on(f, len);
	return true;
}

/* len bytes, zeros behind the end. An option ROM goes to several pieces of shadow RAM. */
static bool copy_out(struct fw_cfg *f, gpa_t to, uint32_t len)
{
	bool fine = len <= DMA_MAX;

	while (fine && len) {
		uint32_t n = PAGE - (uint32_t)(to % PAGE);

		n = n < len ? n : len;
		fine = copy_piece(f, to, n);
		to += n;
		len -= n;
	}
	return fine;
}

static bool serve(struct fw_cfg *f, const uint8_t request[16])
{
	uint32_t what = be32_get(request), len = be32_get(request + 4);

	if (what & DO_SELECT)
		select_key(f, (uint16_t)(what >> 16));
	if (what & DO_READ)
		return copy_out(f, be64_get(request + 8), len);
	if (what & DO_WRITE)
		return false;
	if (what & DO_SKIP)
		move_on(f, len);
	return true;
}

static void begin_dma(struct fw_cfg *f, gpa_t at)
{
	uint8_t request[16], answer[4];

	if (guest_read(f->config.mem, at, request, sizeof(request)) < 0)
		return;
	be32_put(answer, serve(f, request) ? 0 : DO_ERROR);
	guest_write(f->config.mem, at, answer, sizeof(answer));
}

/* -- Ports ------------------------------------------------------------------------------ */

static void write_selector(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	select_key(dev, (uint16_t)value);
}

static uint64_t read_data(void *dev, unsigned at)
{
	const uint8_t *bytes;
	uint64_t value = rest(dev, &bytes) ? *bytes : 0;

	(void)at;
	move_on(dev, 1);
	return value;
}

/* Big-endian, as the guest's processor reads it. */
static uint64_t read_dma(void *dev, unsigned at)
{
	(void)dev;
	return __builtin_bswap32((uint32_t)(at == DMA ? DMA_SIGNATURE >> 32 : DMA_SIGNATURE));
}

static void write_dma_high(void *dev, unsigned at, uint64_t value)
{
	(void)at;
	((struct fw_cfg *)dev)->dma_high = __builtin_bswap32((uint32_t)value);
}

static void write_dma_low(void *dev, unsigned at, uint64_t value)
{
	struct fw_cfg *f = dev;
	gpa_t address = (gpa_t)f->dma_high << 32 | __builtin_bswap32((uint32_t)value);

	(void)at;
	f->dma_high = 0;
	begin_dma(f, address);
}

static const struct reg regs[] = {
	{.at = 0, .width = 2, .name = "selector", .write = write_selector},
	{.at = 1, .width = 1, .name = "data", .read = read_data},
	{.at = DMA, .width = 4, .name = "DMA_HIGH", .read = read_dma, .write = write_dma_high},
	{.at = DMA + 4, .width = 4, .name = "DMA_LOW", .read = read_dma, .write = write_dma_low},
	{0},
};

static const struct device_place places[] = {
	{BUS_PORT, FW_CFG_SIZE, .regs = regs},
	{0},
};

/* -- The model -------------------------------------------------------------------------- */

static void make_directory(struct fw_cfg *f)
{
	uint32_t n = 0;

	for (unsigned i = 0; i < f->config.n; i++) {
		const struct fw_cfg_item *item = &f->config.items[i];
		uint8_t *e = f->directory + 4 + n * ENTRY;

		if (!item->name)
			continue;
		be32_put(e, item->size);
		be16_put(e + 4, (uint16_t)(KEY_FILE + n));
		memcpy(e + 8, item->name, strnlen(item->name, FW_CFG_NAME_MAX));
		n++;
	}
	be32_put(f->directory, n);
	f->directory_len = 4 + n * ENTRY;
}

static int init(struct device *dev, const void *config, struct err *err)
{
	struct fw_cfg *f = (struct fw_cfg *)dev;

	f->config = *(const struct fw_cfg_config *)config;
	if (f->config.n > FW_CFG_ITEMS_MAX)
		return err_set(err, ENOSPC, "%u items for firmware: there can be %d", f->config.n, FW_CFG_ITEMS_MAX);
	make_directory(f);
	return 0;
}

static void reset(struct device *dev)
{
	struct fw_cfg *f = (struct fw_cfg *)dev;

	select_key(f, KEY_NONE);
	f->dma_high = 0;
}

static const struct state_field fields[] = {
	STATE(struct fw_cfg, key),
	STATE(struct fw_cfg, at),
	STATE(struct fw_cfg, dma_high),
	{0},
};

static const struct state_table table = {.name = "fw_cfg", .version = 1, .fields = fields};
static const struct state_table *const state[] = {&table, NULL};

const struct device_model fw_cfg_model = {
	.name = "fw_cfg",
	.summary = "what the board tells firmware: memory, tables, what to boot",
	.option = "--firmware",
	.size = sizeof(struct fw_cfg),
	.places = places,
	.state = state,
	.init = init,
	.reset = reset,
};
