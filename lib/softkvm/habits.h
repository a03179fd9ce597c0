/* SPDX-License-Identifier: MIT */
/*
 * What was learnt about instructions, by their guest-physical address: it outlives their
 * translations, and the next one is made accordingly.
 *
 *	habit_add(&e->habits, HABIT_PLAIN, gpa);
 *	...
 *	if (habit_has(&e->habits, HABIT_PLAIN, gpa))
 *
 * Filters: another instruction may share a bit, which costs speed only. The translator asks a few
 * times an instruction, most often in vain, and a bit in a filter of this size is in no cache. So
 * a page's byte, which is, says first which habits there are in it at all.
 */
#ifndef SOFTKVM_HABITS_H
#define SOFTKVM_HABITS_H

#include <stdbool.h>
#include <stdint.h>

enum habit {
	HABIT_HOT,       /* a block by its first instruction: it runs often (engine.h) */
	HABIT_PLAIN,     /* a site's addend changes often: wait for the table */
	HABIT_UNALIGNED, /* a site is often not aligned: test for page crossing itself */
	HABIT_NARROW,    /* leads small groups only: its range often was not in a page */
	HABIT_ALONE,     /* leads no group: nor was a small one */
	HABIT_KINDS
};

#define HABIT_BITS 20
#define HABIT_PAGES (1u << 14)

struct habits {
	uint8_t page[HABIT_PAGES]; /* by page number: a bit for each kind */
	uint64_t filter[HABIT_KINDS][(1u << HABIT_BITS) / 64];
};

static inline uint8_t *habits_of_page(struct habits *h, uint64_t gpa)
{
	return &h->page[gpa >> 12 & (HABIT_PAGES - 1)];
}

static inline uint32_t habit_bit(uint64_t gpa)
{
	return (uint32_t)(gpa * 0x9e3779b97f4a7c15ull >> (64 - HABIT_BITS));
}

static inline bool habit_has(struct habits *h, enum habit kind, uint64_t gpa)
{
	uint32_t bit = habit_bit(gpa);

	return *habits_of_page(h, gpa) >> kind & 1 &&
	       h->filter[kind][bit / 64] >> (bit % 64) & 1;
}

static inline void habit_add(struct habits *h, enum habit kind, uint64_t gpa)
{
	uint32_t bit = habit_bit(gpa);

	*habits_of_page(h, gpa) |= (uint8_t)(1u << kind);
	h->filter[kind][bit / 64] |= 1ull << (bit % 64);
}

#endif
