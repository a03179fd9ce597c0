/* SPDX-License-Identifier: MIT */
/*
 * What translations a CPU may have cached: a second opinion on mmu/tlb.c.
 *
 * The manual lets a CPU keep a translation that the tables no longer say, until something
 * invalidates it. So the truth about an entry is not one walk but several: this keeps the tables
 * as they were (versions) and what was invalidated between them (events). An entry is permitted
 * if a walk of some version gives it, and no event since then covers that translation.
 *
 *	struct truth *t = truth_create(max_phys_bits);
 *	truth_see(t, ram);                      the tables as they are now, accessed bits and all
 *	... the tables are changed ...
 *	truth_change(t, ram);                   another version begins
 *	truth_event(t, (struct event){...});    the CPU has invalidated something
 *	truth_find(t, root, lin, wants, arg)    some permitted walk of lin that wants() likes
 *
 * Only long mode; tables lie in the page at PML4_AT to PD_AT and in those at TABLES_AT.
 */
#ifndef HOSTILE_TRUTH_H
#define HOSTILE_TRUTH_H

#include <stdbool.h>
#include <stdint.h>

enum event_kind {
	EVENT_ALL,        /* CR4.PGE, INVPCID 2 */
	EVENT_NOT_GLOBAL, /* of all PCIDs: INVPCID 3 */
	EVENT_PCID,       /* of one PCID, not global: MOV CR3, INVPCID 1 */
	EVENT_PAGE,       /* of one PCID, and global: INVLPG */
	EVENT_PAGE_PCID,  /* of one PCID: INVPCID 0 */
};

struct event {
	enum event_kind kind;
	uint32_t pcid;
	uint64_t lin;
	uint32_t at;      /* set by truth_event(): the version that began last */
};

/* What a walk says. Rights are of the tables: CR0.WP and rings are the reader's affair. */
struct answer {
	uint64_t gpa;     /* of the page of 4 KiB */
	uint64_t size;
	bool user, writable, nx, dirty, accessed, global;
};

#define VERSIONS 16

struct truth;
struct truth *truth_create(unsigned phys_bits);
void truth_destroy(struct truth *t);

/* Forgets the past: what is cached is what the tables say. */
void truth_begin(struct truth *t, const uint8_t *ram);
void truth_see(struct truth *t, const uint8_t *ram);
/* No room for another version: everything must be invalidated (EVENT_ALL), then truth_begin(). */
bool truth_is_full(const struct truth *t);
void truth_change(struct truth *t, const uint8_t *ram);
void truth_event(struct truth *t, struct event e);

typedef bool truth_wants(const struct answer *a, void *arg);

/* How many versions ago (0: it is what the tables say now) a permitted walk was that wants()
 * likes; -1: there is none. */
int truth_find(const struct truth *t, uint64_t root, uint32_t pcid, uint64_t lin,
	       truth_wants *wants, void *arg);

#endif
