/* SPDX-License-Identifier: MIT */
/*
 * The interrupt controllers on the engine's side of the seam: PIC, IOAPIC, local APICs,
 * PIT, GSI routing, MSI, irqfd, ioeventfd.
 *
 * Called from vCPU threads in KVM_RUN (guest vector state live: no libc, see vcpu.h), and
 * from the client's threads through ioctls. PIT, PIC, IOAPIC and routing have a lock each
 * (os/lock.h; the order is in internal.h), a local APIC has none. Kicking a vCPU is
 * lock-free, so it may happen under any of them.
 */
#ifndef SOFTKVM_IRQCHIP_H
#define SOFTKVM_IRQCHIP_H

#include "softkvm/vcpu.h"

/* KVM_CREATE_IRQCHIP: PIC pair, IOAPIC, and a local APIC for each vCPU (created before
 * or later). 0 or -errno. */
int irqchip_create(struct vm *vm);
/* KVM_CAP_SPLIT_IRQCHIP: local APICs alone, and GSIs that are messages; the first n GSIs are pins of the client's
 * IOAPIC, which hears of EOIs. The same. */
int irqchip_create_split(struct vm *vm, uint64_t n);
void irqchip_destroy(struct vm *vm);
/* PIC, IOAPIC and PIT are the engine's. */
bool irqchip_has_pic(const struct vm *vm);
int lapic_create(struct vcpu *c);
void lapic_destroy(struct vcpu *c);
int pit_create(struct vm *vm, const struct kvm_pit_config *config);

/* -- the vCPU's side -- */

/* Can the vCPU take an interrupt of the client's PIC now, and is there none yet? */
bool irqchip_takes_interrupt(struct vcpu *c);
/* KVM_INTERRUPT of a client that has PIC, but not the APICs: 0 or -EEXIST. */
int irqchip_extint(struct vcpu *c, uint8_t vector);
/* The next vector whose EOI the client is to be told, or -1. */
int irqchip_take_eoi(struct vcpu *c);

/* The vector of an interrupt that the vCPU should take now (priority against TPR and
 * ISR considered; ExtINT from the PIC included), or -1. Does not change state. */
int irqchip_pending(struct vcpu *c);
/* Takes it: IRR to ISR, or the PIC's INTA cycle. Returns the vector or -1
 * (withdrawn). */
int irqchip_ack(struct vcpu *c);

/* The local APIC's page (c->apic_base), 32-bit registers at 16-byte steps; x2APIC
 * MSRs. */
bool lapic_claims(struct vcpu *c, uint64_t gpa);
void lapic_mmio(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len, bool write);
/* 0, or -1 for #GP. msr is 0x800..0x8ff, or IA32_TSC_DEADLINE, or IA32_APIC_BASE. */
int lapic_rdmsr(struct vcpu *c, uint32_t msr, uint64_t *value);
int lapic_wrmsr(struct vcpu *c, uint32_t msr, uint64_t value);
/* The same for IA32_APIC_BASE when the client sets it (KVM_SET_SREGS, KVM_SET_MSRS):
 * any legal value, whatever was before. */
int lapic_set_base(struct vcpu *c, uint64_t value, bool client);
uint64_t lapic_get_cr8(struct vcpu *c);
void lapic_set_cr8(struct vcpu *c, uint64_t value);
void lapic_reset(struct vcpu *c, bool init_signal);
/* KVM_CAP_X2APIC_API: its flags (KVM_X2APIC_API_*). */
int irqchip_x2apic_api(struct vm *vm, uint64_t flags);
/* KVM_REINJECT_CONTROL: shall the PIT's ticks that the guest missed come late (default)
 * or not at all? */
int pit_reinject(struct vm *vm, bool reinject);

/* Ports of PIC (20 21 a0 a1 4d0 4d1), PIT (40..43 61): true if handled. */
bool irqchip_port(struct vcpu *c, uint16_t port, uint64_t *data, unsigned len,
		  bool write);
/* IOAPIC's page: true if handled. */
bool irqchip_memory(struct vcpu *c, uint64_t gpa, uint64_t *data, unsigned len,
		    bool write);

/* -- time: nanoseconds of CLOCK_MONOTONIC -- */

/* When this vCPU's timers (local APIC; PIT for vCPU 0) want service next, UINT64_MAX:
 * never. */
uint64_t irqchip_deadline(struct vcpu *c);
/* Serves what is due at `now`; may make interrupts pending. The vCPU's thread. */
void irqchip_expire(struct vcpu *c, uint64_t now);

/* -- the client's side: the ioctls of the same names; 0 or more, or -errno -- */
int irqchip_line(struct vm *vm, uint32_t gsi, int level, int source); /* KVM_IRQ_LINE */
int irqchip_msi(struct vm *vm, const struct kvm_msi *msi); /* KVM_SIGNAL_MSI */
int irqchip_set_routing(struct vm *vm, const struct kvm_irq_routing *routing,
			const struct kvm_irq_routing_entry *entries);
int irqchip_irqfd(struct vm *vm, const struct kvm_irqfd *irqfd); /* KVM_IRQFD */
int irqchip_get(struct vm *vm, struct kvm_irqchip *chip);
int irqchip_set(struct vm *vm, const struct kvm_irqchip *chip);
int lapic_get(struct vcpu *c, struct kvm_lapic_state *state);
int lapic_set(struct vcpu *c, const struct kvm_lapic_state *state);
int pit_get(struct vm *vm, struct kvm_pit_state2 *state);
int pit_set(struct vm *vm, const struct kvm_pit_state2 *state);

/* -- ioeventfd -- */
int ioeventfd_set(struct vm *vm, const struct kvm_ioeventfd *args); /* KVM_IOEVENTFD */
/* A store that somebody waits for: signals the eventfd, true. */
bool ioeventfd_write(struct vm *vm, uint64_t addr, uint64_t data, unsigned len,
		     bool port);
void ioeventfd_destroy(struct vm *vm);

#endif
