/* SPDX-License-Identifier: MIT */
/*
 * IN, OUT, and who may use which port.
 *
 * In protected mode, code whose CPL is not above IOPL may touch all ports. Others, and virtual-
 * 8086 code always, need a clear bit for each byte in the I/O permission bitmap of the TSS,
 * which a 16-bit TSS does not have. Two bytes of the bitmap are read even for one bit: the manual
 * wants a byte of ones after its end for that.
 *
 * Source: Intel SDM volume 1, chapter 19 (input/output).
 */
#include "softkvm/interp/ops.h"
#include "softkvm/mmu/io.h"

#define TSS_IOMAP 0x66 /* where the 16-bit offset of the bitmap is */

static enum step check_bitmap(struct vcpu *c, uint16_t port, unsigned len)
{
	uint16_t at = 0, bits = 0;
	enum step s;

	if ((c->tr.type & ~2u) != 9 || c->tr.limit < TSS_IOMAP + 1)
		return fault_code(c, X86_GP, 0);
	s = mmu_read(c, c->tr.base + TSS_IOMAP, &at, 2, ACC_READ | ACC_SYSTEM);
	if (s != STEP_OK)
		return s;
	if (at + port / 8u + 1 > c->tr.limit)
		return fault_code(c, X86_GP, 0);
	s = mmu_read(c, c->tr.base + at + port / 8u, &bits, 2, ACC_READ | ACC_SYSTEM);
	if (s != STEP_OK)
		return s;
	return bits >> (port & 7) & ((1u << len) - 1) ? fault_code(c, X86_GP, 0) : STEP_OK;
}

enum step port_check(struct vcpu *c, uint16_t port, unsigned len)
{
	if (!is_protected(c))
		return STEP_OK;
	if (!is_vm86(c) && c->cpl <= (c->rflags >> 12 & 3))
		return STEP_OK;
	return check_bitmap(c, port, len);
}

/* E4..E7 have the port as immediate, EC..EF in DX. */
static uint16_t port_of(const struct vcpu *c, const struct insn *in)
{
	return in->op & 8 ? (uint16_t)c->gpr[X86_RDX] : (uint8_t)in->imm;
}

enum step op_in(struct vcpu *c, const struct op *op)
{
	uint16_t port = port_of(c, op->in);
	unsigned size = op->in->opsize;
	uint64_t data = 0;
	enum step s = port_check(c, port, size);

	if (s == STEP_OK)
		s = io_port(c, port, &data, size, false);
	if (s != STEP_OK)
		return s;
	reg_set(c, X86_RAX, size, data);
	return op_done(c, op);
}

enum step op_out(struct vcpu *c, const struct op *op)
{
	uint16_t port = port_of(c, op->in);
	unsigned size = op->in->opsize;
	uint64_t data = reg_get(c, X86_RAX, size);
	enum step s = port_check(c, port, size);

	if (s == STEP_OK)
		s = io_port(c, port, &data, size, true);
	return s == STEP_OK ? op_done(c, op) : s;
}
