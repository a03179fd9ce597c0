/* SPDX-License-Identifier: MIT */
/*
 * Linux system calls as single instructions, for code that runs while the guest's
 * vector state is live: the kernel keeps vector registers, a libc function need not.
 * Results are those of the kernel: a count or -errno; errno is untouched.
 *
 *	while (!atomic_load(&word))
 *		sys_futex_wait(&word, 0, NULL);
 *
 * Source: the System V ABI for x86-64, appendix on Linux: number in rax, arguments in
 * rdi, rsi, rdx, r10, r8, r9; rcx and r11 are lost.
 */
#ifndef SOFTKVM_SYSCALL_H
#define SOFTKVM_SYSCALL_H

#include <linux/futex.h>
#include <linux/time_types.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>

static inline long sys_call6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory", "cc");
	return ret;
}

static inline long sys_call3(long nr, long a, long b, long c)
{
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory", "cc");
	return ret;
}

/* Sleeps while *word is `value`, at most `timeout` (a duration; NULL: for ever). 0,
 * -EAGAIN (it was another value), -EINTR, -ETIMEDOUT. Words are private to the
 * process. */
static inline long sys_futex_wait(_Atomic uint32_t *word, uint32_t value,
				  const struct __kernel_timespec *timeout)
{
	return sys_call6(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, value,
			 (long)timeout, 0, 0);
}

/* The same, until `deadline`, nanoseconds of CLOCK_MONOTONIC; UINT64_MAX: for ever. */
static inline long sys_futex_wait_until(_Atomic uint32_t *word, uint32_t value,
					uint64_t deadline)
{
	struct __kernel_timespec t = {
		.tv_sec = (long long)(deadline / 1000000000u),
		.tv_nsec = (long long)(deadline % 1000000000u),
	};

	return sys_call6(SYS_futex, (long)word, FUTEX_WAIT_BITSET_PRIVATE, value,
			 deadline == UINT64_MAX ? 0 : (long)&t, 0,
			 FUTEX_BITSET_MATCH_ANY);
}

/* Wakes up to n sleepers; returns how many. */
static inline long sys_futex_wake(_Atomic uint32_t *word, uint32_t n)
{
	return sys_call6(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, n, 0, 0, 0);
}

static inline long sys_write(int fd, const void *buf, unsigned long len)
{
	return sys_call3(SYS_write, fd, (long)buf, (long)len);
}

/* Adds one to an eventfd. */
static inline long sys_eventfd_signal(int fd)
{
	uint64_t one = 1;

	return sys_write(fd, &one, sizeof(one));
}

static inline long sys_clock_gettime(int clock, struct __kernel_timespec *t)
{
	return sys_call3(SYS_clock_gettime, clock, (long)t, 0);
}

/* Any clock in nanoseconds, exact, by a system call (0.1 to 1 us). */
static inline uint64_t sys_clock_ns(int clock)
{
	struct __kernel_timespec t;

	if (sys_clock_gettime(clock, &t))
		return 0;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t host_tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* CLOCK_MONOTONIC in nanoseconds, from the time-stamp counter where it is invariant (15
 * ns a question): within a microsecond of the kernel's, and never further back than
 * that (os/clock.c). Any thread. */
uint64_t now_ns(void);

#endif
