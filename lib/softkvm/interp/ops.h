/* SPDX-License-Identifier: MIT */
/*
 * Inside the interpreter: one handler for each kind of instruction, and the operand helpers
 * that they share.
 *
 *	enum step op_lea(struct vcpu *c, const struct op *op)
 *	{
 *		reg_set(c, op->in->reg, op->in->opsize, insn_ea(c, op->in, op->next));
 *		return op_done(c, op);
 *	}
 *
 * A handler changes nothing of the architecture before all that may fault or exit has been
 * done (string instructions and gathers: before that of the current element). It sets rip,
 * mostly by op_done().
 */
#ifndef SOFTKVM_OPS_H
#define SOFTKVM_OPS_H

#include "softkvm/interp/interp.h"
#include "softkvm/mmu/mmu.h"

struct op {
	const struct insn *in;
	const uint8_t *bytes; /* the instruction's, in->len of them */
	uint64_t next;        /* rip of the following instruction */
};

typedef enum step op_fn(struct vcpu *c, const struct op *op);

static inline enum step op_done(struct vcpu *c, const struct op *op)
{
	c->rip = op->next;
	return STEP_OK;
}

/* -- operands (operand.c) -- */

/* The low `size` bytes of a register; AH to BH are not among them. */
uint64_t reg_get(const struct vcpu *c, unsigned reg, unsigned size);
/* Writes as hardware does: 4 bytes clear the upper half, 1 and 2 keep the rest. */
void reg_set(struct vcpu *c, unsigned reg, unsigned size, uint64_t value);
/* Adds to a register in the width of addresses. */
void reg_add(struct vcpu *c, unsigned reg, unsigned adsize, uint64_t n);

/* The mask of a value of 1, 2, 4 or 8 bytes. */
static inline uint64_t size_mask(unsigned size)
{
	return ~0ull >> (64 - size * 8);
}

static inline int64_t sign_extend(uint64_t v, unsigned size)
{
	return (int64_t)(v << (64 - size * 8)) >> (64 - size * 8);
}

/* The segment of the memory operand, SS where a stack register is the base: in 64-bit mode
 * that decides between #SS and #GP only. */
enum x86_seg op_seg(const struct insn *in);
/* The segment of an implicit DS operand that an override may replace. */
enum x86_seg op_data_seg(const struct vcpu *c, const struct insn *in);
/* Linear address of the memory operand. */
enum step op_linear(struct vcpu *c, const struct op *op, unsigned len, bool write,
		    uint64_t *lin);
/* The r/m operand of 1, 2, 4 or 8 bytes (1: no AH..BH) as a number. */
enum step op_read_rm(struct vcpu *c, const struct op *op, unsigned size, uint64_t *v);

static inline void flags_put(struct vcpu *c, uint64_t mask, uint64_t value)
{
	c->rflags = (c->rflags & ~mask) | (value & mask);
}

/* PF, ZF, SF of a result. */
uint64_t flags_of_result(uint64_t v, unsigned size);
/* All six, of a - b. */
uint64_t flags_of_cmp(uint64_t a, uint64_t b, unsigned size);

/* -- stack (stack.c) -- */

/* Pushes 2, 4 or 8 bytes; nothing has changed on a fault. */
enum step push_value(struct vcpu *c, uint64_t v, unsigned size);
/* Reads the top of the stack without popping. */
enum step top_value(struct vcpu *c, unsigned size, uint64_t *v);
/* Moves rSP in the width of the stack. */
void sp_add(struct vcpu *c, uint64_t n);
uint64_t stack_mask(const struct vcpu *c);

/* -- ports (port.c) -- */

/* May this code touch the port? #GP(0) if not. */
enum step port_check(struct vcpu *c, uint16_t port, unsigned len);

/* -- vector registers, live in the host's (vreg.c) -- */

#define VREG_MAX 64
/* The low 16, 32 or 64 bytes of a register; registers 16 and up need AVX-512. */
void vreg_get(unsigned reg, unsigned len, void *out);
/* Writes and clears the rest of the register, as VEX and EVEX instructions do. */
void vreg_set(unsigned reg, unsigned len, const void *in);
void mmreg_get(unsigned reg, uint64_t *out);
uint64_t kreg_get(unsigned reg);
void kreg_set(unsigned reg, uint64_t v);

/* The full number of a register field, with EVEX's fifth bit. */
unsigned op_vreg_reg(const struct insn *in);
unsigned op_vreg_index(const struct insn *in);

/* -- handlers, by kind -- */

/* native.c */
op_fn op_native;
/* Does the instruction demand an alignment that its operand at lin has not? */
bool op_is_misaligned(const struct vcpu *c, const struct insn *in, uint64_t lin);
/* s, the outcome of finding the operand's address; but a #SS for an address that is no canonical
 * one gives way to #GP if the operand is misaligned, too. */
enum step op_unless_misaligned(struct vcpu *c, const struct op *op, enum step s);

/* stack.c */
op_fn op_push_r, op_push_m, op_push_i, op_push_seg, op_pop_r, op_pop_m, op_pop_seg, op_pusha,
	op_popa, op_pushf, op_popf, op_enter, op_leave;

/* control.c */
op_fn op_jmp_rel, op_jmp_rm, op_jcc, op_call_rel, op_call_rm, op_ret, op_loop, op_jcxz;
bool flags_meet(uint64_t rflags, unsigned cc);

/* string.c, port.c */
op_fn op_string, op_in, op_out;

/* misc.c */
op_fn op_ud, op_nop, op_lea, op_xlat, op_bt_mem, op_bound, op_df, op_cf, op_clflush;
/* bcd.c */
op_fn op_bcd;
/* masked.c, gather.c */
op_fn op_maskmov, op_masked_mem, op_gather;

#endif
