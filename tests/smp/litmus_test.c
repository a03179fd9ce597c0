/* SPDX-License-Identifier: MIT */
/*
 * Memory ordering: short programs of two to four vCPUs whose outcome x86-TSO restricts.
 *
 *	litmus_test [ROUNDS]
 *
 * Names are those of the literature (Sewell and others, "x86-TSO", CACM 53/7); r are the loads of
 * a shape in the order of its CPUs. Each round runs a shape over an array of fresh variables, in
 * step as far as two CPUs are. That store buffering is seen shows that the test looks closely
 * enough; with a fence between it must not be.
 *
 *	page of x     ordinary, or one with code in it: then stores to it are C's, in part
 */
#include "tests/smp/smp.h"

#include "tests/tap.h"

#define SHAPES(X)                                                                          \
	X(store_x) X(store_y) X(store_xy) X(store_x1y2) X(store_y1x2) X(load_xy)           \
	X(load_yx) X(load_x_store_y) X(load_y_store_x) X(store_x_load_y) X(store_y_load_x) \
	X(store_x_fence_load_y) X(store_y_fence_load_x) X(xchg_x_load_y) X(xchg_y_load_x)  \
	X(load_xx)
#define DECLARE(name) extern const uint8_t shape_##name[], shape_##name##_end[];
SHAPES(DECLARE)
#define SHAPE(name) {shape_##name, shape_##name##_end}

struct result {
	uint64_t r[SMP_CPUS][2];
	uint64_t x, y;
};

static bool mp(const struct result *a)
{
	return a->r[1][1] && !a->r[1][0];
}

static bool lb(const struct result *a)
{
	return a->r[0][0] && a->r[1][0];
}

static bool sb(const struct result *a)
{
	return !a->r[0][0] && !a->r[1][0];
}

static bool w22(const struct result *a)
{
	return a->x == 1 && a->y == 1;
}

static bool corr(const struct result *a)
{
	return a->r[1][0] && !a->r[1][1];
}

/* The third sees x before y, the fourth y before x. */
static bool iriw(const struct result *a)
{
	return a->r[2][0] && !a->r[2][1] && a->r[3][1] && !a->r[3][0];
}

static bool wrc(const struct result *a)
{
	return a->r[1][0] && a->r[2][1] && !a->r[2][0];
}

static const struct litmus {
	const char *name;
	int cpus;
	struct {
		const uint8_t *begin, *end;
	} shape[SMP_CPUS];
	bool (*seen)(const struct result *a);
	bool allowed;
} litmus[] = {
	{"MP", 2, {SHAPE(store_xy), SHAPE(load_yx)}, mp, false},
	{"LB", 2, {SHAPE(load_x_store_y), SHAPE(load_y_store_x)}, lb, false},
	{"2+2W", 2, {SHAPE(store_x1y2), SHAPE(store_y1x2)}, w22, false},
	{"CoRR", 2, {SHAPE(store_x), SHAPE(load_xx)}, corr, false},
	{"SB", 2, {SHAPE(store_x_load_y), SHAPE(store_y_load_x)}, sb, true},
	{"SB+mfences", 2, {SHAPE(store_x_fence_load_y), SHAPE(store_y_fence_load_x)}, sb, false},
	{"SB+xchgs", 2, {SHAPE(xchg_x_load_y), SHAPE(xchg_y_load_x)}, sb, false},
	{"WRC", 3, {SHAPE(store_x), SHAPE(load_x_store_y), SHAPE(load_yx)}, wrc, false},
	{"IRIW", 4, {SHAPE(store_x), SHAPE(store_y), SHAPE(load_xy), SHAPE(load_yx)}, iriw, false},
};

enum { FUNCTION_AT = 0x80000, X_AT = 0x80040, Y_AT = 0x100040, RESULTS_AT = 0x180000, RESULTS_STEP = 0x10000,
       STEPS = 1500 };

static struct result result(const struct smp *m, unsigned i, unsigned step)
{
	struct result a = {.x = 0};

	for (int n = 0; n < m->n_cpus; n++)
		memcpy(a.r[n], m->mem + RESULTS_AT + n * RESULTS_STEP + i * 16, 16);
	memcpy(&a.x, m->mem + X_AT + i * step, 8);
	memcpy(&a.y, m->mem + Y_AT + i * step, 8);
	return a;
}

static void clear(struct smp *m)
{
	memset(m->mem + FUNCTION_AT, 0, RESULTS_AT + SMP_CPUS * RESULTS_STEP - FUNCTION_AT);
	m->mem[FUNCTION_AT] = 0xc3; /* RET */
}

/* How often the outcome was seen; -1: a CPU did not end. */
static long round_of(struct smp *m, const struct litmus *l, unsigned step, bool code)
{
	long seen = 0;

	clear(m);
	for (int n = 0; n < m->n_cpus; n++) {
		m->cpu[n].regs = (struct kvm_regs){
			.rdi = X_AT, .rsi = Y_AT, .r10 = step, .r9 = 1,
			.rbx = (uint64_t)(RESULTS_AT + n * RESULTS_STEP),
			.rbp = code ? FUNCTION_AT : 0};
		smp_load(m, n, l->shape[n].begin, l->shape[n].end);
	}
	if (!smp_run(m, STEPS, CLIENT_WAITS))
		return -1;
	for (unsigned i = 0; i < STEPS; i++) {
		struct result a = result(m, i, step);

		seen += l->seen(&a);
	}
	return seen;
}

static void try(const char *knobs, const struct litmus *l, unsigned rounds)
{
	struct smp *m = smp_create(knobs, l->cpus, false);
	long seen = 0, n = 0;

	for (unsigned i = 0; i < rounds && n >= 0; i++) {
		n = round_of(m, l, i % 2 ? 64 : 8, i % 4 / 2);
		seen += n;
	}
	if (l->allowed)
		ok(n >= 0, "%s: %s is allowed, seen %ld times", m->knobs, l->name, seen);
	else
		ok(n >= 0 && !seen, "%s: %s is never seen (%ld times)", m->knobs, l->name, seen);
	smp_destroy(m);
}

int main(int argc, char **argv)
{
	static const char *const knobs[] = {"", "sample=0", "sample=0,nogroup", "interpret",
					    "sample=0,tlb,ends,seed=4"};
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 24;

	for (unsigned k = 0; k < sizeof(knobs) / sizeof(knobs[0]); k++)
		for (unsigned i = 0; i < sizeof(litmus) / sizeof(litmus[0]); i++)
			try(knobs[k], &litmus[i], rounds);
	return done_testing();
}
