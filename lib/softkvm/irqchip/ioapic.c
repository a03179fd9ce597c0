/* SPDX-License-Identifier: MIT */
/*
 * The I/O APIC (82093AA): 24 pins, each with an entry that says which message to send.
 *
 *	fec00000  IOREGSEL  index          entry (64 bits, index 10 + 2 * pin):
 *	fec00010  IOWIN     the register    63..56 destination     14 remote IRR (read-only)
 *	                                    16 masked              13 polarity (ignored)
 *	index 0: id, 1: version,            15 level-triggered     11 logical destination
 *	2: arbitration id                                          10..8 mode, 7..0 vector
 *
 * An edge pin sends its message when the line rises; if it is masked then, the edge is
 * lost. A level pin sends when the line is up and remote IRR is clear, and sets remote
 * IRR; the EOI of a local APIC for that vector clears it, and if the line is still up
 * the pin sends again. So a level interrupt never comes twice without an EOI between.
 *
 * Kernels that know only this version (11h, no EOI register) unstick a pin by making it
 * edge- and then level-triggered again: turning a pin to edge clears remote IRR.
 *
 * Polarity is the wiring's business: here a line is active or not.
 * Source: Intel 82093AA data sheet.
 */
#include "softkvm/irqchip/internal.h"

#define VERSION 0x11u

#define ENTRY_LOGICAL    0x800ull
#define ENTRY_PENDING    0x1000ull
#define ENTRY_REMOTE_IRR 0x4000ull
#define ENTRY_LEVEL      0x8000ull
#define ENTRY_MASKED     0x10000ull
#define ENTRY_WRITABLE   (0xff0000000001ffffull & ~(ENTRY_PENDING | ENTRY_REMOTE_IRR))

static uint8_t vector_of(uint64_t entry)
{
	return entry & 0xff;
}

static bool is_level(uint64_t entry)
{
	return entry & ENTRY_LEVEL;
}

/* -- Pins, under io->lock ------------------------------------------------------------------ */

/* Sends what the pin has to say, if it may: as apic_send(), -1 if it may not. */
static int service(struct vm *vm, struct vcpu *self, struct ioapic *io, unsigned pin)
{
	uint64_t entry = io->entry[pin];
	struct apic_msg msg = {
		.dest = entry >> 56,
		.vector = vector_of(entry),
		.mode = entry >> 8 & 7,
		.logical = entry & ENTRY_LOGICAL,
		.level = is_level(entry),
	};
	int ret;

	if (entry & ENTRY_MASKED)
		return -1;
	if (is_level(entry) && entry & ENTRY_REMOTE_IRR)
		return 0;
	ret = apic_send(vm, self, &msg);
	if (is_level(entry) && ret >= 0)
		io->entry[pin] |= ENTRY_REMOTE_IRR;
	return ret;
}

static int raise(struct vm *vm, struct vcpu *self, struct ioapic *io, unsigned pin)
{
	uint32_t bit = 1u << pin;
	bool was_up = io->irr & bit;

	io->irr |= bit;
	if (was_up && !is_level(io->entry[pin]))
		return 0;
	return service(vm, self, io, pin);
}

int ioapic_set_line(struct vm *vm, struct vcpu *self, unsigned pin, int source,
		    bool level)
{
	struct ioapic *io = &vm->irqchip->ioapic;
	int ret = 1;

	if (pin >= IOAPIC_PINS)
		return -1;
	lock_take(&io->lock);
	if (level) {
		io->sources[pin] |= (uint8_t)(1 << source);
		ret = raise(vm, self, io, pin);
	} else {
		io->sources[pin] &= (uint8_t) ~(1 << source);
		if (!io->sources[pin])
			io->irr &= ~(1u << pin);
	}
	lock_drop(&io->lock);
	return ret;
}

/* -- EOI ----------------------------------------------------------------------------------- */

/* Clears remote IRR of the pins that had sent this vector; returns them. */
static uint32_t end(struct ioapic *io, uint8_t vector)
{
	uint32_t pins = 0;

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t entry = io->entry[pin];

		if (vector_of(entry) != vector || !(entry & ENTRY_REMOTE_IRR))
			continue;
		io->entry[pin] &= ~ENTRY_REMOTE_IRR;
		pins |= 1u << pin;
	}
	return pins;
}

static void service_set(struct vm *vm, struct vcpu *self, struct ioapic *io,
			uint32_t pins)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		if (pins & io->irr & 1u << pin && is_level(io->entry[pin]))
			service(vm, self, io, pin);
}

void ioapic_eoi(struct vcpu *c, uint8_t vector)
{
	struct irqchip *chip = c->vm->irqchip;
	struct ioapic *io = &chip->ioapic;
	uint32_t pins;

	if (!chip)
		return;
	lock_take(&io->lock);
	pins = end(io, vector);
	if (pins && atomic_load_explicit(&chip->has_resample, memory_order_relaxed)) {
		/* Lines that fall at an EOI fall before it is looked whether they are
		 * up. */
		lock_drop(&io->lock);
		resample_acked(c->vm, c, ROUTE_IOAPIC, pins);
		lock_take(&io->lock);
	}
	service_set(c->vm, c, io, pins);
	lock_drop(&io->lock);
}

/* -- Registers ----------------------------------------------------------------------------- */

static uint32_t read_window(const struct ioapic *io)
{
	unsigned pin = (io->select - 0x10) / 2;

	switch (io->select) {
	case 0:
	case 2: return io->id << 24;
	case 1: return (IOAPIC_PINS - 1) << 16 | VERSION;
	}
	if (io->select < 0x10 || pin >= IOAPIC_PINS)
		return 0;
	return (uint32_t)(io->entry[pin] >> (io->select & 1 ? 32 : 0));
}

static void write_entry(struct vcpu *c, struct ioapic *io, unsigned pin, uint64_t value)
{
	uint64_t status = io->entry[pin] & ENTRY_REMOTE_IRR;

	if (!is_level(value))
		status = 0;
	io->entry[pin] = (value & ENTRY_WRITABLE) | status;
	service_set(c->vm, c, io, 1u << pin);
}

static void write_window(struct vcpu *c, struct ioapic *io, uint32_t value)
{
	unsigned pin = (io->select - 0x10) / 2;
	uint64_t entry;

	if (io->select == 0)
		io->id = value >> 24 & 15;
	if (io->select < 0x10 || pin >= IOAPIC_PINS)
		return;
	entry = io->entry[pin];
	if (io->select & 1)
		entry = (entry & 0xffffffff) | (uint64_t)value << 32;
	else
		entry = (entry & ~0xffffffffull) | value;
	write_entry(c, io, pin, entry);
}

bool ioapic_memory(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len,
		   bool write)
{
	struct ioapic *io = &c->vm->irqchip->ioapic;
	unsigned at = (unsigned)(gpa - IOAPIC_ADDR);

	if (gpa < IOAPIC_ADDR || gpa >= IOAPIC_ADDR + 0x100)
		return false;
	(void)len; /* registers have 32 bits, narrow accesses see their low part */
	lock_take(&io->lock);
	if (!write)
		*data = at == 0 ? io->select : at == 0x10 ? read_window(io) : 0;
	else if (at == 0)
		io->select = *data & 0xff;
	else if (at == 0x10)
		write_window(c, io, (uint32_t)*data);
	lock_drop(&io->lock);
	return true;
}

/* -- Reset, save and restore --------------------------------------------------------------- */

void ioapic_reset(struct ioapic *io)
{
	io->select = io->id = io->irr = 0;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		io->entry[pin] = ENTRY_MASKED;
		io->sources[pin] = 0;
	}
}

int ioapic_get(struct vm *vm, struct kvm_ioapic_state *state)
{
	struct ioapic *io = &vm->irqchip->ioapic;

	lock_take(&io->lock);
	state->base_address = IOAPIC_ADDR;
	state->ioregsel = io->select;
	state->id = io->id;
	state->irr = io->irr;
	state->pad = 0;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		state->redirtbl[pin].bits = io->entry[pin];
	lock_drop(&io->lock);
	return 0;
}

int ioapic_set(struct vm *vm, const struct kvm_ioapic_state *state)
{
	struct ioapic *io = &vm->irqchip->ioapic;

	lock_take(&io->lock);
	io->select = state->ioregsel & 0xff;
	io->id = state->id & 15;
	io->irr = 0;
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		io->entry[pin] =
			state->redirtbl[pin].bits & (ENTRY_WRITABLE | ENTRY_REMOTE_IRR);
		io->sources[pin] = state->irr >> pin & 1; /* SOURCE_USER */
		if (state->irr >> pin & 1)
			raise(vm, NULL, io, pin);
	}
	lock_drop(&io->lock);
	return 0;
}
