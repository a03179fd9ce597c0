/* SPDX-License-Identifier: MIT */
/*
 * Gathers and scatters: one memory access for each element that the mask selects, at a
 * base plus that element's index.
 *
 * The architecture makes them restartable. An element that is done clears its mask bit (in
 * the vector register of AVX2's gathers: its mask element), and a fault or an exit in the
 * middle leaves what was done. So each element commits by itself, in order from the lowest.
 *
 *	opcode, low bit      size of an index: 4, 8
 *	mem_size             size of a data element: 4, 8
 *	elements             the vector length by the larger of the two
 *
 * Source: Intel SDM volume 2, pages of VGATHERDPS and its relatives.
 */
#include "softkvm/interp/ops.h"
#include "softkvm/mmu/io.h"
#include "softkvm/os/bytes.h"

struct gather {
	const struct insn *in;
	unsigned n, index_size, data_size, data_len;
	unsigned full;                         /* bytes of a whole register */
	bool scatter, progress;
	uint8_t index[64], data[64], mask[64]; /* mask: AVX2's */
	uint64_t k;                            /* EVEX's; AVX2's as bits, too */
};

unsigned op_vreg_reg(const struct insn *in)
{
	return in->reg | (in->enc == X86_EVEX && !(in->vex[0] & 0x10) ? 16 : 0);
}

unsigned op_vreg_index(const struct insn *in)
{
	return in->index | (in->enc == X86_EVEX && !(in->vex[2] & 0x08) ? 16 : 0);
}

static unsigned mask_register(const struct insn *in)
{
	return in->vex[2] & 7;
}

static void load(const struct vcpu *c, struct gather *g, const struct insn *in)
{
	unsigned wide;

	g->in = in;
	g->progress = false;
	g->full = c->xcr0 & 0x40 ? 64 : 32;
	g->scatter = in->mem_w;
	g->index_size = in->op & 1 ? 8 : 4;
	g->data_size = in->mem_size;
	wide = g->index_size > g->data_size ? g->index_size : g->data_size;
	g->n = in->vl / wide;
	g->data_len = g->n * g->data_size;
	vreg_get(op_vreg_index(in), in->vl, g->index);
	vreg_get(op_vreg_reg(in), g->full, g->data);
	if (in->enc == X86_EVEX) {
		g->k = kreg_get(mask_register(in));
		return;
	}
	g->k = 0;
	vreg_get(in->vvvv, g->full, g->mask);
	for (unsigned i = 0; i < g->n; i++)
		g->k |= (uint64_t)(g->mask[(i + 1) * g->data_size - 1] >> 7) << i;
}

/* Element i is behind us. */
static void pass(struct gather *g, unsigned i)
{
	g->progress |= g->in->enc == X86_VEX || (g->k >> i & 1);
	g->k &= ~(1ull << i);
	if (g->in->enc == X86_VEX)
		bytes_zero(g->mask + i * g->data_size, g->data_size);
}

/* The registers at the end: the mask and what lies above the elements is cleared. */
static void finish(const struct gather *g)
{
	const struct insn *in = g->in;

	if (!g->scatter)
		vreg_set(op_vreg_reg(in), g->data_len, g->data);
	if (in->enc == X86_EVEX)
		kreg_set(mask_register(in), 0);
	else
		vreg_set(in->vvvv, 0, g->mask);
}

/* The registers after some elements. What lies above the vector length is cleared by EVEX
 * forms already and kept by AVX2's, on a Zen 5. */
static void suspend(const struct gather *g)
{
	const struct insn *in = g->in;

	if (in->enc == X86_EVEX) {
		if (!g->scatter)
			vreg_set(op_vreg_reg(in), in->vl, g->data);
		kreg_set(mask_register(in), g->k);
	} else {
		vreg_set(op_vreg_reg(in), g->full, g->data);
		vreg_set(in->vvvv, g->full, g->mask);
	}
}

static enum step element(struct vcpu *c, struct gather *g, unsigned i)
{
	const struct insn *in = g->in;
	uint64_t raw = bytes_load(g->index + i * g->index_size, g->index_size);
	uint64_t ea = (uint64_t)(sign_extend(raw, g->index_size) * in->scale + in->disp), lin;
	uint8_t *data = g->data + i * g->data_size;
	enum step s;

	if (in->base != X86_REG_NONE)
		ea += c->gpr[in->base & 15];
	s = seg_linear(c, op_seg(in), ea & size_mask(in->adsize), g->data_size, g->scatter,
		       &lin);
	if (s != STEP_OK)
		return s;
	if (g->scatter)
		return mmu_write(c, lin, data, g->data_size, ACC_WRITE);
	return mmu_read(c, lin, data, g->data_size, ACC_READ);
}

enum step op_gather(struct vcpu *c, const struct op *op)
{
	struct gather g;

	load(c, &g, op->in);
	for (unsigned i = 0; i < g.n; i++) {
		enum step s = g.k >> i & 1 ? element(c, &g, i) : STEP_OK;

		if (s != STEP_OK) {
			if (g.progress)
				suspend(&g);
			return s;
		}
		pass(&g, i);
		io_commit(c);
	}
	finish(&g);
	return op_done(c, op);
}
