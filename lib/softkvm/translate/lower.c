/* SPDX-License-Identifier: MIT */
/*
 * Lowering: one guest instruction to host code.
 *
 * Most instructions are re-emitted (reencode.c), with the address of their memory operand
 * computed and checked first. Stack operations and near transfers have their own short
 * sequences. Everything else calls C, which interprets it.
 *
 *	access.c         flags, addresses, checks
 *	lower_stack.c    stack, calls
 *	lower_string.c   MOVS, STOS, LODS
 *	lower_flow.c     other transfers
 *	lower_system.c   small system instructions
 *	lower.c          all else, and the choice
 */
#include "softkvm/translate/lower.h"

#include "x86/isa.h"

/* -- C executes it ---------------------------------------------------------------------------------------- */

static struct pooled *call_pooled(struct tr *t, uint8_t index)
{
	struct engine *e = t->e;
	struct pooled *p = &e->pool[e->n_pool];

	flags_to_scr(t);
	p->block = t->index;
	p->index = index;
	call_to(&t->a, e->thunk.insn);
	emit32(&t->a, e->n_pool++);
	t->flags = FLAGS_REG; /* in both places, in fact */
	return p;
}

void call_insn(struct tr *t, int i)
{
	copy_words(&call_pooled(t, (uint8_t)i)->in, &t->in[i], sizeof(struct insn));
}

void lower_step(struct tr *t)
{
	t->flags = FLAGS_REG;
	call_pooled(t, POOLED_STEP);
	t->ended = true;
}

/* -- Plain instructions ---------------------------------------------------------------------------------------- */

static void lower_native(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];

	if (in->has_mem && in->mem_size)
		reach(t, i, in->mem_size, in->mem_w, emit_linear);
	flags_for_insn(t, i);
	if (t->mode & MODE_64 && is_host_form(in))
		emit_bytes(&t->a, t->code + (t->start[i] - t->at), in->len);
	else
		emit_native(&t->a, in, &t->place);
	flags_after_insn(t, i);
}

static void lower_lea(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	int host = host_reg[in->reg];

	if (host >= 0 && in->opsize == 8) {
		emit_ea(t, i, host);
		return;
	}
	emit_ea(t, i, H_S1);
	if (in->opsize == 2) { /* mov r16, s1w: the upper part stays */
		int to = host >= 0 ? host : H_S2;

		if (host < 0)
			mov_rv(&t->a, H_S2, VGPR(in->reg));
		emit8(&t->a, 0x66);
		mov_rr32(&t->a, to, H_S1);
		if (host < 0)
			mov_vr(&t->a, VGPR(in->reg), H_S2);
	} else {
		if (in->opsize == 4)
			mov_rr32(&t->a, host >= 0 ? host : H_S1, H_S1);
		if (host < 0)
			mov_vr(&t->a, VGPR(in->reg), H_S1);
	}
}

/*
 * BT, BTS, BTR, BTC with the bit number in a register: it may be far outside the operand. The
 * operand's unit that holds the bit is accessed, with the number's low bits.
 */
static void lower_bt_mem(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	struct as *a = &t->a;
	unsigned unit = in->opsize == 8 ? 6 : in->opsize == 4 ? 5 : 4;
	int bit;

	spend_flags(t, t->before[i]);
	emit_linear(t, i);
	bit = emit_use(a, in->reg, H_S2);
	if (in->opsize == 8) {
		mov_rr(a, H_S2, bit);
	} else { /* movsx s2, r16; movsxd s2, r32 */
		emit_rex(a, true, H_S2, 0, bit);
		if (in->opsize == 2)
			emit8(a, 0x0f);
		emit8(a, in->opsize == 2 ? 0xbf : 0x63);
		emit8(a, 0xc0u | H_S2 << 3 | (bit & 7));
	}
	op_ri8(&t->a, true, 0xc1, 7, H_S2, unit); /* sar */
	lea_sib(a, t->mode & MODE_64, H_S1, H_S1, H_S2, in->opsize, 0);
	emit_check(t, i, in->opsize, in->mem_w);
	mov_rr32(a, H_S2, emit_use(a, in->reg, H_S2));
	op_ri8(&t->a, false, 0x83, 4, H_S2, (1u << unit) - 1); /* and */
	if (t->flags == FLAGS_MEM && t->before[i]) {
		mov_vr(a, VCPU(temp), H_S2);
		flags_for_insn(t, i);
		mov_rv(a, H_S2, VCPU(temp));
	}
	t->flags_then = t->flags;
	if (in->prefix & X86_PFX_LOCK)
		emit8(a, 0xf0);
	if (in->opsize == 2)
		emit8(a, 0x66);
	emit_rex(a, in->opsize == 8, H_S2, 0, H_S1);
	emit8(a, 0x0f);
	emit8(a, in->op);
	emit8(a, H_S2 << 3 | H_S1);
	t->flags = FLAGS_REG;
}

/* -- Choice ---------------------------------------------------------------------------------------------------- */

/* Does the mode permit vector and x87 instructions such as this one? */
static bool has_vectors(const struct tr *t, const struct insn *in)
{
	if (t->mode & MODE_NOFPU)
		return false;
	if (in->enc == X86_LEGACY)
		return true;
	if (in->simd && t->mode & MODE_NOAVX)
		return false;
	return t->mode & MODE_AVX512 || (in->enc != X86_EVEX && !x86_uses_masks(in));
}

/* In 32-bit code: is the operand at an address that emit_linear() makes? */
static bool is_flat_operand(const struct tr *t, const struct insn *in)
{
	if (in->adsize == 2 || (has_segment_base(in) && !(t->mode & MODE_FSGS)))
		return false;
	return in->seg != X86_CS || !in->mem_w; /* #GP */
}

/* Can the sequences above be used for this instruction? If not, C executes it. */
bool can_inline(const struct tr *t, const struct insn *in)
{
	bool wide = t->mode & MODE_64;

	if (in->simd | in->x87 && !has_vectors(t, in))
		return false;
	if (t->e->c->isa_lacking && t->e->c->isa_lacking >> x86_isa(in, wide) & 1)
		return false; /* #UD */
	if (!wide && in->has_mem && !is_flat_operand(t, in))
		return false;
	if (in->kind == X86_NATIVE)
		return in->mem_size <= 256 && (in->mem_size != 0 || !in->has_mem);
	switch (in->kind) {
	case X86_PUSH_R: case X86_POP_R: case X86_PUSH_I: case X86_LEAVE:
		return in->opsize == stack_size(t);
	case X86_PUSH_M: /* not FF /6 with a register, which nobody writes */
		return in->opsize == stack_size(t) && in->has_mem;
	case X86_CALL_REL: case X86_JMP_REL: case X86_RET: case X86_JCC:
		return in->opsize == stack_size(t) || (wide && in->opsize != 2);
	case X86_CALL_RM: case X86_JMP_RM:
		return in->opsize == stack_size(t) && (in->has_mem || in->rm != X86_RSP);
	case X86_LEA: case X86_NOP: case X86_PAUSE: case X86_CLC_STC_CMC:
		return true;
	case X86_MASKED_MEM:
		return in->has_mem && in->mem_size <= 64;
	case X86_CLD: case X86_STD:
		return true;
	case X86_MOV_CR:
		return wide && !(t->mode & MODE_USER) && in->op == 0x20 &&
		       (in->reg == 2 || in->reg == 3);
	case X86_CLI: case X86_STI:
		return !(t->mode & MODE_USER);
	case X86_SWAPGS:
		return wide && !(t->mode & MODE_USER);
	case X86_RDFSGSBASE: /* not the two that write */
		return t->mode & MODE_FSGSBASE && !(in->modrm >> 3 & 6);
	case X86_RDTSC: case X86_RDTSCP:
		return !(t->mode & MODE_NOTSC);
	case X86_MOV_SEG_R:
		return !in->has_mem;
	case X86_PUSHF:
		return wide && in->opsize == 8;
	case X86_BT_MEM:
		return in->adsize == stack_size(t);
	case X86_MOVS: case X86_STOS: case X86_LODS:
		return has_string(t, in);
	case X86_LOOP: case X86_JCXZ:
		return in->adsize == stack_size(t) && in->op >= 0xe2 && in->opsize != 2;
	default:
		return false;
	}
}

static void lower_one(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];

	if (!t->is_inline[i]) {
		call_insn(t, i);
		return;
	}
	if (in->kind == X86_NATIVE) {
		lower_native(t, i);
		return;
	}
	switch (in->kind) {
	case X86_CLC_STC_CMC: case X86_MASKED_MEM: lower_native(t, i); break;
	case X86_NOP: break;
	case X86_PAUSE: emit8(&t->a, 0xf3); emit8(&t->a, 0x90); break;
	case X86_LEA: lower_lea(t, i); break;
	case X86_PUSH_R: lower_push_r(t, i); break;
	case X86_PUSH_I: lower_push_i(t, i); break;
	case X86_PUSH_M: lower_push_m(t, i); break;
	case X86_POP_R: lower_pop_r(t, i); break;
	case X86_LEAVE: lower_leave(t, i); break;
	case X86_JMP_REL: go_to(t, target_of(t, i), true); break;
	case X86_JCC: lower_jcc(t, i); break;
	case X86_CALL_REL: lower_call(t, i); break;
	case X86_CALL_RM: lower_call_rm(t, i); break;
	case X86_JMP_RM: lower_jmp_rm(t, i); break;
	case X86_RET: lower_ret(t, i); break;
	case X86_LOOP: case X86_JCXZ: lower_loop(t, i); break;
	case X86_MOVS: case X86_STOS: case X86_LODS: lower_string(t, i); break;
	case X86_CLI: lower_cli(t, i); break;
	case X86_CLD: case X86_STD: lower_df(t, i); break;
	case X86_MOV_CR: lower_mov_cr(t, i); break;
	case X86_SWAPGS: lower_swapgs(t); break;
	case X86_RDFSGSBASE: lower_rdfsgsbase(t, i); break;
	case X86_STI: lower_sti(t, i); break;
	case X86_PUSHF: lower_pushf(t, i); break;
	case X86_RDTSC: case X86_RDTSCP: lower_rdtsc(t, i); break;
	case X86_MOV_SEG_R: lower_mov_seg_r(t, i); break;
	case X86_BT_MEM: lower_bt_mem(t, i); break;
	}
}

void lower(struct tr *t, int i)
{
	t->flags_then = t->flags;
	if (!t->is_inline[i])
		groups_end(t);
	lower_one(t, i);
	group_after(t, i);
}
