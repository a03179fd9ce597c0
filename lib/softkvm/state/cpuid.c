/* SPDX-License-Identifier: MIT */
/*
 * The CPUID instruction, and what the engine derives from the client's list.
 *
 * An answer is the client's entry, but for the few fields that change while the guest runs:
 *
 *	1.ECX[27]   OSXSAVE: what CR4 says
 *	1.EDX[9]    APIC: the local APIC is not switched off by APIC_BASE
 *	0xD.EBX     size of an XSAVE area for XCR0; sub-leaf 1: compacted
 *
 * Beyond the highest leaf of a range, Intel's CPUs answer as for the highest basic one, AMD's
 * with zeros.
 */
#include "softkvm/state/cpuid.h"

#include "softkvm/state/xsave.h"
#include "x86/feature.h"
#include "x86/isa.h"

#include <stddef.h>

#define APIC_BASE_ENABLE 0x800ull

static const struct kvm_cpuid_entry2 *find(const struct kvm_cpuid_entry2 *list, unsigned n,
					   uint32_t leaf, uint32_t sub)
{
	for (unsigned i = 0; i < n; i++) {
		const struct kvm_cpuid_entry2 *e = &list[i];

		if (e->function == leaf && (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) ||
					    e->index == sub))
			return e;
	}
	return NULL;
}

struct cpu_set cpuid_features(const struct kvm_cpuid_entry2 *list, unsigned n)
{
	struct cpu_set s = {0};

	for (unsigned i = 0; i < CPU_FEATURES; i++) {
		const struct cpu_feature *f = &cpu_features[i];
		const struct kvm_cpuid_entry2 *e = find(list, n, f->leaf, f->sub);

		if (e && (const uint32_t[]){e->eax, e->ebx, e->ecx, e->edx}[f->reg] >> f->bit & 1)
			cpu_set_add(&s, i);
	}
	return s;
}

const struct kvm_cpuid_entry2 *cpuid_find(const struct vcpu *c, uint32_t leaf, uint32_t sub)
{
	return find(c->cpuid, (unsigned)c->n_cpuid, leaf, sub);
}

/* Topology's sub-leaves go on for ever: level type 0, its number, and the x2APIC id. */
static bool topology_beyond(const struct vcpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
	const struct kvm_cpuid_entry2 *first;

	if (leaf != 0xb && leaf != 0x1f)
		return false;
	first = cpuid_find(c, leaf, 0);
	if (!first)
		return false;
	out[CPUID_ECX] = sub & 0xff;
	out[CPUID_EDX] = first->edx;
	return true;
}

static const struct kvm_cpuid_entry2 *beyond(const struct vcpu *c, uint32_t leaf, uint32_t sub)
{
	const struct kvm_cpuid_entry2 *range = cpuid_find(c, leaf & 0xffff0000, 0);
	const struct kvm_cpuid_entry2 *basic = cpuid_find(c, 0, 0);

	if (c->amd || !basic || (range && leaf <= range->eax))
		return NULL;
	return cpuid_find(c, basic->eax, sub);
}

static void patch(const struct vcpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
	if (leaf == 1) {
		out[CPUID_ECX] &= ~(1u << 27);
		if (c->cr4 & CR4_OSXSAVE)
			out[CPUID_ECX] |= 1u << 27;
		if (!(c->apic_base & APIC_BASE_ENABLE))
			out[CPUID_EDX] &= ~(1u << 9);
	} else if (leaf == 0xd && sub == 0) {
		out[CPUID_EBX] = xsave_size(c->xcr0);
	} else if (leaf == 0xd && sub == 1 && out[CPUID_EAX] & 2) {
		out[CPUID_EBX] = xsave_size_compacted(c->xcr0);
	}
}

void cpuid_now(const struct vcpu *c, struct kvm_cpuid_entry2 *e)
{
	uint32_t out[4] = {e->eax, e->ebx, e->ecx, e->edx};

	patch(c, e->function, e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX ? e->index : 0, out);
	e->ebx = out[CPUID_EBX];
	e->ecx = out[CPUID_ECX];
	e->edx = out[CPUID_EDX];
}

void cpuid_query(struct vcpu *c, uint32_t leaf, uint32_t sub, uint32_t out[4])
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(c, leaf, sub);

	out[0] = out[1] = out[2] = out[3] = 0;
	if (!e && topology_beyond(c, leaf, sub, out))
		return;
	if (!e)
		e = beyond(c, leaf, sub);
	if (!e)
		return;
	out[CPUID_EAX] = e->eax;
	out[CPUID_EBX] = e->ebx;
	out[CPUID_ECX] = e->ecx;
	out[CPUID_EDX] = e->edx;
	patch(c, e->function, sub, out);
}

/* -- what follows from the list -------------------------------------------------------------- */

#define CR4_PLAIN                                                                          \
	(CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | \
	 CR4_OSXMMEXCPT)
#define EFER_PLAIN (EFER_LME | EFER_LMA)
#define EFER_AUTOIBRS (1ull << 21)

static const struct {
	enum cpu_feature_id feature;
	uint64_t cr4, efer;
} enables[] = {
	{FEATURE_pcid, .cr4 = CR4_PCIDE},
	{FEATURE_xsave, .cr4 = CR4_OSXSAVE},
	{FEATURE_fsgsbase, .cr4 = CR4_FSGSBASE},
	{FEATURE_smep, .cr4 = CR4_SMEP},
	{FEATURE_smap, .cr4 = CR4_SMAP},
	{FEATURE_umip, .cr4 = CR4_UMIP},
	{FEATURE_syscall, .efer = EFER_SCE},
	{FEATURE_nx, .efer = EFER_NX},
	{FEATURE_autoibrs, .efer = EFER_AUTOIBRS},
};

void cpuid_derive(struct vcpu *c)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(c, 0x80000008, 0);

	c->max_phys_bits = e ? e->eax & 0xff : 36;
	if (c->max_phys_bits < 36 || c->max_phys_bits > 52)
		c->max_phys_bits = 36;
	e = cpuid_find(c, 0, 0);
	c->amd = e && cpu_is_amd(e->ebx);
	e = cpuid_find(c, 0xd, 0);
	c->xcr0_allowed = XCR0_X87 | XCR0_SSE;
	if (e)
		c->xcr0_allowed |= (uint64_t)e->edx << 32 | e->eax;
	c->features = cpuid_features(c->cpuid, (unsigned)c->n_cpuid);
	c->cr4_allowed = CR4_PLAIN;
	c->efer_allowed = EFER_PLAIN;
	for (unsigned i = 0; i < sizeof(enables) / sizeof(enables[0]); i++) {
		if (!cpuid_has(c, enables[i].feature))
			continue;
		c->cr4_allowed |= enables[i].cr4;
		c->efer_allowed |= enables[i].efer;
	}
	if (!vec_has_xsave())
		c->cr4_allowed &= ~CR4_OSXSAVE;
}

/* -- extensions that nothing but CPUID tells of ------------------------------------------------ */

static const struct {
	uint8_t isa, feature;
} extensions[] = {
	{X86_ISA_SSE3, FEATURE_pni},
	{X86_ISA_PCLMULQDQ, FEATURE_pclmulqdq},
	{X86_ISA_SSSE3, FEATURE_ssse3},
	{X86_ISA_FMA, FEATURE_fma},
	{X86_ISA_CX16, FEATURE_cx16},
	{X86_ISA_SSE4_1, FEATURE_sse4_1},
	{X86_ISA_SSE4_2, FEATURE_sse4_2},
	{X86_ISA_MOVBE, FEATURE_movbe},
	{X86_ISA_POPCNT, FEATURE_popcnt},
	{X86_ISA_AES, FEATURE_aes},
	{X86_ISA_F16C, FEATURE_f16c},
	{X86_ISA_RDRAND, FEATURE_rdrand},
	{X86_ISA_BMI1, FEATURE_bmi1},
	{X86_ISA_AVX2, FEATURE_avx2},
	{X86_ISA_BMI2, FEATURE_bmi2},
	{X86_ISA_RDSEED, FEATURE_rdseed},
	{X86_ISA_ADX, FEATURE_adx},
	{X86_ISA_CLFLUSHOPT, FEATURE_clflushopt},
	{X86_ISA_CLWB, FEATURE_clwb},
	{X86_ISA_SHA, FEATURE_sha_ni},
	{X86_ISA_GFNI, FEATURE_gfni},
	{X86_ISA_VAES, FEATURE_vaes},
	{X86_ISA_VPCLMULQDQ, FEATURE_vpclmulqdq},
	{X86_ISA_AVX_VNNI, FEATURE_avx_vnni},
	{X86_ISA_LAHF, FEATURE_lahf_lm},
	{X86_ISA_SSE4A, FEATURE_sse4a},
	{X86_ISA_RDTSCP, FEATURE_rdtscp},
};

_Static_assert(sizeof(extensions) / sizeof(extensions[0]) == X86_ISAS - 1, "all but the base");

uint32_t cpuid_isa(const struct cpu_set *features)
{
	uint32_t isa = 0;

	for (unsigned i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++)
		if (cpu_set_has(features, extensions[i].feature))
			isa |= 1u << extensions[i].isa;
	return isa;
}

/* Asked once: under a hypervisor CPUID takes tens of microseconds. */
bool host_is_amd(void)
{
	static _Atomic uint32_t vendor; /* EBX; 0: not known yet */
	uint32_t a = 0, b = vendor, cx = 0, d;

	if (!b) {
		__asm__("cpuid" : "+a"(a), "=b"(b), "+c"(cx), "=d"(d));
		vendor = b;
	}
	return cpu_is_amd(b);
}

bool host_has_bmi1(void)
{
	return cpu_host_has(FEATURE_bmi1);
}
