/* SPDX-License-Identifier: MIT */
/*
 * Which level of the x86-64 psABI this computer's CPU has, and what the next one would need.
 *
 *	struct cpu_words cpu;
 *	const char *lacks[LEVEL_LACKS];
 *
 *	cpu_words_read(&cpu);
 *	level = level_of(&cpu, lacks);          // 2, and lacks is {"LZCNT", NULL}
 */
#ifndef ENGINE_LEVEL_H
#define ENGINE_LEVEL_H

#include <stdbool.h>
#include <stdint.h>

/* The words of CPUID in which features are said. */
enum cpu_word { CPU_1_ECX, CPU_7_EBX, CPU_X1_ECX, CPU_X7_EDX, CPU_WORDS };

struct cpu_words {
	uint32_t word[CPU_WORDS];
	uint64_t xcr0; /* what the kernel enabled of XSAVE's components; 0 without OSXSAVE */
};

#define LEVEL_LACKS 12 /* names that a level can lack, and a NULL */

void cpu_words_read(struct cpu_words *cpu);

static inline bool cpu_has(const struct cpu_words *cpu, enum cpu_word word, unsigned bit)
{
	return cpu->word[word] >> bit & 1;
}

/* 1 to 4, and what it lacks for the next level: names as the psABI has them, NULL at the end. */
unsigned level_of(const struct cpu_words *cpu, const char *lacks[LEVEL_LACKS]);

#endif
