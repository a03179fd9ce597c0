/* SPDX-License-Identifier: MIT */
/*
 * Instructions that may differ between a process of the host and a guest, and why.
 *
 * Everything that is not named here must agree.
 */
#include "insn.h"

#include <stdio.h>

static bool is_random_number(const struct insn *in)
{
	return in->enc == X86_LEGACY && in->map == X86_MAP_0F && in->op == 0xc7 &&
	       in->mod == 3 && (in->reg & 7) >= 6;
}

static bool is_undefined_here(const struct insn *in)
{
	return in->kind == X86_UD && in->enc == X86_LEGACY;
}

/* Vectors that are no exceptions. */
static bool is_gate(const struct insn *in)
{
	return in->kind == X86_INT_I && (in->imm & 0xff) >= 22;
}

/* VPINSRQ and VPEXTRQ in 32-bit code: VPINSRD for Intel, undefined for AMD. */
static bool is_wide_insert(const struct insn *in)
{
	return in->enc != X86_LEGACY && in->map == X86_MAP_0F3A && in->rex & 8 &&
	       in->opsize == 4 && (in->op == 0x16 || in->op == 0x22);
}

/* VPBROADCAST from RSP: Zen 5 reads the RSP of before a PUSH or POP that is right ahead. */
static bool is_broadcast_of_rsp(const struct insn *in)
{
	return in->enc == X86_EVEX && in->f_rm != X86_F_OTHER && in->f_rm != X86_F_NONE &&
	       !in->has_mem && in->rm == X86_RSP;
}

/* KMOVQ with a general register in 32-bit code: undefined for Intel; AMD's write 64 bits. */
static bool is_wide_kmov(const struct insn *in)
{
	return in->enc == X86_VEX && in->map == X86_MAP_0F && (in->op & 0xfe) == 0x92 &&
	       in->rex & 8 && in->opsize == 4;
}

/* F3 41 90: PAUSE for Intel, XCHG R8D, EAX for AMD. */
static bool is_pause_of_r8(const struct insn *in)
{
	return in->enc == X86_LEGACY && in->map == X86_MAP_1B && in->op == 0x90 && in->rex & 1 &&
	       in->prefix & X86_PFX_F3;
}

static const struct {
	uint8_t kind;             /* X86_KINDS: `is` decides */
	bool (*is)(const struct insn *in);
	const char *why;
} table[] = {
	{.kind = X86_CPUID, .why = "the guest's CPU is another model"},
	{.kind = X86_RDTSC, .why = "time goes on"},
	{.kind = X86_RDTSCP, .why = "time goes on"},
	{.kind = X86_RDPMC, .why = "the host may allow it"},
	{.kind = X86_RDPID, .why = "the host's CPU number"},
	{.kind = X86_XGETBV, .why = "XINUSE depends on what the CPU noticed"},
	{.kind = X86_SYSCALL, .why = "the host's kernel would answer"},
	{.kind = X86_SYSENTER, .why = "the host's kernel would answer"},
	{.kind = X86_SYSEXIT, .why = "undefined or a fault, by vendor and hypervisor"},
	{.kind = X86_VMCALL, .why = "the host's hypervisor would answer"},
	{.kind = X86_SGDT, .why = "the host's kernel emulates it (UMIP)"},
	{.kind = X86_SIDT, .why = "the host's kernel emulates it (UMIP)"},
	{.kind = X86_SLDT, .why = "the host's kernel emulates it (UMIP)"},
	{.kind = X86_STR, .why = "the host's kernel emulates it (UMIP)"},
	{.kind = X86_SMSW, .why = "the host's kernel emulates it (UMIP)"},
	{.kind = X86_LAR, .why = "the host's descriptors"},
	{.kind = X86_LSL, .why = "the host's descriptors hold its CPU number"},
	{.kind = X86_VERR, .why = "the host's descriptors"},
	{.kind = X86_VERW, .why = "the host's descriptors"},
	{.kind = X86_XSAVE, .why = "XSTATE_BV depends on what the CPU noticed"},
	{.kind = X86_XSAVEOPT, .why = "may leave out what was not modified"},
	{.kind = X86_XSAVEC, .why = "leaves out what is in its initial state"},
	{.kind = X86_FXSAVE, .why = "see fpstate_test"},
	{.kind = X86_FSAVE, .why = "stores addresses of x87 instructions"},
	{.kind = X86_FSTENV, .why = "stores addresses of x87 instructions"},
	{.kind = X86_INT1, .why = "KVM under the host may leave RIP at it"},
	{.kind = X86_MONITOR, .why = "the host may allow it"},
	{.kind = X86_MWAIT, .why = "the host may allow it"},
	{.kind = X86_KINDS, .is = is_random_number, .why = "random numbers"},
	{.kind = X86_KINDS, .is = is_gate, .why = "the host's kernel or hypervisor may have handlers there"},
	{.kind = X86_KINDS, .is = is_broadcast_of_rsp, .why = "an erratum of Zen 5"},
	{.kind = X86_KINDS, .is = is_pause_of_r8, .why = "AMD and Intel differ"},
	{.kind = X86_KINDS, .is = is_wide_kmov, .why = "AMD and Intel differ"},
	{.kind = X86_KINDS, .is = is_wide_insert, .why = "AMD and Intel differ"},
	{.kind = X86_KINDS, .is = is_undefined_here,
	 .why = "the host may have it; a guest is not offered it"},
};

const char *excluded(const struct insn *in, bool is_32bit)
{
	(void)is_32bit;
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].kind == in->kind || (table[i].is && table[i].is(in)))
			return table[i].why;
	return NULL;
}

void exclusions_print(void)
{
	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		printf("%-24s %s\n",
		       table[i].is ? "(some)" : x86_kind_name((enum x86_kind)table[i].kind),
		       table[i].why);
}
