/* SPDX-License-Identifier: MIT */
/*
 * The CPU features that have a name (features.def), and sets of them.
 *
 *	int i = cpu_feature_find("avx2", 4);
 *	struct cpu_set set = cpu_needs(i); // avx2, and avx, xsave, ... which it needs
 *
 *	if (cpu_set_has(&set, i)) ...
 */
#ifndef MACHINE_CPU_FEATURES_H
#define MACHINE_CPU_FEATURES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CPU_EAX, CPU_EBX, CPU_ECX, CPU_EDX };

/* Which models have a feature; features.def explains them. */
enum cpu_has { CPU_V1 = 1, CPU_V2, CPU_V3, CPU_V4, CPU_OPT, CPU_ENG };

#define CPU_LEVELS CPU_V4

struct cpu_feature {
	uint32_t leaf;
	uint8_t sub, reg, bit;
	uint8_t model;     /* enum cpu_has */
	const char *name;
	const char *needs; /* names with a space between, or "" */
};

extern const struct cpu_feature cpu_features[];
extern const unsigned cpu_n_features;

#define CPU_SET_WORDS 4

struct cpu_set {
	uint64_t word[CPU_SET_WORDS];
};

/* Its place in the table, -1 if there is none of this name. */
int cpu_feature_find(const char *name, size_t len);

static inline bool cpu_set_has(const struct cpu_set *s, unsigned i)
{
	return s->word[i / 64] >> i % 64 & 1;
}

static inline void cpu_set_add(struct cpu_set *s, unsigned i)
{
	s->word[i / 64] |= 1ull << i % 64;
}

/* A feature and what it needs; a feature and what needs it. */
struct cpu_set cpu_needs(unsigned i);
struct cpu_set cpu_needed_by(unsigned i);

/* Those of a level, CPU_V1 to CPU_LEVELS. */
struct cpu_set cpu_set_of_level(unsigned level);

/* Its members' names with `between` between them, cut where the room ends; returns how many
 * there are. */
unsigned cpu_set_text(const struct cpu_set *s, const char *between, char *out, size_t room);

#endif
