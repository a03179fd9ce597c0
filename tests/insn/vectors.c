/* SPDX-License-Identifier: MIT */
/*
 * XSAVE images: where the CPU puts each component, and what an absent one means.
 *
 * The kernel's signal frame, KVM_GET_XSAVE and XSAVE itself all use the standard format, but
 * each leaves out what is in its initial state as it likes. So images are compared after
 * vectors_normalize().
 */
#include "insn.h"

#include <cpuid.h>
#include <string.h>

struct component components[64];
uint64_t vector_features;
unsigned vector_size;

/* XTILECFG and XTILEDATA: 8 KiB of state that a process has only where it asked the kernel for it. */
#define TILES (3u << 17)

bool vectors_init(void)
{
	unsigned a, b, c, d, low, high;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return false;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	vector_features = low & ~TILES;
	vector_size = 512 + 64;
	for (unsigned i = 2; i < 32; i++) {
		if (!(vector_features >> i & 1))
			continue;
		__cpuid_count(13, i, a, b, c, d);
		components[i] = (struct component){.at = b, .len = a};
		if (b + a > vector_size)
			vector_size = b + a;
	}
	return vector_size <= VECTOR_STATE;
}

/*
 * FOP, FIP and FDP: the last x87 instruction's opcode and addresses. AMD's CPUs save them only
 * with an exception pending; in a translated guest they are addresses of the host's.
 */
static void clear_x87_pointers(uint8_t *image)
{
	memset(image + 6, 0, 18);
}

static void init_x87(uint8_t *image)
{
	memset(image, 0, 24);
	image[0] = 0x7f;
	image[1] = 0x03;
	memset(image + 32, 0, 128);
}

void vectors_normalize(uint8_t *image)
{
	uint64_t have;

	memcpy(&have, image + 512, 8);
	if (!(have & 1))
		init_x87(image);
	if (!(have & 2))
		memset(image + 160, 0, 256);
	for (unsigned i = 2; i < 64; i++)
		if (components[i].len && !(have >> i & 1))
			memset(image + components[i].at, 0, components[i].len);
	clear_x87_pointers(image);
	for (unsigned i = 0; i < 8; i++) /* the unused end of ST(i) */
		memset(image + 32 + 16 * i + 10, 0, 6);
	memset(image + 28, 0, 4); /* MXCSR_MASK */
	memset(image + 416, 0, 160);
}
