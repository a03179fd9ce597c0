/* SPDX-License-Identifier: MIT */
/*
 * System instructions: what the files system_*.c share.
 *
 * Each instruction is one function in the table of system.c. The table says what has to hold
 * first (privilege, mode), the function does the rest:
 *
 *	enum step sys_clts(struct vcpu *c, const struct insn *in, uint64_t next);
 *
 * c->rip is the instruction's address while it runs. Unless the table says that it jumps,
 * system_insn() sets rip to `next` after it, so most functions do not care where they are.
 */
#ifndef SOFTKVM_SYSTEM_H
#define SOFTKVM_SYSTEM_H

#include "softkvm/interp/interp.h"
#include "softkvm/mmu/mmu.h"

typedef enum step sysop(struct vcpu *c, const struct insn *in, uint64_t next);

/* -- Operands ----------------------------------------------------------------------------- */

/* The linear address of the memory operand. */
enum step sys_linear(struct vcpu *c, const struct insn *in, uint64_t next, unsigned len,
		     bool write, uint64_t *lin);

/* A 16-bit source, register or memory. */
enum step sys_read16(struct vcpu *c, const struct insn *in, uint64_t next, uint16_t *value);

/* The destination of SLDT, STR, SMSW, MOV from a segment register: 16 bits of memory, or a
 * register of the operand size. */
enum step sys_write16(struct vcpu *c, const struct insn *in, uint64_t next, uint64_t value);

/* A general register of 2, 4 or 8 bytes; 4 clear the upper half. */
static inline void gpr_set(struct vcpu *c, unsigned reg, uint64_t value, unsigned size)
{
	if (size == 8)
		c->gpr[reg] = value;
	else if (size == 4)
		c->gpr[reg] = (uint32_t)value;
	else
		c->gpr[reg] = (c->gpr[reg] & ~0xffffull) | (value & 0xffff);
}

/* EDX:EAX. */
static inline uint64_t pair_get(const struct vcpu *c)
{
	return c->gpr[X86_RDX] << 32 | (uint32_t)c->gpr[X86_RAX];
}

static inline void pair_set(struct vcpu *c, uint64_t value)
{
	c->gpr[X86_RAX] = (uint32_t)value;
	c->gpr[X86_RDX] = value >> 32;
}

static inline enum step gp0(struct vcpu *c)
{
	return fault_code(c, X86_GP, 0);
}

static inline enum step ud(struct vcpu *c)
{
	return fault_set(c, X86_UDV);
}

/* -- The instructions --------------------------------------------------------------------- */

/* system_entry.c */
sysop sys_syscall, sys_sysret, sys_sysenter, sys_sysexit, sys_swapgs, sys_rdfsgsbase;
/* system_transfer.c */
sysop sys_int, sys_int3, sys_into, sys_int1, sys_iret, sys_retf, sys_jmp_far_i,
	sys_jmp_far_m, sys_call_far_i, sys_call_far_m;
/* system_seg.c */
sysop sys_mov_from_seg, sys_mov_to_seg, sys_load_far, sys_lldt, sys_ltr, sys_sldt, sys_str,
	sys_lgdt, sys_lidt, sys_sgdt, sys_sidt;
/* system_probe.c */
sysop sys_lar, sys_lsl, sys_verr, sys_verw, sys_arpl;
/* system_cr.c */
sysop sys_mov_cr, sys_clts, sys_lmsw, sys_smsw;
/* system_dr.c */
sysop sys_mov_dr;
/* system_tlb.c */
sysop sys_invlpg, sys_invpcid, sys_cache;
/* system_misc.c */
sysop sys_cpuid, sys_rdtsc, sys_rdtscp, sys_rdpid, sys_rdpmc, sys_rdmsr, sys_wrmsr, sys_hlt,
	sys_monitor, sys_mwait, sys_vmcall, sys_xgetbv, sys_xsetbv, sys_clac_stac, sys_cli,
	sys_sti;
/* system_fpu.c */
sysop sys_fxsave, sys_fxrstor, sys_xsave, sys_xrstor, sys_fsave, sys_frstor, sys_fstenv,
	sys_fldenv;

#endif
