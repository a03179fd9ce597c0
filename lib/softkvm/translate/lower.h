/* SPDX-License-Identifier: MIT */
/*
 * What the files of lowering share (lower.c has the list). Registers: engine.h.
 */
#ifndef SOFTKVM_LOWER_H
#define SOFTKVM_LOWER_H

#include "softkvm/translate/translate.h"

/* -- access.c -- */

/* EFLAGS are about to be destroyed; `needed`: flags that somebody still reads. */
void spend_flags(struct tr *t, uint16_t needed);
/* Before and after the host form of instruction i. */
void flags_for_insn(struct tr *t, int i);
void flags_after_insn(struct tr *t, int i);
/* All flags to vcpu.arith: the convention at gates and in C. */
void flags_to_scr(struct tr *t);

/* Offset in the page of what follows instruction i. */
uint16_t next_of(const struct tr *t, int i);
/* dest = rip_page + off */
void rip_plus(struct tr *t, int dest, int64_t off);
bool has_segment_base(const struct insn *in);
/* The effective address of instruction i's memory operand in `dest`; S1 and S2 may be lost. */
void emit_ea(struct tr *t, int i, int dest);
/* S1 = the operand's linear address. */
void emit_linear(struct tr *t, int i);

/* S1 = linear address -> S1 = host address; S2 is lost. */
void emit_check(struct tr *t, int i, unsigned size, bool write);
/* The same, leaving the place in t->place. */
void reach_linear(struct tr *t, int i, unsigned size, bool write);
/* The same for an access that may be in a group; `linear` puts its address in S1. */
void reach(struct tr *t, int i, unsigned size, bool write,
	   void (*linear)(struct tr *t, int i));

/* -- lower.c -- */

/* C executes instruction i. */
void call_insn(struct tr *t, int i);

/* -- lower_flow.c -- */

/* S1 is the guest address to go on at; flags are in vcpu.arith. */
void leave_by_gate(struct tr *t);
/* To rip_page + off, in this page or another. */
void go_to(struct tr *t, int64_t off, bool last);
int64_t target_of(const struct tr *t, int i);
void lower_jcc(struct tr *t, int i);
void lower_loop(struct tr *t, int i);

/* -- lower_stack.c -- */

unsigned stack_size(const struct tr *t);
/* S1 = host address of the slot that a push will fill, checked by itself. */
void check_push_alone(struct tr *t, int i);
/* Fills it and moves the stack pointer. */
void push_from(struct tr *t, int host);
void lower_push_r(struct tr *t, int i);
void lower_push_i(struct tr *t, int i);
void lower_push_m(struct tr *t, int i);
void lower_pop_r(struct tr *t, int i);
void lower_leave(struct tr *t, int i);
void lower_call(struct tr *t, int i);
void lower_call_rm(struct tr *t, int i);
void lower_jmp_rm(struct tr *t, int i);
void lower_ret(struct tr *t, int i);

/* -- lower_string.c -- */

/* Has this MOVS, STOS or LODS code of its own, or a thunk? */
bool has_string(const struct tr *t, const struct insn *in);
void lower_string(struct tr *t, int i);

/* -- lower_system.c -- */

void lower_cli(struct tr *t, int i);
void lower_df(struct tr *t, int i);
void lower_mov_cr(struct tr *t, int i);
void lower_swapgs(struct tr *t);
void lower_rdfsgsbase(struct tr *t, int i);
void lower_sti(struct tr *t, int i);
void lower_pushf(struct tr *t, int i);
void lower_rdtsc(struct tr *t, int i);
void lower_mov_seg_r(struct tr *t, int i);

#endif
