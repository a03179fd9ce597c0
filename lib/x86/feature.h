/* SPDX-License-Identifier: MIT */
/*
 * The CPU features that have a name (feature.def), and sets of them.
 *
 *	struct cpu_set has = cpu_set_of_host(), needs = cpu_needs(FEATURE_avx2);
 *
 *	if (cpu_set_has(&has, FEATURE_cx16)) ...
 *	lacks = cpu_set_minus(&needs, &has);    // of avx2, avx, xsave, ...
 *
 * Where a bit of CPUID lies is written in that table alone; all else calls it FEATURE_avx2. These
 * functions use libc: not while the guest's vector state is live.
 */
#ifndef X86_FEATURE_H
#define X86_FEATURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CPU_EAX, CPU_EBX, CPU_ECX, CPU_EDX };

/* Which models have a feature; feature.def explains them. */
enum cpu_has { CPU_V1 = 1, CPU_V2, CPU_V3, CPU_V4, CPU_OPT, CPU_ENG };

#define CPU_LEVELS CPU_V4

struct cpu_feature {
	uint32_t leaf;
	uint8_t sub, reg, bit;
	uint8_t model;     /* enum cpu_has */
	const char *name;
	const char *needs; /* names with a space between, or "" */
};

enum cpu_feature_id {
#define FEATURE(leaf, sub, reg, bit, model, name, needs) FEATURE_##name,
#include "x86/feature.def"
#undef FEATURE
	CPU_FEATURES
};

extern const struct cpu_feature cpu_features[CPU_FEATURES];

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

/* Has this computer's CPU one of them? No libc. Under a hypervisor CPUID takes tens of
 * microseconds. */
bool cpu_host_has(enum cpu_feature_id feature);

/* What its kernel has switched on of XSAVE's components: XCR0; 0: it has no XSAVE. No libc. */
uint64_t cpu_host_xcr0(void);

/* By EBX of leaf 0, "Auth" and "Hygo": AMD's CPUs, and Hygon's, which are built like them. */
static inline bool cpu_is_amd(uint32_t vendor)
{
	return vendor == 0x68747541 || vendor == 0x6f677948;
}

/* What their leaf 0x80000001 has in EDX of leaf 1's EDX, again. */
#define CPU_AMD_REPEATED 0x0183f3ffu

/* All that its CPU and its kernel give to programs: without what XCR0 does not permit. */
struct cpu_set cpu_set_of_host(void);

/* The components of an XSAVE area, as bits of XCR0 and IA32_XSS, that the features of a set come
 * with; and the features that cannot be used where XCR0 has these bits only (0: no XSAVE). */
uint64_t cpu_state_of(const struct cpu_set *s);
struct cpu_set cpu_without_state(uint64_t xcr0);

/* The members of a that are not in b. */
struct cpu_set cpu_set_minus(const struct cpu_set *a, const struct cpu_set *b);
bool cpu_set_is_empty(const struct cpu_set *s);

/* Its members' names with `between` between them, cut where the room ends; returns how many
 * there are. */
unsigned cpu_set_text(const struct cpu_set *s, const char *between, char *out, size_t room);

#endif
