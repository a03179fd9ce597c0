/* SPDX-License-Identifier: MIT */
/*
 * A slot goes while others use its memory without running guest code.
 *
 *	vCPU's thread   SET_MSRS names kvmclock's page, KVMCLOCK_CTRL; KVM_RUN writes it; TRANSLATE
 *	                reads a table beside it
 *	a second one    SET_CLOCK: the page is to be written anew
 *	the first       deletes the slot, and from then on its memory is the client's own: it writes
 *	                its own numbers there. None may change, none may be taken for a table. Then
 *	                the memory is unmapped, and the slot comes back elsewhere.
 *
 * The engine's own structures are freed meanwhile, which a build with sanitizers sees.
 */
#include "softkvm/softkvm.h"

#include "tests/tap.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#define PAGE 4096u
#define RAM_SIZE 0x10000u
#define HIGH_AT 0x200000u
#define HIGH_SIZE (16 * PAGE)
#define RW (PROT_READ | PROT_WRITE)

enum { PML4_AT = 0x1000, PDPT_AT = 0x2000, PD_AT = 0x3000, CODE_AT = 0x4000 };

#define WALKED 0x40000000ull /* by a page directory in the slot, */
#define GUESTS 0x600000ull   /* whose entry is this while it is the guest's, */
#define CLIENTS 0xa00000ull  /* and this when it is not */

static int sys, vm, vcpu;
static struct kvm_run *run;
static uint8_t *ram;
static _Atomic bool stop;
static _Atomic unsigned rounds, strange;

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){.limit = ~0u, .selector = selector, .type = type,
				    .present = 1, .s = 1, .g = 1, .l = type == 11,
				    .db = type != 11};
}

static void put64(uint32_t at, uint64_t v)
{
	memcpy(ram + at, &v, 8);
}

static int set_slot(uint32_t id, uint64_t gpa, uint64_t size, void *at)
{
	struct kvm_userspace_memory_region r = {.slot = id, .guest_phys_addr = gpa,
						.memory_size = size,
						.userspace_addr = (uintptr_t)at};

	return softkvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static bool open_all(void)
{
	struct kvm_sregs s;
	int len;

	sys = softkvm_open();
	vm = softkvm_ioctl(sys, KVM_CREATE_VM, NULL);
	vcpu = softkvm_ioctl(vm, KVM_CREATE_VCPU, NULL);
	len = softkvm_ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, NULL);
	if (vcpu < 0 || len < 0)
		return false;
	run = softkvm_mmap(vcpu, (size_t)len, 0);
	ram = mmap(NULL, RAM_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	put64(PML4_AT, PDPT_AT | 0x63);
	put64(PDPT_AT, PD_AT | 0x63);
	put64(PDPT_AT + 8, HIGH_AT | 0x63);
	put64(PD_AT, 0xe3);
	memset(ram + CODE_AT, 0xf4, PAGE);
	softkvm_ioctl(vcpu, KVM_GET_SREGS, &s);
	s.cs = flat(8, 11);
	s.ds = s.es = s.ss = s.fs = s.gs = flat(16, 3);
	s.cr0 = 0x80010033;
	s.cr3 = PML4_AT;
	s.cr4 = 0x620;
	s.efer = 0xd00;
	softkvm_ioctl(vcpu, KVM_SET_SREGS, &s);
	return !set_slot(0, 0, RAM_SIZE, ram);
}

/* -- Users ---------------------------------------------------------------------------------- */

static void *use(void *unused)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} clock = {{.nmsrs = 1}, {.index = 0x4b564d01}};

	(void)unused;
	for (unsigned i = 0; !stop; i++) {
		struct kvm_regs regs = {.rip = CODE_AT, .rflags = 2};
		struct kvm_translation t = {.linear_address = WALKED};

		clock.entry.data = (HIGH_AT + PAGE + i % 64 * 64) | 1;
		softkvm_ioctl(vcpu, KVM_SET_MSRS, &clock);
		softkvm_ioctl(vcpu, KVM_KVMCLOCK_CTRL, NULL);
		softkvm_ioctl(vcpu, KVM_SET_REGS, &regs);
		if (softkvm_ioctl(vcpu, KVM_RUN, NULL) || run->exit_reason != KVM_EXIT_HLT)
			strange++;
		for (unsigned k = 0; k < 20; k++) {
			if (softkvm_ioctl(vcpu, KVM_TRANSLATE, &t))
				strange++;
			if (t.valid && t.physical_address != GUESTS)
				strange++;
		}
		rounds++;
	}
	return NULL;
}

static void *set_clock(void *unused)
{
	(void)unused;
	for (uint64_t i = 0; !stop; i++) {
		struct kvm_clock_data data = {.clock = i * 1000};

		softkvm_ioctl(vm, KVM_SET_CLOCK, &data);
	}
	return NULL;
}

/* -- The slot ------------------------------------------------------------------------------- */

static void fill(uint64_t *high, uint64_t first)
{
	for (unsigned i = 0; i < HIGH_SIZE / 8; i++)
		high[i] = i < 512 ? first | 0xe3 : 0;
}

/* How many words are not what the client put there. */
static unsigned changed(const uint64_t *high, uint64_t first)
{
	unsigned n = 0;

	for (unsigned i = 0; i < HIGH_SIZE / 8; i++)
		n += high[i] != (i < 512 ? first | 0xe3 : 0);
	return n;
}

static unsigned come_and_go(unsigned i)
{
	uint64_t *high = mmap(NULL, HIGH_SIZE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned before = rounds, n = 0;

	fill(high, GUESTS);
	if (set_slot(1, HIGH_AT, HIGH_SIZE, high))
		return 1;
	for (unsigned turn = 0; turn < 1000 + i % 16 * 100 && (i % 4 || rounds == before); turn++)
		__asm__ volatile("pause");
	n += set_slot(1, 0, 0, NULL) != 0;
	fill(high, CLIENTS);
	before = rounds;
	for (unsigned turn = 0; turn < 3000 && rounds < before + 2; turn++)
		__asm__ volatile("pause");
	n += changed(high, CLIENTS);
	munmap(high, HIGH_SIZE);
	return n;
}

int main(int argc, char **argv)
{
	unsigned times = argc > 1 ? (unsigned)atoi(argv[1]) : 1500, bad = 0;
	pthread_t a, b;

	if (!ok(open_all(), "a VM"))
		return done_testing();
	pthread_create(&a, NULL, use, NULL);
	pthread_create(&b, NULL, set_clock, NULL);
	for (unsigned i = 0; i < times; i++)
		bad += come_and_go(i);
	stop = true;
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	is_int(bad, 0, "%u times a slot comes and goes, and its memory is the client's", times);
	is_int(strange, 0, "its users see it or nothing, in %u rounds", rounds);
	softkvm_close(vcpu);
	softkvm_close(vm);
	softkvm_close(sys);
	return done_testing();
}
