/* SPDX-License-Identifier: MIT */
/*
 * A mutex of one word for KVM_RUN, where pthread's may not be called (see vcpu.h).
 *
 *	struct lock lock = {0};
 *
 *	lock_take(&lock);
 *	...
 *	lock_drop(&lock);
 *
 * Free: 0. Taken: 1. Taken, and somebody may sleep on it: 2. Uncontended it is one
 * atomic instruction each way. Not recursive, not for signal handlers; hold it for a
 * few hundred nanoseconds at most, for others spin a little before they sleep.
 */
#ifndef SOFTKVM_LOCK_H
#define SOFTKVM_LOCK_H

#include "softkvm/os/syscall.h"

#include <stdbool.h>

struct lock {
	_Atomic uint32_t word;
};

static inline bool lock_try(struct lock *l)
{
	uint32_t free = 0;

	return atomic_compare_exchange_strong_explicit(
		&l->word, &free, 1, memory_order_acquire, memory_order_relaxed);
}

/* The slow half of lock_take(). Whoever has slept takes it as 2, because others may
 * sleep still; that costs at most one wake-up too many. */
static inline void lock_wait(struct lock *l)
{
	for (int i = 0; i < 100; i++) {
		if (!atomic_load_explicit(&l->word, memory_order_relaxed) &&
		    lock_try(l))
			return;
		__asm__ volatile("pause");
	}
	while (atomic_exchange_explicit(&l->word, 2, memory_order_acquire))
		sys_futex_wait(&l->word, 2, (void *)0);
}

static inline void lock_take(struct lock *l)
{
	if (__builtin_expect(!lock_try(l), 0))
		lock_wait(l);
}

static inline void lock_drop(struct lock *l)
{
	if (atomic_exchange_explicit(&l->word, 0, memory_order_release) == 2)
		sys_futex_wake(&l->word, 1);
}

#endif
