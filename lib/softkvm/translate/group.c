/* SPDX-License-Identifier: MIT */
/*
 * Groups: one check for several accesses through one base register.
 *
 * A function's first pushes, its locals, the fields of a structure: accesses whose addresses
 * differ by constants. The first of them (the leader) checks the whole range that they touch,
 * and leaves the host address of its beginning in CB; the others (members) use it at the speed
 * of native code.
 *
 *	push rbp            lea  s1, [rsp - 24] ; check 24 bytes for writing ; mov cb, s1
 *	push r12            mov  [cb + 16], rbp
 *	push rbx            mov  [cb + 8], r12
 *	                    mov  [cb], rbx
 *
 * The range must lie in one page and permit what all members do. If it does not, nothing is
 * wrong with the guest: C executes the leader alone, execution goes on in a block that begins
 * behind it, and when that happens often the block is translated anew, where this instruction
 * leads a smaller group, and then none: so what lies before and behind the end of a page comes
 * into groups of its own.
 *
 * Groups through several base registers can be under way at once, say of locals and of an
 * object's fields. One has its address in CB; when another's leader needs CB that is parked in the
 * vCPU's struct, and a load brings it back, which is much less than a check.
 *
 * Invariants:
 *  1. A store is in a group only if control cannot leave the block between leader and store,
 *     but by a fault: so no page is asked for write permission that is not written.
 *  2. A group's address is in CB, or parked, from leader to last member. No instruction in
 *     between is executed in C and followed by the rest of the block (insn_map.cb forbids the
 *     resume); a memory miss of another site in between comes back to the instruction's beginning
 *     with CB and what is parked as they were.
 *  3. Faults are raised by the instruction that makes the access: a leader's check that fails
 *     raises nothing by itself.
 *
 * Only in 64-bit code, where base + displacement does not wrap.
 */
#include "softkvm/translate/translate.h"

#define GROUP_RANGE 256 /* bytes: a wider range crosses pages too often */
#define NARROW_RANGE 64 /* for a leader whose wide range did */

/* The memory access of an instruction, if it is one, through base + constant. */
static bool access_of(const struct tr *t, int i, struct access *a)
{
	const struct insn *in = &t->in[i];

	switch (in->kind) {
	case X86_PUSH_R: case X86_PUSH_I: case X86_CALL_REL:
		*a = (struct access){X86_RSP, -8, 8, true};
		return true;
	case X86_CALL_RM:
		*a = (struct access){X86_RSP, -8, 8, true};
		return !in->has_mem;
	case X86_POP_R: case X86_RET:
		*a = (struct access){X86_RSP, 0, 8, false};
		return true;
	case X86_LEAVE:
		*a = (struct access){X86_RBP, 0, 8, false};
		return true;
	case X86_NATIVE:
		if (!in->has_mem || in->base >= X86_RIP || in->index != X86_REG_NONE ||
		    in->adsize != 8 || in->seg == X86_FS || in->seg == X86_GS ||
		    in->mem_size > 64)
			return false;
		*a = (struct access){in->base, (int32_t)in->disp, in->mem_size, in->mem_w};
		return true;
	default:
		return false;
	}
}

static bool names(const struct insn *in, uint8_t r)
{
	uint8_t rm = in->oreg != X86_REG_NONE ? in->oreg : in->rm;

	return (in->f_reg == X86_F_GPR && in->reg_w && in->reg == r) ||
	       (in->f_rm == X86_F_GPR && in->rm_w && !in->has_mem && rm == r) ||
	       (in->f_vvvv == X86_F_GPR && in->vvvv_w && in->vvvv == r) ||
	       ((in->f_reg == X86_F_GPR8 || in->f_rm == X86_F_GPR8) &&
		(in->reg_w || in->rm_w)) ||
	       in->gpr_w >> r & 1;
}

/* ADD r, imm and SUB r, imm */
static bool adds_constant(const struct insn *in, uint8_t r, int64_t *delta)
{
	unsigned digit = in->modrm >> 3 & 7;

	if (in->map != X86_MAP_1B || in->enc != X86_LEGACY || in->opsize != 8 || in->has_mem ||
	    (in->op != 0x81 && in->op != 0x83) || in->rm != r || (digit != 0 && digit != 5))
		return false;
	*delta = digit ? -(int64_t)in->imm : (int64_t)in->imm;
	return true;
}

/* What instruction i does to register r: true and a constant is added, or it is lost. */
static bool moves_by(const struct tr *t, int i, uint8_t r, int64_t *delta)
{
	const struct insn *in = &t->in[i];

	*delta = 0;
	switch (in->kind) {
	case X86_PUSH_R: case X86_PUSH_I: case X86_PUSH_M: case X86_CALL_REL: case X86_CALL_RM:
	case X86_PUSHF:
		*delta = r == X86_RSP ? -8 : 0;
		return true;
	case X86_POP_R:
		*delta = r == X86_RSP ? 8 : 0;
		return in->oreg != r;
	case X86_LEAVE:
		return r != X86_RSP && r != X86_RBP;
	case X86_LEA:
		if (in->reg != r)
			return true;
		*delta = in->disp;
		return in->base == r && in->index == X86_REG_NONE && in->opsize == 8 &&
		       in->adsize == 8;
	case X86_NATIVE:
		return adds_constant(in, r, delta) || !names(in, r);
	case X86_RDFSGSBASE:
		return !names(in, r);
	case X86_NOP: case X86_PAUSE: case X86_CLC_STC_CMC: case X86_JCC: case X86_CLI:
	case X86_SWAPGS:
		return true;
	default:
		return false;
	}
}

static bool leaves(const struct insn *in)
{
	return in->kind == X86_JCC || in->kind == X86_LOOP || in->kind == X86_JCXZ;
}

/* The group that instruction i would lead: its range relative to the base as it is now, and its
 * last member; 1 member: none. */
static int look_ahead(const struct tr *t, int i, const struct access *first, struct group *g)
{
	int64_t lo = first->disp, hi = first->disp + first->size, moved = 0, delta;
	bool narrow = habit_has(t->e->habits.narrow, t->page->gpa + t->start[i]);
	int64_t range = narrow ? NARROW_RANGE : GROUP_RANGE;
	bool stores = true; /* may stores still join? */
	int members = 1, j;

	*g = (struct group){.base = first->base, .write = first->write, .last = i};
	for (j = i; j < t->n; j++) {
		struct access a;

		if (j > i && !t->is_inline[j])
			break;
		if (j > i && access_of(t, j, &a) && a.base == first->base &&
		    (stores || !a.write || g->write)) {
			int64_t at = moved + a.disp;
			int64_t l = at < lo ? at : lo, h = at + a.size > hi ? at + a.size : hi;

			if (h - l > range || l < INT32_MIN) /* it is a displacement */
				break;
			lo = l;
			hi = h;
			g->write |= a.write;
			g->last = j;
			members++;
		}
		if (leaves(&t->in[j]))
			stores = false;
		if (!moves_by(t, j, first->base, &delta))
			break;
		moved += delta;
	}
	g->lo = lo;
	g->len = (uint16_t)(hi - lo);
	return members;
}

/* -- Groups under way -------------------------------------------------------------- */

/* A group's place relative to its base register moves with it. */
void group_after(struct tr *t, int i)
{
	struct group *g;
	int64_t delta;

	for (g = t->group; g < t->group + GROUPS; g++) {
		if (!g->active)
			continue;
		if (i >= g->last || !moves_by(t, i, g->base, &delta))
			g->active = false;
		else
			g->lo -= delta;
	}
}

bool groups_live(const struct tr *t)
{
	const struct group *g;

	for (g = t->group; g < t->group + GROUPS; g++)
		if (g->active)
			return true;
	return false;
}

void groups_end(struct tr *t)
{
	struct group *g;

	for (g = t->group; g < t->group + GROUPS; g++)
		g->active = false;
	t->in_cb = t->group;
}

static bool is_in(const struct group *g, const struct access *a)
{
	return g->active && g->base == a->base && (g->write || !a->write) && a->disp >= g->lo &&
	       a->disp + a->size <= g->lo + g->len;
}

/* Where a new group is noted: at the expense of the one in CB, if all are live. */
static struct group *vacancy(struct tr *t)
{
	struct group *g;

	for (g = t->group; g < t->group + GROUPS; g++)
		if (!g->active)
			return g;
	return t->in_cb;
}

enum group_role group_role(struct tr *t, int i, struct access *a, struct group **its)
{
	struct group *g, found;

	if (t->e->opt.nogroup || !(t->mode & MODE_64) || !access_of(t, i, a))
		return GROUP_NONE;
	for (g = t->group; g < t->group + GROUPS; g++)
		if (is_in(g, a)) {
			*its = g;
			return GROUP_MEMBER;
		}
	if (habit_has(t->e->habits.alone, t->page->gpa + t->start[i]) ||
	    look_ahead(t, i, a, &found) < 2)
		return GROUP_NONE;
	found.active = true;
	*its = vacancy(t);
	**its = found;
	return GROUP_LEADER;
}
