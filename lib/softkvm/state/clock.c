/* SPDX-License-Identifier: MIT */
/*
 * kvmclock: how a guest tells the time without leaving translated code.
 *
 * The guest names a page (an MSR); the engine writes there, once, from which TSC value which
 * time counts and how fast:
 *
 *	ns = system_time + ((tsc - tsc_timestamp) * mul >> 32)      (tsc shifted first)
 *
 * The version is odd while the rest changes: readers look again. The VM's clock itself is
 * computed by the same formula with the same constants from one anchor in struct vm, so guest
 * and KVM_GET_CLOCK agree to the nanosecond, and all vCPUs whose TSCs are in step may say
 * "stable", on which the guest's vDSO reads the clock without asking which CPU it is on.
 * The page must be written anew when the anchor moves (KVM_SET_CLOCK) or the vCPU's TSC is
 * written.
 *
 * Source: the kernel's x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW and MSR_KVM_WALL_CLOCK_NEW.
 */
#include "softkvm/state/clock.h"

#include "softkvm/mmu/mmu.h"

#define NS 1000000000ull
#define CLOCK_REALTIME_ID 0

/* What the guest's kernel calls pvclock_vcpu_time_info. */
struct time_page {
	uint32_t version, pad;
	uint64_t tsc_timestamp;
	uint64_t system_time;
	uint32_t mul;
	int8_t shift;
	uint8_t flags;
	uint8_t pad2[2];
};

#define TIME_TSC_STABLE    1
#define TIME_GUEST_STOPPED 2

struct wall_page {
	uint32_t version, sec, nsec;
};

struct scale {
	uint32_t mul;
	int8_t shift;
};

/* mul in [2^31, 2^32), so that no precision is lost: ns per (shifted) tick, times 2^32. */
static struct scale scale_of(uint64_t khz)
{
	struct scale s = {0};
	uint64_t num = 1000000, den = khz;

	while (num >= den) { /* slower than 1 GHz: count in larger steps */
		den <<= 1;
		s.shift++;
	}
	while (num * 2 < den) {
		num <<= 1;
		s.shift--;
	}
	s.mul = (uint32_t)((num << 32) / den); /* num < 2^32 for any khz below 2^31 */
	return s;
}

static uint64_t ticks_to_ns(struct scale s, uint64_t ticks)
{
	ticks = s.shift < 0 ? ticks >> -s.shift : ticks << s.shift;
	return (uint64_t)((unsigned __int128)ticks * s.mul >> 32);
}

struct anchor {
	uint64_t ns, tsc;
};

static struct anchor anchor_read(struct vm *vm)
{
	struct anchor a;
	uint32_t seq;

	do {
		seq = atomic_load_explicit(&vm->clock_seq, memory_order_acquire);
		a.ns = __atomic_load_n(&vm->clock_ns, __ATOMIC_RELAXED);
		a.tsc = __atomic_load_n(&vm->clock_tsc, __ATOMIC_RELAXED);
		atomic_thread_fence(memory_order_acquire);
	} while (seq & 1 || seq != atomic_load_explicit(&vm->clock_seq, memory_order_relaxed));
	return a;
}

uint64_t kvmclock_now(struct vm *vm)
{
	struct anchor a = anchor_read(vm);

	return a.ns + ticks_to_ns(scale_of(vm->tsc_khz), host_tsc() - a.tsc);
}

void kvmclock_set(struct vm *vm, uint64_t ns)
{
	atomic_fetch_add(&vm->clock_seq, 1);
	__atomic_store_n(&vm->clock_ns, ns, __ATOMIC_RELAXED);
	__atomic_store_n(&vm->clock_tsc, host_tsc(), __ATOMIC_RELAXED);
	atomic_fetch_add(&vm->clock_seq, 1);
}

static bool tscs_in_step(struct vm *vm)
{
	int n = atomic_load_explicit(&vm->n_vcpus, memory_order_acquire);

	for (int i = 1; i < n; i++)
		if (__atomic_load_n(&vm->vcpu[i]->tsc_offset, __ATOMIC_RELAXED) !=
		    vm->vcpu[0]->tsc_offset)
			return false;
	return true;
}

void kvmclock_update(struct vcpu *c)
{
	struct scale s = scale_of(c->tsc_khz);
	struct anchor a = anchor_read(c->vm);
	struct time_page page;
	uint32_t version;

	if (!c->clock_page || phys_read(c->vm, c->clock_page, &page, sizeof(page)))
		return;
	version = page.version;
	version = (version | 1) + (version & 1 ? 2 : 0);
	page.version = version;
	page.pad = 0;
	page.tsc_timestamp = a.tsc + c->tsc_offset;
	page.system_time = a.ns;
	page.mul = s.mul;
	page.shift = s.shift;
	page.flags &= TIME_GUEST_STOPPED; /* stays until the guest has seen it */
	page.flags |= tscs_in_step(c->vm) ? TIME_TSC_STABLE : 0;
	if (c->clock_paused)
		page.flags |= TIME_GUEST_STOPPED;
	page.pad2[0] = page.pad2[1] = 0;
	c->clock_paused = false;

	phys_write(c->vm, c->clock_page, &version, sizeof(version));
	phys_write(c->vm, c->clock_page + 4, (uint8_t *)&page + 4, sizeof(page) - 4);
	version++;
	phys_write(c->vm, c->clock_page, &version, sizeof(version));
}

/* The date at which the VM's clock was 0. */
void kvmclock_wall(struct vcpu *c, uint64_t gpa)
{
	struct wall_page page;
	uint64_t zero;
	uint32_t version;

	if (!gpa || phys_read(c->vm, gpa, &version, sizeof(version)))
		return;
	version = (version | 1) + (version & 1 ? 2 : 0);
	zero = sys_clock_ns(CLOCK_REALTIME_ID) - kvmclock_now(c->vm);
	page.version = version;
	page.sec = (uint32_t)(zero / NS);
	page.nsec = (uint32_t)(zero % NS);
	phys_write(c->vm, gpa, &page, sizeof(page));
	version++;
	phys_write(c->vm, gpa, &version, sizeof(version));
}
