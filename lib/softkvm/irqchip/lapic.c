/* SPDX-License-Identifier: MIT */
/*
 * The local APIC: what one processor knows about interrupts.
 *
 *	messages --> IRR --(priority above PPR)--> ISR --(EOI)--> gone; level: to the IOAPIC
 *	             256 requested                 256 in service
 *
 * A vector's class is its upper four bits. The processor's priority PPR is the higher
 * of TPR (what the guest asks to be spared of) and the class of the highest vector in
 * service; a request of a higher class than PPR's is delivered.
 *
 * Two faces, one set of registers: xAPIC, 32-bit registers in a page of memory, and
 * x2APIC, MSRs from 0x800 on. They differ in the width of APIC ids, the logical id
 * (read-only in x2APIC mode), the ICR (one 64-bit register there), in self-IPI and in
 * how wrong accesses end: #GP there, a bit in ESR or nothing here.
 *
 * Threads: see internal.h. The protocol between lapic_post() (any thread) and
 * irqchip_pending() (the vCPU's thread) is
 *
 *	post                            pending
 *	  set the bit in IRR              hint = 0
 *	  hint = 1                        scan IRR; if not empty, hint = 1
 *	  kick
 *
 * with locked instructions between the steps on both sides: a bit that the scan misses
 * was set after hint = 0, so its hint = 1 comes later still, and survives.
 *
 * Left out, as in KVM: remote read, SMI, the thermal and CMCI sources, focus
 * processors, and suppression of EOI broadcasts (not offered in the version register).
 * Source: Intel SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)".
 */
#include "softkvm/irqchip/internal.h"

/* -- Bitmaps of 256 vectors ---------------------------------------------------------------- */

static bool test_and_set(struct lapic *l, unsigned map, uint8_t vector)
{
	uint32_t bit = 1u << (vector & 31);

	return atomic_fetch_or(&l->reg[map + vector / 32], bit) & bit;
}

static void clear(struct lapic *l, unsigned map, uint8_t vector)
{
	atomic_fetch_and(&l->reg[map + vector / 32], ~(1u << (vector & 31)));
}

static bool test(struct lapic *l, unsigned map, uint8_t vector)
{
	return lapic_reg(l, map + vector / 32) >> (vector & 31) & 1;
}

static int highest(struct lapic *l, unsigned map)
{
	for (int i = 7; i >= 0; i--) {
		uint32_t word = lapic_reg(l, map + i);

		if (word)
			return i * 32 + 31 - __builtin_clz(word);
	}
	return -1;
}

/* -- Priority ------------------------------------------------------------------------------ */

void lapic_update_ppr(struct lapic *l)
{
	uint32_t tpr = lapic_reg(l, LAPIC_TPR) & 0xff;
	int isr = highest(l, LAPIC_ISR);
	uint32_t class = isr < 0 ? 0 : isr & 0xf0;

	lapic_put(l, LAPIC_PPR, (tpr & 0xf0) >= class ? tpr : class);
}

/* PPR may have fallen: what waited in IRR may be due now. */
static void priority_changed(struct vcpu *c)
{
	lapic_update_ppr(c->lapic);
	if (atomic_load_explicit(&c->lapic->irr_hint, memory_order_relaxed))
		request_self(c, REQ_EVENT);
}

static int pending_vector(struct vcpu *c)
{
	struct lapic *l = c->lapic;
	int vector;

	if (!atomic_load_explicit(&l->irr_hint, memory_order_relaxed) ||
	    !lapic_hw_enabled(c))
		return -1;
	atomic_exchange(&l->irr_hint, 0);
	vector = highest(l, LAPIC_IRR);
	if (vector < 0)
		return -1;
	atomic_store_explicit(&l->irr_hint, 1, memory_order_relaxed);
	return (vector & 0xf0) > (int)(lapic_reg(l, LAPIC_PPR) & 0xf0) ? vector : -1;
}

int irqchip_pending(struct vcpu *c)
{
	int vector;

	if (!c->lapic)
		return -1;
	if (c->vm->irqchip &&
	    atomic_load_explicit(&c->vm->irqchip->pic.output, memory_order_relaxed) &&
	    lapic_takes_extint(c)) {
		vector = pic_peek(c->vm);
		if (vector >= 0)
			return vector;
	}
	if (c->event.extint && lapic_takes_extint(c))
		return c->event.extint_vector;
	return pending_vector(c);
}

int irqchip_ack(struct vcpu *c)
{
	struct lapic *l = c->lapic;
	int vector;

	if (!l)
		return -1;
	if (c->vm->irqchip && atomic_load(&c->vm->irqchip->pic.output) &&
	    lapic_takes_extint(c)) {
		vector = pic_ack(c->vm);
		if (vector >= 0)
			return vector;
	}
	if (c->event.extint && lapic_takes_extint(c)) {
		c->event.extint = false;
		return c->event.extint_vector;
	}
	vector = pending_vector(c);
	if (vector < 0)
		return -1;
	clear(l, LAPIC_IRR, (uint8_t)vector);
	test_and_set(l, LAPIC_ISR, (uint8_t)vector);
	lapic_update_ppr(l);
	return vector;
}

uint64_t lapic_get_cr8(struct vcpu *c)
{
	return c->lapic ? lapic_reg(c->lapic, LAPIC_TPR) >> 4 & 15 : c->run->cr8;
}

void lapic_set_cr8(struct vcpu *c, uint64_t value)
{
	if (!c->lapic) {
		c->run->cr8 = value & 15;
		return;
	}
	lapic_put(c->lapic, LAPIC_TPR, (uint32_t)(value & 15) << 4);
	priority_changed(c);
}

/* -- Arrivals ------------------------------------------------------------------------------ */

int lapic_post(struct vcpu *c, uint8_t vector, bool level, bool self)
{
	struct lapic *l = c->lapic;
	bool was_pending;

	if (vector < 16) {
		lapic_error(c, ESR_RECEIVE_VECTOR, self);
		return 0;
	}
	if (test(l, LAPIC_TMR, vector) != level) {
		if (level)
			test_and_set(l, LAPIC_TMR, vector);
		else
			clear(l, LAPIC_TMR, vector);
	}
	was_pending = test_and_set(l, LAPIC_IRR, vector);
	atomic_store(&l->irr_hint, 1);
	if (self)
		request_self(c, REQ_EVENT);
	else
		vcpu_kick(c, REQ_EVENT);
	return !was_pending;
}

void lapic_lvt_deliver(struct vcpu *c, unsigned lvt)
{
	uint32_t entry = lapic_reg(c->lapic, lvt);

	if (entry & LVT_MASKED || !lapic_hw_enabled(c))
		return;
	/* Timer and error entries have no delivery mode; their bits there are 0,
	 * "fixed". */
	switch ((entry & LVT_MODE) >> 8) {
	case APIC_FIXED: lapic_post(c, entry & 0xff, false, true); break;
	case APIC_NMI:
		vcpu_nmi_arrives(c);
		request_self(c, REQ_NMI);
		break;
	}
}

void lapic_error(struct vcpu *c, uint32_t bit, bool self)
{
	struct lapic *l = c->lapic;
	uint32_t old = atomic_fetch_or(&l->errors, bit);
	uint32_t lvt = lapic_reg(l, LAPIC_LVT_ERROR);

	/* One interrupt for each new kind, and none for a bad vector in LVT_ERROR
	 * itself. */
	if (!(old & bit) && !(lvt & LVT_MASKED) && (lvt & 0xff) >= 16)
		lapic_post(c, lvt & 0xff, false, self);
}

bool lapic_takes_extint(struct vcpu *c)
{
	uint32_t lint0 = lapic_reg(c->lapic, LAPIC_LVT_LINT0);

	/* Disabled in hardware, the APIC is a wire: its LINT0 pin is the processor's
	 * INTR. The PIC is wired to the boot processor. */
	if (!lapic_hw_enabled(c))
		return lapic_base(c) & APIC_BASE_BSP;
	return !(lint0 & LVT_MASKED) && (lint0 & LVT_MODE) >> 8 == APIC_EXTINT;
}

void lapic_lint0_rose(struct vcpu *c)
{
	uint32_t lint0 = lapic_reg(c->lapic, LAPIC_LVT_LINT0);

	if (lapic_takes_extint(c)) {
		vcpu_kick(c, REQ_EVENT);
		return;
	}
	if (lint0 & LVT_MASKED || !lapic_hw_enabled(c))
		return;
	if ((lint0 & LVT_MODE) >> 8 == APIC_FIXED) {
		lapic_post(c, lint0 & 0xff, false, false);
	} else if ((lint0 & LVT_MODE) >> 8 == APIC_NMI) {
		vcpu_nmi_arrives(c);
		vcpu_kick(c, REQ_NMI);
	}
}

/* -- Registers, written -------------------------------------------------------------------- */

static void write_tpr(struct vcpu *c, uint32_t value)
{
	lapic_put(c->lapic, LAPIC_TPR, value & 0xff);
	priority_changed(c);
}

static void write_eoi(struct vcpu *c)
{
	struct lapic *l = c->lapic;
	int vector = highest(l, LAPIC_ISR);

	if (vector < 0)
		return;
	clear(l, LAPIC_ISR, (uint8_t)vector);
	priority_changed(c);
	if (!test(l, LAPIC_TMR, (uint8_t)vector))
		return;
	if (!c->vm->irqchip || irqchip_has_pic(c->vm))
		ioapic_eoi(c, (uint8_t)vector);
	else if (routing_is_level(c->vm, (uint8_t)vector))
		lapic_tell_eoi(c, (uint8_t)vector);
}

static void write_svr(struct vcpu *c, uint32_t value)
{
	struct lapic *l = c->lapic;

	lapic_put(l, LAPIC_SVR, value & 0x1ff);
	if (value & SVR_ENABLE)
		return;
	lapic_timer_lvt(c, lapic_reg(l, LAPIC_LVT_TIMER) | LVT_MASKED);
	for (unsigned lvt = LAPIC_LVT_THERMAL; lvt <= LAPIC_LVT_ERROR; lvt++)
		lapic_put(l, lvt, lapic_reg(l, lvt) | LVT_MASKED);
}

/* The bits of LVT entries that software can write. */
static const uint32_t lvt_bits[] = {
	[LAPIC_LVT_TIMER - LAPIC_LVT_TIMER] = 0x700ff,
	[LAPIC_LVT_THERMAL - LAPIC_LVT_TIMER] = 0x107ff,
	[LAPIC_LVT_PERF - LAPIC_LVT_TIMER] = 0x107ff,
	[LAPIC_LVT_LINT0 - LAPIC_LVT_TIMER] = 0x1a7ff,
	[LAPIC_LVT_LINT1 - LAPIC_LVT_TIMER] = 0x1a7ff,
	[LAPIC_LVT_ERROR - LAPIC_LVT_TIMER] = 0x100ff,
};

static void write_lvt(struct vcpu *c, unsigned reg, uint32_t value)
{
	value &= lvt_bits[reg - LAPIC_LVT_TIMER];
	if (!(lapic_reg(c->lapic, LAPIC_SVR) & SVR_ENABLE))
		value |= LVT_MASKED;
	if (reg == LAPIC_LVT_TIMER)
		lapic_timer_lvt(c, value);
	else
		lapic_put(c->lapic, reg, value);
	if (reg == LAPIC_LVT_LINT0)
		request_self(c, REQ_EVENT); /* the PIC may have waited for this */
}

/* ESR shows what was collected up to the last write to it. */
static void write_esr(struct lapic *l)
{
	lapic_put(l, LAPIC_ESR, atomic_exchange(&l->errors, 0));
}

static void write_icr(struct vcpu *c, uint32_t low, uint32_t dest)
{
	low &= ~0x1000u; /* "send pending" reads as 0: sending is instant. Reserved bits are kept, as in KVM */
	lapic_put(c->lapic, LAPIC_ICR, low);
	apic_send_icr(c, low, dest);
}

static void write_id_and_dest(struct lapic *l, unsigned reg, uint32_t value)
{
	static const struct {
		uint32_t writable, ones;
	} field[] = {
		[LAPIC_ID] = {.writable = 0xff000000, .ones = 0},
		[LAPIC_LDR] = {.writable = 0xff000000, .ones = 0},
		[LAPIC_DFR] = {.writable = 0xf0000000, .ones = 0x0fffffff},
	};

	lapic_put(l, reg, (value & field[reg].writable) | field[reg].ones);
}

/* What both faces share: 0, or -1 where there is no such register to write. */
static int write_reg(struct vcpu *c, unsigned reg, uint32_t value)
{
	switch (reg) {
	case LAPIC_TPR: write_tpr(c, value); return 0;
	case LAPIC_EOI: write_eoi(c); return 0;
	case LAPIC_SVR: write_svr(c, value); return 0;
	case LAPIC_ESR: write_esr(c->lapic); return 0;
	case LAPIC_LVT_TIMER ... LAPIC_LVT_ERROR: write_lvt(c, reg, value); return 0;
	case LAPIC_TIMER_INITIAL: lapic_timer_start(c, value); return 0;
	case LAPIC_TIMER_DIVIDE: lapic_timer_divide(c, value & 0xb); return 0;
	}
	return -1;
}

/* -- Registers, read ----------------------------------------------------------------------- */

/* 0, or -1 where there is no such register to read. */
static int read_reg(struct vcpu *c, unsigned reg, uint32_t *value)
{
	switch (reg) {
	case LAPIC_TIMER_CURRENT: *value = lapic_timer_current(c); return 0;
	case LAPIC_ID:
	case LAPIC_VERSION:
	case LAPIC_TPR:
	case LAPIC_PPR:
	case LAPIC_LDR:
	case LAPIC_SVR:
	case LAPIC_ISR ... LAPIC_ESR:
	case LAPIC_ICR:
	case LAPIC_LVT_TIMER ... LAPIC_TIMER_INITIAL:
	case LAPIC_TIMER_DIVIDE: *value = lapic_reg(c->lapic, reg); return 0;
	}
	return -1;
}

/* -- xAPIC: a page of memory --------------------------------------------------------------- */

bool lapic_claims(struct vcpu *c, uint64_t gpa)
{
	return c->lapic && (gpa & ~0xfffull) == (lapic_base(c) & ~0xfffull);
}

static void mmio_write(struct vcpu *c, unsigned reg, uint32_t value)
{
	struct lapic *l = c->lapic;

	switch (reg) {
	case LAPIC_ID:
	case LAPIC_LDR:
	case LAPIC_DFR: write_id_and_dest(l, reg, value); return;
	case LAPIC_ICR: write_icr(c, value, lapic_reg(l, LAPIC_ICR2) >> 24); return;
	case LAPIC_ICR2: lapic_put(l, reg, value & 0xff000000); return;
	}
	if (write_reg(c, reg, value))
		lapic_error(c, ESR_REGISTER, true);
}

static uint32_t mmio_read(struct vcpu *c, unsigned reg)
{
	uint32_t value = 0;

	switch (reg) {
	case LAPIC_DFR:
	case LAPIC_ICR2: return lapic_reg(c->lapic, reg);
	case LAPIC_APR: /* no processor of this kind has arbitration priorities; reads as 0 */
	case LAPIC_EOI: return 0;
	}
	if (read_reg(c, reg, &value))
		lapic_error(c, ESR_REGISTER, true);
	return value;
}

void lapic_mmio(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len, bool write)
{
	unsigned at = gpa & 0xfff, reg = at >> 4;

	/* Behind the registers, and when the page is not there (disabled, x2APIC), the
	 * bus answers with ones. */
	if (!lapic_hw_enabled(c) || lapic_is_x2apic(c) || reg >= LAPIC_REGS) {
		if (!write)
			*data = UINT64_MAX >> (64 - 8 * len);
		return;
	}
	/* Writes must be of 32 bits, aligned; narrower reads are forgiven. */
	if (write) {
		if (len == 4 && !(at & 15))
			mmio_write(c, reg, (uint32_t)*data);
	} else {
		*data = 0;
		if ((at & 15) + len <= 4)
			*data = mmio_read(c, reg) >> 8 * (at & 3);
	}
}

/* -- x2APIC: MSRs -------------------------------------------------------------------------- */

static int x2apic_write(struct vcpu *c, unsigned reg, uint64_t value)
{
	switch (reg) {
	case LAPIC_ICR:
		if (value & 0xfff32000)
			return -1;
		lapic_put(c->lapic, LAPIC_ICR2, (uint32_t)(value >> 32));
		write_icr(c, (uint32_t)value, (uint32_t)(value >> 32));
		return 0;
	case LAPIC_SELF_IPI:
		if (value >> 8)
			return -1;
		if (lapic_reg(c->lapic, LAPIC_SVR) & SVR_ENABLE)
			lapic_post(c, (uint8_t)value, false, true);
		return 0;
	case LAPIC_EOI:
	case LAPIC_ESR: return value ? -1 : write_reg(c, reg, 0);
	case LAPIC_TPR: return value >> 8 ? -1 : write_reg(c, reg, (uint32_t)value);
	case LAPIC_SVR:
		return value & ~0x1ffull ? -1 : write_reg(c, reg, (uint32_t)value);
	case LAPIC_TIMER_DIVIDE:
		return value & ~0xbull ? -1 : write_reg(c, reg, (uint32_t)value);
	case LAPIC_LVT_TIMER ... LAPIC_LVT_ERROR:
		/* Bits 12 and 14 are status: written values are ignored. */
		if (value & ~(uint64_t)(lvt_bits[reg - LAPIC_LVT_TIMER] | 0x5000))
			return -1;
		return write_reg(c, reg, (uint32_t)value);
	}
	return value >> 32 ? -1 : write_reg(c, reg, (uint32_t)value);
}

static int x2apic_read(struct vcpu *c, unsigned reg, uint64_t *value)
{
	uint32_t low;

	if (read_reg(c, reg, &low))
		return -1;
	*value = low;
	if (reg == LAPIC_ICR)
		*value |= (uint64_t)lapic_reg(c->lapic, LAPIC_ICR2) << 32;
	return 0;
}

int lapic_rdmsr(struct vcpu *c, uint32_t msr, uint64_t *value)
{
	if (msr == MSR_APIC_BASE) {
		*value = c->apic_base;
		return 0;
	}
	if (!c->lapic)
		return -1;
	if (msr == MSR_TSC_DEADLINE) {
		*value = lapic_timer_tsc(c);
		return 0;
	}
	if (!lapic_is_x2apic(c) || msr - MSR_X2APIC >= LAPIC_REGS)
		return -1;
	return x2apic_read(c, msr - MSR_X2APIC, value);
}

int lapic_wrmsr(struct vcpu *c, uint32_t msr, uint64_t value)
{
	if (msr == MSR_APIC_BASE)
		return lapic_set_base(c, value, false);
	if (!c->lapic)
		return -1;
	if (msr == MSR_TSC_DEADLINE) {
		lapic_timer_set_tsc(c, value);
		return 0;
	}
	if (!lapic_is_x2apic(c) || msr - MSR_X2APIC >= LAPIC_REGS)
		return -1;
	return x2apic_write(c, msr - MSR_X2APIC, value);
}
