/* SPDX-License-Identifier: MIT */
/*
 * The timer of the local APIC, computed and not ticked.
 *
 *	mode          armed by                   expires                      then
 *	one-shot      TIMER_INITIAL, not 0       count reaches 0              stays 0
 *	periodic      TIMER_INITIAL, not 0       count reaches 0              starts over
 *	TSC-deadline  IA32_TSC_DEADLINE, not 0   guest TSC reaches it         MSR becomes 0
 *
 * The bus clock is 1 GHz as in KVM: the count falls by one in (divide) nanoseconds.
 * Time is that of now_ns(); a deadline in TSC units is converted on each question, so
 * that a change of the TSC's offset needs no care.
 *
 * A masked timer runs, its expiry goes unnoticed. So nobody is woken for it, and
 * instead every entrance to this file first brings the state up to now (settle()): what
 * expired under a mask does not fire when the mask goes.
 *
 * An expiry that is noticed late by a second says that the vCPU's thread did not run: somebody has
 * stopped it, or the host had no CPU for it. The guest's watchdogs will find the same by their
 * clocks, and take it for a fault of the guest's. So KVM_RUN returns -EINTR before the interrupt
 * is delivered, as the kernel's does when its thread is stopped, and the client may say so to
 * the guest (KVM_KVMCLOCK_CTRL).
 *
 * All functions belong to the vCPU's thread, or to ioctls while it is outside of
 * KVM_RUN.
 * Source: Intel SDM volume 3, "APIC Timer".
 */
#include "softkvm/irqchip/internal.h"

/* A guest may not ask for more periodic interrupts than this; KVM has the same bound.
 * */
#define PERIOD_MIN 200000u /* ns */

/* So late nothing is by chance. */
#define AWAY 1000000000u /* ns */

static uint32_t mode(struct lapic *l)
{
	return lapic_reg(l, LAPIC_LVT_TIMER) & LVT_TIMER_MODE;
}

static uint64_t divide(struct lapic *l)
{
	uint32_t value = lapic_reg(l, LAPIC_TIMER_DIVIDE);

	/* Bits 3, 1, 0: divide by 2, 4, ... 128, and 7 is 1. */
	return 1ull << ((((value & 3) | (value >> 1 & 4)) + 1) & 7);
}

static uint64_t guest_tsc(const struct vcpu *c)
{
	return host_tsc() + c->tsc_offset;
}

/* -- Expiry -------------------------------------------------------------------------------- */

static bool counts_down(struct lapic *l)
{
	return l->timer.deadline != NEVER;
}

/* Periods that went by unseen are one interrupt: IRR has but one bit for them. */
static void advance(struct lapic_timer *t, uint64_t now)
{
	uint64_t late = now - t->deadline;

	if (late < t->period)
		t->deadline += t->period;
	else
		t->deadline += t->period * (late / t->period + 1);
}

/* To a millisecond. */
static uint64_t cycles_to_ns(const struct vcpu *c, uint64_t cycles)
{
	uint64_t khz = c->vm->host_tsc_khz;

	return khz ? cycles / khz * 1000000 : 0;
}

/* Brings the state up to `now`. If the timer expired meanwhile, how long ago in ns; else NEVER. */
static uint64_t settle(struct vcpu *c, uint64_t now)
{
	struct lapic *l = c->lapic;
	struct lapic_timer *t = &l->timer;
	uint64_t late;

	if (mode(l) == LVT_TIMER_DEADLINE) {
		uint64_t tsc = guest_tsc(c);

		if (!t->tsc_deadline || tsc < t->tsc_deadline)
			return NEVER;
		late = cycles_to_ns(c, tsc - t->tsc_deadline);
		t->tsc_deadline = 0;
		return late;
	}
	if (!counts_down(l) || now < t->deadline)
		return NEVER;
	late = now - t->deadline;
	if (mode(l) == LVT_TIMER_PERIODIC && t->period)
		advance(t, now);
	else
		t->deadline = NEVER;
	return late;
}

void lapic_timer_expire(struct vcpu *c, uint64_t now)
{
	uint64_t late = settle(c, now);

	if (late == NEVER)
		return;
	if (late >= AWAY)
		request_self(c, REQ_EXIT);
	lapic_lvt_deliver(c, LAPIC_LVT_TIMER);
}

static uint64_t deadline_of_tsc(struct vcpu *c)
{
	uint64_t tsc = guest_tsc(c), wanted = c->lapic->timer.tsc_deadline;
	uint64_t khz = c->vm->host_tsc_khz, scale;
	unsigned __int128 ns;

	if (wanted <= tsc || !khz)
		return now_ns();
	scale = (1000000ull << 32) / khz; /* ns of a cycle, 32 bits of fraction */
	ns = (unsigned __int128)(wanted - tsc) * scale >> 32;
	return ns >> 62 ? NEVER : now_ns() + (uint64_t)ns + 1;
}

uint64_t lapic_timer_deadline(struct vcpu *c)
{
	struct lapic *l = c->lapic;

	if (lapic_reg(l, LAPIC_LVT_TIMER) & LVT_MASKED)
		return NEVER;
	if (mode(l) == LVT_TIMER_DEADLINE)
		return l->timer.tsc_deadline ? deadline_of_tsc(c) : NEVER;
	return l->timer.deadline;
}

/* -- The countdown's registers ------------------------------------------------------------- */

void lapic_timer_stop(struct lapic *l)
{
	l->timer = (struct lapic_timer){.deadline = NEVER};
}

static void set_period(struct lapic *l)
{
	uint64_t period = lapic_reg(l, LAPIC_TIMER_INITIAL) * divide(l);

	if (mode(l) == LVT_TIMER_PERIODIC && period && period < PERIOD_MIN)
		period = PERIOD_MIN;
	l->timer.period = period;
}

static void start(struct vcpu *c, uint64_t left)
{
	struct lapic *l = c->lapic;

	l->timer.deadline = left ? now_ns() + left : NEVER;
	request_self(c, REQ_TIMER);
}

void lapic_timer_start(struct vcpu *c, uint32_t initial)
{
	struct lapic *l = c->lapic;

	if (mode(l) == LVT_TIMER_DEADLINE)
		return; /* writes are ignored in this mode */
	lapic_timer_expire(c, now_ns());
	lapic_put(l, LAPIC_TIMER_INITIAL, initial);
	set_period(l);
	start(c, l->timer.period);
}

uint32_t lapic_timer_current(struct vcpu *c)
{
	struct lapic *l = c->lapic;
	uint64_t now;

	if (mode(l) == LVT_TIMER_DEADLINE || !counts_down(l))
		return 0;
	now = now_ns();
	lapic_timer_expire(c, now);
	return counts_down(l) ? (uint32_t)((l->timer.deadline - now) / divide(l)) : 0;
}

/* The count stays what it is, its speed changes. */
void lapic_timer_divide(struct vcpu *c, uint32_t value)
{
	struct lapic *l = c->lapic;
	uint64_t current = lapic_timer_current(c);

	lapic_put(l, LAPIC_TIMER_DIVIDE, value);
	set_period(l);
	if (counts_down(l))
		start(c, current * divide(l));
}

/* -- The local vector table's entry, and the TSC deadline ---------------------------------- */

void lapic_timer_lvt(struct vcpu *c, uint32_t value)
{
	struct lapic *l = c->lapic;
	uint32_t old = mode(l), new = value &LVT_TIMER_MODE;

	lapic_timer_expire(c, now_ns());
	lapic_put(l, LAPIC_LVT_TIMER, value);
	if (old != new && (old == LVT_TIMER_DEADLINE || new == LVT_TIMER_DEADLINE)) {
		lapic_timer_stop(l);
		lapic_put(l, LAPIC_TIMER_INITIAL, 0);
	} else if (old != new) {
		set_period(l);
	}
	request_self(c, REQ_TIMER);
}

uint64_t lapic_timer_tsc(struct vcpu *c)
{
	if (mode(c->lapic) != LVT_TIMER_DEADLINE)
		return 0;
	lapic_timer_expire(c, 0);
	return c->lapic->timer.tsc_deadline;
}

void lapic_timer_set_tsc(struct vcpu *c, uint64_t value)
{
	if (mode(c->lapic) != LVT_TIMER_DEADLINE)
		return;
	lapic_timer_expire(c, 0);
	c->lapic->timer.tsc_deadline = value;
	if (settle(c, 0) != NEVER) /* one in the past fires at once, and is not late */
		lapic_lvt_deliver(c, LAPIC_LVT_TIMER);
	request_self(c, REQ_TIMER);
}

/* -- KVM_SET_LAPIC: goes on with a count that was saved ------------------------------------ */

void lapic_timer_restore(struct vcpu *c, uint32_t current)
{
	struct lapic *l = c->lapic;
	uint64_t tsc_deadline = l->timer.tsc_deadline;

	lapic_timer_stop(l);
	if (mode(l) == LVT_TIMER_DEADLINE) {
		/* An MSR, which may have been set before this call. */
		l->timer.tsc_deadline = tsc_deadline;
	} else if (lapic_reg(l, LAPIC_TIMER_INITIAL)) {
		set_period(l);
		/* A periodic count of 0 is one that is about to start over. */
		if (current || mode(l) == LVT_TIMER_PERIODIC)
			start(c, current ? current * divide(l) : 1);
	}
	request_self(c, REQ_TIMER);
}
