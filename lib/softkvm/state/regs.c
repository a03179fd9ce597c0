/* SPDX-License-Identifier: MIT */
/*
 * KVM_GET/SET_REGS, SREGS, SREGS2 and DEBUGREGS.
 *
 * What is set must be a state a processor can be in, because the engine builds on that: CS.L
 * only with EFER.LMA, LMA only with LME, paging and PAE, no unknown bits in CR4 and EFER, a CR3
 * within the physical address width. The CPL is SS.DPL, as on hardware, where the mode does
 * not say it.
 *
 * Sources: the kernel's API document; Intel SDM volume 3, "Checks on guest control registers".
 */
#include "softkvm/state/regs.h"

#include "base/macros.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/state/cpuid.h"
#include "softkvm/state/msr.h"

#include <errno.h>
#include <string.h>

/* -- general registers --------------------------------------------------------------------- */

/* struct kvm_regs has its own order. */
static const uint8_t regs_at[16] = {
#define AT(reg, field) [reg] = offsetof(struct kvm_regs, field) / 8
	AT(X86_RAX, rax), AT(X86_RCX, rcx), AT(X86_RDX, rdx), AT(X86_RBX, rbx),
	AT(X86_RSP, rsp), AT(X86_RBP, rbp), AT(X86_RSI, rsi), AT(X86_RDI, rdi),
	AT(X86_R8, r8),   AT(X86_R9, r9),   AT(X86_R10, r10), AT(X86_R11, r11),
	AT(X86_R12, r12), AT(X86_R13, r13), AT(X86_R14, r14), AT(X86_R15, r15),
#undef AT
};

void regs_get(const struct vcpu *c, struct kvm_regs *r)
{
	__u64 *field = (__u64 *)r;

	for (int i = 0; i < 16; i++)
		field[regs_at[i]] = c->gpr[i];
	r->rip = c->rip;
	r->rflags = c->rflags;
}

static void derive_cpl(struct vcpu *c)
{
	if (!is_protected(c))
		c->cpl = 0;
	else if (is_vm86(c))
		c->cpl = 3;
	else
		c->cpl = c->seg[X86_SS].dpl;
}

void regs_set(struct vcpu *c, const struct kvm_regs *r)
{
	const __u64 *field = (const __u64 *)r;

	for (int i = 0; i < 16; i++)
		c->gpr[i] = field[regs_at[i]];
	c->rip = r->rip;
	c->rflags = (r->rflags & RFLAGS_ALL) | RFLAGS_FIXED;
	c->event.exception = false;
	derive_cpl(c);
}

/* -- special registers --------------------------------------------------------------------- */

/* What kvm_sregs and kvm_sregs2 have in common, field by field: the names are the same. */
#define SREGS_GET(c, s)                                                                    \
	do {                                                                               \
		(s)->cs = (c)->seg[X86_CS];                                                \
		(s)->ds = (c)->seg[X86_DS];                                                \
		(s)->es = (c)->seg[X86_ES];                                                \
		(s)->fs = (c)->seg[X86_FS];                                                \
		(s)->gs = (c)->seg[X86_GS];                                                \
		(s)->ss = (c)->seg[X86_SS];                                                \
		(s)->tr = (c)->tr;                                                         \
		(s)->ldt = (c)->ldt;                                                       \
		(s)->gdt = (c)->gdt;                                                       \
		(s)->idt = (c)->idt;                                                       \
		(s)->cr0 = (c)->cr0;                                                       \
		(s)->cr2 = (c)->cr2;                                                       \
		(s)->cr3 = (c)->cr3;                                                       \
		(s)->cr4 = (c)->cr4;                                                       \
		(s)->cr8 = get_cr8(c);                                                     \
		(s)->efer = (c)->efer;                                                     \
		(s)->apic_base = (c)->apic_base;                                           \
	} while (0)

/* No field wider than a descriptor has it; the CPL is one of them. */
static struct kvm_segment segment(const struct kvm_segment *from)
{
	struct kvm_segment s = *from;

	s.type &= 15;
	s.dpl &= 3;
	s.present &= 1;
	s.db &= 1;
	s.s &= 1;
	s.l &= 1;
	s.g &= 1;
	s.avl &= 1;
	s.unusable &= 1;
	return s;
}

#define SREGS_SET(c, s)                                                                    \
	do {                                                                               \
		(c)->seg[X86_CS] = segment(&(s)->cs);                                      \
		(c)->seg[X86_DS] = segment(&(s)->ds);                                      \
		(c)->seg[X86_ES] = segment(&(s)->es);                                      \
		(c)->seg[X86_FS] = segment(&(s)->fs);                                      \
		(c)->seg[X86_GS] = segment(&(s)->gs);                                      \
		(c)->seg[X86_SS] = segment(&(s)->ss);                                      \
		(c)->tr = segment(&(s)->tr);                                               \
		(c)->ldt = segment(&(s)->ldt);                                             \
		(c)->gdt = (s)->gdt;                                                       \
		(c)->idt = (s)->idt;                                                       \
		(c)->cr0 = (s)->cr0 | CR0_ET;                                              \
		(c)->cr2 = (s)->cr2;                                                       \
		(c)->cr3 = (s)->cr3;                                                       \
		(c)->cr4 = (s)->cr4;                                                       \
		(c)->efer = (s)->efer;                                                     \
	} while (0)

/* Without a local APIC CR8 is between the client and the guest: it is kept in kvm_run. */
static uint64_t get_cr8(const struct vcpu *c)
{
	if (c->lapic)
		return lapic_get_cr8((struct vcpu *)c);
	return c->run ? c->run->cr8 : 0;
}

static void set_cr8(struct vcpu *c, uint64_t value)
{
	if (c->lapic)
		lapic_set_cr8(c, value & 15);
	else if (c->run)
		c->run->cr8 = value & 15;
}

struct modes {
	uint64_t cr0, cr3, cr4, efer;
	const struct kvm_segment *cs;
};

static bool long_mode_valid(const struct vcpu *c, const struct modes *m)
{
	if (!(m->cr4 & CR4_PAE) || !(m->efer & EFER_LMA))
		return false;
	return !(m->cr3 & ~((1ull << 63) | ((1ull << c->max_phys_bits) - 1)));
}

static bool modes_valid(const struct vcpu *c, const struct modes *m)
{
	if (m->cr0 >> 32 || m->cr4 & ~c->cr4_allowed || m->efer & ~c->efer_allowed)
		return false;
	if (m->cr0 & CR0_PG && !(m->cr0 & CR0_PE))
		return false;
	if (m->cr0 & CR0_NW && !(m->cr0 & CR0_CD))
		return false;
	if (m->efer & EFER_LME && m->cr0 & CR0_PG)
		return long_mode_valid(c, m);
	return !(m->efer & EFER_LMA) && !m->cs->l;
}

static int set_apic_base(struct vcpu *c, uint64_t value)
{
	if (value == c->apic_base)
		return 0;
	if (!c->lapic) {
		c->apic_base = value;
		return 0;
	}
	return msr_set(c, MSR_APIC_BASE, value) < 0 ? -EINVAL : 0;
}

/*
 * A client that resets the machine by hand sets the registers of power-on; the processor that
 * boots it may still be halted then, and nothing else would wake it.
 */
static void wake_at_reset_vector(struct vcpu *c)
{
	if (c->id == c->vm->boot_cpu_id && c->rip == 0xfff0 && !is_protected(c) &&
	    c->seg[X86_CS].selector == 0xf000 && c->seg[X86_CS].base == 0xffff0000)
		c->mp_state = KVM_MP_STATE_RUNNABLE;
}

static void sregs_changed(struct vcpu *c)
{
	derive_cpl(c);
	wake_at_reset_vector(c);
	atomic_fetch_or(&c->requests, REQ_TLB_FLUSH | REQ_EVENT);
}

void sregs_get(struct vcpu *c, struct kvm_sregs *s)
{
	memset(s, 0, sizeof(*s));
	SREGS_GET(c, s);
	if (c->event.interrupt && !c->event.interrupt_soft)
		s->interrupt_bitmap[c->event.interrupt_vector / 64] |=
			1ull << (c->event.interrupt_vector % 64);
}

/* The lowest vector in the bitmap was being delivered when the state was saved. */
static void set_pending(struct vcpu *c, const __u64 bitmap[4])
{
	for (int i = 0; i < 4; i++) {
		if (!bitmap[i])
			continue;
		c->event.interrupt = true;
		c->event.interrupt_soft = false;
		c->event.interrupt_vector = (uint8_t)(i * 64 + __builtin_ctzll(bitmap[i]));
		return;
	}
}

int sregs_set(struct vcpu *c, const struct kvm_sregs *s)
{
	struct modes m = {s->cr0, s->cr3, s->cr4, s->efer, &s->cs};

	if (!modes_valid(c, &m) || set_apic_base(c, s->apic_base))
		return -EINVAL;
	SREGS_SET(c, s);
	set_cr8(c, s->cr8);
	set_pending(c, s->interrupt_bitmap);
	sregs_changed(c);
	return 0;
}

/* PAE's page directory pointers are read from memory whenever CR3 is loaded and at a flush;
 * the client's copy of them is never authoritative here. */
void sregs2_get(struct vcpu *c, struct kvm_sregs2 *s)
{
	memset(s, 0, sizeof(*s));
	SREGS_GET(c, s);
}

int sregs2_set(struct vcpu *c, const struct kvm_sregs2 *s)
{
	struct modes m = {s->cr0, s->cr3, s->cr4, s->efer, &s->cs};

	if (s->flags & ~(__u64)KVM_SREGS2_FLAGS_PDPTRS_VALID)
		return -EINVAL;
	if (!modes_valid(c, &m) || set_apic_base(c, s->apic_base))
		return -EINVAL;
	SREGS_SET(c, s);
	set_cr8(c, s->cr8);
	sregs_changed(c);
	return 0;
}

/* -- debug registers ----------------------------------------------------------------------- */

void debugregs_get(const struct vcpu *c, struct kvm_debugregs *d)
{
	memset(d, 0, sizeof(*d));
	for (int i = 0; i < 4; i++)
		d->db[i] = c->dr[i];
	d->dr6 = c->dr6;
	d->dr7 = c->dr7;
}

int debugregs_set(struct vcpu *c, const struct kvm_debugregs *d)
{
	if (d->flags || d->dr6 >> 32 || d->dr7 >> 32)
		return -EINVAL;
	for (int i = 0; i < 4; i++)
		c->dr[i] = d->db[i];
	c->dr6 = d->dr6;
	c->dr7 = d->dr7;
	atomic_fetch_or(&c->requests, REQ_TLB_FLUSH);
	return 0;
}
