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
 * wrong with the guest. Is it in two pages, execution goes on at the leader in a block without
 * groups (MODE_SINGLE), whose exits lead to ordinary ones again; else C executes the leader alone.
 * When that happens often the block is translated anew, where this instruction leads a smaller group,
 * and then none: so what lies before and behind the end of a page comes into groups of its own.
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
 *     with CB and what is parked as they were, or, if a page has moved meanwhile, does not come back
 *     (helpers.c): this group may have the address of what the page was.
 *  3. Faults are raised by the instruction that makes the access: a leader's check that fails
 *     raises nothing by itself.
 *
 * Only in 64-bit code, where base + displacement does not wrap.
 */
#include "softkvm/translate/translate.h"

#define GROUP_RANGE 256 /* bytes: a wider range crosses pages too often */
#define NARROW_RANGE 64 /* for a leader whose wide range did */
#define ALL_REGISTERS 0xffffu

/* -- What an instruction means to groups -------------------------------------------- */

/* Its memory operand, if that is base + constant. */
static struct access operand_access(const struct insn *in)
{
	bool plain = in->has_mem && in->base < X86_RIP && in->index == X86_REG_NONE &&
		     in->adsize == 8 && in->seg != X86_FS && in->seg != X86_GS;

	return (struct access){in->base, in->mem_w,
			       plain && in->mem_size <= 64 ? in->mem_size : 0, (int32_t)in->disp};
}

/* The register that a field names, as a bit. Of a byte register's number 4 to 7 this is two: who cares
 * whether it is AH or SPL? */
static uint32_t named(uint8_t field, uint8_t r)
{
	if (field == X86_F_GPR8)
		return 1u << r | 1u << (r & 3);
	return (uint32_t)(field == X86_F_GPR) << r;
}

/* The general registers that an instruction writes. */
static uint32_t written(const struct insn *in)
{
	uint32_t w = in->gpr_w;

	if (in->reg_w)
		w |= named(in->f_reg, in->reg);
	if (in->rm_w && !in->has_mem)
		w |= named(in->f_rm, in->oreg != X86_REG_NONE ? in->oreg : in->rm);
	if (in->vvvv_w)
		w |= named(in->f_vvvv, in->vvvv);
	return w;
}

/* ADD r, imm and SUB r, imm */
static bool adds_constant(const struct insn *in)
{
	return (in->op == 0x81 || in->op == 0x83) && in->map == X86_MAP_1B &&
	       in->enc == X86_LEGACY && in->opsize == 8 && !in->has_mem &&
	       ((in->modrm >> 3 & 7) == 0 || (in->modrm >> 3 & 7) == 5);
}

static void native_effect(const struct insn *in, struct effect *e)
{
	e->access = operand_access(in);
	e->lost = (uint16_t)written(in);
	if (adds_constant(in)) {
		e->moved = in->rm;
		e->by = in->modrm >> 3 & 7 ? -(int64_t)in->imm : (int64_t)in->imm;
		e->lost &= (uint16_t)~(1u << in->rm);
	}
}

static void lea_effect(const struct insn *in, struct effect *e)
{
	if (in->base == in->reg && in->index == X86_REG_NONE && in->opsize == 8 &&
	    in->adsize == 8) {
		e->moved = in->reg;
		e->by = in->disp;
	} else {
		e->lost = (uint16_t)(1u << in->reg);
	}
}

/* What repeats may call C. What does not checks its accesses by itself. */
static void string_effect(const struct insn *in, struct effect *e)
{
	e->lost = string_repeats(in) ? ALL_REGISTERS : 1u << X86_RSI | 1u << X86_RDI | 1u << X86_RAX;
}

static const struct access push_access = {X86_RSP, true, 8, -8},
			   pop_access = {X86_RSP, false, 8, 0},
			   leave_access = {X86_RBP, false, 8, 0};

void group_effect(const struct insn *in, struct effect *e)
{
	*e = (struct effect){.moved = X86_RSP};
	if (in->kind == X86_NATIVE) {
		native_effect(in, e);
		return;
	}
	switch (in->kind) {
	case X86_NOP: case X86_PAUSE: case X86_CLC_STC_CMC: case X86_CLI: case X86_CLD:
	case X86_STD: case X86_SWAPGS:
		break;
	case X86_LEA: lea_effect(in, e); break;
	case X86_PUSH_R: case X86_PUSH_I: case X86_CALL_REL:
		e->access = push_access;
		e->by = -8;
		break;
	case X86_CALL_RM:
		if (!in->has_mem)
			e->access = push_access;
		e->by = -8;
		break;
	case X86_PUSH_M: case X86_PUSHF: /* these check by themselves */
		e->by = -8;
		break;
	case X86_POP_R:
		e->access = pop_access;
		e->by = 8;
		e->lost = (uint16_t)(1u << in->oreg);
		break;
	case X86_RET:
		e->access = pop_access;
		e->lost = ALL_REGISTERS;
		break;
	case X86_LEAVE:
		e->access = leave_access;
		e->lost = 1u << X86_RSP | 1u << X86_RBP;
		break;
	case X86_RDFSGSBASE: case X86_MOV_CR: e->lost = (uint16_t)written(in); break;
	case X86_MOVS: case X86_STOS: case X86_LODS: string_effect(in, e); break;
	case X86_JCC: e->leaves = true; break;
	case X86_LOOP: case X86_JCXZ:
		e->leaves = true;
		e->lost = ALL_REGISTERS;
		break;
	default: e->lost = ALL_REGISTERS; break;
	}
}

/* -- A new group ---------------------------------------------------------------------- */

/* The group that instruction i would lead: its range relative to the base as it is now, and its
 * last member; 1 member: none. */
static int look_ahead(const struct tr *t, int i, struct group *g)
{
	const struct access *first = &t->effect[i].access;
	int64_t lo = first->disp, hi = lo + first->size, moved = 0;
	bool narrow = habit_has(&t->e->habits, HABIT_NARROW, t->page->gpa + t->start[i]);
	int64_t range = narrow ? NARROW_RANGE : GROUP_RANGE;
	bool stores = true; /* may stores still join? */
	int members = 1, j;

	*g = (struct group){.base = first->base, .write = first->write, .last = i};
	for (j = i; j < t->n; j++) {
		const struct effect *e = &t->effect[j];
		const struct access *a = &e->access;

		if (!t->is_inline[j])
			break;
		if (j > i && a->size && a->base == g->base && (stores || !a->write || g->write)) {
			int64_t at = moved + a->disp;
			int64_t l = at < lo ? at : lo, h = at + a->size > hi ? at + a->size : hi;

			if (h - l > range || l < INT32_MIN) /* it is a displacement */
				break;
			lo = l;
			hi = h;
			g->write |= a->write;
			g->last = j;
			members++;
		}
		if (e->leaves)
			stores = false;
		if (e->lost >> g->base & 1)
			break;
		if (e->moved == g->base)
			moved += e->by;
	}
	g->lo = lo;
	g->len = (uint16_t)(hi - lo);
	return members;
}

/* -- Groups under way -------------------------------------------------------------- */

/* A group's place relative to its base register moves with it. */
void group_after(struct tr *t, int i)
{
	const struct effect *e = &t->effect[i];
	unsigned live = t->live;

	for (; live; live &= live - 1) {
		unsigned k = (unsigned)__builtin_ctz(live);
		struct group *g = &t->group[k];

		if (i >= g->last || e->lost >> g->base & 1)
			t->live &= ~(1u << k);
		else if (e->moved == g->base)
			g->lo -= e->by;
	}
}

void groups_end(struct tr *t)
{
	t->live = 0;
	t->in_cb = t->group;
}

/* SAFE: a member's place is inside the range that the leader checked. */
static bool is_in(const struct group *g, const struct access *a)
{
	int64_t at = a->disp; /* whose end may be beyond 32 bits */

	return g->base == a->base && (g->write || !a->write) && at >= g->lo &&
	       at + a->size <= g->lo + g->len;
}

/* Where a new group is noted: at the expense of the one in CB, if all are live. */
static struct group *vacancy(struct tr *t)
{
	unsigned k = (unsigned)__builtin_ctz(~t->live);

	return k < GROUPS ? &t->group[k] : t->in_cb;
}

enum group_role group_role(struct tr *t, int i, struct group **its)
{
	const struct access *a = &t->effect[i].access;
	struct group found;
	unsigned live;

	if (t->e->opt.nogroup || (t->mode & (MODE_64 | MODE_SINGLE)) != MODE_64 || !a->size)
		return GROUP_NONE;
	for (live = t->live; live; live &= live - 1) {
		struct group *g = &t->group[__builtin_ctz(live)];

		if (is_in(g, a)) {
			*its = g;
			return GROUP_MEMBER;
		}
	}
	if (habit_has(&t->e->habits, HABIT_ALONE, t->page->gpa + t->start[i]) ||
	    look_ahead(t, i, &found) < 2)
		return GROUP_NONE;
	*its = vacancy(t);
	**its = found;
	t->live |= 1u << (*its - t->group);
	return GROUP_LEADER;
}
