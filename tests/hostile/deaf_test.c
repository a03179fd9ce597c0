/* SPDX-License-Identifier: MIT */
/*
 * Guests that try not to hear: KVM_RUN must return when somebody kicks the vCPU, whatever its guest does.
 * Where it does not, this test never ends.
 *
 *	frames to a device   an exception whose handler faults at once, with a stack in the local APIC's
 *	                     page: an access to a device that is under way keeps kicks waiting, and
 *	                     here one always is, unless it ends with the delivery
 *	4 TiB                memory of the client's that goes across a multiple of that, and that has no
 *	                     views because there is a hole in it: an address looked like a read-only
 *	                     one's, and a store was permitted and refused in turn
 */
#include "tests/hostile/hostile.h"

#include <string.h>
#include <sys/mman.h>

#include "base/macros.h"
#include "tests/tap.h"

#include "softkvm/softkvm.h"

enum { APIC_AT = 0x400000 /* enemy_reset() maps it there */, NOWHERE = 0x900000,
       FAR_AT = 0x800000, FAR_SIZE = 0x200000 };

static void put64(struct enemy *e, uint32_t at, uint64_t v)
{
	memcpy(e->ram + at, &v, 8);
}

/* #PF leads to where there is nothing. */
static void frames(struct enemy *e)
{
	struct kvm_regs r = {.rip = NOWHERE, .rsp = STACK3_AT, .rflags = 2};

	enemy_reset(e);
	put64(e, IDT_AT + 14 * 16, (NOWHERE & 0xffff) | SEL_CODE64 << 16 | 0x8e01ull << 32 |
					   (uint64_t)(NOWHERE >> 16) << 48);
	put64(e, TSS_AT + 0x24, APIC_AT + 0xf80); /* IST1 */
	enemy_start(e, 0, LONG_RING0, 0);
	softkvm_ioctl(e->cpu[0].fd, KVM_SET_REGS, &r);
	enemy_run(e, 0, 1, 20);
	ok(e->cpu[0].run->exit_reason == KVM_EXIT_INTR && enemy_harmless(e),
	   "%s: page faults for ever, on a stack in the local APIC", e->knobs);
}

/* mov [FAR_AT + 1 MiB], ecx ; out 0x80, al */
static void halves(struct enemy *e)
{
	static const uint8_t code[] = {0x89, 0x0c, 0x25, 0, 0, 0x90, 0, 0xe6, 0x80};
	uint8_t *const at = (uint8_t *)(3ull << 42) - FAR_SIZE / 2;
	struct kvm_userspace_memory_region r = {.slot = 7, .guest_phys_addr = FAR_AT,
						.memory_size = FAR_SIZE,
						.userspace_addr = (uintptr_t)at};

	if (mmap(at, FAR_SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at) {
		skip("something is at %p", (void *)at);
		return;
	}
	munmap(at + PAGE, PAGE);
	softkvm_ioctl(e->vm, KVM_SET_USER_MEMORY_REGION, &r);
	enemy_reset(e);
	put64(e, PD_AT + 32, FAR_AT | 0x87);
	memcpy(e->ram + CODE_AT, code, sizeof(code));
	enemy_start(e, 0, LONG_RING0, 0);
	enemy_run(e, 0, 1, UNLIMITED);
	is_int(e->cpu[0].run->exit_reason, KVM_EXIT_IO, "%s: a store to the upper half", e->knobs);
	r.memory_size = 0;
	softkvm_ioctl(e->vm, KVM_SET_USER_MEMORY_REGION, &r);
	munmap(at, FAR_SIZE);
}

int main(void)
{
	struct enemy *e[] = {enemy_create("", 1, true), enemy_create("sample=0", 1, true),
			     enemy_create("interpret", 1, true)};

	alarms_arm();
	for (unsigned i = 0; i < ARRAY_SIZE(e); i++) {
		halves(e[i]);
		frames(e[i]);
		enemy_destroy(e[i]);
	}
	return done_testing();
}
