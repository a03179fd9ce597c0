/* SPDX-License-Identifier: MIT */
/*
 * KVM_CHECK_EXTENSION: what softkvm can, by the numbers of <linux/kvm.h>.
 *
 * The rule is that an answer other than 0 is a promise: the requests and fields that the
 * kernel's API document ties to the capability work as it says. What is not here is 0, and
 * clients do without, as they do with older kernels.
 */
#include "softkvm/abi/vm.h"

#include "base/macros.h"

#include <linux/kvm.h>

#define HAS(cap, value) {KVM_CAP_##cap, value}

static const struct {
	long cap;
	int value;
} caps[] = {
	/* the machine */
	HAS(USER_MEMORY, 1),
	HAS(NR_MEMSLOTS, SLOTS_MAX),
	HAS(READONLY_MEM, 1),
	HAS(DESTROY_MEMORY_REGION_WORKS, 1),
	HAS(JOIN_MEMORY_REGIONS_WORKS, 1),
	HAS(SYNC_MMU, 1),
	HAS(SET_TSS_ADDR, 1),
	HAS(SET_IDENTITY_MAP_ADDR, 1),
	HAS(NR_VCPUS, VCPUS_MAX),
	HAS(MAX_VCPUS, VCPUS_MAX),
	HAS(MAX_VCPU_ID, 255),
	HAS(SET_BOOT_CPU_ID, 1),
	HAS(CHECK_EXTENSION_VM, 1),
	HAS(ENABLE_CAP_VM, 1),
	HAS(IMMEDIATE_EXIT, 1),
	HAS(HLT, 1),
	HAS(MMU_SHADOW_CACHE_CONTROL, 1),
	HAS(COALESCED_PIO, 1),
	HAS(COALESCED_MMIO, KVM_COALESCED_MMIO_PAGE_OFFSET),

	/* interrupts */
	HAS(IRQCHIP, 1),
	HAS(SPLIT_IRQCHIP, 1),
	HAS(IRQ_ROUTING, 1024),
	HAS(IRQ_INJECT_STATUS, 1),
	HAS(SIGNAL_MSI, 1),
	HAS(X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS |
			KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK),
	HAS(IRQFD, 1),
	HAS(IRQFD_RESAMPLE, 1),
	HAS(IOEVENTFD, 1),
	HAS(IOEVENTFD_NO_LENGTH, 1),
	HAS(IOEVENTFD_ANY_LENGTH, 1),
	HAS(PIT2, 1),
	HAS(PIT_STATE2, 1),
	HAS(REINJECT_CONTROL, 1),
	HAS(USER_NMI, 1),
	HAS(MP_STATE, 1),

	/* time */
	HAS(CLOCKSOURCE, 1),
	HAS(ADJUST_CLOCK, KVM_CLOCK_TSC_STABLE),
	HAS(KVMCLOCK_CTRL, 1),
	HAS(GET_TSC_KHZ, 1),
	HAS(TSC_DEADLINE_TIMER, 1),
	HAS(NOP_IO_DELAY, 1),

	/* vCPU state */
	HAS(EXT_CPUID, 1),
	HAS(EXT_EMUL_CPUID, 1),
	HAS(GET_MSR_FEATURES, 1),
	HAS(X86_USER_SPACE_MSR, 1),
	HAS(X86_MSR_FILTER, 1),
	HAS(VCPU_EVENTS, 1),
	HAS(DEBUGREGS, 1),
	HAS(SET_GUEST_DEBUG, 1),
	HAS(SET_GUEST_DEBUG2, KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_SW_BP |
			      KVM_GUESTDBG_USE_HW_BP | KVM_GUESTDBG_INJECT_DB | KVM_GUESTDBG_INJECT_BP |
			      KVM_GUESTDBG_BLOCKIRQ),
	HAS(XSAVE, 1),
	HAS(XSAVE2, VCPU_XSAVE_MAX),
	HAS(XCRS, 1),
	HAS(SREGS2, 1),
	HAS(MCE, 32),
};

int cap_check(long cap)
{
	for (unsigned i = 0; i < ARRAY_SIZE(caps); i++)
		if (caps[i].cap == cap)
			return caps[i].value;
	return 0;
}
