/* SPDX-License-Identifier: MIT */
/*
 * KVM_GET_SUPPORTED_CPUID: the CPU that softkvm can be.
 *
 * A leaf is built by a function from what the host says; feature bits pass through the masks
 * that cpuid_bits.def adds up to. The guest keeps the host's vendor, family and model, for its
 * kernel picks code for them (and crypto libraries do); what speculation bugs it then looks for
 * is answered bit by bit. The topology that comes out is one thread in one core in one
 * package; a client that makes more CPUs sets ids and sharing for each, as it does with the
 * kernel's KVM.
 */
#include "softkvm/state/cpuid.h"

#include "base/macros.h"
#include "base/word.h"
#include "softkvm/state/clock.h"
#include "softkvm/state/msr.h"
#include "softkvm/state/xsave.h"
#include "x86/feature.h"

#include <asm/kvm_para.h>
#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* -- the host ------------------------------------------------------------------------------ */

struct regs {
	uint32_t r[4];
};

static struct regs host(uint32_t leaf, uint32_t sub)
{
	struct regs o;

	__cpuid_count(leaf, sub, o.r[0], o.r[1], o.r[2], o.r[3]);
	return o;
}

static uint32_t host_max(uint32_t range)
{
	uint32_t max = host(range, 0).r[CPUID_EAX];

	return max >> 16 == range >> 16 ? max : 0;
}

/* -- feature words ------------------------------------------------------------------------- */

enum policy { HOST, ENGINE, INTEL, AMD };

static const struct {
	uint8_t policy, feature;
} offers[] = {
#define OFFER(policy, name) {policy, FEATURE_##name},
#include "softkvm/state/cpuid_bits.def"
#undef OFFER
};

/*
 * A host kernel that found an instruction broken (RDSEED on some Zen 5) takes it out of its list
 * of flags; its CPUID still has it. "flags : a b c" in /proc/cpuinfo, if that can be read.
 */
static char *flags; /* "a b c"; NULL: not known */

static void read_flags(void)
{
	static char text[16384]; /* of the first CPU, and some more */
	FILE *f = fopen("/proc/cpuinfo", "re");
	char *line;

	if (!f)
		return;
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	line = strstr(text, "\nflags\t");
	line = line ? strchr(line, ':') : NULL;
	if (!line)
		return;
	flags = line + 1;
	flags[strcspn(flags, "\n")] = 0;
}

static bool host_kernel_denies(const char *name)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, read_flags);
	return flags && !word_in(name, flags, ' ');
}

static bool is_denied(unsigned feature)
{
	return (feature == FEATURE_rdseed || feature == FEATURE_rdrand) &&
	       host_kernel_denies(cpu_features[feature].name);
}

/* What needs state that is not kept; list_supported() fills it. */
static struct cpu_set without_state;

static bool is_offered(unsigned policy, unsigned feature, uint32_t host_word)
{
	switch ((enum policy)policy) {
	case ENGINE:
		return true;
	case INTEL:
		return !host_is_amd();
	case AMD:
		return host_is_amd();
	case HOST:
		break;
	}
	return host_word >> cpu_features[feature].bit & 1 && !is_denied(feature) &&
	       !cpu_set_has(&without_state, feature);
}

/* Replaces the feature words of a leaf; registers without feature bits stay. */
static void filter(uint32_t leaf, uint32_t sub, struct regs *o)
{
	uint32_t word[4] = {0};
	bool touched[4] = {false};

	for (size_t i = 0; i < ARRAY_SIZE(offers); i++) {
		const struct cpu_feature *f = &cpu_features[offers[i].feature];

		if (f->leaf != leaf || f->sub != sub)
			continue;
		touched[f->reg] = true;
		if (is_offered(offers[i].policy, offers[i].feature, o->r[f->reg]))
			word[f->reg] |= 1u << f->bit;
	}
	for (int r = 0; r < 4; r++)
		if (touched[r])
			o->r[r] = word[r];
}

/* -- leaves -------------------------------------------------------------------------------- */

#define BASIC_MAX 0x16u
#define BASIC_MIN 0xdu

static void leaf_0(struct regs *o)
{
	uint32_t max = o->r[CPUID_EAX];

	o->r[CPUID_EAX] = max > BASIC_MAX ? BASIC_MAX : max < BASIC_MIN ? BASIC_MIN : max;
}

/* EBX: no brand index, the line size of CLFLUSH, one logical CPU with APIC id 0. */
static void leaf_1(struct regs *o)
{
	o->r[CPUID_EBX] = (o->r[CPUID_EBX] & 0xff00) | 1u << 16;
}

/* Caches as they are, shared by nobody. */
static void leaf_4(struct regs *o)
{
	o->r[CPUID_EAX] &= 0x3fff;
}

static void leaf_6(struct regs *o)
{
	*o = (struct regs){0};
}

static void leaf_7(struct regs *o)
{
	uint32_t max = o->r[CPUID_EAX];

	o->r[CPUID_EAX] = !host_is_amd() ? 2 : max ? 1 : 0;
}

static void zero(struct regs *o)
{
	*o = (struct regs){0};
}

static void leaf_d0(struct regs *o)
{
	uint64_t f = vec_features();

	zero(o);
	if (vec_has_xsave())
		*o = (struct regs){.r = {(uint32_t)f, xsave_size(XCR0_X87), xsave_size(f),
					 (uint32_t)(f >> 32)}};
}

static void leaf_d1(struct regs *o)
{
	if (!vec_has_xsave())
		zero(o);
	o->r[CPUID_EBX] = o->r[CPUID_ECX] = o->r[CPUID_EDX] = 0;
}

/* EAX: frequency of the TSC in kHz; EBX: of the local APIC's timer. */
static void leaf_kvm_timing(struct regs *o)
{
	*o = (struct regs){.r = {(uint32_t)host_tsc_khz(), 1000000, 0, 0}};
}

static void leaf_kvm(struct regs *o)
{
	memcpy(&o->r[1], "KVMKVMKVM\0\0\0", 12);
	o->r[CPUID_EAX] = 0x40000010;
}

static void leaf_kvm_features(struct regs *o)
{
	*o = (struct regs){.r = {1u << KVM_FEATURE_CLOCKSOURCE | 1u << KVM_FEATURE_NOP_IO_DELAY |
				 1u << KVM_FEATURE_CLOCKSOURCE2 |
				 1u << KVM_FEATURE_CLOCKSOURCE_STABLE_BIT}};
}

static void leaf_ext_0(struct regs *o)
{
	uint32_t want = host_is_amd() ? 0x80000021 : 0x80000008;

	o->r[CPUID_EAX] = want;
}

static void leaf_ext_1(struct regs *o)
{
	struct regs one = host(1, 0);

	o->r[CPUID_EBX] = 0;
	if (!host_is_amd())
		return;
	filter(1, 0, &one);
	o->r[CPUID_EDX] |= one.r[CPUID_EDX] & CPU_AMD_REPEATED;
}

static void leaf_ext_7(struct regs *o)
{
	o->r[CPUID_EAX] = o->r[CPUID_EBX] = o->r[CPUID_ECX] = 0;
}

/* Physical address bits as the host's; linear ones 48, whatever it can do. */
static void leaf_ext_8(struct regs *o)
{
	uint32_t phys = o->r[CPUID_EAX] & 0xff;

	o->r[CPUID_EAX] = 48 << 8 | (phys >= 36 && phys <= 52 ? phys : 46);
	o->r[CPUID_ECX] = o->r[CPUID_EDX] = 0;
	if (!host_is_amd())
		o->r[CPUID_EBX] = 0;
}

static void leaf_ext_21(struct regs *o)
{
	o->r[CPUID_EBX] = o->r[CPUID_EDX] = 0;
	if (!host_is_amd())
		zero(o);
}

static void as_host(struct regs *o)
{
	(void)o;
}

/* By number; `subs`: how many sub-leaves to ask for, 0: the leaf has none. */
static const struct leaf {
	uint32_t leaf;
	uint8_t subs;
	void (*fill)(struct regs *o); /* before filter() */
	void (*finish)(struct regs *o); /* after it */
} leaves[] = {
	{0x0, 0, leaf_0, NULL},
	{0x1, 0, leaf_1, NULL},
	{0x2, 0, as_host, NULL},
	{0x4, 8, leaf_4, NULL},
	{0x6, 0, leaf_6, NULL},
	{0x7, 3, leaf_7, NULL},
	{0xb, 1, zero, NULL},
	{0xd, 8, as_host, NULL},
	{0x15, 0, as_host, NULL},
	{0x16, 0, as_host, NULL},
	{0x40000000, 0, leaf_kvm, NULL},
	{0x40000001, 0, leaf_kvm_features, NULL},
	{0x40000010, 0, leaf_kvm_timing, NULL},
	{0x80000000, 0, leaf_ext_0, NULL},
	{0x80000001, 0, as_host, leaf_ext_1},
	{0x80000002, 0, as_host, NULL},
	{0x80000003, 0, as_host, NULL},
	{0x80000004, 0, as_host, NULL},
	{0x80000005, 0, as_host, NULL},
	{0x80000006, 0, as_host, NULL},
	{0x80000007, 0, leaf_ext_7, NULL},
	{0x80000008, 0, leaf_ext_8, NULL},
	{0x80000019, 0, as_host, NULL},
	{0x8000001a, 0, as_host, NULL},
	{0x80000021, 0, leaf_ext_21, NULL},
};

struct list {
	struct kvm_cpuid_entry2 *out;
	unsigned max, n;
};

static void add(struct list *l, uint32_t leaf, uint32_t sub, bool indexed, const struct regs *o)
{
	if (l->n < l->max)
		l->out[l->n] = (struct kvm_cpuid_entry2){
			.function = leaf,
			.index = indexed ? sub : 0,
			.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = o->r[CPUID_EAX],
			.ebx = o->r[CPUID_EBX],
			.ecx = o->r[CPUID_ECX],
			.edx = o->r[CPUID_EDX],
		};
	l->n++;
}

static bool host_has_leaf(uint32_t leaf)
{
	if (leaf >> 16 == 0x4000)
		return true;
	return leaf <= host_max(leaf & 0x80000000);
}

static void shape_d(uint32_t sub, struct regs *o)
{
	if (sub == 0)
		leaf_d0(o);
	else if (sub == 1)
		leaf_d1(o);
	else if (!(vec_features() >> sub & 1))
		zero(o);
}

/* Is there nothing after this sub-leaf? Caches end with type 0. */
static bool ends(uint32_t leaf, const struct regs *o)
{
	return leaf == 4 && !(o->r[CPUID_EAX] & 0x1f);
}

static void add_leaf(struct list *l, const struct leaf *f)
{
	bool have = host_has_leaf(f->leaf);
	uint32_t subs = f->subs ? f->subs : 1;

	for (uint32_t sub = 0; sub < subs; sub++) {
		struct regs o = have ? host(f->leaf, sub) : (struct regs){0};

		if (f->leaf == 7 && sub > host(7, 0).r[CPUID_EAX])
			zero(&o); /* the host's CPU would answer for another leaf */
		if (!(f->leaf == 7 && sub))
			f->fill(&o);
		else if (sub == 1)
			o.r[CPUID_EBX] = o.r[CPUID_ECX] = o.r[CPUID_EDX] = 0;
		else
			o.r[CPUID_EAX] = o.r[CPUID_EBX] = o.r[CPUID_ECX] = 0;
		if (f->leaf == 0xd)
			shape_d(sub, &o);
		filter(f->leaf, sub, &o);
		if (f->finish)
			f->finish(&o);
		if (sub && f->leaf == 0xd && !o.r[CPUID_EAX])
			continue;
		add(l, f->leaf, sub, f->subs, &o);
		if (ends(f->leaf, &o))
			break;
	}
}

/* The list is made once: the host stays the same, and under a hypervisor each CPUID of ours
 * takes tens of microseconds. */
static struct kvm_cpuid_entry2 supported[64];
static unsigned n_supported;
static struct cpu_set features; /* of it */
static struct cpu_set missing;  /* those that run natively and are not in it */

static void list_features(void)
{
	features = cpuid_features(supported, n_supported);
	for (size_t i = 0; i < ARRAY_SIZE(offers); i++)
		if (offers[i].policy == HOST && !cpu_set_has(&features, offers[i].feature))
			cpu_set_add(&missing, offers[i].feature);
}

static void list_supported(void)
{
	struct list l = {supported, ARRAY_SIZE(supported), 0};

	without_state = cpu_without_state(vec_has_xsave() ? vec_features() : 0);
	for (size_t i = 0; i < ARRAY_SIZE(leaves); i++)
		if (host_has_leaf(leaves[i].leaf) || leaves[i].leaf == 0x7 ||
		    leaves[i].leaf == 0xb || leaves[i].leaf == 0x80000021)
			add_leaf(&l, &leaves[i]);
	n_supported = l.n < l.max ? l.n : l.max;
	list_features();
}

static void need_list(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, list_supported);
}

unsigned cpuid_supported(struct kvm_cpuid_entry2 *out, unsigned max)
{
	need_list();
	memcpy(out, supported, (max < n_supported ? max : n_supported) * sizeof(*out));
	return n_supported;
}

int cpuid_set(struct vcpu *c, const struct kvm_cpuid_entry2 *entries, unsigned n)
{
	if (n > ARRAY_SIZE(c->cpuid))
		return -E2BIG;
	memmove(c->cpuid, entries, n * sizeof(*entries));
	c->n_cpuid = (int)n;
	cpuid_derive(c);
	need_list();
	c->features = cpu_set_minus(&c->features, &missing);
	c->isa_lacking = cpuid_isa(&features) & ~cpuid_isa(&c->features);
	return 0;
}

/* -- feature MSRs -------------------------------------------------------------------------- */

/* IA32_ARCH_CAPABILITIES; docs/why/cpu-model.md argues each. */
#define ARCH_CAPS                                                                          \
	(1ull << 0 /* RDCL_NO */ | 1ull << 1 /* IBRS_ALL */ | 1ull << 3 /* SKIP_L1DFL */ | \
	 1ull << 4 /* SSB_NO */ | 1ull << 5 /* MDS_NO */ | 1ull << 6 /* PSCHANGE_MC_NO */ |    \
	 1ull << 8 /* TAA_NO */ | 1ull << 13 /* SBDR_SSDP_NO */ | 1ull << 14 /* FBSDP_NO */ |  \
	 1ull << 15 /* PSDP_NO */ | 1ull << 20 /* BHI_NO */ | 1ull << 24 /* PBRSB_NO */ |      \
	 1ull << 26 /* GDS_NO */ | 1ull << 27 /* RFDS_NO */ | 1ull << 62 /* ITS_NO */)

/* A revision that no errata table finds too old: a guest loads no microcode, and the engine
 * does not offer what is broken. Intel's counts in the upper half. */
static uint64_t microcode(void)
{
	return host_is_amd() ? 0xffffffffull : 0xffffffffull << 32;
}

int msr_feature(uint32_t msr, uint64_t *value)
{
	switch (msr) {
	case MSR_ARCH_CAPS:
		*value = host_is_amd() ? 0 : ARCH_CAPS;
		return host_is_amd() ? -1 : 0;
	case MSR_UCODE_REV:
		*value = microcode();
		return 0;
	case MSR_PLATFORM_INFO:
		*value = 0;
		return host_is_amd() ? -1 : 0;
	case 0xc0011029: /* LFENCE waits for all before it */
		*value = 2;
		return host_is_amd() ? 0 : -1;
	default:
		return -1;
	}
}
