/* SPDX-License-Identifier: MIT */
/*
 * What is left: identification, time, model-specific registers, waiting, hypercalls, extended
 * control registers, RFLAGS.IF and AC.
 * Source: Intel SDM volume 2; for hypercalls the kernel's virt/kvm/x86/hypercalls.rst.
 */
#include "softkvm/interp/event.h"
#include "softkvm/interp/system.h"

#include "softkvm/mmu/io.h"
#include "softkvm/state/clock.h"
#include "softkvm/state/cpuid.h"
#include "softkvm/state/msr.h"
#include "softkvm/state/msr_filter.h"
#include "softkvm/state/xsave.h"

#include <errno.h>
#include <linux/kvm_para.h>

enum step sys_cpuid(struct vcpu *c, const struct insn *in, uint64_t next)
{
	uint32_t out[4];

	(void)in;
	(void)next;
	cpuid_query(c, (uint32_t)c->gpr[X86_RAX], (uint32_t)c->gpr[X86_RCX], out);
	c->gpr[X86_RAX] = out[CPUID_EAX];
	c->gpr[X86_RBX] = out[CPUID_EBX];
	c->gpr[X86_RCX] = out[CPUID_ECX];
	c->gpr[X86_RDX] = out[CPUID_EDX];
	return STEP_OK;
}

/* -- Time --------------------------------------------------------------------------------- */

enum step sys_rdtsc(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)in;
	(void)next;
	if ((c->cr4 & CR4_TSD) && c->cpl)
		return gp0(c);
	pair_set(c, vcpu_tsc(c));
	return STEP_OK;
}

enum step sys_rdtscp(struct vcpu *c, const struct insn *in, uint64_t next)
{
	enum step rc;

	if (!cpuid_has(c, FEATURE_rdtscp))
		return ud(c);
	rc = sys_rdtsc(c, in, next);
	if (!rc)
		c->gpr[X86_RCX] = (uint32_t)c->msr.tsc_aux;
	return rc;
}

enum step sys_rdpid(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)next;
	if (!cpuid_has(c, FEATURE_rdpid))
		return ud(c);
	c->gpr[in->rm] = (uint32_t)c->msr.tsc_aux;
	return STEP_OK;
}

/* There are no performance counters. */
enum step sys_rdpmc(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)in;
	(void)next;
	return gp0(c);
}

/* -- Model-specific registers ------------------------------------------------------------- */

/* Not to be had, for that reason: the client's, if it wants it. What it has been asked it answers, whatever it wants now. */
static enum step ask_client(struct vcpu *c, uint32_t msr, uint64_t *value, bool write, uint32_t reason)
{
	if (!(c->vm->msr_exits & reason) && c->io.at >= c->io.n)
		return gp0(c);
	return io_msr(c, msr, value, write, reason);
}

static uint32_t reason_for(const struct vcpu *c, uint32_t msr)
{
	return msr_is_known(c, msr) ? KVM_MSR_EXIT_REASON_INVAL : KVM_MSR_EXIT_REASON_UNKNOWN;
}

enum step sys_rdmsr(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const uint32_t msr = (uint32_t)c->gpr[X86_RCX];
	uint64_t value = 0;
	enum step rc = STEP_OK;

	(void)in;
	(void)next;
	if (!msr_filter_allows(c->vm, msr, KVM_MSR_FILTER_READ))
		rc = ask_client(c, msr, &value, false, KVM_MSR_EXIT_REASON_FILTER);
	else if (msr_read(c, msr, &value))
		rc = ask_client(c, msr, &value, false, reason_for(c, msr));
	if (rc == STEP_OK)
		pair_set(c, value);
	return rc;
}

enum step sys_wrmsr(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const uint32_t msr = (uint32_t)c->gpr[X86_RCX];
	uint64_t value = pair_get(c);

	(void)in;
	(void)next;
	if (!msr_filter_allows(c->vm, msr, KVM_MSR_FILTER_WRITE))
		return ask_client(c, msr, &value, true, KVM_MSR_EXIT_REASON_FILTER);
	return msr_write(c, msr, value) ? ask_client(c, msr, &value, true, reason_for(c, msr)) : STEP_OK;
}

/* -- Waiting ------------------------------------------------------------------------------ */

enum step sys_hlt(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)c;
	(void)in;
	(void)next;
	return STEP_HALT;
}

/* MONITOR is in leaf 1 of CPUID. Where a client offers it anyhow, MONITOR watches nothing and
 * MWAIT returns at once, which the manual allows at any time. */
static bool offers_monitor(const struct vcpu *c)
{
	return cpuid_has(c, FEATURE_monitor) && !c->cpl;
}

enum step sys_monitor(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)in;
	(void)next;
	return offers_monitor(c) ? STEP_OK : ud(c);
}

enum step sys_mwait(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)in;
	(void)next;
	return offers_monitor(c) ? STEP_OK : ud(c);
}

/* -- Hypercalls --------------------------------------------------------------------------- */

/* VMCALL and VMMCALL: the number in RAX, arguments in RBX RCX RDX RSI, the result in RAX. */
enum step sys_vmcall(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const bool wide = is_64bit_code(c);
	const uint64_t nr = wide ? c->gpr[X86_RAX] : (uint32_t)c->gpr[X86_RAX];
	int64_t ret = -KVM_ENOSYS;

	(void)in;
	(void)next;
	if (c->cpl)
		ret = -KVM_EPERM;
	else if (nr == KVM_HC_VAPIC_POLL_IRQ)
		ret = 0;
	c->gpr[X86_RAX] = wide ? (uint64_t)ret : (uint32_t)ret;
	return STEP_OK;
}

/* -- XCR0 --------------------------------------------------------------------------------- */

/* Which of the guest's state components are not in their initial configuration. */
static uint64_t xinuse(void)
{
	uint32_t lo, hi;

	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(1));
	return (uint64_t)hi << 32 | lo;
}

enum step sys_xgetbv(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const uint32_t index = (uint32_t)c->gpr[X86_RCX];

	(void)in;
	(void)next;
	if (!(c->cr4 & CR4_OSXSAVE))
		return ud(c);
	if (index == 0)
		pair_set(c, c->xcr0);
	else if (index == 1 && cpuid_has(c, FEATURE_xgetbv1))
		pair_set(c, c->xcr0 & xinuse());
	else
		return gp0(c);
	return STEP_OK;
}

enum step sys_xsetbv(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)in;
	(void)next;
	if (!(c->cr4 & CR4_OSXSAVE))
		return ud(c);
	if ((uint32_t)c->gpr[X86_RCX] || xcr0_write(c, pair_get(c)))
		return gp0(c);
	return STEP_OK;
}

/* -- Flags -------------------------------------------------------------------------------- */

/* 0F 01 CA, CB. */
enum step sys_clac_stac(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)next;
	if (!(c->cr4_allowed & CR4_SMAP) || c->cpl)
		return ud(c);
	if (in->modrm & 1)
		c->rflags |= RFLAGS_AC;
	else
		c->rflags &= ~RFLAGS_AC;
	if (c->cr4 & CR4_SMAP)
		mmu_mode_changed(c);
	return STEP_OK;
}

static bool may_change_if(const struct vcpu *c)
{
	return c->cpl <= (c->rflags & RFLAGS_IOPL) >> 12;
}

enum step sys_cli(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)in;
	(void)next;
	if (!may_change_if(c))
		return gp0(c);
	c->rflags &= ~RFLAGS_IF;
	return STEP_OK;
}

/* Interrupts stay closed for one more instruction. */
enum step sys_sti(struct vcpu *c, const struct insn *in, uint64_t next)
{
	(void)in;
	(void)next;
	if (!may_change_if(c))
		return gp0(c);
	if (c->rflags & RFLAGS_IF)
		return STEP_OK;
	c->rflags |= RFLAGS_IF;
	c->event.shadow |= KVM_X86_SHADOW_INT_STI;
	event_opened(c);
	return STEP_OK;
}
