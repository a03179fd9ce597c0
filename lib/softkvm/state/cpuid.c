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
#include "x86/isa.h"

#include <cpuid.h>

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

static bool has_bit(const struct kvm_cpuid_entry2 *list, unsigned n, uint32_t leaf, uint32_t sub,
		    int reg, int bit)
{
	const struct kvm_cpuid_entry2 *e = find(list, n, leaf, sub);
	uint32_t r;

	if (!e)
		return false;
	r = reg == CPUID_EAX ? e->eax : reg == CPUID_EBX ? e->ebx : reg == CPUID_ECX ? e->ecx
		: e->edx;
	return r >> bit & 1;
}

const struct kvm_cpuid_entry2 *cpuid_find(const struct vcpu *c, uint32_t leaf, uint32_t sub)
{
	return find(c->cpuid, (unsigned)c->n_cpuid, leaf, sub);
}

bool cpuid_has(const struct vcpu *c, uint32_t leaf, uint32_t sub, int reg, int bit)
{
	return has_bit(c->cpuid, (unsigned)c->n_cpuid, leaf, sub, reg, bit);
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
	(CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | \
	 CR4_OSXMMEXCPT)
#define EFER_PLAIN (EFER_LME | EFER_LMA)
#define EFER_AUTOIBRS (1ull << 21)

static const struct {
	uint32_t leaf;
	uint8_t reg, bit;
	uint64_t cr4, efer;
} enables[] = {
	{0x1, CPUID_EDX, 1, .cr4 = CR4_VME | CR4_PVI},
	{0x1, CPUID_ECX, 17, .cr4 = CR4_PCIDE},
	{0x1, CPUID_ECX, 26, .cr4 = CR4_OSXSAVE},
	{0x7, CPUID_EBX, 0, .cr4 = CR4_FSGSBASE},
	{0x7, CPUID_EBX, 7, .cr4 = CR4_SMEP},
	{0x7, CPUID_EBX, 20, .cr4 = CR4_SMAP},
	{0x7, CPUID_ECX, 2, .cr4 = CR4_UMIP},
	{0x80000001, CPUID_EDX, 11, .efer = EFER_SCE},
	{0x80000001, CPUID_EDX, 20, .efer = EFER_NX},
	{0x80000021, CPUID_EAX, 8, .efer = EFER_AUTOIBRS},
};

static bool vendor_is_amd(uint32_t ebx)
{
	return ebx == 0x68747541 || ebx == 0x6f677948; /* "Auth", "Hygo" */
}

void cpuid_derive(struct vcpu *c)
{
	const struct kvm_cpuid_entry2 *e = cpuid_find(c, 0x80000008, 0);

	c->max_phys_bits = e ? e->eax & 0xff : 36;
	if (c->max_phys_bits < 36 || c->max_phys_bits > 52)
		c->max_phys_bits = 36;
	e = cpuid_find(c, 0, 0);
	c->amd = e && vendor_is_amd(e->ebx);
	e = cpuid_find(c, 0xd, 0);
	c->xcr0_allowed = XCR0_X87 | XCR0_SSE;
	if (e)
		c->xcr0_allowed |= (uint64_t)e->edx << 32 | e->eax;
	c->cr4_allowed = CR4_PLAIN;
	c->efer_allowed = EFER_PLAIN;
	for (unsigned i = 0; i < sizeof(enables) / sizeof(enables[0]); i++) {
		if (!cpuid_has(c, enables[i].leaf, 0, enables[i].reg, enables[i].bit))
			continue;
		c->cr4_allowed |= enables[i].cr4;
		c->efer_allowed |= enables[i].efer;
	}
	if (!vec_has_xsave())
		c->cr4_allowed &= ~CR4_OSXSAVE;
}

/* -- extensions that nothing but CPUID tells of ------------------------------------------------ */

static const struct {
	uint8_t isa;
	uint32_t leaf;
	uint8_t sub, reg, bit;
} extensions[] = {
	{X86_ISA_SSE3, 0x1, 0, CPUID_ECX, 0},
	{X86_ISA_PCLMULQDQ, 0x1, 0, CPUID_ECX, 1},
	{X86_ISA_SSSE3, 0x1, 0, CPUID_ECX, 9},
	{X86_ISA_FMA, 0x1, 0, CPUID_ECX, 12},
	{X86_ISA_CX16, 0x1, 0, CPUID_ECX, 13},
	{X86_ISA_SSE4_1, 0x1, 0, CPUID_ECX, 19},
	{X86_ISA_SSE4_2, 0x1, 0, CPUID_ECX, 20},
	{X86_ISA_MOVBE, 0x1, 0, CPUID_ECX, 22},
	{X86_ISA_POPCNT, 0x1, 0, CPUID_ECX, 23},
	{X86_ISA_AES, 0x1, 0, CPUID_ECX, 25},
	{X86_ISA_F16C, 0x1, 0, CPUID_ECX, 29},
	{X86_ISA_RDRAND, 0x1, 0, CPUID_ECX, 30},
	{X86_ISA_BMI1, 0x7, 0, CPUID_EBX, 3},
	{X86_ISA_AVX2, 0x7, 0, CPUID_EBX, 5},
	{X86_ISA_BMI2, 0x7, 0, CPUID_EBX, 8},
	{X86_ISA_RDSEED, 0x7, 0, CPUID_EBX, 18},
	{X86_ISA_ADX, 0x7, 0, CPUID_EBX, 19},
	{X86_ISA_CLFLUSHOPT, 0x7, 0, CPUID_EBX, 23},
	{X86_ISA_CLWB, 0x7, 0, CPUID_EBX, 24},
	{X86_ISA_SHA, 0x7, 0, CPUID_EBX, 29},
	{X86_ISA_GFNI, 0x7, 0, CPUID_ECX, 8},
	{X86_ISA_VAES, 0x7, 0, CPUID_ECX, 9},
	{X86_ISA_VPCLMULQDQ, 0x7, 0, CPUID_ECX, 10},
	{X86_ISA_AVX_VNNI, 0x7, 1, CPUID_EAX, 4},
	{X86_ISA_LAHF, 0x80000001, 0, CPUID_ECX, 0},
	{X86_ISA_SSE4A, 0x80000001, 0, CPUID_ECX, 6},
	{X86_ISA_RDTSCP, 0x80000001, 0, CPUID_EDX, 27},
};

_Static_assert(sizeof(extensions) / sizeof(extensions[0]) == X86_ISAS - 1, "all but the base");

uint32_t cpuid_isa(const struct kvm_cpuid_entry2 *list, unsigned n)
{
	uint32_t isa = 0;

	for (unsigned i = 0; i < sizeof(extensions) / sizeof(extensions[0]); i++)
		if (has_bit(list, n, extensions[i].leaf, extensions[i].sub, extensions[i].reg,
			    extensions[i].bit))
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
	return vendor_is_amd(b);
}

bool host_has_bmi1(void)
{
	uint32_t a, b = 0, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_BMI;
}
