/* SPDX-License-Identifier: MIT */
/*
 * The host's kernel as the enemy: it puts GS base back at any instruction (run/gsbase.h).
 *
 * A kernel without FSGSBASE does that when it switches threads. Here a signal handler does it, as
 * often as a second thread can send the signal, to a guest that touches memory in all ways that
 * translated code has: pushes and pops, pages in turn, calls through a register, REP MOVS and STOS,
 * system calls to another privilege and back. What it computes must be what it computes where GS base
 * is not used at all, and each repair is counted.
 *
 * And the other way round: what the client has in GS base is what it finds after KVM_RUN.
 */
#include "tests/hostile/hostile.h"

#include <asm/prctl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "tests/tap.h"

#include "softkvm/os/words.h"
#include "softkvm/run/gsbase.h"
#include "softkvm/softkvm.h"

extern const uint8_t work_begin[], work_end[];

/* r15: rounds. Ends with the sum at SAID_AT. */
enum { SAID_AT = 0x20000, DATA_AT = 0x48000, ROUNDS = 3000 };

__asm__(".section .rodata\n"
	".balign 16\n"
	"work_begin:\n"
	"	mov $0x28000, %esp\n"
	"	mov $3000, %r15d\n"
	"	xor %eax, %eax\n"
	"	xor %r14d, %r14d\n"
	"1:	mov $0x48000, %ebx\n" /* a word in each of some pages */
	"	mov $16, %ecx\n"
	"2:	add %rax, 8(%rbx)\n"
	"	add 16(%rbx), %rax\n"
	"	rol $7, %rax\n"
	"	lea 0x1000(%rbx), %rbx\n"
	"	dec %ecx\n"
	"	jnz 2b\n"
	"	push %rax\n"
	"	push %r15\n"
	"	lea 5f(%rip), %rdx\n" /* one of two functions */
	"	lea 6f(%rip), %rsi\n"
	"	test $1, %r15b\n"
	"	cmovz %rsi, %rdx\n"
	"	call *%rdx\n"
	"	pop %rdx\n"
	"	xor (%rsp), %rdx\n"
	"	add %rdx, %rax\n"
	"	pop %rdx\n"
	"	mov $0x48000, %esi\n"
	"	mov $0x58f80, %edi\n" /* into the next page */
	"	mov $40, %ecx\n"
	"	rep movsq\n"
	"	mov $0x4a7f0, %edi\n"
	"	mov $9, %ecx\n"
	"	rep stosq\n"
	"	mov %cr3, %rdx\n" /* what the tables know is lost now and then */
	"	test $63, %r15b\n"
	"	jnz 3f\n"
	"	mov %rdx, %cr3\n"
	"3:	dec %r15d\n"
	"	jnz 1b\n"
	"	mov %rax, 0x20000\n"
	"4:	hlt\n"
	"	jmp 4b\n"
	"5:	add $3, %rax\n"
	"	ret\n"
	"6:	imul $0x10001, %rax, %rax\n"
	"	ret\n"
	"work_end:\n"
	".text\n");

static const char *const modes[] = {
	"gsrepair", "gsrepair,sample=0", "gsrepair,sample=4,nochain", "gsrepair,nogroup,tlb,seed=3",
	"gsrepair,nobmi1,sample=0", "gsrepair,cache=256K,ends,sample=9",
};

/* -- The kernel ---------------------------------------------------------------------- */

static volatile bool stop;
static pthread_t runner;

static void put_back(int sig)
{
	(void)sig;
	gs_write(gs_window());
}

static void *send_signals(void *arg)
{
	(void)arg;
	while (!stop)
		pthread_kill(runner, SIGUSR1);
	return NULL;
}

/* -- The guest ----------------------------------------------------------------------- */

static unsigned long long counter(const struct enemy *e, const char *name)
{
	struct softkvm_stat s[128];
	int n = softkvm_stats(e->vm, s, 128);

	for (int i = 0; i < n; i++)
		if (!strcmp(s[i].name, name))
			return s[i].value;
	return 0;
}

static uint64_t word(const struct enemy *e, uint32_t at)
{
	uint64_t v;

	memcpy(&v, e->ram + at, 8);
	return v;
}

/* The guest's sum; 0: something was wrong. */
static uint64_t work(struct enemy *e)
{
	bool fine = true;

	enemy_reset(e);
	memset(e->ram + SAID_AT, 0, PAGE);
	memset(e->ram + DATA_AT, 0x5a, 0x11000);
	memcpy(e->ram + CODE_AT, work_begin, (size_t)(work_end - work_begin));
	enemy_start(e, 0, LONG_RING0, 0);
	while (fine && !word(e, SAID_AT))
		fine = enemy_run(e, 0, 1, UNLIMITED);
	return fine ? word(e, SAID_AT) : 0;
}

static void test_disturbed(const char *mode, uint64_t want)
{
	struct enemy *e = enemy_create(mode, 1, false);
	pthread_t sender;
	uint64_t sum = 0;

	stop = false;
	pthread_create(&sender, NULL, send_signals, NULL);
	for (int i = 0; i < 20000 && (i < 3 || counter(e, "gs_repairs") < 100); i++) {
		sum = work(e);
		if (sum != want)
			break;
	}
	stop = true;
	pthread_join(sender, NULL);
	ok(sum == want, "%s: the sum is right whatever the kernel does to GS base", mode);
	ok(counter(e, "gs_repairs") >= 100, "%s: and %llu times it was put right", mode,
	   counter(e, "gs_repairs"));
	ok(enemy_harmless(e), "%s: no harm is done", mode);
	enemy_destroy(e);
}

/* -- The client's -------------------------------------------------------------------- */

static uint64_t gs_now(void)
{
	uint64_t base;

	syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
	return base;
}

/* After a switch of threads, too: what the kernel has noted is it as well. */
static void is_kept(uint64_t want, const char *when)
{
	const struct timespec a_while = {.tv_nsec = 100000};

	is_int((long long)gs_now(), (long long)want, "%s the client's GS base is its own", when);
	nanosleep(&a_while, NULL);
	is_int((long long)gs_now(), (long long)want, "%s it is after a sleep", when);
}

static void test_client(const char *mode)
{
	static uint64_t mine[2];
	struct enemy *e = enemy_create(mode, 1, false);

	work(e);
	for (int i = 0; i < 2; i++) {
		syscall(SYS_arch_prctl, ARCH_SET_GS, (uintptr_t)&mine[i]);
		work(e);
		is_kept((uintptr_t)&mine[i], mode);
	}
	work(e);
	is_kept((uintptr_t)&mine[1], mode);
	enemy_destroy(e);
}

int main(void)
{
	struct sigaction sa = {.sa_handler = put_back, .sa_flags = SA_RESTART};
	const struct words repaired = {.gsrepair = true};
	struct enemy *e = enemy_create("nogs", 1, false);
	uint64_t want;

	alarms_arm();
	want = work(e);
	ok(want != 0 && counter(e, "gs_repairs") == 0, "the sum is %llx", (unsigned long long)want);
	enemy_destroy(e);
	test_client("nogs");
	test_client("");
	if (gs_choose(&repaired) == GS_UNUSED) {
		skip("the host has no WRGSBASE");
		return done_testing();
	}
	test_client("gsrepair");
	runner = pthread_self();
	sigaction(SIGUSR1, &sa, NULL);
	for (unsigned i = 0; i < sizeof(modes) / sizeof(*modes); i++)
		test_disturbed(modes[i], want);
	return done_testing();
}
