/* SPDX-License-Identifier: MIT */
/* CPUID: what is offered, what is hidden, what changes while the guest runs; MSRs and EFER. */
#include "softkvm/state/cpuid.h"
#include "softkvm/state/clock.h"
#include "softkvm/state/msr.h"
#include "softkvm/state/reset.h"
#include "softkvm/state/xsave.h"

#include "base/macros.h"
#include "tests/tap.h"

static struct vm vm;
static struct vcpu *c;

static void make(void)
{
	unsigned n;

	c = aligned_alloc(64, align_up(sizeof(*c), 64));
	memset(c, 0, sizeof(*c));
	c->vm = &vm;
	vm.host_tsc_khz = host_tsc_khz();
	vm.tsc_khz = c->tsc_khz = (uint32_t)vm.host_tsc_khz;
	n = cpuid_supported(c->cpuid, ARRAY_SIZE(c->cpuid));
	is_int(cpuid_set(c, c->cpuid, n), 0, "%u entries set", n);
	vcpu_reset(c);
}

static uint32_t ask(uint32_t leaf, uint32_t sub, int reg)
{
	uint32_t out[4];

	cpuid_query(c, leaf, sub, out);
	return out[reg];
}

#define BITS(leaf, sub, reg, bit) (ask(leaf, sub, CPUID_##reg) >> (bit)&1)

static void test_model(void)
{
	uint32_t host[4] = {0};

	__asm__("cpuid" : "+a"(host[0]), "=b"(host[1]), "+c"(host[2]), "=d"(host[3]));
	is_int(ask(0, 0, CPUID_EBX), host[1], "the host's vendor");
	ok(ask(0, 0, CPUID_EAX) >= 0xd && ask(0, 0, CPUID_EAX) <= 0x16, "highest leaf %x",
	   ask(0, 0, CPUID_EAX));
	ok(BITS(1, 0, ECX, 31) && BITS(1, 0, ECX, 21) && BITS(1, 0, ECX, 17),
	   "hypervisor, x2APIC, PCID");
	is_int(BITS(1, 0, ECX, 24), 0, "TSC deadline is no CPU's, but the local APIC's");
	ok(BITS(7, 0, EBX, 7) && BITS(7, 0, EBX, 0) && BITS(7, 0, EBX, 10) && BITS(7, 0, ECX, 2),
	   "SMEP, FSGSBASE, INVPCID, UMIP");
	ok(!BITS(1, 0, ECX, 3) && !BITS(1, 0, ECX, 5) && !BITS(0x80000001, 0, ECX, 2),
	   "no MONITOR, VMX, SVM");
	ok(!BITS(7, 0, EBX, 20) && !BITS(7, 0, ECX, 3) && !BITS(7, 0, ECX, 7) &&
		   !BITS(7, 0, EDX, 20) && !BITS(7, 0, ECX, 16) && !BITS(7, 0, ECX, 22),
	   "no SMAP, PKU, shadow stacks, IBT, LA57, RDPID");
	ok(!BITS(7, 0, EBX, 4) && !BITS(7, 0, EBX, 11) && !BITS(7, 0, ECX, 5) &&
		   !BITS(7, 0, ECX, 27) && !BITS(7, 0, ECX, 28) && !BITS(7, 0, EDX, 24),
	   "no HLE, RTM, WAITPKG, MOVDIRI, MOVDIR64B, AMX");
	ok(!BITS(0xd, 1, EAX, 3), "no XSAVES");
	is_int(ask(0x40000000, 0, CPUID_EBX), 0x4b4d564b, "KVM's signature");
	is_int(ask(0x40000001, 0, CPUID_EAX), 0x0100000b, "KVM's features");
	is_int(ask(0x40000010, 0, CPUID_EAX), vm.tsc_khz, "the TSC's frequency");
	is_int(ask(0x80000008, 0, CPUID_EAX) >> 8 & 0xff, 48, "48 bits of linear address");
	is_int(c->max_phys_bits, ask(0x80000008, 0, CPUID_EAX) & 0xff, "physical ones taken over");
	ok(ask(0x8fffffff, 0, CPUID_EAX) == 0 || !c->amd, "beyond the end on AMD: zeros");
	is_int(ask(0xb, 5, CPUID_ECX), 5, "topology's sub-leaves echo their number");
}

/* What runs natively a guest has only where the host does, whatever the client says. */
static void test_claims(void)
{
	struct kvm_cpuid_entry2 all[ARRAY_SIZE(c->cpuid)];
	const struct cpu_set before = c->features;
	unsigned n = (unsigned)c->n_cpuid;

	memcpy(all, c->cpuid, sizeof(all));
	for (unsigned i = 0; i < n; i++)
		all[i].eax = all[i].ebx = all[i].ecx = all[i].edx = ~0u;
	is_int(cpuid_set(c, all, n), 0, "a client that claims everything");
#define OFFER(policy, name) CLAIM_##policy(name)
#define CLAIM_ENGINE(name) ok(cpuid_has(c, FEATURE_##name), "has " #name);
#define CLAIM_INTEL(name)
#define CLAIM_AMD(name)
#define CLAIM_HOST(name)                                                                   \
	is_int(cpuid_has(c, FEATURE_##name), cpu_set_has(&before, FEATURE_##name),         \
	       "has " #name " as the host");
#include "softkvm/state/cpuid_bits.def"
#undef OFFER
	memcpy(all, c->cpuid, sizeof(all));
	n = cpuid_supported(all, ARRAY_SIZE(all));
	is_int(cpuid_set(c, all, n), 0, "and one that does not");
}

/* The pairs that Linux 6.1 asks for, see docs/why/cpu-model.md. */
static void test_speculation(void)
{
	uint64_t caps = 0;

	if (c->amd) {
		ok(BITS(0x80000008, 0, EBX, 26) && BITS(0x80000008, 0, EBX, 29),
		   "SSB_NO, BTC_NO");
		ok(BITS(0x80000021, 0, EAX, 8) && BITS(0x80000021, 0, EAX, 29),
		   "automatic IBRS, SRSO_NO");
		ok(BITS(0x80000021, 0, ECX, 1) && BITS(0x80000021, 0, ECX, 2), "TSA_*_NO");
		ok(!(ask(0x80000008, 0, CPUID_EBX) & 0x0300d000), "no IBPB, IBRS, STIBP, SSBD");
		ok(msr_read(c, MSR_ARCH_CAPS, &caps) == -1, "no ARCH_CAPABILITIES on AMD");
		return;
	}
	is_int(msr_read(c, MSR_ARCH_CAPS, &caps), 0, "ARCH_CAPABILITIES");
	ok(caps & 1 && caps & 2 && caps >> 62 & 1, "RDCL_NO, IBRS_ALL, ITS_NO");
	ok(BITS(7, 2, EDX, 4), "BHI_CTRL");
	is_int(msr_write(c, MSR_SPEC_CTRL, 0x401), 0, "IBRS and BHI_DIS_S can be set");
}

static void test_dynamic(void)
{
	uint32_t small = xsave_size(XCR0_X87);

	is_int(BITS(1, 0, ECX, 27), 0, "OSXSAVE follows CR4: off");
	c->cr4 |= CR4_OSXSAVE;
	is_int(BITS(1, 0, ECX, 27), 1, "on");
	is_int(ask(0xd, 0, CPUID_EBX), small, "XSAVE area for x87");
	is_int(xcr0_write(c, vec_features()), 0, "XCR0 with all");
	is_int(ask(0xd, 0, CPUID_EBX), ask(0xd, 0, CPUID_ECX), "grows to the full size");
	is_int(BITS(1, 0, EDX, 9), 1, "an APIC");
	c->apic_base &= ~0x800ull;
	is_int(BITS(1, 0, EDX, 9), 0, "switched off");
	c->apic_base |= 0x800;
}

static void test_msrs(void)
{
	uint32_t list[256];
	unsigned n = msr_list(list, ARRAY_SIZE(list), false);
	uint64_t v = 0;
	int bad = 0;

	ok(n > 40 && n < ARRAY_SIZE(list), "%u MSRs to save", n);
	for (unsigned i = 0; i < n; i++) {
		if (list[i] == MSR_TSC_DEADLINE) /* needs a local APIC */
			continue;
		if (msr_get(c, list[i], &v) || msr_set(c, list[i], v)) {
			note("MSR %x", list[i]);
			bad++;
		}
	}
	is_int(bad, 0, "each can be read and written back");
	is_int(msr_read(c, 0x12345678, &v), -1, "an unknown one is #GP");
	is_int(msr_write(c, MSR_LSTAR, 1ull << 50), -1, "LSTAR must be canonical");
	is_int(msr_write(c, MSR_PAT, 0x0202020202020202ull), -1, "PAT: no type 2");
	is_int(msr_write(c, MSR_PAT, 0x0007040600070406ull), 0, "PAT: its reset value");
	is_int(msr_write(c, MSR_MTRRCAP, 0), -1, "MTRRCAP is read-only");
	is_int(msr_read(c, MSR_MTRRCAP, &v), 0, "MTRRCAP is there");
	is_int(v, 0x508, "8 ranges, fixed ones, WC");
	is_int(msr_write(c, 0x20f, 1ull << 60), -1, "MTRR mask beyond physical memory");
	is_int(msr_write(c, 0x401, 5), -1, "a machine check status is only cleared");
	is_int(msr_write(c, 0x400, ~0ull), 0, "machine check control: all");
	is_int(msr_write(c, MSR_GS_BASE, 0xffff800000001000ull), 0, "GS base");
	is_int(c->seg[X86_GS].base, (long long)0xffff800000001000ull, "is the segment's");
	is_int(msr_write(c, MSR_EFER, EFER_SCE | EFER_LME | EFER_NX), 0, "EFER");
	is_int(msr_write(c, MSR_EFER, 1ull << 12), -1, "EFER.SVME: no");
	is_int(msr_set(c, MSR_EFER, EFER_LME | EFER_LMA), 0, "the client may name EFER.LMA");
	is_int(c->efer, EFER_LME, "but it is the processor's");
	c->cr0 |= CR0_PG;
	is_int(msr_write(c, MSR_EFER, EFER_SCE), -1, "EFER.LME stays under paging");
	c->cr0 &= ~CR0_PG;
}

static void test_tsc(void)
{
	uint64_t a = 0, b = 0, adjust = 0, soon = host_tsc() + vm.tsc_offset + vm.tsc_khz * 100ull;

	vm.tsc_is_said = false; /* as in a new VM */
	is_int(msr_set(c, MSR_TSC, soon), 0, "the client writes a TSC for the first time");
	msr_read(c, MSR_TSC, &b);
	ok(b >= soon, "which is taken, however near it is");
	is_int(msr_write(c, MSR_TSC, 1000), 0, "the guest writes its TSC");
	msr_read(c, MSR_TSC, &a);
	ok(a >= 1000 && a < 1000 + vm.tsc_khz * 100ull, "it counts on from there");
	msr_read(c, MSR_TSC_ADJUST, &adjust);
	ok(adjust == c->tsc_offset - vm.tsc_offset, "TSC_ADJUST moved by the same");
	is_int(msr_write(c, MSR_TSC_ADJUST, 0), 0, "undone");
	ok(c->tsc_offset == vm.tsc_offset, "the offset is the first again");
	is_int(msr_set(c, MSR_TSC, 1ull << 40), 0, "the client writes it");
	msr_read(c, MSR_TSC, &b);
	ok(b - (1ull << 40) < vm.tsc_khz * 100ull, "counts from there");
	a = c->tsc_offset;
	is_int(msr_set(c, MSR_TSC, (1ull << 40) + 1000), 0, "nearly the same value again");
	ok(c->tsc_offset == a, "is the same TSC: vCPUs stay in step");
}

int main(void)
{
	make();
	test_model();
	test_claims();
	test_speculation();
	test_dynamic();
	test_msrs();
	test_tsc();
	free(c);
	return done_testing();
}
