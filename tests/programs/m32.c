/* SPDX-License-Identifier: MIT */
/*
 * A 32-bit program, linked statically and dynamically, for 64-bit kernels: compatibility mode, the 32-bit system call
 * entries, segment bases for thread-local storage, x87 as 32-bit code uses it, signals with
 * 32-bit frames, and instructions that 64-bit mode does not have. Prints what it finds;
 * the output natively is the expected one.
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static __thread int per_thread = 7;
static sigjmp_buf back;
static volatile int caught;

static void on_signal(int number)
{
	caught = number;
	siglongjmp(back, 1);
}

static void *thread(void *arg)
{
	per_thread += *(int *)arg;
	return (void *)(intptr_t)per_thread;
}

static void arithmetic(void)
{
	uint64_t a = 0x123456789abcdef1u, b = 0xfedcba987u;
	volatile double d = 2.0;
	volatile long double l = 3.0L;

	printf("64-bit: %llu %llu %llx\n", (unsigned long long)(a / b),
	       (unsigned long long)(a % b), (unsigned long long)(a * b));
	printf("double: %.17g %.17g %.17g\n", sqrt(d), sin(d), pow(d, 0.3));
	printf("long double: %.20Lg %.20Lg\n", sqrtl(l), l / 7);
}

static void old_instructions(void)
{
	uint32_t ax = 0x0079, flags, sp_before, sp_after;
	uint16_t es;

	__asm__("aam" : "+a"(ax));
	printf("aam: %04x\n", ax & 0xffff);
	ax = 0x0038;
	__asm__("addb $0x45, %%al; daa" : "+a"(ax)::"cc");
	printf("daa: %02x\n", ax & 0xff);
	__asm__ volatile("mov %%esp, %0; pusha; xor %%ecx, %%ecx; popa; mov %%esp, %1"
			 : "=&b"(sp_before), "=&d"(sp_after)::"memory", "cc");
	printf("pusha, popa: %d\n", sp_before == sp_after);
	__asm__("push %%es; pop %%eax; mov %%ax, %0" : "=r"(es)::"eax");
	printf("es: %d\n", es != 0);
	__asm__("stc; pushf; pop %0" : "=r"(flags)::"cc");
	printf("carry: %d\n", flags & 1);
	__asm__("xor %%eax, %%eax; inc %%eax; inc %%eax; dec %%eax; mov %%eax, %0"
		: "=r"(ax)::"eax", "cc");
	printf("inc, dec: %u\n", ax);
}

static void system_calls(void)
{
	long pid;
	int status;
	char *p;

	__asm__ volatile("int $0x80" : "=a"(pid) : "a"(20 /* getpid */));
	printf("int 0x80: %d\n", pid == getpid());
	p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(p, 0x5a, 1 << 20);
	printf("mmap: %x\n", p[12345]);
	fflush(stdout);
	if (!fork()) {
		p[0] = 1;
		_exit(p[0] + 41);
	}
	wait(&status);
	printf("fork: %d %x\n", WEXITSTATUS(status), p[0]);
}

static void signals(void)
{
	signal(SIGSEGV, on_signal);
	signal(SIGFPE, on_signal);
	signal(SIGILL, on_signal);
	if (!sigsetjmp(back, 1))
		__asm__ volatile("movl $1, 16" ::: "memory");
	printf("segv: %d\n", caught == SIGSEGV);
	if (!sigsetjmp(back, 1))
		__asm__ volatile("xorl %%ecx, %%ecx; idivl %%ecx" ::: "eax", "ecx", "edx", "cc");
	printf("fpe: %d\n", caught == SIGFPE);
	if (!sigsetjmp(back, 1))
		__asm__ volatile("ud2");
	printf("ill: %d\n", caught == SIGILL);
}

int main(void)
{
	pthread_t t;
	int add = 35;
	void *result;
	struct timespec now;

	printf("pointers: %zu bytes\n", sizeof(void *));
	arithmetic();
	old_instructions();
	system_calls();
	signals();
	pthread_create(&t, NULL, thread, &add);
	pthread_join(t, &result);
	printf("thread: %d %d\n", (int)(intptr_t)result, per_thread);
	printf("clock: %d\n", clock_gettime(CLOCK_MONOTONIC, &now) == 0 && now.tv_sec >= 0);
	return 0;
}
