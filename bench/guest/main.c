/* SPDX-License-Identifier: MIT */
/*
 * lodge-bench [NAME-PREFIX]: runs all rows, or those whose name begins so.
 *
 * A row is first run once, because some make their material then, and again with n doubling
 * until it takes 20 ms, which warms caches and lets an engine translate. Then five runs of about
 * 40 ms, of which the median counts.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

#define WARM_NS  20e6
#define BATCH_NS 40e6
#define BATCHES  5

static volatile uint64_t sink;

static double now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static double time_run(const struct row *row, uint64_t n)
{
	double start = now_ns();

	sink += row->run(n);
	return now_ns() - start;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(const struct row *row)
{
	double took[BATCHES], ns = 0;
	uint64_t n = 1;

	if (row->can && !row->can()) {
		printf("%s -\n", row->name);
		return;
	}
	sink += row->run(1);
	while ((ns = time_run(row, n)) < WARM_NS)
		n *= 2;
	n = n * BATCH_NS / ns + 1;
	for (int i = 0; i < BATCHES; i++)
		took[i] = time_run(row, n) / n;
	qsort(took, BATCHES, sizeof(took[0]), by_value);
	printf("%s %.2f\n", row->name, took[BATCHES / 2]);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const struct row *const groups[] = {integer_rows, float_rows, memory_rows,
						   system_rows};
	const char *prefix = argc > 1 ? argv[1] : "";

	if (!strcmp(prefix, "exit"))
		return 0; /* what system.fork_exec executes */
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
		for (const struct row *row = groups[g]; row->name; row++)
			if (!strncmp(row->name, prefix, strlen(prefix)))
				measure(row);
	return 0;
}
