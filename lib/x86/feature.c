/* SPDX-License-Identifier: MIT */
/*
 * The table of feature.def, by name and by what needs what.
 *
 * Needs are looked up by name each time: there are fewer than two hundred rows, and a set is made
 * once a guest.
 */
#include "x86/feature.h"

#include "base/macros.h"
#include "base/word.h"

#include <cpuid.h>
#include <stdio.h>
#include <string.h>

#define MODEL_V1  CPU_V1
#define MODEL_V2  CPU_V2
#define MODEL_V3  CPU_V3
#define MODEL_V4  CPU_V4
#define MODEL_OPT CPU_OPT
#define MODEL_ENG CPU_ENG

const struct cpu_feature cpu_features[CPU_FEATURES] = {
#define FEATURE(leaf, sub, reg, bit, model, name, needs) \
	{leaf, sub, CPU_##reg, bit, MODEL_##model, #name, #needs},
#include "x86/feature.def"
#undef FEATURE
};

_Static_assert(CPU_FEATURES <= CPU_SET_WORDS * 64, "struct cpu_set is too small");

int cpu_feature_find(const char *name, size_t len)
{
	for (unsigned i = 0; i < CPU_FEATURES; i++)
		if (strlen(cpu_features[i].name) == len &&
		    memcmp(cpu_features[i].name, name, len) == 0)
			return (int)i;
	return -1;
}

static void add_needs(struct cpu_set *s, unsigned i)
{
	cpu_set_add(s, i);
	for (unsigned k = 0; k < CPU_FEATURES; k++)
		if (word_in(cpu_features[k].name, cpu_features[i].needs, ' '))
			add_needs(s, k);
}

static void add_needed_by(struct cpu_set *s, unsigned i)
{
	cpu_set_add(s, i);
	for (unsigned k = 0; k < CPU_FEATURES; k++)
		if (word_in(cpu_features[i].name, cpu_features[k].needs, ' '))
			add_needed_by(s, k);
}

struct cpu_set cpu_needs(unsigned i)
{
	struct cpu_set s = {0};

	add_needs(&s, i);
	return s;
}

struct cpu_set cpu_needed_by(unsigned i)
{
	struct cpu_set s = {0};

	add_needed_by(&s, i);
	return s;
}

struct cpu_set cpu_set_of_level(unsigned level)
{
	struct cpu_set s = {0};

	for (unsigned i = 0; i < CPU_FEATURES; i++)
		if (cpu_features[i].model <= level)
			cpu_set_add(&s, i);
	return s;
}

struct cpu_set cpu_set_minus(const struct cpu_set *a, const struct cpu_set *b)
{
	struct cpu_set s;

	for (unsigned w = 0; w < CPU_SET_WORDS; w++)
		s.word[w] = a->word[w] & ~b->word[w];
	return s;
}

bool cpu_set_is_empty(const struct cpu_set *s)
{
	uint64_t any = 0;

	for (unsigned w = 0; w < CPU_SET_WORDS; w++)
		any |= s->word[w];
	return !any;
}

/* -- State ------------------------------------------------------------------------------------ */

/* Components of the XSAVE area that come with a feature; x87 and SSE come with XSAVE. Those that
 * XSS governs are a kernel's alone, and no bit of XCR0 says that they are kept. */
#define XSS (1ull << 8 | 1ull << 10 | 1ull << 11 | 1ull << 12 | 1ull << 15)

static const struct {
	uint64_t components;
	enum cpu_feature_id feature;
} states[] = {
	{1 << 0 | 1 << 1, FEATURE_xsave},
	{1 << 2, FEATURE_avx},
	{1 << 3 | 1 << 4, FEATURE_mpx},
	{1 << 5 | 1 << 6 | 1 << 7, FEATURE_avx512f},
	{1 << 8, FEATURE_intel_pt},
	{1 << 9, FEATURE_pku},
	{1 << 10, FEATURE_enqcmd},
	{1 << 11 | 1 << 12, FEATURE_shstk},
	{1 << 11, FEATURE_ibt},
	{1 << 15, FEATURE_arch_lbr},
	{1 << 17 | 1 << 18, FEATURE_amx_tile},
};

uint64_t cpu_state_of(const struct cpu_set *s)
{
	uint64_t mask = 0;

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (cpu_set_has(s, states[i].feature))
			mask |= states[i].components;
	return mask;
}

struct cpu_set cpu_without_state(uint64_t xcr0)
{
	struct cpu_set s = {0};

	for (size_t i = 0; i < ARRAY_SIZE(states); i++)
		if (states[i].components & ~XSS & ~xcr0)
			add_needed_by(&s, states[i].feature);
	return s;
}

/* -- The host --------------------------------------------------------------------------------- */

/* Sub-leaves that are not there may answer for others. */
static bool ask(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	uint32_t a, b, c, d;

	if (leaf == 7 && sub && (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || a < sub))
		return false;
	return __get_cpuid_count(leaf, sub, &r[CPU_EAX], &r[CPU_EBX], &r[CPU_ECX], &r[CPU_EDX]);
}

bool cpu_host_has(enum cpu_feature_id feature)
{
	const struct cpu_feature *f = &cpu_features[feature];
	uint32_t r[4];

	return ask(f->leaf, f->sub, r) && r[f->reg] >> f->bit & 1;
}

uint64_t cpu_host_xcr0(void)
{
	uint32_t r[4], low, high;

	if (!ask(1, 0, r) || !(r[CPU_ECX] & bit_OSXSAVE))
		return 0;
	__asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (uint64_t)high << 32 | low;
}

struct cpu_set cpu_set_of_host(void)
{
	struct cpu_set s = {0}, without = cpu_without_state(cpu_host_xcr0());
	uint32_t r[4] = {0};

	for (unsigned i = 0; i < CPU_FEATURES; i++) {
		const struct cpu_feature *f = &cpu_features[i];
		bool is_next = !i || f->leaf != f[-1].leaf || f->sub != f[-1].sub;

		if (is_next && !ask(f->leaf, f->sub, r))
			memset(r, 0, sizeof(r));
		if (r[f->reg] >> f->bit & 1)
			cpu_set_add(&s, i);
	}
	return cpu_set_minus(&s, &without);
}

/* -- Text ------------------------------------------------------------------------------------- */

unsigned cpu_set_text(const struct cpu_set *s, const char *between, char *out, size_t room)
{
	unsigned n = 0;
	size_t at = 0;

	out[0] = 0;
	for (unsigned i = 0; i < CPU_FEATURES; i++) {
		if (!cpu_set_has(s, i))
			continue;
		if (at < room)
			at += (size_t)snprintf(out + at, room - at, "%s%s", n ? between : "",
					       cpu_features[i].name);
		n++;
	}
	return n;
}
