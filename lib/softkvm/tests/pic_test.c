/* SPDX-License-Identifier: MIT */
/* The pair of 8259As: initialisation, priorities, EOIs, cascade, edges and levels,
 * state. */
#include "softkvm/tests/irqchip_machine.h"

static void line(unsigned irq, bool level)
{
	pic_set_line(&vm, irq, SOURCE_USER, level);
}

static void pulse(unsigned irq)
{
	line(irq, true);
	line(irq, false);
}

static int take(void)
{
	return serve(&cpu[0]);
}

/* As a PC's firmware and kernels do it. */
static void init_pair(uint8_t icw4)
{
	static const uint8_t base[2] = {0x20, 0x28}, cascade[2] = {4, 2};

	for (int i = 0; i < 2; i++) {
		uint16_t port = i ? 0xa0 : 0x20;

		out(port, 0x11);
		out(port + 1, base[i]);
		out(port + 1, cascade[i]);
		out(port + 1, icw4);
		out(port + 1, 0);
	}
}

static void begin(uint8_t icw4)
{
	machine_begin(2);
	init_pair(icw4);
}

static void test_simple(void)
{
	begin(1);
	is_int(take(), -1, "quiet");
	is_int(pic_set_line(&vm, 4, SOURCE_USER, true), 1, "IRQ 4 rises");
	is_int(took_requests(&cpu[0]) & REQ_EVENT, REQ_EVENT,
	       "the boot processor is kicked");
	is_int(took_requests(&cpu[1]), 0, "the other is not: its LINT0 is masked");
	is_int(in(0x20), 0x10, "IRR");
	is_int(take(), 0x24, "vector");
	out(0x20, 0x0b);
	is_int(in(0x20), 0x10, "ISR");
	line(4, false);
	is_int(pic_set_line(&vm, 4, SOURCE_USER, true), 1, "again");
	is_int(pic_set_line(&vm, 4, SOURCE_USER, true), 0, "while it waits: coalesced");
	is_int(take(), -1, "but in service");
	out(0x20, 0x20);
	is_int(take(), 0x24, "EOI lets it come");
	out(0x20, 0x64);
	out(0x21, 0x10);
	line(4, false);
	is_int(pic_set_line(&vm, 4, SOURCE_USER, true), -1, "masked");
	is_int(take(), -1, "does not come");
	is_int(in(0x21), 0x10, "IMR");
	out(0x21, 0);
	is_int(take(), 0x24, "it was remembered");
}

static void test_priorities(void)
{
	begin(1);
	pulse(5);
	pulse(3);
	is_int(take(), 0x23, "3 before 5");
	pulse(1);
	is_int(take(), 0x21, "1 interrupts 3");
	out(0x20, 0x20);
	is_int(take(), -1, "5 waits for 3");
	out(0x20, 0x20);
	is_int(take(), 0x25, "now");
	out(0x20, 0xa0);
	pulse(5);
	pulse(6);
	is_int(take(), 0x26, "after a rotating EOI of 5, 6 is the highest");
	out(0x20, 0x20);
	is_int(take(), 0x25, "and 5 the lowest");
	out(0x20, 0x65);
	out(0x20, 0xc7);
	pulse(0);
	pulse(7);
	is_int(take(), 0x20, "set priority: 7 is the lowest again");
	out(0x20, 0x20);
	is_int(take(), 0x27, "7 at last");
	out(0x20, 0x20);
	pulse(1);
	is_int(take(), 0x21, "1 in service");
	out(0x20, 0x68);
	out(0x21, 0x02);
	pulse(6);
	is_int(take(), 0x26, "special mask mode: a masked pin holds nobody back");
}

static void test_cascade(void)
{
	begin(1);
	pulse(12);
	is_int(in(0x20), 4, "the slave asks through pin 2");
	is_int(take(), 0x2c, "IRQ 12");
	is_int(in(0x20), 0, "and is content");
	pulse(9);
	is_int(take(), -1, "9 cannot interrupt 12: the master holds pin 2");
	pulse(1);
	is_int(take(), 0x21, "1 can");
	out(0x20, 0x61);
	out(0xa0, 0x20);
	out(0x20, 0x62);
	is_int(take(), 0x29, "after both EOIs 9");
	out(0xa0, 0x20);
	out(0x20, 0x20);

	begin(0x11);
	pulse(12);
	is_int(take(), 0x2c, "special fully nested mode:");
	pulse(9);
	is_int(take(), 0x29, "9 interrupts 12");
}

static void test_modes(void)
{
	begin(3);
	pulse(4);
	is_int(take(), 0x24, "auto EOI:");
	out(0x20, 0x0b);
	is_int(in(0x20), 0, "nothing in service");
	pulse(4);
	is_int(take(), 0x24, "at once again");
	begin(1);
	pulse(3);
	out(0x20, 0x0c);
	is_int(in(0x20), 0x83, "poll: IRQ 3");
	out(0x20, 0x0b);
	is_int(in(0x20), 8, "is in service");
	out(0x20, 0x0c);
	is_int(in(0x20), 0, "poll: nobody");
}

static void test_level(void)
{
	begin(1);
	out(0x4d1, 0xff);
	is_int(in(0x4d1), 0xde, "IRQs 8 and 13 stay edges");
	out(0x4d0, 0x20);
	is_int(in(0x4d0), 0x20, "ELCR");
	line(5, true);
	is_int(take(), 0x25, "level");
	out(0x20, 0x20);
	is_int(take(), 0x25, "again, as long as it is up");
	line(5, false);
	out(0x20, 0x20);
	is_int(take(), -1, "then no more");
	line(5, true);
	pic_set_line(&vm, 5, SOURCE_IRQFD, true);
	line(5, false);
	is_int(take(), 0x25, "two sources: up while one of them is");
	pic_set_line(&vm, 5, SOURCE_IRQFD, false);
	out(0x20, 0x20);
	is_int(take(), -1, "down");
	line(5, true);
	line(5, false);
	is_int(take(), -1, "a level that fell is forgotten");
	line(4, true);
	line(4, false);
	is_int(take(), 0x24, "an edge is not");
}

static void test_wire(void)
{
	begin(1);
	apic_enable(&cpu[0]);
	apic_write(&cpu[0], LAPIC_LVT_LINT0, LVT_MASKED | 0x700);
	pulse(1);
	is_int(take(), -1, "LINT0 masked: not delivered");
	took_requests(&cpu[0]);
	apic_write(&cpu[0], LAPIC_LVT_LINT0, 0x700);
	is_int(took_requests(&cpu[0]), REQ_EVENT, "unmasked: have a look");
	is_int(take(), 0x21, "there it is");
	out(0x20, 0x20);
	apic_write(&cpu[0], LAPIC_LVT_LINT0, 0x31);
	pulse(1);
	is_int(take(), 0x31, "LINT0 fixed: the APIC's own vector");
	lapic_wrmsr(&cpu[0], MSR_APIC_BASE, APIC_BASE_ADDR | APIC_BASE_BSP);
	is_int(take(), 0x21, "APIC off: a wire to the processor");
}

static void test_state(void)
{
	struct kvm_irqchip master = {.chip_id = KVM_IRQCHIP_PIC_MASTER}, again = master;

	begin(1);
	pulse(3);
	pulse(6);
	irqchip_ack(&cpu[0]);
	out(0x21, 0x80);
	is_int(irqchip_get(&vm, &master), 0, "get");
	is_int(master.chip.pic.irr, 0x40, "IRR");
	is_int(master.chip.pic.isr, 0x08, "ISR");
	is_int(master.chip.pic.imr, 0x80, "IMR");
	is_int(master.chip.pic.irq_base, 0x20, "base");
	machine_begin(1);
	is_int(irqchip_set(&vm, &master), 0, "set");
	irqchip_get(&vm, &again);
	ok(!memcmp(&master.chip.pic, &again.chip.pic, sizeof(again.chip.pic)),
	   "the same again");
	is_int(take(), -1, "6 waits for 3");
	out(0x20, 0x20);
	is_int(take(), 0x26, "and comes");
	master.chip_id = 3;
	is_int(irqchip_get(&vm, &master), -EINVAL, "there is no fourth chip");
}

int main(void)
{
	test_simple();
	test_priorities();
	test_cascade();
	test_modes();
	test_level();
	test_wire();
	test_state();
	machine_end();
	return done_testing();
}
