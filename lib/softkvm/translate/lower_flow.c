/* SPDX-License-Identifier: MIT */
/*
 * Lowering: transfers that stay in the page (exits) or leave it (gates), LOOP and JRCXZ.
 */
#include "softkvm/translate/lower.h"

/* S1 is the guest address to go on at; flags are in vcpu.arith. */
void leave_by_gate(struct tr *t)
{
	emit_gate_jump(&t->a);
	t->ended = true;
}

/* To rip_page + off, in this page or another. */
void go_to(struct tr *t, int64_t off, bool last)
{
	if (off >= 0 && off < 4096) {
		tr_exit_jmp(t, (uint16_t)off);
	} else {
		flags_to_scr(t);
		rip_plus(t, H_S1, off);
		leave_by_gate(t);
	}
	t->ended = last;
}

void lower_next_page(struct tr *t)
{
	go_to(t, 4096 + t->over, true);
}

int64_t target_of(const struct tr *t, int i)
{
	return (int64_t)next_of(t, i) + (int64_t)t->in[i].imm;
}

void lower_jcc(struct tr *t, int i)
{
	int64_t off = target_of(t, i);
	unsigned cc = t->in[i].op & 15;

	flags_for_insn(t, i);
	if (off >= 0 && off < 4096) {
		tr_exit_jcc(t, cc, (uint16_t)off);
	} else {
		uint32_t over;

		/* The gate's code stands here, jumped over when the condition is false. */
		over = jcc_far(&t->a, cc ^ 1);
		flags_to_scr(t);
		rip_plus(t, H_S1, off);
		leave_by_gate(t);
		t->ended = false;
		patch_rel(t->e, over, as_at(&t->a));
		t->flags = FLAGS_REG;
	}
}

/* LOOP and JRCXZ: no flags on either side. */
void lower_loop(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	struct as *a = &t->a;
	bool wide = t->mode & MODE_64;
	enum flags_at flags = t->flags;
	int64_t off = target_of(t, i);
	uint32_t over;

	if (in->kind == X86_LOOP) {
		lea_rm(a, wide, H_RCX, H_RCX, -1);
	} else { /* jump to the exit that follows, or over it */
		if (!wide)
			emit8(a, 0x67);
		emit8(a, 0xe3);
		emit8(a, 2);
	}
	if (in->kind == X86_LOOP) {
		if (!wide)
			emit8(a, 0x67);
		emit8(a, 0xe3);
	} else {
		emit8(a, 0xeb);
	}
	emit8(a, 0);
	over = as_at(a) - 1;
	go_to(t, off, false);
	land(a, over);
	t->flags = flags; /* as before, on the way that does not jump */
}
