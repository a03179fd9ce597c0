/* SPDX-License-Identifier: MIT */
/*
 * Lowering: MOVS, STOS and LODS.
 *
 * One element is a load, a store, or both, each with its check, and then the registers move by DF. That
 * is a jump, which the host predicts: a program has DF set for a loop or not at all. REP MOVS and REP STOS are
 * thunks (rep.c), which leave to C what they do not do. In 32-bit code the segments are flat but FS and GS
 * (is_open()), so an address is a register's lower half.
 *
 * The element of MOVS is loaded before its destination is checked. If that check leads to C the whole
 * instruction is executed there, source first; nothing has changed.
 */
#include "softkvm/translate/lower.h"

bool has_string(const struct tr *t, const struct insn *in)
{
	return string_repeats(in) ? rep_has_thunk(t->mode, in) : string_is_flat(t->mode, in);
}

/* -- REP -------------------------------------------------------------------------------------- */

static void lower_rep(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	unsigned k = log2_up(in->opsize), wide = !!(t->mode & MODE_64);
	uint32_t done;

	flags_to_scr(t);
	call_to(&t->a, in->kind == X86_MOVS ? t->e->thunk.rep_movs[wide][k] :
					      t->e->thunk.rep_stos[wide][k]);
	done = jcc_short(&t->a, CC_E);
	call_insn(t, i);
	land(&t->a, done);
	t->flags = FLAGS_MEM;
}

/* -- One element ------------------------------------------------------------------------------ */

/* S1 = host address of the element at `host`, a guest's register. */
static void reach_element(struct tr *t, int i, int host, bool write)
{
	if (t->mode & MODE_64)
		mov_rr(&t->a, H_S1, host);
	else
		mov_rr32(&t->a, H_S1, host);
	emit_check(t, i, t->in[i].opsize, write);
}

/* MOV between [S1] and the lowest `size` bytes of `r`, which is AL if size is 1: 88 to 8B */
static void move_element(struct as *a, bool load, unsigned size, int r)
{
	if (size == 2)
		emit8(a, 0x66);
	emit_rex(a, size == 8, r, 0, H_S1);
	if (size == 1 && r >= 4) /* SIL, DIL */
		emit8(a, 0x40);
	emit8(a, 0x88u | load << 1 | (size > 1));
	emit_mem(a, r, H_S1, 0);
}

static void move_registers(struct tr *t, bool src, bool dst, int by)
{
	bool wide = t->mode & MODE_64;

	if (src)
		lea_rm(&t->a, wide, H_GSI, H_GSI, by);
	if (dst)
		lea_rm(&t->a, wide, H_GDI, H_GDI, by);
}

/* The flags are where spend_flags() has put them. */
static void advance(struct tr *t, bool src, bool dst, int size)
{
	struct as *a = &t->a;
	uint32_t down, done;

	emit_test_df(a);
	down = jcc_short(a, CC_NE);
	move_registers(t, src, dst, size);
	done = jmp_short(a);
	land(a, down);
	move_registers(t, src, dst, -size);
	land(a, done);
}

static void lower_element(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	bool src = in->kind != X86_STOS, dst = in->kind != X86_LODS;
	struct as *a = &t->a;

	if (src) {
		reach_element(t, i, H_GSI, false);
		move_element(a, true, in->opsize, dst ? H_S2 : H_RAX);
	}
	if (src && dst) {
		mov_vr(a, VCPU(temp), H_S2);
		reach_element(t, i, H_GDI, true);
		mov_rv(a, H_S2, VCPU(temp));
	} else if (dst) {
		reach_element(t, i, H_GDI, true);
	}
	t->flags_then = t->flags;
	if (dst)
		move_element(a, false, in->opsize, src ? H_S2 : H_RAX);
	advance(t, src, dst, in->opsize);
}

void lower_string(struct tr *t, int i)
{
	if (string_repeats(&t->in[i]))
		lower_rep(t, i);
	else
		lower_element(t, i);
}
