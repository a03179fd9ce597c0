/* SPDX-License-Identifier: MIT */
/*
 * What a mask means for a memory operand: which sizes its elements have, and which bits are for which.
 *
 *	vaddps zmm, zmm, [m]{k}             16 elements of 4 bytes, 16 bits
 *	vaddps zmm, zmm, [m]{1to16}{k}      1 element of 4 bytes, 16 bits
 *	vbroadcastf32x4 zmm, [m]{k}         4 elements of 4 bytes, 16 bits
 *	vcvtps2pd zmm, [m]{k}               8 elements of 4 bytes, 8 bits
 *
 * All of it comes from the row. An element has the size that may be broadcast, else the unit of disp8,
 * unless the row names another; where it has none of these the operand is a scalar. (A size that
 * is written down a second time, by opcode, will be wrong for some: then less memory is checked
 * than the CPU accesses.)
 */
#include "x86/decoder.h"

static unsigned element_bytes(const struct insn *in, uint64_t operands, unsigned masking)
{
	unsigned size = masking & OPM_SIZE, broadcast = field(operands, OPF_BC_AT, 2);
	unsigned unit = field(operands, OPF_N_AT, 3);

	if (size)
		return 1u << (size - 1 + (masking & OPM_W && in->rex & 8));
	if (broadcast)
		return 1u << broadcast;
	return unit ? 1u << (unit - 1) : in->mem_size;
}

/* The bits for which there is an element: of the operand without EVEX.b, or of the vector. */
static unsigned mask_bits(const struct insn *in, uint64_t operands, unsigned masking,
			  unsigned bytes)
{
	unsigned all = vector_memory(field(operands, OPF_MEM_AT, 5), in->vl);

	if (masking & OPM_REPEAT)
		all = in->vl;
	return (all ? all : in->mem_size) / bytes;
}

void x86_lanes(const struct insn *in, struct x86_lanes *out)
{
	uint64_t operands = op_rows[in->row].operands;
	unsigned masking = op_masking[in->row];

	if (masking & OPM_WHOLE) {
		*out = (struct x86_lanes){in->mem_size, 1, 0, X86_WHOLE};
		return;
	}
	out->bytes = element_bytes(in, operands, masking);
	out->n = in->mem_size / out->bytes;
	out->bits = mask_bits(in, operands, masking, out->bytes);
	out->masking = masking & OPM_PACK     ? X86_PACKED
		       : masking & OPM_STRICT ? X86_STRICT
					      : X86_BY_ELEMENT;
}
