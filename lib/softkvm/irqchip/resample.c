/* SPDX-License-Identifier: MIT */
/*
 * Level-triggered irqfds: the half that runs when the guest acknowledges.
 *
 *	eventfd signalled --> line up, stays up --> guest's EOI --> line down, and the resample
 *	eventfd is signalled: "if your device still wants something, say so again"
 *
 * The list is short (devices that are passed through, on shared lines), so it is
 * walked.
 * Source: the kernel's KVM API document, KVM_IRQFD with KVM_IRQFD_FLAG_RESAMPLE.
 */
#include "softkvm/irqchip/internal.h"

static void acked(struct vm *vm, struct vcpu *self, enum route_kind kind, unsigned pin)
{
	struct irqchip *chip = vm->irqchip;
	int gsi = routing_find_gsi(vm, kind, pin);
	bool lowered = false;

	if (gsi < 0)
		return;
	lock_take(&chip->resample_lock);
	for (struct resample *r = chip->resample; r; r = r->next) {
		if (r->gsi != (uint32_t)gsi)
			continue;
		if (!lowered)
			routing_line(vm, self, r->gsi, false, SOURCE_RESAMPLE);
		lowered = true;
		sys_eventfd_signal(r->fd);
	}
	lock_drop(&chip->resample_lock);
}

void resample_acked(struct vm *vm, struct vcpu *self, enum route_kind kind,
		    uint32_t pins)
{
	for (unsigned pin = 0; pins >> pin; pin++)
		if (pins >> pin & 1)
			acked(vm, self, kind, pin);
}
