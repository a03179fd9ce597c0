/* SPDX-License-Identifier: MIT */
/*
 * Plain instructions: run by the host, with their memory operand found for them.
 *
 *	operand in one page of RAM       in place: LOCK is atomic, stores are whole
 *	else (two pages, a device)       through a buffer: read, run, write back
 *
 * Rules of the buffer:
 *  1. A store's pages are checked (mmu_probe_write) before the instruction runs, so that a
 *     fault comes before any effect.
 *  2. It lies at the same distance from a 64-byte boundary as the guest's operand, so that
 *     whatever depends on alignment goes the guest's way. Nothing of LOCK does, and there the buffer is aligned: a
 *     locked access across lines stops all CPUs, and some kernels make it take milliseconds.
 *  3. If the store ends in STEP_EXIT (a device), the instruction will run again from its
 *     beginning. General registers and flags are put back; of the instructions that write
 *     memory only x87's change other state (they pop), so that is put back, too.
 *  4. LOCK across two pages cannot be atomic against other CPUs' ordinary accesses here. It
 *     is against other such accesses, by one global lock. Who does not get it at once starts again
 *     (STEP_AGAIN) and looks at his requests, because the holder may wait for him.
 *  5. An x87 store with an unmasked exception stores nothing, and no fault tells: so the
 *     buffer holds what was there before.
 *
 * Alignment that SSE and AVX demand of some operands is checked beforehand: the host would
 * say #GP, too, but a check is simpler than telling that #GP from one of our own.
 * With MXCSR.MM set (AMD), loads that are part of arithmetic may be misaligned.
 */
#include "softkvm/interp/ops.h"
#include "softkvm/os/bytes.h"
#include "softkvm/os/lock.h"

#include <stddef.h>

#define MXCSR_MM 0x20000u

static struct lock split_lock;

/* -- Alignment ------------------------------------------------------------------------------ */

static bool is_aligned_move(const struct insn *in)
{
	if (in->map == X86_MAP_0F38)
		return in->op == 0x2a; /* MOVNTDQA */
	if (in->map != X86_MAP_0F)
		return false;
	switch (in->op) {
	case 0x28: /* MOVAPS, MOVAPD */
	case 0x29:
	case 0x2b: /* MOVNTPS, MOVNTPD */
	case 0xe7: /* MOVNTDQ */
		return true;
	case 0x6f: /* MOVDQA; with other prefixes MOVDQU */
	case 0x7f:
		return (in->prefix & X86_PFX_66) &&
		       !(in->prefix & (X86_PFX_F2 | X86_PFX_F3));
	default:
		return false;
	}
}

/* Legacy SSE wants alignment everywhere but in the instructions that say "unaligned". With SHA's
 * it depends on the CPU: Intel's want it, AMD's do not. */
static bool is_unaligned_sse(const struct vcpu *c, const struct insn *in)
{
	if (in->map == X86_MAP_0F38)
		return in->op >= 0xc8 && in->op <= 0xcd && c->amd; /* SHA */
	if (in->map == X86_MAP_0F3A)
		return (in->op >= 0x60 && in->op <= 0x63) || /* PCMPESTRM... */
		       (in->op == 0xcc && c->amd);           /* SHA1RNDS4 */
	if (in->map != X86_MAP_0F)
		return false;
	switch (in->op) {
	case 0x10: /* MOVUPS, MOVUPD */
	case 0x11:
	case 0xf0: /* LDDQU */
		return true;
	case 0x6f: /* MOVDQU */
	case 0x7f:
		return in->prefix & X86_PFX_F3;
	default:
		return false;
	}
}

static uint32_t mxcsr(void)
{
	uint32_t v;

	__asm__ volatile("stmxcsr %0" : "=m"(v));
	return v;
}

bool op_is_misaligned(const struct vcpu *c, const struct insn *in, uint64_t lin)
{
	if (in->mem_size < 16 || !(lin & (in->mem_size - 1u)))
		return false;
	if (!in->simd) /* CMPXCHG16B */
		return in->enc == X86_LEGACY && in->map == X86_MAP_0F && in->op == 0xc7;
	if (is_aligned_move(in))
		return true;
	if (in->enc != X86_LEGACY || is_unaligned_sse(c, in))
		return false;
	return !(mxcsr() & MXCSR_MM);
}

enum step op_unless_misaligned(struct vcpu *c, const struct op *op, enum step s)
{
	uint64_t base = is_64bit_code(c) ? 0 : c->seg[X86_SS].base;

	if (s == STEP_FAULT && c->fault.vector == X86_SSV &&
	    op_is_misaligned(c, op->in, base + insn_ea(c, op->in, op->next)))
		return fault_code(c, X86_GP, 0);
	return s;
}

/* -- Through a buffer ----------------------------------------------------------------------- */

struct before {
	uint64_t gpr[16];
	uint64_t rflags;
	bool has_x87;
	uint8_t x87[112] __attribute__((aligned(16)));
};

static void remember(const struct vcpu *c, struct before *b, bool x87)
{
	bytes_copy(b->gpr, c->gpr, sizeof(b->gpr));
	b->rflags = c->rflags;
	b->has_x87 = x87;
	if (x87) /* FNSAVE clears the unit */
		__asm__ volatile("fnsave %0; frstor %0" : "+m"(b->x87));
}

static void put_back(struct vcpu *c, const struct before *b)
{
	bytes_copy(c->gpr, b->gpr, sizeof(b->gpr));
	c->rflags = b->rflags;
	if (b->has_x87) /* FNINIT: FRSTOR would report a pending exception */
		__asm__ volatile("fninit; frstor %0" : : "m"(b->x87));
}

static enum step through_buffer(struct vcpu *c, const struct op *op, uint64_t lin)
{
	const struct insn *in = op->in;
	uint8_t space[2 * VREG_MAX + 64] __attribute__((aligned(64)));
	uint8_t *buf = space + (x86_is_atomic(in) ? 0 : lin & 63);
	struct before before;
	enum step s = STEP_OK;

	if (in->mem_size > VREG_MAX)
		return fault_set(c, X86_UDV);
	if (in->mem_w)
		s = mmu_probe_write(c, lin, in->mem_size, ACC_WRITE);
	bytes_zero(buf, in->mem_size);
	if (s == STEP_OK && (in->mem_r || in->x87)) /* 5. */
		s = mmu_read(c, lin, buf, in->mem_size, ACC_READ);
	if (s == STEP_OK && in->mem_w)
		remember(c, &before, in->x87);
	if (s == STEP_OK)
		s = native_exec(c, in, op->bytes, buf);
	if (s != STEP_OK || !in->mem_w)
		return s;
	s = mmu_write(c, lin, buf, in->mem_size, ACC_WRITE);
	if (s != STEP_OK)
		put_back(c, &before);
	return s;
}

static enum step with_memory(struct vcpu *c, const struct op *op)
{
	const struct insn *in = op->in;
	unsigned acc = in->mem_w ? ACC_WRITE : ACC_READ;
	uint64_t lin;
	void *mem;
	enum step s = op_linear(c, op, in->mem_size, in->mem_w, &lin);

	if (s != STEP_OK)
		return op_unless_misaligned(c, op, s);
	if (op_is_misaligned(c, in, lin))
		return fault_code(c, X86_GP, 0);
	s = mmu_pointer(c, lin, in->mem_size, acc | ACC_NATIVE, &mem);
	if (s != STEP_OK)
		return s;
	if (mem)
		return native_exec(c, in, op->bytes, mem);
	if (!x86_is_atomic(in))
		return through_buffer(c, op, lin);
	if (!lock_try(&split_lock))
		return STEP_AGAIN;
	s = through_buffer(c, op, lin);
	lock_drop(&split_lock);
	return s;
}

enum step op_native(struct vcpu *c, const struct op *op)
{
	enum step s;

	if (op->in->mem_size)
		s = with_memory(c, op);
	else
		s = native_exec(c, op->in, op->bytes, NULL);
	return s == STEP_OK ? op_done(c, op) : s;
}
