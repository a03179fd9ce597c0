/* SPDX-License-Identifier: MIT */
/*
 * Memory operands under a mask: VMASKMOV, VPMASKMOV, EVEX instructions with a write mask,
 * MASKMOVQ and MASKMOVDQU.
 *
 * An element that the mask suppresses is not accessed: it cannot fault, a device does not
 * see it, and a store leaves its bytes alone. So we first find out which bytes are accessed at
 * all:
 *
 *	lanes    number and size of the memory operand's elements, and which of them are active
 *
 * and then run the instruction on the host:
 *  - no active lane: on a buffer of zeros, without a memory access;
 *  - all active lanes in one page of RAM: in place. The host suppresses as the guest's CPU
 *    would, whatever lies around.
 *  - else: through a buffer, to and from which runs of active lanes are moved.
 *
 * The size of an element is W's (4 or 8 bytes) unless the table below knows better. Some
 * instructions, permutations mostly, read their operand whole in spite of a mask (the manual's
 * exception classes with NF): they have one lane, always active. Extractions store only active
 * elements, but fault as if all were. A broadcast element is read if any of its copies is
 * wanted. FP16 is taken as 2 bytes throughout. masked_test.c compares all this with the host.
 *
 * Source: Intel SDM volume 2, section 2.7 and the instructions' pages.
 */
#include "softkvm/interp/ops.h"
#include "softkvm/run/bytes.h"

#include <stddef.h>

struct lanes {
	unsigned n;      /* elements of the memory operand, at most 64 */
	unsigned bytes;  /* of each */
	uint64_t active; /* a bit each */
	bool whole;      /* faults do not care for the mask */
};

/* In place of an element size: */
enum { WHOLE = 0,
       BROADCAST = 0xff, /* one element */
       TUPLE = 0xfe,     /* a few elements of W's size, repeated */
       EXTRACT = 0xfd };

/* What differs from W's size. pp: legacy prefix that a row is about, 0: all. */
static const struct element {
	uint8_t map, pp, first, last;
	uint8_t size[2]; /* by W */
} elements[] = {
	{X86_MAP_0F, 0, 0x12, 0x12, {WHOLE, WHOLE}},   /* VMOVDDUP, VMOVSLDUP */
	{X86_MAP_0F, 0, 0x14, 0x16, {WHOLE, WHOLE}},   /* VUNPCKxPS, VMOVSHDUP */
	{X86_MAP_0F, 0, 0x60, 0x63, {WHOLE, WHOLE}},   /* VPUNPCKx, VPACKSSWB */
	{X86_MAP_0F, 0, 0x64, 0x64, {1, 1}},           /* VPCMPGTB */
	{X86_MAP_0F, 0, 0x65, 0x65, {2, 2}},
	{X86_MAP_0F, 0, 0x67, 0x6d, {WHOLE, WHOLE}},
	{X86_MAP_0F, X86_PFX_F2, 0x6f, 0x6f, {1, 2}},  /* VMOVDQU8, VMOVDQU16 */
	{X86_MAP_0F, X86_PFX_F2, 0x7f, 0x7f, {1, 2}},
	{X86_MAP_0F, 0, 0x70, 0x70, {WHOLE, WHOLE}},   /* VPSHUFx */
	{X86_MAP_0F, 0, 0x71, 0x71, {2, 2}},           /* word shifts */
	{X86_MAP_0F, 0, 0x74, 0x74, {1, 1}},
	{X86_MAP_0F, 0, 0x75, 0x75, {2, 2}},
	{X86_MAP_0F, 0, 0xc6, 0xc6, {WHOLE, WHOLE}},   /* VSHUFPx */
	{X86_MAP_0F, 0, 0xd1, 0xd3, {WHOLE, WHOLE}},   /* shifts by a 128-bit count */
	{X86_MAP_0F, 0, 0xd5, 0xd5, {2, 2}},
	{X86_MAP_0F, 0, 0xd8, 0xd8, {1, 1}},
	{X86_MAP_0F, 0, 0xd9, 0xd9, {2, 2}},
	{X86_MAP_0F, 0, 0xda, 0xda, {1, 1}},
	{X86_MAP_0F, 0, 0xdc, 0xdc, {1, 1}},
	{X86_MAP_0F, 0, 0xdd, 0xdd, {2, 2}},
	{X86_MAP_0F, 0, 0xde, 0xde, {1, 1}},
	{X86_MAP_0F, 0, 0xe0, 0xe0, {1, 1}},
	{X86_MAP_0F, 0, 0xe1, 0xe2, {WHOLE, WHOLE}},
	{X86_MAP_0F, 0, 0xe3, 0xe5, {2, 2}},
	{X86_MAP_0F, 0, 0xe8, 0xe8, {1, 1}},
	{X86_MAP_0F, 0, 0xe9, 0xea, {2, 2}},
	{X86_MAP_0F, 0, 0xec, 0xec, {1, 1}},
	{X86_MAP_0F, 0, 0xed, 0xee, {2, 2}},
	{X86_MAP_0F, 0, 0xf1, 0xf3, {WHOLE, WHOLE}},
	{X86_MAP_0F, 0, 0xf5, 0xf5, {WHOLE, WHOLE}},   /* VPMADDWD */
	{X86_MAP_0F, 0, 0xf8, 0xf8, {1, 1}},
	{X86_MAP_0F, 0, 0xf9, 0xf9, {2, 2}},
	{X86_MAP_0F, 0, 0xfc, 0xfc, {1, 1}},
	{X86_MAP_0F, 0, 0xfd, 0xfd, {2, 2}},

	{X86_MAP_0F38, 0, 0x00, 0x04, {WHOLE, WHOLE}}, /* VPSHUFB, VPMADDUBSW */
	{X86_MAP_0F38, 0, 0x0b, 0x0b, {2, 2}},
	{X86_MAP_0F38, 0, 0x0c, 0x0d, {WHOLE, WHOLE}}, /* VPERMILPx */
	{X86_MAP_0F38, X86_PFX_66, 0x10, 0x12, {2, 2}}, /* word shifts, variable */
	{X86_MAP_0F38, X86_PFX_66, 0x13, 0x13, {2, 2}}, /* VCVTPH2PS */
	{X86_MAP_0F38, X86_PFX_66, 0x16, 0x16, {WHOLE, WHOLE}},
	{X86_MAP_0F38, 0, 0x18, 0x18, {BROADCAST, BROADCAST}},
	{X86_MAP_0F38, 0, 0x19, 0x19, {TUPLE, BROADCAST}}, /* VBROADCASTF32X2, -SD */
	{X86_MAP_0F38, 0, 0x1a, 0x1b, {TUPLE, TUPLE}},
	{X86_MAP_0F38, 0, 0x1c, 0x1c, {1, 1}},
	{X86_MAP_0F38, 0, 0x1d, 0x1d, {2, 2}},
	{X86_MAP_0F38, X86_PFX_F3, 0x10, 0x12, {1, 1}}, /* VPMOVUSxB */
	{X86_MAP_0F38, X86_PFX_F3, 0x13, 0x14, {2, 2}},
	{X86_MAP_0F38, 0, 0x20, 0x22, {1, 1}},         /* VPMOVSXBx, VPMOVSxB */
	{X86_MAP_0F38, 0, 0x23, 0x24, {2, 2}},
	{X86_MAP_0F38, 0, 0x26, 0x26, {1, 2}},         /* VPTESTMB, VPTESTMW */
	{X86_MAP_0F38, 0, 0x2b, 0x2b, {WHOLE, WHOLE}},
	{X86_MAP_0F38, 0, 0x30, 0x32, {1, 1}},         /* VPMOVZXBx, VPMOVxB */
	{X86_MAP_0F38, 0, 0x33, 0x34, {2, 2}},
	{X86_MAP_0F38, 0, 0x36, 0x36, {WHOLE, WHOLE}},
	{X86_MAP_0F38, 0, 0x38, 0x38, {1, 1}},
	{X86_MAP_0F38, 0, 0x3a, 0x3a, {2, 2}},
	{X86_MAP_0F38, 0, 0x3c, 0x3c, {1, 1}},
	{X86_MAP_0F38, 0, 0x3e, 0x3e, {2, 2}},
	{X86_MAP_0F38, 0, 0x54, 0x54, {1, 2}},         /* VPOPCNTB, VPOPCNTW */
	{X86_MAP_0F38, 0, 0x58, 0x58, {BROADCAST, BROADCAST}},
	{X86_MAP_0F38, 0, 0x59, 0x59, {TUPLE, BROADCAST}},
	{X86_MAP_0F38, 0, 0x5a, 0x5b, {TUPLE, TUPLE}},
	{X86_MAP_0F38, 0, 0x62, 0x63, {1, 2}},         /* VPEXPANDB, VPCOMPRESSW... */
	{X86_MAP_0F38, 0, 0x66, 0x66, {1, 2}},         /* VPBLENDMB, VPBLENDMW */
	{X86_MAP_0F38, 0, 0x70, 0x70, {2, 2}},
	{X86_MAP_0F38, X86_PFX_66, 0x72, 0x72, {2, 2}},
	{X86_MAP_0F38, X86_PFX_F2, 0x72, 0x72, {WHOLE, WHOLE}},
	{X86_MAP_0F38, 0, 0x75, 0x77, {WHOLE, WHOLE}}, /* VPERMI2x */
	{X86_MAP_0F38, 0, 0x78, 0x79, {BROADCAST, BROADCAST}},
	{X86_MAP_0F38, 0, 0x7d, 0x83, {WHOLE, WHOLE}}, /* VPERMT2x, VPMULTISHIFTQB */
	{X86_MAP_0F38, 0, 0x8d, 0x8d, {WHOLE, WHOLE}},
	{X86_MAP_0F38, 0, 0x8f, 0x8f, {1, 1}},         /* VPSHUFBITQMB */
	{X86_MAP_0F38, 0, 0xc4, 0xc4, {WHOLE, WHOLE}}, /* VPCONFLICTx */
	{X86_MAP_0F38, 0, 0xcf, 0xcf, {1, 1}},         /* VGF2P8MULB */

	{X86_MAP_0F3A, 0, 0x00, 0x05, {WHOLE, WHOLE}}, /* VPERMx, VALIGNx, VPERMILPx */
	{X86_MAP_0F3A, 0, 0x0f, 0x0f, {WHOLE, WHOLE}},
	{X86_MAP_0F3A, 0, 0x18, 0x18, {WHOLE, WHOLE}}, /* VINSERTFx */
	{X86_MAP_0F3A, 0, 0x19, 0x19, {EXTRACT, EXTRACT}},
	{X86_MAP_0F3A, 0, 0x1a, 0x1a, {WHOLE, WHOLE}},
	{X86_MAP_0F3A, 0, 0x1b, 0x1b, {EXTRACT, EXTRACT}},
	{X86_MAP_0F3A, 0, 0x1d, 0x1d, {2, 2}},         /* VCVTPS2PH */
	{X86_MAP_0F3A, 0, 0x23, 0x23, {WHOLE, WHOLE}},
	{X86_MAP_0F3A, 0, 0x38, 0x38, {WHOLE, WHOLE}},
	{X86_MAP_0F3A, 0, 0x39, 0x39, {EXTRACT, EXTRACT}},
	{X86_MAP_0F3A, 0, 0x3a, 0x3a, {WHOLE, WHOLE}},
	{X86_MAP_0F3A, 0, 0x3b, 0x3b, {EXTRACT, EXTRACT}},
	{X86_MAP_0F3A, 0, 0x3e, 0x3f, {1, 2}},         /* VPCMPUB, VPCMPW... */
	{X86_MAP_0F3A, 0, 0x42, 0x43, {WHOLE, WHOLE}},
	{X86_MAP_0F3A, 0, 0x70, 0x70, {2, 2}},
	{X86_MAP_0F3A, 0, 0x72, 0x72, {2, 2}},
	{X86_MAP_0F3A, 0, 0xce, 0xcf, {WHOLE, WHOLE}},

	{X86_MAP_5, 0, 0x00, 0xff, {2, 2}},
	{X86_MAP_6, 0, 0x00, 0xff, {2, 2}},
};

static unsigned element_size(const struct insn *in)
{
	bool w = in->rex & 8;

	for (unsigned i = 0; i < sizeof(elements) / sizeof(elements[0]); i++) {
		const struct element *e = &elements[i];

		if (e->map == in->map && in->op >= e->first && in->op <= e->last &&
		    (!e->pp || (in->prefix & e->pp)))
			return e->size[w];
	}
	return w ? 8 : 4;
}

static uint64_t low_bits(unsigned n)
{
	return n >= 64 ? ~0ull : (1ull << n) - 1;
}

static uint64_t write_mask(const struct insn *in, unsigned lanes)
{
	return kreg_get(in->vex[2] & 7) & low_bits(lanes);
}

static bool is_compressed(const struct insn *in)
{
	return in->map == X86_MAP_0F38 && (in->op == 0x62 || in->op == 0x63 ||
					   (in->op >= 0x88 && in->op <= 0x8b));
}

/* Conversions of 4-byte elements to 8-byte ones: VCVTPS2PD, VCVTDQ2PD, VCVTPS2QQ... */
static bool is_widening(const struct insn *in)
{
	uint8_t pp = in->prefix & (X86_PFX_66 | X86_PFX_F2 | X86_PFX_F3);

	if (in->map != X86_MAP_0F || (in->rex & 8))
		return false;
	switch (in->op) {
	case 0x5a:
		return pp == 0;
	case 0xe6:
		return pp == X86_PFX_F3;
	case 0x7a:
		return pp == X86_PFX_66 || pp == X86_PFX_F3;
	case 0x78:
	case 0x79:
	case 0x7b:
		return pp == X86_PFX_66;
	default:
		return false;
	}
}

/* One element for all, from EVEX.b or by the instruction's nature. */
static void broadcast_lane(const struct insn *in, struct lanes *l)
{
	unsigned size = is_widening(in) ? 8 : in->mem_size;

	l->active = write_mask(in, in->vl / size) != 0;
}

static void tuple_lanes(const struct insn *in, struct lanes *l)
{
	uint64_t mask;

	l->bytes = in->rex & 8 ? 8 : 4;
	l->n = in->mem_size / l->bytes;
	l->active = 0;
	mask = write_mask(in, in->vl / l->bytes);
	for (; mask; mask >>= l->n)
		l->active |= mask & low_bits(l->n);
}

static void element_lanes(const struct insn *in, unsigned size, struct lanes *l)
{
	l->bytes = size < in->mem_size ? size : in->mem_size;
	l->n = in->mem_size / l->bytes;
	l->active = write_mask(in, l->n);
	if (is_compressed(in))
		l->active = low_bits((unsigned)__builtin_popcountll(l->active));
}

static void evex_lanes(const struct insn *in, struct lanes *l)
{
	unsigned size = element_size(in);

	*l = (struct lanes){.n = 1, .bytes = in->mem_size, .active = 1};
	if (size == WHOLE)
		return;
	if ((in->vex[2] & 0x10) || size == BROADCAST)
		broadcast_lane(in, l);
	else if (size == TUPLE)
		tuple_lanes(in, l);
	else if (size == EXTRACT)
		element_lanes(in, in->rex & 8 ? 8 : 4, l);
	else
		element_lanes(in, size, l);
	l->whole = size == EXTRACT;
}

/* VMASKMOVPx, VPMASKMOVx: the sign bits of the elements of vvvv. */
static void vex_lanes(const struct insn *in, struct lanes *l)
{
	bool w = in->op >= 0x8c ? in->rex & 8 : in->op & 1;
	uint8_t mask[32];

	l->bytes = w ? 8 : 4;
	l->n = in->vl / l->bytes;
	l->active = 0;
	l->whole = false;
	vreg_get(in->vvvv, in->vl, mask);
	for (unsigned i = 0; i < l->n; i++)
		l->active |= (uint64_t)(mask[(i + 1) * l->bytes - 1] >> 7) << i;
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
	for (unsigned i = 0, end; i < l->n; i = end + 1) {
		uint64_t at = lin + i * l->bytes;
		enum step s;

		for (end = i; end < l->n && (l->active >> end & 1); end++)
			;
		if (end == i)
			continue;
		if (!is_64bit_code(c)) /* FS and GS lead to the end of 4 GiB */
			at = (uint32_t)at;
		s = move_run(c, at, buf + i * l->bytes, (end - i) * l->bytes, how);
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
	*from = (unsigned)__builtin_ctzll(l->active) * l->bytes;
	*to = (64 - (unsigned)__builtin_clzll(l->active)) * l->bytes;
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

	if (l->whole) {
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
	if (op_is_misaligned(in, lin))
		return fault_code(c, X86_GP, 0);
	s = mmu_pointer(c, lin + from, to - from, acc | ACC_NATIVE, &p);
	if (s != STEP_OK)
		return s;
	if (p)
		return native_exec(c, in, op->bytes, (uint8_t *)p - from);
	return through_buffer(c, op, lin, l);
}

enum step op_masked_mem(struct vcpu *c, const struct op *op)
{
	struct lanes l;
	enum step s;

	if (op->in->mem_size > VREG_MAX)
		return fault_set(c, X86_UDV);
	if (op->in->enc == X86_EVEX)
		evex_lanes(op->in, &l);
	else
		vex_lanes(op->in, &l);
	s = with_lanes(c, op, &l);
	return s == STEP_OK ? op_done(c, op) : s;
}

/* MASKMOVQ, MASKMOVDQU: byte lanes, at DS:rDI. They may fault as if all were stored, and AMD's
 * CPUs do. */
enum step op_maskmov(struct vcpu *c, const struct op *op)
{
	const struct insn *in = op->in;
	struct lanes l = {.n = in->x87 ? 8 : 16, .bytes = 1};
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
	for (unsigned i = 0; i < l.n; i++)
		l.active |= (uint64_t)(mask[i] >> 7) << i;
	s = seg_linear(c, op_data_seg(c, in), c->gpr[X86_RDI] & size_mask(in->adsize), l.n, true,
		       &lin);
	if (s == STEP_OK)
		s = mmu_probe_write(c, lin, l.n, ACC_WRITE);
	if (s == STEP_OK)
		s = move_lanes(c, lin, data, &l, STORE);
	return s == STEP_OK ? op_done(c, op) : s;
}
