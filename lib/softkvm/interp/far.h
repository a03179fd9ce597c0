/* SPDX-License-Identifier: MIT */
/*
 * Transfers to another code segment: JMP FAR, CALL FAR, RETF, IRET.
 *
 * On STEP_OK rip is at the target. opsize is 2, 4 or 8. c->rip is the instruction's own address
 * until then, so that a fault finds it unchanged.
 */
#ifndef SOFTKVM_FAR_H
#define SOFTKVM_FAR_H

#include "softkvm/vcpu.h"

/* Of the offset in a far pointer in memory. AMD's CPUs know no 64-bit ones. */
static inline unsigned far_size(const struct vcpu *c, const struct insn *in)
{
	return c->amd && in->opsize == 8 ? 4 : in->opsize;
}

/* JMP FAR to code, through a call gate, or to another task; next is the address behind it. */
enum step far_jump(struct vcpu *c, uint16_t sel, uint64_t off, unsigned opsize,
		   uint64_t next);

/* next is the return address. */
enum step far_call(struct vcpu *c, uint16_t sel, uint64_t off, unsigned opsize,
		   uint64_t next);

/* release: RETF imm16, bytes to drop from the stack. */
enum step far_return(struct vcpu *c, unsigned opsize, unsigned release);

/* IRET from real mode, to virtual-8086 mode, to the same and to outer levels, to another task. */
enum step far_iret(struct vcpu *c, unsigned opsize, uint64_t next);

#endif
