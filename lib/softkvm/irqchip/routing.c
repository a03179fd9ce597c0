/* SPDX-License-Identifier: MIT */
/*
 * From a global system interrupt (GSI, a number that means something to the client) to
 * the chips.
 *
 *	default          GSI 0..15   PIC pin and IOAPIC pin of that number
 *	                 GSI 16..23  IOAPIC pin
 *	         nothing     where PIC and IOAPIC are the client's (KVM_CAP_SPLIT_IRQCHIP)
 *	KVM_SET_GSI_ROUTING replaces the table: pins, or messages (MSI), up to one of each chip
 *	                 or one message per GSI
 *
 * Both chips get a line, because only the guest knows which of them it listens to.
 *
 * An MSI is a store of a device to fee00000:
 *
 *	address  19..12 destination   3 redirection hint   2 logical
 *	data     15 level   10..8 delivery mode   7..0 vector
 *
 * With KVM_X2APIC_API_USE_32BIT_IDS the destination's upper 24 bits are bits 63..40 of
 * the address, and an 8-bit field that was all of it before is now its low byte.
 *
 * The table is changed by ioctls, while vCPUs and the irqfd thread use it: they copy
 * the few routes of a GSI out under routing_lock.
 * Source: the kernel's KVM API document; Intel SDM volume 3, "Message Signalled
 * Interrupts".
 */
#include "softkvm/irqchip/internal.h"

/* -- Messages ------------------------------------------------------------------------------ */

struct apic_msg msi_parse(uint64_t addr, uint32_t data, bool ext_dest)
{
	struct apic_msg msg = {
		.dest = addr >> 12 & 0xff,
		.vector = data & 0xff,
		.mode = data >> 8 & 7,
		.logical = addr & 4,
		.level = data & 0x8000,
	};

	if (ext_dest)
		msg.dest |= (uint32_t)(addr >> 32) & 0xffffff00;
	/* The hint asks for one of several: arbitrate, unless there is no choice. */
	if (addr & 8 && msg.mode == APIC_FIXED)
		msg.mode = APIC_LOWEST;
	return msg;
}

int irqchip_msi(struct vm *vm, const struct kvm_msi *msi)
{
	struct apic_msg msg;
	int ret;

	if (!vm->irqchip || msi->flags)
		return -EINVAL;
	msg = msi_parse((uint64_t)msi->address_hi << 32 | msi->address_lo, msi->data,
			vm->x2apic_api & KVM_X2APIC_API_USE_32BIT_IDS);
	ret = apic_send(vm, NULL, &msg);
	return ret < 0 ? 0 : ret;
}

/* -- Lines --------------------------------------------------------------------------------- */

static int follow(struct vm *vm, struct vcpu *self, const struct route *route,
		  bool level, int source)
{
	switch (route->kind) {
	case ROUTE_PIC: return pic_set_line(vm, route->pin, source, level);
	case ROUTE_IOAPIC: return ioapic_set_line(vm, self, route->pin, source, level);
	case ROUTE_MSI: return level ? apic_send(vm, self, &route->msg) : -1;
	}
	return -1;
}

int routing_line(struct vm *vm, struct vcpu *self, uint32_t gsi, bool level, int source)
{
	struct irqchip *chip = vm->irqchip;
	struct route route[ROUTES_PER_GSI];
	int n = 0, sum = -1;

	lock_take(&chip->routing_lock);
	if (gsi < chip->routing->n_gsi)
		n = chip->routing->gsi[gsi].n;
	for (int i = 0; i < n; i++)
		route[i] = chip->routing->gsi[gsi].route[i];
	lock_drop(&chip->routing_lock);
	for (int i = 0; i < n; i++) {
		int ret = follow(vm, self, &route[i], level, source);

		if (ret >= 0)
			sum = ret + (sum < 0 ? 0 : sum);
	}
	return sum;
}

int irqchip_line(struct vm *vm, uint32_t gsi, int level, int source)
{
	int ret;

	if (!vm->irqchip)
		return -ENXIO;
	ret = routing_line(vm, NULL, gsi, level, source);
	return ret < 0 ? 0 : ret; /* masked, or no such GSI: nobody saw it */
}

bool routing_is_level(struct vm *vm, uint8_t vector)
{
	struct irqchip *chip = vm->irqchip;
	bool found = false;

	lock_take(&chip->routing_lock);
	for (uint32_t gsi = 0; gsi < chip->routing->n_gsi && gsi < chip->user_pins && !found; gsi++) {
		const struct gsi_routes *r = &chip->routing->gsi[gsi];

		for (int i = 0; i < r->n; i++)
			found |= r->route[i].kind == ROUTE_MSI && r->route[i].msg.level && r->route[i].msg.vector == vector;
	}
	lock_drop(&chip->routing_lock);
	return found;
}

int routing_find_gsi(struct vm *vm, enum route_kind kind, unsigned pin)
{
	struct irqchip *chip = vm->irqchip;
	int found = -1;

	lock_take(&chip->routing_lock);
	for (uint32_t gsi = 0; gsi < chip->routing->n_gsi && found < 0; gsi++) {
		const struct gsi_routes *r = &chip->routing->gsi[gsi];

		for (int i = 0; i < r->n; i++)
			if (r->route[i].kind == kind && r->route[i].pin == pin)
				found = (int)gsi;
	}
	lock_drop(&chip->routing_lock);
	return found;
}

/* -- Tables -------------------------------------------------------------------------------- */

static int parse_chip(const struct kvm_irq_routing_irqchip *chip, struct route *route)
{
	switch (chip->irqchip) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		if (chip->pin > 7)
			return -EINVAL;
		*route = (struct route){
			.kind = ROUTE_PIC,
			.pin = (uint8_t)(chip->pin +
					 (chip->irqchip == KVM_IRQCHIP_PIC_SLAVE) * 8),
		};
		return 0;
	case KVM_IRQCHIP_IOAPIC:
		if (chip->pin >= IOAPIC_PINS)
			return -EINVAL;
		*route =
			(struct route){.kind = ROUTE_IOAPIC, .pin = (uint8_t)chip->pin};
		return 0;
	}
	return -EINVAL;
}

static int parse(const struct kvm_irq_routing_entry *e, bool ext_dest, bool split,
		 struct route *route)
{
	uint64_t addr;

	switch (e->type) {
	case KVM_IRQ_ROUTING_IRQCHIP: return split ? -EINVAL : parse_chip(&e->u.irqchip, route);
	case KVM_IRQ_ROUTING_MSI:
		/* With 32-bit ids, bits 39..32 of the address have no meaning and must
		 * be 0. */
		if (ext_dest && e->u.msi.address_hi & 0xff)
			return -EINVAL;
		addr = (uint64_t)e->u.msi.address_hi << 32 | e->u.msi.address_lo;
		*route = (struct route){
			.kind = ROUTE_MSI,
			.msg = msi_parse(addr, e->u.msi.data, ext_dest),
		};
		return 0;
	}
	return -EINVAL; /* Hyper-V, Xen, s390: not offered */
}

/* May a GSI with these routes take another one? One pin of each chip, or one message
 * alone. */
static bool fits(const struct gsi_routes *r, const struct route *new)
{
	for (int i = 0; i < r->n; i++) {
		const struct route *old = &r->route[i];

		if (old->kind == ROUTE_MSI || new->kind == ROUTE_MSI)
			return false;
		if (old->kind == new->kind &&
		    (old->kind == ROUTE_IOAPIC || old->pin / 8 == new->pin / 8))
			return false;
	}
	return r->n < ROUTES_PER_GSI;
}

/* Fills r->gsi (room for r->n_gsi, zeroed) from the ABI's entries. */
int routing_build(struct routing *r, const struct kvm_irq_routing_entry *entries,
		  uint32_t n, bool ext_dest, bool split)
{
	for (uint32_t i = 0; i < n; i++) {
		struct gsi_routes *to;
		struct route route;
		int ret = parse(&entries[i], ext_dest, split, &route);

		if (ret)
			return ret;
		if (entries[i].flags || entries[i].gsi >= r->n_gsi)
			return -EINVAL;
		to = &r->gsi[entries[i].gsi];
		if (!fits(to, &route))
			return -EINVAL;
		to->route[to->n++] = route;
	}
	return 0;
}

/* The same for the default; r->n_gsi is IOAPIC_PINS. */
void routing_default(struct routing *r)
{
	for (uint32_t gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		struct gsi_routes *to = &r->gsi[gsi];
		uint8_t pin = (uint8_t)gsi;

		if (gsi < 16)
			to->route[to->n++] =
				(struct route){.kind = ROUTE_PIC, .pin = pin};
		to->route[to->n++] = (struct route){.kind = ROUTE_IOAPIC, .pin = pin};
	}
}
