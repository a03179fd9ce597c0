/* SPDX-License-Identifier: MIT */
/*
 * The pair of 8259A interrupt controllers.
 *
 *	IRQ 8..15 -> slave --INT--> IRQ 2 of master --INTR--> LINT0 of the boot processor's APIC
 *	IRQ 0..7  ---------------->
 *
 *	port        write                              read
 *	20, a0      ICW1, OCW2 (EOI), OCW3             IRR or ISR, or poll
 *	21, a1      ICW2..4 after ICW1, else IMR       IMR, or poll
 *	4d0, 4d1    ELCR: which pins are level-triggered
 *
 * A chip's state is struct kvm_pic_state of the ABI, field for field: irr, isr and imr
 * are the chip's registers, last_irr the lines as they were (for edges), priority_add
 * the pin that has the highest priority (rotation moves it). A pin's request waits in
 * IRR; the processor's INTA cycle moves it to ISR, where it holds back pins of the same
 * and lower priority until EOI.
 *
 * The master's pin 2 follows the slave's INT: its IRR bit is a function of the slave's
 * state and is computed anew after each change. An edge that falls again before it is
 * acknowledged stays in IRR, as in KVM (the chip would raise a spurious IRQ 7): the
 * PIT's ticks are such pulses.
 *
 * Left out: 8080 mode, single and buffered mode, level triggering by ICW1 (all of which
 * a PC's chipset ignores as well).
 * Source: Intel 8259A data sheet; Intel 82371AB (PIIX4) data sheet for ELCR.
 */
#include "softkvm/irqchip/internal.h"

enum { MASTER, SLAVE, CASCADE_PIN = 2, NONE = -1 };

/* Pins that may be level-triggered: not 0, 1, 2, 8, 13. */
static const uint8_t elcr_mask[2] = {[MASTER] = 0xf8, [SLAVE] = 0xde};

/* -- One chip ------------------------------------------------------------------------------ */

/* The place in the order of priority of the first pin in `pins`: 0 highest, 8 for
 * none. */
static int place(const struct kvm_pic_state *s, uint8_t pins)
{
	for (int p = 0; p < 8; p++)
		if (pins >> ((p + s->priority_add) & 7) & 1)
			return p;
	return 8;
}

/* The pin that the chip wants served now, or NONE. */
static int wanted(const struct kvm_pic_state *s, bool is_master)
{
	uint8_t holding = s->isr;
	int request = place(s, s->irr & (uint8_t)~s->imr);

	/* Special mask mode: a masked pin does not hold back others. Special fully
	 * nested mode: the slave may interrupt itself. */
	if (s->special_mask)
		holding &= (uint8_t)~s->imr;
	if (s->special_fully_nested_mode && is_master)
		holding &= (uint8_t) ~(1 << CASCADE_PIN);
	return request < place(s, holding) ? (request + s->priority_add) & 7 : NONE;
}

/* The INTA cycle. */
static void take(struct kvm_pic_state *s, int pin)
{
	uint8_t bit = (uint8_t)(1 << pin);

	if (!(s->elcr & bit))
		s->irr &= (uint8_t)~bit;
	if (!s->auto_eoi)
		s->isr |= bit;
	else if (s->rotate_on_auto_eoi)
		s->priority_add = (pin + 1) & 7;
}

/* 1: new, 0: was requested already, -1: masked. */
static int set_pin(struct kvm_pic_state *s, int pin, bool level)
{
	uint8_t bit = (uint8_t)(1 << pin);
	bool requested = s->irr & bit, was_up = s->last_irr & bit;

	if (!level) {
		s->last_irr &= (uint8_t)~bit;
		if (s->elcr & bit)
			s->irr &= (uint8_t)~bit;
		return 1;
	}
	s->last_irr |= bit;
	if (s->elcr & bit || !was_up)
		s->irr |= bit;
	if (s->imr & bit)
		return -1;
	return !requested;
}

static void reset_chip(struct kvm_pic_state *s)
{
	uint8_t lines = s->last_irr, elcr = s->elcr, mask = s->elcr_mask,
		base = s->irq_base;

	*s = (struct kvm_pic_state){
		.last_irr = lines,
		.irr = lines & elcr, /* edges must come again */
		.elcr = elcr,
		.elcr_mask = mask,
		.irq_base = base,
	};
}

/* -- The pair, under pic->lock ------------------------------------------------------------- */

/* Computes the cascade and INTR; true if INTR rose. */
static bool update(struct pic *pic)
{
	struct kvm_pic_state *master = &pic->chip[MASTER];
	bool was = atomic_load_explicit(&pic->output, memory_order_relaxed), is;

	if (wanted(&pic->chip[SLAVE], false) != NONE)
		master->irr |= 1 << CASCADE_PIN;
	else
		master->irr &= (uint8_t) ~(1 << CASCADE_PIN);
	is = wanted(master, true) != NONE;
	atomic_store(&pic->output, is);
	return is && !was;
}

/* Takes the next interrupt and returns its number, 0..15, or NONE. */
static int acknowledge(struct pic *pic)
{
	struct kvm_pic_state *master = &pic->chip[MASTER], *slave = &pic->chip[SLAVE];
	int pin = wanted(master, true);

	if (pin == NONE)
		return NONE;
	take(master, pin);
	if (pin != CASCADE_PIN)
		return pin;
	pin = wanted(slave, false);
	if (pin == NONE)
		return 8 + 7; /* spurious: nothing in service */
	take(slave, pin);
	return 8 + pin;
}

static int vector_of(const struct pic *pic, int pin)
{
	return pin == NONE ? NONE : pic->chip[pin / 8].irq_base + pin % 8;
}

/* -- INTR ---------------------------------------------------------------------------------- */

static void intr_rose(struct vm *vm)
{
	for (int i = 0, n = irqchip_n_vcpus(vm); i < n; i++) {
		struct vcpu *c = irqchip_vcpu(vm, i);

		if (c)
			lapic_lint0_rose(c);
	}
}

/* -- What the guest ended: pins that left ISR, or never entered it with auto EOI ------------ */

static uint16_t in_service(const struct pic *pic)
{
	return (uint16_t)(pic->chip[MASTER].isr | pic->chip[SLAVE].isr << 8);
}

/* With no lock held. */
static void ended(struct vm *vm, uint16_t pins)
{
	if (pins &&
	    atomic_load_explicit(&vm->irqchip->has_resample, memory_order_relaxed))
		resample_acked(vm, NULL, ROUTE_PIC, pins);
}

int pic_set_line(struct vm *vm, unsigned irq, int source, bool level)
{
	struct pic *pic = &vm->irqchip->pic;
	bool rose;
	int ret;

	lock_take(&pic->lock);
	if (level)
		pic->sources[irq] |= (uint8_t)(1 << source);
	else
		pic->sources[irq] &= (uint8_t) ~(1 << source);
	ret = set_pin(&pic->chip[irq / 8], irq & 7, pic->sources[irq]);
	rose = update(pic);
	lock_drop(&pic->lock);
	if (rose)
		intr_rose(vm);
	return ret;
}

int pic_peek(struct vm *vm)
{
	struct pic *pic = &vm->irqchip->pic;
	struct kvm_pic_state before[2];
	int vector;

	lock_take(&pic->lock);
	for (int i = 0; i < 2; i++)
		before[i] = pic->chip[i];
	vector = vector_of(pic, acknowledge(pic));
	for (int i = 0; i < 2; i++)
		pic->chip[i] = before[i];
	lock_drop(&pic->lock);
	return vector;
}

int pic_ack(struct vm *vm)
{
	struct pic *pic = &vm->irqchip->pic;
	bool auto_eoi;
	int pin;

	lock_take(&pic->lock);
	pin = acknowledge(pic);
	auto_eoi = pin != NONE && pic->chip[pin / 8].auto_eoi;
	update(pic);
	lock_drop(&pic->lock);
	if (auto_eoi)
		ended(vm, (uint16_t)(1 << pin));
	return vector_of(pic, pin);
}

/* -- Ports --------------------------------------------------------------------------------- */

static void write_icw1(struct kvm_pic_state *s, uint8_t value)
{
	reset_chip(s);
	s->init_state = 1;
	s->init4 = value & 1;
}

static void write_ocw3(struct kvm_pic_state *s, uint8_t value)
{
	if (value & 0x04)
		s->poll = 1;
	if (value & 0x02)
		s->read_reg_select = value & 1;
	if (value & 0x40)
		s->special_mask = value >> 5 & 1;
}

/* OCW2: bit 7 rotate, bit 6 specific (pin in bits 2..0), bit 5 EOI. */
static void write_ocw2(struct kvm_pic_state *s, uint8_t value)
{
	bool rotate = value & 0x80, specific = value & 0x40, eoi = value & 0x20;
	int pin = value & 7;

	if (!eoi && !specific) {
		s->rotate_on_auto_eoi = rotate;
		return;
	}
	if (eoi && !specific) {
		int p = place(s, s->isr);

		if (p == 8)
			return;
		pin = (p + s->priority_add) & 7;
	}
	if (eoi)
		s->isr &= (uint8_t) ~(1 << pin);
	if (rotate)
		s->priority_add = (pin + 1) & 7;
}

static void write_command(struct kvm_pic_state *s, uint8_t value)
{
	if (value & 0x10)
		write_icw1(s, value);
	else if (value & 0x08)
		write_ocw3(s, value);
	else
		write_ocw2(s, value);
}

static void write_data(struct kvm_pic_state *s, uint8_t value)
{
	switch (s->init_state) {
	case 0: s->imr = value; break;
	case 1: /* ICW2 */
		s->irq_base = value & 0xf8;
		s->init_state = 2;
		break;
	case 2: /* ICW3: the cascade is what it is */
		s->init_state = s->init4 ? 3 : 0;
		break;
	case 3: /* ICW4 */
		s->special_fully_nested_mode = value >> 4 & 1;
		s->auto_eoi = value >> 1 & 1;
		s->init_state = 0;
		break;
	}
}

/* After OCW3 asked for it, a read is an INTA cycle: bit 7 and the pin. */
static uint8_t read_poll(struct kvm_pic_state *s, bool is_master)
{
	int pin = wanted(s, is_master);

	s->poll = 0;
	if (pin == NONE)
		return 0;
	take(s, pin);
	return 0x80 | (uint8_t)pin;
}

static uint8_t read_chip(struct kvm_pic_state *s, bool is_master, bool data_port)
{
	if (s->poll)
		return read_poll(s, is_master);
	if (data_port)
		return s->imr;
	return s->read_reg_select ? s->isr : s->irr;
}

static void access_elcr(struct kvm_pic_state *s, uint64_t *data, bool write)
{
	if (!write) {
		*data = s->elcr;
		return;
	}
	s->elcr = (uint8_t)*data & s->elcr_mask;
	s->irr = (s->irr & (uint8_t)~s->elcr) | (s->last_irr & s->elcr);
}

static void access_port(struct pic *pic, uint16_t port, uint64_t *data, bool write)
{
	bool slave = port >= 0x4d0 ? port & 1 : port & 0x80;
	struct kvm_pic_state *s = &pic->chip[slave];

	if (port >= 0x4d0)
		access_elcr(s, data, write);
	else if (!write)
		*data = read_chip(s, !slave, port & 1);
	else if (port & 1)
		write_data(s, (uint8_t)*data);
	else
		write_command(s, (uint8_t)*data);
}

bool pic_port(struct vm *vm, uint16_t port, uint64_t *data, unsigned len, bool write)
{
	struct pic *pic = &vm->irqchip->pic;
	uint16_t before, after;
	bool rose;

	switch (port) {
	case 0x20:
	case 0x21:
	case 0xa0:
	case 0xa1:
	case 0x4d0:
	case 0x4d1: break;
	default: return false;
	}
	if (len != 1) {
		if (!write)
			*data = UINT64_MAX >> (64 - 8 * len);
		return true;
	}
	lock_take(&pic->lock);
	before = in_service(pic);
	access_port(pic, port, data, write);
	after = in_service(pic);
	rose = update(pic);
	lock_drop(&pic->lock);
	ended(vm, before & (uint16_t)~after);
	if (rose)
		intr_rose(vm);
	return true;
}

/* -- Reset, save and restore --------------------------------------------------------------- */

void pic_reset(struct pic *pic)
{
	for (int i = 0; i < 2; i++) {
		pic->chip[i] = (struct kvm_pic_state){.elcr_mask = elcr_mask[i]};
		reset_chip(&pic->chip[i]);
	}
	atomic_store(&pic->output, false);
}

int pic_get(struct vm *vm, unsigned n, struct kvm_pic_state *state)
{
	struct pic *pic = &vm->irqchip->pic;

	lock_take(&pic->lock);
	*state = pic->chip[n];
	lock_drop(&pic->lock);
	return 0;
}

int pic_set(struct vm *vm, unsigned n, const struct kvm_pic_state *state)
{
	struct pic *pic = &vm->irqchip->pic;
	struct kvm_pic_state *s = &pic->chip[n];
	bool rose;

	lock_take(&pic->lock);
	*s = *state;
	s->elcr_mask = elcr_mask[n];
	s->priority_add &= 7;
	for (int pin = 0; pin < 8; pin++)
		pic->sources[n * 8 + pin] = s->last_irr >> pin & 1; /* SOURCE_USER */
	rose = update(pic);
	lock_drop(&pic->lock);
	if (rose)
		intr_rose(vm);
	return 0;
}
