/* SPDX-License-Identifier: MIT */
/*
 * A model becomes a table of CPUID leaves.
 *
 * `host` is the engine's own table, less what was removed. A level's table is written anew, from
 * constants, so that nothing of the computer under the guest shows in it but what the guest could
 * find out anyway, or has to know (docs/why/cpu-model.md):
 *
 *	vendor             the host's: what SYSENTER, AVX-512's place in an XSAVE area and undefined
 *	                   flags are like is its, and cannot be made another's
 *	0xD, sub-leaves    where in an XSAVE area a component lies: hardware puts it there
 *	speculation        what the engine says: feature.def, ENG
 *	0x4000xxxx         the engine's own services
 *
 * Then both kinds are made to agree with themselves: XSAVE's components with the features that
 * they belong to, AMD's second copy of leaf 1, the width of linear addresses.
 */
#include "machine/cpu/cpu.h"

#include "base/err.h"
#include "base/macros.h"
#include "machine/cpu/table.h"

#include <errno.h>
#include <string.h>

/* -- Sets --------------------------------------------------------------------------------- */

/* What the guest will have: of what is offered, or of the level, and what was added. */
static struct cpu_set wanted(const struct cpu_model *m, const struct cpu_set *offered)
{
	struct cpu_set s = m->level ? cpu_set_of_level(m->level) : *offered;

	for (unsigned i = 0; i < CPU_FEATURES; i++)
		if (cpu_features[i].model == CPU_ENG && cpu_set_has(offered, i))
			cpu_set_add(&s, i);
	for (unsigned w = 0; w < CPU_SET_WORDS; w++)
		s.word[w] = (s.word[w] | m->added.word[w]) & ~m->removed.word[w];
	return s;
}

unsigned cpu_highest_level(const struct cpu_set *offered)
{
	unsigned level = CPU_LEVELS;

	for (; level > 0; level--) {
		struct cpu_set needs = cpu_set_of_level(level);
		struct cpu_set lacks = cpu_set_minus(&needs, offered);

		if (cpu_set_is_empty(&lacks))
			break;
	}
	return level;
}

static int refuse(const struct cpu_model *m, const struct cpu_set *lacks,
		  const struct cpu_set *offered, const char *engine, struct err *err)
{
	unsigned level = cpu_highest_level(offered);
	char names[200];

	cpu_set_text(lacks, ", ", names, sizeof(names));
	if (level)
		return err_set(err, ERANGE,
			       "CPU %s: engine '%s' does not offer %s on this computer; its highest "
			       "level is v%u", m->text, engine, names, level);
	return err_set(err, ERANGE,
		       "CPU %s: engine '%s' does not offer %s on this computer; its CPU is of no "
		       "level", m->text, engine, names);
}

/* -- A level's leaves --------------------------------------------------------------------- */

/*
 * Family, model, stepping: of the CPU, of each vendor, for which a kernel knows the most of the
 * bugs in speculation, so that it mitigates what the engine's bits do not rule out. AMD: 17h,
 * 31h, 0 (Zen 2). Others: 6, 55h, 4 (Skylake-SP).
 */
#define SIGNATURE_AMD   0x00830f10u
#define SIGNATURE_INTEL 0x00050654u

/* The caches of both: L1 of 32 KiB and 32 KiB, L2 of 1 MiB, L3 of 16 MiB; lines of 64 bytes. */
#define INDEXED(leaf, sub) \
	.function = leaf, .index = sub, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX
#define CACHE(sub, type, level, ways, sets)                                     \
	{INDEXED(0x4, sub), .eax = (type) | (level) << 5 | 1 << 8,              \
	 .ebx = 63 | ((ways)-1) << 22, .ecx = (sets)-1}
#define AMD_L1 (32u << 24 | 8 << 16 | 1 << 8 | 64)
#define AMD_L2 (1024u << 16 | 8 << 12 | 1 << 8 | 64) /* 8: 16 ways */
#define AMD_L3 (32u << 18 | 8 << 12 | 1 << 8 | 64)   /* in 512 KiB */

enum vendor { ANY, INTEL, AMD };

static const struct {
	enum vendor vendor;
	struct kvm_cpuid_entry2 entry;
} constants[] = {
	{ANY, {.function = 0x0}},
	{AMD, {.function = 0x1, .eax = SIGNATURE_AMD, .ebx = 8 << 8}},
	{INTEL, {.function = 0x1, .eax = SIGNATURE_INTEL, .ebx = 8 << 8}},
	{INTEL, {.function = 0x2, .eax = 0xff01}}, /* ask leaf 4 */
	{INTEL, CACHE(0, 1, 1, 8, 64)},
	{INTEL, CACHE(1, 2, 1, 8, 64)},
	{INTEL, CACHE(2, 3, 2, 16, 1024)},
	{INTEL, CACHE(3, 3, 3, 16, 16384)},
	{ANY, {.function = 0x6}},
	{ANY, {INDEXED(0x7, 0)}},
	{ANY, {INDEXED(0x7, 1)}},
	{ANY, {INDEXED(0x7, 2)}},
	{AMD, {.function = 0x80000000, .eax = 0x80000021}},
	{INTEL, {.function = 0x80000000, .eax = 0x80000008}},
	{AMD, {.function = 0x80000001, .eax = SIGNATURE_AMD}},
	{INTEL, {.function = 0x80000001}},
	{AMD, {.function = 0x80000005, .ecx = AMD_L1, .edx = AMD_L1}},
	{AMD, {.function = 0x80000006, .ecx = AMD_L2, .edx = AMD_L3}},
	{INTEL, {.function = 0x80000006, .ecx = AMD_L2}},
	{ANY, {.function = 0x80000007}},
	{ANY, {.function = 0x80000008}},
	{AMD, {.function = 0x80000021}},
};

static void add_name(struct cpu_table *t, unsigned level)
{
	char name[3][16] = {{0}};

	snprintf((char *)name, sizeof(name), "Lodge virtual CPU, x86-64-v%u", level);
	for (unsigned i = 0; i < 3; i++) {
		struct kvm_cpuid_entry2 e = {.function = 0x80000002 + i};

		memcpy(&e.eax, name[i], 16);
		cpu_table_add(t, &e);
	}
}

/* Leaves that belong to one feature, which is the engine's if it was added to a level. */
static const struct {
	enum cpu_feature_id feature;
	uint32_t leaf;
} own_leaves[] = {
	{FEATURE_sgx, 0x12},
	{FEATURE_intel_pt, 0x14},
	{FEATURE_arch_lbr, 0x1c},
	{FEATURE_amx_tile, 0x1d},
	{FEATURE_amx_tile, 0x1e},
	{FEATURE_svm, 0x8000000a},
	{FEATURE_topoext, 0x8000001d},
	{FEATURE_topoext, 0x8000001e},
};

static bool is_the_engines(uint32_t leaf, const struct cpu_set *set)
{
	if (leaf >> 16 == 0x4000 || leaf == 0xd)
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(own_leaves); i++)
		if (own_leaves[i].leaf == leaf && cpu_set_has(set, own_leaves[i].feature))
			return true;
	return false;
}

/* The highest basic leaf: 0xd, or what an added feature has brought. */
static void set_last_leaf(struct cpu_table *t)
{
	struct kvm_cpuid_entry2 *first = cpu_table_find(t, 0, 0);

	first->eax = 0xd;
	for (unsigned i = 0; i < t->n; i++)
		if (t->entries[i].function < 0x10000 && t->entries[i].function > first->eax)
			first->eax = t->entries[i].function;
}

static void set_last_sub_leaf_7(struct cpu_table *t)
{
	for (uint32_t sub = 1; sub < 3; sub++) {
		const struct kvm_cpuid_entry2 *e = cpu_table_find(t, 7, sub);

		if (e->eax | e->ebx | e->ecx | e->edx)
			cpu_table_find(t, 7, 0)->eax = sub;
	}
}

static void add_constants(struct cpu_table *t, enum vendor vendor)
{
	for (size_t i = 0; i < ARRAY_SIZE(constants); i++)
		if (constants[i].vendor == ANY || constants[i].vendor == vendor)
			cpu_table_add(t, &constants[i].entry);
}

static void add_the_engines(struct cpu_table *t, const struct cpu_table *offered,
			    const struct cpu_set *set)
{
	for (unsigned i = 0; i < offered->n; i++) {
		struct kvm_cpuid_entry2 e = offered->entries[i];

		if (e.function == 0xd && e.index == 1)
			e.eax = 0; /* features, and one that has no name yet is none */
		if (is_the_engines(e.function, set))
			cpu_table_add(t, &e);
	}
}

static void build(unsigned level, unsigned phys_bits, const struct cpu_set *set,
		  struct cpu_table *t)
{
	struct cpu_table offered = *t;
	const struct kvm_cpuid_entry2 *vendor = cpu_table_find(&offered, 0, 0);

	t->n = 0;
	add_constants(t, cpu_table_is_amd(&offered) ? AMD : INTEL);
	add_name(t, level);
	add_the_engines(t, &offered, set);
	if (vendor)
		*cpu_table_find(t, 0, 0) = *vendor;
	set_last_leaf(t);
	cpu_table_find(t, 0x80000008, 0)->eax = 48 << 8 | phys_bits;
	for (unsigned i = 0; i < CPU_FEATURES; i++)
		cpu_table_put(t, &cpu_features[i], cpu_set_has(set, i));
	set_last_sub_leaf_7(t);
}

/* -- XSAVE -------------------------------------------------------------------------------- */

#define XSAVE_HEADER_END 576

/* Sub-leaf 0: what XCR0 may have, and how large the area is with all of it. EBX is for what XCR0
 * has now, which is the engine's to say. */
static void limit_xcr0(struct kvm_cpuid_entry2 *e, const struct cpu_table *t, uint64_t mask)
{
	uint64_t all = ((uint64_t)e->edx << 32 | e->eax) & mask;

	e->eax = (uint32_t)all;
	e->edx = (uint32_t)(all >> 32);
	e->ecx = e->ebx = all ? XSAVE_HEADER_END : 0;
	for (uint32_t i = 2; i < 63; i++) {
		const struct kvm_cpuid_entry2 *part = cpu_table_find(t, 0xd, i);

		if (all >> i & 1 && part && part->eax + part->ebx > e->ecx)
			e->ecx = part->eax + part->ebx;
	}
}

static void limit_xsave(struct cpu_table *t, const struct cpu_set *set)
{
	uint64_t mask = cpu_state_of(set);
	struct kvm_cpuid_entry2 *first = cpu_table_find(t, 0xd, 0), *second = cpu_table_find(t, 0xd, 1);
	unsigned n = 0;

	if (first)
		limit_xcr0(first, t, mask);
	if (second && !cpu_set_has(set, FEATURE_xsavec))
		second->ebx = 0;
	if (second) {
		second->ecx &= cpu_set_has(set, FEATURE_xsaves) ? (uint32_t)mask : 0;
		second->edx &= cpu_set_has(set, FEATURE_xsaves) ? (uint32_t)(mask >> 32) : 0;
	}
	for (unsigned i = 0; i < t->n; i++) {
		const struct kvm_cpuid_entry2 *e = &t->entries[i];

		if (e->function != 0xd || e->index < 2 || (e->index < 64 && mask >> e->index & 1))
			t->entries[n++] = *e;
	}
	t->n = n;
}

/* -- Agreement ---------------------------------------------------------------------------- */

static void agree(struct cpu_table *t, const struct cpu_set *set, bool built)
{
	const struct kvm_cpuid_entry2 *one = cpu_table_find(t, 1, 0);
	struct kvm_cpuid_entry2 *ext = cpu_table_find(t, 0x80000001, 0);
	struct kvm_cpuid_entry2 *sizes = cpu_table_find(t, 0x80000008, 0);

	if (one && ext && cpu_table_is_amd(t)) {
		uint32_t again = one->edx & CPU_AMD_REPEATED;

		ext->edx = (ext->edx & (again | ~CPU_AMD_REPEATED)) | (built ? again : 0);
	}
	if (sizes && !cpu_set_has(set, FEATURE_la57) && (sizes->eax >> 8 & 0xff) > 48)
		sizes->eax = (sizes->eax & ~0xff00u) | 48 << 8;
	else if (sizes && cpu_set_has(set, FEATURE_la57) && built)
		sizes->eax = (sizes->eax & ~0xff00u) | 57 << 8;
	limit_xsave(t, set);
}

int cpu_model_apply(const struct cpu_model *model, unsigned phys_bits, const char *engine,
		    struct cpu_table *table, struct err *err)
{
	struct cpu_set offered = cpu_table_features(table);
	struct cpu_set set = wanted(model, &offered);
	struct cpu_set lacks = cpu_set_minus(&set, &offered), taken = cpu_set_minus(&offered, &set);

	if (!cpu_set_is_empty(&lacks))
		return refuse(model, &lacks, &offered, engine, err);
	if (!model->level && cpu_set_is_empty(&taken))
		return 0; /* the engine's, to the last bit */
	if (model->level)
		build(model->level, phys_bits, &set, table);
	else
		for (unsigned i = 0; i < CPU_FEATURES; i++)
			if (cpu_set_has(&taken, i))
				cpu_table_put(table, &cpu_features[i], false);
	agree(table, &set, model->level != 0);
	return 0;
}
