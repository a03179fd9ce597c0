/* SPDX-License-Identifier: MIT */
/*
 * Lowering: one guest instruction to host code.
 *
 * Most instructions are re-emitted (reencode.c), with the address of their memory operand
 * computed and checked first. Stack operations and near transfers have their own short
 * sequences. Everything else calls C, which interprets it.
 *
 * The check of one access, for a linear address in S1 (docs/why/tlb.md):
 *
 *	test  s1, size - 1 ; jnz 1f       not aligned: it could cross a page
 *	bextr s2, s1, rsp                 page number, 36 bits (emit.h)
 *	mov   s2, gs:[s2 * 8]             the view's addend for the page
 *	cmp   s2, [slot]                  is it what this site saw last time?
 *   1:	jne   stub
 *	add   s1, [slot]                  then the address does not wait for the table
 *
 * A site where the prediction fails often (scattered pages) waits for the table instead:
 *
 *	test  s2, s2 ; jz stub ; add s1, s2, and before a store: bt s1, 42 ; jc stub
 *
 * SAFE: the table is indexed with 36 bits, so it is read inside itself whatever S1 is. If bits
 * 48..63 of S1 are no sign extension, S1 + addend differs from a valid host address only in
 * these bits, which is not canonical: the access faults and the fault becomes the guest's #GP.
 */
#include "softkvm/state/slots.h"
#include "softkvm/translate/translate.h"

/* -- Flags ------------------------------------------------------------------------------------------ */

static void save_flags(struct tr *t)
{
	if (t->cold)
		call_to(&t->a, t->e->thunk.save_flags);
	else
		emit_save_flags(&t->a);
}

static void load_flags(struct tr *t)
{
	if (t->cold)
		call_to(&t->a, t->e->thunk.load_flags);
	else
		emit_load_flags(&t->a);
}

/* EFLAGS are about to be destroyed; `needed`: flags that somebody still reads. */
static void spend_flags(struct tr *t, uint16_t needed)
{
	if (t->flags != FLAGS_REG)
		return;
	if (needed) {
		save_flags(t);
		t->flags = FLAGS_MEM;
	} else {
		t->flags = FLAGS_DEAD;
	}
}

/* The flags must be in EFLAGS now if anybody reads them. */
static void want_flags(struct tr *t, uint16_t needed)
{
	if (needed && t->flags == FLAGS_MEM) {
		load_flags(t);
		t->flags = FLAGS_REG;
	}
}

/* Before the host form of instruction i. */
static void flags_for_insn(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];

	if (in->flags_r || in->flags_touch)
		want_flags(t, t->before[i]);
	t->map[i].flags = t->flags;
}

static void flags_after_insn(struct tr *t, int i)
{
	if (t->in[i].flags_touch)
		t->flags = FLAGS_REG;
}

/* All flags to vcpu.arith: the convention at gates and in C. */
static void flags_to_scr(struct tr *t)
{
	if (t->flags == FLAGS_REG)
		save_flags(t);
	t->flags = FLAGS_MEM;
}

/* -- Addresses --------------------------------------------------------------------------------------- */

/* dest = rip_page + off */
static void rip_plus(struct tr *t, int dest, int64_t off)
{
	bool wide = t->mode & MODE_64;

	mov_rv(&t->a, dest, VCPU(rip_page));
	if (off == (int32_t)off) {
		lea_rm(&t->a, wide, dest, dest, (int32_t)off);
		return;
	}
	lea_rm(&t->a, wide, dest, dest, (int32_t)(off / 2));
	lea_rm(&t->a, wide, dest, dest, (int32_t)(off - off / 2));
}

static uint16_t next_of(const struct tr *t, int i)
{
	return (uint16_t)(t->start[i] + t->in[i].len);
}

/* The effective address of instruction i's memory operand in `dest`; S1 and S2 may be lost. */
static void emit_ea(struct tr *t, int i, int dest)
{
	const struct insn *in = &t->in[i];
	bool wide = in->adsize == 8;
	int base, index;

	if (in->base == X86_RIP) {
		rip_plus(t, dest, (int64_t)next_of(t, i) + in->disp);
		if (!wide)
			mov_rr32(&t->a, dest, dest);
		return;
	}
	if (in->base == X86_REG_NONE && in->index == X86_REG_NONE) {
		mov_ri(&t->a, dest, wide ? (uint64_t)in->disp : (uint32_t)in->disp);
		return;
	}
	base = in->base == X86_REG_NONE ? -1 : emit_use(&t->a, in->base, H_S1);
	index = in->index == X86_REG_NONE ? -1 : emit_use(&t->a, in->index, H_S2);
	if (index < 0 && in->disp == 0 && wide)
		mov_rr(&t->a, dest, base);
	else if (index < 0 && in->disp == 0)
		mov_rr32(&t->a, dest, base);
	else if (index < 0)
		lea_rm(&t->a, wide, dest, base, (int32_t)in->disp);
	else
		lea_sib(&t->a, wide, dest, base, index, in->scale, (int32_t)in->disp);
}

static bool has_segment_base(const struct insn *in)
{
	return in->seg == X86_FS || in->seg == X86_GS;
}

/* S1 = linear address of the memory operand. */
static void emit_linear(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	int off = VCPU(seg) + (int)sizeof(struct kvm_segment) * in->seg +
		  (int)offsetof(struct kvm_segment, base);

	emit_ea(t, i, H_S1);
	if (!has_segment_base(in))
		return;
	mov_rv(&t->a, H_S2, off);
	lea_sib(&t->a, t->mode & MODE_64, H_S1, H_S1, H_S2, 1, 0);
}

/* -- Access checks ------------------------------------------------------------------------------------- */

static uint32_t jcc_to_stub(struct tr *t, unsigned cc)
{
	emit8(&t->a, 0x0f);
	emit8(&t->a, 0x80u | cc);
	emit32(&t->a, 0);
	return as_at(&t->a) - 4;
}

/* Jumps, ZF clear, if the access could cross a page; 0: it cannot. */
static uint32_t emit_alignment(struct tr *t, unsigned size, bool exact)
{
	struct as *a = &t->a;

	if (size == 1)
		return 0;
	if (!exact && (size == 2 || size == 4 || size == 8)) {
		emit8(a, 0x40); /* test s1b, size - 1 */
		emit8(a, 0xf6);
		emit8(a, 0xc0u | H_S1);
		emit8(a, size - 1);
	} else { /* Wide operands are often not aligned. Up to 512 bytes. */
		lea_rm(a, false, H_S2, H_S1, (int32_t)size - 1);
		emit8(a, 0x31); /* xor s2d, s1d */
		emit8(a, 0xc0u | H_S1 << 3 | H_S2);
		emit8(a, 0xf7); /* test s2d, 0x1000 */
		emit8(a, 0xc0u | H_S2);
		emit32(a, 0x1000);
	}
	return jcc_short(a, CC_NE);
}

/* S2 holds the table's entry: is it what the site saw last time? */
static void emit_predicted(struct tr *t, uint32_t slot, uint32_t crossing, struct stub *s)
{
	struct as *a = &t->a;

	emit8(a, 0x48); /* cmp s2, [slot] */
	emit8(a, 0x3b);
	emit_rip(a, H_S2, &t->e->slots[slot], 0);
	if (crossing) /* ZF is clear there: the long jump serves both */
		land(a, crossing);
	s->jcc = jcc_to_stub(t, CC_NE);
	emit8(a, 0x48); /* add s1, [slot] */
	emit8(a, 0x03);
	emit_rip(a, H_S1, &t->e->slots[slot], 0);
}

/* S2 holds the table's entry: is it one, and may it be written? */
static void emit_plain_check(struct tr *t, bool write, uint32_t crossing, struct stub *s)
{
	struct as *a = &t->a;

	alu_rr(a, 0x85, H_S2, H_S2); /* test s2, s2 */
	s->jcc = jcc_to_stub(t, CC_E);
	if (crossing) { /* rare: over the jump above */
		uint32_t over = jcc_short(a, CC_NE);

		land(a, crossing);
		s->crossing = jcc_to_stub(t, CC_NE);
		land(a, over);
	}
	alu_rr(a, 0x01, H_S1, H_S2); /* add s1, s2 */
	if (write) {
		bt_ri(a, H_S1, SLOT_VIEW_RO_BIT);
		s->read_only = jcc_to_stub(t, CC_B);
	}
}

/* In a cold block: a call. */
static void emit_cold_check(struct tr *t, unsigned size, bool write, bool group)
{
	unsigned k = 0;

	if (group) {
		mov_ri(&t->a, H_S2, size - 1);
		call_to(&t->a, t->e->thunk.check_group[write]);
		return;
	}
	while (1u << k < size)
		k++;
	call_to(&t->a, t->e->thunk.check[write][k]);
}

/* In a hot block: S1 = linear address -> S1 = host address. */
static void emit_hot_check(struct tr *t, int i, unsigned size, bool write, bool group)
{
	struct engine *e = t->e;
	struct as *a = &t->a;
	uint64_t gpa = t->page->gpa + t->start[i];
	bool plain = habit_has(e->habits.plain, gpa);
	uint32_t slot = e->n_slots++, crossing;
	struct stub *s = &t->stub[t->n_stubs++];

	*s = (struct stub){.site = slot};
	e->slots[slot] = 1; /* no addend, so the first execution misses */
	crossing = emit_alignment(t, size, habit_has(e->habits.unaligned, gpa));
	emit_vpn(a, H_S2, H_S1);
	emit_gs(a, 0x8b, H_S2, H_S2, 0);
	if (plain)
		emit_plain_check(t, write, crossing, s);
	else
		emit_predicted(t, slot, crossing, s);
	e->site[slot] = (struct site){.block = t->index, .back = as_at(a), .insn = (uint8_t)i,
				      .size = (uint16_t)size, .write = write, .group = group,
				      .misses = plain ? SITE_MISSES + 1 : 0};
}

/* S1 = linear address -> S1 = host address, for an access or a group of them. */
static void emit_range_check(struct tr *t, int i, unsigned size, bool write, bool group)
{
	spend_flags(t, t->before[i]);
	if (t->cold)
		emit_cold_check(t, size, write, group);
	else
		emit_hot_check(t, i, size, write, group);
}

static void emit_check(struct tr *t, int i, unsigned size, bool write)
{
	emit_range_check(t, i, size, write, false);
}

/* Makes memory at base + disp reachable, by a check of its own or as part of a group. `size` and
 * `write` are of this access; S1 and S2 are lost. */
static void reach_linear(struct tr *t, int i, unsigned size, bool write)
{
	emit_check(t, i, size, write);
	t->place = (struct place){H_S1, 0};
}

/* The same for an access that may be in a group; `linear` puts its address in S1. */
static void reach(struct tr *t, int i, unsigned size, bool write,
		  void (*linear)(struct tr *t, int i))
{
	struct group *g = &t->group;
	struct access a;

	switch (group_role(t, i, &a)) {
	case GROUP_MEMBER:
		t->place = (struct place){H_CB, a.disp - g->lo};
		break;
	case GROUP_LEADER:
		lea_rm(&t->a, true, H_S1, emit_use(&t->a, a.base, H_S1), g->lo);
		emit_range_check(t, i, g->len, g->write, true);
		mov_rr(&t->a, H_CB, H_S1);
		t->place = (struct place){H_CB, a.disp - g->lo};
		break;
	default:
		linear(t, i);
		reach_linear(t, i, size, write);
	}
	t->map[i].flags = t->flags;
}

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

static void call_insn(struct tr *t, int i)
{
	copy_words(&call_pooled(t, (uint8_t)i)->in, &t->in[i], sizeof(struct insn));
}

void lower_step(struct tr *t)
{
	t->flags = FLAGS_REG;
	call_pooled(t, POOLED_STEP);
	t->ended = true;
}

/* -- Transfers --------------------------------------------------------------------------------------------- */

/* S1 is the guest address to go on at; flags are in vcpu.arith. */
static void leave_by_gate(struct tr *t)
{
	emit_gate_jump(&t->a);
	t->ended = true;
}

/* To rip_page + off, in this page or another. */
static void go_to(struct tr *t, int64_t off, bool last)
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

static int64_t target_of(const struct tr *t, int i)
{
	return (int64_t)next_of(t, i) + (int64_t)t->in[i].imm;
}

static void lower_jcc(struct tr *t, int i)
{
	int64_t off = target_of(t, i);
	unsigned cc = t->in[i].op & 15;

	flags_for_insn(t, i);
	if (off >= 0 && off < 4096) {
		tr_exit_jcc(t, cc, (uint16_t)off);
	} else {
		uint32_t over;

		/* The gate's code stands here, jumped over when the condition is false. */
		over = jcc_to_stub(t, cc ^ 1);
		flags_to_scr(t);
		rip_plus(t, H_S1, off);
		leave_by_gate(t);
		t->ended = false;
		*(uint32_t *)(void *)(t->e->code_rw + over) = as_at(&t->a) - (over + 4);
		t->flags = FLAGS_REG;
	}
}

/* -- Stack --------------------------------------------------------------------------------------------------- */

static unsigned stack_size(const struct tr *t)
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
static void check_push_alone(struct tr *t, int i)
{
	push_linear(t, i);
	reach_linear(t, i, stack_size(t), true);
	t->map[i].flags = t->flags;
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

static void push_from(struct tr *t, int host)
{
	mov_mr(&t->a, t->mode & MODE_64, t->place.reg, t->place.disp, host);
	move_sp(t, -(int)stack_size(t));
}

static void lower_push_r(struct tr *t, int i)
{
	check_push(t, i);
	push_from(t, emit_use(&t->a, t->in[i].oreg, H_S2));
}

static void lower_push_i(struct tr *t, int i)
{
	check_push(t, i);
	emit_rex(&t->a, t->mode & MODE_64, 0, 0, t->place.reg);
	emit8(&t->a, 0xc7);
	emit_mem(&t->a, 0, t->place.reg, t->place.disp);
	emit32(&t->a, (uint32_t)t->in[i].imm);
	move_sp(t, -(int)stack_size(t));
}

static void lower_pop_r(struct tr *t, int i)
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

static void lower_leave(struct tr *t, int i)
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
	t->map[i].flags = t->flags;
	mov_rm(&t->a, t->mode & MODE_64, H_S2, H_S1, 0);
}

static void lower_push_m(struct tr *t, int i)
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

static void lower_call(struct tr *t, int i)
{
	push_return(t, i);
	go_to(t, target_of(t, i), true);
}

/* S1 = the register or memory operand of an indirect jump, zero-extended. */
static void lower_jmp_rm(struct tr *t, int i)
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

static void lower_call_rm(struct tr *t, int i)
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

static void lower_ret(struct tr *t, int i)
{
	flags_to_scr(t);
	check_pop(t, i);
	load_place(t, H_S1);
	move_sp(t, (int)(stack_size(t) + (t->in[i].imm & 0xffff)));
	leave_by_gate(t);
}

/* -- Plain instructions ---------------------------------------------------------------------------------------- */

static void lower_native(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];

	if (in->has_mem && in->mem_size)
		reach(t, i, in->mem_size, in->mem_w, emit_linear);
	flags_for_insn(t, i);
	emit_native(&t->a, in, t->code + (t->start[i] - t->at), &t->place);
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
	t->map[i].flags = t->flags;
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

/* rep.c: the thunk does it, or C. */
static void lower_rep(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	unsigned k = in->opsize == 8 ? 3 : in->opsize / 2;
	uint32_t done;

	flags_to_scr(t);
	call_to(&t->a, in->kind == X86_MOVS ? t->e->thunk.rep_movs[k] :
					      t->e->thunk.rep_stos[k]);
	done = jcc_short(&t->a, CC_E);
	call_insn(t, i);
	land(&t->a, done);
	t->flags = FLAGS_MEM;
}

/* LOOP and JRCXZ: no flags on either side. */
static void lower_loop(struct tr *t, int i)
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

/* -- Small system instructions ------------------------------------------------------------- */

/* op byte [vcpu + off], imm: 80 /digit ib */
static void op_vi8(struct tr *t, unsigned digit, int off, unsigned imm)
{
	emit8(&t->a, 0x80);
	emit_vcpu(&t->a, (int)digit, off, 1);
	emit8(&t->a, imm);
}

#define IF_BYTE (VCPU(rflags) + 1)
#define IF_BIT 2u /* RFLAGS_IF in that byte */

static void lower_cli(struct tr *t, int i)
{
	spend_flags(t, t->before[i]);
	op_vi8(t, 4, IF_BYTE, 0xff & ~IF_BIT); /* and */
}

/* While no interrupt waits for a window there is nothing that the shadow of STI could delay. */
static void lower_sti(struct tr *t, int i)
{
	uint32_t waiting, done;

	flags_to_scr(t);
	op_vi8(t, 7, VCPU(event.window), 0); /* cmp */
	waiting = jcc_short(&t->a, CC_NE);
	op_vi8(t, 1, IF_BYTE, IF_BIT); /* or */
	emit8(&t->a, 0xeb);
	emit8(&t->a, 0);
	done = as_at(&t->a) - 1;
	land(&t->a, waiting);
	call_insn(t, i);
	land(&t->a, done);
	t->flags = FLAGS_MEM;
}

/* movzx r, byte [vcpu + off] */
static void movzx_rv8(struct tr *t, int r, int off)
{
	emit8(&t->a, 0x0f);
	emit8(&t->a, 0xb6);
	emit_vcpu(&t->a, r, off, 0);
}

static void lower_pushf(struct tr *t, int i)
{
	struct as *a = &t->a;

	flags_to_scr(t);
	check_push_alone(t, i);
	mov_vr(a, VCPU(temp), H_RAX);
	mov_rv(a, H_S2, VCPU(rflags));
	emit8(a, 0x81); /* and edi, ~(arithmetic, RF, VM) */
	emit8(a, 0xe0u | H_S2);
	emit32(a, (uint32_t)~(X86_ARITH | RFLAGS_RF | RFLAGS_VM));
	movzx_rv8(t, H_RAX, VCPU(arith)); /* OF */
	op_ri8(&t->a, false, 0xc1, 4, H_RAX, 11);
	alu_rr(a, 0x09, H_S2, H_RAX); /* or */
	movzx_rv8(t, H_RAX, VCPU(arith) + 1); /* the others, and bit 1 */
	alu_rr(a, 0x09, H_S2, H_RAX);
	mov_rv(a, H_RAX, VCPU(temp));
	push_from(t, H_S2);
}

static void lower_rdtsc(struct tr *t, int i)
{
	struct as *a = &t->a;

	spend_flags(t, t->before[i]);
	if (t->in[i].kind == X86_RDTSCP) {
		emit8(a, 0x0f); /* lfence: it waits for what is before it */
		emit8(a, 0xae);
		emit8(a, 0xe8);
		mov_rv32(a, H_RCX, VCPU(msr.tsc_aux));
	}
	emit8(a, 0x0f);
	emit8(a, 0x31);
	op_ri8(&t->a, true, 0xc1, 4, H_RDX, 32);
	alu_rr(a, 0x09, H_RAX, H_RDX);
	emit_op_rv(a, 0x03, H_RAX, VCPU(tsc_offset));
	mov_rr(a, H_RDX, H_RAX);
	op_ri8(&t->a, true, 0xc1, 5, H_RDX, 32);
	mov_rr32(a, H_RAX, H_RAX);
}

static void lower_mov_seg_r(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];
	int host = host_reg[in->rm], to = host >= 0 ? host : H_S1;
	int off = VCPU(seg) + (int)sizeof(struct kvm_segment) * (in->reg & 7) +
		  (int)offsetof(struct kvm_segment, selector);

	emit8(&t->a, 0x0f); /* movzx s2d, word [selector] */
	emit8(&t->a, 0xb7);
	emit_vcpu(&t->a, H_S2, off, 0);
	if (host < 0 && in->opsize == 2)
		mov_rv(&t->a, H_S1, VGPR(in->rm));
	if (in->opsize == 2)
		emit8(&t->a, 0x66);
	mov_rr32(&t->a, to, H_S2);
	if (host < 0)
		mov_vr(&t->a, VGPR(in->rm), H_S1);
}

/* -- Choice ---------------------------------------------------------------------------------------------------- */

/* Can the sequences above be used for this instruction? If not, C executes it. */
bool is_inline(const struct tr *t, const struct insn *in)
{
	bool wide = t->mode & MODE_64;

	if ((in->simd || in->x87) && t->mode & MODE_NOFPU)
		return false;
	if (in->enc != X86_LEGACY && in->simd && t->mode & MODE_NOAVX)
		return false;
	if (in->enc == X86_EVEX && !(t->mode & MODE_AVX512))
		return false;
	if (in->has_mem && (in->adsize == 2 || (has_segment_base(in) && !wide &&
						!(t->mode & MODE_FSGS))))
		return false;
	if (in->has_mem && in->seg == X86_CS && in->mem_w && !wide) /* #GP */
		return false;
	if (in->has_mem && !wide && in->seg == X86_CS && in->mem_w)
		return false; /* code segments are not writable */
	switch (in->kind) {
	case X86_NATIVE:
		return in->mem_size <= 256 && (in->mem_size != 0 || !in->has_mem);
	case X86_PUSH_R: case X86_POP_R: case X86_PUSH_I: case X86_PUSH_M: case X86_LEAVE:
		return in->opsize == stack_size(t);
	case X86_CALL_REL: case X86_JMP_REL: case X86_RET: case X86_JCC:
		return in->opsize == stack_size(t) || (wide && in->opsize != 2);
	case X86_CALL_RM: case X86_JMP_RM:
		return in->opsize == stack_size(t) && (in->has_mem || in->rm != X86_RSP);
	case X86_LEA: case X86_NOP: case X86_PAUSE: case X86_CLC_STC_CMC:
		return true;
	case X86_MASKED_MEM:
		return in->has_mem && in->mem_size <= 64;
	case X86_CLI: case X86_STI:
		return !(t->mode & MODE_USER);
	case X86_RDTSC: case X86_RDTSCP:
		return !(t->mode & MODE_NOTSC);
	case X86_MOV_SEG_R:
		return !in->has_mem;
	case X86_PUSHF:
		return wide && in->opsize == 8;
	case X86_BT_MEM:
		return in->adsize == stack_size(t);
	case X86_MOVS: case X86_STOS:
		return wide && in->adsize == 8 && !has_segment_base(in) &&
		       in->prefix & (X86_PFX_F2 | X86_PFX_F3);
	case X86_LOOP: case X86_JCXZ:
		return in->adsize == stack_size(t) && in->op >= 0xe2 && in->opsize != 2;
	default:
		return false;
	}
}

static void lower_one(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];

	if (!is_inline(t, in)) {
		call_insn(t, i);
		return;
	}
	switch (in->kind) {
	case X86_NATIVE: case X86_CLC_STC_CMC: case X86_MASKED_MEM: lower_native(t, i); break;
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
	case X86_MOVS: case X86_STOS: lower_rep(t, i); break;
	case X86_CLI: lower_cli(t, i); break;
	case X86_STI: lower_sti(t, i); break;
	case X86_PUSHF: lower_pushf(t, i); break;
	case X86_RDTSC: case X86_RDTSCP: lower_rdtsc(t, i); break;
	case X86_MOV_SEG_R: lower_mov_seg_r(t, i); break;
	case X86_BT_MEM: lower_bt_mem(t, i); break;
	}
}

void lower(struct tr *t, int i)
{
	t->map[i].flags = t->flags;
	t->map[i].cb = t->group.active;
	if (!is_inline(t, &t->in[i]))
		t->group.active = false;
	lower_one(t, i);
	group_after(t, i);
}
