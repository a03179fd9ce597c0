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
	if (!c->vm->irqchip)
		return false;
	return pic_port(c->vm, port, data, len, write) ||
	       pit_port(c, port, data, len, write);
}

bool irqchip_memory(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len,
		    bool write)
{
	return c->vm->irqchip && ioapic_memory(c, gpa, data, len, write);
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
	if (!vm->irqchip)
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
	if (!vm->irqchip)
		return -ENXIO;
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE: return pic_set(vm, chip->chip_id, &chip->chip.pic);
	case KVM_IRQCHIP_IOAPIC: return ioapic_set(vm, &chip->chip.ioapic);
	}
	return -EINVAL;
}
