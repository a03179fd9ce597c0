/* SPDX-License-Identifier: MIT */
/*
 * Stack frames of far transfers and events.
 *
 * A stack is 64-bit (RSP, no segment), 32-bit (ESP, SS.B set) or 16-bit (SP); the size of what
 * is pushed is independent of that. Offsets wrap at the stack's width: a 16-bit push at SP 0
 * goes to 0xfffe. Expand-down segments are valid above their limit.
 *
 * The task-state segment as far as privilege changes use it:
 *
 *	16-bit  2: SP0  4: SS0   6: SP1  8: SS1 ...
 *	32-bit  4: ESP0 8: SS0  12: ESP1 16: SS1 ...
 *	64-bit  4: RSP0 12: RSP1 20: RSP2    36: IST1 ... 84: IST7
 */
#include "softkvm/interp/frame.h"

#define FRAME_MAX 12

void stack_current(const struct vcpu *c, struct stack *st)
{
	st->ss = c->seg[X86_SS];
	st->sp = c->gpr[X86_RSP];
	st->flat = is_64bit_code(c);
	st->acc = c->cpl == 3 ? 0 : ACC_SYSTEM;
	st->code = 0;
}

static uint64_t sp_mask(const struct stack *st)
{
	return st->flat ? ~0ull : st->ss.db ? 0xffffffffu : 0xffff;
}

static bool in_limit(const struct kvm_segment *s, uint32_t off, unsigned len)
{
	const uint32_t last = off + len - 1;

	if (s->unusable || last < off)
		return false;
	if ((s->type & (SEG_CODE | SEG_DOWN)) == SEG_DOWN)
		return off > s->limit && last <= (s->db ? 0xffffffffu : 0xffffu);
	return last <= s->limit;
}

static enum step stack_linear(struct vcpu *c, const struct stack *st, uint64_t sp,
			      unsigned len, uint64_t *lin)
{
	if (st->flat) {
		*lin = sp;
		if (is_canonical(sp) && is_canonical(sp + len - 1))
			return STEP_OK;
	} else {
		*lin = (uint32_t)(st->ss.base + sp);
		if (in_limit(&st->ss, (uint32_t)sp, len))
			return STEP_OK;
	}
	return fault_code(c, X86_SSV, st->code);
}

/* A frame that lies in one piece: value k at its end minus (k + 1) * size. */
static enum step push_whole(struct vcpu *c, struct stack *st, uint64_t sp, const uint64_t *v,
			    unsigned n, unsigned size)
{
	uint64_t lin;
	union {
		uint64_t q[FRAME_MAX];
		uint32_t d[FRAME_MAX];
		uint16_t w[FRAME_MAX];
	} f;
	enum step rc;

	for (unsigned i = 0; i < n; i++) {
		if (size == 8)
			f.q[n - 1 - i] = v[i];
		else if (size == 4)
			f.d[n - 1 - i] = (uint32_t)v[i];
		else
			f.w[n - 1 - i] = (uint16_t)v[i];
	}
	rc = stack_linear(c, st, sp, n * size, &lin);
	if (!rc)
		rc = mmu_write(c, lin, &f, n * size, ACC_WRITE | st->acc);
	return rc;
}

enum step stack_push(struct vcpu *c, struct stack *st, const uint64_t *v, unsigned n,
		     unsigned size)
{
	const uint64_t mask = sp_mask(st);
	uint64_t sp = st->sp & mask;
	enum step rc = STEP_OK;

	if (st->flat || sp >= n * size) {
		sp = (sp - n * size) & mask;
		rc = push_whole(c, st, sp, v, n, size);
	} else {
		for (unsigned i = 0; i < n && !rc; i++) {
			sp = (sp - size) & mask;
			rc = push_whole(c, st, sp, v + i, 1, size);
		}
	}
	if (!rc)
		st->sp = sp;
	return rc;
}

enum step stack_peek(struct vcpu *c, unsigned skip, uint64_t *v, unsigned n, unsigned size)
{
	struct stack st;
	uint64_t mask, sp, lin;
	enum step rc;

	stack_current(c, &st);
	mask = sp_mask(&st);
	sp = (st.sp + skip) & mask;
	if (n && size == 8 && (st.flat || sp + n * 8 <= mask)) { /* the usual IRET: one read */
		rc = stack_linear(c, &st, sp, n * 8, &lin);
		return rc ? rc : mmu_read(c, lin, v, n * 8, ACC_READ);
	}
	for (unsigned i = 0; i < n; i++) {
		v[i] = 0;
		rc = stack_linear(c, &st, (sp + i * size) & mask, size, &lin);
		if (!rc)
			rc = mmu_read(c, lin, &v[i], size, ACC_READ);
		if (rc)
			return rc;
	}
	return STEP_OK;
}

void stack_set_sp(struct vcpu *c, bool flat, bool db, uint64_t sp)
{
	uint64_t *rsp = &c->gpr[X86_RSP];

	if (flat)
		*rsp = sp;
	else if (db)
		*rsp = (uint32_t)sp;
	else
		*rsp = (*rsp & ~0xffffull) | (sp & 0xffff);
}

void stack_commit(struct vcpu *c, const struct stack *st)
{
	stack_set_sp(c, st->flat, st->ss.db, st->sp);
}

void stack_release(struct vcpu *c, uint64_t n)
{
	stack_set_sp(c, is_64bit_code(c), c->seg[X86_SS].db, c->gpr[X86_RSP] + n);
}

enum step tss_pointer(struct vcpu *c, unsigned at, unsigned ext, uint64_t *sp)
{
	if (at + 7 > c->tr.limit)
		return sel_fault(c, X86_TS, c->tr.selector, ext);
	return mmu_read(c, c->tr.base + at, sp, 8, ACC_READ | ACC_SYSTEM);
}

enum step stack_inner(struct vcpu *c, unsigned cpl, unsigned ext, struct stack *st)
{
	const bool wide = c->tr.type & 8;
	const unsigned size = wide ? 4 : 2;
	const unsigned at = size * (1 + 2 * cpl);
	struct desc d;
	uint64_t sp = 0;
	uint32_t ss = 0;
	enum step rc;

	if (at + 2 * size - 1 > c->tr.limit)
		return sel_fault(c, X86_TS, c->tr.selector, ext);
	rc = mmu_read(c, c->tr.base + at, &sp, size, ACC_READ | ACC_SYSTEM);
	if (!rc)
		rc = mmu_read(c, c->tr.base + at + size, &ss, 2, ACC_READ | ACC_SYSTEM);
	if (rc)
		return rc;
	if (sel_is_null((uint16_t)ss))
		return fault_code(c, X86_TS, ext);
	rc = seg_check_stack(c, (uint16_t)ss, cpl, (struct blame){X86_TS, (uint8_t)ext}, &d);
	if (rc)
		return rc;
	seg_from_desc(&st->ss, (uint16_t)ss, &d);
	st->sp = sp;
	st->flat = false;
	st->acc = ACC_SYSTEM;
	st->code = (ss & 0xfffc) | ext;
	return STEP_OK;
}
