/* SPDX-License-Identifier: MIT */
/*
 * The local APIC as a whole: reset, IA32_APIC_BASE, and what the client saves and
 * restores.
 *
 *	           EN=0 X2=0                           SDM: transitions of IA32_APIC_BASE.
 *	           disabled  <---------------.         Others are #GP, EN=0 X2=1 is no state.
 *	          /        ^                  \
 *	         v          \                  \
 *	   EN=1 X2=0 ------------------> EN=1 X2=1
 *	   xAPIC                         x2APIC
 *
 * KVM_GET_LAPIC hands out the page as xAPIC mode shows it, with one exception: what the
 * ID register holds in x2APIC mode depends on KVM_X2APIC_API_USE_32BIT_IDS (the whole
 * id, or its low byte in the upper one).
 * Source: Intel SDM volume 3, "Extended XAPIC (x2APIC)"; the kernel's KVM API document.
 */
#include "softkvm/irqchip/internal.h"


/* -- Reset --------------------------------------------------------------------------------- */

/* An APIC of the integrated kind, with entries up to LVT_ERROR (number 5). */
#define VERSION 0x00050014u

static bool is_boot_cpu(const struct vcpu *c)
{
	return c->id == c->vm->boot_cpu_id;
}

static void set_ids(struct vcpu *c)
{
	struct lapic *l = c->lapic;
	uint32_t id = c->id;

	if (lapic_is_x2apic(c)) {
		lapic_put(l, LAPIC_ID, id);
		lapic_put(l, LAPIC_LDR, lapic_x2apic_ldr(id));
	} else {
		lapic_put(l, LAPIC_ID, id << 24);
		lapic_put(l, LAPIC_LDR, 0);
	}
}

void lapic_reset(struct vcpu *c, bool init_signal)
{
	struct lapic *l = c->lapic;

	if (!init_signal)
		c->apic_base = APIC_BASE_ADDR | APIC_BASE_ENABLE |
			       (is_boot_cpu(c) ? APIC_BASE_BSP : 0);
	if (!l)
		return;
	for (unsigned reg = 0; reg < LAPIC_REGS; reg++)
		lapic_put(l, reg, 0);
	atomic_store(&l->irr_hint, 0);
	atomic_store(&l->errors, 0);
	lapic_timer_stop(l);
	lapic_put(l, LAPIC_VERSION, VERSION);
	lapic_put(l, LAPIC_DFR, DFR_FLAT);
	lapic_put(l, LAPIC_SVR, 0xff);
	for (unsigned lvt = LAPIC_LVT_TIMER; lvt <= LAPIC_LVT_ERROR; lvt++)
		lapic_put(l, lvt, LVT_MASKED);
	/* Firmware leaves the boot processor in "virtual wire" mode, and kernels that
	 * are loaded without firmware expect it; KVM does this (a quirk of its,
	 * LINT0_REENABLED). */
	if (is_boot_cpu(c))
		lapic_put(l, LAPIC_LVT_LINT0, APIC_EXTINT << 8);
	set_ids(c);
	request_self(c, REQ_TIMER);
}

/* -- IA32_APIC_BASE ------------------------------------------------------------------------ */

static bool is_reserved(const struct vcpu *c, uint64_t value)
{
	unsigned bits = c->max_phys_bits ? c->max_phys_bits : 52;
	uint64_t known = APIC_BASE_BSP | APIC_BASE_ENABLE | APIC_BASE_X2APIC;

	return value & ~(((1ull << bits) - 1) & ~0xfffull) & ~known;
}

static bool is_transition(uint64_t old, uint64_t new)
{
	const uint64_t on = APIC_BASE_ENABLE, x2 = APIC_BASE_ENABLE | APIC_BASE_X2APIC;

	old &= x2;
	new &= x2;
	return old == new || new == 0 || (old == 0 && new == on) ||
	       (old == on && new == x2);
}

int lapic_set_base(struct vcpu *c, uint64_t value, bool client)
{
	uint64_t old = c->apic_base;

	if (is_reserved(c, value))
		return -1;
	if (value & APIC_BASE_X2APIC && !(value & APIC_BASE_ENABLE))
		return -1;
	if (!client && ((value & APIC_BASE_X2APIC && !cpu_set_has(&c->features, FEATURE_x2apic)) ||
			!is_transition(old, value)))
		return -1;
	__atomic_store_n(&c->apic_base, value, __ATOMIC_RELAXED);
	if (!c->lapic)
		return 0;
	if ((old ^ value) & (APIC_BASE_ENABLE | APIC_BASE_X2APIC)) {
		set_ids(c);
		request_self(c, REQ_EVENT | REQ_TIMER);
	}
	return 0;
}

/* -- Save and restore ---------------------------------------------------------------------- */

static void put32(struct kvm_lapic_state *state, unsigned reg, uint32_t value)
{
	for (int i = 0; i < 16; i++)
		state->regs[reg * 16 + i] = i < 4 ? (char)(value >> 8 * i) : 0;
}

static uint32_t get32(const struct kvm_lapic_state *state, unsigned reg)
{
	uint32_t value = 0;

	for (int i = 0; i < 4; i++)
		value |= (uint32_t)(uint8_t)state->regs[reg * 16 + i] << 8 * i;
	return value;
}

static bool ids32(const struct vcpu *c)
{
	return c->vm->x2apic_api & KVM_X2APIC_API_USE_32BIT_IDS;
}

int lapic_get(struct vcpu *c, struct kvm_lapic_state *state)
{
	struct lapic *l = c->lapic;

	if (!l)
		return -EINVAL;
	put32(state, LAPIC_TIMER_CURRENT, lapic_timer_current(c));
	for (unsigned reg = 0; reg < LAPIC_REGS; reg++)
		if (reg != LAPIC_TIMER_CURRENT)
			put32(state, reg, lapic_reg(l, reg));
	if (lapic_is_x2apic(c) && !ids32(c))
		put32(state, LAPIC_ID, lapic_reg(l, LAPIC_ID) << 24);
	return 0;
}

int lapic_set(struct vcpu *c, const struct kvm_lapic_state *state)
{
	struct lapic *l = c->lapic;
	uint32_t id = get32(state, LAPIC_ID);

	if (!l)
		return -EINVAL;
	if (lapic_is_x2apic(c) && ids32(c) && id != c->id)
		return -EINVAL;
	for (unsigned reg = 0; reg < LAPIC_REGS; reg++)
		lapic_put(l, reg, get32(state, reg));
	lapic_put(l, LAPIC_VERSION, VERSION);
	lapic_put(l, LAPIC_TIMER_CURRENT, 0);
	if (lapic_is_x2apic(c))
		set_ids(c);
	lapic_update_ppr(l);
	atomic_store(&l->irr_hint, 1);
	lapic_timer_restore(c, get32(state, LAPIC_TIMER_CURRENT));
	request_self(c, REQ_EVENT);
	return 0;
}
