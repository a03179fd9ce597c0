/* SPDX-License-Identifier: MIT */
/*
 * Memory that is taken away while guests use it.
 *
 *	slots_test [ROUNDS]
 *
 * Two vCPUs read, write and lock memory of one slot without pause, by predicted sites, groups,
 * strings and vectors. The client deletes the slot, and from the moment that the ioctl has
 * returned the memory is the client's own again: it puts secrets there. None may change, and none
 * may be in RAM or registers afterwards. Then the slot comes back, as RAM or as ROM, or with the
 * dirty log on, which then must know of every store.
 *
 * The guest (at CODE_AT):
 *
 *	1:	mov rax, [rsi] ; mov [rsi + 8], rcx ; lock inc qword [rsi + 16]
 *		mov rdx, [rsi + 24] ; mov [rsi + 32], rcx ; push, pop on [rsi + 128]
 *		vmovups ymm0, [rsi + 64] ; movsq from [rsi] to the log
 *		what was loaded is stored into the log, rsi goes to the next page
 */
#include "tests/hostile/hostile.h"

#include <pthread.h>
#include <unistd.h>

#include "tests/tap.h"

#include "softkvm/softkvm.h"

extern const uint8_t taker_begin[], taker_end[];

__asm__(".section .rodata\n"
	".balign 16\n"
	"taker_begin:\n"
	"1:	mov %r8, %rsi\n"
	"	and $0xf000, %esi\n"
	"	or $0x200000, %esi\n"
	"	add $0x1000, %r8\n"
	"	mov (%rsi), %rax\n"
	"	mov %rcx, 8(%rsi)\n"
	"	lock incq 16(%rsi)\n"
	"	mov 24(%rsi), %rdx\n"
	"	mov %rcx, 32(%rsi)\n"
	"	mov %rax, (%rbx,%r12)\n"
	"	mov %rdx, 8(%rbx,%r12)\n"
	"	vmovups 64(%rsi), %ymm0\n"
	"	vmovups %ymm0, 16(%rbx,%r12)\n"
	"	mov %rsp, %r9\n"
	"	lea 128(%rsi), %rsp\n"
	"	pop %rax\n"
	"	push %rcx\n"
	"	mov %r9, %rsp\n"
	"	mov %rax, 48(%rbx,%r12)\n"
	"	lea 56(%rbx,%r12), %rdi\n"
	"	movsq\n"
	"	add $64, %r12d\n"
	"	and $0xffc0, %r12d\n"
	"	inc %rcx\n"
	"	jmp 1b\n"
	"taker_end:\n"
	".text\n");

static struct enemy *e;
static volatile bool stop, rest;
static _Atomic int resting;
static bool fine[2];

static void *run_guest(void *arg)
{
	int n = (int)(intptr_t)arg;

	fine[n] = true;
	while (!stop && fine[n]) {
		fine[n] = enemy_run(e, n, 1000, 1000);
		resting++;
		while (rest)
			wait_us(10);
		resting--;
	}
	return NULL;
}

/* Gets both vCPUs out of KVM_RUN, until `rest` is false. */
static void pause_guests(void)
{
	rest = true;
	while (resting < 2) {
		for (int n = 0; n < 2; n++) {
			e->cpu[n].run->immediate_exit = 1;
			softkvm_kick(e->cpu[n].fd);
		}
		wait_us(10);
	}
}

static void begin(int n)
{
	struct kvm_regs r;

	enemy_start(e, n, LONG_RING0, 0);
	softkvm_ioctl(e->cpu[n].fd, KVM_GET_REGS, &r);
	r.rsp = STACK3_AT - 512 * (uint64_t)n;
	r.rbx = 0x80000 + 0x10000 * (uint64_t)n;
	r.r12 = 0;
	r.r8 = 0x1000 * (uint64_t)n;
	softkvm_ioctl(e->cpu[n].fd, KVM_SET_REGS, &r);
}

static int set_slot(uint64_t size, uint32_t flags)
{
	struct kvm_userspace_memory_region r = {
		.slot = 1, .flags = flags, .guest_phys_addr = HIGH_AT, .memory_size = size,
		.userspace_addr = (uintptr_t)e->high};

	return softkvm_ioctl(e->vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static void fill(const uint64_t with[2])
{
	for (unsigned i = 0; i < HIGH_SIZE; i += 16)
		memcpy(e->high + i, with, 16);
}

static unsigned changed(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < HIGH_SIZE; i += 16)
		n += memcmp(e->high + i, e->secret, 16) != 0;
	return n;
}

/* Pages that changed between two readings of the dirty log and are not in the second. A store may
 * be seen a little before it is in the log; so before the second the vCPUs come to rest. */
static unsigned seen_to_change;

static unsigned unlogged(void)
{
	static uint8_t before[HIGH_SIZE];
	uint64_t bits[2];
	struct kvm_dirty_log log = {.slot = 1, .dirty_bitmap = bits};
	uint64_t differ = 0;
	unsigned n = 0;

	for (unsigned i = 0; i < 10; i++) {
		softkvm_ioctl(e->vm, KVM_GET_DIRTY_LOG, &log);
		memcpy(before, e->high, HIGH_SIZE);
		wait_us(50);
		for (unsigned page = 0; page < HIGH_SIZE / PAGE; page++)
			if (memcmp(before + page * PAGE, e->high + page * PAGE, PAGE))
				differ |= 1ull << page;
		seen_to_change += (unsigned)__builtin_popcountll(differ);
		pause_guests();
		bits[0] = 0;
		softkvm_ioctl(e->vm, KVM_GET_DIRTY_LOG, &log);
		n += (unsigned)__builtin_popcountll(differ & ~bits[0]);
		rest = false;
		differ = 0;
	}
	return n;
}

int main(int argc, char **argv)
{
	static const uint64_t nothing[2];
	static const uint32_t flags[] = {0, KVM_MEM_READONLY, KVM_MEM_LOG_DIRTY_PAGES};
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 60, stolen = 0, bad = 0;
	unsigned missed = 0;
	pthread_t thread[2];

	e = enemy_create("", 2, false);
	alarms_arm();
	enemy_reset(e);
	memcpy(e->ram + CODE_AT, taker_begin, (size_t)(taker_end - taker_begin));
	for (int n = 0; n < 2; n++) {
		begin(n);
		pthread_create(&thread[n], NULL, run_guest, (void *)(intptr_t)n);
	}
	for (unsigned i = 0; i < rounds || !seen_to_change; i++) {
		wait_us(i % 7 * 100);
		bad += set_slot(0, 0) != 0;
		fill(e->secret);
		wait_us(i % 3 * 100);
		stolen += changed();
		fill(nothing);
		bad += set_slot(HIGH_SIZE, flags[i % 3]) != 0;
		if (i % 3 == 2)
			missed += unlogged();
	}
	stop = true;
	for (int n = 0; n < 2; n++) {
		e->cpu[n].run->immediate_exit = 1;
		softkvm_kick(e->cpu[n].fd);
		pthread_join(thread[n], NULL);
	}
	is_int(bad, 0, "%u times a slot goes and comes", rounds);
	is_int(stolen, 0, "what is in its place is as the client put it");
	is_int(missed, 0, "the dirty log has every page that changed");
	ok(seen_to_change > 0, "(%u times a page was seen to)", seen_to_change);
	ok(fine[0] && fine[1], "both vCPUs run on");
	ok(enemy_harmless(e), "and have seen none of it");
	enemy_report(e, "slots");
	enemy_destroy(e);
	return done_testing();
}
