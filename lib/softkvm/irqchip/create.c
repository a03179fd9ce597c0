/* SPDX-License-Identifier: MIT */
/*
 * Creating and destroying the chips, and replacing the routing table: what allocates.
 * Runs in ioctls only, so it may call libc.
 *
 * The order of an end: irqchip_destroy() first stops the irqfd thread, so that nobody
 * sends to vCPUs any more; it and lapic_destroy() are called when no thread is in
 * KVM_RUN.
 */
#include "softkvm/irqchip/internal.h"

#include <stdlib.h>

/* -- Routing ------------------------------------------------------------------------------- */

static void routing_free(struct routing *r)
{
	if (r)
		free(r->gsi);
	free(r);
}

static struct routing *routing_new(uint32_t n_gsi)
{
	struct routing *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->n_gsi = n_gsi;
	r->gsi = calloc(n_gsi ? n_gsi : 1, sizeof(*r->gsi));
	if (r->gsi)
		return r;
	free(r);
	return NULL;
}

static void routing_replace(struct irqchip *chip, struct routing *new)
{
	struct routing *old;

	lock_take(&chip->routing_lock);
	old = chip->routing;
	chip->routing = new;
	lock_drop(&chip->routing_lock);
	routing_free(old);
}

int irqchip_set_routing(struct vm *vm, const struct kvm_irq_routing *routing,
			const struct kvm_irq_routing_entry *entries)
{
	bool ext_dest = vm->x2apic_api & KVM_X2APIC_API_USE_32BIT_IDS;
	uint32_t n_gsi = 0;
	struct routing *r;
	int ret;

	if (!vm->irqchip)
		return -EINVAL;
	if (routing->flags || routing->nr > ROUTES_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < routing->nr; i++) {
		if (entries[i].gsi >= ROUTES_MAX)
			return -EINVAL;
		if (entries[i].gsi >= n_gsi)
			n_gsi = entries[i].gsi + 1;
	}
	r = routing_new(n_gsi);
	if (!r)
		return -ENOMEM;
	ret = routing_build(r, entries, routing->nr, ext_dest, vm->irqchip->split);
	if (ret) {
		routing_free(r);
		return ret;
	}
	routing_replace(vm->irqchip, r);
	return 0;
}

/* -- The chips ----------------------------------------------------------------------------- */

int lapic_create(struct vcpu *c)
{
	struct lapic *l;

	if (c->lapic)
		return -EEXIST;
	l = aligned_alloc(64, (sizeof(*l) + 63) & ~63ul);
	if (!l)
		return -ENOMEM;
	*l = (struct lapic){0};
	__atomic_store_n(&c->lapic, l, __ATOMIC_RELEASE);
	lapic_reset(c, false);
	return 0;
}

void lapic_destroy(struct vcpu *c)
{
	struct lapic *l = c->lapic;

	__atomic_store_n(&c->lapic, NULL, __ATOMIC_RELEASE);
	free(l);
}

static int fill(struct vm *vm, struct irqchip *chip)
{
	chip->routing = routing_new(chip->split ? 0 : IOAPIC_PINS);
	if (!chip->routing)
		return -ENOMEM;
	if (!chip->split)
		routing_default(chip->routing);
	pic_reset(&chip->pic);
	ioapic_reset(&chip->ioapic);
	pit_reset(&chip->pit);
	vm->irqchip = chip;
	for (int i = 0; i < VCPUS_MAX; i++) {
		int ret = vm->vcpu[i] && !vm->vcpu[i]->lapic ? lapic_create(vm->vcpu[i])
							     : 0;

		if (ret)
			return ret;
	}
	return 0;
}

static int create(struct vm *vm, bool split, uint32_t user_pins)
{
	struct irqchip *chip;
	int ret;

	if (vm->irqchip)
		return -EEXIST;
	chip = calloc(1, sizeof(*chip));
	if (!chip)
		return -ENOMEM;
	chip->split = split;
	chip->user_pins = user_pins;
	ret = fill(vm, chip);
	if (!ret)
		return 0;
	vm->irqchip = chip;
	irqchip_destroy(vm);
	return ret;
}

int irqchip_create(struct vm *vm)
{
	return create(vm, false, 0);
}

int irqchip_create_split(struct vm *vm, uint64_t n)
{
	if (n > ROUTES_MAX)
		return -EINVAL;
	return irqchip_n_vcpus(vm) ? -EEXIST : create(vm, true, (uint32_t)n);
}

void irqchip_destroy(struct vm *vm)
{
	struct irqchip *chip = vm->irqchip;

	if (!chip)
		return;
	irqfd_destroy(vm);
	vm->irqchip = NULL;
	routing_free(chip->routing);
	free(chip);
}

int pit_create(struct vm *vm, const struct kvm_pit_config *config)
{
	struct irqchip *chip = vm->irqchip;

	if (!irqchip_has_pic(vm))
		return -ENOENT;
	if (chip->pit.present)
		return -EEXIST;
	pit_reset(&chip->pit);
	chip->pit.port61 = config->flags & KVM_PIT_SPEAKER_DUMMY;
	chip->pit.present = true;
	return 0;
}
