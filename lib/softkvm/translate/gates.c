/* SPDX-License-Identifier: MIT */
/*
 * Gates, where indirect jumps enter blocks, and the other small entries that blocks get when they
 * need them. The invariants are at the top of thunks.c.
 */
#include "softkvm/translate/emit.h"
#include "softkvm/translate/helpers.h"

/* -- The jump ------------------------------------------------------------------------ */

/* S2 = twice the jump cache's index of address S1, plus what stands for GS base: a scale of 8 does
 * the rest. */
_Static_assert(JC_SIZE == 1u << 16 && sizeof(struct jump) == 16, "MOVZX, ADD");
static void emit_jump_index(struct as *a)
{
	movzx_rr16(a, H_S2, H_S1);
	alu_rr32(a, 0x01, H_S2, H_S2); /* add */
	emit_base(a, H_S2);
}

/* S1 is the guest address to go on at; flags are in vcpu.arith. */
void emit_gate_jump(struct as *a)
{
	emit_jump_index(a);
	if (a->e->gs != GS_UNUSED)
		emit8(a, 0x65);
	emit8(a, 0xff); /* jmp [s2 * 8 + code] */
	emit8(a, 0x24);
	emit8(a, 0xc0u | H_S2 << 3 | 5);
	emit32(a, (uint32_t)JC_OFF(code));
}

/*
 * An indirect jump whose jump cache entry is another address's: the second jump cache may know it,
 * and then the entry is overwritten. (Of two hot gates 64 KiB apart each jump would come to C.) An
 * empty entry is C's to fill, for it goes into a log; one that is S1's own led here because of a
 * request, or because its block is gone. CB is dead at gates.
 */
static uint32_t emit_gate_miss(struct as *a)
{
	uint32_t at = as_at(a), slow[5];
	int n = 0, i;

	emit_scaled(a, 0x8b, H_CB, H_S2, JC_OFF(lin));
	alu_rr(a, 0x39, H_CB, H_S1); /* cmp */
	slow[n++] = jcc_short(a, CC_E);
	mov_ri(a, H_S2, JC_NONE);
	alu_rr(a, 0x39, H_CB, H_S2); /* cmp */
	slow[n++] = jcc_short(a, CC_E);
	mov_ri(a, H_CB, JUMPED_HASH);
	imul_rr(a, H_CB, H_S1);
	op_ri8(a, true, 0xc1, 5, H_CB, 64 - JUMPED_BITS); /* shr */
	op_ri8(a, true, 0xc1, 4, H_CB, log2_up(sizeof(struct jumped))); /* shl */
	emit_op_rv(a, 0x03, H_CB, VSCR(SCR_JUMPED)); /* add */
	cmp_mr(a, H_CB, offsetof(struct jumped, lin), H_S1);
	slow[n++] = jcc_short(a, CC_NE);
	mov_rv(a, H_S2, VSCR(SCR_AGE));
	cmp_mr(a, H_CB, offsetof(struct jumped, age), H_S2);
	slow[n++] = jcc_short(a, CC_NE);
	mov_rm(a, false, H_CB, H_CB, offsetof(struct jumped, gate));
	emit_op_rv(a, 0x03, H_CB, VSCR(SCR_CODE));
	emit_rex(a, false, 0, 0, H_CB); /* cmp byte [cb], 0xe9: block_drop() */
	emit8(a, 0x80);
	emit_mem(a, 7, H_CB, 0);
	emit8(a, 0xe9);
	slow[n++] = jcc_short(a, CC_E);
	emit_jump_index(a);
	emit_scaled(a, 0x89, H_CB, H_S2, JC_OFF(code));
	emit_scaled(a, 0x89, H_S1, H_S2, JC_OFF(lin));
	emit8(a, 0x48); /* inc qword [gate_swaps] */
	emit8(a, 0xff);
	emit_vcpu(a, 0, VCPU(stat.gate_swaps), 0);
	emit_rex(a, false, 0, 0, H_CB); /* jmp cb */
	emit8(a, 0xff);
	emit8(a, 0xe0u | (H_CB & 7));
	for (i = 0; i < n; i++)
		land(a, slow[i]);
	emit_jumped(a, helper_gate_miss);
	return at;
}

void gates_emit(struct as *a)
{
	a->e->thunk.gate_miss = emit_gate_miss(a);
	a->e->thunk.gate = as_at(a);
	mov_rv(a, H_S1, VSCR(SCR_S1));
	emit_gate_jump(a);
}

/* -- Entries of blocks --------------------------------------------------------------- */

void emit_poll_test(struct as *a)
{
	emit8(a, 0x83);
	emit_vcpu(a, 7, VCPU(requests), 1);
	emit8(a, 0);
}

static void emit_block_number(struct as *a, const struct block *b)
{
	emit32(a, (uint32_t)(b - a->e->block));
}

/* Invariant 3 in. */
void emit_gate(struct as *a, uint16_t at, bool poll, bool load_flags)
{
	emit_scaled(a, 0x3b, H_S1, H_S2, JC_OFF(lin)); /* cmp s1, gs:[lin] */
	jcc_to(a, CC_NE, a->e->thunk.gate_miss);
	if (poll) { /* S1 is where to go on, and C looks at the requests there */
		emit_poll_test(a);
		jcc_to(a, CC_NE, a->e->thunk.gate_miss);
	}
	lea_rm(a, true, H_S1, H_S1, -(int32_t)at);
	mov_vr(a, VCPU(rip_page), H_S1);
	if (load_flags)
		emit_load_flags(a);
}

/* To a block that crosses into the next page: through the jump cache. */
static void emit_crossing_entry(struct as *a, const struct block *b, bool save_flags)
{
	if (save_flags)
		emit_save_flags(a);
	mov_rv(a, H_S1, VCPU(rip_page));
	lea_rm(a, b->mode & MODE_64, H_S1, H_S1, b->at);
	emit_gate_jump(a);
}

/* Invariant 4 out. */
static void emit_entry(struct as *a, struct block *b, enum entry which)
{
	uint32_t asked = 0;

	if (b->over && which != ENTRY_GATE) {
		emit_crossing_entry(a, b, which == ENTRY_POLL);
		return;
	}
	if (which == ENTRY_GATE) {
		emit_gate(a, b->at, true, b->live_in);
		jmp_to(a, b->main);
		return;
	}
	if (which == ENTRY_POLL && b->live_in)
		emit_save_flags(a);
	if (which != ENTRY_MEM) {
		emit_poll_test(a);
		asked = jcc_short(a, CC_NE);
	}
	if (b->live_in)
		emit_load_flags(a);
	jmp_to(a, b->main);
	if (which == ENTRY_MEM)
		return;
	land(a, asked);
	call_to(a, a->e->thunk.poll);
	emit_block_number(a, b);
}

uint32_t entry_get(struct engine *e, struct block *b, enum entry which)
{
	struct region *r;
	struct as a;

	if (b->over && which == ENTRY_MEM_POLL)
		which = ENTRY_MEM;
	if (which == ENTRY_MEM && !b->live_in && !b->over)
		return b->main;
	if (which == ENTRY_MEM_POLL && !b->live_in)
		which = ENTRY_POLL;
	if (b->entry[which])
		return b->entry[which];
	r = region_at(e, b->main);
	if (r->at + ENTRY_ROOM > r->end)
		return 0;
	as_init(&a, e, r->at);
	b->entry[which] = as_at(&a);
	emit_entry(&a, b, which);
	r->at = as_at(&a);
	e->c->stat.code_bytes += r->at - b->entry[which];
	return b->entry[which];
}
