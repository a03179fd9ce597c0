/* SPDX-License-Identifier: MIT */
/*
 * The fast ways into the kernel and back: SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS, and the
 * instructions that read and write the bases of FS and GS.
 *
 * They read no descriptors: selectors come from an MSR, the hidden parts of CS and SS are
 * constants. These are the most frequent system instructions, so nothing here is dearer than
 * it must be.
 *
 *	STAR          63..48              47..32             31..0
 *	              SYSRET CS (32-bit)  SYSCALL CS         target in legacy mode
 *	              +8 SS, +16 CS (64)  +8 SS
 *	SYSENTER_CS   n: kernel CS, +8 SS, +16 CS (32), +24 SS, +32 CS (64), +40 SS
 *
 * Vendors differ. SYSCALL outside 64-bit mode and SYSENTER in long mode work on one each; we
 * are whoever CPUID says. SYSRET to a non-canonical address faults in the kernel, as Intel's.
 * Source: Intel SDM volume 2; AMD APM volume 3.
 */
#include "softkvm/interp/event.h"
#include "softkvm/interp/segload.h"
#include "softkvm/interp/system.h"

/* Hidden parts; only selector and dpl vary. */
static const struct kvm_segment flat_code64 = {
	.limit = 0xffffffff, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1,
};
static const struct kvm_segment flat_code32 = {
	.limit = 0xffffffff, .type = 11, .present = 1, .s = 1, .db = 1, .g = 1,
};
static const struct kvm_segment flat_data = {
	.limit = 0xffffffff, .type = 3, .present = 1, .s = 1, .db = 1, .g = 1,
};

static void set_segs(struct vcpu *c, const struct kvm_segment *code, unsigned cs, unsigned ss,
		     unsigned cpl)
{
	c->seg[X86_CS] = *code;
	c->seg[X86_CS].selector = (uint16_t)((cs & ~3u) | cpl);
	c->seg[X86_CS].dpl = (uint8_t)cpl;
	c->seg[X86_SS] = flat_data;
	c->seg[X86_SS].selector = (uint16_t)((ss & ~3u) | cpl);
	c->seg[X86_SS].dpl = (uint8_t)cpl;
	cpl_set(c, cpl);
}

/* -- SYSCALL, SYSRET ---------------------------------------------------------------------- */

/* On AMD's processors outside long mode: no flags saved, no mask. */
static enum step syscall_legacy(struct vcpu *c, uint64_t next)
{
	const unsigned cs = c->msr.star >> 32 & 0xffff;

	c->gpr[X86_RCX] = (uint32_t)next;
	c->rip = (uint32_t)c->msr.star;
	c->rflags &= ~(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF);
	set_segs(c, &flat_code32, cs, cs + 8, 0);
	return STEP_OK;
}

enum step sys_syscall(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const unsigned cs = c->msr.star >> 32 & 0xffff;
	uint64_t target = c->msr.lstar;

	(void)in;
	if (!(c->efer & EFER_SCE))
		return ud(c);
	if (!is_64bit_code(c)) {
		if (!is_protected(c) || is_vm86(c) || !c->amd)
			return ud(c);
		if (!is_long_mode(c))
			return syscall_legacy(c, next);
		target = c->msr.cstar;
	}
	/* A single-step trap goes by the new TF: what entered with it set and left without
	 * does not trap. */
	c->event.no_trap = c->rflags & c->msr.sfmask & RFLAGS_TF;
	c->gpr[X86_RCX] = next;
	c->gpr[X86_R11] = c->rflags & ~RFLAGS_RF;
	c->rflags = (c->rflags & ~(c->msr.sfmask | RFLAGS_RF)) | RFLAGS_FIXED;
	c->rip = target;
	set_segs(c, &flat_code64, cs, cs + 8, 0);
	return STEP_OK;
}

/* What SYSRET may load from R11: all but RF, VM and the reserved bits. */
#define SYSRET_FLAGS 0x3c7fd7ull

/* As with SYSCALL, what counts is TF at the end: set by SYSRET it traps before the program's first
 * instruction. (What IRET and POPF set traps after the next one.) */
static enum step step_after_sysret(struct vcpu *c, bool stepping)
{
	if (stepping == !!(c->rflags & RFLAGS_TF))
		return STEP_OK;
	c->event.no_trap = stepping;
	if (stepping)
		return STEP_OK;
	c->fault = (struct fault){.vector = X86_DB, .dr6 = DR6_BS};
	return STEP_FAULT;
}

enum step sys_sysret(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const unsigned cs = c->msr.star >> 48;
	const bool is_long = is_long_mode(c), stepping = c->rflags & RFLAGS_TF;

	(void)next;
	if (!(c->efer & EFER_SCE) || !is_protected(c) || is_vm86(c))
		return ud(c);
	if (!is_64bit_code(c) && !c->amd)
		return ud(c);
	if (c->cpl)
		return gp0(c);
	if (in->opsize == 8) {
		if (!is_canonical(c->gpr[X86_RCX]))
			return gp0(c);
		c->rip = c->gpr[X86_RCX];
	} else {
		c->rip = (uint32_t)c->gpr[X86_RCX];
	}
	if (is_long)
		c->rflags = (c->gpr[X86_R11] & SYSRET_FLAGS) | RFLAGS_FIXED;
	else
		c->rflags |= RFLAGS_IF;
	if (in->opsize == 8)
		set_segs(c, &flat_code64, cs + 16, cs + 8, 3);
	else
		set_segs(c, &flat_code32, cs, cs + 8, 3);
	event_opened(c);
	return step_after_sysret(c, stepping);
}

/* -- SYSENTER, SYSEXIT -------------------------------------------------------------------- */

static enum step check_sysenter(struct vcpu *c)
{
	if (is_long_mode(c) && c->amd)
		return ud(c);
	if (!is_protected(c) || !(c->msr.sysenter_cs & 0xfffc))
		return gp0(c);
	return STEP_OK;
}

enum step sys_sysenter(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const unsigned cs = c->msr.sysenter_cs & 0xfffc;
	const bool is_long = is_long_mode(c);
	enum step rc = check_sysenter(c);

	(void)in;
	(void)next;
	if (rc)
		return rc;
	c->rflags &= ~(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF);
	c->rip = is_long ? c->msr.sysenter_eip : (uint32_t)c->msr.sysenter_eip;
	c->gpr[X86_RSP] = is_long ? c->msr.sysenter_esp : (uint32_t)c->msr.sysenter_esp;
	set_segs(c, is_long ? &flat_code64 : &flat_code32, cs, cs + 8, 0);
	return STEP_OK;
}

enum step sys_sysexit(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const unsigned cs = c->msr.sysenter_cs & 0xfffc;
	enum step rc = c->cpl ? gp0(c) : check_sysenter(c);

	(void)next;
	if (rc)
		return rc;
	if (in->opsize == 8) {
		if (!is_canonical(c->gpr[X86_RCX]) || !is_canonical(c->gpr[X86_RDX]))
			return gp0(c);
		c->rip = c->gpr[X86_RDX];
		c->gpr[X86_RSP] = c->gpr[X86_RCX];
		set_segs(c, &flat_code64, cs + 32, cs + 40, 3);
	} else {
		c->rip = (uint32_t)c->gpr[X86_RDX];
		c->gpr[X86_RSP] = (uint32_t)c->gpr[X86_RCX];
		set_segs(c, &flat_code32, cs + 16, cs + 24, 3);
	}
	return STEP_OK;
}

/* -- Bases -------------------------------------------------------------------------------- */

enum step sys_swapgs(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const uint64_t base = c->seg[X86_GS].base;

	(void)in;
	(void)next;
	c->seg[X86_GS].base = c->msr.kernel_gs_base;
	c->msr.kernel_gs_base = base;
	return STEP_OK;
}

/* 0F AE with F3: /0 RDFSBASE, /1 RDGSBASE, /2 WRFSBASE, /3 WRGSBASE. */
enum step sys_rdfsgsbase(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const unsigned reg = in->modrm >> 3 & 7;
	struct kvm_segment *s = &c->seg[reg & 1 ? X86_GS : X86_FS];
	uint64_t value;

	(void)next;
	if (!(c->cr4 & CR4_FSGSBASE))
		return ud(c);
	if (!(reg & 2)) {
		gpr_set(c, in->rm, s->base, in->opsize);
		return STEP_OK;
	}
	value = in->opsize == 8 ? c->gpr[in->rm] : (uint32_t)c->gpr[in->rm];
	if (!is_canonical(value))
		return gp0(c);
	s->base = value;
	return STEP_OK;
}
