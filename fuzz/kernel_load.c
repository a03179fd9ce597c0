/* SPDX-License-Identifier: MIT */
/*
 * Kernel files of any bytes through both loaders. The first byte chooses what is loaded with
 * it; the rest is the file.
 *
 * The loader may refuse or load; it must not write outside of guest memory, nor give an
 * entry point outside of it. Guest memory here has a guard page on both sides.
 */
#include "base/err.h"
#include "base/macros.h"
#include "machine/boot/blob.h"
#include "machine/boot/boot.h"
#include "machine/board_map.h"
#include "machine/map.h"

#include <stdlib.h>
#include <sys/mman.h>

#define MEMORY (32 * MiB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t *guarded(size_t len)
{
	uint8_t *p =
		mmap(NULL, len + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + 4096, len, PROT_READ | PROT_WRITE) < 0)
		abort();
	return p + 4096;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest_mem mem;
	static uint8_t *host;
	struct blob initrd = {.role = "initrd", .path = "initrd", .fd = -1};
	struct blob kernel = {.role = "kernel", .path = "kernel", .fd = -1};
	struct boot_plan plan = {
		.kernel = &kernel, .cmdline = "", .mem = &mem, .memory = MEMORY,
		.board = &board_direct, .rsdp = board_direct.at[BOARD_RSDP].base,
	};
	struct boot_entry entry;
	struct err err = {0};

	if (size < 2)
		return 0;
	if (!host) {
		struct guest_region ram = {
			.size = MEMORY, .host = host = guarded(MEMORY), .name = "ram"};

		guest_mem_add(&mem, &ram, &err);
	}
	kernel.bytes = data + 1;
	kernel.size = size - 1;
	initrd.bytes = data;
	initrd.size = size;
	if (data[0] & 1)
		plan.initrd = &initrd;
	if (boot_load(&plan, &entry, &err) == 0) {
		if (entry.rip < MAP_BIOS_END || entry.rip >= MEMORY)
			abort();
	} else if (!err.text[0]) {
		abort(); /* refused without a sentence */
	}
	return 0;
}
