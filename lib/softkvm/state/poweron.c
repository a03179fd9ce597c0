/* SPDX-License-Identifier: MIT */
/*
 * Power-on: the state that INIT leaves alone, besides what it sets (reset.c).
 */
#include "softkvm/state/reset.h"

#include "softkvm/irqchip/irqchip.h"
#include "softkvm/state/msr.h"
#include "softkvm/state/xsave.h"

#define APIC_BASE_RESET 0xfee00000ull
#define APIC_BASE_BSP 0x100ull
#define APIC_BASE_ENABLE 0x800ull
/* 8 variable ranges, fixed ranges, write-combining. */
#define MTRR_CAP 0x508ull
#define PAT_RESET 0x0007040600070406ull

static void msrs(struct vcpu *c)
{
	c->msr = (struct vcpu_msrs){
		.pat = PAT_RESET,
		.misc_enable = 0x1801, /* fast strings; no BTS, no PEBS */
		.mcg_cap = MCG_CAP,
		.mcg_ctl = ~0ull,
		.feature_control = 1,  /* locked, nothing enabled */
		.hwcr = 1ull << 24,    /* the TSC counts at P0's frequency */
		.de_cfg = 1ull << 1,   /* LFENCE waits for all before it */
	};
	for (int i = 0; i < 32; i++)
		c->msr.mc_bank[i * 4] = ~0ull;
	msr_feature(MSR_UCODE_REV, &c->msr.ucode_rev);
	msr_feature(MSR_ARCH_CAPS, &c->msr.arch_caps);
}

void vcpu_reset(struct vcpu *c)
{
	reset_architecture(c);
	msrs(c);
	c->cr0 = CR0_ET | CR0_NW | CR0_CD;
	c->xcr0 = XCR0_X87;
	xsave_reset(c);
	c->tsc_offset = c->vm->tsc_offset;
	c->clock_page = 0;
	c->mtrr_cap = MTRR_CAP;
	c->apic_base = APIC_BASE_RESET | APIC_BASE_ENABLE | (vcpu_is_bsp(c) ? APIC_BASE_BSP : 0);
	if (c->lapic)
		lapic_reset(c, false);
	c->mp_state = vcpu_is_bsp(c) || !c->lapic ? KVM_MP_STATE_RUNNABLE
					     : KVM_MP_STATE_UNINITIALIZED;
	atomic_fetch_or(&c->requests, REQ_TLB_FLUSH | REQ_EVENT);
}
