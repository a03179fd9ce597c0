/* SPDX-License-Identifier: MIT */
/*
 * The x86-64 psABI's levels, as its table "Micro-Architecture Levels" lists them, with the bits of
 * CPUID that say so. A vector extension counts only if the kernel saves its registers (XCR0), or
 * no program could use it.
 *
 * Level 1 is any x86-64 CPU.
 */
#include "engine/level.h"

#include "base/macros.h"

#include <cpuid.h>

#define XCR0_AVX    0x06u /* SSE and AVX */
#define XCR0_AVX512 0xe6u /* and mask registers, upper halves, registers 16 to 31 */

static const struct {
	uint8_t level, word, bit;
	uint8_t xcr0;
	const char *name;
} psabi[] = {
	{2, CPU_1_ECX, 13, 0, "CMPXCHG16B"},
	{2, CPU_X1_ECX, 0, 0, "LAHF-SAHF"},
	{2, CPU_1_ECX, 23, 0, "POPCNT"},
	{2, CPU_1_ECX, 0, 0, "SSE3"},
	{2, CPU_1_ECX, 19, 0, "SSE4.1"},
	{2, CPU_1_ECX, 20, 0, "SSE4.2"},
	{2, CPU_1_ECX, 9, 0, "SSSE3"},
	{3, CPU_1_ECX, 28, XCR0_AVX, "AVX"},
	{3, CPU_7_EBX, 5, XCR0_AVX, "AVX2"},
	{3, CPU_7_EBX, 3, 0, "BMI1"},
	{3, CPU_7_EBX, 8, 0, "BMI2"},
	{3, CPU_1_ECX, 29, XCR0_AVX, "F16C"},
	{3, CPU_1_ECX, 12, XCR0_AVX, "FMA"},
	{3, CPU_X1_ECX, 5, 0, "LZCNT"},
	{3, CPU_1_ECX, 22, 0, "MOVBE"},
	{3, CPU_1_ECX, 27, 0, "OSXSAVE"},
	{4, CPU_7_EBX, 16, XCR0_AVX512, "AVX512F"},
	{4, CPU_7_EBX, 30, XCR0_AVX512, "AVX512BW"},
	{4, CPU_7_EBX, 28, XCR0_AVX512, "AVX512CD"},
	{4, CPU_7_EBX, 17, XCR0_AVX512, "AVX512DQ"},
	{4, CPU_7_EBX, 31, XCR0_AVX512, "AVX512VL"},
};

void cpu_words_read(struct cpu_words *cpu)
{
	uint32_t a, b, c, d, low, high;

	*cpu = (struct cpu_words){0};
	__get_cpuid(1, &a, &b, &cpu->word[CPU_1_ECX], &d);
	__get_cpuid_count(7, 0, &a, &cpu->word[CPU_7_EBX], &c, &d);
	__get_cpuid(0x80000001, &a, &b, &cpu->word[CPU_X1_ECX], &d);
	__get_cpuid(0x80000007, &a, &b, &c, &cpu->word[CPU_X7_EDX]);
	if (!(cpu->word[CPU_1_ECX] & bit_OSXSAVE))
		return;
	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	cpu->xcr0 = (uint64_t)high << 32 | low;
}

unsigned level_of(const struct cpu_words *cpu, const char *lacks[LEVEL_LACKS])
{
	unsigned level = 4, n = 0;

	/* The table is in the order of levels, so what is lacking first ends the list. */
	for (unsigned i = 0; i < ARRAY_SIZE(psabi); i++) {
		if (psabi[i].level > level + 1u)
			break;
		if (cpu_has(cpu, psabi[i].word, psabi[i].bit) &&
		    (cpu->xcr0 & psabi[i].xcr0) == psabi[i].xcr0)
			continue;
		level = psabi[i].level - 1u;
		lacks[n++] = psabi[i].name; /* SAFE: a level has fewer than LEVEL_LACKS rows */
	}
	lacks[n] = NULL;
	return level;
}
