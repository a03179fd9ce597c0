/* SPDX-License-Identifier: MIT */
/*
 * The decoder against Zydis, over all forms of the opcode table and pseudo-random byte
 * strings, in the three modes.
 *
 *	zydis_test [seed [count]]        compares; TAP
 *	zydis_test -v [seed [count]]     prints each kind of difference with an example
 *
 * Compared: length; undefined or not; the memory operand's presence, base, index,
 * scale, displacement, segment, size and direction; immediates; which fields name
 * general registers, read and written, implicit ones too; operand and vector size;
 * and of the flags that what we call certainly written Zydis calls written (and not
 * undefined), what Zydis calls read we call read, and what it calls changed we call
 * touched; the extension of the instruction set. And no native instruction accesses memory that
 * ModRM does not name.
 *
 * Bytes are drawn with the encoding in mind (prefixes, escapes, VEX and EVEX
 * payloads that are mostly well-formed), or nearly all would be undefined or MOVs.
 * Where the two differ for good reasons, expected() says so, a reason each; anything
 * else fails the test.
 */
#include <Zydis/Zydis.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tap.h"
#include "x86/isa.h"
#include "x86/tests/forms.h"

enum { BYTES = 24 };

/* -- Byte strings ------------------------------------------------------------------ */

static uint64_t seed;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed * 0x2545f4914f6cdd1d >> 16;
}

static bool one_in(unsigned n)
{
	return rnd() % n == 0;
}

static unsigned draw_prefixes(uint8_t *p)
{
	static const uint8_t prefix[] = {0x66, 0x66, 0x66, 0xf2, 0xf2, 0xf3,
					 0xf3, 0x67, 0x67, 0xf0, 0x2e, 0x36,
					 0x3e, 0x26, 0x64, 0x65};
	unsigned n = 0;

	while (n < 16 && one_in(n ? 3 : 2))
		p[n++] = prefix[rnd() % sizeof(prefix)];
	if (one_in(500))
		while (n < 15)
			p[n++] = 0x2e;
	return n;
}

static unsigned draw_legacy(uint8_t *p)
{
	unsigned n = draw_prefixes(p), map = rnd() & 7;

	if (one_in(2))
		p[n++] = 0x40 | (rnd() & 15);
	if (one_in(200))
		p[n++] = 0x66;
	if (map >= 2)
		p[n++] = 0x0f;
	if (map == 6)
		p[n++] = 0x38;
	if (map == 7)
		p[n++] = 0x3a;
	return n;
}

/* vvvv is 1111 for half of them, since so it must be where it is not used. */
static uint8_t draw_vvvv(void)
{
	return one_in(2) ? 0x78 : rnd() & 0x78;
}

static unsigned draw_vex(uint8_t *p)
{
	unsigned n = one_in(50) ? draw_prefixes(p) : 0;

	if (one_in(3)) {
		p[n++] = 0xc5;
		p[n++] = (rnd() & 0x87) | draw_vvvv();
	} else {
		p[n++] = 0xc4;
		p[n++] = (rnd() & 0xe0) | (one_in(20) ? rnd() & 31 : 1 + rnd() % 3);
		p[n++] = (rnd() & 0x87) | draw_vvvv();
	}
	return n;
}

static unsigned draw_evex(uint8_t *p)
{
	static const uint8_t map[] = {1, 1, 2, 2, 2, 3, 3, 5, 6};
	unsigned n = one_in(50) ? draw_prefixes(p) : 0;

	p[n++] = 0x62;
	p[n++] = (rnd() & 0xf0) | (one_in(30) ? rnd() & 15 : map[rnd() % sizeof(map)]);
	p[n++] = (rnd() & 0x83) | (one_in(100) ? 0 : 4) | draw_vvvv();
	p[n] = rnd() & 0x60;
	p[n] |= one_in(2) ? 8 : rnd() & 8;
	p[n] |= one_in(2) ? 0 : rnd() & 7;
	p[n] |= one_in(3) ? 0x10 : 0;
	p[n++] |= one_in(4) ? 0x80 : 0;
	return n;
}

static void draw(uint8_t *p)
{
	uint8_t tail[BYTES + 16];
	unsigned n = 0;

	for (unsigned i = 0; i < sizeof(tail); i++)
		tail[i] = rnd();
	memcpy(p, tail, BYTES);
	switch (rnd() % 8) {
	case 0: break;
	case 1:
	case 2:
	case 3:
	case 4: n = draw_legacy(tail); break;
	case 5: n = draw_vex(tail); break;
	default: n = draw_evex(tail); break;
	}
	memcpy(p, tail, n < BYTES ? n : BYTES);
}

/* -- Comparing --------------------------------------------------------------------- */

struct pair {
	const uint8_t *bytes;
	enum x86_mode mode;
	struct insn in;
	int rc;
	ZydisDecodedInstruction z;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	ZyanStatus status;
	const char *what; /* the difference */
	char detail[80];
};

#define DIFFER(p, name, ...)                                             \
	do {                                                             \
		(p)->what = name;                                        \
		snprintf((p)->detail, sizeof((p)->detail), __VA_ARGS__); \
		return true;                                             \
	} while (0)

static unsigned zydis_gpr(ZydisRegister reg)
{
	ZydisRegisterClass class = ZydisRegisterGetClass(reg);

	if (reg == ZYDIS_REGISTER_RIP || reg == ZYDIS_REGISTER_EIP)
		return X86_RIP;
	if (reg == ZYDIS_REGISTER_NONE)
		return X86_REG_NONE;
	if (class == ZYDIS_REGCLASS_GPR8 && reg >= ZYDIS_REGISTER_AH &&
	    reg <= ZYDIS_REGISTER_BH)
		return reg - ZYDIS_REGISTER_AH;
	if (class == ZYDIS_REGCLASS_GPR8 && reg >= ZYDIS_REGISTER_SPL)
		return ZydisRegisterGetId(reg) - 4; /* AH to BH come in between */
	return ZydisRegisterGetId(reg);
}

static bool is_gpr(const ZydisDecodedOperand *o)
{
	ZydisRegisterClass class;

	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	class = ZydisRegisterGetClass(o->reg.value);
	return class >= ZYDIS_REGCLASS_GPR8 && class <= ZYDIS_REGCLASS_GPR64;
}

/* Displacements are the same if they come to the same address. */
static int64_t address_mask(const struct pair *p)
{
	switch (p->in.adsize) {
	case 2: return 0xffff;
	case 4: return 0xffffffff;
	default: return -1;
	}
}

static bool differs_mem(struct pair *p, const ZydisDecodedOperand *o)
{
	const struct insn *in = &p->in;
	unsigned base = zydis_gpr(o->mem.base), index = zydis_gpr(o->mem.index);
	bool r = o->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
	bool w = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	bool none = o->mem.type == ZYDIS_MEMOP_TYPE_AGEN || in->kind == X86_NOP ||
		    in->kind == X86_CLFLUSH || in->kind == X86_INVLPG;
	unsigned size = none ? 0 : o->size / 8;
	unsigned seg = o->mem.segment - ZYDIS_REGISTER_ES;

	if (!in->has_mem)
		DIFFER(p, "memory operand", "not seen");
	if (in->base != base)
		DIFFER(p, "base", "%d, not %d", in->base, base);
	if (p->z.raw.modrm.rm == 4 && o->mem.type == ZYDIS_MEMOP_TYPE_VSIB)
		index &= 15;
	if (in->index != index)
		DIFFER(p, "index", "%d, not %d", in->index, index);
	if (index != X86_REG_NONE && in->adsize != 2 && in->scale != o->mem.scale)
		DIFFER(p, "scale", "%d, not %d", in->scale, o->mem.scale);
	if ((in->disp ^ o->mem.disp.value) & address_mask(p))
		DIFFER(p, "disp", "%lx, not %lx", (long)in->disp,
		       (long)o->mem.disp.value);
	if (in->mem_size != size)
		DIFFER(p, "mem_size", "%d, not %d", in->mem_size, size);
	if (size && (in->mem_r != r || in->mem_w != w))
		DIFFER(p, "direction", "%d%d, not %d%d", in->mem_r, in->mem_w, r, w);
	if (p->mode == X86_MODE_64 && seg < X86_FS)
		seg = X86_SEG_NONE;
	if (in->seg != seg && o->mem.type != ZYDIS_MEMOP_TYPE_AGEN)
		DIFFER(p, "segment", "%d, not %d", in->seg, seg);
	return false;
}

static bool differs_reg(struct pair *p, const ZydisDecodedOperand *o, const char *name,
			uint8_t reg, uint8_t f, bool r, bool w)
{
	ZydisRegisterClass class = ZydisRegisterGetClass(o->reg.value);
	/* What may or may not be written is read, as it may stay. */
	bool zr = o->actions &
		  (ZYDIS_OPERAND_ACTION_MASK_READ | ZYDIS_OPERAND_ACTION_CONDWRITE);
	bool zw = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;
	bool byte = class == ZYDIS_REGCLASS_GPR8;
	unsigned id = zydis_gpr(o->reg.value);

	if (!is_gpr(o)) {
		if (f == X86_F_GPR || f == X86_F_GPR8)
			DIFFER(p, "field kind", "%s is no general register", name);
		return false;
	}
	if (f != (byte ? X86_F_GPR8 : X86_F_GPR))
		DIFFER(p, "field kind", "%s: %d", name, f);
	if (byte && o->reg.value >= ZYDIS_REGISTER_AH &&
	    o->reg.value <= ZYDIS_REGISTER_BH)
		id += 4;
	if (reg != id)
		DIFFER(p, "register", "%s: %d, not %d", name, reg, id);
	if ((zr && !r) || zw != w || (r && !zr && !(w && o->size <= 16)))
		DIFFER(p, "register use", "%s: %d%d, not %d%d", name, r, w, zr, zw);
	if (o->size != p->in.opsize * 8)
		DIFFER(p, "opsize", "%s: %d, not %d", name, p->in.opsize, o->size / 8);
	return false;
}

static bool differs_operand(struct pair *p, const ZydisDecodedOperand *o)
{
	const struct insn *in = &p->in;

	if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
		    o->encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64)
			return differs_mem(p, o);
		return false;
	}
	if (o->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	switch (o->encoding) {
	case ZYDIS_OPERAND_ENCODING_MODRM_REG:
		return differs_reg(p, o, "reg", in->reg, in->f_reg, in->reg_r,
				   in->reg_w);
	case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		return differs_reg(p, o, "rm", in->rm, in->f_rm, in->rm_r, in->rm_w);
	case ZYDIS_OPERAND_ENCODING_NDSNDD:
		return differs_reg(p, o, "vvvv", in->vvvv, in->f_vvvv, in->vvvv_r,
				   in->vvvv_w);
	case ZYDIS_OPERAND_ENCODING_OPCODE:
		return differs_reg(p, o, "oreg", in->oreg, in->f_rm, in->rm_r,
				   in->rm_w);
	default: break;
	}
	if (!is_gpr(o))
		return false;
	unsigned bit = 1u << zydis_gpr(o->reg.value);
	bool zr = o->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
	bool zw = o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

	if ((zr && !(in->gpr_r & bit)) || (zw && !(in->gpr_w & bit)))
		DIFFER(p, "implicit register", "%x/%x lack %x", in->gpr_r, in->gpr_w,
		       bit);
	return false;
}

/* And nothing that Zydis does not know of. */
static bool differs_surplus(struct pair *p)
{
	const struct insn *in = &p->in;
	unsigned zr = 0, zw = 0;
	bool mem = false, reg = false, rm = false, vvvv = false;

	for (int i = 0; i < p->z.operand_count; i++) {
		const ZydisDecodedOperand *o = &p->ops[i];

		if (o->type == ZYDIS_OPERAND_TYPE_MEMORY) {
			if (o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
			    o->encoding == ZYDIS_OPERAND_ENCODING_DISP16_32_64)
				mem = true;
			else if (o->mem.base)
				zr |= 1u << zydis_gpr(o->mem.base);
			if (o->encoding == ZYDIS_OPERAND_ENCODING_NONE && o->mem.index)
				zr |= 1u << zydis_gpr(o->mem.index);
		}
		if (!is_gpr(o))
			continue;
		reg |= o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG;
		rm |= o->encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM ||
		      o->encoding == ZYDIS_OPERAND_ENCODING_OPCODE;
		vvvv |= o->encoding == ZYDIS_OPERAND_ENCODING_NDSNDD;
		if (o->encoding != ZYDIS_OPERAND_ENCODING_NONE)
			continue;
		if (o->actions & ZYDIS_OPERAND_ACTION_MASK_READ)
			zr |= 1u << zydis_gpr(o->reg.value);
		if (o->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) {
			zw |= 1u << zydis_gpr(o->reg.value);
			if (o->size <= 16)
				zr |= 1u << zydis_gpr(o->reg.value);
		}
	}
	if (in->has_mem != mem && in->kind != X86_NOP)
		DIFFER(p, "memory operand", "Zydis sees none");
	if (in->gpr_r & ~zr || in->gpr_w & ~zw)
		DIFFER(p, "implicit register", "%x/%x, not %x/%x", in->gpr_r, in->gpr_w,
		       zr, zw);
	if ((in->f_reg == X86_F_GPR || in->f_reg == X86_F_GPR8) && !reg)
		DIFFER(p, "field kind", "reg: surplus");
	if ((in->f_rm == X86_F_GPR || in->f_rm == X86_F_GPR8) && !rm && !in->has_mem)
		DIFFER(p, "field kind", "rm: surplus");
	if ((in->f_vvvv == X86_F_GPR || in->f_vvvv == X86_F_GPR8) && !vvvv)
		DIFFER(p, "field kind", "vvvv: surplus");
	return false;
}

static bool differs_flags(struct pair *p)
{
	const ZydisAccessedFlags *f = p->z.cpu_flags;
	const struct insn *in = &p->in;
	unsigned w, r, any;

	if (!f) {
		if (in->flags_touch || in->flags_r || in->flags_w)
			DIFFER(p, "flags", "Zydis knows of none");
		return false;
	}
	w = (f->modified | f->set_0 | f->set_1) & X86_ARITH;
	any = w | (f->undefined & X86_ARITH);
	r = f->tested & X86_ARITH;
	if (in->flags_w & ~w)
		DIFFER(p, "flags_w", "%x, not %x", in->flags_w, w);
	if (r & ~in->flags_r)
		DIFFER(p, "flags_r", "%x, not %x", in->flags_r, r);
	if (any && !in->flags_touch)
		DIFFER(p, "flags_touch", "missing, %x", any);
	if (!any && in->flags_touch)
		DIFFER(p, "flags_touch", "surplus");
	if (in->flags_w && !in->flags_touch)
		DIFFER(p, "flags_touch", "contradicts flags_w");
	return false;
}

static bool differs_imm(struct pair *p)
{
	const struct insn *in = &p->in;
	const ZydisDecodedInstructionRaw *raw = &p->z.raw;
	uint64_t imm = raw->imm[0].value.u, mask;

	if (in->imm_len * 8 != raw->imm[0].size)
		DIFFER(p, "imm_len", "%d, not %d", in->imm_len, raw->imm[0].size / 8);
	if (!in->imm_len)
		return false;
	mask = in->opsize == 8 ? ~0ull : (1ull << in->opsize * 8) - 1;
	if (!raw->imm[0].is_signed && in->imm_len < 8)
		mask = (1ull << in->imm_len * 8) - 1;
	if ((in->imm ^ imm) & mask)
		DIFFER(p, "imm", "%lx, not %lx", (long)in->imm, (long)imm);
	if (in->imm_at != raw->imm[0].offset)
		DIFFER(p, "imm_at", "%d, not %d", in->imm_at, raw->imm[0].offset);
	if (raw->imm[1].size && in->imm2 != (uint16_t)raw->imm[1].value.u)
		DIFFER(p, "imm2", "%x, not %lx", in->imm2, (long)raw->imm[1].value.u);
	return false;
}

static bool differs_sizes(struct pair *p)
{
	const struct insn *in = &p->in;
	bool wide = false;

	if (in->adsize * 8 != p->z.address_width)
		DIFFER(p, "adsize", "%d, not %d", in->adsize, p->z.address_width / 8);
	if (in->kind >= X86_PUSH_R && in->kind <= X86_IRET && in->kind != X86_INT3 &&
	    in->opsize * 8 != p->z.operand_width)
		DIFFER(p, "opsize", "%d, not %d", in->opsize, p->z.operand_width / 8);
	if (in->kind >= X86_MOVS && in->kind <= X86_OUT &&
	    in->opsize * 8 != p->z.operand_width)
		DIFFER(p, "opsize", "%d, not %d", in->opsize, p->z.operand_width / 8);
	/* The length of a scalar says nothing. */
	for (int i = 0; i < p->z.operand_count; i++)
		wide |= p->ops[i].size > 128;
	if (wide && in->enc != X86_LEGACY && in->simd &&
	    in->vl * 8 != p->z.avx.vector_length)
		DIFFER(p, "vl", "%d, not %d", in->vl, p->z.avx.vector_length / 8);
	return false;
}

static bool differs_kind(struct pair *p)
{
	const struct insn *in = &p->in;
	bool lockable = p->z.attributes & ZYDIS_ATTRIB_ACCEPTS_LOCK, masks = false;

	if (p->z.attributes & ZYDIS_ATTRIB_IS_PRIVILEGED && in->kind == X86_NATIVE)
		DIFFER(p, "kind", "privileged, but native");
	if (p->z.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE && in->kind == X86_NATIVE)
		DIFFER(p, "kind", "branch, but native");
	for (int i = 0; i < p->z.operand_count; i++) {
		masks |= p->ops[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
			 ZydisRegisterGetClass(p->ops[i].reg.value) == ZYDIS_REGCLASS_MASK;
		if (p->ops[i].type == ZYDIS_OPERAND_TYPE_MEMORY && in->kind == X86_NATIVE &&
		    p->ops[i].encoding == ZYDIS_OPERAND_ENCODING_NONE)
			DIFFER(p, "kind", "native, with implicit memory");
	}
	if (in->enc == X86_VEX && masks != x86_uses_masks(in))
		DIFFER(p, "kind", "uses masks: %d, not %d", !masks, masks);
	if (in->has_mem && in->lockable != lockable)
		DIFFER(p, "lockable", "%d, not %d", in->lockable, lockable);
	return false;
}

static bool differs_isa(struct pair *p)
{
	static const uint8_t isas[ZYDIS_ISA_SET_MAX_VALUE + 1] = {
		[ZYDIS_ISA_SET_SSE3] = X86_ISA_SSE3,
		[ZYDIS_ISA_SET_SSE3X87] = X86_ISA_SSE3,
		[ZYDIS_ISA_SET_SSSE3] = X86_ISA_SSSE3,
		[ZYDIS_ISA_SET_SSSE3MMX] = X86_ISA_SSSE3,
		[ZYDIS_ISA_SET_SSE4] = X86_ISA_SSE4_1,
		[ZYDIS_ISA_SET_SSE42] = X86_ISA_SSE4_2,
		[ZYDIS_ISA_SET_SSE4A] = X86_ISA_SSE4A,
		[ZYDIS_ISA_SET_POPCNT] = X86_ISA_POPCNT,
		[ZYDIS_ISA_SET_AES] = X86_ISA_AES,
		[ZYDIS_ISA_SET_AVXAES] = X86_ISA_AES,
		[ZYDIS_ISA_SET_PCLMULQDQ] = X86_ISA_PCLMULQDQ,
		[ZYDIS_ISA_SET_SHA] = X86_ISA_SHA,
		[ZYDIS_ISA_SET_GFNI] = X86_ISA_GFNI,
		[ZYDIS_ISA_SET_AVX_GFNI] = X86_ISA_GFNI,
		[ZYDIS_ISA_SET_MOVBE] = X86_ISA_MOVBE,
		[ZYDIS_ISA_SET_BMI1] = X86_ISA_BMI1,
		[ZYDIS_ISA_SET_BMI2] = X86_ISA_BMI2,
		[ZYDIS_ISA_SET_ADOX_ADCX] = X86_ISA_ADX,
		[ZYDIS_ISA_SET_RDRAND] = X86_ISA_RDRAND,
		[ZYDIS_ISA_SET_RDSEED] = X86_ISA_RDSEED,
		[ZYDIS_ISA_SET_CMPXCHG16B] = X86_ISA_CX16,
		[ZYDIS_ISA_SET_LAHF] = X86_ISA_LAHF,
		[ZYDIS_ISA_SET_CLFLUSHOPT] = X86_ISA_CLFLUSHOPT,
		[ZYDIS_ISA_SET_CLWB] = X86_ISA_CLWB,
		[ZYDIS_ISA_SET_RDTSCP] = X86_ISA_RDTSCP,
		[ZYDIS_ISA_SET_AVX2] = X86_ISA_AVX2,
		[ZYDIS_ISA_SET_AVX2GATHER] = X86_ISA_AVX2,
		[ZYDIS_ISA_SET_FMA] = X86_ISA_FMA,
		[ZYDIS_ISA_SET_F16C] = X86_ISA_F16C,
		[ZYDIS_ISA_SET_VAES] = X86_ISA_VAES,
		[ZYDIS_ISA_SET_VPCLMULQDQ] = X86_ISA_VPCLMULQDQ,
		[ZYDIS_ISA_SET_AVX_VNNI] = X86_ISA_AVX_VNNI,
	};
	bool is64 = p->mode == X86_MODE_64;
	unsigned want = isas[p->z.meta.isa_set], got = x86_isa(&p->in, is64);

	if (p->z.mnemonic == ZYDIS_MNEMONIC_TZCNT || (want == X86_ISA_LAHF && !is64))
		want = X86_ISA_BASE;
	if (p->z.mnemonic == ZYDIS_MNEMONIC_VPCLMULQDQ && p->z.meta.isa_set == ZYDIS_ISA_SET_AVX)
		want = X86_ISA_PCLMULQDQ; /* both, says the manual */
	if (got != want)
		DIFFER(p, "isa", "%s: %u, not %s", ZydisMnemonicGetString(p->z.mnemonic), got,
		       ZydisISASetGetString(p->z.meta.isa_set));
	return false;
}

static bool differs_in_fields(struct pair *p)
{
	for (int i = 0; i < p->z.operand_count; i++)
		if (differs_operand(p, &p->ops[i]))
			return true;
	return differs_surplus(p) || differs_flags(p) || differs_imm(p) ||
	       differs_sizes(p) || differs_kind(p) || differs_isa(p);
}

static int zydis_rc(const struct pair *p)
{
	switch (p->status) {
	case ZYDIS_STATUS_NO_MORE_DATA: return -ENODATA;
	case ZYDIS_STATUS_INSTRUCTION_TOO_LONG: return -E2BIG;
	default: return ZYAN_SUCCESS(p->status) ? p->z.length : 0;
	}
}

static bool differs(struct pair *p)
{
	int rc = zydis_rc(p);
	bool ud = p->in.kind == X86_UD;

	if (rc < 0) {
		/* Undefined already from what is there is as good. */
		if (p->rc != rc && !(ud && rc == -E2BIG))
			DIFFER(p, "result", "%d, not %d", p->rc, rc);
		return false;
	}
	if (rc == 0 && p->rc > 0 && !ud)
		DIFFER(p, "defined", "Zydis status %x", p->status & 0xfffff);
	if (rc > 0 && (p->rc < 0 || ud))
		DIFFER(p, "undefined", "%d", p->rc);
	if (rc <= 0)
		return false;
	if (rc != p->rc)
		DIFFER(p, "length", "%d, not %d", p->rc, rc);
	return differs_in_fields(p);
}

/* -- Differences that are meant ---------------------------------------------------- */

static bool is_what(const struct pair *p, const char *what)
{
	return !strcmp(p->what, what);
}

/* What no engine offers, by Zydis's names of instruction sets. */
static bool not_offered(const struct pair *p)
{
	static const char *const sets[] = {
		"3DNOW",    "AMD3DNOW",  "XOP",     "FMA4",      "LWP",      "TBM",
		"VTX",      "SVM",       "SMX",     "SGX",       "AMX",      "RTM",
		"TSX",      "CET",       "UINTR",   "WAITPKG",   "MOVDIR",   "ENQCMD",
		"PKU",      "KEYLOCKER", "PT",      "SERIALIZE", "KNC",      "PADLOCK",
		"MCOMMIT",  "RDPRU",     "CLZERO",  "MONITORX",  "TDX",      "SNP",
		"HRESET",   "PCONFIG",   "INVLPGB", "TLBSYNC",   "AVX512PF", "AVX512ER",
		"AVX512_4", "INVALID",   "RSM",
	};
	const char *set = ZydisISASetGetString(p->z.meta.isa_set);

	for (unsigned i = 0; i < sizeof(sets) / sizeof(sets[0]); i++)
		if (!strncmp(set, sets[i], strlen(sets[i])))
			return true;
	switch (p->z.mnemonic) {
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_TLBSYNC:
	case ZYDIS_MNEMONIC_INVLPGB:
	case ZYDIS_MNEMONIC_VMFUNC:
	case ZYDIS_MNEMONIC_RSM: return true;
	default: return false;
	}
}

static bool is_shift(const struct insn *in, unsigned *count)
{
	bool group2 = in->map == X86_MAP_1B &&
		      (in->op >> 1 == 0xc0 >> 1 || in->op >> 2 == 0xd0 >> 2);
	bool shd = in->map == X86_MAP_0F && (in->op == 0xa4 || in->op == 0xac);

	*count = in->map == X86_MAP_1B && in->op >= 0xd0
			 ? 1
			 : in->imm & (in->opsize == 8 ? 63 : 31);
	return group2 || shd;
}

/* The register is read as far as the memory operand would be. */
static bool source_is_narrow(const struct pair *p)
{
	switch (p->z.mnemonic) {
	case ZYDIS_MNEMONIC_MOVZX:
	case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD:
	case ZYDIS_MNEMONIC_CRC32:
	case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW:
	case ZYDIS_MNEMONIC_LLDT:
	case ZYDIS_MNEMONIC_LTR:
	case ZYDIS_MNEMONIC_LMSW: return true;
	default: return p->in.kind == X86_MOV_R_SEG || p->in.simd;
	}
}

static bool expected(const struct pair *p)
{
	const struct insn *in = &p->in;
	unsigned count;

	if (is_what(p, "undefined"))
		return not_offered(p);
	/* Zydis 4.0 has no AF for SBB. */
	if (is_what(p, "flags_w") && p->z.mnemonic == ZYDIS_MNEMONIC_SBB)
		return in->flags_w == X86_ARITH;
	/* A shift by one defines OF; Zydis does not look at the count. */
	if (is_what(p, "flags_w") && is_shift(in, &count))
		return count == 1;
	if ((is_what(p, "flags_touch") || is_what(p, "flags_r")) &&
	    is_shift(in, &count))
		return count == 0;
	if (is_what(p, "flags_touch") && in->kind == X86_VMCALL)
		return true;
	if (is_what(p, "register use") && in->map == X86_MAP_0F && (in->op | 1) == 0xbd)
		return in->reg_r; /* BSF and BSR of 0 leave the destination */
	if (is_what(p, "opsize") && !strncmp(p->detail, "rm", 2))
		return source_is_narrow(p);
	if (is_what(p, "opsize") && in->simd && in->opsize == 8)
		return true;
	/* Ours is the size of CRC32's source. */
	if (is_what(p, "opsize") && p->z.mnemonic == ZYDIS_MNEMONIC_CRC32)
		return true;
	/*
	 * Zydis 4.0 with 67 takes REX.B for a base where there is none; hardware does
	 * not.
	 */
	if (is_what(p, "base") && in->base == X86_REG_NONE && in->adsize == 4)
		return p->mode == X86_MODE_64 && p->z.raw.sib.base == 5;
	/*
	 * Outside 64-bit mode W is ignored by what moves general registers: the manual.
	 */
	if (is_what(p, "defined") && p->mode != X86_MODE_64 && in->enc == X86_EVEX)
		return in->rex & 8 && (in->f_reg == X86_F_GPR || in->f_rm == X86_F_GPR);
	/*
	 * MOV to and from control registers leaves the flags undefined, says the
	 * manual.
	 */
	if (is_what(p, "flags_touch") &&
	    (in->kind == X86_MOV_CR || in->kind == X86_MOV_DR))
		return true;
	/* Zydis does not say that string instructions advance their pointers. */
	if (is_what(p, "implicit register") && in->kind >= X86_MOVS &&
	    in->kind <= X86_OUTS)
		return true;
	/* F3 90 with REX.B is PAUSE to Zydis; hardware at hand exchanges. */
	if (is_what(p, "implicit register") && p->z.mnemonic == ZYDIS_MNEMONIC_PAUSE)
		return in->oreg == X86_R8;
	/* PREFETCH of a register is for the CPU to judge. */
	if (p->z.mnemonic == ZYDIS_MNEMONIC_NOP && in->map == X86_MAP_0F &&
	    in->op == 0x0d && in->mod == 3)
		return true;
	/* Nothing that a NOP names matters. */
	if (in->kind == X86_NOP)
		return !is_what(p, "length") && !is_what(p, "imm_len");
	return false;
}

/* -- Running ----------------------------------------------------------------------- */

static const char *const mode_name[] = {"16", "32", "64"};
static ZydisDecoder decoder[3];

static void init_decoders(void)
{
	static const ZydisMachineMode mode[] = {ZYDIS_MACHINE_MODE_LEGACY_16,
						ZYDIS_MACHINE_MODE_LEGACY_32,
						ZYDIS_MACHINE_MODE_LONG_64};
	static const ZydisStackWidth width[] = {
		ZYDIS_STACK_WIDTH_16, ZYDIS_STACK_WIDTH_32, ZYDIS_STACK_WIDTH_64};

	for (int i = 0; i < 3; i++) {
		ZydisDecoderInit(&decoder[i], mode[i], width[i]);
		ZydisDecoderEnableMode(&decoder[i], ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
		ZydisDecoderEnableMode(&decoder[i], ZYDIS_DECODER_MODE_CET, ZYAN_FALSE);
		ZydisDecoderEnableMode(&decoder[i], ZYDIS_DECODER_MODE_CLDEMOTE,
				       ZYAN_FALSE);
	}
}

static void take_apart(struct pair *p, const uint8_t *bytes, enum x86_mode mode,
		       unsigned n)
{
	ZydisDecoderContext context;

	p->bytes = bytes;
	p->mode = mode;
	p->what = NULL;
	p->rc = x86_decode(&p->in, bytes, n, mode);
	p->status = ZydisDecoderDecodeInstruction(&decoder[mode], &context, bytes, n,
						  &p->z);
	if (ZYAN_SUCCESS(p->status))
		ZydisDecoderDecodeOperands(&decoder[mode], &context, &p->z, p->ops,
					   p->z.operand_count);
}

struct tally {
	char text[160];
	char example[160];
	unsigned count;
};

static struct tally tally[4096];
static unsigned tallies;

static const char *zydis_name(const struct pair *p)
{
	return ZYAN_SUCCESS(p->status) ? ZydisMnemonicGetString(p->z.mnemonic) : "-";
}

static void count_difference(const struct pair *p)
{
	char text[160];
	unsigned i, n;

	snprintf(text, sizeof(text), "%s: %s (%s)", p->what, x86_insn_name(&p->in),
		 zydis_name(p));
	for (i = 0; i < tallies && strcmp(tally[i].text, text); i++)
		;
	if (i == tallies) {
		if (tallies == sizeof(tally) / sizeof(tally[0]))
			return;
		strcpy(tally[tallies++].text, text);
		n = snprintf(tally[i].example, sizeof(tally[i].example),
			     "%s-bit, %s:", mode_name[p->mode], p->detail);
		for (int b = 0; b < 16; b++)
			n += snprintf(tally[i].example + n,
				      sizeof(tally[i].example) - n, " %02x",
				      p->bytes[b]);
	}
	tally[i].count++;
}

static unsigned long n_strings, n_defined, n_meant, n_differences;
static bool seen[65536]; /* rows */

static void compare(const uint8_t bytes[BYTES], enum x86_mode mode)
{
	struct pair p;

	take_apart(&p, bytes, mode, BYTES);
	n_strings++;
	n_defined += p.in.kind != X86_UD;
	seen[p.in.row] = true;
	if (!differs(&p))
		return;
	if (expected(&p)) {
		n_meant++;
		return;
	}
	n_differences++;
	count_difference(&p);
}

static void compare_form(const uint8_t bytes[FORM_LEN])
{
	uint8_t more[BYTES] = {0};

	memcpy(more, bytes, FORM_LEN);
	for (int mode = 0; mode < 3; mode++)
		compare(more, (enum x86_mode)mode);
}

/* A row that names a group is not what an instruction ends at. */
static unsigned unseen_rows(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < OP_INDEX_SIZE; i++) {
		if (seen[op_index[i]] || op_rows[op_index[i]].operands >> OPF_GROUP_AT)
			continue;
		note("row %u, %s, was not seen", op_index[i], op_names[op_index[i]]);
		n++;
	}
	return n;
}

static void report(bool verbose, const char *what)
{
	for (unsigned i = 0; i < tallies && (verbose || i < 20); i++)
		note("%u times %s: %s", tally[i].count, tally[i].text,
		     tally[i].example);
	is_int(n_differences, 0, "%lu %s, %lu defined, %lu meant differences", n_strings, what,
	       n_defined, n_meant);
	n_strings = n_defined = n_meant = n_differences = tallies = 0;
}

int main(int argc, char **argv)
{
	bool verbose = argc > 1 && !strcmp(argv[1], "-v");
	unsigned long count = 2000000;

	argc -= verbose;
	argv += verbose;
	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	if (argc > 2)
		count = strtoul(argv[2], NULL, 0);
	seed = seed * 0x9e3779b97f4a7c15 | 1;
	init_decoders();
	forms(compare_form);
	report(verbose, "forms");
	is_int(unseen_rows(), 0, "each row of the table was seen");
	for (unsigned long i = 0; i < count; i++) {
		uint8_t bytes[BYTES];

		draw(bytes);
		compare(bytes, one_in(2) ? X86_MODE_64 : rnd() & 1);
	}
	report(verbose, "byte strings");
	return done_testing();
}
