/* SPDX-License-Identifier: MIT */
/*
 * The CPU as oracle: random instructions natively, translated and interpreted.
 *
 *	insn_test [-s SEED] [-n CASES] [-c CASE] [-k KNOBS] [-v] [-t] [-x]
 *	          [-w N] [-a N] [-m N]
 *
 *	-n   so many cases (20000)        -c   only this one, from where the seed puts it
 *	-k   only with these knobs        -t   the whole table of what was covered
 *	-v   each case before it runs     -x   what is excluded, and why
 *	-r   so many reports (20)          -w N  not random: every N-th case of sweep.c
 *	                                   -a N  and of address.c, -m N  of modes.c
 *
 * See README.md here. Each case runs natively, in a guest that translates (cold, then warm) and
 * in one that interprets, and in one of several others by turns. What this host cannot run, 32-bit code
 * on some, or code where a process has no addresses, is compared with the guest that interprets.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "insn.h"
#include "tests/tap.h"

#define BATCH 128
#define ENOUGH 100 /* disagreements; then it is not the host */

/* The first two run every case. */
static const char *const knobs[] = {
	"sample=0", "interpret", "", "sample=4,nochain", "sample=0,ends,seed=7,nogs", "sample=6,tlb,seed=3,nobmi1",
	"cache=256K,gsrepair", "sample=5,ends,nochain,tlb,seed=11,nogs,nobmi1", "full,cache=256K,sample=0", "ids,",
};

enum { KNOBS = sizeof(knobs) / sizeof(knobs[0]) };

static struct {
	uint64_t seed, first;
	unsigned long count;
	const char *only_knobs;
	unsigned long reports;
	bool verbose, table;
	unsigned long step;       /* of ordered cases, every so many-th; 0: random ones */
	bool (*ordered)(struct test_case *t, uint64_t seed, uint64_t number);
	char order;
} options = {.seed = 1, .count = 20000, .reports = 20};

static struct guest *guests[KNOBS];
static struct guest *interpreter; /* one of them, or of its own */
static unsigned long ran, ran_elsewhere, skipped, disagreements, wrong[KNOBS];
static struct outcome guest_outcome, interpreted;

/* -- What is essential in a case that disagrees --------------------------------------------- */

static struct native *spare;

static bool is_exact(const struct guest *g)
{
	return strstr(guest_knobs(g), "interpret") != NULL;
}

/* As it should be: natively, or if that cannot be interpreted. */
static struct outcome *run_reference(const struct test_case *t)
{
	if (t->elsewhere) {
		guest_run(interpreter, t, false, &interpreted);
		return &interpreted;
	}
	*native_cases(spare) = *t;
	native_begin(spare, 1);
	native_wait(spare);
	if (native_outcomes(spare)->status == RAN)
		mode_expect(t, native_outcomes(spare));
	return native_outcomes(spare);
}

/* Runs a case alone, on both sides. True: they disagree. */
static bool disagrees(const struct test_case *t, struct guest *g, bool warm, char *differ,
		      size_t size)
{
	const struct outcome *native = run_reference(t);

	*differ = 0;
	if (native->status != RAN)
		return false;
	guest_run(g, t, false, &guest_outcome);
	if (warm)
		guest_run(g, t, true, &guest_outcome);
	outcome_compare(t, native, &guest_outcome, is_exact(g), differ, size);
	return *differ;
}

/* Replaces by NOPs what can be replaced without an end to the disagreement. */
static void shrink(struct test_case *t, struct guest *g, bool warm)
{
	char differ[1024];

	for (unsigned i = 0; i < t->n_pieces; i++) {
		struct test_case fewer = *t;
		const struct piece *p = &t->piece[i];

		for (unsigned s = 0; s < t->n_spans; s++)
			if (p->at - t->span[s].at < t->span[s].len)
				memset(fewer.span[s].bytes + (p->at - t->span[s].at), 0x90, p->len);
		fewer.piece[i].is_nop = true;
		if (disagrees(&fewer, g, warm, differ, sizeof(differ)))
			*t = fewer;
	}
}

static void report(const struct test_case *t, unsigned k, bool warm, const char *at_first)
{
	struct test_case small = *t;
	struct guest *g = guests[k];
	char differ[1024];

	printf("# --- %s%s\n", guest_knobs(g), warm ? ", second run" : "");
	if (t->other.mode == FLAT)
		shrink(&small, g, warm);
	if (!disagrees(&small, g, warm, differ, sizeof(differ)))
		printf("# not alone: %s\n", at_first);
	case_print(&small, run_reference(&small), &guest_outcome, differ);
	printf("#   again: insn_test -s %llu -c %llu -k '%s'",
	       (unsigned long long)options.seed, (unsigned long long)t->number, knobs[k]);
	printf(options.order ? " -%c 1\n" : "\n", options.order);
}

/* -- Judging ---------------------------------------------------------------------------------- */

static void judge(const struct test_case *t, const struct outcome *native, unsigned k, bool warm)
{
	char differ[1024];

	guest_run(guests[k], t, warm, &guest_outcome);
	outcome_compare(t, native, &guest_outcome, is_exact(guests[k]), differ, sizeof(differ));
	/* Natively once more: some kernels lose GS base at a task switch (docs/why/gsbase.md), and a busy host
	 * makes many. */
	for (unsigned i = 0; i < 30 && *differ && !t->elsewhere && disagreements < ENOUGH; i++) {
		native = run_reference(t);
		if (native->status == RAN)
			outcome_compare(t, native, &guest_outcome, is_exact(guests[k]), differ,
					sizeof(differ));
	}
	if (!*differ)
		return;
	wrong[k]++;
	if (disagreements++ < options.reports)
		report(t, k, warm, differ);
}

static void judge_all(struct test_case *t, struct outcome *native)
{
	if (native->status == ELSEWHERE) {
		t->elsewhere = true;
		native = run_reference(t);
	} else if (native->status == RAN) {
		mode_expect(t, native);
	}
	if (options.verbose)
		case_print(t, native, NULL, "");
	if (native->status != RAN || native->vector == 17) {
		if (options.verbose)
			note("skipped");
		skipped++;
		return;
	}
	ran++;
	ran_elsewhere += t->elsewhere;
	coverage_add(t, native);
	for (unsigned k = 0; k < KNOBS; k++) {
		if (!guests[k] || (t->elsewhere && guests[k] == interpreter))
			continue;
		if (k > 1 && t->number % (KNOBS - 2) + 2 != k && !options.only_knobs)
			continue;
		judge(t, native, k, false);
		if (k == 0 || options.only_knobs || guest_is_warm_too(guests[k]))
			judge(t, native, k, true);
	}
}

static uint64_t next_case; /* a number as case_draw() or options.ordered() knows it */

/* Draws the next case; false: there are no more. */
static bool draw_next(struct test_case *t)
{
	uint64_t end = options.first + options.count;

	while (next_case < end) {
		uint64_t number = next_case;

		if (options.step) {
			/* not a multiple, so that each sample has all kinds of places */
			next_case += 1 + (number * 2654435761u >> 7) % (2 * options.step - 1);
			if (options.ordered(t, options.seed, number))
				return true;
		} else {
			next_case++;
			case_draw(t, options.seed, number);
			return true;
		}
	}
	return false;
}

static unsigned draw_batch(struct native *n)
{
	struct test_case *t = native_cases(n);
	unsigned i = 0;

	for (; i < BATCH && draw_next(&t[i]); i++)
		t[i].elsewhere = t[i].is_32bit && !native_host.runs_32bit;
	if (i)
		native_begin(n, i);
	return i;
}

/* While one batch runs natively, the guests run the one before. */
static void run_all(struct native *const natives[2])
{
	unsigned n[2] = {draw_batch(natives[0]), 0};

	for (unsigned turn = 0; n[turn & 1]; turn++) {
		struct native *now = natives[turn & 1], *then = natives[(turn + 1) & 1];

		native_wait(now);
		n[(turn + 1) & 1] = draw_batch(then);
		for (unsigned i = 0; i < n[turn & 1]; i++)
			judge_all(&native_cases(now)[i], &native_outcomes(now)[i]);
		n[turn & 1] = 0;
		if (n[(turn + 1) & 1] == 0)
			break;
	}
}

static void set_order(char name, bool (*draw)(struct test_case *, uint64_t, uint64_t),
		      uint64_t length)
{
	options.order = name;
	options.ordered = draw;
	options.step = strtoul(optarg, NULL, 0);
	if (options.count != 1) /* -c */
		options.count = length;
}

static void read_options(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "s:n:c:k:r:w:a:m:vtx")) != -1) {
		switch (c) {
		case 's': options.seed = strtoull(optarg, NULL, 0); break;
		case 'n': options.count = strtoul(optarg, NULL, 0); break;
		case 'c':
			options.first = strtoull(optarg, NULL, 0);
			options.count = 1;
			break;
		case 'k': options.only_knobs = optarg; break;
		case 'r': options.reports = strtoul(optarg, NULL, 0); break;
		case 'w': set_order('w', sweep_draw, sweep_length); break;
		case 'a': set_order('a', address_draw, address_length); break;
		case 'm': set_order('m', mode_draw, mode_length); break;
		case 'v': options.verbose = true; break;
		case 't': options.table = true; break;
		case 'x': exclusions_print(); exit(0);
		default:
			fputs("insn_test [-s SEED] [-n CASES] [-c CASE] [-k KNOBS] [-r REPORTS] "
			      "[-w N] [-a N] [-m N] [-v] [-t] "
			      "[-x]\n", stderr);
			exit(2);
		}
	}
}

static void make_guests(void)
{
	for (unsigned k = 0; k < KNOBS && !options.only_knobs; k++)
		guests[k] = guest_create(knobs[k]);
	interpreter = guests[1];
	if (options.only_knobs) {
		guests[0] = guest_create(options.only_knobs);
		interpreter = guest_create(knobs[1]);
	}
}

int main(int argc, char **argv)
{
	struct native *natives[2];

	read_options(argc, argv);
	if (!vectors_init()) {
		skip("this CPU has no XSAVE");
		return done_testing();
	}
	next_case = options.first;
	templates_draw(options.seed);
	natives[0] = native_create(BATCH);
	natives[1] = native_create(BATCH);
	spare = native_create(1);
	if (!natives[0] || !natives[1] || !spare) {
		skip("the low addresses or seccomp are not to be had");
		return done_testing();
	}
	native_ask(spare);
	make_guests();
	run_all(natives);
	coverage_print(options.table);
	for (unsigned k = 0; k < KNOBS; k++)
		if (guests[k])
			is_int(wrong[k], 0, "%s: %lu cases as they should be (seed %llu)",
			       guest_knobs(guests[k]), ran, (unsigned long long)options.seed);
	note("%lu cases natively, %lu beside the interpreter, for this host cannot run them, %lu skipped",
	     ran - ran_elsewhere, ran_elsewhere, skipped);
	native_destroy(natives[0]);
	native_destroy(natives[1]);
	native_destroy(spare);
	return done_testing();
}
