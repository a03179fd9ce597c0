/* SPDX-License-Identifier: MIT */
/*
 * Modes other than 64-bit code for cases of modes.c: how a vCPU comes into them, and how one sees what became of it.
 *
 *	compatibility   long mode's descriptors; the frame has 64-bit words
 *	protected       32-bit IDT and TSS at LOW_KERNEL, PAE page tables; 32-bit words
 *	virtual-8086    the same, with RFLAGS.VM
 *	real            no paging; vectors at IVT_AT, each with one HLT, too; the frame of 16-bit words is on
 *	                the case's own stack, and what was there is put back. The end of a case is no
 *	                INT3 but a HLT, which is not for others than ring 0.
 *
 * Afterwards all is told as if the twin had run, so that outcomes can be compared.
 */
#include "guest.h"

#include <stdio.h>
#include <string.h>

/* In the pages of their relatives (guest.h). */
enum { IDT32_AT = IDT_AT + 0x800, IVT_AT = IDT_AT + 0xc00, TSS32_AT = TSS_AT + 0x800 };

static void put(uint8_t *ram, uint32_t at, uint64_t v)
{
	memcpy(ram + at, &v, 8);
}

void mode_memory(uint8_t *ram)
{
	put(ram, GDT_AT + RING0_CODE32, 0x00cf9b000000ffff);
	for (uint64_t v = 0; v < 32; v++) {
		uint64_t to = HANDLERS_AT + v * HANDLER_STEP, dpl = v == 3 ? 3 : 0;
		uint32_t far = (HANDLERS_AT >> 4) << 16 | (uint32_t)v * HANDLER_STEP;

		put(ram, IDT32_AT + (uint32_t)v * 8,
		    (to & 0xffff) | RING0_CODE32 << 16 | (0x8e | dpl << 5) << 40 |
			    (uint64_t)(LOW_KERNEL >> 16) << 48);
		memcpy(ram + IVT_AT + v * 4, &far, 4);
	}
	put(ram, TSS32_AT + 4, (uint64_t)RING0_DATA << 32 | (LOW_KERNEL + STACK_AT + PAGE));
}

/* -- Into the mode ------------------------------------------------------------------------------ */

static struct kvm_segment make_segment(const struct segment *s, bool is_ring3)
{
	return (struct kvm_segment){
		.base = s->base, .limit = s->limit, .selector = s->unusable ? 0 : s->selector, .type = s->type,
		.present = !s->unusable, .dpl = is_ring3 ? 3 : 0, .db = s->db, .s = 1,
		.g = s->limit > 0xfffff, .unusable = s->unusable,
	};
}

void mode_sregs(const struct test_case *t, uint64_t pae, struct kvm_sregs *s)
{
	const struct segment *seg = t->other.seg;
	enum mode mode = t->other.mode;
	bool is_ring3 = mode != REAL;

	s->es = make_segment(&seg[X86_ES], is_ring3);
	s->cs = make_segment(&seg[X86_CS], is_ring3);
	s->ss = make_segment(&seg[X86_SS], is_ring3);
	s->ds = make_segment(&seg[X86_DS], is_ring3);
	s->fs = make_segment(&seg[X86_FS], is_ring3);
	s->gs = make_segment(&seg[X86_GS], is_ring3);
	if (mode <= COMPAT_16)
		return;
	s->efer = 0x800; /* NX */
	s->cr3 = pae;
	s->gdt.base = LOW_KERNEL + GDT_AT;
	s->idt = (struct kvm_dtable){.base = LOW_KERNEL + IDT32_AT, .limit = 32 * 8 - 1};
	s->tr.base = LOW_KERNEL + TSS32_AT;
	if (mode == REAL) {
		s->cr0 = 0x32; /* NE ET MP */
		s->cr3 = 0;
		s->idt = (struct kvm_dtable){.base = IVT_AT, .limit = 32 * 4 - 1};
	}
}

/* -- Out of it ---------------------------------------------------------------------------------- */

struct frame {
	bool is_there;
	uint64_t error, ip, cs, flags, sp, ss;
};

static uint64_t word(const uint8_t *ram, uint64_t at, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, ram + at, size);
	return v;
}

/* At guest-physical address `at`, of words of `size` bytes. */
static struct frame read_frame(const uint8_t *ram, uint64_t at, unsigned size, unsigned vector)
{
	struct frame f = {.is_there = at >= STACK_AT && at + 5 * size <= STACK_AT + PAGE};

	if (!f.is_there)
		return f;
	if (has_error_code(vector)) {
		f.error = word(ram, at, size);
		at += size;
	}
	f.ip = word(ram, at, size);
	f.cs = word(ram, at + size, size);
	f.flags = word(ram, at + 2 * size, size);
	f.sp = word(ram, at + 3 * size, size);
	f.ss = word(ram, at + 4 * size, size);
	return f;
}

/* Of real mode: three words below SP, in the case's stack, in whose place the image has others. */
static struct frame take_real(uint8_t *stack, const uint8_t *before, const struct test_case *t,
			      const struct kvm_regs *r, unsigned vector)
{
	const struct segment *seg = t->other.seg;
	struct frame f = {.is_there = true, .ip = r->rip, .cs = seg[X86_CS].selector, .flags = r->rflags,
			  .sp = r->rsp, .ss = seg[X86_SS].selector};

	if (vector == 3) /* the HLT at the end */
		return f;
	f.is_there = r->rsp + 6 == t->start.gpr[X86_RSP];
	if (!f.is_there)
		return f;
	f.ip = word(stack, r->rsp, 2);
	f.cs = word(stack, r->rsp + 2, 2);
	f.flags = word(stack, r->rsp + 4, 2) | 0x10000; /* RF is not in 16 bits */
	f.sp += 6;
	memcpy(stack + r->rsp, before + r->rsp, 6);
	return f;
}

/* Which HLT it is: a vector, or 32. */
static unsigned vector_of(const struct test_case *t, const struct kvm_regs *r, const struct kvm_sregs *s)
{
	uint64_t base = t->other.mode <= COMPAT_16 ? KERNEL : t->other.mode == REAL ? 0 : LOW_KERNEL;
	uint64_t at = s->cs.base + r->rip - 1 - base - HANDLERS_AT;

	if (t->other.mode == REAL && s->cs.base == t->other.seg[X86_CS].base)
		return 3;
	return at >= 32 * HANDLER_STEP || at % HANDLER_STEP ? 32 : (unsigned)at / HANDLER_STEP;
}

/* As the twin would have it; anything that it would not have stays odd. */
static uint64_t twin_rip(const struct test_case *t, uint64_t ip)
{
	if (ip == t->other.ip)
		return t->start.rip;
	ip -= t->other.ip + t->other.len;
	return ip > 1 ? 1ull << 63 | (ip + t->other.ip + t->other.len) : t->start.rip + t->span[0].len + ip;
}

void mode_take(uint8_t *ram, const struct test_case *t, const struct image *before, const struct kvm_regs *r,
	       const struct kvm_sregs *s, struct outcome *o)
{
	unsigned vector = vector_of(t, r, s);
	const struct segment *seg = t->other.seg;
	struct frame f = {.is_there = false};

	if (vector < 32 && t->other.mode == REAL)
		f = take_real(ram + page_gpa(STACK_PAGE), before->page[STACK_PAGE], t, r, vector);
	else if (vector < 32 && t->other.mode <= COMPAT_16)
		f = read_frame(ram, r->rsp - KERNEL, 8, vector);
	else if (vector < 32)
		f = read_frame(ram, r->rsp - LOW_KERNEL, 4, vector);
	if (!f.is_there) {
		o->status = STUCK;
		snprintf(o->why, sizeof(o->why), "HLT where no handler is, in %s mode", mode_names[t->other.mode]);
		return;
	}
	o->vector = (uint8_t)vector;
	o->error = (uint32_t)f.error;
	o->rip = twin_rip(t, f.ip);
	o->flags = f.flags & ~(1ull << 17);
	o->gpr[X86_RSP] = f.sp;
	o->cs = f.cs == seg[X86_CS].selector ? t->start.cs : f.cs;
	o->ss = f.ss == seg[X86_SS].selector ? t->start.ss : f.ss;
	o->sel_ds = o->sel_es = o->sel_fs = o->sel_gs = 0;
	o->fs = t->start.fs;
	o->gs = t->start.gs;
}
