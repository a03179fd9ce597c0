/* SPDX-License-Identifier: MIT */
/*
 * Moving bytes: libc's memcpy and memset (vectors), string instructions, and a chase through
 * more pages than any TLB holds.
 */
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define PAGE 4096
#define BIG  (256 * 1024)

static uint8_t from[BIG], to[BIG];

static uint64_t memcpy_page(uint64_t n)
{
	while (n--) {
		memcpy(to, from, PAGE);
		__asm__ volatile("" ::: "memory");
	}
	return to[5];
}

static uint64_t memcpy_big(uint64_t n)
{
	while (n--) {
		memcpy(to, from, BIG);
		__asm__ volatile("" ::: "memory");
	}
	return to[5];
}

static uint64_t memset_page(uint64_t n)
{
	while (n--) {
		memset(to, n, PAGE);
		__asm__ volatile("" ::: "memory");
	}
	return to[5];
}

static void rep_movs(void *d, const void *s, size_t bytes)
{
	__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(bytes)::"memory");
}

static void rep_stos(void *d, size_t words)
{
	__asm__ volatile("rep stosq" : "+D"(d), "+c"(words) : "a"(0) : "memory");
}

static uint64_t movs_page(uint64_t n)
{
	while (n--)
		rep_movs(to, from, PAGE);
	return to[5];
}

static uint64_t movs_big(uint64_t n)
{
	while (n--)
		rep_movs(to, from, BIG);
	return to[5];
}

static uint64_t stos_page(uint64_t n)
{
	while (n--)
		rep_stos(to, PAGE / 8);
	return to[5];
}

/* A short copy, as structs are copied. */
static uint64_t movs_short(uint64_t n)
{
	while (n--)
		rep_movs(to + (n & 63), from, 24);
	return to[5];
}

/* One line of each of 8192 pages, in an order that no prefetcher guesses. */
#define CHASE_PAGES 8192

static uint64_t chase(uint64_t n)
{
	static uint8_t *pages;
	static void **at;

	if (!pages) {
		pages = malloc((size_t)CHASE_PAGES * PAGE);
		if (!pages)
			return 0;
		for (uint32_t i = 0; i < CHASE_PAGES; i++) {
			uint32_t next = (i * 5 + 4099) % CHASE_PAGES; /* visits all */

			*(void **)(pages + (size_t)i * PAGE + (i & 63) * 64) =
				pages + (size_t)next * PAGE + (next & 63) * 64;
		}
		at = (void **)pages;
	}
	while (n--)
		at = *at;
	return (uintptr_t)at;
}

const struct row memory_rows[] = {
	{.name = "copy.memcpy_4k", .run = memcpy_page},
	{.name = "copy.memcpy_256k", .run = memcpy_big},
	{.name = "copy.memset_4k", .run = memset_page},
	{.name = "copy.rep_movsb_4k", .run = movs_page},
	{.name = "copy.rep_movsb_256k", .run = movs_big},
	{.name = "copy.rep_stosq_4k", .run = stos_page},
	{.name = "memory.rep_movsb_24", .run = movs_short},
	{.name = "memory.chase", .run = chase},
	{0},
};
