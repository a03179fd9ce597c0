/* SPDX-License-Identifier: MIT */
/*
 * The chips together: which of them answers an access, whose deadline is next, and
 * KVM_GET_IRQCHIP.
 */
#include "softkvm/irqchip/internal.h"

/* -- Accesses ------------------------------------------------------------------------------ */

bool irqchip_port(struct vcpu *c, uint16_t port, uint64_t *data, unsigned len,
		  bool write)
{
	if (!irqchip_has_pic(c->vm))
		return false;
	return pic_port(c->vm, port, data, len, write) ||
	       pit_port(c, port, data, len, write);
}

bool irqchip_memory(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len,
		    bool write)
{
	return irqchip_has_pic(c->vm) && ioapic_memory(c, gpa, data, len, write);
}

/* -- Chips of the client's ----------------------------------------------------------------- */

bool irqchip_has_pic(const struct vm *vm)
{
	return vm->irqchip && !vm->irqchip->split;
}

bool irqchip_takes_interrupt(struct vcpu *c)
{
	if (!(c->rflags & RFLAGS_IF) || c->event.shadow || c->event.interrupt || c->event.exception)
		return false;
	return !c->lapic || (!c->event.extint && lapic_takes_extint(c));
}

int irqchip_extint(struct vcpu *c, uint8_t vector)
{
	if (c->event.extint)
		return -EEXIST;
	c->event.extint = true;
	c->event.extint_vector = vector;
	request_self(c, REQ_EVENT);
	return 0;
}

/* Told before the next instruction would be best, and is before the next poll. Meanwhile there can be others. */
void lapic_tell_eoi(struct vcpu *c, uint8_t vector)
{
	uint32_t bit = 1u << (vector & 31);

	c->event.eois += !(c->event.eoi[vector / 32] & bit);
	c->event.eoi[vector / 32] |= bit;
	request_self(c, REQ_EVENT);
}

int irqchip_take_eoi(struct vcpu *c)
{
	for (int i = 7; c->event.eois && i >= 0; i--) {
		int bit = c->event.eoi[i] ? 31 - __builtin_clz(c->event.eoi[i]) : -1;

		if (bit < 0)
			continue;
		c->event.eoi[i] &= ~(1u << bit);
		c->event.eois--;
		return i * 32 + bit;
	}
	return -1;
}

/* -- Time ---------------------------------------------------------------------------------- */

/* The PIT belongs to no processor; the first one's thread serves it. */
static struct pit *pit_of(struct vcpu *c)
{
	struct irqchip *chip = c->vm->irqchip;

	return chip && c->vm->vcpu[0] == c ? &chip->pit : NULL;
}

uint64_t irqchip_deadline(struct vcpu *c)
{
	struct pit *pit = pit_of(c);
	uint64_t deadline = c->lapic ? lapic_timer_deadline(c) : NEVER, other = NEVER;

	if (pit)
		other = atomic_load_explicit(&pit->deadline, memory_order_relaxed);
	return deadline < other ? deadline : other;
}

void irqchip_expire(struct vcpu *c, uint64_t now)
{
	if (c->lapic)
		lapic_timer_expire(c, now);
	if (pit_of(c))
		pit_expire(c, now);
}

/* -- The client's view --------------------------------------------------------------------- */

int irqchip_x2apic_api(struct vm *vm, uint64_t flags)
{
	const uint64_t known =
		KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK;

	if (flags & ~known)
		return -EINVAL;
	vm->x2apic_api |= (uint32_t)flags; /* once given, it stays */
	return 0;
}

int irqchip_get(struct vm *vm, struct kvm_irqchip *chip)
{
	if (!irqchip_has_pic(vm))
		return -ENXIO;
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE: return pic_get(vm, chip->chip_id, &chip->chip.pic);
	case KVM_IRQCHIP_IOAPIC: return ioapic_get(vm, &chip->chip.ioapic);
	}
	return -EINVAL;
}

int irqchip_set(struct vm *vm, const struct kvm_irqchip *chip)
{
	if (!irqchip_has_pic(vm))
		return -ENXIO;
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE: return pic_set(vm, chip->chip_id, &chip->chip.pic);
	case KVM_IRQCHIP_IOAPIC: return ioapic_set(vm, &chip->chip.ioapic);
	}
	return -EINVAL;
}
