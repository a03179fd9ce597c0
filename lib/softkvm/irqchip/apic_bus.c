/* SPDX-License-Identifier: MIT */
/*
 * Messages to local APICs: from ICRs, the IOAPIC and MSIs.
 *
 * A destination is a pattern, and each APIC decides for itself whether it matches:
 *
 *	          xAPIC (8 bits)                     x2APIC (32 bits)
 *	physical  ID, or 0xff: all                   ID, or 0xffffffff: all
 *	logical   flat: bits shared with LDR         same upper half as LDR, and
 *	          cluster: same upper four bits,     bits shared in the lower half
 *	          bits shared in the lower four
 *
 * The IOAPIC and MSIs have eight bits for it; their 0xff reaches x2APICs too, as KVM
 * defines it, unless the client turns that off
 * (KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK).
 *
 * "Lowest priority" goes to one of those that match. The manual leaves the choice among
 * equals to the hardware; here it is the one that has taken the fewest such messages,
 * so they spread evenly.
 *
 * Everything here runs in whatever thread has something to send, with no lock: see
 * internal.h on what may be read of another vCPU's APIC.
 * Source: Intel SDM volume 3, "Issuing Interprocessor Interrupts", "Interrupt Command
 * Register".
 */
#include "softkvm/irqchip/internal.h"

/* -- Who is meant -------------------------------------------------------------------------- */

uint32_t lapic_x2apic_ldr(uint32_t id)
{
	return id >> 4 << 16 | 1u << (id & 15);
}

static bool matches_physical(struct vcpu *c, uint32_t dest)
{
	uint32_t id = lapic_reg(c->lapic, LAPIC_ID);

	if (lapic_is_x2apic(c))
		return dest == id || dest == 0xffffffff;
	return dest == id >> 24 || dest == 0xff || dest == 0xffffffff;
}

static bool matches_logical(struct vcpu *c, uint32_t dest)
{
	uint32_t ldr = lapic_reg(c->lapic, LAPIC_LDR);

	if (lapic_is_x2apic(c))
		return dest == 0xffffffff ||
		       (ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff));
	ldr >>= 24;
	if (dest == 0xff)
		return true;
	if (lapic_reg(c->lapic, LAPIC_DFR) == DFR_FLAT)
		return ldr & dest;
	return ldr >> 4 == dest >> 4 && (ldr & dest & 15);
}

bool apic_matches(struct vcpu *c, uint32_t dest, bool logical, bool broadcast_ff)
{
	if (broadcast_ff && dest == 0xff && lapic_is_x2apic(c))
		return true;
	return logical ? matches_logical(c, dest) : matches_physical(c, dest);
}

/* -- Arrival at one ------------------------------------------------------------------------ */

static void kick(struct vcpu *c, struct vcpu *self, uint32_t bits)
{
	if (c == self)
		request_self(c, bits);
	else
		vcpu_kick(c, bits);
}

static bool takes_interrupts(struct vcpu *c)
{
	return lapic_hw_enabled(c) && (lapic_reg(c->lapic, LAPIC_SVR) & SVR_ENABLE);
}

/* 1 taken, 0 coalesced, -1 refused. NMI, INIT and SIPI reach an APIC that software has
 * disabled. */
static int deliver(struct vcpu *c, struct vcpu *self, const struct apic_msg *msg)
{
	switch (msg->mode) {
	case APIC_FIXED:
	case APIC_LOWEST:
		if (!takes_interrupts(c))
			return -1;
		return lapic_post(c, msg->vector, msg->level, c == self);
	case APIC_NMI:
		vcpu_nmi_arrives(c);
		kick(c, self, REQ_NMI);
		return 1;
	case APIC_INIT:
		if (!msg->deassert)
			kick(c, self, REQ_INIT);
		return 1;
	case APIC_STARTUP:
		__atomic_store_n(&c->sipi_vector, msg->vector, __ATOMIC_RELAXED);
		kick(c, self, REQ_SIPI);
		return 1;
	case APIC_EXTINT:
		/* The vector is the PIC's to give: look there. */
		kick(c, self, REQ_EVENT);
		return 1;
	case APIC_SMI:
	case APIC_REMOTE_READ: break;
	}
	return -1;
}

/* -- Sending ------------------------------------------------------------------------------- */

static struct vcpu *lowest(struct vm *vm, const struct apic_msg *msg, bool broadcast_ff)
{
	struct vcpu *best = NULL;
	uint32_t least = 0;

	for (int i = 0, n = irqchip_n_vcpus(vm); i < n; i++) {
		struct vcpu *c = irqchip_vcpu(vm, i);
		uint32_t taken;

		if (!c || !takes_interrupts(c) ||
		    !apic_matches(c, msg->dest, msg->logical, broadcast_ff))
			continue;
		taken = atomic_load_explicit(&c->lapic->arbitration,
					     memory_order_relaxed);
		if (!best || (int32_t)(taken - least) < 0) {
			best = c;
			least = taken;
		}
	}
	if (best)
		atomic_fetch_add_explicit(&best->lapic->arbitration, 1,
					  memory_order_relaxed);
	return best;
}

static int add_result(int sum, int one)
{
	return one < 0 ? sum : one + (sum < 0 ? 0 : sum);
}

int apic_send(struct vm *vm, struct vcpu *self, const struct apic_msg *msg)
{
	bool broadcast_ff =
		!msg->ipi && !(vm->x2apic_api & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
	int result = -1;

	if (msg->mode == APIC_LOWEST) {
		struct vcpu *c = lowest(vm, msg, broadcast_ff);

		return c ? deliver(c, self, msg) : -1;
	}
	for (int i = 0, n = irqchip_n_vcpus(vm); i < n; i++) {
		struct vcpu *c = irqchip_vcpu(vm, i);

		if (c && apic_matches(c, msg->dest, msg->logical, broadcast_ff))
			result = add_result(result, deliver(c, self, msg));
	}
	return result;
}

/* -- The interrupt command register -------------------------------------------------------- */

#define ICR_LOGICAL 0x800u
#define ICR_ASSERT  0x4000u
#define ICR_LEVEL   0x8000u

enum { TO_DEST, TO_SELF, TO_ALL, TO_OTHERS };

static void send_to_set(struct vcpu *c, const struct apic_msg *msg, bool with_self)
{
	for (int i = 0, n = irqchip_n_vcpus(c->vm); i < n; i++) {
		struct vcpu *to = irqchip_vcpu(c->vm, i);

		if (to && (to != c || with_self))
			deliver(to, c, msg);
	}
}

void apic_send_icr(struct vcpu *c, uint32_t low, uint32_t dest)
{
	struct apic_msg msg = {
		.dest = dest,
		.vector = low & 0xff,
		.mode = low >> 8 & 7,
		.logical = low & ICR_LOGICAL,
		.deassert = (low & ICR_LEVEL) && !(low & ICR_ASSERT),
		.ipi = true,
	};

	/* Trigger mode and level mean something for INIT only; other IPIs are edges. */
	if (msg.mode <= APIC_LOWEST && msg.vector < 16) {
		lapic_error(c, ESR_SEND_VECTOR, true);
		return;
	}
	switch (low >> 18 & 3) {
	case TO_DEST: apic_send(c->vm, c, &msg); break;
	case TO_SELF:
		if (msg.mode == APIC_FIXED)
			deliver(c, c, &msg);
		break;
	case TO_ALL: send_to_set(c, &msg, true); break;
	case TO_OTHERS: send_to_set(c, &msg, false); break;
	}
}
