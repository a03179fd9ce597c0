/* SPDX-License-Identifier: MIT */
/*
 * System instructions: the table of who may execute what, and the operands.
 *
 * The checks that instructions have in common are data here, in the order in which the
 * processor makes them: undefined (#UD) before forbidden (#GP). What is particular to one
 * instruction is in its function; see system.h for where.
 */
#include "softkvm/interp/system.h"

#include "softkvm/interp/ops.h"

/* What must hold, and what follows. */
#define RING0 0x01u /* CPL 0, else #GP(0) */
#define PROT  0x02u /* protected, not virtual-8086 mode, else #UD */
#define UMIP  0x04u /* CPL 0 if CR4.UMIP, else #GP(0) */
#define JUMPS 0x08u /* sets rip itself */

static const struct rule {
	sysop *run;
	uint8_t flags;
} rules[X86_KINDS] = {
	[X86_SYSCALL]     = {sys_syscall, JUMPS},
	[X86_SYSRET]      = {sys_sysret, JUMPS},
	[X86_SYSENTER]    = {sys_sysenter, JUMPS},
	[X86_SYSEXIT]     = {sys_sysexit, JUMPS},
	[X86_SWAPGS]      = {sys_swapgs, RING0},
	[X86_RDFSGSBASE]  = {sys_rdfsgsbase, 0},

	[X86_INT_I]       = {sys_int, JUMPS},
	[X86_INT3]        = {sys_int3, JUMPS},
	[X86_INTO]        = {sys_into, JUMPS},
	[X86_INT1]        = {sys_int1, JUMPS},
	[X86_IRET]        = {sys_iret, JUMPS},
	[X86_RETF]        = {sys_retf, JUMPS},
	[X86_JMP_FAR_I]   = {sys_jmp_far_i, JUMPS},
	[X86_JMP_FAR_M]   = {sys_jmp_far_m, JUMPS},
	[X86_CALL_FAR_I]  = {sys_call_far_i, JUMPS},
	[X86_CALL_FAR_M]  = {sys_call_far_m, JUMPS},

	[X86_MOV_SEG_R]   = {sys_mov_from_seg, 0},
	[X86_MOV_R_SEG]   = {sys_mov_to_seg, 0},
	[X86_LOAD_FAR]    = {sys_load_far, 0},
	[X86_LGDT]        = {sys_lgdt, RING0},
	[X86_LIDT]        = {sys_lidt, RING0},
	[X86_SGDT]        = {sys_sgdt, UMIP},
	[X86_SIDT]        = {sys_sidt, UMIP},
	[X86_LLDT]        = {sys_lldt, PROT | RING0},
	[X86_LTR]         = {sys_ltr, PROT | RING0},
	[X86_SLDT]        = {sys_sldt, PROT | UMIP},
	[X86_STR]         = {sys_str, PROT | UMIP},
	[X86_LAR]         = {sys_lar, PROT},
	[X86_LSL]         = {sys_lsl, PROT},
	[X86_VERR]        = {sys_verr, PROT},
	[X86_VERW]        = {sys_verw, PROT},
	[X86_ARPL]        = {sys_arpl, PROT},

	[X86_MOV_CR]      = {sys_mov_cr, RING0},
	[X86_MOV_DR]      = {sys_mov_dr, RING0},
	[X86_CLTS]        = {sys_clts, RING0},
	[X86_LMSW]        = {sys_lmsw, RING0},
	[X86_SMSW]        = {sys_smsw, UMIP},
	[X86_INVLPG]      = {sys_invlpg, RING0},
	[X86_INVPCID]     = {sys_invpcid, PROT | RING0},
	[X86_INVD]        = {sys_cache, RING0},
	[X86_WBINVD]      = {sys_cache, RING0},

	[X86_CPUID]       = {sys_cpuid, 0},
	[X86_RDTSC]       = {sys_rdtsc, 0},
	[X86_RDTSCP]      = {sys_rdtscp, 0},
	[X86_RDPID]       = {sys_rdpid, 0},
	[X86_RDPMC]       = {sys_rdpmc, 0},
	[X86_RDMSR]       = {sys_rdmsr, RING0},
	[X86_WRMSR]       = {sys_wrmsr, RING0},
	[X86_HLT]         = {sys_hlt, RING0},
	[X86_MONITOR]     = {sys_monitor, 0},
	[X86_MWAIT]       = {sys_mwait, 0},
	[X86_VMCALL]      = {sys_vmcall, 0},
	[X86_XGETBV]      = {sys_xgetbv, 0},
	[X86_XSETBV]      = {sys_xsetbv, RING0},
	[X86_CLAC_STAC]   = {sys_clac_stac, 0},
	[X86_CLI]         = {sys_cli, 0},
	[X86_STI]         = {sys_sti, 0},

	[X86_FXSAVE]      = {sys_fxsave, 0},
	[X86_FXRSTOR]     = {sys_fxrstor, 0},
	[X86_XSAVE]       = {sys_xsave, 0},
	[X86_XSAVEOPT]    = {sys_xsave, 0},
	[X86_XSAVEC]      = {sys_xsave, 0},
	[X86_XSAVES]      = {sys_xsave, RING0},
	[X86_XRSTOR]      = {sys_xrstor, 0},
	[X86_XRSTORS]     = {sys_xrstor, RING0},
	[X86_FSAVE]       = {sys_fsave, 0},
	[X86_FRSTOR]      = {sys_frstor, 0},
	[X86_FSTENV]      = {sys_fstenv, 0},
	[X86_FLDENV]      = {sys_fldenv, 0},
};

static enum step check(struct vcpu *c, uint8_t flags)
{
	if ((flags & PROT) && (!is_protected(c) || is_vm86(c)))
		return ud(c);
	if ((flags & RING0) && c->cpl)
		return gp0(c);
	if ((flags & UMIP) && c->cpl && (c->cr4 & CR4_UMIP))
		return gp0(c);
	return STEP_OK;
}

enum step system_insn(struct vcpu *c, const struct insn *in, uint64_t rip_next)
{
	const struct rule *r = &rules[in->kind < X86_KINDS ? in->kind : X86_UD];
	enum step rc;

	if (!r->run)
		return ud(c);
	if (r->flags & ~JUMPS) {
		rc = check(c, r->flags);
		if (rc)
			return rc;
	}
	rc = r->run(c, in, rip_next);
	if ((rc == STEP_OK || rc == STEP_HALT) && !(r->flags & JUMPS))
		c->rip = rip_next;
	return rc;
}

/* -- Operands ----------------------------------------------------------------------------- */

enum step sys_linear(struct vcpu *c, const struct insn *in, uint64_t next, unsigned len,
		     bool write, uint64_t *lin)
{
	return seg_linear(c, op_seg(in), insn_ea(c, in, next), len, write, lin);
}

enum step sys_read16(struct vcpu *c, const struct insn *in, uint64_t next, uint16_t *value)
{
	uint64_t lin;
	enum step rc;

	if (in->mod == 3) {
		*value = (uint16_t)c->gpr[in->rm];
		return STEP_OK;
	}
	rc = sys_linear(c, in, next, 2, false, &lin);
	return rc ? rc : mmu_read(c, lin, value, 2, ACC_READ);
}

enum step sys_write16(struct vcpu *c, const struct insn *in, uint64_t next, uint64_t value)
{
	const uint16_t low = (uint16_t)value;
	uint64_t lin;
	enum step rc;

	if (in->mod == 3) {
		gpr_set(c, in->rm, value, in->opsize);
		return STEP_OK;
	}
	rc = sys_linear(c, in, next, 2, true, &lin);
	return rc ? rc : mmu_write(c, lin, &low, 2, ACC_WRITE);
}
