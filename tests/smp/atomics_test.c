/* SPDX-License-Identifier: MIT */
/*
 * Atomic instructions of several vCPUs on the same memory: no update may be lost.
 *
 *	atomics_test [TIMES]        each loop so often, in all modes; without: some of them, 500 times
 *
 * Each row below is an instruction, with a rule that only holds if each execution is atomic: sums,
 * tickets, a bit that belongs to one CPU, tokens that are handed on, a counter under a lock. The
 * operand lies in a line of the cache, across two, across two pages. Meanwhile the client reads the
 * dirty log, or code in the same page is executed: both take the page's writable translations away
 * again and again, so that accesses by translated code and by C meet.
 */
#include "tests/smp/smp.h"

#include <time.h>

#include "tests/tap.h"

enum rule {
	UP,       /* 1 more each; r8: how often the result was 0 */
	DOWN,
	COUNT,    /* 1 more each */
	NOT,      /* flipped each time */
	NEG,
	OWN_BIT,  /* r8: errors, and in the end 0 */
	TICKETS,  /* r8: sum of what was there */
	TOKENS,   /* r8: the one in hand */
	LOCKED,   /* the counter at r11 is 1 more each, r8: errors */
	PAIR,     /* halves: 1 and 3 more; r8: errors */
};

#define EACH(X, name, rule) X(name, 1, rule) X(name, 2, rule) X(name, 4, rule) X(name, 8, rule)
#define WIDE(X, name, rule) X(name, 2, rule) X(name, 4, rule) X(name, 8, rule)

#define BODIES(X)                                                                          \
	EACH(X, add, UP) EACH(X, add_reg, COUNT) EACH(X, inc, UP) EACH(X, adc, UP)         \
	EACH(X, sub, DOWN) EACH(X, dec, DOWN) EACH(X, sbb, DOWN) EACH(X, not, NOT)         \
	EACH(X, neg, NEG) EACH(X, or_and, OWN_BIT) EACH(X, xor, OWN_BIT)                   \
	EACH(X, xadd, TICKETS) EACH(X, cmpxchg, COUNT) EACH(X, xchg, TOKENS)               \
	EACH(X, xchg_lock, LOCKED) WIDE(X, bts_btr, OWN_BIT) WIDE(X, btc, OWN_BIT)         \
	WIDE(X, bts_lock, LOCKED) X(cmpxchg8b, 8, PAIR) X(cmpxchg16b, 16, PAIR)

#define DECLARE(name, size, rule)                                                          \
	extern const uint8_t body_##name##_##size[], body_##name##_##size##_end[];
BODIES(DECLARE)
DECLARE(store, 8, )
DECLARE(add_nothing, 8, )

#define ROW(name, size, rule) {#name, size, rule, body_##name##_##size, body_##name##_##size##_end},

static const struct body {
	const char *name;
	unsigned size;
	enum rule rule;
	const uint8_t *begin, *end;
} bodies[] = {BODIES(ROW)};

enum { BODIES_N = sizeof(bodies) / sizeof(bodies[0]) };

enum place { IN_LINE, MISALIGNED, ACROSS_LINES, ACROSS_PAGES, PLACES };
static const char *const place_names[] = {"in a line", "misaligned", "across lines", "across pages"};

enum trouble { NONE, DIRTY_LOG, CODE, TROUBLES };
static const char *const trouble_names[] = {"alone", "with the dirty log read", "with code beside"};

enum { FUNCTION_AT = SMP_DATA + 0x800, COUNTER_AT = SMP_DATA + 0x900 };

static uint64_t operand_at(const struct body *b, enum place place)
{
	switch (place) {
	case MISALIGNED: return SMP_DATA + 64 + 3;
	case ACROSS_LINES: return SMP_DATA + 128 - b->size / 2;
	case ACROSS_PAGES: return SMP_DATA + 4096 - b->size / 2;
	default: return SMP_DATA;
	}
}

/* CMPXCHG16B must be aligned. What XCHG has locked an ordinary store unlocks, which across pages is
 * not atomic: ERRATA. */
static bool makes_sense(const struct body *b, enum place place)
{
	if (place == IN_LINE)
		return true;
	if (b->size == 1 || b->size == 16)
		return false;
	return place != ACROSS_PAGES || b->rule != LOCKED || b->name[0] != 'x';
}

static uint64_t get(const struct smp *m, uint64_t at, unsigned size)
{
	uint64_t v = 0;

	memcpy(&v, m->mem + at, size > 8 ? 8 : size);
	return v;
}

static uint64_t mask_of(unsigned size)
{
	return size >= 8 ? ~0ull : (1ull << size * 8) - 1;
}

static bool is_pair(const struct smp *m, uint64_t at, unsigned size, uint64_t n)
{
	return get(m, at, size / 2) == n && get(m, at + size / 2, size / 2) == 3 * n;
}

static uint64_t tickets(uint64_t n, uint64_t mask)
{
	uint64_t sum = 0;

	while (n--)
		sum += n & mask;
	return sum;
}

static bool holds(const struct smp *m, const struct body *b, uint64_t at, unsigned times)
{
	uint64_t n = (uint64_t)m->n_cpus * times, v = get(m, at, b->size), r8 = 0;
	uint64_t mask = mask_of(b->size), zeros = b->size < 8 ? n >> b->size * 8 : 0;
	uint64_t tokens = 0x10;

	for (int i = 0; i < m->n_cpus; i++) {
		r8 += m->cpu[i].regs.r8;
		tokens += (uint64_t)i + 1;
	}
	switch (b->rule) {
	case UP: return v == (n & mask) && r8 == zeros;
	case DOWN: return v == (-n & mask) && r8 == zeros;
	case COUNT: return v == (n & mask);
	case NOT: return v == (n & 1 ? mask : 0);
	case NEG: return v == (n & 1 ? mask : 1);
	case OWN_BIT: return v == 0 && r8 == 0;
	case TICKETS: return v == (n & mask) && r8 == tickets(n, mask);
	case TOKENS: return v + r8 == tokens;
	case LOCKED: return v == 0 && r8 == 0 && get(m, COUNTER_AT, 8) == n;
	case PAIR: return is_pair(m, at, b->size, n) && r8 == 0;
	}
	return false;
}

static bool try(struct smp *m, const struct body *b, enum place place, enum trouble trouble,
		unsigned times)
{
	uint64_t at = operand_at(b, place), start = b->rule == TOKENS ? 0x10 : b->rule == NEG;
	bool fine;

	memset(m->mem + SMP_DATA, 0, 0x2000);
	m->mem[FUNCTION_AT] = 0xc3;
	memcpy(m->mem + at, &start, b->size < 8 ? b->size : 8);
	for (int i = 0; i < m->n_cpus; i++) {
		m->cpu[i].regs = (struct kvm_regs){
			.rdi = at, .r9 = 1ull << i, .r10 = (uint64_t)i, .r11 = COUNTER_AT,
			.r8 = b->rule == TOKENS ? (uint64_t)i + 1 : 0,
			.rbp = trouble == CODE ? FUNCTION_AT : 0};
		smp_load(m, i, b->begin, b->end);
	}
	fine = smp_run(m, times, trouble == DIRTY_LOG ? CLIENT_READS_LOG : CLIENT_WAITS);
	if (fine && holds(m, b, at, times))
		return true;
	note("%s, %s of %u bytes, %s: %llx%s", m->knobs, b->name, b->size, place_names[place],
	     (unsigned long long)get(m, at, b->size), fine ? "" : ", and does not end");
	return false;
}

/* Milliseconds for a locked access across lines: where the kernel punishes programs that make them it is 10 and more. */
static unsigned split_lock_ms(void)
{
	_Alignas(64) static uint8_t lines[128];
	struct timespec begin, end;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 0; i < 4; i++)
		__asm__ volatile("lock incl %0" : "+m"(*(uint32_t *)(void *)(lines + 62)));
	clock_gettime(CLOCK_MONOTONIC, &end);
	return (unsigned)((end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000) / 4;
}

static bool no_split_locks;

static bool is_possible(enum place p)
{
	return p != ACROSS_LINES || !no_split_locks;
}

/* Each body at each place, or one in `sparse` of them. */
static void try_all(const char *knobs, int cpus, unsigned times, unsigned sparse)
{
	struct smp *m = smp_create(knobs, cpus, false);

	for (enum trouble t = 0; t < TROUBLES; t++) {
		unsigned n = 0, wrong = 0;

		for (unsigned i = t % sparse; i < BODIES_N * PLACES && wrong < 10; i += sparse)
			if (makes_sense(&bodies[i / PLACES], i % PLACES) &&
			    is_possible(i % PLACES)) {
				n++;
				wrong += !try(m, &bodies[i / PLACES], i % PLACES, t, times);
			}
		ok(!wrong, "%s, %d vCPUs, %s: %u atomic loops lose nothing", m->knobs, cpus,
		   trouble_names[t], n);
	}
	smp_destroy(m);
}

/* How many stores of one CPU were undone by the other's locked instruction. */
static uint64_t undone(struct smp *m, enum place place)
{
	const struct body b = {.size = 8};

	memset(m->mem + SMP_DATA, 0, 0x2000);
	for (int i = 0; i < 2; i++)
		m->cpu[i].regs = (struct kvm_regs){.rdi = operand_at(&b, place)};
	smp_load(m, 0, body_store_8, body_store_8_end);
	smp_load(m, 1, body_add_nothing_8, body_add_nothing_8_end);
	return smp_run(m, 5000, CLIENT_WAITS) ? m->cpu[0].regs.r8 : ~0ull;
}

/* ERRATA: if the last check is skipped every time, that is good news, and a row to remove. */
static void ordinary_stores(void)
{
	struct smp *m = smp_create("", 2, false);
	uint64_t n[PLACES] = {0};

	for (enum place p = 0; p < PLACES; p++)
		for (unsigned i = 0; is_possible(p) && i < (p == ACROSS_PAGES ? 200 : 5) && !n[p]; i++)
			n[p] = undone(m, p);
	for (enum place p = 0; p < ACROSS_PAGES && is_possible(p); p++)
		ok(!n[p], "an ordinary store %s is not undone by LOCK", place_names[p]);
	if (n[ACROSS_PAGES])
		ok(n[ACROSS_PAGES] != ~0ull, "across pages it can be");
	else
		skip("an ordinary store across pages was never undone by LOCK this time");
	smp_destroy(m);
}

int main(int argc, char **argv)
{
	static const struct mode {
		const char *knobs;
		int cpus;
		unsigned sparse; /* in the quick run; 0: not at all */
	} modes[] = {
		{"sample=0", 2, 3}, {"", 4, 7}, {"interpret", 2, 7}, {"", 2, 0},
		{"sample=0,nochain,nogroup", 2, 0}, {"tlb,ends,seed=3", 2, 0},
		{"sample=0,tlb", 4, 0}, {"interpret", 4, 0}, {"cache=256K", 2, 0},
	};
	unsigned times = argc > 1 ? (unsigned)atoi(argv[1]) : 0, ms = split_lock_ms();

	no_split_locks = ms > 1;
	if (no_split_locks)
		skip("atomics across lines: this host's kernel makes one take %u ms", ms);
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (times)
			try_all(modes[i].knobs, modes[i].cpus, times, 1);
		else if (modes[i].sparse)
			try_all(modes[i].knobs, modes[i].cpus, 500, modes[i].sparse);
	ordinary_stores();
	return done_testing();
}
