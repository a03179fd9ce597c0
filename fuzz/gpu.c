/* SPDX-License-Identifier: MIT */
/*
 * Any commands to a virtio GPU (lib/dev/virtio/gpu.h), 32 bytes each: which one, and 15 numbers of the driver's.
 *
 *	[command] [queue] [number: 2] * 15
 *
 * A number is small, or, with bit 15, an address in the small RAM or something large. Entries of a backing are in the command, and the rest
 * of that is what the RAM has.
 *
 * What must hold: after each command all that is remembered is what a saved machine may have, and what is shown lies in the store. RAM and
 * store are allocations of their own, so a sanitizer sees a byte too far.
 */
#include "base/bytes.h"
#include "base/macros.h"
#include "dev/virtio/gpu.h"
#include "display/surface.h"

#include <stdlib.h>
#include <string.h>

#define RAM_BASE   0x100000u
#define RAM_SIZE   0x4000u
#define STORE_SIZE 0x10000u
#define NUMBERS    15u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int fine)
{
	if (!fine)
		abort();
}

static void wrote(void *ctx, const uint8_t *bytes, uint64_t len)
{
	const struct gpu_2d *g = ctx;

	must(bytes >= g->store && len && len <= STORE_SIZE && bytes + len <= g->store + STORE_SIZE);
}

static void forget(void *ctx, uint8_t *bytes, uint64_t len)
{
	wrote(ctx, bytes, len);
	memset(bytes, 0, len);
}

static uint32_t number(unsigned n)
{
	if (!(n & 0x8000))
		return n;
	return n & 0x4000 ? RAM_BASE + n % RAM_SIZE : n << 17 | n;
}

static void do_command(struct gpu_2d *g, uint8_t *ram, const uint8_t *step)
{
	static const uint32_t types[] = {0x100, 0x101, 0x102, 0x103, 0x104, 0x105, 0x106, 0x107, 0x10a, 0x300, 0x301, 0};
	uint8_t command[24 + 4 * NUMBERS] = {0};
	struct iovec iov[2] = {{command, sizeof(command)}, {ram, RAM_SIZE}};

	le32_put(command, types[step[0] % ARRAY_SIZE(types)]);
	command[4] = step[1] >> 1 & 1;
	for (unsigned i = 0; i < NUMBERS; i++)
		le32_put(command + 24 + 4 * i, number(le16_get(step + 2 + 2 * i)));
	gpu_command(g, iov, step[1] & 4 ? 1 : 2, step[1] & 1);
	must(g->reply.len >= GPU_HEADER && g->reply.len <= GPU_REPLY_MAX);
	must(!gpu_loaded(g));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint32_t pixels[320 * 200];
	struct surface s = {.pixels = pixels, .room = ARRAY_SIZE(pixels)};
	struct gpu_2d *g = calloc(1, sizeof(*g));
	uint8_t *ram = calloc(1, RAM_SIZE), *store = calloc(1, STORE_SIZE);
	struct guest_mem mem = {.n = 1, .regions[0] = {.base = RAM_BASE, .size = RAM_SIZE, .host = ram}};
	struct gpu_shot shot;

	must(g && ram && store);
	g->mem = &mem;
	g->store = store;
	g->store_size = STORE_SIZE;
	g->wrote = wrote;
	g->forget = forget;
	g->ctx = g;
	gpu_resize(g, 1024, 768);
	for (; size >= 32; data += 32, size -= 32) {
		memcpy(ram, data, 32);
		do_command(g, ram, data);
	}
	shot = gpu_look(g);
	if (shot.scene.active)
		gpu_draw(&shot, &s);
	gpu_reset(g);
	must(!g->n_resources && !g->n_entries);
	free(g);
	free(ram);
	free(store);
	return 0;
}
