/* SPDX-License-Identifier: MIT */
/*
 * A machine for the tests of irqchip/: vCPUs that never run, with their APICs, and a
 * clock that the test moves. Included once, by the file that has main().
 */
#ifndef IRQCHIP_MACHINE_H
#define IRQCHIP_MACHINE_H

#include "softkvm/irqchip/internal.h"
#include "tests/tap.h"

static struct vm vm;
static struct vcpu cpu[4];
static uint64_t now = 1000000000;

/* The run loop's and the clock's part. */
void vcpu_kick(struct vcpu *c, uint32_t bits)
{
	atomic_fetch_or(&c->requests, bits);
}

uint64_t now_ns(void)
{
	return now;
}

static void machine_end(void)
{
	ioeventfd_destroy(&vm);
	irqchip_destroy(&vm);
	for (int i = 0; i < 4; i++)
		lapic_destroy(&cpu[i]);
}

/* All in power-on state; the APICs of the first n vCPUs in xAPIC mode, not yet
 * enabled. */
static void machine_begin(int n)
{
	if (vm.irqchip)
		machine_end();
	memset(&vm, 0, sizeof(vm));
	memset(cpu, 0, sizeof(cpu));
	vm.host_tsc_khz = 2000000;
	for (int i = 0; i < n; i++) {
		cpu[i].vm = &vm;
		cpu[i].id = cpu[i].place = (unsigned)i;
		cpu[i].max_phys_bits = 40;
		cpu_set_add(&cpu[i].features, FEATURE_x2apic);
		vm.vcpu[i] = &cpu[i];
	}
	atomic_store(&vm.n_vcpus, n);
	if (irqchip_create(&vm) ||
	    pit_create(&vm, &(struct kvm_pit_config){.flags = KVM_PIT_SPEAKER_DUMMY})) {
		printf("Bail out! no irqchip\n");
		exit(1);
	}
	for (int i = 0; i < n; i++)
		atomic_store(&cpu[i].requests, 0);
}

static uint32_t took_requests(struct vcpu *c)
{
	return atomic_exchange(&c->requests, 0);
}

/* Registers as the guest reaches them. */
__attribute__((unused)) static uint32_t apic_read(struct vcpu *c, unsigned reg)
{
	uint64_t value = 0;

	lapic_mmio(c, APIC_BASE_ADDR + reg * 16, &value, 4, false);
	return (uint32_t)value;
}

__attribute__((unused)) static void apic_write(struct vcpu *c, unsigned reg,
					       uint32_t value)
{
	uint64_t data = value;

	lapic_mmio(c, APIC_BASE_ADDR + reg * 16, &data, 4, true);
}

/* What every kernel does first. */
__attribute__((unused)) static void apic_enable(struct vcpu *c)
{
	apic_write(c, LAPIC_SVR, SVR_ENABLE | 0xff);
	took_requests(c);
}

__attribute__((unused)) static void x2apic_enable(struct vcpu *c)
{
	lapic_wrmsr(c, MSR_APIC_BASE, c->apic_base | APIC_BASE_X2APIC);
	lapic_wrmsr(c, MSR_X2APIC + LAPIC_SVR, SVR_ENABLE | 0xff);
	took_requests(c);
}

__attribute__((unused)) static uint8_t in(uint16_t port)
{
	uint64_t value = 0;

	if (!irqchip_port(&cpu[0], port, &value, 1, false))
		printf("# nobody at port %x\n", port);
	return (uint8_t)value;
}

__attribute__((unused)) static void out(uint16_t port, uint8_t value)
{
	uint64_t data = value;

	if (!irqchip_port(&cpu[0], port, &data, 1, true))
		printf("# nobody at port %x\n", port);
}

__attribute__((unused)) static uint32_t ioapic_read(unsigned index)
{
	uint64_t value = index;

	irqchip_memory(&cpu[0], IOAPIC_ADDR, &value, 4, true);
	irqchip_memory(&cpu[0], IOAPIC_ADDR + 0x10, &value, 4, false);
	return (uint32_t)value;
}

__attribute__((unused)) static void ioapic_write(unsigned index, uint32_t word)
{
	uint64_t value = index;

	irqchip_memory(&cpu[0], IOAPIC_ADDR, &value, 4, true);
	value = word;
	irqchip_memory(&cpu[0], IOAPIC_ADDR + 0x10, &value, 4, true);
}

__attribute__((unused)) static void ioapic_entry(unsigned pin, uint64_t entry)
{
	ioapic_write(0x11 + 2 * pin, (uint32_t)(entry >> 32));
	ioapic_write(0x10 + 2 * pin, (uint32_t)entry);
}

/* Takes an interrupt as the run loop does, and ends it: the vector, or -1. */
__attribute__((unused)) static int serve(struct vcpu *c)
{
	int pending = irqchip_pending(c), vector = irqchip_ack(c);

	if (pending != vector)
		printf("# pending said %d, ack %d\n", pending, vector);
	return vector;
}

#endif
