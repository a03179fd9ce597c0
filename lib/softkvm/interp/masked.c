/* SPDX-License-Identifier: MIT */
/*
 * Memory operands under a mask: VMASKMOV, VPMASKMOV, EVEX instructions with a write mask,
 * MASKMOVQ and MASKMOVDQU.
 *
 * An element that the mask suppresses is not accessed: it cannot fault, a device does not
 * see it, and a store leaves its bytes alone. So we first find out which bytes are accessed at
 * all:
 *
 *	lanes    number and size of the memory operand's elements (x86_lanes(), which has them from
 *	         the opcode table), and which of them are active
 *
 * and then run the instruction on the host:
 *  - no active lane: on a buffer of zeros, without a memory access;
 *  - the whole operand, active or not, in one page of RAM: in place;
 *  - else: through a buffer, to and from which runs of active lanes are moved.
 *
 * SAFE: so whatever the CPU takes for an element, in place it cannot reach beyond the page that was
 * checked.
 *
 * Some instructions, permutations mostly, read their operand whole in spite of a mask (the manual's
 * exception classes with NF): they have one lane, always active. Extractions store only active
 * elements, but fault as if all were. A broadcast element is read if any of its copies is
 * wanted. masked_test.c compares all this with the host, row by row.
 *
 * Source: Intel SDM volume 2, section 2.7 and the instructions' pages.
 */
#include "softkvm/interp/ops.h"
#include "softkvm/os/bytes.h"

#include <stddef.h>

struct lanes {
	struct x86_lanes in;
	uint64_t active; /* a bit for each element in memory */
};

static uint64_t low_bits(unsigned n)
{
	return n >= 64 ? ~0ull : (1ull << n) - 1;
}

/* The elements in memory that a mask of EVEX asks for. */
static uint64_t active_lanes(const struct x86_lanes *l, uint64_t mask)
{
	uint64_t active = 0;

	if (l->masking == X86_WHOLE)
		return 1;
	mask &= low_bits(l->bits);
	if (l->masking == X86_PACKED)
		return low_bits((unsigned)__builtin_popcountll(mask));
	if (l->n == 64)
		return mask;
	for (; mask; mask >>= l->n)
		active |= mask & low_bits(l->n);
	return active;
}

/* VMASKMOVPx, VPMASKMOVx: the sign bits of the elements of vvvv. */
static uint64_t signs_of(const struct insn *in, const struct x86_lanes *l)
{
	uint8_t mask[32];
	uint64_t signs = 0;

	vreg_get(in->vvvv, in->vl, mask);
	for (unsigned i = 0; i < l->n; i++)
		signs |= (uint64_t)(mask[(i + 1) * l->bytes - 1] >> 7) << i;
	return signs;
}

/* -- Runs of active lanes ------------------------------------------------------------------- */

enum move { PROBE, LOAD, STORE };

static enum step move_run(struct vcpu *c, uint64_t lin, uint8_t *buf, unsigned len,
			  enum move how)
{
	switch (how) {
	case PROBE:
		return mmu_probe_write(c, lin, len, ACC_WRITE);
	case LOAD:
		return mmu_read(c, lin, buf, len, ACC_READ);
	default:
		return mmu_write(c, lin, buf, len, ACC_WRITE);
	}
}

static enum step move_lanes(struct vcpu *c, uint64_t lin, uint8_t *buf, const struct lanes *l,
			    enum move how)
{
	for (unsigned i = 0, end; i < l->in.n; i = end + 1) {
		uint64_t at = lin + i * l->in.bytes;
		enum step s;

		for (end = i; end < l->in.n && (l->active >> end & 1); end++)
			;
		if (end == i)
			continue;
		s = move_run(c, at, buf + i * l->in.bytes, (end - i) * l->in.bytes, how);
		if (s != STEP_OK)
			return s;
	}
	return STEP_OK;
}

/* The bytes from the first to the last active lane; false if there is none. */
static bool lane_span(const struct lanes *l, unsigned *from, unsigned *to)
{
	if (!l->active)
		return false;
	*from = (unsigned)__builtin_ctzll(l->active) * l->in.bytes;
	*to = (64 - (unsigned)__builtin_clzll(l->active)) * l->in.bytes;
	return true;
}

static enum step through_buffer(struct vcpu *c, const struct op *op, uint64_t lin,
				const struct lanes *l)
{
	uint8_t space[2 * VREG_MAX + 64] __attribute__((aligned(64)));
	uint8_t *buf = space + (lin & 63);
	enum step s;

	bytes_zero(buf, VREG_MAX);
	s = move_lanes(c, lin, buf, l, op->in->mem_w ? PROBE : LOAD);
	if (s == STEP_OK)
		s = native_exec(c, op->in, op->bytes, buf);
	if (s == STEP_OK && op->in->mem_w)
		s = move_lanes(c, lin, buf, l, STORE);
	return s;
}

/* Where the operand's byte `from` is, if `len` bytes from there may be accessed. In 64-bit code an
 * operand with a 32-bit address goes on above 4 GiB. */
static enum step lanes_linear(struct vcpu *c, const struct op *op, unsigned from,
			      unsigned len, uint64_t *lin)
{
	const struct insn *in = op->in;
	uint64_t ea = insn_ea(c, in, op->next) + from;

	if (!is_64bit_code(c))
		ea &= size_mask(in->adsize);
	return seg_linear(c, op_seg(in), ea, len, in->mem_w, lin);
}

static enum step with_lanes(struct vcpu *c, const struct op *op, const struct lanes *l)
{
	const struct insn *in = op->in;
	unsigned acc = in->mem_w ? ACC_WRITE : ACC_READ, from, to;
	uint64_t lin = 0;
	void *p = NULL;
	enum step s;

	if (l->in.masking == X86_STRICT) {
		s = lanes_linear(c, op, 0, in->mem_size, &lin);
		if (s == STEP_OK)
			s = mmu_probe_write(c, lin, in->mem_size, ACC_WRITE);
		if (s != STEP_OK)
			return s;
	}
	if (!lane_span(l, &from, &to))
		return through_buffer(c, op, lin, l);
	s = lanes_linear(c, op, from, to - from, &lin);
	if (s != STEP_OK)
		return op_unless_misaligned(c, op, s);
	lin -= from;
	if (op_is_misaligned(c, in, lin))
		return fault_code(c, X86_GP, 0);
	s = mmu_pointer(c, lin + from, to - from, acc | ACC_NATIVE, &p);
	if (s != STEP_OK)
		return s;
	if (p && (lin & 4095) + in->mem_size <= 4096)
		return native_exec(c, in, op->bytes, (uint8_t *)p - from);
	return through_buffer(c, op, lin, l);
}

enum step op_masked_mem(struct vcpu *c, const struct op *op)
{
	const struct insn *in = op->in;
	struct lanes l;
	enum step s;

	if (in->mem_size > VREG_MAX)
		return fault_set(c, X86_UDV);
	x86_lanes(in, &l.in);
	l.active = in->enc == X86_EVEX ? active_lanes(&l.in, kreg_get(in->vex[2] & 7))
				       : signs_of(in, &l.in);
	s = with_lanes(c, op, &l);
	return s == STEP_OK ? op_done(c, op) : s;
}

/* MASKMOVQ, MASKMOVDQU: byte lanes, at DS:rDI. They may fault as if all were stored, and AMD's
 * CPUs do. */
enum step op_maskmov(struct vcpu *c, const struct op *op)
{
	const struct insn *in = op->in;
	struct lanes l = {.in = {.bytes = 1, .n = in->x87 ? 8 : 16}};
	uint8_t data[16] __attribute__((aligned(8))), mask[16] __attribute__((aligned(8)));
	uint64_t lin;
	enum step s;

	if (in->x87) {
		mmreg_get(in->reg, (uint64_t *)(void *)data);
		mmreg_get(in->rm, (uint64_t *)(void *)mask);
	} else {
		vreg_get(in->reg, 16, data);
		vreg_get(in->rm, 16, mask);
	}
	for (unsigned i = 0; i < l.in.n; i++)
		l.active |= (uint64_t)(mask[i] >> 7) << i;
	s = seg_linear(c, op_data_seg(c, in), c->gpr[X86_RDI] & size_mask(in->adsize), l.in.n, true,
		       &lin);
	if (s == STEP_OK)
		s = mmu_probe_write(c, lin, l.in.n, ACC_WRITE);
	if (s == STEP_OK)
		s = move_lanes(c, lin, data, &l, STORE);
	return s == STEP_OK ? op_done(c, op) : s;
}
