/* SPDX-License-Identifier: MIT */
/*
 * The interpreter's front: fetch, decode, check, dispatch.
 *
 * An instruction's kind (x86/decode.h) selects a handler from the table below. What has none
 * there is a system instruction and goes to system_insn(). Before any handler runs, two
 * checks that all instructions of a class share:
 *
 *  - Is the unit there? x87, MMX, SSE, AVX and AVX-512 each depend on bits of CR0, CR4
 *    and XCR0, and on the mode: #UD comes before #NM.
 *  - Is LOCK allowed? The decoder has turned wrong ones into X86_UD.
 *
 * interp_insn() takes a decoded instruction from somebody else, who decoded it some time ago.
 * Kinds that run natively need the instruction's bytes; those are fetched and decoded again,
 * because the guest may have changed them since, and bytes that do not match their decoding
 * must not reach the host CPU.
 *
 * Source: Intel SDM volume 3, chapters 2.5 and 13; volume 2, chapter 2 (exception classes).
 */
#include "softkvm/interp/interp.h"

#include <errno.h>
#include <stddef.h>

#include "softkvm/engine.h"
#include "softkvm/interp/ops.h"
#include "softkvm/mmu/guarded.h"
#include "softkvm/mmu/io.h"
#include "x86/isa.h"

#define XCR0_AVX 0x6u     /* SSE and AVX state */
#define XCR0_AVX512 0xe6u /* and opmask, upper halves, upper registers */

static op_fn *const handlers[X86_KINDS] = {
	[X86_NATIVE] = op_native,
	[X86_UD] = op_ud,
	[X86_MOVDIR] = op_ud,
	[X86_NOP] = op_nop,
	[X86_PAUSE] = op_nop,
	[X86_LEA] = op_lea,
	[X86_PUSH_R] = op_push_r,
	[X86_PUSH_M] = op_push_m,
	[X86_PUSH_I] = op_push_i,
	[X86_POP_R] = op_pop_r,
	[X86_POP_M] = op_pop_m,
	[X86_PUSH_SEG] = op_push_seg,
	[X86_POP_SEG] = op_pop_seg,
	[X86_PUSHA] = op_pusha,
	[X86_POPA] = op_popa,
	[X86_PUSHF] = op_pushf,
	[X86_POPF] = op_popf,
	[X86_ENTER] = op_enter,
	[X86_LEAVE] = op_leave,
	[X86_JMP_REL] = op_jmp_rel,
	[X86_JMP_RM] = op_jmp_rm,
	[X86_JCC] = op_jcc,
	[X86_CALL_REL] = op_call_rel,
	[X86_CALL_RM] = op_call_rm,
	[X86_RET] = op_ret,
	[X86_LOOP] = op_loop,
	[X86_JCXZ] = op_jcxz,
	[X86_MOVS] = op_string,
	[X86_CMPS] = op_string,
	[X86_STOS] = op_string,
	[X86_LODS] = op_string,
	[X86_SCAS] = op_string,
	[X86_INS] = op_string,
	[X86_OUTS] = op_string,
	[X86_IN] = op_in,
	[X86_OUT] = op_out,
	[X86_CLD] = op_df,
	[X86_STD] = op_df,
	[X86_CLC_STC_CMC] = op_cf,
	[X86_CLFLUSH] = op_clflush,
	[X86_XLAT] = op_xlat,
	[X86_BT_MEM] = op_bt_mem,
	[X86_BOUND] = op_bound,
	[X86_MASKMOV] = op_maskmov,
	[X86_MASKED_MEM] = op_masked_mem,
	[X86_GATHER] = op_gather,
	[X86_BCD] = op_bcd,
};

/* -- Is the unit there? --------------------------------------------------------------------- */

static bool has_vex(const struct vcpu *c, const struct insn *in)
{
	uint64_t need = in->enc == X86_EVEX || x86_uses_masks(in) ? XCR0_AVX512 : XCR0_AVX;

	if (!is_protected(c) || is_vm86(c))
		return false;
	if (!in->simd) /* BMI: general registers only */
		return true;
	return (c->cr4 & CR4_OSXSAVE) && (c->xcr0 & need) == need;
}

/* MMX instructions need no OSFXSR; those that use XMM registers besides do. */
static bool is_mmx_only(const struct insn *in)
{
	if (!in->x87 || in->map != X86_MAP_0F)
		return in->x87;
	if (in->op == 0x2a || in->op == 0x2c || in->op == 0x2d)
		return false;                                      /* CVTPI2PS, CVTPS2PI... */
	return in->op != 0xd6 || !(in->prefix & (X86_PFX_F2 | X86_PFX_F3)); /* MOVQ2DQ... */
}

/* FNCLEX, FNINIT, FNSTCW, FNSTSW run with an exception pending; FNSAVE and FNSTENV too, and
 * CVTPI2PD from memory. */
static bool waits(const struct insn *in)
{
	if (in->map != X86_MAP_1B)
		return in->op != 0x2a || !in->has_mem; /* CVTPI2PS */
	switch (in->op) {
	case 0xd9: return !in->has_mem || (in->reg & 6) != 6;
	case 0xdb: return in->modrm < 0xe0 || in->modrm > 0xe4; /* FNENI to FNSETPM */
	case 0xdd: return !in->has_mem || (in->reg & 6) != 6;
	case 0xdf: return in->modrm != 0xe0;
	default: return true;
	}
}

static bool x87_pending(void)
{
	uint16_t fsw;

	__asm__ volatile("fnstsw %0" : "=a"(fsw));
	return fsw & 0x80;
}

static enum step check_unit(struct vcpu *c, const struct insn *in)
{
	bool fwait = in->enc == X86_LEGACY && in->map == X86_MAP_1B && in->op == 0x9b;

	if (in->enc != X86_LEGACY) {
		if (!has_vex(c, in))
			return fault_set(c, X86_UDV);
	} else if (in->simd) {
		if ((c->cr0 & CR0_EM) || (!is_mmx_only(in) && !(c->cr4 & CR4_OSFXSR)))
			return fault_set(c, X86_UDV);
	} else if (in->x87 && !fwait && (c->cr0 & CR0_EM)) {
		return fault_set(c, X86_NM);
	}
	if (!in->simd && !in->x87)
		return STEP_OK;
	if ((c->cr0 & CR0_TS) && (!fwait || (c->cr0 & CR0_MP)))
		return fault_set(c, X86_NM);
	if (in->x87 && waits(in) && x87_pending())
		return fault_set(c, X86_MF); /* before its operand is looked at */
	return STEP_OK;
}

/* -- Execution ------------------------------------------------------------------------------ */

static uint64_t rip_after(const struct vcpu *c, const struct insn *in)
{
	uint64_t next = c->rip + in->len;

	return is_64bit_code(c) ? next : (uint32_t)next;
}

/* Has the client taken the instruction's extension away? */
static bool is_lacking(const struct vcpu *c, const struct insn *in)
{
	return c->isa_lacking && c->isa_lacking >> x86_isa(in, is_64bit_code(c)) & 1;
}

static enum step execute(struct vcpu *c, const struct insn *in, const uint8_t *bytes)
{
	struct op op = {.in = in, .bytes = bytes, .next = rip_after(c, in)};
	op_fn *handler = handlers[in->kind < X86_KINDS ? in->kind : X86_UD];
	enum step s = STEP_OK;

	if (is_lacking(c, in))
		return fault_set(c, X86_UDV);
	io_begin(c);
	if (handler && (in->simd || in->x87 || in->enc != X86_LEGACY))
		s = check_unit(c, in);
	if (s == STEP_OK)
		s = handler ? handler(c, &op) : system_insn(c, in, op.next);
	mmu_stored(c);
	if (s != STEP_EXIT && s != STEP_EFAULT && s != STEP_AGAIN)
		io_commit(c);
	return s;
}

/* -- Decoded instructions, kept -------------------------------------------------------------- */

/*
 * By the place where they are in host memory, and never believed: the bytes there are compared
 * with those that were decoded.
 */
static uint64_t low_bytes(unsigned n)
{
	return n >= 8 ? ~0ull : (1ull << n * 8) - 1;
}

static bool is_same(const struct decoded *d, const uint64_t is[2])
{
	unsigned len = d->in.len;

	if (d->bytes[0] != (is[0] & low_bytes(len)))
		return false;
	return len <= 8 || d->bytes[1] == (is[1] & low_bytes(len - 8));
}

static struct decoded *kept_slot(struct vcpu *c, const uint8_t *code)
{
	uint64_t at = (uint64_t)(uintptr_t)code;

	return &c->engine->decoded[(at ^ at >> 12) & (DECODED - 1)];
}

/* The 16 bytes at rip, if they lie in one page of RAM inside the code segment. */
static const uint8_t *code_window(struct vcpu *c)
{
	bool flat = is_64bit_code(c);
	uint64_t lin = flat ? c->rip : (uint32_t)(c->seg[X86_CS].base + c->rip);
	enum step s;

	if (!c->engine || (lin & 4095) > 4096 - 16)
		return NULL;
	if (flat ? !is_canonical(lin) : c->rip + 15 > c->seg[X86_CS].limit)
		return NULL;
	return fetch_pointer(c, lin, &s);
}

/* The instruction at rip, decoded before or now; NULL: take the long way. */
static struct decoded *fetch_decoded(struct vcpu *c)
{
	const uint8_t *code = code_window(c);
	struct decoded *d;
	uint64_t is[2];

	if (!code)
		return NULL;
	d = kept_slot(c, code);
	if (!guarded_copy(is, code, sizeof(is)))
		return NULL;
	if (d->in.len && d->mode == code_mode(c) && is_same(d, is))
		return d;
	d->mode = code_mode(c);
	if (x86_decode(&d->in, (const uint8_t *)is, 15, d->mode) < 0) {
		d->in.len = 0;
		return NULL;
	}
	d->bytes[0] = is[0] & low_bytes(d->in.len);
	d->bytes[1] = d->in.len > 8 ? is[1] & low_bytes(d->in.len - 8u) : 0;
	return d;
}

enum step interp_step(struct vcpu *c)
{
	struct decoded *d = fetch_decoded(c);
	uint8_t bytes[15];
	struct insn in;
	unsigned n;
	enum step s, rest;
	int len;

	if (d)
		return execute(c, &d->in, (const uint8_t *)d->bytes);
	s = mmu_fetch(c, bytes, &n, &rest);
	if (s != STEP_OK)
		return s;
	len = x86_decode(&in, bytes, n, code_mode(c));
	if (len == -ENODATA && n < sizeof(bytes))
		return rest;
	if (len == -ENODATA || len == -E2BIG)
		return fault_code(c, X86_GP, 0);
	if (len < 0)
		return fault_set(c, X86_UDV);
	return execute(c, &in, bytes);
}

/* Does the handler hand the instruction's bytes to the host? */
static bool needs_bytes(const struct insn *in)
{
	return in->kind == X86_NATIVE || in->kind == X86_MASKED_MEM;
}

enum step interp_insn(struct vcpu *c, const struct insn *in)
{
	return needs_bytes(in) ? interp_step(c) : execute(c, in, NULL);
}
