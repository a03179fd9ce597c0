/* SPDX-License-Identifier: MIT */
/* GSI routing, MSIs, irqfds and ioeventfds. */
#include "softkvm/tests/irqchip_machine.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MSI_ADDR 0xfee00000ull

static void begin(int n)
{
	machine_begin(n);
	for (int i = 0; i < n; i++) {
		apic_enable(&cpu[i]);
		apic_write(&cpu[i], LAPIC_LDR, 1u << (24 + i));
		apic_write(&cpu[i], LAPIC_LVT_LINT0, LVT_MASKED);
	}
}

static struct kvm_irq_routing_entry pin_route(uint32_t gsi, uint32_t chip, uint32_t pin)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = {.irqchip = chip, .pin = pin},
	};
}

static struct kvm_irq_routing_entry msi_route(uint32_t gsi, uint64_t addr,
					      uint32_t data)
{
	return (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = (uint32_t)addr,
			  .address_hi = (uint32_t)(addr >> 32),
			  .data = data},
	};
}

static int route(const struct kvm_irq_routing_entry *entries, uint32_t n)
{
	return irqchip_set_routing(&vm, &(struct kvm_irq_routing){.nr = n}, entries);
}

static void test_default(void)
{
	begin(1);
	ioapic_entry(4, 0x34);
	is_int(irqchip_line(&vm, 4, 1, 0), 2, "GSI 4: PIC and IOAPIC");
	is_int(vm.irqchip->pic.chip[0].irr, 0x10, "PIC pin 4");
	is_int(serve(&cpu[0]), 0x34, "IOAPIC pin 4");
	ioapic_entry(20, 0x44);
	is_int(irqchip_line(&vm, 20, 1, 0), 1, "GSI 20: IOAPIC");
	is_int(irqchip_line(&vm, 24, 1, 0), 0, "GSI 24: nothing");
	is_int(routing_find_gsi(&vm, ROUTE_IOAPIC, 20), 20, "back from the pin");
}

static void test_tables(void)
{
	struct kvm_irq_routing_entry e[] = {
		pin_route(0, KVM_IRQCHIP_PIC_MASTER, 0),
		pin_route(0, KVM_IRQCHIP_IOAPIC, 2),
		msi_route(100, MSI_ADDR | 1 << 12, 0x55),
		pin_route(9, KVM_IRQCHIP_PIC_SLAVE, 1),
	};

	begin(2);
	is_int(route(e, 4), 0, "a table");
	ioapic_entry(2, 0x32);
	irqchip_line(&vm, 0, 1, 0);
	is_int(serve(&cpu[0]), 0x32, "GSI 0 at pin 2");
	is_int(irqchip_line(&vm, 100, 1, 0), 1, "an MSI");
	is_int(serve(&cpu[1]), 0x55, "to vCPU 1");
	is_int(irqchip_line(&vm, 100, 0, 0), 0, "its falling edge is nothing");
	irqchip_line(&vm, 9, 1, 0);
	is_int(vm.irqchip->pic.chip[1].irr, 2, "GSI 9 at the slave's pin 1");
	is_int(routing_find_gsi(&vm, ROUTE_IOAPIC, 2), 0, "pin 2 is GSI 0");
	is_int(routing_find_gsi(&vm, ROUTE_IOAPIC, 0), -1, "pin 0 is none");
	e[1] = pin_route(0, KVM_IRQCHIP_IOAPIC, 24);
	is_int(route(e, 2), -EINVAL, "no pin 24");
	e[1] = pin_route(0, KVM_IRQCHIP_PIC_MASTER, 3);
	is_int(route(e, 2), -EINVAL, "two pins of one chip");
	e[1] = msi_route(0, MSI_ADDR, 0x41);
	is_int(route(e, 2), -EINVAL, "a pin and an MSI");
	e[1] = pin_route(5000, KVM_IRQCHIP_IOAPIC, 1);
	is_int(route(e, 2), -EINVAL, "GSI 5000");
	is_int(irqchip_line(&vm, 100, 1, 0), 1, "a bad table changes nothing");
	is_int(route(NULL, 0), 0, "an empty one");
	is_int(irqchip_line(&vm, 100, 1, 0), 0, "routes nothing");
}

static int signal_msi(uint64_t addr, uint32_t data)
{
	return irqchip_msi(&vm, &(struct kvm_msi){.address_lo = (uint32_t)addr,
						  .address_hi = (uint32_t)(addr >> 32),
						  .data = data});
}

static void test_msi(void)
{
	begin(4);
	is_int(signal_msi(MSI_ADDR | 2 << 12, 0x61), 1, "physical");
	is_int(serve(&cpu[2]), 0x61, "to 2");
	apic_write(&cpu[2], LAPIC_EOI, 0);
	is_int(signal_msi(MSI_ADDR | 6 << 12 | 4, 0x62), 2, "logical");
	is_int(serve(&cpu[1]) == 0x62 && serve(&cpu[2]) == 0x62, 1, "to 1 and 2");
	is_int(signal_msi(MSI_ADDR | 6 << 12 | 12, 0x73), 1, "with the hint: to one");
	is_int(signal_msi(MSI_ADDR | 9 << 12, 0x61), 0, "to nobody");
	x2apic_enable(&cpu[3]);
	cpu[3].id = 0x103;
	lapic_put(cpu[3].lapic, LAPIC_ID, 0x103);
	is_int(signal_msi(0x100ull << 32 | MSI_ADDR | 3 << 12, 0x74), 0,
	       "8-bit destinations");
	irqchip_x2apic_api(&vm, KVM_X2APIC_API_USE_32BIT_IDS);
	is_int(signal_msi(0x100ull << 32 | MSI_ADDR | 3 << 12, 0x74), 1, "32-bit ones");
	is_int(serve(&cpu[3]), 0x74, "to id 103h");
	is_int(irqchip_x2apic_api(&vm, 8), -EINVAL, "unknown flags");
}

/* -- Eventfds ------------------------------------------------------------------------------ */

/* Waits for the irqfd thread: the vector that came. */
static int wait_for(struct vcpu *c)
{
	while (irqchip_pending(c) < 0)
		usleep(1000);
	return serve(c);
}

static uint64_t count_of(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	uint64_t n = 0;

	if (poll(&p, 1, 0) != 1 || read(fd, &n, sizeof(n)) != sizeof(n))
		return 0;
	return n;
}

static void signal_fd(int fd)
{
	sys_eventfd_signal(fd);
}

static int irqfd(int fd, uint32_t gsi, uint32_t flags, int resample)
{
	return irqchip_irqfd(&vm,
			     &(struct kvm_irqfd){.fd = (uint32_t)fd,
						 .gsi = gsi,
						 .flags = flags,
						 .resamplefd = (uint32_t)resample});
}

static void test_irqfd(void)
{
	const struct kvm_irq_routing_entry e = msi_route(100, MSI_ADDR, 0x55);
	int fd = eventfd(0, 0), other, pipes[2];

	begin(1);
	route(&e, 1);
	is_int(irqfd(fd, 100, 0, 0), 0, "assign");
	signal_fd(fd);
	is_int(wait_for(&cpu[0]), 0x55, "a signal is an interrupt");
	apic_write(&cpu[0], LAPIC_EOI, 0);
	signal_fd(fd);
	is_int(wait_for(&cpu[0]), 0x55, "each time");
	apic_write(&cpu[0], LAPIC_EOI, 0);
	is_int(count_of(fd), 0, "the eventfd is read empty");
	is_int(irqfd(fd, 101, 0, 0), -EBUSY, "an eventfd has one GSI");
	other = dup(fd);
	is_int(irqfd(other, 100, KVM_IRQFD_FLAG_DEASSIGN, 0), 0,
	       "deassign, by another name");
	signal_fd(fd);
	usleep(20000);
	is_int(serve(&cpu[0]), -1, "no interrupt any more");
	is_int(count_of(fd), 1, "nobody reads it");
	is_int(irqfd(fd, 100, KVM_IRQFD_FLAG_DEASSIGN, 0), 0, "again is no error");
	is_int(irqfd(-1, 100, 0, 0), -EBADF, "no descriptor");
	if (pipe(pipes) == 0)
		is_int(irqfd(pipes[0], 100, 0, 0), -EINVAL, "no eventfd");
	signal_fd(fd);
	is_int(irqfd(fd, 100, 0, 0), 0, "assign one that is signalled");
	is_int(wait_for(&cpu[0]), 0x55, "interrupts at once");
	close(other);
	close(fd);
}

/* The pins of the IOAPIC that are up. */
static uint32_t pins_up(void)
{
	struct kvm_irqchip chip = {.chip_id = KVM_IRQCHIP_IOAPIC};

	irqchip_get(&vm, &chip);
	return chip.chip.ioapic.irr;
}

static void test_resample(void)
{
	int fd = eventfd(0, 0), again = eventfd(0, 0);

	begin(1);
	ioapic_entry(11, 0x8000 | 0x4b);
	is_int(irqfd(fd, 11, KVM_IRQFD_FLAG_RESAMPLE, again), 0, "assign");
	signal_fd(fd);
	is_int(wait_for(&cpu[0]), 0x4b, "a level interrupt");
	is_int(count_of(again), 0, "not acknowledged yet");
	is_int(pins_up(), 1 << 11, "the line is up");
	apic_write(&cpu[0], LAPIC_EOI, 0);
	is_int(count_of(again), 1, "EOI signals the other eventfd");
	is_int(pins_up(), 0, "and lowers the line");
	is_int(serve(&cpu[0]), -1, "nothing more");
	signal_fd(fd);
	is_int(wait_for(&cpu[0]), 0x4b, "the device wanted more");
	is_int(irqfd(fd, 11, KVM_IRQFD_FLAG_DEASSIGN, 0), 0, "deassign");
	is_int(pins_up(), 0, "lowers the line");
	close(fd);
	close(again);
}

/* The same through the PIC, as a kernel does that has no IOAPIC. */
static void test_resample_pic(void)
{
	int fd = eventfd(0, 0), again = eventfd(0, 0);

	machine_begin(1);
	out(0x20, 0x11);
	out(0x21, 0x20);
	out(0x21, 4);
	out(0x21, 1);
	out(0x4d0, 0x20);
	is_int(irqfd(fd, 5, KVM_IRQFD_FLAG_RESAMPLE, again), 0, "assign");
	signal_fd(fd);
	is_int(wait_for(&cpu[0]), 0x25, "a level interrupt through the PIC");
	is_int(count_of(again), 0, "not acknowledged yet");
	out(0x20, 0x20);
	is_int(count_of(again), 1, "EOI");
	is_int(serve(&cpu[0]), -1, "the line is down");
	close(fd);
	close(again);
}

static int ioevent(int fd, uint64_t addr, uint32_t len, uint64_t match, uint32_t flags)
{
	return ioeventfd_set(&vm, &(struct kvm_ioeventfd){.fd = fd,
							  .addr = addr,
							  .len = len,
							  .datamatch = match,
							  .flags = flags});
}

static void test_ioeventfd(void)
{
	const uint32_t match = KVM_IOEVENTFD_FLAG_DATAMATCH,
		       pio = KVM_IOEVENTFD_FLAG_PIO,
		       deassign = KVM_IOEVENTFD_FLAG_DEASSIGN;
	int a = eventfd(0, 0), b = eventfd(0, 0);

	begin(1);
	ok(!ioeventfd_write(&vm, 0x1000, 1, 4, false), "none yet");
	is_int(ioevent(a, 0x1000, 2, 7, match), 0, "matches 7");
	is_int(ioevent(b, 0x1000, 2, 8, match), 0, "matches 8");
	is_int(ioevent(b, 0x1000, 2, 8, match), -EEXIST, "twice");
	is_int(ioevent(b, 0x1000, 2, 0, 0), -EEXIST, "any value would collide");
	ok(ioeventfd_write(&vm, 0x1000, 0xffff0007, 2, false), "a store of 7");
	is_int(count_of(a), 1, "signals its eventfd");
	is_int(count_of(b), 0, "and not the other");
	ok(!ioeventfd_write(&vm, 0x1000, 9, 2, false), "9 is nobody's");
	ok(!ioeventfd_write(&vm, 0x1000, 7, 4, false), "of another length: neither");
	ok(!ioeventfd_write(&vm, 0x1000, 7, 2, true), "nor a port");
	is_int(ioevent(b, 0x2000, 0, 0, 0), 0, "any length");
	ok(ioeventfd_write(&vm, 0x2000, 1, 1, false) &&
		   ioeventfd_write(&vm, 0x2000, 1, 8, false),
	   "any it is");
	is_int(count_of(b), 2, "twice");
	is_int(ioevent(b, 0xc000, 2, 0, pio), 0, "a port");
	ok(ioeventfd_write(&vm, 0xc000, 5, 2, true), "written");
	is_int(ioevent(a, 0x1000, 2, 8, match | deassign), -ENOENT,
	       "not this eventfd's");
	is_int(ioevent(b, 0x1000, 2, 8, match | deassign), 0, "deassign");
	ok(!ioeventfd_write(&vm, 0x1000, 8, 2, false), "gone");
	is_int(ioevent(a, 0x3000, 3, 0, 0), -EINVAL, "no store has 3 bytes");
	is_int(ioevent(a, 0x3000, 0, 1, match), -EINVAL, "a match needs a length");
	is_int(ioevent(a, UINT64_MAX, 4, 0, 0), -EINVAL, "around the end");
	is_int(ioevent(a, 0x3000, 4, 0, 0x100), -EINVAL, "unknown flags");
	close(a);
	close(b);
}

int main(void)
{
	test_default();
	test_tables();
	test_msi();
	test_irqfd();
	test_resample();
	test_resample_pic();
	test_ioeventfd();
	machine_end();
	return done_testing();
}
