/* SPDX-License-Identifier: MIT */
/*
 * The table of CPU features: its rows, the psABI's levels, what needs what and whose state; and
 * what it makes of this computer, against what the compiler's library says.
 */
#include "base/macros.h"
#include "tests/tap.h"
#include "x86/feature.h"

#include <string.h>

static void is_set(struct cpu_set got, const char *want, const char *name)
{
	char text[2000];

	cpu_set_text(&got, " ", text, sizeof(text));
	is_str(text, want, "%s", name);
}

/* -- Rows --------------------------------------------------------------------------------- */

/* Each word of `needs` is a feature, and no level has a feature without what that needs. */
static bool needs_are_good(const struct cpu_feature *f)
{
	for (const char *p = f->needs; *p; p += strspn(p, " ")) {
		size_t len = strcspn(p, " ");
		int i = cpu_feature_find(p, len);

		if (i < 0 || (f->model <= CPU_LEVELS && cpu_features[i].model > f->model))
			return false;
		p += len;
	}
	return true;
}

static bool is_same_leaf(const struct cpu_feature *a, const struct cpu_feature *b)
{
	return a->leaf == b->leaf && a->sub == b->sub;
}

/* No other row has its name or its bit, and its leaf's rows stand together. */
static bool is_alone(unsigned i)
{
	const struct cpu_feature *a = &cpu_features[i];

	for (unsigned k = 0; k < i; k++) {
		const struct cpu_feature *b = &cpu_features[k];

		if (!strcmp(a->name, b->name) ||
		    (is_same_leaf(a, b) && a->reg == b->reg && a->bit == b->bit) ||
		    (is_same_leaf(a, b) && !is_same_leaf(a, a - 1)))
			return false;
	}
	return true;
}

static void test_rows(void)
{
	for (unsigned i = 0; i < CPU_FEATURES; i++)
		if (!needs_are_good(&cpu_features[i]) || !is_alone(i))
			ok(false, "%s: its needs, name and place", cpu_features[i].name);
	ok(CPU_FEATURES > 150, "%u features with names", CPU_FEATURES);
	is_int(cpu_feature_find("avx", 3), FEATURE_avx, "found by name");
	is_int(cpu_feature_find("avx", 2), -1, "and length");
	is_int(cpu_feature_find("nosuch", 6), -1, "what is none");
	is_set(cpu_needs(FEATURE_avx2), "fpu fxsr sse sse2 pni ssse3 sse4_1 sse4_2 xsave avx avx2",
	       "AVX2 needs these");
	is_set(cpu_needed_by(FEATURE_pcid), "pcid invpcid", "these need PCID");
	is_set(cpu_needed_by(FEATURE_aes), "aes vaes", "the second of two needs counts");
}

/* -- Levels ------------------------------------------------------------------------------- */

/* The psABI's table. */
static const char *const psabi[] = {
	[CPU_V2] = "pni ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm",
	[CPU_V3] = "fma movbe xsave avx f16c bmi1 avx2 bmi2 abm",
	[CPU_V4] = "avx512f avx512dq avx512cd avx512bw avx512vl",
};

static const enum cpu_feature_id baseline[] = {
	FEATURE_cmov, FEATURE_cx8, FEATURE_fpu, FEATURE_fxsr, FEATURE_mmx, FEATURE_syscall,
	FEATURE_sse, FEATURE_sse2,
};

static void test_levels(void)
{
	struct cpu_set first = cpu_set_of_level(CPU_V1);

	for (unsigned i = 0; i < ARRAY_SIZE(baseline); i++)
		ok(cpu_set_has(&first, baseline[i]), "the first level has %s",
		   cpu_features[baseline[i]].name);
	for (unsigned level = CPU_V2; level <= CPU_LEVELS; level++) {
		struct cpu_set s = cpu_set_of_level(level), before = cpu_set_of_level(level - 1);

		is_set(cpu_set_minus(&s, &before), psabi[level],
		       "a level adds what the psABI says");
	}
}

/* -- State -------------------------------------------------------------------------------- */

#define ALL_STATE 0x602ffull

static void test_state(void)
{
	struct cpu_set s = cpu_without_state(0), xsave = cpu_needed_by(FEATURE_xsave);

	is_set(cpu_set_minus(&xsave, &s), "", "without XCR0 all that needs XSAVE is gone");
	is_set(cpu_set_minus(&s, &xsave), "", "and nothing else");
	is_set(cpu_without_state(ALL_STATE), "", "with all of it nothing is");
	s = cpu_without_state(ALL_STATE & ~0xe0ull);
	ok(cpu_set_has(&s, FEATURE_avx512vl) && !cpu_set_has(&s, FEATURE_avx2),
	   "without AVX-512's, AVX-512");
	s = cpu_without_state(ALL_STATE & ~0x80ull);
	ok(cpu_set_has(&s, FEATURE_avx512vl), "a part of it is not enough");
	s = cpu_without_state(3);
	ok(cpu_set_has(&s, FEATURE_vaes) && cpu_set_has(&s, FEATURE_fma) &&
	   cpu_set_has(&s, FEATURE_amx_tile) && !cpu_set_has(&s, FEATURE_xsaveopt) &&
	   !cpu_set_has(&s, FEATURE_shstk),
	   "with x87's and SSE's XSAVE is there, and what XSS governs");
	s = cpu_set_of_level(CPU_V3);
	is_int(cpu_state_of(&s), 7, "v3 comes with x87, SSE, AVX");
	s = cpu_set_of_level(CPU_V2);
	is_int(cpu_state_of(&s), 0, "v2 with no component of XSAVE");
}

/* -- Here --------------------------------------------------------------------------------- */

#define HERE(feature, name) \
	is_int(cpu_set_has(&s, FEATURE_##feature), !!__builtin_cpu_supports(name), name)

static void test_here(void)
{
	struct cpu_set s = cpu_set_of_host();

	HERE(cmov, "cmov");
	HERE(sse2, "sse2");
	HERE(pni, "sse3");
	HERE(sse4_2, "sse4.2");
	HERE(popcnt, "popcnt");
	HERE(aes, "aes");
	HERE(avx, "avx");
	HERE(fma, "fma");
	HERE(avx2, "avx2");
	HERE(bmi1, "bmi");
	HERE(avx512f, "avx512f");
	HERE(avx512vl, "avx512vl");
	HERE(avx512_bitalg, "avx512bitalg");
	HERE(avx512_bf16, "avx512bf16"); /* of a sub-leaf */
	HERE(sse4a, "sse4a");
}

int main(void)
{
	test_rows();
	test_levels();
	test_state();
	test_here();
	return done_testing();
}
