/* SPDX-License-Identifier: MIT */
/*
 * Which extension of the instruction set an instruction belongs to.
 *
 *	x86_decode(&in, bytes, n, X86_MODE_64);
 *	if (lacking >> x86_isa(&in, true) & 1) ...   // #UD on a CPU that lacks it
 *
 * Only extensions that nothing but CPUID tells of: what CR4 or XCR0 permits (XSAVE, AVX, AVX-512 as
 * a whole, FSGSBASE) is undefined without that bit anyway, and its instructions are of
 * X86_ISA_BASE here if they are nothing else beside.
 */
#ifndef X86_ISA_H
#define X86_ISA_H

#include <stdbool.h>

struct insn;

enum x86_isa {
	X86_ISA_BASE, /* or decided by a control register */
	X86_ISA_SSE3, X86_ISA_SSSE3, X86_ISA_SSE4_1, X86_ISA_SSE4_2, X86_ISA_SSE4A,
	X86_ISA_POPCNT, X86_ISA_AES, X86_ISA_PCLMULQDQ, X86_ISA_SHA, X86_ISA_GFNI, X86_ISA_MOVBE,
	X86_ISA_BMI1, X86_ISA_BMI2, X86_ISA_ADX, X86_ISA_RDRAND, X86_ISA_RDSEED, X86_ISA_CX16,
	X86_ISA_LAHF, X86_ISA_CLFLUSHOPT, X86_ISA_CLWB, X86_ISA_RDTSCP,
	X86_ISA_AVX2, X86_ISA_FMA, X86_ISA_F16C, X86_ISA_VAES, X86_ISA_VPCLMULQDQ, X86_ISA_AVX_VNNI,
	X86_ISAS /* 32 at most: they are bits of a word */
};

/* is64: in 64-bit mode, where LAHF and SAHF are an extension. No libc. */
enum x86_isa x86_isa(const struct insn *in, bool is64);

#endif
