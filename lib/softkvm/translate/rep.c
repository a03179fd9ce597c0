/* SPDX-License-Identifier: MIT */
/*
 * REP MOVS and REP STOS that stay inside a page on each side: most of them copy a few bytes, and
 * the way to C costs more than that.
 *
 * The thunk translates the two addresses by the table, as a cold block's check does, and lets
 * the host's own instruction do the work. It returns with ZF set, or with ZF clear and nothing
 * done: then C executes the instruction. That is so when
 *
 *	the guest's DF is set
 *	RCX is more than fits in a page, or a side crosses one
 *	an address is not canonical, or the table has no entry, or none to write through
 *
 * SAFE: what is copied lies between the checked address and the end of its page. The host
 * instruction cannot fault, so RCX is 0 afterwards, and RSI and RDI moved by the length before.
 */
#include "softkvm/state/slots.h"
#include "softkvm/translate/translate.h"

#define REP_SLOW 12

struct rep {
	struct as *a;
	uint32_t slow[REP_SLOW];
	int n;
};

static void slow_if(struct rep *r, unsigned cc)
{
	jcc_to(r->a, cc, 0);
	r->slow[r->n++] = as_at(r->a) - 4;
}

/* op r32, imm32 of group 81 */
static void op_ri32(struct as *a, unsigned digit, int r, uint32_t imm)
{
	emit_rex(a, false, 0, 0, r);
	emit8(a, 0x81);
	emit8(a, 0xc0u | digit << 3 | (r & 7));
	emit32(a, imm);
}

/* Does what begins at `reg` fit? S2: the length in bytes, kept; S1 is lost. */
static void check_fit(struct rep *r, int reg)
{
	struct as *a = r->a;

	mov_rr32(a, H_S1, reg);
	op_ri32(a, 4, H_S1, 4095); /* and */
	emit8(a, 0x01); /* add s1d, s2d */
	emit8(a, 0xc0u | H_S2 << 3 | H_S1);
	op_ri32(a, 7, H_S1, 4096); /* cmp */
	slow_if(r, CC_A);
}

/* to = host address of the guest address in reg. */
static void locate(struct rep *r, int to, int reg, bool write)
{
	struct as *a = r->a;

	mov_rr(a, to, reg); /* canonical? */
	op_ri8(a, true, 0xc1, 4, to, 16);
	op_ri8(a, true, 0xc1, 7, to, 16);
	alu_rr(a, 0x39, to, reg); /* cmp */
	slow_if(r, CC_NE);
	op_ri8(a, true, 0xc1, 4, to, 16);
	op_ri8(a, true, 0xc1, 5, to, 28);
	emit_gs(a, 0x8b, to, to, 0);
	alu_rr(a, 0x85, to, to);
	slow_if(r, CC_E);
	alu_rr(a, 0x01, to, reg);
	if (write) {
		bt_ri(a, to, SLOT_VIEW_RO_BIT);
		slow_if(r, CC_B);
	}
}

static void repeat(struct as *a, bool movs, unsigned size)
{
	emit8(a, 0xf3);
	if (size == 2)
		emit8(a, 0x66);
	if (size == 8)
		emit8(a, 0x48);
	emit8(a, (movs ? 0xa4u : 0xaau) | (size > 1));
}

static uint32_t emit_rep(struct as *a, bool movs, unsigned k)
{
	struct rep r = {.a = a};
	uint32_t at = as_at(a);
	unsigned size = 1u << k;
	int i;

	emit8(a, 0xf6); /* test byte [rflags + 1], DF */
	emit_rip(a, 0, vcpu_at(a, VCPU(rflags) + 1), 1);
	emit8(a, RFLAGS_DF >> 8);
	slow_if(&r, CC_NE);
	emit8(a, 0x48); /* cmp rcx, 4096 / size */
	op_ri32(a, 7, H_RCX, 4096 / size);
	slow_if(&r, CC_A);
	mov_rr32(a, H_S2, H_RCX);
	op_ri8(a, false, 0xc1, 4, H_S2, k); /* shl */
	if (movs)
		check_fit(&r, H_R8);
	check_fit(&r, H_R9);
	if (movs)
		locate(&r, H_S1, H_R8, false);
	locate(&r, H_S2, H_R9, true);
	if (movs)
		lea_sib(a, true, H_R8, H_R8, H_RCX, (int)size, 0);
	lea_sib(a, true, H_R9, H_R9, H_RCX, (int)size, 0);
	repeat(a, movs, size);
	emit8(a, 0x31); /* xor esi, esi: ZF */
	emit8(a, 0xf6);
	emit8(a, 0xc3);
	for (i = 0; i < r.n; i++)
		*(uint32_t *)(void *)(a->e->code_rw + r.slow[i]) = as_at(a) - (r.slow[i] + 4);
	alu_rr(a, 0x85, H_RSP, H_RSP); /* test rsp, rsp: no ZF */
	emit8(a, 0xc3);
	return at;
}

void rep_emit(struct as *a)
{
	unsigned k;

	for (k = 0; k < 4; k++) {
		a->e->thunk.rep_movs[k] = emit_rep(a, true, k);
		a->e->thunk.rep_stos[k] = emit_rep(a, false, k);
	}
}
