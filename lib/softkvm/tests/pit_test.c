/* SPDX-License-Identifier: MIT */
/* The 8254: counting, latching, outputs, IRQ 0, port 61, state. */
#include "softkvm/tests/irqchip_machine.h"

#define TICK_NS(n) ((n)*1000000000ull / 1193182)

static uint16_t read_word(uint16_t port)
{
	uint16_t word = in(port);

	return (uint16_t)(word | in(port) << 8);
}

static void program(unsigned n, unsigned mode, unsigned count)
{
	out(0x43, (uint8_t)(n << 6 | 0x30 | mode << 1));
	out((uint16_t)(0x40 + n), count & 0xff);
	out((uint16_t)(0x40 + n), (count >> 8) & 0xff);
}

static void pass(uint64_t ns)
{
	now += ns;
	irqchip_expire(&cpu[0], now);
}

static void begin(void)
{
	machine_begin(2);
	out(0x20, 0x11);
	out(0x21, 0x20);
	out(0x21, 4);
	out(0x21, 1);
	out(0x21, 0xfa); /* IRQ 0 and the cascade */
}

static int take(void)
{
	int vector = serve(&cpu[0]);

	if (vector >= 0)
		out(0x20, 0x20);
	return vector;
}

static void test_counting(void)
{
	begin();
	is_int(irqchip_deadline(&cpu[0]), NEVER, "still");
	program(1, 2, 1000);
	now += TICK_NS(300) + 500;
	is_int(read_word(0x41), 700, "mode 2 counts down");
	now += TICK_NS(1000);
	is_int(read_word(0x41), 700, "and starts over");
	program(1, 3, 1000);
	now += TICK_NS(300) + 500;
	is_int(read_word(0x41), 400, "mode 3 counts twice as fast");
	program(1, 0, 1000);
	now += TICK_NS(1300) + 500;
	is_int(read_word(0x41), (uint16_t)-300, "mode 0 goes on below 0");
	out(0x43, 0x40);
	now += TICK_NS(100);
	is_int(read_word(0x41), (uint16_t)-300, "latched");
	is_int(read_word(0x41), (uint16_t)-400, "then live again");
	out(0x43, 0x50);
	out(0x41, 50);
	now += TICK_NS(20) + 500;
	is_int(in(0x41), 30, "low byte only");
	out(0x43, 0x60);
	out(0x41, 2);
	now += TICK_NS(20) + 500;
	is_int(in(0x41), 1, "high byte only");
}

static void test_status(void)
{
	begin();
	program(2, 0, 1000);
	out(0x61, 1);
	out(0x43, 0xe8);
	is_int(in(0x42), 0x30, "status: both bytes, mode 0, output low");
	now += TICK_NS(1001) + 500;
	out(0x43, 0xc8);
	out(0x43, 0xc8);
	is_int(in(0x42), 0xb0, "status and count latched: status first, output high");
	is_int(read_word(0x42), (uint16_t)-1, "then the count");
}

/* What Linux does to learn the TSC's frequency. */
static void test_port61(void)
{
	begin();
	out(0x61, (in(0x61) & ~2) | 1);
	program(2, 0, 0xe90b);
	is_int(in(0x61) & 0x23, 1, "gate up, output low");
	now += TICK_NS(0xe90b) - 1000;
	is_int(in(0x61) & 0x20, 0, "still low");
	now += 2000;
	is_int(in(0x61) & 0x20, 0x20, "high after 50 ms");
	now = 1 << 20;
	is_int(in(0x61) & 0x10, 0, "refresh");
	now += 1 << 14;
	is_int(in(0x61) & 0x10, 0x10, "toggles");
	out(0x61, 2);
	is_int(in(0x61) & 3, 2, "speaker on, gate down");
}

static void test_irq0(void)
{
	begin();
	took_requests(&cpu[0]);
	program(0, 2, 11932); /* 100 Hz */
	is_int(took_requests(&cpu[0]), REQ_TIMER, "the first vCPU is told");
	is_int(irqchip_deadline(&cpu[1]), NEVER, "the other has nothing to do with it");
	ok(irqchip_deadline(&cpu[0]) - now - TICK_NS(11932) <= 2, "in 10 ms");
	pass(9999000);
	is_int(take(), -1, "not yet");
	pass(2000);
	is_int(take(), 0x20, "tick");
	pass(TICK_NS(11932));
	is_int(take(), 0x20, "tick");
	pass(TICK_NS(3 * 11932));
	is_int(take(), 0x20, "three missed:");
	ok(irqchip_deadline(&cpu[0]) - now < 3000000, "the next comes soon");
	pass(3000000);
	is_int(take(), 0x20, "second");
	pass(3000000);
	is_int(take(), 0x20, "third");
	is_int(take(), -1, "made up for");
	pit_reinject(&vm, false);
	pass(50000000);
	is_int(take(), 0x20, "not made up for:");
	pass(1);
	is_int(take(), -1, "one only");
	pit_reinject(&vm, true);
	out(0x21, 0xff);
	pass(50000000);
	out(0x21, 0xfa);
	pass(1);
	is_int(take(), 0x20,
	       "masked: the last edge is in the PIC, the others nobody wants");
	pass(1);
	is_int(take(), -1, "gone");
	program(0, 0, 1000);
	pass(TICK_NS(1000) + 1000);
	is_int(take(), 0x20, "one-shot");
	is_int(irqchip_deadline(&cpu[0]), NEVER, "once");
	program(0, 2, 10);
	is_int(irqchip_deadline(&cpu[0]) - now <= 10000, 1, "first edge");
	pass(10000);
	is_int(irqchip_deadline(&cpu[0]) - now > 40000, 1, "a storm is slowed down");
	out(0x43, 0x30);
	is_int(irqchip_deadline(&cpu[0]), NEVER, "a control word stops it");
}

static void test_state(void)
{
	struct kvm_pit_state2 a, b;

	begin();
	program(0, 2, 11932);
	program(2, 3, 100);
	out(0x61, 3);
	is_int(pit_get(&vm, &a), 0, "get");
	is_int(a.channels[0].count, 11932, "count");
	is_int(a.flags, KVM_PIT_FLAGS_SPEAKER_DATA_ON, "speaker");
	begin();
	is_int(pit_set(&vm, &a), 0, "set");
	pit_get(&vm, &b);
	ok(!memcmp(&a, &b, sizeof(a)), "the same again");
	ok(irqchip_deadline(&cpu[0]) != NEVER, "it runs");
	a.channels[1].count = 0x10001;
	is_int(pit_set(&vm, &a), -EINVAL, "a count that cannot be");
	a.channels[1].count = 0;
	a.channels[2].count_load_time = INT64_MIN;
	is_int(pit_set(&vm, &a), 0, "a load time that cannot be");
	is_int(in(0x42), 100, "is one that is yet to come");
	a.flags = KVM_PIT_FLAGS_HPET_LEGACY;
	pit_set(&vm, &a);
	is_int(irqchip_deadline(&cpu[0]), NEVER, "the HPET has IRQ 0");
}

int main(void)
{
	test_counting();
	test_status();
	test_port61();
	test_irq0();
	test_state();
	machine_end();
	return done_testing();
}
