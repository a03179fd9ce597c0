/* SPDX-License-Identifier: MIT */
/*
 * KVM_RUN: the loop around everything.
 *
 *	      +-> requests of others, deadlines -> events to deliver? -+
 *	      |                                                        v
 *	      +-- again <- HLT sleeps <- what happened <- translated code, or one
 *	                                   |              interpreted instruction
 *	                                   v
 *	                         exit reason for the client
 *
 * Interpreted one by one are: instructions that the client must finish (a device access was
 * answered and the rest has to run before any interrupt), the one after STI or MOV SS, code
 * under TF or breakpoints, and what the translator does not do (16-bit code, segments that are
 * not flat).
 *
 * `running` is 1 while the vCPU may touch guest memory or hold TLB entries in use: others wait
 * for it (smc.c). It is cleared before sleeping, and requests are looked at after it is set.
 */
#include <errno.h>

#include "softkvm/interp/event.h"
#include "softkvm/irqchip/irqchip.h"
#include "softkvm/mmu/io.h"
#include "softkvm/mmu/tlb.h"
#include "softkvm/os/current.h"
#include "softkvm/os/syscall.h"
#include "softkvm/run/gsbase.h"
#include "softkvm/run/run.h"
#include "softkvm/state/clock.h"
#include "softkvm/state/reset.h"
#include "softkvm/state/vector.h"
#include "softkvm/translate/translate.h"

#define TIMER_ABSTIME_FLAG 1

/* Any thread. */
void vcpu_kick(struct vcpu *c, uint32_t bits)
{
	atomic_fetch_or(&c->requests, bits);
	if (c->engine && !atomic_load(&c->engine->running)) {
		atomic_fetch_add(&c->wake, 1);
		sys_futex_wake(&c->wake, 1);
	}
}

/* -- Deadlines --------------------------------------------------------------------- */

static void arm(struct engine *e, uint64_t deadline)
{
	struct {
		struct __kernel_timespec interval, value;
	} t = {.value = {.tv_sec = (long long)(deadline / 1000000000u),
			 .tv_nsec = (long long)(deadline % 1000000000u)}};

	/* An earlier alarm that is armed already comes here again and then arms the right one. */
	if (deadline == UINT64_MAX || (e->armed && e->armed <= deadline))
		return;
	e->armed = deadline;
	sys_call6(SYS_timer_settime, e->timer, TIMER_ABSTIME_FLAG, (long)&t, 0, 0, 0);
}

static void serve_timers(struct vcpu *c)
{
	uint64_t now = now_ns();

	if (!c->lapic)
		return;
	if (c->engine->armed <= now) /* its signal may have come outside KVM_RUN */
		c->engine->armed = 0;
	irqchip_expire(c, now);
	arm(c->engine, irqchip_deadline(c));
}

/* -- Requests ---------------------------------------------------------------------- */

/* A CPU that serves an NMI remembers one more. One that does not will serve the first of two
 * before the second, however close they came: so it has both. */
static void take_nmis(struct vcpu *c)
{
	uint32_t n = c->event.nmi_pending + atomic_exchange(&c->nmis_arrived, 0);
	uint32_t most = c->event.nmi_masked ? 1 : 2;

	c->event.nmi_pending = (uint8_t)(n < most ? n : most);
}

static void take_startup(struct vcpu *c, uint32_t requests)
{
	if (requests & REQ_INIT)
		vcpu_init_signal(c);
	if (requests & REQ_SIPI)
		vcpu_sipi(c, c->sipi_vector);
}

void vcpu_take_startup(struct vcpu *c)
{
	take_startup(c, atomic_fetch_and(&c->requests, ~(REQ_INIT | REQ_SIPI)));
}

/* True: KVM_RUN returns -EINTR. A timer may find that out here (irqchip/lapic_timer.c). */
static bool serve_requests(struct vcpu *c)
{
	uint32_t r = atomic_exchange(&c->requests, 0);

	if (r & REQ_TLB_FLUSH)
		mmu_flush_all(c);
	if (r & (REQ_CODE | REQ_MMU_SYNC))
		code_requests(c, r);
	if (r & REQ_TIMER)
		serve_timers(c);
	if (r & REQ_CLOCK)
		kvmclock_update(c);
	if (r & REQ_NMI)
		take_nmis(c);
	take_startup(c, r);
	return (r | atomic_fetch_and(&c->requests, ~REQ_EXIT)) & REQ_EXIT;
}

/* -- Sleeping ---------------------------------------------------------------------- */

static bool must_sleep(struct vcpu *c)
{
	if (c->mp_state == KVM_MP_STATE_HALTED && event_ready(c))
		c->mp_state = KVM_MP_STATE_RUNNABLE;
	return c->mp_state != KVM_MP_STATE_RUNNABLE;
}

static void sleep_once(struct vcpu *c)
{
	struct engine *e = c->engine;
	uint32_t word = atomic_load(&c->wake);
	uint64_t deadline = c->lapic ? irqchip_deadline(c) : UINT64_MAX;

	atomic_store(&e->running, 0);
	if (!atomic_load(&c->requests))
		sys_futex_wait_until(&c->wake, word, deadline);
	atomic_store(&e->running, 1);
	gs_select(e);
	if (c->lapic)
		irqchip_expire(c, now_ns());
}

/* -- Executing --------------------------------------------------------------------- */

static enum step interpret_one(struct vcpu *c)
{
	uint64_t flags = c->rflags;
	uint8_t shadow = c->event.shadow;
	enum step step;

	c->stat.interpreted++;
	io_begin(c);
	if (event_breakpoints(c) && !c->io.n &&
	    event_code_breakpoint(c, c->seg[X86_CS].base + c->rip))
		return STEP_FAULT;
	step = interp_step(c);
	if (c->engine->n_changes)
		post_changes(c);
	if (step == STEP_OK || step == STEP_HALT) {
		io_commit(c);
		event_shadow_step(c, shadow);
		if (event_after_insn(c, flags) == STEP_FAULT)
			return STEP_FAULT;
	}
	return step;
}

/* How many instructions are interpreted in a row where the translator refuses. */
#define INTERPRET_RUN 64

static enum step interpret_some(struct vcpu *c)
{
	enum step step = STEP_OK;
	int i;

	for (i = 0; i < INTERPRET_RUN && step == STEP_OK; i++) {
		if (i && (atomic_load_explicit(&c->requests, memory_order_relaxed) ||
			  c->event.shadow))
			break;
		step = interpret_one(c);
	}
	return step;
}

static enum step execute(struct vcpu *c)
{
	uint64_t host;

	if (c->io.n || c->event.shadow)
		return interpret_one(c);
	host = dispatch(c);
	if (host != code_addr(c->engine, c->engine->thunk.leave))
		translated_run(c, host);
	if (c->engine->leave == STEP_INTERPRET)
		return interpret_some(c);
	return c->engine->leave;
}

/* -- The loop ---------------------------------------------------------------------- */

static int interrupted(struct vcpu *c)
{
	c->run->exit_reason = KVM_EXIT_INTR;
	c->stat.exit_intr++;
	return -EINTR;
}

/* Before anything was run: as the kernel does it, the reason stays that of the last exit. */
static int not_begun(struct vcpu *c)
{
	c->stat.exit_intr++;
	return -EINTR;
}

static void count_exit(struct vcpu *c)
{
	switch (c->run->exit_reason) {
	case KVM_EXIT_IO:
		c->stat.exit_io++;
		break;
	case KVM_EXIT_MMIO:
		c->stat.exit_mmio++;
		break;
	default:
		c->stat.exit_other++;
	}
}

static int client_exit(struct vcpu *c, uint32_t reason)
{
	c->run->exit_reason = reason;
	count_exit(c);
	return 0;
}

/* A client that has the PIC asks when it may inject. */
static bool window_open(struct vcpu *c)
{
	return c->run->request_interrupt_window && !irqchip_has_pic(c->vm) && irqchip_takes_interrupt(c);
}

/* A client that has the IOAPIC hears of EOIs before any other exit: they are nowhere else, and it may save what it has. */
static bool tell_eoi(struct vcpu *c)
{
	int vector = irqchip_take_eoi(c);

	if (vector < 0)
		return false;
	c->run->eoi.vector = (uint8_t)vector;
	client_exit(c, KVM_EXIT_IOAPIC_EOI);
	return true;
}

/* The access that this exit is for is made anew then, as nobody has seen it. */
static int access_exit(struct vcpu *c)
{
	if (c->event.eois && c->io.waiting) {
		c->io.waiting = false;
		tell_eoi(c);
		return 0;
	}
	count_exit(c);
	return 0;
}

/* What a step means for KVM_RUN: 1: go on, else its result. */
static int after(struct vcpu *c, enum step step)
{
	if (step == STEP_FAULT)
		step = event_fault(c);
	switch (step) {
	case STEP_EXIT:
		return access_exit(c);
	case STEP_EFAULT:
		client_exit(c, KVM_EXIT_UNKNOWN);
		return -EFAULT;
	case STEP_HALT:
		if (!c->lapic)
			return client_exit(c, KVM_EXIT_HLT);
		c->stat.halts++;
		c->mp_state = KVM_MP_STATE_HALTED;
		return 1;
	case STEP_TRIPLE:
		return client_exit(c, KVM_EXIT_SHUTDOWN);
	default:
		return 1;
	}
}

static int loop(struct vcpu *c)
{
	bool delivered = false, leave = false, begun = false;
	enum step step;
	int rc = 1;

	while (rc == 1) {
		if (c->engine->n_changes)
			post_changes(c);
		leave |= serve_requests(c);
		/* An access that the client answered is completed before anybody is heard:
		 * clients set immediate_exit to get just that, before they read the state. */
		if (!c->io.n) {
			if (c->event.eois && tell_eoi(c))
				return 0;
			if (leave)
				return interrupted(c);
			if (c->run->immediate_exit && !begun)
				return not_begun(c);
			begun = true;
		}
		if (c->event.tpr_lowered) {
			c->event.tpr_lowered = false;
			return client_exit(c, KVM_EXIT_SET_TPR);
		}
		if (!c->io.n && must_sleep(c)) { /* the client may have halted it meanwhile */
			sleep_once(c);
			continue;
		}
		step = STEP_OK;
		if (!c->io.n || c->io.delivery) {
			step = event_inject(c, &delivered);
			if (step == STEP_OK && window_open(c))
				return client_exit(c, KVM_EXIT_IRQ_WINDOW_OPEN);
		}
		if (step == STEP_OK)
			step = execute(c);
		rc = after(c, step);
	}
	return rc;
}

/* The client may have changed what translations depend on. */
static void check_paging(struct vcpu *c)
{
	struct engine *e = c->engine;
	uint64_t now[4] = {c->cr0, c->cr3, c->cr4, c->efer};
	bool same = true;
	int i;

	for (i = 0; i < 4; i++) {
		same &= e->paging[i] == now[i];
		e->paging[i] = now[i];
	}
	if (!same || c->debug.control) /* the client writes its INT3s when it likes */
		mmu_flush_all(c);
	else if (!(c->cr0 & CR0_PG)) /* smc.c: case 3 */
		mmu_flush_code(c);
}

static void remember_paging(struct vcpu *c)
{
	struct engine *e = c->engine;

	e->paging[0] = c->cr0;
	e->paging[1] = c->cr3;
	e->paging[2] = c->cr4;
	e->paging[3] = c->efer;
}

/* Its registers were the thread's, and are gone. */
void vcpu_abandon(struct vcpu *c)
{
	c->engine->abandoned = true;
	c->engine->in_run = false;
	atomic_store(&c->engine->running, 0);
	current_vcpu = NULL;
}

int vcpu_run(struct vcpu *c)
{
	struct engine *e = c->engine;
	int rc;

	if (current_vcpu) /* from a signal handler */
		return -EBUSY;
	if (e->abandoned)
		return -EIO;
	rc = timer_begin(e);
	if (!rc)
		rc = gs_begin(e);
	if (rc)
		return rc;
	c->stat.runs++;
	current_vcpu = c;
	c->scratch[SCR_HOST_RSP] = 0;
	vec_load(c);
	e->in_run = true;
	atomic_store(&e->running, 1);
	atomic_fetch_or(&c->requests, REQ_TIMER);
	check_paging(c);
	tlb_select(c);
	io_complete(c);
	rc = loop(c);
	remember_paging(c);
	atomic_store(&e->running, 0);
	e->in_run = false;
	vec_save(c);
	gs_end(e);
	current_vcpu = NULL;
	return rc;
}
