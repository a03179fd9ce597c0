/* SPDX-License-Identifier: MIT */
/*
 * Lowering: PUSH, POP, LEAVE, and the transfers that push or pop: CALL, RET; JMP through memory.
 */
#include "softkvm/translate/lower.h"

unsigned stack_size(const struct tr *t)
{
	return t->mode & MODE_64 ? 8 : 4;
}

static void move_sp(struct tr *t, int by)
{
	lea_rm(&t->a, t->mode & MODE_64, H_GSP, H_GSP, by);
}

static void push_linear(struct tr *t, int i)
{
	(void)i;
	lea_rm(&t->a, t->mode & MODE_64, H_S1, H_GSP, -(int)stack_size(t));
}

static void move_linear(struct tr *t, int host)
{
	if (t->mode & MODE_64)
		mov_rr(&t->a, H_S1, host);
	else
		mov_rr32(&t->a, H_S1, host);
}

static void top_linear(struct tr *t, int i)
{
	(void)i;
	move_linear(t, H_GSP);
}

static void frame_linear(struct tr *t, int i)
{
	(void)i;
	move_linear(t, H_RBP);
}

/* The slot that a push will fill. */
static void check_push(struct tr *t, int i)
{
	reach(t, i, stack_size(t), true, push_linear);
}

/* The same where the instruction has another access, too. */
void check_push_alone(struct tr *t, int i)
{
	push_linear(t, i);
	reach_linear(t, i, stack_size(t), true);
	t->flags_then = t->flags;
}

/* The top of the stack. */
static void check_pop(struct tr *t, int i)
{
	reach(t, i, stack_size(t), false, top_linear);
}

static void load_place(struct tr *t, int host)
{
	mov_rm(&t->a, t->mode & MODE_64, host, t->place.reg, t->place.disp);
}

void push_from(struct tr *t, int host)
{
	mov_mr(&t->a, t->mode & MODE_64, t->place.reg, t->place.disp, host);
	move_sp(t, -(int)stack_size(t));
}

void lower_push_r(struct tr *t, int i)
{
	check_push(t, i);
	push_from(t, emit_use(&t->a, t->in[i].oreg, H_S2));
}

void lower_push_i(struct tr *t, int i)
{
	check_push(t, i);
	emit_rex(&t->a, t->mode & MODE_64, 0, 0, t->place.reg);
	emit8(&t->a, 0xc7);
	emit_mem(&t->a, 0, t->place.reg, t->place.disp);
	emit32(&t->a, (uint32_t)t->in[i].imm);
	move_sp(t, -(int)stack_size(t));
}

void lower_pop_r(struct tr *t, int i)
{
	uint8_t r = t->in[i].oreg;
	int host = host_reg[r];

	check_pop(t, i);
	if (host < 0) {
		load_place(t, H_S2);
		mov_vr(&t->a, VGPR(r), H_S2);
	} else {
		load_place(t, host);
	}
	if (r != X86_RSP)
		move_sp(t, (int)stack_size(t));
}

void lower_leave(struct tr *t, int i)
{
	reach(t, i, stack_size(t), false, frame_linear);
	load_place(t, H_S2);
	lea_rm(&t->a, t->mode & MODE_64, H_GSP, H_RBP, (int)stack_size(t));
	mov_rr(&t->a, H_RBP, H_S2);
}

/* An operand in memory into S2. */
static void load_operand(struct tr *t, int i)
{
	emit_linear(t, i);
	emit_check(t, i, stack_size(t), false);
	t->flags_then = t->flags;
	mov_rm(&t->a, t->mode & MODE_64, H_S2, H_S1, 0);
}

void lower_push_m(struct tr *t, int i)
{
	load_operand(t, i);
	mov_vr(&t->a, VCPU(temp), H_S2);
	check_push_alone(t, i);
	mov_rv(&t->a, H_S2, VCPU(temp));
	push_from(t, H_S2);
}

static void push_return(struct tr *t, int i)
{
	if (t->in[i].has_mem)
		check_push_alone(t, i);
	else
		check_push(t, i);
	rip_plus(t, H_S2, next_of(t, i));
	push_from(t, H_S2);
}

void lower_call(struct tr *t, int i)
{
	int64_t target = target_of(t, i);

	push_return(t, i); /* leaves the return address in S2 */
	if (target >= 0 && target < 4096) {
		go_to(t, target, true);
		return;
	}
	lea_rm(&t->a, t->mode & MODE_64, H_S1, H_S2, (int32_t)t->in[i].imm);
	flags_to_scr(t);
	leave_by_gate(t);
}

/* S1 = the register or memory operand of an indirect jump, zero-extended. */
void lower_jmp_rm(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];

	flags_to_scr(t);
	if (in->has_mem) {
		load_operand(t, i);
		mov_rr(&t->a, H_S1, H_S2);
	} else if (t->mode & MODE_64) {
		mov_rr(&t->a, H_S1, emit_use(&t->a, in->rm, H_S2));
	} else {
		mov_rr32(&t->a, H_S1, emit_use(&t->a, in->rm, H_S2));
	}
	leave_by_gate(t);
}

void lower_call_rm(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	int host;

	flags_to_scr(t);
	if (in->has_mem) {
		load_operand(t, i);
		mov_vr(&t->a, VCPU(temp), H_S2);
		push_return(t, i);
		mov_rv(&t->a, H_S1, VCPU(temp));
	} else {
		push_return(t, i);
		host = emit_use(&t->a, in->rm, H_S2);
		if (t->mode & MODE_64)
			mov_rr(&t->a, H_S1, host);
		else
			mov_rr32(&t->a, H_S1, host);
	}
	leave_by_gate(t);
}

void lower_ret(struct tr *t, int i)
{
	flags_to_scr(t);
	check_pop(t, i);
	load_place(t, H_S1);
	move_sp(t, (int)(stack_size(t) + (t->in[i].imm & 0xffff)));
	leave_by_gate(t);
}
