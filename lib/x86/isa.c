/* SPDX-License-Identifier: MIT */
/*
 * Extensions by opcode, in the order of the opcode maps (Intel SDM volume 2, appendix A, and each
 * instruction's "CPUID feature flag"; AMD APM volume 3, appendix D, for SSE4A).
 *
 * TZCNT and LZCNT are missing on purpose: without BMI1 and LZCNT they are no #UD but BSF and BSR with
 * a prefix that says nothing, and Linux writes REP BSF where it means either. EVEX-coded
 * instructions are all AVX-512's, which XCR0 permits as a whole.
 *
 * A search through the table takes a while. It is made only for guests that lack something that
 * the host has.
 */
#include "x86/isa.h"

#include "x86/decode.h"

#include <stddef.h>

/* Mandatory prefixes, of F2, F3 and 66 the first that is there. */
enum { NP = 1, P66 = 2, PF3 = 4, PF2 = 8, ANY = 15 };

enum form { BOTH, MEM, REG };

static const struct row {
	uint8_t isa, enc, map, prefix, first, last;
	uint8_t vl;   /* bytes of the vector, 0: any */
	uint8_t form; /* enum form, of modrm.rm */
	int8_t reg;   /* modrm.reg, -1: any */
} rows[] = {
#define ROW(isa, enc, map, prefix, first, last) \
	{X86_ISA_##isa, X86_##enc, X86_MAP_##map, prefix, first, last, 0, BOTH, -1}
#define WIDE(isa, map, prefix, first, last) \
	{X86_ISA_##isa, X86_VEX, X86_MAP_##map, prefix, first, last, 32, BOTH, -1}
#define GROUP(isa, enc, map, prefix, op, form, reg) \
	{X86_ISA_##isa, X86_##enc, X86_MAP_##map, prefix, op, op, 0, form, reg}

	GROUP(SSE3, LEGACY, 1B, ANY, 0xdb, MEM, 1), /* FISTTP */
	GROUP(SSE3, LEGACY, 1B, ANY, 0xdd, MEM, 1),
	GROUP(SSE3, LEGACY, 1B, ANY, 0xdf, MEM, 1),

	ROW(SSE3, LEGACY, 0F, PF3 | PF2, 0x12, 0x12), /* MOVSLDUP, MOVDDUP */
	ROW(SSE3, LEGACY, 0F, PF3, 0x16, 0x16),
	ROW(SSE4A, LEGACY, 0F, PF3 | PF2, 0x2b, 0x2b), /* MOVNTSS, MOVNTSD */
	ROW(SSE4A, LEGACY, 0F, P66 | PF2, 0x78, 0x79), /* EXTRQ, INSERTQ */
	ROW(SSE3, LEGACY, 0F, P66 | PF2, 0x7c, 0x7d),
	GROUP(CLWB, LEGACY, 0F, P66, 0xae, MEM, 6),
	GROUP(CLFLUSHOPT, LEGACY, 0F, P66, 0xae, MEM, 7),
	ROW(POPCNT, LEGACY, 0F, PF3, 0xb8, 0xb8),
	GROUP(RDRAND, LEGACY, 0F, NP | P66, 0xc7, REG, 6),
	GROUP(RDSEED, LEGACY, 0F, NP | P66, 0xc7, REG, 7),
	ROW(SSE3, LEGACY, 0F, P66 | PF2, 0xd0, 0xd0),
	ROW(SSE3, LEGACY, 0F, PF2, 0xf0, 0xf0), /* LDDQU */

	ROW(SSSE3, LEGACY, 0F38, NP | P66, 0x00, 0x0b),
	ROW(SSE4_1, LEGACY, 0F38, P66, 0x10, 0x17),
	ROW(SSSE3, LEGACY, 0F38, NP | P66, 0x1c, 0x1e),
	ROW(SSE4_1, LEGACY, 0F38, P66, 0x20, 0x35),
	ROW(SSE4_2, LEGACY, 0F38, P66, 0x37, 0x37),
	ROW(SSE4_1, LEGACY, 0F38, P66, 0x38, 0x41),
	ROW(SHA, LEGACY, 0F38, NP, 0xc8, 0xcd),
	ROW(GFNI, LEGACY, 0F38, P66, 0xcf, 0xcf),
	ROW(AES, LEGACY, 0F38, P66, 0xdb, 0xdf),
	ROW(MOVBE, LEGACY, 0F38, NP | P66, 0xf0, 0xf1),
	ROW(SSE4_2, LEGACY, 0F38, PF2, 0xf0, 0xf1), /* CRC32 */
	ROW(ADX, LEGACY, 0F38, P66 | PF3, 0xf6, 0xf6),

	ROW(SSE4_1, LEGACY, 0F3A, P66, 0x08, 0x0e),
	ROW(SSSE3, LEGACY, 0F3A, NP | P66, 0x0f, 0x0f),
	ROW(SSE4_1, LEGACY, 0F3A, P66, 0x14, 0x42),
	ROW(PCLMULQDQ, LEGACY, 0F3A, P66, 0x44, 0x44),
	ROW(SSE4_2, LEGACY, 0F3A, P66, 0x60, 0x63),
	ROW(SHA, LEGACY, 0F3A, NP, 0xcc, 0xcc),
	ROW(GFNI, LEGACY, 0F3A, P66, 0xce, 0xcf),
	ROW(AES, LEGACY, 0F3A, P66, 0xdf, 0xdf),

	/* Of AVX, 256 bits of integers are AVX2; floating point and moves are not. */
	WIDE(AVX2, 0F, P66, 0x60, 0x6d),
	WIDE(AVX2, 0F, P66 | PF3 | PF2, 0x70, 0x70),
	WIDE(AVX2, 0F, P66, 0x71, 0x76),
	WIDE(AVX2, 0F, P66, 0xd1, 0xd5),
	WIDE(AVX2, 0F, P66, 0xd7, 0xe5),
	WIDE(AVX2, 0F, P66, 0xe8, 0xfe),

	WIDE(AVX2, 0F38, P66, 0x00, 0x0b),
	ROW(F16C, VEX, 0F38, P66, 0x13, 0x13),
	ROW(AVX2, VEX, 0F38, P66, 0x16, 0x16), /* VPERMPS */
	GROUP(AVX2, VEX, 0F38, P66, 0x18, REG, -1),
	GROUP(AVX2, VEX, 0F38, P66, 0x19, REG, -1),
	WIDE(AVX2, 0F38, P66, 0x1c, 0x2b),
	WIDE(AVX2, 0F38, P66, 0x30, 0x35),
	ROW(AVX2, VEX, 0F38, P66, 0x36, 0x36), /* VPERMD */
	WIDE(AVX2, 0F38, P66, 0x37, 0x40),
	ROW(AVX2, VEX, 0F38, P66, 0x45, 0x47), /* shifts by a vector */
	ROW(AVX_VNNI, VEX, 0F38, P66, 0x50, 0x53),
	ROW(AVX2, VEX, 0F38, P66, 0x58, 0x5a), /* broadcasts */
	ROW(AVX2, VEX, 0F38, P66, 0x78, 0x93), /* broadcasts, VPMASKMOV, gathers */
	ROW(FMA, VEX, 0F38, P66, 0x96, 0xbf),
	ROW(GFNI, VEX, 0F38, P66, 0xcf, 0xcf),
	WIDE(VAES, 0F38, P66, 0xdc, 0xdf),
	ROW(AES, VEX, 0F38, P66, 0xdb, 0xdf),
	ROW(BMI1, VEX, 0F38, NP, 0xf2, 0xf3), /* ANDN, BLSR and its group */
	ROW(BMI2, VEX, 0F38, ANY, 0xf5, 0xf6), /* BZHI, PEXT, PDEP, MULX */
	ROW(BMI1, VEX, 0F38, NP, 0xf7, 0xf7), /* BEXTR */
	ROW(BMI2, VEX, 0F38, P66 | PF3 | PF2, 0xf7, 0xf7), /* SHLX, SARX, SHRX */

	ROW(AVX2, VEX, 0F3A, P66, 0x00, 0x02), /* VPERMQ, VPERMPD, VPBLENDD */
	WIDE(AVX2, 0F3A, P66, 0x0e, 0x0f),
	ROW(F16C, VEX, 0F3A, P66, 0x1d, 0x1d),
	ROW(AVX2, VEX, 0F3A, P66, 0x38, 0x39), /* VINSERTI128, VEXTRACTI128 */
	WIDE(AVX2, 0F3A, P66, 0x42, 0x42),
	WIDE(VPCLMULQDQ, 0F3A, P66, 0x44, 0x44),
	ROW(PCLMULQDQ, VEX, 0F3A, P66, 0x44, 0x44),
	ROW(AVX2, VEX, 0F3A, P66, 0x46, 0x46), /* VPERM2I128 */
	WIDE(AVX2, 0F3A, P66, 0x4c, 0x4c),
	ROW(GFNI, VEX, 0F3A, P66, 0xce, 0xcf),
	ROW(AES, VEX, 0F3A, P66, 0xdf, 0xdf),
	ROW(BMI2, VEX, 0F3A, PF2, 0xf0, 0xf0), /* RORX */
};

static unsigned prefix_of(const struct insn *in)
{
	if (in->prefix & X86_PFX_F2)
		return PF2;
	if (in->prefix & X86_PFX_F3)
		return PF3;
	return in->prefix & X86_PFX_66 ? P66 : NP;
}

static bool matches(const struct row *r, const struct insn *in, unsigned prefix)
{
	if (r->enc != in->enc || r->map != in->map || in->op < r->first || in->op > r->last)
		return false;
	if (!(r->prefix & prefix) || (r->vl && r->vl != in->vl))
		return false;
	if (r->form != BOTH && (r->form == MEM) != in->has_mem)
		return false;
	return r->reg < 0 || (in->modrm >> 3 & 7) == r->reg;
}

enum x86_isa x86_isa(const struct insn *in, bool is64)
{
	unsigned prefix = prefix_of(in);
	bool legacy = in->enc == X86_LEGACY;

	if (in->kind == X86_UD)
		return X86_ISA_BASE;
	if (in->kind == X86_RDTSCP)
		return X86_ISA_RDTSCP;
	if (legacy && in->map == X86_MAP_1B && (in->op & 0xfe) == 0x9e) /* SAHF, LAHF */
		return is64 ? X86_ISA_LAHF : X86_ISA_BASE;
	if (legacy && in->map == X86_MAP_0F && in->op == 0xc7 && in->has_mem)
		return (in->modrm >> 3 & 7) == 1 && in->rex & 8 ? X86_ISA_CX16 : X86_ISA_BASE;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (matches(&rows[i], in, prefix))
			return rows[i].isa;
	return X86_ISA_BASE;
}
