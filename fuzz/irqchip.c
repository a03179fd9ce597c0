/* SPDX-License-Identifier: MIT */
/*
 * Any accesses of a guest to softkvm's interrupt controllers and timer chip, by ports, memory
 * and MSRs of two vCPUs, with lines, messages and time moving in between.
 *
 * What must hold: nothing is touched outside of the chips' state; what irqchip_pending() says is
 * what irqchip_ack() takes; a state that was read can be set again.
 */
#include "base/bytes.h"
#include "softkvm/irqchip/internal.h"

#include <stdlib.h>
#include <string.h>

#define CPUS 2

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct vm vm;
static struct vcpu cpu[CPUS];
static uint64_t now;

/* The run loop's and the clock's part. */
void vcpu_kick(struct vcpu *c, uint32_t bits)
{
	atomic_fetch_or(&c->requests, bits);
}

uint64_t now_ns(void)
{
	return now;
}

static void must(bool truth)
{
	if (!truth)
		abort();
}

static void begin(void)
{
	struct kvm_pit_config pit = {.flags = KVM_PIT_SPEAKER_DUMMY};

	memset(&vm, 0, sizeof(vm));
	memset(cpu, 0, sizeof(cpu));
	now = 1000000000;
	vm.host_tsc_khz = 2000000;
	for (int i = 0; i < CPUS; i++) {
		cpu[i].vm = &vm;
		cpu[i].id = cpu[i].place = (unsigned)i;
		cpu[i].max_phys_bits = 40;
		cpu[i].n_cpuid = 1;
		cpu[i].cpuid[0] = (struct kvm_cpuid_entry2){
			.function = 1, .ecx = 1u << 21 | 1u << 24, /* x2APIC, deadline */
		};
		vm.vcpu[i] = &cpu[i];
	}
	atomic_store(&vm.n_vcpus, CPUS);
	must(irqchip_create(&vm) == 0 && pit_create(&vm, &pit) == 0);
}

static void end(void)
{
	irqchip_destroy(&vm);
	for (int i = 0; i < CPUS; i++)
		lapic_destroy(&cpu[i]);
}

static void take(struct vcpu *c)
{
	int pending = irqchip_pending(c);

	must(irqchip_ack(c) == pending && pending >= -1 && pending < 256);
}

static void save_and_restore(struct vcpu *c, unsigned chip)
{
	struct kvm_irqchip state = {.chip_id = chip % 3};
	struct kvm_pit_state2 pit;
	struct kvm_lapic_state apic;

	must(irqchip_get(&vm, &state) == 0 && irqchip_set(&vm, &state) == 0);
	must(pit_get(&vm, &pit) == 0 && pit_set(&vm, &pit) == 0);
	must(lapic_get(c, &apic) == 0 && lapic_set(c, &apic) == 0);
}

static const uint16_t ports[] = {0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1,
				 0x40, 0x41, 0x42, 0x43, 0x61};

/*  [what, width, vCPU] [where] [more: 2] [value: 4]  */
static void do_step(const uint8_t *s)
{
	struct vcpu *c = &cpu[s[0] >> 7];
	unsigned where = s[1], more = le16_get(s + 2), width = 1u << (s[0] >> 5 & 3);
	uint64_t value = le32_get(s + 4);
	bool write = s[0] & 16;

	switch (s[0] & 15) {
	case 0:
	case 1:
		irqchip_port(c, ports[where % (sizeof(ports) / 2)], &value, width, write);
		break;
	case 2:
	case 3:
		irqchip_memory(c, IOAPIC_ADDR + (more & 1 ? where : where & 0x10), &value,
			       width, write);
		break;
	case 4:
	case 5:
	case 6:
		if (lapic_claims(c, APIC_BASE_ADDR + where * 16))
			lapic_mmio(c, APIC_BASE_ADDR + where * 16 + (more & 15), &value,
				   width, write);
		break;
	case 7:
		if (write)
			lapic_wrmsr(c, MSR_X2APIC + where, value);
		else
			lapic_rdmsr(c, MSR_X2APIC + where, &value);
		break;
	case 8:
		value |= (uint64_t)more << 32;
		lapic_wrmsr(c, where & 1 ? MSR_APIC_BASE : MSR_TSC_DEADLINE, value);
		break;
	case 9:
		irqchip_line(&vm, where % 32, more & 1, 0);
		break;
	case 10:
		irqchip_msi(&vm, &(struct kvm_msi){
			.address_lo = (uint32_t)(APIC_BASE_ADDR | more << 4),
			.data = (uint32_t)value,
		});
		break;
	case 11:
		take(c);
		break;
	case 12:
		now += value;
		irqchip_expire(c, now);
		break;
	case 13:
		save_and_restore(c, where);
		break;
	case 14:
		lapic_set_cr8(c, where & 15);
		break;
	case 15:
		lapic_reset(c, true);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	begin();
	for (; size >= 8; data += 8, size -= 8)
		do_step(data);
	end();
	return 0;
}
