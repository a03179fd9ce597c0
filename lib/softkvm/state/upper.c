/* SPDX-License-Identifier: MIT */
/*
 * See upper.h. Linux gives addresses above 47 bits only to who names one, so asking for one tells
 * whether there are any, without /proc and whatever CPUID says: the kernel may have been booted
 * with no5lvl.
 */
#include "softkvm/state/upper.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#define PAGE 4096ull
#define UPPER_END ((1ull << 56) - PAGE)

static void *map(uint64_t at, uint64_t len, int flags)
{
	return mmap((void *)at, len, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
}

bool upper_exists(void)
{
	void *p = map(UPPER_END - PAGE, PAGE, 0);

	if (p == MAP_FAILED)
		return false;
	munmap(p, PAGE);
	return (uintptr_t)p >= UPPER_AT;
}

static int result;

static void reserve(void)
{
	if (!upper_exists())
		return;
	if (map(UPPER_AT, UPPER_END - UPPER_AT, MAP_FIXED_NOREPLACE) == MAP_FAILED)
		result = errno == EEXIST ? -EADDRINUSE : -ENOMEM;
	else
		madvise((void *)UPPER_AT, UPPER_END - UPPER_AT, MADV_DONTDUMP);
}

int upper_reserve(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, reserve);
	return result;
}
