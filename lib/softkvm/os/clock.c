/* SPDX-License-Identifier: MIT */
/*
 * CLOCK_MONOTONIC without libc and, nearly always, without a system call.
 *
 * libc's clock_gettime() may use vector registers, which hold the guest's state here;
 * the system call takes 0.2 us and more. So time is computed from the host's TSC:
 *
 *	now = anchor.ns + (rdtsc - anchor.tsc) * rate
 *
 * where the anchor is at most 100 ms old. Whoever finds it older asks the kernel and
 * sets a new one, with the rate seen since the last, so that adjustments of the
 * kernel's clock (NTP) are followed. If the old line has run ahead of the kernel, by
 * `ahead`, the new one starts where the old one ended and runs slower by so much that
 * it meets the kernel's in 100 ms:
 *
 *	ns |            ,-' kernel
 *	   |        ,=-'          time never goes back for it. Only if it is ahead by more than
 *	   |     ,-'  new line    100 us does it jump (a suspended machine, a moved VM).
 *	   |  ,-' old line
 *	   +-------------------- tsc
 *
 * In the first 10 ms, and where the TSC is not invariant, each question is a system
 * call. Accuracy: 10 us for the first 100 ms, then better than 1 us; clock_test.c shows it.
 *
 * The anchor is guarded by a sequence count: odd while it changes. A reader that would
 * have to wait asks the kernel.
 * Source: Intel SDM volume 3, "Invariant TSC".
 */
#include "softkvm/os/lock.h"

#define CLOCK    1 /* CLOCK_MONOTONIC; <time.h> is libc's */
#define MS       1000000ull
#define FIRST    (10 * MS)  /* the least baseline for a rate */
#define INTERVAL (100 * MS) /* the age at which an anchor is replaced */
#define AHEAD    (MS / 10)  /* how far ahead is put up with */

static struct {
	struct lock lock; /* of writers */
	_Atomic uint32_t seq;
	_Atomic uint64_t tsc, ns; /* where the line starts */
	_Atomic uint64_t
		rate;         /* ns of a cycle, 32 bits of fraction; 0: not known yet */
	_Atomic uint64_t max; /* cycles after which a new anchor is due */
	uint64_t true_tsc,
		true_ns;  /* the kernel's time when it was asked last (lock) */
	_Atomic bool raw; /* the TSC is of no use */
} line;

static uint64_t get(_Atomic uint64_t *p)
{
	return atomic_load_explicit(p, memory_order_relaxed);
}

static void put(_Atomic uint64_t *p, uint64_t value)
{
	atomic_store_explicit(p, value, memory_order_relaxed);
}

static bool tsc_is_invariant(void)
{
	uint32_t a = 0x80000007, b, c = 0, d;

	__asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return d & 1u << 8;
}

/* The kernel's time and the TSC at the same moment, to half a system call. */
static void ask_kernel(uint64_t *tsc, uint64_t *ns)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 4 && best > 4000; i++) {
		uint64_t before = host_tsc(), t = sys_clock_ns(CLOCK);
		uint64_t took = host_tsc() - before;

		if (took >= best)
			continue;
		best = took;
		*tsc = before + took / 2;
		*ns = t;
	}
}

/* ns << 32 / cycles; both are shortened until it fits. */
static uint64_t rate_of(uint64_t cycles, uint64_t ns)
{
	while (ns >> 31) {
		ns >>= 1;
		cycles >>= 1;
	}
	return cycles ? (ns << 32) / cycles : 0;
}

static uint64_t at(uint64_t tsc)
{
	return get(&line.ns) +
	       (uint64_t)((unsigned __int128)(tsc - get(&line.tsc)) * get(&line.rate) >>
			  32);
}

static void set_line(uint64_t tsc, uint64_t ns, uint64_t rate)
{
	atomic_fetch_add(&line.seq, 1);
	put(&line.tsc, tsc);
	put(&line.ns, ns);
	put(&line.rate, rate);
	put(&line.max, rate ? (INTERVAL << 32) / rate : 0);
	atomic_fetch_add(&line.seq, 1);
}

static void begin(uint64_t tsc, uint64_t ns)
{
	if (!tsc_is_invariant())
		atomic_store(&line.raw, true);
	line.true_tsc = tsc;
	line.true_ns = ns;
	set_line(tsc, ns, 0);
}

/* A rate that has changed by more than 1/256 comes of a TSC that jumped. */
static bool is_odd(uint64_t rate)
{
	uint64_t old = get(&line.rate);

	return !rate || (old && (rate > old + old / 256 || rate < old - old / 256));
}

/* The new line, from where the kernel's time is `ns`; under line.lock. */
static void renew(uint64_t tsc, uint64_t ns)
{
	uint64_t rate, ahead = 0;

	if (!line.true_ns || tsc <= line.true_tsc || ns <= line.true_ns) {
		begin(tsc, ns);
		return;
	}
	if (ns - line.true_ns < FIRST)
		return;
	rate = rate_of(tsc - line.true_tsc, ns - line.true_ns);
	if (is_odd(rate)) {
		begin(tsc, ns);
		return;
	}
	if (get(&line.rate) && at(tsc) > ns && at(tsc) - ns < AHEAD)
		ahead = at(tsc) - ns;
	line.true_tsc = tsc;
	line.true_ns = ns;
	set_line(tsc, ns + ahead, rate - rate / 1000 * ahead / (INTERVAL / 1000));
}

static uint64_t ask_and_renew(void)
{
	uint64_t tsc = 0, ns = 0;

	if (!lock_try(&line.lock))
		return sys_clock_ns(CLOCK);
	ask_kernel(&tsc, &ns);
	renew(tsc, ns);
	if (get(&line.rate))
		ns = at(tsc);
	lock_drop(&line.lock);
	return ns;
}

uint64_t now_ns(void)
{
	uint32_t seq = atomic_load_explicit(&line.seq, memory_order_acquire);
	uint64_t tsc = get(&line.tsc), ns = get(&line.ns), rate = get(&line.rate);
	uint64_t max = get(&line.max), passed;

	if (atomic_load_explicit(&line.raw, memory_order_relaxed))
		return sys_clock_ns(CLOCK);
	atomic_thread_fence(memory_order_acquire);
	if (seq & 1 || seq != atomic_load_explicit(&line.seq, memory_order_relaxed))
		return sys_clock_ns(CLOCK);
	passed = host_tsc() - tsc;
	/* SAFE: passed < max, so the product is below INTERVAL << 32, 2^59. */
	return passed < max ? ns + (passed * rate >> 32) : ask_and_renew();
}
