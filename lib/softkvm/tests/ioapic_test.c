/* SPDX-License-Identifier: MIT */
/* The I/O APIC: registers, edges, levels with remote IRR and EOI, destinations,
 * state. */
#include "softkvm/tests/irqchip_machine.h"

#define MASKED 0x10000u
#define LEVEL  0x8000u
#define REMOTE 0x4000u

static int set(unsigned pin, bool level)
{
	return ioapic_set_line(&vm, NULL, pin, SOURCE_USER, level);
}

static void begin(int n)
{
	machine_begin(n);
	for (int i = 0; i < n; i++) {
		apic_enable(&cpu[i]);
		apic_write(&cpu[i], LAPIC_LDR, 1u << (24 + i));
	}
}

static uint32_t low(unsigned pin)
{
	return ioapic_read(0x10 + 2 * pin);
}

static void eoi(struct vcpu *c)
{
	apic_write(c, LAPIC_EOI, 0);
}

static void test_registers(void)
{
	uint64_t data;

	begin(1);
	is_int(ioapic_read(1), 0x170011, "24 pins, version 11h");
	ioapic_write(0, 0x5000000);
	is_int(ioapic_read(0), 0x5000000, "id");
	is_int(ioapic_read(2), 0x5000000, "arbitration id");
	is_int(low(3), MASKED, "masked at reset");
	ioapic_entry(3, 0xff000000ffffffffull);
	is_int(low(3), 0x1afff, "status bits are read-only");
	is_int(ioapic_read(0x17), 0xff000000, "destination");
	is_int(ioapic_read(0x40), 0, "behind the last pin");
	ioapic_write(0x40, 1);
	ok(!irqchip_memory(&cpu[0], IOAPIC_ADDR + 0x100, &data, 4, false),
	   "its page ends");
}

static void test_edge(void)
{
	begin(1);
	ioapic_entry(4, 0x34);
	is_int(set(4, true), 1, "rises");
	is_int(serve(&cpu[0]), 0x34, "comes");
	is_int(set(4, true), 0, "still up: no edge");
	eoi(&cpu[0]);
	is_int(serve(&cpu[0]), -1, "once");
	set(4, false);
	set(4, true);
	set(4, false);
	set(4, true);
	is_int(serve(&cpu[0]), 0x34, "two edges before it is taken are one");
	eoi(&cpu[0]);
	is_int(serve(&cpu[0]), -1, "one");
	set(4, false);
	ioapic_entry(4, MASKED | 0x34);
	is_int(set(4, true), -1, "masked");
	ioapic_entry(4, 0x34);
	is_int(serve(&cpu[0]), -1, "an edge under a mask is lost");
	is_int(set(4, false), 1, "falls");
	is_int(set(30, true), -1, "there is no pin 30");
}

static void test_level(void)
{
	struct vcpu *c = &cpu[0];

	begin(1);
	ioapic_entry(10, LEVEL | 0x4a);
	is_int(set(10, true), 1, "rises");
	is_int(low(10), LEVEL | REMOTE | 0x4a, "remote IRR");
	is_int(serve(c), 0x4a, "comes");
	is_int(apic_read(c, LAPIC_TMR + 2), 1 << 10, "TMR says level");
	is_int(set(10, true), 0, "up is up");
	is_int(serve(c), -1, "not twice without EOI");
	eoi(c);
	is_int(serve(c), 0x4a, "EOI and still up: again");
	set(10, false);
	eoi(c);
	is_int(low(10), LEVEL | 0x4a, "EOI and down: remote IRR clear");
	is_int(serve(c), -1, "quiet");
	ioapic_entry(10, MASKED | LEVEL | 0x4a);
	is_int(set(10, true), -1, "masked");
	ioapic_entry(10, LEVEL | 0x4a);
	is_int(serve(c), 0x4a, "a level waits under a mask");
	ioapic_entry(10, MASKED | 0x4a);
	ioapic_entry(10, MASKED | LEVEL | 0x4a);
	is_int(low(10), MASKED | LEVEL | 0x4a, "to edge and back clears remote IRR");
	eoi(c);
	is_int(serve(c), -1, "masked: no more");
	ioapic_set_line(&vm, NULL, 10, SOURCE_IRQFD, true);
	set(10, false);
	ioapic_entry(10, LEVEL | 0x4a);
	is_int(serve(c), 0x4a, "shared: up while one source is");
	ioapic_set_line(&vm, NULL, 10, SOURCE_IRQFD, false);
	eoi(c);
	is_int(serve(c), -1, "down");
}

static void test_destinations(void)
{
	begin(4);
	ioapic_entry(5, 2ull << 56 | 0x35);
	set(5, true);
	is_int(serve(&cpu[2]), 0x35, "physical: vCPU 2");
	set(5, false);
	ioapic_entry(5, 0xaull << 56 | 0x835);
	set(5, true);
	is_int(serve(&cpu[1]), 0x35, "logical: vCPU 1");
	is_int(serve(&cpu[3]), 0x35, "and 3");
	is_int(serve(&cpu[0]), -1, "not 0");
	for (int i = 0; i < 4; i++)
		eoi(&cpu[i]);
	ioapic_entry(6, 1ull << 56 | 0x400);
	for (int i = 0; i < 4; i++)
		took_requests(&cpu[i]);
	set(6, true);
	is_int(took_requests(&cpu[1]), REQ_NMI, "NMI");
	ioapic_entry(7, 0xffull << 56 | 0x37);
	x2apic_enable(&cpu[3]);
	set(7, true);
	is_int(serve(&cpu[3]), 0x37, "0xff reaches an x2APIC");
	is_int(serve(&cpu[0]), 0x37, "and an xAPIC");
	ioapic_entry(8, 9ull << 56 | LEVEL | 0x38);
	is_int(set(8, true), -1, "to nobody");
	is_int(low(8), LEVEL | 0x38, "remote IRR stays clear: nobody would end it");
}

static void test_state(void)
{
	struct kvm_irqchip a = {.chip_id = KVM_IRQCHIP_IOAPIC}, b = a;

	begin(1);
	ioapic_entry(10, LEVEL | 0x4a);
	set(10, true);
	set(11, true);
	is_int(irqchip_get(&vm, &a), 0, "get");
	is_int(a.chip.ioapic.irr, 3 << 10, "lines");
	is_int(a.chip.ioapic.redirtbl[10].fields.remote_irr, 1, "remote IRR");
	begin(1);
	is_int(irqchip_set(&vm, &a), 0, "set");
	irqchip_get(&vm, &b);
	ok(!memcmp(&a.chip.ioapic, &b.chip.ioapic, sizeof(a.chip.ioapic)),
	   "the same again");
	is_int(serve(&cpu[0]), -1, "what was sent is not sent again");
}

int main(void)
{
	test_registers();
	test_edge();
	test_level();
	test_destinations();
	test_state();
	machine_end();
	return done_testing();
}
