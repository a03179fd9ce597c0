/* SPDX-License-Identifier: MIT */
/*
 * CPU models: the text of --cpu, and what becomes of an engine's CPUID.
 *
 * The engines here are tables that are made up: two AMD computers and two of Intel's that differ
 * in everything that a level must not show.
 */
#include "base/err.h"
#include "base/macros.h"
#include "machine/cpu/cpu.h"
#include "machine/cpu/table.h"
#include "machine/board_map.h"
#include "machine/map.h"
#include "tests/tap.h"

#include <errno.h>

static struct cpu_set set_of(const char *names)
{
	struct cpu_set s = {0};

	while (*names) {
		size_t len = strcspn(names, " ");
		int i = cpu_feature_find(names, len);

		if (i < 0)
			ok(false, "'%s' begins with a feature", names);
		else
			cpu_set_add(&s, (unsigned)i);
		names += len + (names[len] == ' ');
	}
	return s;
}

static void is_set(const struct cpu_set *got, const char *want, const char *name)
{
	struct cpu_set w = set_of(want);
	char a[2000], b[2000];

	cpu_set_text(got, " ", a, sizeof(a));
	cpu_set_text(&w, " ", b, sizeof(b)); /* in the table's order */
	is_str(a, b, "%s", name);
}

/* -- The text ----------------------------------------------------------------------------- */

static const struct {
	const char *text;
	unsigned level;
	const char *added, *removed;
} texts[] = {
	{"host", 0, "", ""},
	{"v3", 3, "", ""},
	{"v1,+aes", 1, "aes sse2 sse fxsr fpu", ""},
	{"v3,-bmi1,-bmi2", 3, "", "bmi1 bmi2"},
	{"host,-sse4_2,-avx512f,+sse4_2", 0, "fpu fxsr sse sse2 pni ssse3 sse4_1 sse4_2",
	 "avx f16c fma avx2 vaes vpclmulqdq xop fma4 sm3 sm4 sha512 avx_vnni avx_ifma "
	 "avx_vnni_int8 avx_ne_convert avx_vnni_int16 avx512f avx512dq avx512ifma avx512pf avx512er "
	 "avx512cd avx512bw avx512vl avx512vbmi avx512_vbmi2 avx512_vnni avx512_bitalg "
	 "avx512_vpopcntdq avx512_4vnniw avx512_4fmaps avx512_vp2intersect avx512_fp16 avx512_bf16"},
	{"v2,+rdtscp,-tsc", 2, "", "tsc tsc_deadline_timer tsc_adjust rdtscp constant_tsc"},
};

static const struct {
	const char *text, *words;
} mistakes[] = {
	{"", "there is no CPU model '': host, v1, v2, v3 and v4 are"},
	{"v5", "there is no CPU model 'v5'"},
	{"v0", "there is no CPU model 'v0'"},
	{"v22", "there is no CPU model 'v22'"},
	{"Host", "there is no CPU model 'Host'"},
	{"+avx", "there is no CPU model '+avx'"},
	{"x86-64-v3", "did you mean v3?"},
	{"v2,avx", "'avx' is no feature with + or - before it"},
	{"v2,", "'' is no feature with + or - before it"},
	{"v2,,+avx", "'' is no feature with + or - before it"},
	{"v2,+", "'+' is no feature with + or - before it"},
	{"v2,+avx3", "there is no CPU feature 'avx3': did you mean avx?"},
	{"v2,-popcount", "did you mean popcnt?"},
	{"v2,+sse3", "did you mean pni?"},
	{"v2,+AVX2", "there is no CPU feature 'AVX2': did you mean avx2?"},
	{"v2,+LZCNT", "did you mean abm?"},
	{"v2,+SSE4.1", "did you mean sse4_1?"},
	{"v2,-help", "there is no CPU feature 'help': lodge run --cpu help lists them"},
	{"v1,+v2", "there is no CPU feature 'v2': lodge"},
	{"v2,-lzcnt", "did you mean abm?"},
	{"v2,+frobnicate", "there is no CPU feature 'frobnicate': lodge run --cpu help lists them"},
	{"v2,+aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	 "'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'"},
};

static void test_texts(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(texts); i++) {
		struct cpu_model m;
		struct err err = {0};

		is_int(cpu_model_parse(&m, texts[i].text, &err), 0, "%s %s", texts[i].text,
		       err.text);
		is_int(m.level, texts[i].level, "%s: its level", texts[i].text);
		is_set(&m.added, texts[i].added, "what is added");
		is_set(&m.removed, texts[i].removed, "what is removed");
	}
	for (unsigned i = 0; i < ARRAY_SIZE(mistakes); i++) {
		struct cpu_model m;
		struct err err = {0};

		is_int(cpu_model_parse(&m, mistakes[i].text, &err), -EINVAL, "'%s' is refused",
		       mistakes[i].text);
		ok(strstr(err.text, mistakes[i].words), "in words: %s", err.text);
	}
}

/* -- Engines ------------------------------------------------------------------------------ */

#define AMD 0x68747541
#define INTEL 0x756e6547

static void leaf(struct cpu_table *t, uint32_t function, int sub, uint32_t a, uint32_t b,
		 uint32_t c, uint32_t d)
{
	struct kvm_cpuid_entry2 e = {.function = function, .eax = a, .ebx = b, .ecx = c, .edx = d};

	if (sub >= 0) {
		e.index = (uint32_t)sub;
		e.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
	}
	cpu_table_add(t, &e);
}

/* XSAVE's leaves with AVX-512, where the vendor puts it. */
static void add_xsave(struct cpu_table *t, bool amd, bool pku)
{
	uint32_t k = amd ? 832 : 1088, end = amd ? 2432 : 2688;

	leaf(t, 0xd, 0, 0xe7 | (pku ? 0x200u : 0), end, end + (pku ? 8 : 0), 0);
	leaf(t, 0xd, 1, 0xf, end, 0, 0);
	leaf(t, 0xd, 2, 256, 576, 0, 0);
	leaf(t, 0xd, 5, 64, k, 0, 0);
	leaf(t, 0xd, 6, 512, k + 64, 0, 0);
	leaf(t, 0xd, 7, 1024, k + 576, 0, 0);
	if (pku)
		leaf(t, 0xd, 9, 8, end, 0, 0);
}

/* A computer whose engine offers all of v4 and these; n tells one from the other. */
static void make_engine(struct cpu_table *t, uint32_t vendor, unsigned n, const char *more)
{
	struct cpu_set has = cpu_set_of_level(4), others = set_of(more);
	bool amd = vendor == AMD;

	t->n = 0;
	leaf(t, 0, -1, n ? 0x1f : 0x16, vendor, 0x6c65746e, 0x49656e69);
	leaf(t, 1, -1, 0x00a20f10 + n, 0x00100800 + (n << 24), 0, 0);
	leaf(t, 2, -1, 0x00feff01 + n, 0xf0, 0, 0);
	leaf(t, 4, 0, 0x1c004121, 0x02c0003f, 63 + n, 0);
	leaf(t, 4, 1, 0, 0, 0, 0);
	leaf(t, 6, -1, 0, 0, n, 0);
	leaf(t, 7, 0, 2, 0, 0, 0);
	leaf(t, 7, 1, 0, 0, 0, 0);
	leaf(t, 7, 2, 0, 0, 0, 0);
	leaf(t, 0xa, -1, n, 0, 0, 0);
	add_xsave(t, amd, n != 0);
	leaf(t, 0x15, -1, 2, 200 + n, 0, 0);
	leaf(t, 0x40000000, -1, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	leaf(t, 0x40000001, -1, 0x0100000b, 0, 0, 0);
	leaf(t, 0x80000000, -1, 0x80000021 - n, 0, 0, 0);
	leaf(t, 0x80000001, -1, 0x00a20f10 + n, n, 0, amd ? 0x0183f3ff : 0);
	for (uint32_t i = 2; i <= 6; i++)
		leaf(t, 0x80000000 + i, -1, 0x20202020 + n, n, n, n);
	leaf(t, 0x80000007, -1, n, 0, 0, 0);
	leaf(t, 0x80000008, -1, 48 << 8 | (40 + n), 0, 0, n << 12);
	leaf(t, 0x8000001d, 0, 0x121 + n, 0, 0, 0);
	leaf(t, 0x80000021, -1, 0, 0, 0, 0);
	for (unsigned i = 0; i < CPU_FEATURES; i++)
		if (cpu_set_has(&has, i) || cpu_set_has(&others, i))
			cpu_table_put(t, &cpu_features[i], true);
	cpu_table_find(t, 0xd, 1)->eax |= n << 8; /* what nobody knows yet */
	cpu_table_find(t, 1, 0)->edx |= 1u << 28; /* HTT is no feature here */
}

static int apply(struct cpu_table *t, const char *text, struct err *err)
{
	struct cpu_model m;

	*err = (struct err){0};
	if (cpu_model_parse(&m, text, err) < 0)
		ok(false, "%s: %s", text, err->text);
	return cpu_model_apply(&m, 36, "test", t, err);
}

static uint32_t reg(const struct cpu_table *t, uint32_t function, uint32_t sub, unsigned r)
{
	struct kvm_cpuid_entry2 *e = cpu_table_find(t, function, sub);

	return e ? *cpu_table_reg(e, r) : 0;
}

/* -- Levels are the same everywhere -------------------------------------------------------- */

static struct cpu_table a, b;

static void same_levels(uint32_t vendor, const char *speculation)
{
	char more[400];
	struct err err;

	snprintf(more, sizeof(more), "%s fsgsbase pcid pku smap aes constant_tsc xsavec xsaves "
		 "xsaveopt la57 topoext svm rdtscp avx512_fp16", speculation);
	for (unsigned level = 1; level <= CPU_LEVELS; level++) {
		char text[] = {'v', (char)('0' + level), 0};
		struct cpu_set want = cpu_set_of_level(level), eng = set_of(speculation), got;

		make_engine(&a, vendor, 0, speculation);
		make_engine(&b, vendor, 1, more);
		is_int(apply(&a, text, &err), 0, "%s on one computer %s", text, err.text);
		is_int(apply(&b, text, &err), 0, "%s on another %s", text, err.text);
		ok(a.n == b.n && memcmp(a.entries, b.entries, a.n * sizeof(a.entries[0])) == 0,
		   "%s: the same leaves, to the last bit", text);
		got = cpu_table_features(&a);
		for (unsigned w = 0; w < CPU_SET_WORDS; w++)
			want.word[w] |= eng.word[w];
		ok(memcmp(&got, &want, sizeof(got)) == 0,
		   "%s: its features, and what the engine says of speculation", text);
	}
	is_int(reg(&a, 0, 0, CPU_EBX), vendor, "the vendor stays");
	is_int(reg(&a, 0, 0, CPU_EAX), 0xd, "leaves end with 0xd");
	is_int(reg(&a, 0x80000008, 0, CPU_EAX), 48 << 8 | 36, "addresses as wide as the board's");
	is_int(reg(&a, 0x40000000, 0, CPU_EBX), 0x4b4d564b, "the engine's own leaves stay");
	is_int(reg(&a, 0xa, 0, CPU_EAX) | reg(&a, 0x15, 0, CPU_EBX), 0, "no counters, no crystal");
	ok(memcmp(&cpu_table_find(&a, 0x80000002, 0)->eax, "Lodge virtual CP", 16) == 0,
	   "it is called what it is");
}

static void test_constant(void)
{
	same_levels(AMD, "btc_no srso_no autoibrs null_sel_clr_base");
	is_int(reg(&a, 1, 0, CPU_EAX), 0x00830f10, "AMD's family and model");
	is_int(reg(&a, 0x80000001, 0, CPU_EDX) & 0x0183f3ff,
	       reg(&a, 1, 0, CPU_EDX) & 0x0183f3ff, "AMD has leaf 1's features twice");
	is_int(reg(&a, 0xd, 0, CPU_ECX), 2432, "v4's XSAVE area is AMD's");
	same_levels(INTEL, "spec_ctrl arch_capabilities bhi_ctrl");
	is_int(reg(&a, 1, 0, CPU_EAX), 0x00050654, "Intel's family and model");
	is_int(reg(&a, 0x80000001, 0, CPU_EDX), 0x20100800, "Intel has them once");
	is_int(reg(&a, 7, 0, CPU_EAX), 2, "leaf 7 has the sub-leaves that it needs");
	is_int(reg(&a, 4, 3, CPU_ECX), 16383, "a cache of the third level");
	is_int(reg(&a, 0xd, 0, CPU_ECX), 2688, "v4's XSAVE area is Intel's");
}

/* -- XSAVE, and what else must agree --------------------------------------------------------- */

static const struct {
	const char *text;
	uint32_t xcr0, size, sub1, components;
} areas[] = {
	{"host,-pku", 0xe7, 2432, 0xf, 4},
	{"host,-avx512f", 0x207, 2440, 0xf, 2},
	{"host,-avx512f,-pku", 0x7, 832, 0xf, 1},
	{"host,-avx,-pku", 0x3, 576, 0xf, 0},
	{"host,-avx512bw", 0x2e7, 2440, 0xf, 5},
	{"host,-xsavec", 0x2e7, 2440, 0x5, 5},
	{"host,-xsave", 0, 0, 0, 0},
	{"v1", 0, 0, 0, 0},
	{"v2", 0, 0, 0, 0},
	{"v3", 0x7, 832, 0, 1},
	{"v4", 0xe7, 2432, 0, 4},
	{"v4,+pku", 0x2e7, 2440, 0, 5},
	{"v2,+avx,+xsaveopt", 0x7, 832, 1, 1},
	{"v3,-xsave", 0, 0, 0, 0},
};

static void test_xsave(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(areas); i++) {
		const char *text = areas[i].text;
		unsigned n = 0;
		struct err err;

		make_engine(&a, AMD, 0, "pku xsaveopt xsavec xgetbv1 xsaves");
		for (unsigned k = 0; k < a.n; k++) /* this engine has PKU's state, too */
			if (a.entries[k].function == 0xd)
				a.entries[k].function = 0xdead;
		cpu_table_drop(&a, 0xdead);
		add_xsave(&a, true, true);
		is_int(apply(&a, text, &err), 0, "%s %s", text, err.text);
		for (unsigned k = 0; k < a.n; k++)
			n += a.entries[k].function == 0xd && a.entries[k].index >= 2;
		is_int(reg(&a, 0xd, 0, CPU_EAX), areas[i].xcr0, "%s: XCR0's bits", text);
		is_int(reg(&a, 0xd, 0, CPU_ECX), areas[i].size, "%s: the area's size", text);
		is_int(reg(&a, 0xd, 1, CPU_EAX), areas[i].sub1, "%s: XSAVE's relatives", text);
		is_int(reg(&a, 0xd, 1, CPU_EBX) != 0, (areas[i].sub1 & 2) != 0,
		       "%s: a compacted size where there is XSAVEC", text);
		is_int(n, areas[i].components, "%s: its components", text);
	}
}

static void test_host(void)
{
	struct cpu_set before, after;
	struct err err;

	make_engine(&a, AMD, 1, "pku la57 umip");
	b = a;
	is_int(apply(&a, "host", &err), 0, "host");
	ok(memcmp(&a, &b, sizeof(a)) == 0, "host is what the engine offers, to the last bit");
	is_int(apply(&a, "host,+avx,-vmx", &err), 0, "what is there can be added, what is not removed");
	ok(memcmp(&a, &b, sizeof(a)) == 0, "which changes nothing");
	before = cpu_table_features(&a);
	is_int(apply(&a, "host,-sse,-la57", &err), 0, "host without some");
	after = cpu_table_features(&a);
	for (unsigned w = 0; w < CPU_SET_WORDS; w++)
		before.word[w] &= ~after.word[w];
	is_set(&before, "sse sse2 pni ssse3 sse4_1 sse4_2 avx fma f16c avx2 avx512f avx512dq avx512cd "
	       "avx512bw avx512vl la57", "takes away what needs it, too");
	is_int(reg(&a, 1, 0, CPU_EDX) >> 28, 1, "what has no name stays");
	is_int(reg(&a, 0x15, 0, CPU_EBX), 201, "so do other leaves");
	make_engine(&a, AMD, 0, "la57");
	cpu_table_find(&a, 0x80000008, 0)->eax = 57 << 8 | 52;
	apply(&a, "host,-la57,-fpu", &err);
	is_int(reg(&a, 0x80000008, 0, CPU_EAX), 48 << 8 | 52, "without LA57 addresses have 48 bits");
	is_int(reg(&a, 0x80000001, 0, CPU_EDX) & 1, 0, "AMD's second copy follows");
}

/* -- What cannot be had ---------------------------------------------------------------------- */

static const struct {
	const char *text, *lacks; /* of an engine without these ... */
	const char *words;        /* ... says */
} refusals[] = {
	{"v4", "avx512bw avx512vl",
	 "CPU v4: engine 'test' does not offer avx512bw, avx512vl on this computer; its highest "
	 "level is v3"},
	{"v3", "movbe abm", "does not offer movbe, abm on this computer; its highest level is v2"},
	{"v2", "cx16", "does not offer cx16 on this computer; its highest level is v1"},
	{"v1", "sep", "does not offer sep on this computer; its CPU is of no level"},
	{"v2,+avx2", "avx2", "CPU v2,+avx2: engine 'test' does not offer avx2 on this"},
	{"host,+vmx", "", "does not offer vmx on this computer; its highest level is v4"},
	{"v4,-avx512bw,-avx512vl", "avx512bw avx512vl", NULL},
	{"v3,-movbe", "movbe", NULL},
};

static void test_refusals(void)
{
	for (unsigned i = 0; i < ARRAY_SIZE(refusals); i++) {
		struct cpu_set lacks = set_of(refusals[i].lacks);
		struct err err;
		int rc;

		make_engine(&a, INTEL, 0, "");
		for (unsigned k = 0; k < CPU_FEATURES; k++)
			if (cpu_set_has(&lacks, k))
				cpu_table_put(&a, &cpu_features[k], false);
		rc = apply(&a, refusals[i].text, &err);
		is_int(rc, refusals[i].words ? -ERANGE : 0, "%s without %s", refusals[i].text,
		       refusals[i].lacks);
		if (refusals[i].words)
			ok(strstr(err.text, refusals[i].words), "in words: %s", err.text);
	}
}

static void test_bits(void)
{
	is_int(map_phys_bits(&board_direct, 32 * MiB), 36, "36 bits of address at least");
	is_int(map_phys_bits(&board_direct, 63 * GiB), 36, "63 GiB and the hole fit");
	is_int(map_phys_bits(&board_direct, 64 * GiB), 37, "64 GiB and the hole do not");
	is_int(map_phys_bits(&board_direct, MAP_MEMORY_MAX), 40, "the most");
}

int main(void)
{
	test_texts();
	test_constant();
	test_xsave();
	test_host();
	test_refusals();
	test_bits();
	return done_testing();
}
