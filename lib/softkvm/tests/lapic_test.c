/* SPDX-License-Identifier: MIT */
/* The local APIC: registers, priorities, IPIs, both modes, the timer, save and
 * restore. */
#include "softkvm/tests/irqchip_machine.h"

static void test_reset(void)
{
	uint64_t base = 0;

	machine_begin(2);
	is_int(apic_read(&cpu[1], LAPIC_ID), 1 << 24, "id of the second");
	is_int(apic_read(&cpu[0], LAPIC_VERSION), 0x50014, "version, six LVT entries");
	is_int(apic_read(&cpu[0], LAPIC_SVR), 0xff, "SVR: disabled by software");
	is_int(apic_read(&cpu[0], LAPIC_DFR), 0xffffffff, "DFR: flat");
	is_int(apic_read(&cpu[0], LAPIC_LVT_TIMER), LVT_MASKED, "timer masked");
	is_int(apic_read(&cpu[0], LAPIC_LVT_LINT0), 0x700,
	       "boot processor: virtual wire");
	is_int(apic_read(&cpu[1], LAPIC_LVT_LINT0), LVT_MASKED, "others: LINT0 masked");
	is_int(lapic_rdmsr(&cpu[0], MSR_APIC_BASE, &base), 0, "APIC_BASE is there");
	is_int(base, 0xfee00900, "APIC_BASE of the boot processor");
	is_int(cpu[1].apic_base, 0xfee00800, "APIC_BASE of others");
	is_int(irqchip_pending(&cpu[0]), -1, "nothing pends");
	ok(lapic_claims(&cpu[0], 0xfee00030) && !lapic_claims(&cpu[0], 0xfee01000),
	   "its page, and not the next");
}

static void test_priority(void)
{
	struct vcpu *c = &cpu[0];

	machine_begin(1);
	is_int(lapic_post(c, 0x40, false, false), 1, "a new interrupt");
	is_int(lapic_post(c, 0x40, false, false), 0, "the same again is coalesced");
	is_int(took_requests(c), REQ_EVENT, "the vCPU is kicked");
	lapic_post(c, 0x51, false, false);
	is_int(irqchip_pending(c), 0x51, "the higher one first");
	is_int(serve(c), 0x51, "taken");
	is_int(apic_read(c, LAPIC_ISR + 2), 1 << 0x11, "it is in ISR");
	is_int(apic_read(c, LAPIC_IRR + 2), 1, "the other in IRR");
	is_int(apic_read(c, LAPIC_PPR), 0x50, "PPR is its class");
	is_int(irqchip_pending(c), -1, "a lower class has to wait");
	lapic_post(c, 0x5f, false, false);
	is_int(irqchip_pending(c), -1, "the same class, too");
	lapic_post(c, 0x60, false, false);
	is_int(serve(c), 0x60, "a higher class does not");
	took_requests(c);
	apic_write(c, LAPIC_EOI, 0);
	is_int(took_requests(c), REQ_EVENT, "EOI with more to come");
	is_int(apic_read(c, LAPIC_PPR), 0x50, "back to the class before");
	apic_write(c, LAPIC_EOI, 0);
	is_int(serve(c), 0x5f, "then by priority");
	apic_write(c, LAPIC_EOI, 0);
	lapic_set_cr8(c, 4);
	is_int(apic_read(c, LAPIC_TPR), 0x40, "CR8 is the TPR's class");
	is_int(irqchip_pending(c), -1, "TPR holds its class back");
	apic_write(c, LAPIC_TPR, 0x3f);
	is_int(lapic_get_cr8(c), 3, "and back");
	is_int(apic_read(c, LAPIC_PPR), 0x3f, "PPR is all of TPR when that is higher");
	is_int(serve(c), 0x40, "lower TPR lets it through");
	apic_write(c, LAPIC_EOI, 0);
	took_requests(c);
	apic_write(c, LAPIC_EOI, 0);
	is_int(took_requests(c), 0, "an EOI too many is nothing");
}

static void test_errors(void)
{
	struct vcpu *c = &cpu[0];

	machine_begin(1);
	apic_enable(c);
	apic_write(c, LAPIC_LVT_ERROR, 0xfe);
	apic_write(c, LAPIC_ICR, 0x40000 | 5);
	is_int(apic_read(c, LAPIC_ESR), 0, "ESR shows nothing until it is written");
	apic_write(c, LAPIC_ESR, 0);
	is_int(apic_read(c, LAPIC_ESR), ESR_SEND_VECTOR, "illegal vector sent");
	is_int(serve(c), 0xfe, "the error interrupt");
	apic_write(c, LAPIC_EOI, 0);
	apic_write(c, 0x3a, 1);
	apic_write(c, LAPIC_ESR, 0);
	is_int(apic_read(c, LAPIC_ESR), ESR_REGISTER, "no such register");
	apic_write(c, LAPIC_ESR, 0);
	is_int(apic_read(c, LAPIC_ESR), 0, "and forgotten");
	apic_write(c, LAPIC_SVR, 0xff);
	is_int(apic_read(c, LAPIC_LVT_ERROR), LVT_MASKED | 0xfe,
	       "disabling masks the LVT");
	apic_write(c, LAPIC_LVT_ERROR, 0xfe);
	is_int(apic_read(c, LAPIC_LVT_ERROR), LVT_MASKED | 0xfe, "which stays so");
}

/* An IPI from vCPU 0, and who got it: a bit for each vCPU. */
static unsigned ipi(uint32_t low, uint32_t dest)
{
	unsigned got = 0;

	apic_write(&cpu[0], LAPIC_ICR2, dest << 24);
	apic_write(&cpu[0], LAPIC_ICR, low);
	for (int i = 0; i < 4; i++) {
		if (serve(&cpu[i]) == (int)(low & 0xff))
			got |= 1u << i;
		apic_write(&cpu[i], LAPIC_EOI, 0);
	}
	return got;
}

static unsigned x2ipi(uint32_t low, uint32_t dest)
{
	unsigned got = 0;

	lapic_wrmsr(&cpu[0], MSR_X2APIC + LAPIC_ICR, (uint64_t)dest << 32 | low);
	for (int i = 0; i < 4; i++) {
		if (serve(&cpu[i]) == (int)(low & 0xff))
			got |= 1u << i;
		lapic_wrmsr(&cpu[i], MSR_X2APIC + LAPIC_EOI, 0);
	}
	return got;
}

static void test_ipis(void)
{
	unsigned got;

	machine_begin(4);
	for (int i = 0; i < 4; i++) {
		apic_enable(&cpu[i]);
		apic_write(&cpu[i], LAPIC_LDR, 1u << (24 + i));
	}
	is_int(ipi(0x40, 2), 1 << 2, "physical");
	is_int(ipi(0x40, 0xff), 15, "physical broadcast");
	is_int(ipi(0x840, 0xa), 0xa, "logical, flat");
	is_int(ipi(0x40040, 0), 1, "to self");
	is_int(ipi(0x80040, 0), 15, "to all");
	is_int(ipi(0xc0040, 0), 14, "to all others");
	got = ipi(0x940, 0xf);
	is_int(__builtin_popcount(got), 1, "lowest priority: to one");
	ok(ipi(0x940, 0xf) != got, "the next one to another");
	for (int i = 0; i < 4; i++) {
		apic_write(&cpu[i], LAPIC_DFR, 0x0fffffff);
		apic_write(&cpu[i], LAPIC_LDR,
			   (uint32_t)(i / 2) << 28 | 1u << (24 + i % 2));
	}
	is_int(ipi(0x840, 0x13), 0xc, "logical, cluster 1");
	is_int(ipi(0x840, 0x01), 0x1, "logical, cluster 0");
	apic_write(&cpu[3], LAPIC_SVR, 0xff);
	is_int(ipi(0x80040, 0), 7, "not to one that is disabled");
	is_int(apic_read(&cpu[0], LAPIC_ICR), 0x80040, "ICR reads back, idle");
	apic_write(&cpu[0], LAPIC_ICR, 0xfff73840); /* to self; bit 12 is "send pending" */
	is_int(apic_read(&cpu[0], LAPIC_ICR), 0xfff72840, "with its reserved bits");
}

static void test_start(void)
{
	machine_begin(2);
	apic_enable(&cpu[0]);
	apic_write(&cpu[0], LAPIC_ICR2, 1 << 24);
	apic_write(&cpu[0], LAPIC_ICR, 0xc500);
	is_int(took_requests(&cpu[1]), REQ_INIT, "INIT reaches a disabled APIC");
	apic_write(&cpu[0], LAPIC_ICR, 0x8500);
	is_int(took_requests(&cpu[1]), 0, "its de-assertion is nothing");
	apic_write(&cpu[0], LAPIC_ICR, 0x69a);
	is_int(took_requests(&cpu[1]), REQ_SIPI, "SIPI");
	is_int(cpu[1].sipi_vector, 0x9a, "with the page to start at");
	apic_write(&cpu[0], LAPIC_ICR, 0x400);
	is_int(took_requests(&cpu[1]), REQ_NMI, "NMI");
	is_int(took_requests(&cpu[0]), 0, "nothing came back");
}

static int wr(struct vcpu *c, unsigned reg, uint64_t value)
{
	return lapic_wrmsr(c, MSR_X2APIC + reg, value);
}

static int rd(struct vcpu *c, unsigned reg)
{
	uint64_t value;

	return lapic_rdmsr(c, MSR_X2APIC + reg, &value);
}

static void test_base(void)
{
	struct vcpu *c = &cpu[0];

	machine_begin(1);
	is_int(rd(c, LAPIC_ID), -1, "no x2APIC MSRs in xAPIC mode");
	is_int(lapic_wrmsr(c, MSR_APIC_BASE, 0xfee00500), -1, "X2APIC without ENABLE");
	is_int(lapic_wrmsr(c, MSR_APIC_BASE, 0xfee00901), -1, "reserved bit 0");
	is_int(lapic_wrmsr(c, MSR_APIC_BASE, 1ull << 40 | 0xfee00900), -1,
	       "beyond the bus");
	is_int(lapic_wrmsr(c, MSR_APIC_BASE, 0xfee00d00), 0, "xAPIC to x2APIC");
	is_int(lapic_wrmsr(c, MSR_APIC_BASE, 0xfee00900), -1, "but not back");
	is_int(lapic_wrmsr(c, MSR_APIC_BASE, 0xfee00100), 0, "off");
	is_int(lapic_wrmsr(c, MSR_APIC_BASE, 0xfee00d00), -1, "not from off to x2APIC");
	is_int(lapic_set_base(c, 0xfee00d00, true), 0, "but the client may");
	is_int(lapic_set_base(c, 0xfee00900, true), 0, "and back");
	c->features = (struct cpu_set){0};
	is_int(lapic_wrmsr(c, MSR_APIC_BASE, 0xfee00d00), -1, "not without CPUID");
	is_int(lapic_wrmsr(c, MSR_APIC_BASE, 0xfed00900), 0, "elsewhere");
	ok(lapic_claims(c, 0xfed00020) && !lapic_claims(c, 0xfee00020), "it moved");
}

static void test_x2apic(void)
{
	uint64_t value = 0;

	machine_begin(4);
	for (int i = 0; i < 4; i++)
		x2apic_enable(&cpu[i]);
	is_int(apic_read(&cpu[0], LAPIC_VERSION), 0xffffffff,
	       "no memory face any more");
	lapic_rdmsr(&cpu[3], MSR_X2APIC + LAPIC_ID, &value);
	is_int(value, 3, "id");
	lapic_rdmsr(&cpu[3], MSR_X2APIC + LAPIC_LDR, &value);
	is_int(value, 8, "logical id");
	is_int(lapic_x2apic_ldr(0x123), 0x120008, "of a large id");
	is_int(x2ipi(0x40, 2), 1 << 2, "physical");
	is_int(x2ipi(0x40, 0xffffffff), 15, "broadcast");
	is_int(x2ipi(0x40, 0xff), 0, "0xff is nobody's id");
	is_int(x2ipi(0x840, 6), 6, "logical");
	is_int(x2ipi(0x840, 0x10006), 0, "other cluster");
	is_int(x2ipi(0xc0040, 0), 14, "to all others");
	is_int(wr(&cpu[0], LAPIC_SELF_IPI, 0x77), 0, "self IPI");
	is_int(serve(&cpu[0]), 0x77, "arrives");
	is_int(wr(&cpu[0], LAPIC_EOI, 1), -1, "EOI must be 0");
	is_int(wr(&cpu[0], LAPIC_EOI, 0), 0, "and is");
	is_int(wr(&cpu[0], LAPIC_TPR, 0x100), -1, "TPR has 8 bits");
	is_int(wr(&cpu[0], LAPIC_ICR, 0x2000), -1, "ICR, reserved bit");
	is_int(wr(&cpu[0], LAPIC_ID, 1), -1, "ID is read-only");
	is_int(rd(&cpu[0], LAPIC_EOI), -1, "EOI is write-only");
	is_int(rd(&cpu[0], LAPIC_DFR), -1, "no DFR");
	is_int(rd(&cpu[0], LAPIC_ICR2), -1, "no second half of ICR");
	is_int(rd(&cpu[0], 0x3a), -1, "nor what never was");
	is_int(wr(&cpu[0], LAPIC_LVT_ERROR, 0x80000), -1, "LVT, reserved bit");
	wr(&cpu[0], LAPIC_ICR, 0x500000840);
	lapic_rdmsr(&cpu[0], MSR_X2APIC + LAPIC_ICR, &value);
	is_int(value, 0x500000840, "ICR has 64 bits");
}

/* -- The timer ----------------------------------------------------------------------------- */

static void pass(uint64_t ns)
{
	now += ns;
	irqchip_expire(&cpu[0], now);
}

static void test_countdown(void)
{
	struct vcpu *c = &cpu[0];

	machine_begin(1);
	apic_enable(c);
	apic_write(c, LAPIC_LVT_TIMER, 0x30);
	apic_write(c, LAPIC_TIMER_DIVIDE, 0xb);
	is_int(irqchip_deadline(c), NEVER, "nothing is due");
	took_requests(c);
	apic_write(c, LAPIC_TIMER_INITIAL, 1000000);
	is_int(took_requests(c), REQ_TIMER, "the run loop is told");
	is_int(irqchip_deadline(c) - now, 1000000,
	       "divide by 1: a count is a nanosecond");
	pass(400000);
	is_int(apic_read(c, LAPIC_TIMER_CURRENT), 600000, "counts down");
	is_int(irqchip_pending(c), -1, "not yet");
	apic_write(c, LAPIC_TIMER_DIVIDE, 0x3);
	is_int(apic_read(c, LAPIC_TIMER_CURRENT), 600000,
	       "a new divider keeps the count");
	is_int(irqchip_deadline(c) - now, 9600000, "and changes its speed (16)");
	pass(9600000);
	is_int(serve(c), 0x30, "expired");
	apic_write(c, LAPIC_EOI, 0);
	is_int(apic_read(c, LAPIC_TIMER_CURRENT), 0, "stays 0");
	is_int(irqchip_deadline(c), NEVER, "once");

	apic_write(c, LAPIC_LVT_TIMER, LVT_MASKED | 0x30);
	apic_write(c, LAPIC_TIMER_INITIAL, 1000);
	is_int(irqchip_deadline(c), NEVER, "nobody is woken for a masked timer");
	pass(20000);
	apic_write(c, LAPIC_LVT_TIMER, 0x30);
	pass(1);
	is_int(serve(c), -1, "what expired under the mask is gone");
	apic_write(c, LAPIC_TIMER_INITIAL, 1000);
	apic_write(c, LAPIC_TIMER_INITIAL, 0);
	is_int(irqchip_deadline(c), NEVER, "0 stops it");
}

static void test_periodic(void)
{
	struct vcpu *c = &cpu[0];

	machine_begin(1);
	apic_enable(c);
	apic_write(c, LAPIC_LVT_TIMER, LVT_TIMER_PERIODIC | 0x31);
	apic_write(c, LAPIC_TIMER_DIVIDE, 0xb);
	apic_write(c, LAPIC_TIMER_INITIAL, 1000000);
	pass(1000000);
	is_int(serve(c), 0x31, "first");
	apic_write(c, LAPIC_EOI, 0);
	is_int(irqchip_deadline(c) - now, 1000000, "and over again");
	pass(5300000);
	is_int(serve(c), 0x31, "several that were missed are one");
	apic_write(c, LAPIC_EOI, 0);
	is_int(serve(c), -1, "only one");
	is_int(irqchip_deadline(c) - now, 700000, "the phase is kept");
	is_int(apic_read(c, LAPIC_TIMER_CURRENT), 700000, "count");
	apic_write(c, LAPIC_TIMER_INITIAL, 10);
	is_int(irqchip_deadline(c) - now, 200000, "not more often than every 200 us");
	apic_write(c, LAPIC_LVT_TIMER, LVT_TIMER_DEADLINE | 0x31);
	is_int(irqchip_deadline(c), NEVER, "TSC-deadline mode stops the count");
	is_int(apic_read(c, LAPIC_TIMER_INITIAL), 0, "and clears it");
	apic_write(c, LAPIC_TIMER_INITIAL, 10);
	is_int(apic_read(c, LAPIC_TIMER_INITIAL), 0, "which cannot be written there");
}

static void test_tsc_deadline(void)
{
	struct vcpu *c = &cpu[0];
	uint64_t tsc, value = 1, at;

	machine_begin(1);
	apic_enable(c);
	lapic_wrmsr(c, MSR_TSC_DEADLINE, 1);
	is_int(serve(c), -1, "nothing in other modes");
	apic_write(c, LAPIC_LVT_TIMER, LVT_TIMER_DEADLINE | 0x32);
	c->tsc_offset = 0 - host_tsc();
	took_requests(c);
	tsc = host_tsc() + c->tsc_offset + 200000000000ull; /* 100 s at 2 GHz */
	lapic_wrmsr(c, MSR_TSC_DEADLINE, tsc);
	is_int(took_requests(c), REQ_TIMER, "the run loop is told");
	lapic_rdmsr(c, MSR_TSC_DEADLINE, &value);
	is_int(value, tsc, "reads back");
	at = irqchip_deadline(c) - now;
	ok(at > 99000000000ull && at <= 100000000001ull, "in 100 s");
	pass(200000000000ull);
	is_int(serve(c), -1, "the TSC decides");
	c->tsc_offset += 200000000000ull;
	irqchip_expire(c, now);
	is_int(serve(c), 0x32, "expired");
	apic_write(c, LAPIC_EOI, 0);
	lapic_rdmsr(c, MSR_TSC_DEADLINE, &value);
	is_int(value, 0, "and disarmed");
	lapic_wrmsr(c, MSR_TSC_DEADLINE, 1);
	is_int(serve(c), 0x32, "a deadline in the past fires at once");
	apic_write(c, LAPIC_EOI, 0);
	lapic_wrmsr(c, MSR_TSC_DEADLINE, UINT64_MAX);
	is_int(irqchip_deadline(c), NEVER, "the far future is never");
	lapic_wrmsr(c, MSR_TSC_DEADLINE, 0);
	is_int(irqchip_deadline(c), NEVER, "0 disarms");
}

/* A vCPU whose thread did not run is given back to the client before the interrupt comes. */
static void test_away(void)
{
	struct vcpu *c = &cpu[0];

	machine_begin(1);
	apic_enable(c);
	apic_write(c, LAPIC_LVT_TIMER, 0x30);
	apic_write(c, LAPIC_TIMER_DIVIDE, 0xb);
	apic_write(c, LAPIC_TIMER_INITIAL, 1000);
	took_requests(c);
	pass(1000 + 999999999);
	ok(!(took_requests(c) & REQ_EXIT), "less than a second late: nobody minds");
	apic_write(c, LAPIC_TIMER_INITIAL, 1000);
	took_requests(c);
	pass(1000 + 1000000000);
	ok(took_requests(c) & REQ_EXIT, "a second late: KVM_RUN returns");
	is_int(serve(c), 0x30, "the interrupt is there");
	apic_write(c, LAPIC_EOI, 0);
	apic_write(c, LAPIC_TIMER_INITIAL, 1000);
	now += 5000000000; /* unnoticed */
	took_requests(c);
	apic_write(c, LAPIC_TIMER_INITIAL, 1000);
	ok(took_requests(c) & REQ_EXIT, "though the guest sets the timer anew");
	is_int(serve(c), 0x30, "it has expired");
	apic_write(c, LAPIC_EOI, 0);

	apic_write(c, LAPIC_LVT_TIMER, LVT_TIMER_DEADLINE | 0x32);
	lapic_wrmsr(c, MSR_TSC_DEADLINE, host_tsc() + c->tsc_offset + 1000000);
	took_requests(c);
	c->tsc_offset += 3000000000; /* 1.5 s at 2 GHz */
	irqchip_expire(c, now);
	ok(took_requests(c) & REQ_EXIT, "a deadline in TSC units: a second late");
	is_int(serve(c), 0x32, "it has expired");
	apic_write(c, LAPIC_EOI, 0);
	lapic_wrmsr(c, MSR_TSC_DEADLINE, host_tsc() + c->tsc_offset + 1000000);
	took_requests(c);
	c->tsc_offset += 3000000000;
	lapic_wrmsr(c, MSR_TSC_DEADLINE, UINT64_MAX);
	ok(took_requests(c) & REQ_EXIT, "though the guest sets another");
	is_int(serve(c), 0x32, "it has expired");
	apic_write(c, LAPIC_EOI, 0);
	lapic_wrmsr(c, MSR_TSC_DEADLINE, 1);
	ok(!(took_requests(c) & REQ_EXIT), "one set in the past is not late");
}

/* -- Save and restore ---------------------------------------------------------------------- */

static void test_state(void)
{
	struct kvm_lapic_state a, b;
	struct vcpu *c = &cpu[1];

	machine_begin(2);
	apic_enable(c);
	apic_write(c, LAPIC_LVT_TIMER, LVT_TIMER_PERIODIC | 0x31);
	apic_write(c, LAPIC_TIMER_INITIAL, 1000000);
	lapic_post(c, 0x80, true, false);
	lapic_post(c, 0x90, false, false);
	irqchip_ack(c);
	now += 500000;
	is_int(lapic_get(c, &a), 0, "get");
	is_int(*(uint32_t *)(a.regs + 0x390), 750000, "the current count is in it");
	lapic_reset(c, false);
	is_int(lapic_set(c, &a), 0, "set");
	lapic_get(c, &b);
	ok(!memcmp(&a, &b, sizeof(a)), "the same again");
	is_int(irqchip_deadline(c) - now, 1500000, "the timer goes on");
	is_int(irqchip_pending(c), -1, "0x90 is in service still");
	apic_write(c, LAPIC_EOI, 0);
	is_int(serve(c), 0x80, "0x80 waits still");
	x2apic_enable(c);
	lapic_get(c, &a);
	is_int(*(uint32_t *)(a.regs + 0x20), 1 << 24, "x2APIC: id in the old place");
	irqchip_x2apic_api(&vm, KVM_X2APIC_API_USE_32BIT_IDS);
	lapic_get(c, &a);
	is_int(*(uint32_t *)(a.regs + 0x20), 1, "or all of it");
	a.regs[0x20] = 7;
	is_int(lapic_set(c, &a), -EINVAL, "which must be right");
	lapic_reset(c, true);
	is_int(lapic_is_x2apic(c), 1, "INIT leaves the mode alone");
	is_int(lapic_reg(c->lapic, LAPIC_SVR), 0xff, "and resets the rest");
}

int main(void)
{
	test_reset();
	test_priority();
	test_errors();
	test_ipis();
	test_start();
	test_base();
	test_x2apic();
	test_countdown();
	test_periodic();
	test_tsc_deadline();
	test_away();
	test_state();
	machine_end();
	return done_testing();
}
