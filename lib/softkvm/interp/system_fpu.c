/* SPDX-License-Identifier: MIT */
/*
 * Saving and restoring x87, SSE and AVX state: FSAVE, FSTENV, FXSAVE, XSAVE and their inverses.
 *
 * The state is live in the host's registers, so the host's own instructions do the work, on
 * c->area, from and to which the guest's memory is copied.
 *
 *	XSAVE area     0 legacy region (x87, MXCSR at 24, XMM at 160)
 *	             512 header: XSTATE_BV, XCOMP_BV, zeros
 *	             576 components 2, 3, ...: at fixed places (standard format), or one after
 *	                 the other (compacted, bit 63 of XCOMP_BV)
 *
 * Invariants:
 *  1. None of them touches guest memory natively. Another CPU could change a header between our
 *     check of it and XRSTOR, whose #GP would then be ours; and it would see what XSAVE stores
 *     of the host.
 *  2. The mask of components is ANDed with the guest's XCR0. The host's may hold more: PKRU and
 *     what else is the process's own.
 *  3. XSAVEOPT runs as XSAVE, XSAVES as XSAVEC. What they may leave out because "it is in memory
 *     already" goes by the address last restored from, and that is c->area for everybody. (Their
 *     results are permitted ones of the originals: leaving out is optional.)
 *  4. Only what the instruction writes is written: requested components, and outside 64-bit mode
 *     only the eight vector registers that exist there. XRSTOR, however, loads all sixteen: no
 *     code outside 64-bit mode could tell.
 *
 * In real and virtual-8086 mode the x87 environment has the format of protected mode, and the
 * pointers in it are zeros in all modes (ERRATA).
 * Source: Intel SDM volume 1, chapters 8.1.10, 10.5 and 13.
 */
#include "softkvm/interp/system.h"

#include "softkvm/mmu/guarded.h"
#include "softkvm/os/bytes.h"
#include "softkvm/state/cpuid.h"
#include "softkvm/state/xsave.h"

#define HEADER 512u
#define XCOMP_COMPACT (1ull << 63)

/* -- Availability ------------------------------------------------------------------------- */

static enum step check_x87(struct vcpu *c)
{
	return c->cr0 & (CR0_EM | CR0_TS) ? fault_set(c, X86_NM) : STEP_OK;
}

static bool is_offered(const struct vcpu *c, enum x86_kind kind)
{
	switch (kind) {
	case X86_XSAVEOPT: return cpuid_has(c, FEATURE_xsaveopt);
	case X86_XSAVEC: return cpuid_has(c, FEATURE_xsavec);
	case X86_XSAVES: case X86_XRSTORS:
		return cpuid_has(c, FEATURE_xsaves) && cpuid_has(c, FEATURE_xsavec);
	default: return true;
	}
}

static enum step check_xsave(struct vcpu *c, enum x86_kind kind)
{
	if (!(c->cr4 & CR4_OSXSAVE) || !is_offered(c, kind))
		return ud(c);
	return c->cr0 & CR0_TS ? fault_set(c, X86_NM) : STEP_OK;
}

/* The operand's address, which must be aligned: the CPU asks that before it says #SS; but FXSAVE and
 * FXRSTOR (which want 16) not if the first byte's address is not canonical. */
static enum step aligned_linear(struct vcpu *c, const struct insn *in, uint64_t next,
				unsigned len, unsigned align, bool write, uint64_t *lin)
{
	enum step rc = sys_linear(c, in, next, len, write, lin);

	if (rc == STEP_FAULT && c->fault.vector == X86_SSV) {
		*lin = insn_ea(c, in, next);
		if (!is_64bit_code(c))
			*lin += c->seg[X86_SS].base;
		else if (align == 16 && !is_canonical(*lin))
			return rc;
		return *lin & (align - 1) ? gp0(c) : rc;
	}
	if (!rc && (*lin & (align - 1)))
		return gp0(c);
	return rc;
}

/* -- The host's instructions -------------------------------------------------------------- */

#define ASM(name, p) __asm__ volatile(name " (%0)" : : "r"(p) : "memory")

#define XSAVE_ASM(name, p, mask)                                                               \
	__asm__ volatile(name " (%0)"                                                          \
			 :                                                                     \
			 : "r"(p), "a"((uint32_t)(mask)), "d"((uint32_t)((mask) >> 32))        \
			 : "memory")

static void host_xsave(void *p, uint64_t mask, bool compact, bool wide)
{
	if (compact && wide)
		XSAVE_ASM("xsavec64", p, mask);
	else if (compact)
		XSAVE_ASM("xsavec", p, mask);
	else if (wide)
		XSAVE_ASM("xsave64", p, mask);
	else
		XSAVE_ASM("xsave", p, mask);
}

#define XRSTOR_ASM(name, p, mask)                                                              \
	__asm__ goto volatile("1: " name " (%0)\n\t" GUARDED(1)                                \
			      : : "r"(p), "a"((uint32_t)(mask)), "d"((uint32_t)((mask) >> 32)) \
			      : "memory" : bad)

/* False: the host says #GP, and nothing is loaded. An old one knows no compacted format. */
static bool host_xrstor(void *p, uint64_t mask, bool wide)
{
	if (wide)
		XRSTOR_ASM("xrstor64", p, mask);
	else
		XRSTOR_ASM("xrstor", p, mask);
	return true;
bad:
	return false;
}

static void host_fxsave(void *p, bool wide)
{
	if (wide)
		ASM("fxsave64", p);
	else
		ASM("fxsave", p);
}

static void host_fxrstor(void *p, bool wide)
{
	if (wide)
		ASM("fxrstor64", p);
	else
		ASM("fxrstor", p);
}

/* Bits of MXCSR that exist; setting others is #GP. */
static bool is_mxcsr_bad(uint32_t mxcsr)
{
	static uint32_t valid; /* SAFE: whoever races here writes the same */

	if (!valid) {
		uint8_t fx[512] __attribute__((aligned(16)));

		host_fxsave(fx, false);
		valid = (uint32_t)bytes_load(fx + 28, 4);
		if (!valid)
			valid = 0xffbf;
	}
	return mxcsr & ~valid;
}

/* -- Pointers -------------------------------------------------------------------------------- */

/*
 * The x87 unit notes where its last instruction and that one's operand were. They were in the
 * host's memory, whose addresses are not for the guest to know: it finds zeros. So what the host's
 * instructions store goes into c->area, and only then, without these, into guest memory: another
 * vCPU would see them there for a moment, and could keep them by changing the header.
 */
static void forget_pointers(uint8_t *image)
{
	bytes_zero(image + 8, 16);
}

/* The same in an XSAVE area of either format, if that part of it was written. */
static void forget_pointers_in(uint8_t *area, uint64_t mask)
{
	if (bytes_load(area + HEADER, 8) & mask & XCR0_X87)
		forget_pointers(area);
}

/* And in the environment of FSTENV and FSAVE, where the opcode stands between them. */
static void forget_environment(const struct insn *in, uint8_t *env)
{
	if (in->opsize == 2) {
		bytes_zero(env + 6, 8);
		return;
	}
	bytes_zero(env + 12, 6);
	bytes_zero(env + 20, 8);
}

/* -- FXSAVE, FXRSTOR ---------------------------------------------------------------------- */

/* How much of the image there is in this mode. */
static unsigned fx_used(const struct vcpu *c)
{
	return is_64bit_code(c) ? 416 : 288;
}

/* The area has 512 bytes, used or not, of which the CPU looks for the last one first. */
static enum step fx_reach(struct vcpu *c, const struct insn *in, uint64_t next, bool write,
			  uint64_t *lin)
{
	enum step rc = check_x87(c);
	uint8_t last;

	if (!rc)
		rc = aligned_linear(c, in, next, 512, 16, write, lin);
	if (rc)
		return rc;
	return write ? mmu_probe_write(c, *lin + 511, 1, ACC_WRITE) :
		       mmu_read(c, *lin + 511, &last, 1, ACC_READ);
}

enum step sys_fxsave(struct vcpu *c, const struct insn *in, uint64_t next)
{
	uint64_t lin;
	enum step rc = fx_reach(c, in, next, true, &lin);

	if (rc)
		return rc;
	host_fxsave(c->area, in->rex & 8);
	forget_pointers(c->area);
	return mmu_write(c, lin, c->area, fx_used(c), ACC_WRITE);
}

enum step sys_fxrstor(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const bool wide = in->rex & 8;
	uint64_t lin;
	enum step rc = fx_reach(c, in, next, false, &lin);

	if (rc)
		return rc;
	host_fxsave(c->area, wide); /* for the registers that are not loaded */
	rc = mmu_read(c, lin, c->area, fx_used(c), ACC_READ);
	if (rc)
		return rc;
	if (is_mxcsr_bad((uint32_t)bytes_load(c->area + 24, 4)))
		return gp0(c);
	host_fxrstor(c->area, wide);
	return STEP_OK;
}

/* -- XSAVE -------------------------------------------------------------------------------- */

/* Bytes of c->area that go to the guest, collected while they are contiguous. */
struct span {
	uint64_t lin; /* of the guest's area */
	unsigned from, to;
};

static enum step span_flush(struct vcpu *c, struct span *s)
{
	const unsigned len = s->to - s->from;

	return len ? mmu_write(c, s->lin + s->from, c->area + s->from, len, ACC_WRITE) : STEP_OK;
}

static enum step span_add(struct vcpu *c, struct span *s, unsigned at, unsigned len)
{
	enum step rc = STEP_OK;

	if (at != s->to) {
		rc = span_flush(c, s);
		s->from = at;
	}
	s->to = at + len;
	return rc;
}

/* The part of a component that exists in this mode. */
static unsigned visible(const struct vcpu *c, unsigned component, unsigned len)
{
	if (is_64bit_code(c) || (component != 2 && component != 6 && component != 7))
		return len;
	return component == 7 ? 0 : len / 2;
}

/* Where MXCSR counts: with SSE, and in the standard format with AVX, too. */
static uint64_t mxcsr_owners(bool compact)
{
	return compact ? XCR0_SSE : XCR0_SSE | XCR0_AVX;
}

static enum step write_legacy(struct vcpu *c, struct span *s, uint64_t mask, bool compact)
{
	enum step rc = STEP_OK;

	if (mask & XCR0_X87)
		rc = span_add(c, s, 0, 24);
	if (!rc && (mask & mxcsr_owners(compact)))
		rc = span_add(c, s, 24, 8);
	if (!rc && (mask & XCR0_X87))
		rc = span_add(c, s, 32, 128);
	if (!rc && (mask & XCR0_SSE))
		rc = span_add(c, s, 160, fx_used(c) - 160);
	return rc;
}

/* From c->area to the guest: what XSAVE (components `mask`) or XSAVEC wrote. */
static enum step write_area(struct vcpu *c, uint64_t lin, uint64_t mask, bool compact)
{
	struct span s = {.lin = lin};
	uint64_t written = mask;
	enum step rc;

	if (compact)
		written &= bytes_load(c->area + HEADER, 8);
	rc = write_legacy(c, &s, written, compact);
	if (!rc)
		rc = span_add(c, &s, HEADER, compact ? 16 : 8);
	for (unsigned i = 2; i < 64 && mask >> i && !rc; i++) {
		uint32_t len, at = xsave_place(i, &len);

		if (!(written >> i & 1) || !at)
			continue;
		if (compact)
			at = xsave_size_compacted(mask & ((2ull << i) - 1)) - len;
		rc = span_add(c, &s, at, visible(c, i, len));
	}
	return rc ? rc : span_flush(c, &s);
}

/* XSAVE, XSAVEOPT, XSAVEC, XSAVES. */
enum step sys_xsave(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const bool compact = in->kind == X86_XSAVEC || in->kind == X86_XSAVES;
	const uint64_t mask = pair_get(c) & c->xcr0;
	unsigned size;
	uint64_t lin;
	enum step rc = check_xsave(c, (enum x86_kind)in->kind);

	if (rc)
		return rc;
	size = compact ? xsave_size_compacted(mask) : xsave_size(mask);
	rc = aligned_linear(c, in, next, size, 64, true, &lin);
	if (!rc)
		rc = mmu_probe_write(c, lin, size, ACC_WRITE);
	if (rc)
		return rc;
	bytes_zero(c->area + HEADER, 64);
	if (!compact) /* bits of components that are not asked for stay */
		rc = mmu_read(c, lin + HEADER, c->area + HEADER, 8, ACC_READ);
	if (rc)
		return rc;
	host_xsave(c->area, mask, compact, in->rex & 8);
	forget_pointers_in(c->area, mask);
	return write_area(c, lin, mask, compact);
}

/* -- XRSTOR ------------------------------------------------------------------------------- */

/* The header in c->area, by the rules of the manual; *compact is its format. */
static bool is_header_good(const struct vcpu *c, bool *compact)
{
	const uint8_t *h = c->area + HEADER;
	const uint64_t bv = bytes_load(h, 8), comp = bytes_load(h + 8, 8);
	uint64_t rest = 0;

	for (unsigned i = 16; i < 64; i += 8)
		rest |= bytes_load(h + i, 8);
	*compact = comp & XCOMP_COMPACT;
	if (*compact) {
		const uint64_t present = comp & ~XCOMP_COMPACT;

		return !(present & ~c->xcr0) && !(bv & ~present) && !rest;
	}
	/* The manual asks for zeros in 8 to 23 only. */
	return !comp && !bytes_load(h + 16, 8) && !(bv & ~c->xcr0);
}

/* A bad MXCSR counts when it would be loaded; otherwise it is made good. */
static bool is_mxcsr_good(struct vcpu *c, uint64_t mask, bool compact)
{
	if (!is_mxcsr_bad((uint32_t)bytes_load(c->area + 24, 4)))
		return true;
	if (compact)
		mask &= bytes_load(c->area + HEADER, 8);
	if (mask & mxcsr_owners(compact))
		return false;
	bytes_store(c->area + 24, 0x1f80, 4);
	return true;
}

/* XRSTOR, XRSTORS. */
enum step sys_xrstor(struct vcpu *c, const struct insn *in, uint64_t next)
{
	const uint64_t mask = pair_get(c) & c->xcr0;
	uint64_t lin, comp;
	unsigned size;
	bool compact;
	enum step rc = check_xsave(c, (enum x86_kind)in->kind);

	if (!rc)
		rc = aligned_linear(c, in, next, 576, 64, false, &lin);
	if (!rc)
		rc = mmu_read(c, lin, c->area, 576, ACC_READ);
	if (rc)
		return rc;
	if (!is_header_good(c, &compact) || (in->kind == X86_XRSTORS && !compact) ||
	    !is_mxcsr_good(c, mask, compact))
		return gp0(c);
	comp = bytes_load(c->area + HEADER + 8, 8) & ~XCOMP_COMPACT;
	size = compact ? xsave_size_compacted(comp)
		       : xsave_size(mask & bytes_load(c->area + HEADER, 8));
	/* SAFE: the header names only components of c->xcr0, and those are among
	 * vec_features(), all of which end below VCPU_XSAVE_MAX */
	if (size > 576)
		rc = mmu_read(c, lin + 576, c->area + 576, size - 576, ACC_READ);
	if (rc)
		return rc;
	return host_xrstor(c->area, mask, in->rex & 8) ? STEP_OK : gp0(c);
}

/* -- x87 alone ---------------------------------------------------------------------------- */

#define X87_ASM(name, in, p)                                                                   \
	do {                                                                                   \
		if ((in)->opsize == 2)                                                         \
			ASM(".byte 0x66\n\t" name, p);                                         \
		else                                                                           \
			ASM(name, p);                                                          \
	} while (0)

/* An exception that waits for the next waiting instruction. */
static bool is_x87_pending(void)
{
	uint16_t status;

	__asm__ volatile("fnstsw %0" : "=m"(status));
	return status & 0x80;
}

/* An environment, or all of the state: 14, 28, 94 or 108 bytes, says the decoder. */
static enum step check_x87_store(struct vcpu *c, const struct insn *in, uint64_t next,
				 uint64_t *lin)
{
	enum step rc = check_x87(c);

	if (!rc)
		rc = sys_linear(c, in, next, in->mem_size, true, lin);
	return rc ? rc : mmu_probe_write(c, *lin, in->mem_size, ACC_WRITE);
}

static enum step check_x87_load(struct vcpu *c, const struct insn *in, uint64_t next)
{
	uint64_t lin;
	enum step rc = check_x87(c);

	if (!rc && is_x87_pending())
		return fault_set(c, X86_MF);
	if (!rc)
		rc = sys_linear(c, in, next, in->mem_size, false, &lin);
	return rc ? rc : mmu_read(c, lin, c->area, in->mem_size, ACC_READ);
}

/* These two change the state that they save (FSAVE initialises it, FSTENV masks exceptions), so
 * where the store cannot be finished now, they are undone. */
enum step sys_fsave(struct vcpu *c, const struct insn *in, uint64_t next)
{
	uint64_t lin;
	enum step rc = check_x87_store(c, in, next, &lin);

	if (rc)
		return rc;
	X87_ASM("fnsave", in, c->area);
	forget_environment(in, c->area);
	rc = mmu_write(c, lin, c->area, in->mem_size, ACC_WRITE);
	if (rc)
		X87_ASM("frstor", in, c->area);
	return rc;
}

enum step sys_fstenv(struct vcpu *c, const struct insn *in, uint64_t next)
{
	uint64_t lin;
	enum step rc = check_x87_store(c, in, next, &lin);

	if (rc)
		return rc;
	X87_ASM("fnstenv", in, c->area);
	forget_environment(in, c->area);
	rc = mmu_write(c, lin, c->area, in->mem_size, ACC_WRITE);
	if (rc)
		X87_ASM("fldenv", in, c->area);
	return rc;
}

enum step sys_frstor(struct vcpu *c, const struct insn *in, uint64_t next)
{
	enum step rc = check_x87_load(c, in, next);

	if (!rc)
		X87_ASM("frstor", in, c->area);
	return rc;
}

enum step sys_fldenv(struct vcpu *c, const struct insn *in, uint64_t next)
{
	enum step rc = check_x87_load(c, in, next);

	if (!rc)
		X87_ASM("fldenv", in, c->area);
	return rc;
}
