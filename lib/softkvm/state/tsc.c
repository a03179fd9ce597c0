/* SPDX-License-Identifier: MIT */
/*
 * How fast the host's time-stamp counter runs.
 *
 * CPUID leaf 0x15 may give it exactly (Intel), a hypervisor's leaf 0x40000010 nearly so. Else
 * it is measured against CLOCK_MONOTONIC_RAW, which the kernel derives from the same
 * counter without steering: between clock_begin() (softkvm_open()) and the first need of the
 * number (making a VM), so that other set-up runs meanwhile, and for 4 ms at least. A reading is
 * the best of several, those between two TSC reads closest together: about 20 ns of error,
 * so 5 parts in a million at 4 ms.
 */
#include "softkvm/state/clock.h"

#include <cpuid.h>
#include <pthread.h>
#include <time.h>

#define NS 1000000000ull
#define SPAN_NS 4000000ull
#define TOLERANCE_PPM 250u /* as KVM's */

struct reading {
	uint64_t tsc, ns;
};

static struct reading begin;
static uint64_t khz;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct reading read_clocks(void)
{
	struct reading best = {0};
	uint64_t narrowest = UINT64_MAX;

	for (int i = 0; i < 10; i++) {
		struct timespec t;
		uint64_t before = host_tsc(), after;

		clock_gettime(CLOCK_MONOTONIC_RAW, &t);
		after = host_tsc();
		if (after - before >= narrowest)
			continue;
		narrowest = after - before;
		best.tsc = before + narrowest / 2;
		best.ns = (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
	}
	return best;
}

/* Leaf 0x15: TSC = crystal * EBX / EAX, where the crystal's frequency is given in ECX. */
static uint64_t from_cpuid(void)
{
	uint32_t a, b, c, d;

	if (__get_cpuid(0x15, &a, &b, &c, &d) && a && b && c)
		return (uint64_t)c * b / a / 1000;
	__cpuid(1, a, b, c, d);
	if (!(c & 1u << 31)) /* no hypervisor, no leaf */
		return 0;
	__cpuid(0x40000000, a, b, c, d);
	if (a < 0x40000010)
		return 0;
	__cpuid(0x40000010, a, b, c, d);
	return a;
}

static uint64_t measure(void)
{
	struct reading end;
	uint64_t ns;

	for (;;) {
		end = read_clocks();
		ns = end.ns - begin.ns;
		if (ns >= SPAN_NS)
			break;
		nanosleep(&(struct timespec){.tv_nsec = (long)(SPAN_NS - ns)}, NULL);
	}
	return (uint64_t)((unsigned __int128)(end.tsc - begin.tsc) * 1000000 / ns);
}

void clock_begin(void)
{
	pthread_mutex_lock(&lock);
	if (!begin.tsc)
		begin = read_clocks();
	pthread_mutex_unlock(&lock);
}

uint64_t host_tsc_khz(void)
{
	clock_begin();
	pthread_mutex_lock(&lock);
	if (!khz)
		khz = from_cpuid();
	if (!khz)
		khz = measure();
	pthread_mutex_unlock(&lock);
	return khz;
}

/* A guest that comes from another process, or another computer of the same kind, brings a slightly
 * different number for the same clock. */
bool tsc_khz_is_ours(uint64_t other)
{
	uint64_t ours = host_tsc_khz(), apart = other > ours ? other - ours : ours - other;

	return apart <= ours * TOLERANCE_PPM / 1000000;
}
