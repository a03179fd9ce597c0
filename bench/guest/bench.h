/* SPDX-License-Identifier: MIT */
/*
 * Benchmarks that run inside a guest, and natively for comparison.
 *
 * A row is a function that does its work n times and returns something that depends on all
 * of it, so that no compiler may leave it out. main.c finds an n that takes long enough,
 * and prints "name nanoseconds-per-iteration".
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct row {
	const char *name;
	uint64_t (*run)(uint64_t n);
	bool (*can)(void); /* NULL: always */
};

/* Each ends with a row without a name. */
extern const struct row integer_rows[], float_rows[], memory_rows[], system_rows[];

/* The next of a fixed sequence of numbers. */
static inline uint32_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

#endif
