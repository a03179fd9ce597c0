/* SPDX-License-Identifier: MIT */
/*
 * REP MOVS and REP STOS without a way to C, which costs more than most of them.
 *
 * The thunk goes from page end to page end: it translates the two addresses by the table, as a
 * cold block's check does, and lets the host's own instruction do what lies in a page on each
 * side. It returns with ZF set, or with ZF clear and RCX, RSI, RDI between two elements: then C
 * executes the rest. That is so when
 *
 *	the guest's DF is set
 *	an element crosses pages
 *	an address is not canonical, or the table has no entry, or none to write through
 *	somebody waits (vcpu.requests), asked after each piece
 *
 * There is a thunk for 64-bit code, and one for 32-bit code, whose registers are their lower halves, and
 * whose addresses go on at 0 behind the last page; a piece ends there at the latest.
 *
 * SAFE: a piece lies between the checked address and the end of its page. The host instruction
 * does all of it, or it faults because the client's memory is not there (mmu/guarded.h): then
 * run/signal.c returns from the thunk with ZF clear. What RCX lacks then is in SCR_LEFT.
 */
#include "softkvm/translate/translate.h"

#define REP_SLOW 12

bool string_repeats(const struct insn *in)
{
	return in->prefix & (X86_PFX_F2 | X86_PFX_F3);
}

bool string_is_flat(uint16_t mode, const struct insn *in)
{
	return in->adsize == (mode & MODE_64 ? 8 : 4) && in->seg != X86_FS && in->seg != X86_GS;
}

bool rep_has_thunk(uint16_t mode, const struct insn *in)
{
	return (in->kind == X86_MOVS || in->kind == X86_STOS) && string_repeats(in) &&
	       string_is_flat(mode, in);
}

struct rep {
	struct as *a;
	bool movs, wide;
	unsigned k;      /* log2 of an element */
	uint32_t slow[REP_SLOW];
	int n;
};

static void slow_if(struct rep *r, unsigned cc)
{
	r->slow[r->n++] = jcc_far(r->a, cc);
}

/* op r32, imm32 of group 81 */
static void op_ri32(struct as *a, unsigned digit, int r, uint32_t imm)
{
	emit_rex(a, false, 0, 0, r);
	emit8(a, 0x81);
	emit8(a, 0xc0u | digit << 3 | (r & 7));
	emit32(a, imm);
}

/* to = bytes from `reg` to the end of its page */
static void left_in_page(struct as *a, int to, int reg)
{
	mov_rr32(a, to, reg);
	op_ri32(a, 4, to, 4095); /* and */
	emit8(a, 0xf7); /* neg */
	emit8(a, 0xd8u | (to & 7));
	op_ri32(a, 0, to, 4096); /* add */
}

/* vcpu.temp = elements of the next piece, not 0. */
static void measure_piece(struct rep *r)
{
	struct as *a = r->a;

	left_in_page(a, H_S2, H_GDI);
	if (r->movs) {
		left_in_page(a, H_S1, H_GSI);
		emit8(a, 0x39); /* cmp s2d, s1d */
		emit8(a, 0xc0u | H_S1 << 3 | H_S2);
		emit8(a, 0x0f); /* cmova s2d, s1d */
		emit8(a, 0x47);
		emit8(a, 0xc0u | H_S2 << 3 | H_S1);
	}
	if (r->k) {
		op_ri8(a, false, 0xc1, 5, H_S2, r->k); /* shr */
		slow_if(r, CC_E);
	}
	alu_rr(a, 0x39, H_RCX, H_S2); /* cmp rcx, s2 */
	emit8(a, 0x48); /* cmovb s2, rcx */
	emit8(a, 0x0f);
	emit8(a, 0x42);
	emit8(a, 0xc0u | H_S2 << 3 | H_RCX);
	mov_vr(a, VCPU(temp), H_S2);
}

/* to = host address of the guest address in reg. */
static void locate(struct rep *r, int to, int reg, bool write)
{
	struct as *a = r->a;

	mov_rr(a, to, reg);
	if (r->wide) { /* canonical? */
		op_ri8(a, true, 0xc1, 4, to, 16);
		op_ri8(a, true, 0xc1, 7, to, 16);
		alu_rr(a, 0x39, to, reg); /* cmp */
		slow_if(r, CC_NE);
	}
	emit_page_number(a, to);
	emit_entry_op(a, 0x8b, to, to);
	alu_rr(a, 0x85, to, to);
	slow_if(r, CC_E);
	alu_rr(a, 0x01, to, reg);
	if (write) {
		bt_ri(a, to, SLOT_VIEW_RO_BIT);
		slow_if(r, CC_B);
	}
}

/* What 32-bit code does not see is 0 from here on. */
static void cut_addresses(struct rep *r)
{
	if (r->wide)
		return;
	if (r->movs)
		mov_rr32(r->a, H_GSI, H_GSI);
	mov_rr32(r->a, H_GDI, H_GDI);
}

/* RCX elements; RSI and RDI of the guest move first. */
static void repeat(struct rep *r)
{
	struct as *a = r->a;
	unsigned size = 1u << r->k;

	if (r->movs)
		lea_sib(a, true, H_GSI, H_GSI, H_RCX, (int)size, 0);
	lea_sib(a, true, H_GDI, H_GDI, H_RCX, (int)size, 0);
	emit8(a, 0xf3);
	if (size == 2)
		emit8(a, 0x66);
	if (size == 8)
		emit8(a, 0x48);
	emit8(a, (r->movs ? 0xa4u : 0xaau) | (size > 1));
}

static uint32_t emit_rep(struct as *a, bool movs, bool wide, unsigned k)
{
	struct rep r = {.a = a, .movs = movs, .wide = wide, .k = k};
	uint32_t at = as_at(a), next, none, part;
	int i;

	emit_test_df(a);
	slow_if(&r, CC_NE);
	(wide ? alu_rr : alu_rr32)(a, 0x85, H_RCX, H_RCX); /* test */
	none = jcc_far(a, CC_E);
	if (!wide)
		mov_rr32(a, H_RCX, H_RCX);
	next = as_at(a);
	cut_addresses(&r);
	measure_piece(&r);
	if (movs)
		locate(&r, H_S1, H_GSI, false);
	locate(&r, H_S2, H_GDI, true);
	emit_op_rv(a, 0x3b, H_RCX, VCPU(temp)); /* cmp rcx, [temp] */
	part = jcc_short(a, CC_NE);
	emit_rex(a, true, 0, 0, 0); /* mov qword [left], 0 */
	emit8(a, 0xc7);
	emit_vcpu(a, 0, VSCR(SCR_LEFT), 4);
	emit32(a, 0);
	repeat(&r);
	cut_addresses(&r);
	patch_rel(a->e, none, as_at(a));
	emit8(a, 0x31); /* xor esi, esi: ZF */
	emit8(a, 0xf6);
	emit8(a, 0xc3);

	land(a, part);
	emit_op_rv(a, 0x2b, H_RCX, VCPU(temp)); /* sub rcx, [temp] */
	mov_vr(a, VSCR(SCR_LEFT), H_RCX);
	mov_rv(a, H_RCX, VCPU(temp));
	repeat(&r);
	mov_rv(a, H_RCX, VSCR(SCR_LEFT));
	emit_poll_test(a);
	jcc_to(a, CC_E, next);
	for (i = 0; i < r.n; i++)
		patch_rel(a->e, r.slow[i], as_at(a));
	alu_rr(a, 0x85, H_RSP, H_RSP); /* test rsp, rsp: no ZF */
	emit8(a, 0xc3);
	return at;
}

void rep_emit(struct as *a)
{
	unsigned k, wide;

	for (wide = 0; wide < 2; wide++)
		for (k = 0; k < 4; k++) {
			a->e->thunk.rep_movs[wide][k] = emit_rep(a, true, wide, k);
			a->e->thunk.rep_stos[wide][k] = emit_rep(a, false, wide, k);
		}
}
