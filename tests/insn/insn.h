/* SPDX-License-Identifier: MIT */
/*
 * What the parts of the instruction oracle share: a case, and what became of it.
 *
 * A case is a few instructions at a fixed place, the registers before them and the contents of
 * a few pages. It runs natively (native.c, in a child process) and in a guest of softkvm
 * (guest.c), at the same virtual addresses and in ring 3 both times, until something ends it:
 * INT3 behind the last instruction, or any fault before. The two outcomes must be equal.
 */
#ifndef INSN_INSN_H
#define INSN_INSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "x86/decode.h"

/* -- Pages ------------------------------------------------------------------------------- */

#define PAGE 4096u

/* The sandbox: what both worlds have mapped for the case; nothing else is below 4 GiB. */
enum { CODE_PAGES = 4, STACK_PAGE = 8, NEAR_PAGES = 2, PAGES = 12 };

#define CODE  0x10000000u /* four pages; the last cannot be written */
#define DATA  0x10010000u /* two pages, then a hole */
#define RDPG  0x10013000u /* a page that cannot be written, then one that can, then a hole */
#define STACK 0x10018000u /* two pages between holes */
#define TOP   0xfffff000u /* the last page below 4 GiB, ... */
#define ABOVE 0x100000000 /* ... and the next one, which 32-bit code does not reach */

/* Code, and two pages of data, are not always at CODE and TOP but sometimes at an end of something. */
enum where { HOME, AT_0, TOP_32, ACROSS_4G, LOW_END, LOW_LAST, UPPER, LAST, LAYOUTS };

struct layout {
	uint64_t code, around;
	const char *name;
};

extern const struct layout layouts[LAYOUTS];

struct page {
	uint64_t at;              /* at HOME */
	bool write, exec;
};

extern const struct page pages[PAGES];
uint64_t page_at(enum where layout, unsigned page);

/* Has this page another place in other layouts? */
static inline bool page_moves(unsigned page)
{
	return page < CODE_PAGES || page >= PAGES - NEAR_PAGES;
}

#define VECTOR_STATE 4096 /* bytes of an XSAVE image, at most */
#define TEMPLATES 8       /* contents of the data pages that cases choose from */

/* -- A case -------------------------------------------------------------------------------- */

/* Registers before. The order is known to the assembly in native.c. */
struct start {
	uint64_t gpr[16];
	uint64_t rip, flags, cs, ss;
	uint64_t fs, gs;                    /* bases */
	uint16_t sel_ds, sel_es, sel_fs, sel_gs;
};

struct span {             /* code; everything around it is INT3; what is beyond the pages does not exist */
	uint64_t at;
	uint32_t len;
	uint8_t bytes[240];
};

struct patch {            /* a word of data that the code wants */
	uint32_t at;
	uint64_t value;
};

struct piece {            /* an instruction of a case, for reports and coverage */
	uint64_t at;
	uint8_t len;
	bool is_nop;              /* replaced, while a report was made shorter */
};

/*
 * A case in another mode than flat code is one instruction, twice (modes.c): start.rip has a 64-bit form of it, its twin,
 * for the CPU; `other` says where and how softkvm executes the form that the mode wants.
 */
enum mode { FLAT, COMPAT, COMPAT_16, PROTECTED, PROTECTED_16, VM86, REAL, MODES };
extern const char *const mode_names[MODES];

struct segment {          /* what a segment register hides */
	uint32_t base, limit;
	uint16_t selector;
	uint8_t type;
	bool db, unusable;
};

/* What the mode makes of the instruction. */
enum verdict { EXECUTED, REFUSED, AT_LIMIT /* what follows it lies beyond the limit */ };

struct other {
	enum mode mode;
	bool flat;
	enum verdict verdict;
	uint8_t vector, len;      /* REFUSED: of the fault; bytes of code */
	uint32_t ip;
	struct segment seg[6];    /* by enum x86_seg */
};

#define SPANS 2
#define PATCHES 8
#define PIECES 40

struct test_case {
	uint64_t number;
	bool is_32bit;
	bool elsewhere;               /* the host runs no such code: see insn_test.c */
	enum where layout;
	unsigned template;
	struct start start;
	struct other other;
	unsigned n_spans, n_patches, n_pieces;
	struct span span[SPANS];
	struct patch patch[PATCHES];
	struct piece piece[PIECES];
	uint8_t vectors[VECTOR_STATE] __attribute__((aligned(64)));
};

/* -- What became of it ---------------------------------------------------------------------- */

enum status {
	RAN,
	ENDLESS,       /* was stopped */
	SYSCALL,       /* asked the host's kernel for something: no case for us */
	DIED,
	UNDECIDED,     /* two faults, and the manual leaves open which comes first */
	ELSEWHERE,     /* the host has no place for the code */
	STUCK,         /* softkvm did something that has no native counterpart; `why` says what */
};

struct outcome {
	enum status status;
	uint8_t vector;
	uint32_t error;
	uint64_t cr2;
	uint64_t gpr[16];
	uint64_t rip, flags, cs, ss, fs, gs;
	uint16_t sel_ds, sel_es, sel_fs, sel_gs;
	char why[64];
	uint32_t changed;             /* pages that are not as they were, a bit each */
	uint8_t vectors[VECTOR_STATE] __attribute__((aligned(64)));
	uint8_t page[PAGES][PAGE];    /* those */
};

/* -- draw.c: cases out of numbers ------------------------------------------------------------ */

/* Same seed and number, same case, on the same CPU. */
void case_draw(struct test_case *t, uint64_t seed, uint64_t number);
/* sweep.c: the cases that are made in order. False: there is none of this number. */
bool sweep_draw(struct test_case *t, uint64_t seed, uint64_t number);
extern const uint64_t sweep_length;
/* address.c: the same, about addresses that are not canonical. */
bool address_draw(struct test_case *t, uint64_t seed, uint64_t number);
extern const uint64_t address_length;
/* modes.c: the same, in modes that have segments. */
bool mode_draw(struct test_case *t, uint64_t seed, uint64_t number);
extern const uint64_t mode_length;
/* *o, of the twin, becomes what must come of the case in its mode. */
void mode_expect(const struct test_case *t, struct outcome *o);
/* What all cases of a seed share. */
void templates_draw(uint64_t seed);
extern uint8_t templates[TEMPLATES][PAGES][PAGE];

/* The instruction of the case at an address, decoded; NULL if there is none. */
const uint8_t *case_insn(const struct test_case *t, uint64_t at, struct insn *in);

/* -- image.c: memory before a case ------------------------------------------------------------ */

struct image {
	uint8_t page[PAGES][PAGE];
	unsigned template;            /* TEMPLATES: nothing yet */
	struct test_case last;
};

void image_init(struct image *m);
/* Makes *m the memory that t starts from. */
void image_set(struct image *m, const struct test_case *t);
/* Makes memory like *m; live[i] is where page i is mapped writable. */
void image_copy(const struct image *m, uint8_t *const live[PAGES]);
/* Notes in *o what differs from *m. */
void image_compare(const struct image *m, uint8_t *const live[PAGES], struct outcome *o);

/* -- native.c ---------------------------------------------------------------------------------- */

struct native;

/* Starts the child. `room` cases can be given to it at once. NULL: why is printed. */
struct native *native_create(unsigned room);
struct test_case *native_cases(struct native *n);
struct outcome *native_outcomes(struct native *n);
/* Starts to run the first n cases of native_cases(); native_wait() waits for the end. */
void native_begin(struct native *n, unsigned count);
void native_wait(struct native *n);
void native_destroy(struct native *n);

/* What this host can do, found out by cases that need it. Under some hypervisors no selector is of
 * 32-bit code, and a GS base in the upper half is 0 for the handler of a signal. */
struct native_host {
	bool runs_32bit;
	bool keeps_bases;         /* at a switch of tasks */
	bool is_intel;
};
extern struct native_host native_host;
void native_ask(struct native *n);

/* A kernel without FSGSBASE puts FS base back to this process's own at a switch of tasks, also on the way from
 * the fault to its handler. */
bool native_lost_fs(const struct outcome *o);

/* And it loses a GS base that is an address of its own half, for 0 or what was there before. */
bool native_lost_gs(const struct outcome *o, const struct outcome *should);

/* -- guest.c ------------------------------------------------------------------------------------ */

struct guest;

/* A VM whose vCPU is made with SOFTKVM=knobs in the environment. */
struct guest *guest_create(const char *knobs);
/* warm: translations of the last run (of the same case) may be used again. */
void guest_run(struct guest *g, const struct test_case *t, bool warm, struct outcome *o);
/* Is a second run, warm, of interest? */
bool guest_is_warm_too(const struct guest *g);
const char *guest_knobs(const struct guest *g);
void guest_destroy(struct guest *g);

/* -- full.c ---------------------------------------------------------------------------------------- */

/* Leaves so much room as the number says. */
void cache_fill_up(int vcpu, uint64_t number, bool warm);

/* -- compare.c ----------------------------------------------------------------------------------- */

/* The names of fields that differ, separated by blanks; an empty string: none. exact: flags that
 * nobody reads count, too. */
void outcome_compare(const struct test_case *c, const struct outcome *native,
		     const struct outcome *guest, bool exact, char *out, size_t size);
void case_print(const struct test_case *t, const struct outcome *native,
		const struct outcome *guest, const char *differ);

/* -- vectors.c: XSAVE images ---------------------------------------------------------------------- */

struct component {
	unsigned at, len;             /* 0: the CPU does not have it */
};

extern struct component components[64];
extern uint64_t vector_features;      /* XCR0 */
extern unsigned vector_size;

bool vectors_init(void);
/* Writes init values where XSTATE_BV says so, and clears what is not state. */
void vectors_normalize(uint8_t *image);

/* -- exclude.c ------------------------------------------------------------------------------------- */

/* Why an instruction is in no case, or NULL. */
const char *excluded(const struct insn *in, bool is_32bit);
void exclusions_print(void);

/* -- coverage.c -------------------------------------------------------------------------------------- */

void coverage_add(const struct test_case *t, const struct outcome *o);
/* A line for each family; then, if wanted, its forms. */
void coverage_print(bool all);

/* -- Random numbers ------------------------------------------------------------------------------------ */

struct rng {
	uint64_t s;
};

static inline uint64_t rng_next(struct rng *r)
{
	r->s ^= r->s << 13;
	r->s ^= r->s >> 7;
	r->s ^= r->s << 17;
	return r->s * 0x2545f4914f6cdd1d;
}

static inline unsigned rng_below(struct rng *r, unsigned n)
{
	return (unsigned)((rng_next(r) >> 32) * n >> 32);
}

static inline bool rng_percent(struct rng *r, unsigned percent)
{
	return rng_below(r, 100) < percent;
}

static inline struct rng rng_for(uint64_t seed, uint64_t number)
{
	struct rng r = {seed * 0x9e3779b97f4a7c15 ^ (number + 1) * 0xd1342543de82ef95};

	if (!r.s)
		r.s = 1;
	for (int i = 0; i < 4; i++)
		rng_next(&r);
	return r;
}

#endif
