/* SPDX-License-Identifier: MIT */
/*
 * What a CPU model takes away is really gone: a guest (cpu_guest.S) tries what features permit,
 * on each engine that opens here, and must get #UD for an instruction and #GP for a bit of a
 * control register.
 */
#include "base/err.h"
#include "base/macros.h"
#include "engine/probe.h"
#include "engine/tiny.h"
#include "machine/cpu/cpu.h"
#include "machine/cpu/table.h"
#include "tests/tap.h"

extern const uint8_t cpu_guest[], cpu_guest_end[];

/* In the order of cpu_guest.S. */
static const char *const tried[] = {
	"CR4.FSGSBASE", "WRFSBASE", "RDGSBASE", "CR4.OSXSAVE", "XGETBV", "XSAVE", "XSAVEOPT",
	"XSAVEC", "XCR0.AVX", "VXORPS xmm", "VXORPS ymm", "XCR0 for AVX-512", "VPXORD zmm",
	"CR4.PCIDE", "INVPCID", "CR4.UMIP", "EFER.SCE", "TSC_DEADLINE", "TSC_ADJUST",
	"ANDN", "BLSR", "BEXTR", "SHLX", "RORX", "POPCNT", "MOVBE", "LAHF", "CMPXCHG16B", "RDTSCP",
	"ADDSUBPS", "PSHUFB", "PMINUW", "CRC32", "AESENC", "CLFLUSHOPT", "VPADDD ymm",
	"VFMADD132PS", "TZCNT",
};

/* What has no bit of its own to forbid it, hardware executes under the kernel's KVM whatever CPUID
 * says; and some MSRs KVM has for everybody. */
static const char kvm_has_it[] = "......xx........xxx" "xxxxxxxxxxxxxxxxxxx";

#define MUCH "avx512f xsavec xsaveopt fsgsbase pcid invpcid umip bmi1 bmi2 popcnt movbe lahf_lm " \
	     "cx16 rdtscp sse4_2 aes clflushopt fma"

/* The outcome of each, a letter: '.' it goes, u: #UD, g: #GP. */
static const struct {
	const char *model;
	const char *needs; /* features that the engine must offer, or there is nothing to see */
	const char *want;  /* of what a control register permits or an MSR, of the others */
} cases[] = {
	{"host", MUCH, "..................." "..................."},
	{"host,-fsgsbase", MUCH, "guu................" "..................."},
	{"host,-xsave", MUCH, "...guuuuuuuuu......" "................uu."},
	{"host,-avx", MUCH, "........guugu......" "................uu."},
	{"host,-avx512f", MUCH, "...........gu......" "..................."},
	{"host,-xsavec", MUCH, ".......u..........." "..................."},
	{"host,-syscall,-tsc_deadline_timer,-tsc_adjust,-umip,-invpcid", MUCH,
	 "..............ugggg" "..................."},
	{"host,-bmi1,-popcnt,-cx16,-avx2", MUCH, "...........gu......" "uuu..u..u.......u.."},
	{"v1", "", "guuguuuuuuuuugug..." "uuuuuuuuuuuuuuuuuu."},
	{"v2", "popcnt", "guuguuuuuuuuugug..." "uuuuu.u..u....uuuu."},
	{"v3", "avx2", "guu...uu...gugug..." ".........u....uu..."},
	{"v4", "avx512f", "guu...uu.....gug..." ".........u....uu..."},
	{"v3,+fsgsbase,+xsaveopt,+aes", "avx2 fsgsbase xsaveopt aes", ".......u...gugug..."
	 ".........u.....u..."},
};

/* The first word that is no member; NULL: all are. */
static const char *missing(const struct cpu_set *has, const char *words)
{
	for (; *words; words += strspn(words, " ")) {
		size_t len = strcspn(words, " ");

		if (!cpu_set_has(has, (unsigned)cpu_feature_find(words, len)))
			return words;
		words += len;
	}
	return NULL;
}

/* The letters. */
static void run_guest(struct tiny *t, char *got, size_t room)
{
	size_t n = 0;

	memcpy(t->mem + 0x1000, cpu_guest, (size_t)(cpu_guest_end - cpu_guest));
	tiny_enter(t, TINY_LONG, 0x1000);
	while (n < room - 1 && tiny_run(t, 0) == 0 && t->run->exit_reason == KVM_EXIT_IO &&
	       t->run->io.port == 0x11) {
		uint8_t vector = *((uint8_t *)t->run + t->run->io.data_offset);

		got[n++] = vector == 0 ? '.' : vector == 6 ? 'u' : vector == 13 ? 'g' : '?';
	}
	got[n] = 0;
}

static void run_case(struct tiny *t, const char *model, const char *needs, const char *want)
{
	struct cpu_model m;
	struct cpu_table table;
	struct cpu_set offered;
	struct err err = {0};
	const char *lacks;
	char got[ARRAY_SIZE(tried) + 2];

	cpu_model_parse(&m, model, &err);
	if (cpu_table_offered(t->face, t->sys, &table, &err) < 0) {
		ok(false, "%s: %s", t->face->name, err.text);
		return;
	}
	offered = cpu_table_features(&table);
	lacks = missing(&offered, needs);
	if (lacks) {
		skip("%s: %s: no %.*s here", t->face->name, model, (int)strcspn(lacks, " "), lacks);
		return;
	}
	is_int(cpu_model_apply(&m, 36, t->face->name, &table, &err), 0, "%s: %s %s",
	       t->face->name, model, err.text);
	is_int(tiny_call(t, KVM_SET_CPUID2, &table), 0, "%s: %s is taken", t->face->name, model);
	run_guest(t, got, sizeof(got));
	for (size_t i = 0; i < ARRAY_SIZE(tried) && got[i]; i++) {
		if (t->face == &kvm_host && kvm_has_it[i] == 'x')
			got[i] = want[i];
		if (got[i] != want[i])
			note("%s: '%c', not '%c'", tried[i], got[i], want[i]);
	}
	is_str(got, want, "%s: %s", t->face->name, model);
}

static void test_engine(const struct kvm_face *face)
{
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		struct tiny_config config = {.memory = MiB, .chips = true};
		struct err err = {0};
		struct tiny t;

		if (tiny_open(&t, face, &config, &err) < 0) {
			skip("engine %s: %s", face->name, err.text);
			return;
		}
		run_case(&t, cases[i].model, cases[i].needs, cases[i].want);
		tiny_close(&t);
	}
}

int main(void)
{
	struct probe_report kvm;

	test_engine(&kvm_soft);
	probe_engine(&kvm_host, &kvm);
	if (kvm.fault)
		skip("engine kvm: %s", kvm.text);
	else
		test_engine(&kvm_host);
	return done_testing();
}
