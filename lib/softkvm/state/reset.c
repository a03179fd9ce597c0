/* SPDX-License-Identifier: MIT */
/*
 * INIT and SIPI, and what INIT has in common with power-on (poweron.c).
 *
 *	power-on --> boot processor: runs at FFFF_FFF0 in real mode
 *	        `--> others: UNINITIALIZED --INIT--> INIT_RECEIVED --SIPI--> run at vv00:0000
 *
 * INIT and SIPI arrive while the vCPU's thread is in KVM_RUN, so they are written without
 * libc; INIT leaves vector state, MSRs, memory types and the TSC alone. The manual's table has
 * a column for each.
 */
#include "softkvm/state/reset.h"

#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/io.h"
#include "softkvm/mmu/mmu.h"

#define DR6_RESET 0xffff0ff0ull
#define DR7_RESET 0x400ull

static void segment(struct kvm_segment *s, uint16_t selector, uint64_t base, uint8_t type,
		    bool code_data)
{
	*s = (struct kvm_segment){
		.base = base, .limit = 0xffff, .selector = selector, .type = type,
		.present = 1, .s = code_data,
	};
}

static void table(struct kvm_dtable *t)
{
	t->base = 0;
	t->limit = 0xffff;
	t->padding[0] = t->padding[1] = t->padding[2] = 0;
}

void reset_architecture(struct vcpu *c)
{
	for (int i = 0; i < 16; i++)
		c->gpr[i] = 0;
	c->gpr[X86_RDX] = 0x600;
	c->rip = 0xfff0;
	c->rflags = RFLAGS_FIXED;
	c->cpl = 0;
	for (int i = 0; i < 6; i++)
		segment(&c->seg[i], 0, 0, 3, true);
	segment(&c->seg[X86_CS], 0xf000, 0xffff0000, 11, true);
	segment(&c->ldt, 0, 0, 2, false);
	segment(&c->tr, 0, 0, 11, false);
	table(&c->gdt);
	table(&c->idt);
	c->cr2 = c->cr3 = c->cr4 = c->efer = 0;
	for (int i = 0; i < 4; i++)
		c->dr[i] = 0;
	c->dr6 = DR6_RESET;
	c->dr7 = DR7_RESET;
	c->event.exception = c->event.interrupt = false;
	c->event.nmi_pending = 0;
	c->event.nmi_masked = false;
	atomic_store(&c->nmis_arrived, 0);
	c->event.shadow = 0;
	io_commit(c);
	c->io.waiting = false;
}

void vcpu_init_signal(struct vcpu *c)
{
	uint64_t cache = c->cr0 & (CR0_CD | CR0_NW);

	reset_architecture(c);
	c->cr0 = CR0_ET | cache;
	if (c->lapic)
		lapic_reset(c, true);
	mmu_mode_changed(c);
	mmu_flush_all(c);
	__atomic_store_n(&c->mp_state,
			 vcpu_is_bsp(c) ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED,
			 __ATOMIC_RELEASE);
}

void vcpu_sipi(struct vcpu *c, uint8_t vector)
{
	if (c->mp_state != KVM_MP_STATE_INIT_RECEIVED)
		return;
	segment(&c->seg[X86_CS], (uint16_t)(vector << 8), (uint64_t)vector << 12, 11, true);
	c->rip = 0;
	mmu_mode_changed(c);
	__atomic_store_n(&c->mp_state, KVM_MP_STATE_RUNNABLE, __ATOMIC_RELEASE);
}
