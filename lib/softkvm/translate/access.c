/* SPDX-License-Identifier: MIT */
/*
 * Lowering: the flags, the address and the check of a memory access.
 *
 * The check of one access, for a linear address in S1 (docs/why/tlb.md):
 *
 *	test  s1, size - 1 ; jnz 1f       not aligned: it could cross a page
 *	bextr s2, s1, rsp                 page number, 36 bits (emit.h)
 *	mov   s2, gs:[s2 * 8]             the view's addend for the page (or: add s2, [table];
 *	                                  mov s2, [s2 * 8])
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
#include "softkvm/translate/lower.h"

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
void spend_flags(struct tr *t, uint16_t needed)
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
void flags_for_insn(struct tr *t, int i)
{
	const struct insn *in = &t->in[i];

	if (in->flags_r || in->flags_touch)
		want_flags(t, t->before[i]);
	t->flags_then = t->flags;
}

void flags_after_insn(struct tr *t, int i)
{
	if (t->in[i].flags_touch)
		t->flags = FLAGS_REG;
}

/* All flags to vcpu.arith: the convention at gates and in C. */
void flags_to_scr(struct tr *t)
{
	if (t->flags == FLAGS_REG)
		save_flags(t);
	t->flags = FLAGS_MEM;
}

/* -- Addresses --------------------------------------------------------------------------------------- */

/* dest = rip_page + off */
void rip_plus(struct tr *t, int dest, int64_t off)
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

uint16_t next_of(const struct tr *t, int i)
{
	return (uint16_t)(t->start[i] + t->in[i].len);
}

/* The effective address of instruction i's memory operand in `dest`; S1 and S2 may be lost. */
void emit_ea(struct tr *t, int i, int dest)
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

bool has_segment_base(const struct insn *in)
{
	return in->seg == X86_FS || in->seg == X86_GS;
}

/* S1 = linear address of the memory operand. */
void emit_linear(struct tr *t, int i)
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
		test_same_page(a);
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
	s->jcc = jcc_far(&t->a, CC_NE);
	emit8(a, 0x48); /* add s1, [slot] */
	emit8(a, 0x03);
	emit_rip(a, H_S1, &t->e->slots[slot], 0);
}

/* S2 holds the table's entry: is it one, and may it be written? */
static void emit_plain_check(struct tr *t, bool write, uint32_t crossing, struct stub *s)
{
	struct as *a = &t->a;

	alu_rr(a, 0x85, H_S2, H_S2); /* test s2, s2 */
	s->jcc = jcc_far(&t->a, CC_E);
	if (crossing) { /* rare: over the jump above */
		uint32_t over = jcc_short(a, CC_NE);

		land(a, crossing);
		s->crossing = jcc_far(&t->a, CC_NE);
		land(a, over);
	}
	alu_rr(a, 0x01, H_S1, H_S2); /* add s1, s2 */
	if (write) {
		bt_ri(a, H_S1, SLOT_VIEW_RO_BIT);
		s->read_only = jcc_far(&t->a, CC_B);
	}
}

static unsigned kind_of(const struct tr *t, int i, bool write, bool group)
{
	return (write ? KIND_STORE : 0) | (group || x86_is_atomic(&t->in[i]) ? KIND_ONE_PAGE : 0);
}

/* In a cold block: a call. */
static void emit_cold_check(struct tr *t, int i, unsigned size, bool write, bool group)
{
	if (group) {
		mov_ri(&t->a, H_S2, size - 1);
		call_to(&t->a, t->e->thunk.check_group[write]);
		return;
	}
	call_to(&t->a, t->e->thunk.check[kind_of(t, i, write, false)][log2_up(size)]);
}

/* In a hot block: S1 = linear address -> S1 = host address. */
static void emit_hot_check(struct tr *t, int i, unsigned size, bool write, bool group)
{
	struct engine *e = t->e;
	struct as *a = &t->a;
	uint64_t gpa = t->page->gpa + t->start[i];
	bool plain = habit_has(&e->habits, HABIT_PLAIN, gpa);
	uint32_t slot = e->n_slots++, crossing;
	struct stub *s = &t->stub[t->n_stubs++];

	*s = (struct stub){.site = slot};
	e->slots[slot] = 1; /* no addend, so the first execution misses */
	crossing = emit_alignment(t, size, habit_has(&e->habits, HABIT_UNALIGNED, gpa));
	emit_page_number_of(a, H_S2, H_S1, H_RSP);
	emit_entry_op(a, 0x8b, H_S2, H_S2);
	if (plain)
		emit_plain_check(t, write, crossing, s);
	else
		emit_predicted(t, slot, crossing, s);
	e->site[slot] = (struct site){.block = t->index, .back = as_at(a), .insn = (uint8_t)i,
				      .size = size & 0x3fff, .kind = kind_of(t, i, write, group) & 3,
				      .group = group,
				      .misses = plain ? SITE_MISSES + 1 : 0};
}

/* S1 = linear address -> S1 = host address, for an access or a group of them. */
static void emit_range_check(struct tr *t, int i, unsigned size, bool write, bool group)
{
	spend_flags(t, t->before[i]);
	if (t->cold)
		emit_cold_check(t, i, size, write, group);
	else
		emit_hot_check(t, i, size, write, group);
}

void emit_check(struct tr *t, int i, unsigned size, bool write)
{
	emit_range_check(t, i, size, write, false);
}

void reach_linear(struct tr *t, int i, unsigned size, bool write)
{
	emit_check(t, i, size, write);
	t->place = (struct place){H_S1, 0};
}

static bool is_live(const struct tr *t, const struct group *g)
{
	return t->live >> (g - t->group) & 1;
}

static int parking_of(const struct tr *t, const struct group *g)
{
	return VCPU(parked) + 8 * (int)(g - t->group);
}

/* CB will be g's: what another group that goes on has there is put away. */
static void clear_cb(struct tr *t, struct group *g)
{
	struct group *old = t->in_cb;

	if (old != g && is_live(t, old) && !old->parked) {
		mov_vr(&t->a, parking_of(t, old), H_CB);
		old->parked = true;
	}
	t->in_cb = g;
}

/* The register that holds a group's address: CB, or S1 if that is another's. */
static int group_register(struct tr *t, struct group *g)
{
	bool taken = t->in_cb != g && is_live(t, t->in_cb);

	if (t->in_cb != g)
		mov_rv(&t->a, taken ? H_S1 : H_CB, parking_of(t, g));
	if (!taken)
		t->in_cb = g;
	return taken ? H_S1 : H_CB;
}

void reach(struct tr *t, int i, unsigned size, bool write,
	   void (*linear)(struct tr *t, int i))
{
	const struct access *a = &t->effect[i].access;
	struct group *g;

	switch (group_role(t, i, &g)) {
	case GROUP_MEMBER:
		t->place = (struct place){group_register(t, g), (int32_t)(a->disp - g->lo)};
		break;
	case GROUP_LEADER:
		clear_cb(t, g);
		lea_rm(&t->a, true, H_S1, emit_use(&t->a, a->base, H_S1), (int32_t)g->lo);
		emit_range_check(t, i, g->len, g->write, true);
		mov_rr(&t->a, H_CB, H_S1);
		t->place = (struct place){H_CB, (int32_t)(a->disp - g->lo)};
		break;
	default:
		linear(t, i);
		reach_linear(t, i, size, write);
	}
	t->flags_then = t->flags;
}
