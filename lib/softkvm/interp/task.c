/* SPDX-License-Identifier: MIT */
/*
 * Task switches in protected mode: JMP and CALL to a TSS or a task gate, an event through a task
 * gate, IRET with NT.
 *
 *	       16-bit TSS                    32-bit TSS
 *	 0     link                       0  link
 *	                                 1c  CR3
 *	 e     IP FLAGS                  20  EIP EFLAGS
 *	12     AX CX DX BX SP BP SI DI   28  EAX ECX EDX EBX ESP EBP ESI EDI
 *	22     ES CS SS DS               48  ES CS SS DS FS GS
 *	2a     LDT                       60  LDT
 *	                                 64  T: trap on entry
 *
 *	          old TSS busy   new TSS busy   NT in the old   NT in the new   link of the new
 *	JMP       no             yes            -               -               -
 *	CALL, event   -          yes            -               set             old TSS
 *	IRET      no             -              cleared         as saved        -
 *
 * Invariants:
 *  1. Up to commit nothing has changed: the new TSS is checked and read, and what will be stored
 *     to is known to be writable. A fault belongs to the old task.
 *  2. From then on a fault (a selector in the new TSS that is no good) belongs to the new task, which
 *     has all registers already. It waits in c->event, and comes before the first instruction.
 *
 * Source: Intel SDM volume 3, chapter 8 (task management), table 8-2.
 */
#include "softkvm/interp/task.h"

#include "softkvm/interp/frame.h"
#include "softkvm/interp/segload.h"

#define BUSY 2u
#define DR6_BT 0x8000ull
#define DR7_LOCAL 0x155ull /* L0 to L3, LE */
#define FLAGS_TASK (X86_ARITH | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT |       \
		    RFLAGS_RF | RFLAGS_VM | RFLAGS_AC | RFLAGS_VIF | RFLAGS_VIP | RFLAGS_ID)

/* The values that a TSS holds, in its order. */
enum { V_IP, V_FLAGS, V_GPR, V_SEG = V_GPR + 8, V_MAX = V_SEG + 7 };

static const struct layout {
	uint8_t width, first, segs, limit;
} tss16 = {2, 0x0e, 4, 0x2b}, tss32 = {4, 0x20, 6, 0x67};

struct task {
	uint16_t sel;
	struct desc desc;
	const struct layout *l;
	uint32_t v[V_MAX];
	uint32_t cr3;
	bool trap;
};

static const struct layout *layout_of(unsigned type)
{
	return type & 8 ? &tss32 : &tss16;
}

/* -- Before the commit -------------------------------------------------------------------- */

static enum step check_task(struct vcpu *c, struct task *t, const struct task_switch *how)
{
	const bool back = how->way == TASK_RETURN;
	const uint8_t vector = back ? X86_TS : X86_GP;
	unsigned type;
	enum step rc;

	if (sel_is_null(t->sel) || t->sel & 4)
		return sel_fault(c, vector, t->sel, how->ext);
	rc = desc_read(c, t->sel, (struct blame){vector, (uint8_t)how->ext}, &t->desc);
	if (rc)
		return rc;
	type = desc_type(&t->desc);
	if (desc_s(&t->desc) || (type & ~8u) != (back ? SYS_TSS16_BUSY : SYS_TSS16))
		return sel_fault(c, vector, t->sel, how->ext);
	if (!desc_present(&t->desc))
		return sel_fault(c, X86_NP, t->sel, how->ext);
	t->l = layout_of(type);
	if (desc_limit(&t->desc) < t->l->limit)
		return sel_fault(c, X86_TS, t->sel, how->ext);
	return STEP_OK;
}

static enum step read_task(struct vcpu *c, struct task *t)
{
	const uint64_t base = desc_base(&t->desc);
	const unsigned width = t->l->width, n = V_SEG + t->l->segs + 1u;
	uint8_t raw[V_MAX * 4], trap = 0;
	enum step rc = mmu_read(c, base + t->l->first, raw, n * width, ACC_READ | ACC_SYSTEM);

	t->cr3 = 0;
	if (!rc && t->l == &tss32)
		rc = mmu_read(c, base + 0x1c, &t->cr3, 4, ACC_READ | ACC_SYSTEM);
	if (!rc && t->l == &tss32)
		rc = mmu_read(c, base + 0x64, &trap, 1, ACC_READ | ACC_SYSTEM);
	for (unsigned i = 0; i < V_MAX; i++) {
		t->v[i] = 0;
		for (unsigned k = 0; i < n && k < width; k++)
			t->v[i] |= (uint32_t)raw[i * width + k] << 8 * k;
	}
	t->trap = trap & 1;
	return rc;
}

/* Where a descriptor's type is. */
static uint64_t type_at(const struct vcpu *c, uint16_t sel)
{
	return c->gdt.base + (sel & 0xfff8u) + 5;
}

static enum step check_stores(struct vcpu *c, const struct task *t)
{
	const struct layout *old = layout_of(c->tr.type);
	const uint64_t base = desc_base(&t->desc);
	const unsigned acc = ACC_WRITE | ACC_SYSTEM;
	enum step rc;

	if (c->tr.unusable || c->tr.limit < old->limit)
		return sel_fault(c, X86_TS, c->tr.selector, 0);
	rc = mmu_probe_write(c, c->tr.base + old->first, old->limit + 1u - old->first, acc);
	if (!rc)
		rc = mmu_probe_write(c, type_at(c, c->tr.selector), 1, acc);
	if (!rc)
		rc = mmu_probe_write(c, type_at(c, t->sel), 1, acc);
	return rc ? rc : mmu_probe_write(c, base, 2, acc);
}

/* -- The commit --------------------------------------------------------------------------- */

/* Values 0 to n - 1 of the task that ends; its LDT and CR3 stay as they are. */
static void save_task(struct vcpu *c, const struct task_switch *how)
{
	const struct layout *l = layout_of(c->tr.type);
	const unsigned n = V_SEG + l->segs;
	uint8_t raw[V_MAX * 4];
	uint64_t v[V_MAX];

	v[V_IP] = how->rip;
	v[V_FLAGS] = how->way == TASK_RETURN ? how->flags & ~RFLAGS_NT : how->flags;
	for (unsigned i = 0; i < 8; i++)
		v[V_GPR + i] = c->gpr[i];
	for (unsigned i = 0; i < l->segs; i++)
		v[V_SEG + i] = c->seg[i].selector;
	for (unsigned i = 0; i < n * l->width; i++)
		raw[i] = (uint8_t)(v[i / l->width] >> 8 * (i % l->width));
	mmu_write(c, c->tr.base + l->first, raw, n * l->width, ACC_WRITE | ACC_SYSTEM);
}

static void set_busy(struct vcpu *c, uint16_t sel, bool busy)
{
	uint8_t byte;

	if (mmu_read(c, type_at(c, sel), &byte, 1, ACC_READ | ACC_SYSTEM))
		return;
	byte = (uint8_t)(busy ? byte | BUSY : byte & ~BUSY);
	mmu_write(c, type_at(c, sel), &byte, 1, ACC_WRITE | ACC_SYSTEM);
}

static void set_links(struct vcpu *c, struct task *t, enum task_way way)
{
	const uint16_t old = c->tr.selector;

	if (way == TASK_JUMP || way == TASK_RETURN)
		set_busy(c, old, false);
	if (way != TASK_RETURN)
		set_busy(c, t->sel, true);
	if (way == TASK_CALL || way == TASK_EVENT) {
		mmu_write(c, desc_base(&t->desc), &old, 2, ACC_WRITE | ACC_SYSTEM);
		t->v[V_FLAGS] |= RFLAGS_NT;
	}
}

static void load_registers(struct vcpu *c, const struct task *t)
{
	const bool wide = t->l == &tss32;

	seg_from_desc(&c->tr, t->sel, &t->desc);
	c->tr.type |= BUSY;
	c->cr0 |= CR0_TS;
	c->dr7 &= ~DR7_LOCAL;
	if (wide && c->cr0 & CR0_PG && t->cr3 != c->cr3)
		mmu_load_cr3(c, t->cr3, false);
	c->rip = t->v[V_IP];
	c->rflags = (t->v[V_FLAGS] & FLAGS_TASK) | RFLAGS_FIXED;
	for (unsigned i = 0; i < 8; i++)
		c->gpr[i] = t->v[V_GPR + i];
	/* The selectors at once; what they name is looked at one by one, and may fault. */
	for (unsigned i = 0; i < 6; i++)
		seg_set_null(&c->seg[i], (uint16_t)t->v[V_SEG + i], 0);
	if (!wide)
		c->seg[X86_FS].selector = c->seg[X86_GS].selector = 0;
	seg_set_null(&c->ldt, (uint16_t)t->v[V_SEG + t->l->segs], 0);
}

/* -- In the new task ---------------------------------------------------------------------- */

static enum step load_ldt(struct vcpu *c, const struct blame ts)
{
	const uint16_t sel = c->ldt.selector;
	struct desc d;
	enum step rc;

	if (sel_is_null(sel))
		return STEP_OK;
	if (sel & 4)
		return sel_fault(c, X86_TS, sel, ts.ext);
	rc = desc_read(c, sel, ts, &d);
	if (rc)
		return rc;
	if (desc_s(&d) || desc_type(&d) != SYS_LDT || !desc_present(&d))
		return sel_fault(c, X86_TS, sel, ts.ext);
	seg_from_desc(&c->ldt, sel, &d);
	return STEP_OK;
}

static enum step load_code(struct vcpu *c, const struct blame ts)
{
	const uint16_t sel = c->seg[X86_CS].selector;
	const unsigned rpl = sel & 3;
	struct desc d;
	enum step rc;

	if (sel_is_null(sel))
		return sel_fault(c, X86_TS, sel, ts.ext);
	rc = desc_read(c, sel, ts, &d);
	if (rc)
		return rc;
	if (!desc_is_code(&d) ||
	    (desc_is_conforming(&d) ? desc_dpl(&d) > rpl : desc_dpl(&d) != rpl))
		return sel_fault(c, X86_TS, sel, ts.ext);
	if (!desc_present(&d))
		return sel_fault(c, X86_NP, sel, ts.ext);
	rc = desc_mark_accessed(c, &d);
	if (!rc)
		seg_from_desc(&c->seg[X86_CS], sel, &d);
	return rc;
}

static enum step load_stack(struct vcpu *c, const struct blame ts)
{
	const uint16_t sel = c->seg[X86_SS].selector;
	struct desc d;
	enum step rc;

	if (sel_is_null(sel))
		return sel_fault(c, X86_TS, sel, ts.ext);
	rc = seg_check_stack(c, sel, c->cpl, ts, &d);
	if (!rc)
		seg_from_desc(&c->seg[X86_SS], sel, &d);
	return rc;
}

static enum step load_data(struct vcpu *c, enum x86_seg seg, const struct blame ts)
{
	const uint16_t sel = c->seg[seg].selector;
	struct desc d;
	enum step rc;

	if (sel_is_null(sel))
		return STEP_OK;
	rc = desc_read(c, sel, ts, &d);
	if (rc)
		return rc;
	if (!desc_s(&d) || (desc_type(&d) & (SEG_CODE | SEG_READABLE)) == SEG_CODE)
		return sel_fault(c, X86_TS, sel, ts.ext);
	if (!desc_is_conforming(&d) && ((sel & 3u) > desc_dpl(&d) || c->cpl > desc_dpl(&d)))
		return sel_fault(c, X86_TS, sel, ts.ext);
	if (!desc_present(&d))
		return sel_fault(c, X86_NP, sel, ts.ext);
	rc = desc_mark_accessed(c, &d);
	if (!rc)
		seg_from_desc(&c->seg[seg], sel, &d);
	return rc;
}

static enum step load_segments(struct vcpu *c, unsigned ext)
{
	static const uint8_t data[] = {X86_DS, X86_ES, X86_FS, X86_GS};
	const struct blame ts = {X86_TS, (uint8_t)ext};
	enum step rc = load_ldt(c, ts);

	if (is_vm86(c)) {
		for (unsigned i = 0; i < 6 && !rc; i++)
			seg_set_vm86(&c->seg[i], c->seg[i].selector);
		return rc;
	}
	if (!rc)
		rc = load_code(c, ts);
	if (!rc)
		rc = load_stack(c, ts);
	for (unsigned i = 0; i < sizeof(data) && !rc; i++)
		rc = load_data(c, data[i], ts);
	return rc;
}

static enum step push_code(struct vcpu *c, const struct task *t, const struct task_switch *how)
{
	const uint64_t code = how->code;
	struct stack st;
	enum step rc;

	if (!how->has_code)
		return STEP_OK;
	stack_current(c, &st);
	rc = stack_push(c, &st, &code, 1, t->l->width);
	if (!rc)
		stack_commit(c, &st);
	return rc;
}

/* The first instruction of the new task has to wait for this. */
static void fault_later(struct vcpu *c)
{
	if (c->fault.vector == X86_PFV)
		c->cr2 = c->fault.cr2;
	c->event.exception = true;
	c->event.fault = c->fault;
	atomic_fetch_or(&c->requests, REQ_EVENT);
}

static void begin_task(struct vcpu *c, const struct task *t, const struct task_switch *how)
{
	enum step rc;

	cpl_set(c, is_vm86(c) ? 3 : c->seg[X86_CS].selector & 3u);
	rc = load_segments(c, how->ext);
	if (!rc)
		rc = push_code(c, t, how);
	if (!rc && c->rip > c->seg[X86_CS].limit)
		rc = fault_code(c, X86_GP, how->ext);
	if (!rc && t->trap) {
		c->dr6 |= DR6_BT;
		rc = fault_set(c, X86_DB);
	}
	if (rc == STEP_FAULT)
		fault_later(c);
}

enum step task_switch(struct vcpu *c, uint16_t sel, const struct task_switch *how)
{
	struct task t = {.sel = sel};
	enum step rc = check_task(c, &t, how);

	if (!rc)
		rc = read_task(c, &t);
	if (!rc)
		rc = check_stores(c, &t);
	if (rc)
		return rc;
	save_task(c, how);
	set_links(c, &t, how->way);
	load_registers(c, &t);
	begin_task(c, &t, how);
	return STEP_OK;
}

enum step task_return(struct vcpu *c, uint64_t next)
{
	const struct task_switch how = {.way = TASK_RETURN, .rip = next, .flags = c->rflags};
	uint16_t link;
	enum step rc = mmu_read(c, c->tr.base, &link, 2, ACC_READ | ACC_SYSTEM);

	return rc ? rc : task_switch(c, link, &how);
}
