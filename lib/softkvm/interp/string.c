/* SPDX-License-Identifier: MIT */
/*
 * MOVS, CMPS, STOS, LODS, SCAS, INS, OUTS, and REP.
 *
 * One element at a time is the truth; element() does that, and it is what the manual's
 * pseudocode says. Each iteration of REP is a small instruction of its own: it commits
 * its registers and its device accesses, and after it an interrupt or a trap may come, with rip
 * still at the instruction, so that REP goes on later from the registers:
 *
 *	STEP_OK, rip moved        all iterations done
 *	STEP_OK, rip the same     one done under TF: the trap comes now
 *	STEP_AGAIN                some done, and somebody wants the vCPU's attention
 *	STEP_FAULT, STEP_EXIT     all before this one done
 *
 * Pieces: where both operands lie in RAM, piece() hands as many elements as fit into their
 * pages to the host's own string instruction, with the same element size and direction on host
 * addresses. So overlapping operands propagate as the guest's would, even when it is
 * physical memory that overlaps under different linear addresses. A piece never crosses a
 * page, a segment's limit or the end of the address size; if anything is unusual it declines,
 * and element() finds out what. Interrupts wait for one piece at most. INS and OUTS of RAM have
 * pieces, too, each of which is one exit to the client.
 *
 * Source: Intel SDM volume 1, section 7.3.9; volume 2, pages of REP and the instructions.
 */
#include "softkvm/interp/event.h"
#include "softkvm/interp/ops.h"
#include "softkvm/mmu/io.h"

#include <stddef.h>

struct string {
	const struct insn *in;
	enum x86_seg src;   /* segment at rSI */
	unsigned size;      /* of an element, in bytes */
	uint64_t mask;      /* of addresses and the count */
	bool down;          /* DF */
};

static uint64_t at(const struct vcpu *c, const struct string *s, enum x86_reg reg)
{
	return c->gpr[reg] & s->mask;
}

static void advance(struct vcpu *c, const struct string *s, enum x86_reg reg, uint64_t n)
{
	uint64_t bytes = n * s->size;

	reg_add(c, reg, s->in->adsize, s->down ? -bytes : bytes);
}

/* -- One element ---------------------------------------------------------------------------- */

static enum step read_src(struct vcpu *c, const struct string *s, uint64_t *v)
{
	uint64_t lin;
	enum step rc = seg_linear(c, s->src, at(c, s, X86_RSI), s->size, false, &lin);

	*v = 0;
	return rc == STEP_OK ? mmu_read(c, lin, v, s->size, ACC_READ) : rc;
}

static enum step read_dst(struct vcpu *c, const struct string *s, uint64_t *v)
{
	uint64_t lin;
	enum step rc = seg_linear(c, X86_ES, at(c, s, X86_RDI), s->size, false, &lin);

	*v = 0;
	return rc == STEP_OK ? mmu_read(c, lin, v, s->size, ACC_READ) : rc;
}

static enum step write_dst(struct vcpu *c, const struct string *s, uint64_t v)
{
	uint64_t lin;
	enum step rc = seg_linear(c, X86_ES, at(c, s, X86_RDI), s->size, true, &lin);

	return rc == STEP_OK ? mmu_write(c, lin, &v, s->size, ACC_WRITE) : rc;
}

/* The destination is checked before the port is read: that could not be undone. */
static enum step input(struct vcpu *c, const struct string *s)
{
	uint64_t lin, v = 0;
	enum step rc = seg_linear(c, X86_ES, at(c, s, X86_RDI), s->size, true, &lin);

	if (rc == STEP_OK)
		rc = mmu_probe_write(c, lin, s->size, ACC_WRITE);
	if (rc == STEP_OK)
		rc = io_port(c, (uint16_t)c->gpr[X86_RDX], &v, s->size, false);
	return rc == STEP_OK ? mmu_write(c, lin, &v, s->size, ACC_WRITE) : rc;
}

static void compare(struct vcpu *c, const struct string *s, uint64_t a, uint64_t b)
{
	flags_put(c, X86_ARITH, flags_of_cmp(a, b, s->size));
}

/* Which operand faults first: AMD's CPUs begin with the one at rSI, Intel's with the other. */
static enum step read_both(struct vcpu *c, const struct string *s, uint64_t *src, uint64_t *dst)
{
	enum step rc = c->amd ? read_src(c, s, src) : read_dst(c, s, dst);

	if (rc != STEP_OK)
		return rc;
	return c->amd ? read_dst(c, s, dst) : read_src(c, s, src);
}

static enum step element(struct vcpu *c, const struct string *s)
{
	uint64_t v = 0, w = 0;
	enum step rc = STEP_OK;

	switch (s->in->kind) {
	case X86_MOVS:
		rc = read_src(c, s, &v);
		if (rc == STEP_OK)
			rc = write_dst(c, s, v);
		break;
	case X86_STOS:
		rc = write_dst(c, s, c->gpr[X86_RAX]);
		break;
	case X86_LODS:
		rc = read_src(c, s, &v);
		if (rc == STEP_OK)
			reg_set(c, X86_RAX, s->size, v);
		break;
	case X86_CMPS:
		rc = read_both(c, s, &v, &w);
		if (rc == STEP_OK)
			compare(c, s, v, w);
		break;
	case X86_SCAS:
		rc = read_dst(c, s, &w);
		if (rc == STEP_OK)
			compare(c, s, c->gpr[X86_RAX], w);
		break;
	case X86_INS:
		rc = input(c, s);
		break;
	case X86_OUTS:
		rc = read_src(c, s, &v);
		if (rc == STEP_OK)
			rc = io_port(c, (uint16_t)c->gpr[X86_RDX], &v, s->size, true);
		break;
	}
	return rc;
}

static bool uses_src(const struct insn *in)
{
	return in->kind == X86_MOVS || in->kind == X86_LODS || in->kind == X86_CMPS ||
	       in->kind == X86_OUTS;
}

static bool uses_dst(const struct insn *in)
{
	return in->kind != X86_LODS && in->kind != X86_OUTS;
}

static void advance_all(struct vcpu *c, const struct string *s, uint64_t n)
{
	if (uses_src(s->in))
		advance(c, s, X86_RSI, n);
	if (uses_dst(s->in))
		advance(c, s, X86_RDI, n);
}

/* -- Pieces --------------------------------------------------------------------------------- */

/* The host's instruction for an element size; DF is set around it where needed. */
#define HOST_STRING(prefix, insn, size, ...)                                                     \
	do {                                                                                     \
		switch (size) {                                                                  \
		case 1:                                                                          \
			__asm__ volatile(prefix insn "b" __VA_ARGS__);                           \
			break;                                                                   \
		case 2:                                                                          \
			__asm__ volatile(prefix insn "w" __VA_ARGS__);                           \
			break;                                                                   \
		case 4:                                                                          \
			__asm__ volatile(prefix insn "l" __VA_ARGS__);                           \
			break;                                                                   \
		default:                                                                         \
			__asm__ volatile(prefix insn "q" __VA_ARGS__);                           \
			break;                                                                   \
		}                                                                                \
	} while (0)

static void host_movs(void *dst, const void *src, uint64_t n, unsigned size, bool down)
{
	if (down)
		HOST_STRING("std; rep ", "movs", size, "; cld"
			    : "+D"(dst), "+S"(src), "+c"(n) : : "memory", "cc");
	else
		HOST_STRING("rep ", "movs", size,
			    : "+D"(dst), "+S"(src), "+c"(n) : : "memory");
}

static void host_stos(void *dst, uint64_t v, uint64_t n, unsigned size, bool down)
{
	if (down)
		HOST_STRING("std; rep ", "stos", size, "; cld"
			    : "+D"(dst), "+c"(n) : "a"(v) : "memory", "cc");
	else
		HOST_STRING("rep ", "stos", size, : "+D"(dst), "+c"(n) : "a"(v) : "memory");
}

/* LAHF and SETO as RFLAGS has them. */
static uint64_t flags_of_ax(uint64_t ax)
{
	return (ax >> 8 & (X86_ARITH & 0xff)) | (ax & 1 ? X86_OF : 0);
}

/* Compares until an element differs (equal) or agrees (!equal); returns how many were left. */
static uint64_t host_cmps(const void *dst, const void *src, uint64_t n, unsigned size,
			  bool equal, uint64_t *flags)
{
	uint64_t ax;

	if (equal)
		HOST_STRING("repe ", "cmps", size, "; lahf; seto %%al"
			    : "+D"(dst), "+S"(src), "+c"(n), "=&a"(ax) : : "memory", "cc");
	else
		HOST_STRING("repne ", "cmps", size, "; lahf; seto %%al"
			    : "+D"(dst), "+S"(src), "+c"(n), "=&a"(ax) : : "memory", "cc");
	*flags = flags_of_ax(ax);
	return n;
}

static uint64_t host_scas(const void *dst, uint64_t v, uint64_t n, unsigned size, bool equal,
			  uint64_t *flags)
{
	if (equal)
		HOST_STRING("repe ", "scas", size, "; lahf; seto %%al"
			    : "+D"(dst), "+c"(n), "+a"(v) : : "memory", "cc");
	else
		HOST_STRING("repne ", "scas", size, "; lahf; seto %%al"
			    : "+D"(dst), "+c"(n), "+a"(v) : : "memory", "cc");
	*flags = flags_of_ax(v);
	return n;
}

/* How many of n elements lie between here and the end of the page, and of the address size,
 * in the direction of travel. */
static uint64_t room(const struct string *s, uint64_t lin, uint64_t ea, uint64_t n)
{
	uint64_t in_page = s->down ? (lin & 4095) + s->size : 4096 - (lin & 4095);
	uint64_t in_space = s->down ? ea : s->mask - ea;
	uint64_t fit;

	if (!s->down && (lin & 4095) + s->size > 4096)
		return 0;
	if (s->down && (lin & 4095) + s->size > 4096)
		return 0;
	fit = in_page / s->size;
	if (in_space / s->size < fit)
		fit = in_space / s->size;
	return n < fit ? n : fit;
}

/* Linear address of the first element to be processed. */
static bool locate(struct vcpu *c, const struct string *s, enum x86_seg seg, enum x86_reg reg,
		   bool write, uint64_t *lin, uint64_t *n)
{
	if (seg_linear(c, seg, at(c, s, reg), s->size, write, lin) != STEP_OK)
		return false;
	*n = room(s, *lin, at(c, s, reg), *n);
	return *n != 0;
}

/* A host pointer to the first of n elements; the others follow in the direction of travel. */
static void *window(struct vcpu *c, const struct string *s, enum x86_seg seg, enum x86_reg reg,
		    bool write, uint64_t n)
{
	uint64_t back = s->down ? (n - 1) * s->size : 0;
	uint64_t lin;
	void *p;

	if (seg_linear(c, seg, at(c, s, reg) - back, (unsigned)(n * s->size), write, &lin))
		return NULL;
	if (mmu_pointer(c, lin, (unsigned)(n * s->size), write ? ACC_WRITE : ACC_READ, &p))
		return NULL;
	return p ? (uint8_t *)p + back : NULL;
}

static bool has_pieces(const struct vcpu *c, const struct string *s)
{
	bool compares = s->in->kind == X86_CMPS || s->in->kind == X86_SCAS;

	if (event_stepping(c) || event_breakpoints(c))
		return false;
	return s->in->kind == X86_MOVS || s->in->kind == X86_STOS || (compares && !s->down);
}

/* Does some of up to `count` elements at once; returns how many, 0 if element() must. */
static uint64_t piece(struct vcpu *c, const struct string *s, uint64_t count)
{
	bool src = uses_src(s->in);
	bool writes = s->in->kind == X86_MOVS || s->in->kind == X86_STOS;
	bool equal = s->in->prefix & X86_PFX_F3;
	uint64_t n = count, given_up = c->given_up, lin, flags;
	const void *from = NULL;
	void *to;

	if (!has_pieces(c, s))
		return 0;
	if (src && !locate(c, s, s->src, X86_RSI, false, &lin, &n))
		return 0;
	if (!locate(c, s, X86_ES, X86_RDI, writes, &lin, &n))
		return 0;
	if (src && !(from = window(c, s, s->src, X86_RSI, false, n)))
		return 0;
	if (!(to = window(c, s, X86_ES, X86_RDI, writes, n)))
		return 0;
	if (c->given_up != given_up) /* `from` may be where the page was */
		return 0;
	switch (s->in->kind) {
	case X86_MOVS:
		host_movs(to, from, n, s->size, s->down);
		return n;
	case X86_STOS:
		host_stos(to, c->gpr[X86_RAX], n, s->size, s->down);
		return n;
	case X86_CMPS:
		n -= host_cmps(to, from, n, s->size, equal, &flags);
		break;
	default:
		n -= host_scas(to, c->gpr[X86_RAX], n, s->size, equal, &flags);
		break;
	}
	flags_put(c, X86_ARITH, flags);
	return n;
}

/* INS and OUTS: up to *n elements by one exit, and how many they were; 0 if element() must. */
static enum step port_piece(struct vcpu *c, const struct string *s, uint64_t *n)
{
	bool in = s->in->kind == X86_INS;
	enum x86_seg seg = in ? X86_ES : s->src;
	enum x86_reg reg = in ? X86_RDI : X86_RSI;
	uint64_t fit = *n, lin;
	unsigned count;
	void *p = NULL;
	enum step rc;

	*n = 0;
	if ((!in && s->in->kind != X86_OUTS) || s->down || event_stepping(c) || event_breakpoints(c))
		return STEP_OK;
	if (locate(c, s, seg, reg, in, &lin, &fit))
		p = window(c, s, seg, reg, in, fit);
	if (!p)
		return STEP_OK;
	count = (unsigned)fit;
	rc = io_port_string(c, (uint16_t)c->gpr[X86_RDX], p, s->size, &count, !in);
	if (rc != STEP_OK)
		mmu_stored(c); /* nothing was; the slot may be gone when the client has answered */
	else
		*n = count;
	return rc;
}

/* -- Repetition ----------------------------------------------------------------------------- */

static bool condition_ends(const struct vcpu *c, const struct string *s)
{
	if (s->in->kind != X86_CMPS && s->in->kind != X86_SCAS)
		return false;
	return !(c->rflags & X86_ZF) == !!(s->in->prefix & X86_PFX_F3);
}

/* REP with a 32-bit address in 64-bit code: Intel's CPUs cut RCX before all else, also where the count is 0; with MOVS
 * and STOS the addresses, too. */
static void cut_registers(struct vcpu *c, const struct string *s)
{
	if (c->amd || s->in->adsize != 4)
		return;
	reg_add(c, X86_RCX, 4, 0);
	if (s->in->kind != X86_MOVS && s->in->kind != X86_STOS)
		return;
	reg_add(c, X86_RDI, 4, 0);
	if (uses_src(s->in))
		reg_add(c, X86_RSI, 4, 0);
}

/* Before the last iteration somebody else's turn comes: RF, says Intel's manual (volume 3, 18.3.1.1). */
static enum step between_iterations(struct vcpu *c, enum step rc)
{
	if (c->amd)
		return rc;
	c->rflags |= RFLAGS_RF;
	c->event.keep_rf = true;
	return rc;
}

static enum step repeat(struct vcpu *c, const struct op *op, const struct string *s)
{
	cut_registers(c, s);
	for (uint64_t count; (count = at(c, s, X86_RCX)) != 0;) {
		uint64_t n = piece(c, s, count);
		enum step rc = STEP_OK;

		if (!n) {
			n = count;
			rc = port_piece(c, s, &n);
		}
		if (rc == STEP_OK && !n) {
			rc = element(c, s);
			n = 1;
		}
		if (rc != STEP_OK)
			return rc;
		mmu_stored(c);
		advance_all(c, s, n);
		reg_set(c, X86_RCX, op->in->adsize, count - n);
		io_commit(c);
		if (n == count || condition_ends(c, s))
			break;
		if (event_stepping(c))
			return between_iterations(c, STEP_OK);
		/* A client that kicks it while it has an exit of ours would else get the next one, and the next. */
		if (atomic_load_explicit(&c->requests, memory_order_relaxed) || c->run->immediate_exit)
			return between_iterations(c, STEP_AGAIN);
	}
	return op_done(c, op);
}

enum step op_string(struct vcpu *c, const struct op *op)
{
	const struct insn *in = op->in;
	struct string s = {
		.in = in,
		.src = op_data_seg(c, in),
		.size = in->opsize,
		.mask = size_mask(in->adsize),
		.down = c->rflags & RFLAGS_DF,
	};
	enum step rc = STEP_OK;

	if (in->kind == X86_INS || in->kind == X86_OUTS)
		rc = port_check(c, (uint16_t)c->gpr[X86_RDX], s.size);
	if (rc != STEP_OK)
		return rc;
	if (in->prefix & (X86_PFX_F2 | X86_PFX_F3))
		return repeat(c, op, &s);
	rc = element(c, &s);
	if (rc != STEP_OK)
		return rc;
	advance_all(c, &s, 1);
	return op_done(c, op);
}
