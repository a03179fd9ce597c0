/* SPDX-License-Identifier: MIT */
/*
 * Interrupts and exceptions: from a vector to the first instruction of its handler.
 *
 *	real mode        IVT: 4 bytes a vector, CS:IP        pushes FLAGS CS IP, 16 bits each
 *	protected mode   IDT: 8 bytes a vector, gates        [GS FS DS ES] [SS ESP] EFLAGS CS EIP
 *	                                                     [error code], 16 or 32 bits each
 *	long mode        IDT: 16 bytes a vector, gates       SS RSP RFLAGS CS RIP [error code],
 *	                                                     64 bits each, always all five
 *
 * A gate names a code segment. If that is more privileged than the current one, the stack comes
 * from the task-state segment; in long mode a gate may also name one of seven stacks (IST)
 * that is taken in any case.
 *
 * Invariants:
 *  1. Delivery commits or faults whole: descriptors are read and checked, the frame is written,
 *     registers change last. So a fault in the middle finds the state that the first event
 *     found, and pushes that.
 *  2. A fault while another is delivered is judged by the table of the manual ("conditions for
 *     generating a double fault"): two contributory ones, or any after a page fault but a benign
 *     one, make #DF; a third makes a shutdown (STEP_TRIPLE).
 *  3. An event whose delivery must stop (its stack is a device, or the MMU wants the run loop
 *     first) is put into c->event and delivered again later; nothing is lost.
 *  4. CR2 and DR6 belong to the exception, not to its delivery: event_fault() sets them once.
 *  5. What a delivery did to devices (its stack may be one) is forgotten when it is complete: KVM_RUN
 *     returns to nobody while an access is under way.
 *
 * Task gates lead to task.c. Left out, and noted in ERRATA: virtual-8086 mode extensions (CR4.VME).
 * Source: Intel SDM volume 3, chapter 6; volume 2, INT n.
 */
#include "softkvm/interp/event.h"

#include "softkvm/interp/frame.h"
#include "softkvm/interp/segload.h"
#include "softkvm/interp/task.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/io.h"

#include <stddef.h>

#define GATE_TYPE(gate) ((unsigned)((gate) >> 40 & 0x1f)) /* with the S bit */
#define GATE_DPL(gate) ((unsigned)((gate) >> 45 & 3))
#define GATE_PRESENT(gate) ((gate) >> 47 & 1)
#define GATE_SELECTOR(gate) ((uint16_t)((gate) >> 16))
#define GATE_IST(gate) ((unsigned)((gate) >> 32 & 7))

/* One event on its way through the IDT. */
struct delivery {
	uint8_t vector;
	enum event_type type;
	bool has_code;
	uint32_t code;
	unsigned ext;   /* EXT bit of error codes: the event is not the program's own doing */
	uint64_t flags; /* the image to push */
};

/* -- Checks ------------------------------------------------------------------------------- */

static enum step gate_fault(struct vcpu *c, const struct delivery *e, uint8_t vector)
{
	return fault_code(c, vector, e->vector * 8u + 2 + e->ext);
}

/* DPL and presence, the same for all gates. */
static enum step check_gate(struct vcpu *c, const struct delivery *e, uint64_t gate)
{
	if (e->type == EVENT_SOFT && GATE_DPL(gate) < c->cpl)
		return gate_fault(c, e, X86_GP);
	if (!GATE_PRESENT(gate))
		return gate_fault(c, e, X86_NP);
	return STEP_OK;
}

/* The code segment of a handler. */
static enum step check_target(struct vcpu *c, const struct delivery *e, uint16_t sel,
			      struct desc *d)
{
	enum step rc;

	if (sel_is_null(sel))
		return fault_code(c, X86_GP, e->ext);
	rc = desc_read(c, sel, (struct blame){X86_GP, (uint8_t)e->ext}, d);
	if (rc)
		return rc;
	if (!desc_is_code(d) || desc_dpl(d) > c->cpl)
		return sel_fault(c, X86_GP, sel, e->ext);
	if (is_long_mode(c) && (!desc_l(d) || desc_db(d)))
		return sel_fault(c, X86_GP, sel, e->ext);
	if (!desc_present(d))
		return sel_fault(c, X86_NP, sel, e->ext);
	return desc_mark_accessed(c, d);
}

static unsigned target_cpl(const struct vcpu *c, const struct desc *d)
{
	return desc_is_conforming(d) ? c->cpl : desc_dpl(d);
}

/* -- Long mode ---------------------------------------------------------------------------- */

/* The stack pointer of a 64-bit handler, before its alignment to 16. */
static enum step long_stack(struct vcpu *c, const struct delivery *e, unsigned ist,
			    unsigned cpl, uint64_t *sp)
{
	if (ist)
		return tss_pointer(c, 28 + 8 * ist, e->ext, sp);
	if (cpl < c->cpl)
		return tss_pointer(c, 4 + 8 * cpl, e->ext, sp);
	*sp = c->gpr[X86_RSP];
	return STEP_OK;
}

static enum step push_long_frame(struct vcpu *c, const struct delivery *e, uint64_t *sp,
				 unsigned cpl)
{
	const uint64_t frame[6] = {
		e->code, c->rip, c->seg[X86_CS].selector, e->flags,
		c->gpr[X86_RSP], c->seg[X86_SS].selector,
	};
	const unsigned skip = e->has_code ? 0 : 1;
	const unsigned len = 8 * (6 - skip);

	*sp = (*sp & ~15ull) - len;
	if (!is_canonical(*sp) || !is_canonical(*sp + len - 1))
		return fault_code(c, X86_SSV, e->ext);
	return mmu_write(c, *sp, frame + skip, len,
			 ACC_WRITE | (cpl == 3 ? ACC_USER : ACC_SYSTEM));
}

/* What all handlers begin with, once nothing can fail any more. */
static void enter(struct vcpu *c, const struct desc *cs, uint16_t sel, unsigned cpl,
		  uint64_t rip, bool interrupt_gate)
{
	seg_from_desc(&c->seg[X86_CS], (uint16_t)((sel & ~3u) | cpl), cs);
	c->rip = rip;
	c->rflags &= ~(RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM |
		       (interrupt_gate ? RFLAGS_IF : 0));
	cpl_set(c, cpl);
}

static enum step through_idt64(struct vcpu *c, const struct delivery *e)
{
	const uint32_t at = e->vector * 16u;
	uint64_t gate[2], rip, sp;
	struct desc cs;
	unsigned cpl;
	enum step rc;

	if (at + 15 > c->idt.limit)
		return gate_fault(c, e, X86_GP);
	rc = mmu_read(c, c->idt.base + at, gate, 16, ACC_READ | ACC_SYSTEM);
	if (rc)
		return rc;
	if (GATE_TYPE(gate[0]) != SYS_INT32 && GATE_TYPE(gate[0]) != SYS_TRAP32)
		return gate_fault(c, e, X86_GP);
	rc = check_gate(c, e, gate[0]);
	if (!rc)
		rc = check_target(c, e, GATE_SELECTOR(gate[0]), &cs);
	if (rc)
		return rc;

	cpl = target_cpl(c, &cs);
	rip = (gate[0] & 0xffff) | (gate[0] >> 32 & 0xffff0000) | gate[1] << 32;
	if (!is_canonical(rip))
		return fault_code(c, X86_GP, e->ext);
	rc = long_stack(c, e, GATE_IST(gate[0]), cpl, &sp);
	if (!rc)
		rc = push_long_frame(c, e, &sp, cpl);
	if (rc)
		return rc;

	if (cpl != c->cpl)
		seg_set_null(&c->seg[X86_SS], (uint16_t)cpl, cpl);
	c->gpr[X86_RSP] = sp;
	enter(c, &cs, GATE_SELECTOR(gate[0]), cpl, rip, GATE_TYPE(gate[0]) == SYS_INT32);
	return STEP_OK;
}

/* -- Protected mode ----------------------------------------------------------------------- */

static const uint8_t vm86_segs[] = {X86_GS, X86_FS, X86_DS, X86_ES};

/* The values that a handler finds, in the order in which they are pushed; how many. */
static unsigned frame32(const struct vcpu *c, const struct delivery *e, bool inner,
			uint64_t v[12])
{
	unsigned n = 0;

	if (is_vm86(c))
		for (unsigned i = 0; i < sizeof(vm86_segs); i++)
			v[n++] = c->seg[vm86_segs[i]].selector;
	if (inner) {
		v[n++] = c->seg[X86_SS].selector;
		v[n++] = c->gpr[X86_RSP];
	}
	v[n++] = e->flags;
	v[n++] = c->seg[X86_CS].selector;
	v[n++] = c->rip;
	if (e->has_code)
		v[n++] = e->code;
	return n;
}

static enum step check_offset(struct vcpu *c, const struct desc *cs, uint64_t rip,
			      unsigned ext)
{
	return rip > desc_limit(cs) ? fault_code(c, X86_GP, ext) : STEP_OK;
}

/* Pushes and enters, once gate and target are known to be good. */
static enum step enter32(struct vcpu *c, const struct delivery *e, uint64_t gate,
			 const struct desc *cs)
{
	const bool wide = GATE_TYPE(gate) & 8;
	const unsigned cpl = target_cpl(c, cs);
	const bool inner = cpl < c->cpl;
	const uint64_t rip = (gate & 0xffff) | (wide ? gate >> 32 & 0xffff0000 : 0);
	struct stack st;
	uint64_t v[12];
	enum step rc = STEP_OK;

	if (is_vm86(c) && cpl != 0)
		return sel_fault(c, X86_GP, GATE_SELECTOR(gate), e->ext);
	if (inner)
		rc = stack_inner(c, cpl, e->ext, &st);
	else
		stack_current(c, &st);
	if (!rc)
		rc = check_offset(c, cs, rip, e->ext);
	if (!rc)
		rc = stack_push(c, &st, v, frame32(c, e, inner, v), wide ? 4 : 2);
	if (rc)
		return rc;

	if (is_vm86(c))
		for (unsigned i = 0; i < sizeof(vm86_segs); i++)
			seg_set_null(&c->seg[vm86_segs[i]], 0, 0);
	if (inner)
		c->seg[X86_SS] = st.ss;
	stack_commit(c, &st);
	enter(c, cs, GATE_SELECTOR(gate), cpl, rip, !(GATE_TYPE(gate) & 1));
	return STEP_OK;
}

static enum step to_task(struct vcpu *c, const struct delivery *e, uint16_t tss)
{
	const struct task_switch how = {.way = TASK_EVENT, .rip = c->rip, .flags = e->flags,
					.ext = e->ext, .has_code = e->has_code, .code = e->code};

	return task_switch(c, tss, &how);
}

static enum step through_idt32(struct vcpu *c, const struct delivery *e)
{
	const uint32_t at = e->vector * 8u;
	uint64_t gate;
	struct desc cs;
	enum step rc;

	if (at + 7 > c->idt.limit)
		return gate_fault(c, e, X86_GP);
	rc = mmu_read(c, c->idt.base + at, &gate, 8, ACC_READ | ACC_SYSTEM);
	if (rc)
		return rc;
	switch (GATE_TYPE(gate)) {
	case SYS_INT16: case SYS_TRAP16: case SYS_INT32: case SYS_TRAP32: case SYS_TASK:
		break;
	default:
		return gate_fault(c, e, X86_GP);
	}
	rc = check_gate(c, e, gate);
	if (rc)
		return rc;
	if (GATE_TYPE(gate) == SYS_TASK)
		return to_task(c, e, GATE_SELECTOR(gate));
	rc = check_target(c, e, GATE_SELECTOR(gate), &cs);
	return rc ? rc : enter32(c, e, gate, &cs);
}

/* -- Real mode ---------------------------------------------------------------------------- */

static enum step through_ivt(struct vcpu *c, const struct delivery *e)
{
	const uint32_t at = e->vector * 4u;
	const uint64_t v[3] = {e->flags, c->seg[X86_CS].selector, c->rip};
	struct stack st;
	uint32_t target;
	enum step rc;

	if (at + 3 > c->idt.limit)
		return fault_code(c, X86_GP, 0);
	rc = mmu_read(c, c->idt.base + at, &target, 4, ACC_READ | ACC_SYSTEM);
	if (rc)
		return rc;
	stack_current(c, &st);
	rc = stack_push(c, &st, v, 3, 2);
	if (rc)
		return rc;

	stack_commit(c, &st);
	seg_load_real(&c->seg[X86_CS], (uint16_t)(target >> 16));
	c->rip = target & 0xffff;
	c->rflags &= ~(RFLAGS_IF | RFLAGS_TF | RFLAGS_AC | RFLAGS_RF);
	return STEP_OK;
}

/* -- Delivery ----------------------------------------------------------------------------- */

/* Faults say in the pushed image that the instruction is to be resumed (RF), so that its
 * breakpoint does not hit again. #DF, though an abort, does as the fault it was made of. */
static bool is_fault_class(uint8_t vector)
{
	const uint32_t others = 1u << X86_DB | 1u << X86_NMI | 1u << X86_BP | 1u << X86_OFV |
				1u << X86_MC;

	return vector < 32 && !(others >> vector & 1);
}

static enum step through_table(struct vcpu *c, uint8_t vector, enum event_type type,
			       const struct fault *fault)
{
	struct delivery e = {.vector = vector, .type = type, .ext = type != EVENT_SOFT,
			     .flags = c->rflags};

	if (type == EVENT_EXCEPTION) {
		e.has_code = fault && fault->has_code;
		e.code = e.has_code ? fault->code : 0;
		if (is_fault_class(vector))
			e.flags |= RFLAGS_RF;
	} else if (type == EVENT_SOFT) {
		e.flags &= ~RFLAGS_RF;
	}
	if (is_long_mode(c))
		return through_idt64(c, &e);
	return is_protected(c) ? through_idt32(c, &e) : through_ivt(c, &e);
}

enum severity { BENIGN, CONTRIBUTORY, PAGE_FAULT, DOUBLE_FAULT };

static enum severity severity(uint8_t vector, enum event_type type)
{
	const uint32_t contributory = 1u << X86_DE | 1u << X86_TS | 1u << X86_NP |
				      1u << X86_SSV | 1u << X86_GP;

	if (type != EVENT_EXCEPTION)
		return BENIGN;
	if (vector == X86_DF)
		return DOUBLE_FAULT;
	if (vector == X86_PFV)
		return PAGE_FAULT;
	return vector < 32 && (contributory >> vector & 1) ? CONTRIBUTORY : BENIGN;
}

/* c->fault came up while `first` was delivered: what is delivered now goes into c->fault.
 * False: shutdown. */
static bool combine(struct vcpu *c, enum severity first)
{
	const enum severity second = severity(c->fault.vector, EVENT_EXCEPTION);

	if (first == DOUBLE_FAULT && second != BENIGN)
		return false;
	if ((first == CONTRIBUTORY && second == CONTRIBUTORY) ||
	    (first == PAGE_FAULT && second != BENIGN))
		fault_code(c, X86_DF, 0);
	return true;
}

/* CR2, DR6: what an exception leaves in registers whatever becomes of its delivery. */
static void note_fault(struct vcpu *c, const struct fault *f)
{
	if (f->vector == X86_PFV) {
		c->cr2 = f->cr2;
	} else if (f->vector == X86_DB) {
		c->dr6 = (c->dr6 & ~0xfull) | f->dr6 | DR6_FIXED;
		c->dr7 &= ~DR7_GD;
	}
}

/* Delivery could not be finished now. (That of INT n is begun again by the instruction.) */
static void keep(struct vcpu *c, uint8_t vector, enum event_type type,
		 const struct fault *fault)
{
	if (type == EVENT_EXCEPTION) {
		c->event.exception = true;
		c->event.fault = *fault;
	} else if (type == EVENT_INTERRUPT) {
		c->event.interrupt = true;
		c->event.interrupt_soft = false;
		c->event.interrupt_vector = vector;
	} else if (type == EVENT_NMI) {
		c->event.nmi_pending++;
	}
	c->io.delivery = type != EVENT_SOFT;
}

enum step event_deliver(struct vcpu *c, uint8_t vector, enum event_type type,
			const struct fault *fault)
{
	struct fault f = fault ? *fault : (struct fault){.vector = vector};
	const bool stepping = c->rflags & RFLAGS_TF;
	enum step rc;

	for (;;) {
		if (type != EVENT_SOFT)
			io_begin(c);
		rc = through_table(c, vector, type, &f);
		if (rc != STEP_FAULT || type == EVENT_SOFT)
			break;
		io_commit(c); /* what is delivered now has its own */
		note_fault(c, &c->fault); /* also of one that becomes #DF */
		if (!combine(c, severity(vector, type)))
			return STEP_TRIPLE;
		f = c->fault;
		vector = f.vector;
		type = EVENT_EXCEPTION;
	}
	if (rc == STEP_OK) {
		c->event.shadow = 0;
		c->event.no_trap = stepping && type == EVENT_SOFT;
		if (type == EVENT_NMI)
			c->event.nmi_masked = true;
		if (type == EVENT_EXCEPTION)
			c->stat.exceptions++;
		else
			c->stat.interrupts++;
		io_commit(c);
	} else if (rc != STEP_FAULT) {
		keep(c, vector, type, &f);
	}
	return rc;
}

/* An instruction that faults has hit no data breakpoint: it will be executed again. What MOV SS
 * held back goes the same way, or is reported together with a #DB. (Left for later it would trap
 * behind the handler's first instruction: on #DB's own stack, over the frame that is there.) */
enum step event_fault(struct vcpu *c)
{
	struct fault f = c->fault;

	if (f.vector == X86_DB)
		f.dr6 |= c->event.watch_hits;
	c->event.watch_hits = 0;
	if (f.vector == X86_DB && event_debug_trap(c, f.dr6)) {
		io_commit(c);
		return STEP_EXIT;
	}
	note_fault(c, &f);
	io_commit(c); /* the instruction's: it is over */
	return event_deliver(c, f.vector, EVENT_EXCEPTION, &f);
}

/* -- The client that debugs --------------------------------------------------------------- */

/* As KVM_EXIT_DEBUG tells it. rip is behind an instruction that was traced, or at one that was not executed. */
static void debug_exit(struct vcpu *c, uint8_t vector, uint64_t dr6)
{
	c->run->exit_reason = KVM_EXIT_DEBUG;
	c->run->debug.arch.exception = vector;
	c->run->debug.arch.pad = 0;
	c->run->debug.arch.pc = (is_64bit_code(c) ? 0 : c->seg[X86_CS].base) + c->rip;
	c->run->debug.arch.dr6 = dr6;
	c->run->debug.arch.dr7 = event_dr7(c);
}

bool event_debug_trap(struct vcpu *c, uint64_t dr6)
{
	if (!(c->debug.control & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP)))
		return false;
	debug_exit(c, X86_DB, dr6 | DR6_FIXED);
	return true;
}

bool event_debug_int3(struct vcpu *c, unsigned len)
{
	if (!(c->debug.control & KVM_GUESTDBG_USE_SW_BP))
		return false;
	debug_exit(c, X86_BP, 0);
	c->debug.bp_rip = c->rip;
	c->debug.bp_len = (uint8_t)len;
	return true;
}

/* An INT3 that is not the client's after all comes back as an exception: it is a trap, behind the instruction. */
static void skip_int3(struct vcpu *c)
{
	if (c->debug.bp_len && c->rip == c->debug.bp_rip)
		c->rip += c->debug.bp_len;
	c->debug.bp_len = 0;
}

/* -- Injection ---------------------------------------------------------------------------- */

static bool interrupts_open(const struct vcpu *c)
{
	return (c->rflags & RFLAGS_IF) && !c->event.shadow;
}

enum step event_inject(struct vcpu *c, bool *delivered)
{
	struct vcpu_events *ev = &c->event;
	bool pending;
	int vector;

	*delivered = true;
	ev->window = true; /* what is delivered closes it, and others may wait */
	if (ev->exception) {
		const struct fault f = ev->fault;

		ev->exception = false;
		if (f.vector == X86_BP)
			skip_int3(c);
		return event_deliver(c, f.vector, EVENT_EXCEPTION, &f);
	}
	if (ev->interrupt) {
		ev->interrupt = false;
		return event_deliver(c, ev->interrupt_vector, EVENT_INTERRUPT, NULL);
	}
	if (c->debug.control & KVM_GUESTDBG_BLOCKIRQ) {
		ev->window = *delivered = false;
		return STEP_OK;
	}
	if (ev->nmi_pending && !ev->nmi_masked && !ev->shadow) {
		ev->nmi_pending--;
		return event_deliver(c, X86_NMI, EVENT_NMI, NULL);
	}
	pending = c->vm->irqchip && irqchip_pending(c) >= 0;
	ev->window = pending || (c->run->request_interrupt_window && !irqchip_has_pic(c->vm));
	if (pending && interrupts_open(c)) {
		vector = irqchip_ack(c);
		if (vector >= 0)
			return event_deliver(c, (uint8_t)vector, EVENT_INTERRUPT, NULL);
	}
	c->stat.irq_windows += ev->window;
	io_commit(c); /* of one that the client took back */
	*delivered = false;
	return STEP_OK;
}

bool event_ready(struct vcpu *c)
{
	if (c->event.exception || c->event.interrupt)
		return true;
	if (c->event.nmi_pending && !c->event.nmi_masked)
		return true;
	return (c->rflags & RFLAGS_IF) && c->vm->irqchip && irqchip_pending(c) >= 0;
}

/* -- Debug traps -------------------------------------------------------------------------- */

static bool armed(const struct vcpu *c, unsigned i)
{
	return event_dr7(c) >> (2 * i) & 3;
}

static uint64_t address(const struct vcpu *c, unsigned i)
{
	return c->debug.control & KVM_GUESTDBG_USE_HW_BP ? c->debug.dr[i] : c->dr[i];
}

static unsigned kind_of(const struct vcpu *c, unsigned i)
{
	return event_dr7(c) >> (16 + 4 * i) & 3; /* 0 execute, 1 write, 2 port, 3 read or write */
}

bool event_code_breakpoint(struct vcpu *c, uint64_t lin)
{
	uint64_t hits = 0;

	if (c->rflags & RFLAGS_RF)
		return false;
	/* Behind MOV SS Intel's processors do not look at instruction breakpoints. */
	if (!c->amd && c->event.shadow & KVM_X86_SHADOW_INT_MOV_SS)
		return false;
	for (unsigned i = 0; i < 4; i++)
		if (armed(c, i) && kind_of(c, i) == 0 && address(c, i) == lin)
			hits |= 1u << i;
	if (!hits)
		return false;
	c->fault = (struct fault){.vector = X86_DB, .dr6 = hits};
	return true;
}

void event_watch(struct vcpu *c, uint64_t lin, unsigned len, bool write)
{
	static const uint8_t lengths[4] = {1, 2, 8, 4};

	for (unsigned i = 0; i < 4; i++) {
		const unsigned kind = kind_of(c, i);
		const unsigned size = lengths[event_dr7(c) >> (18 + 4 * i) & 3];
		const uint64_t at = address(c, i) & ~(uint64_t)(size - 1);

		if (armed(c, i) && (kind == 3 || (kind == 1 && write)) && lin < at + size &&
		    at < lin + len)
			c->event.watch_hits |= (uint8_t)(1u << i);
	}
}

enum step event_after_insn(struct vcpu *c, uint64_t rflags_before)
{
	struct vcpu_events *ev = &c->event;
	uint64_t dr6;

	if (rflags_before & RFLAGS_RF && !ev->keep_rf)
		c->rflags &= ~RFLAGS_RF;
	ev->keep_rf = false;
	if (ev->shadow & KVM_X86_SHADOW_INT_MOV_SS)
		return STEP_OK; /* held back until after the next instruction */
	dr6 = ev->watch_hits;
	if ((rflags_before & RFLAGS_TF) && !ev->no_trap)
		dr6 |= DR6_BS;
	if (c->debug.control & KVM_GUESTDBG_SINGLESTEP)
		dr6 |= DR6_BS;
	ev->watch_hits = 0;
	ev->no_trap = false;
	if (!dr6)
		return STEP_OK;
	c->fault = (struct fault){.vector = X86_DB, .dr6 = dr6};
	return STEP_FAULT;
}
