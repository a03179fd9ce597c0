/* SPDX-License-Identifier: MIT */
/*
 * Guests that try not to hear: KVM_RUN must return when somebody kicks the vCPU, whatever its guest does.
 * Where it does not, this test never ends.
 *
 *	frames to a device   an exception whose handler faults at once, with a stack in the local APIC's
 *	                     page: an access to a device that is under way keeps kicks waiting, and
 *	                     here one always is, unless it ends with the delivery
 */
#include "tests/hostile/hostile.h"

#include <string.h>

#include "base/macros.h"
#include "tests/tap.h"

#include "softkvm/softkvm.h"

enum { APIC_AT = 0x400000 /* enemy_reset() maps it there */, NOWHERE = 0x900000 };

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

int main(void)
{
	struct enemy *e[] = {enemy_create("", 1, true), enemy_create("interpret", 1, true)};

	alarms_arm();
	for (unsigned i = 0; i < ARRAY_SIZE(e); i++) {
		frames(e[i]);
		enemy_destroy(e[i]);
	}
	return done_testing();
}
