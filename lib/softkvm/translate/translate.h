/* SPDX-License-Identifier: MIT */
/*
 * A translation under way: what scan, liveness and lowering share.
 */
#ifndef SOFTKVM_TRANSLATE_H
#define SOFTKVM_TRANSLATE_H

#include "softkvm/translate/emit.h"

#define NONE (~0u)

/* Conditional jumps inside a block before it ends at the next one. */
#define BLOCK_JCCS 2

struct stub {             /* the out-of-line part of an access site */
	uint32_t jcc;     /* the rel32 field that leads to it */
	uint32_t crossing, read_only; /* others, 0: none; read_only has S2 added to S1 */
	uint32_t site;
};

struct access {           /* memory at base + disp */
	uint8_t base;
	bool write;
	uint16_t size;    /* 0: none */
	int32_t disp;
};

struct effect {           /* what an instruction means to groups of accesses (group.c) */
	struct access access;
	uint16_t lost;    /* general registers that it changes, a bit each; but to one ... */
	uint8_t moved;    /* ... it adds a constant: */
	bool leaves;      /* control may leave the block here */
	int64_t by;
};

struct group {            /* accesses that share a check */
	bool write, parked;
	uint8_t base;
	uint16_t len;
	int last;         /* its last member */
	int64_t lo;       /* what is in CB, or parked, is the host address of base + lo */
};
enum group_role { GROUP_NONE, GROUP_LEADER, GROUP_MEMBER };

struct tr {
	struct as a;        /* the block's code, */
	struct as s;        /* and its stubs */
	struct region *region;
	struct engine *e;
	struct code_page *page, *next;
	uint16_t at, end;   /* offsets in the page: first byte, after the last */
	uint16_t mode;
	bool cut;           /* the last instruction goes on in the next page */
	bool loops;         /* it jumps to its own beginning */
	int n_leaving;      /* instructions that leave it on a condition */
	uint8_t over;       /* bytes that the only instruction has there */
	bool ended;         /* the last instruction left the block by itself */
	uint32_t index;     /* the block's number */
	uint32_t gate;      /* its entry for indirect jumps, if that stands before it */
	uint32_t main;      /* its code's beginning */
	uint32_t counter;   /* slot, with option `profile` */
	uint32_t poll, poll_jcc; /* the poll before it, if the block is a loop */
	int n;
	struct insn in[BLOCK_INSNS];
	bool is_inline[BLOCK_INSNS]; /* can_inline() */
	struct effect effect[BLOCK_INSNS];
	uint8_t code[BLOCK_INSNS * 15 + 80]; /* the guest's bytes from `at` on */
	uint16_t start[BLOCK_INSNS];
	uint16_t before[BLOCK_INSNS], after[BLOCK_INSNS]; /* live flags */
	struct insn_map *map; /* in engine.map */
	enum flags_at flags, flags_then; /* now; before the instruction's own operation */
	struct place place; /* of the access that was reached last */
	bool cold;          /* checks are calls: enum access_bits */
	struct group group[GROUPS];
	unsigned live;      /* the groups that are under way, a bit each */
	struct group *in_cb; /* whose address is in CB; maybe of none that is live */
	struct stub stub[BLOCK_INSNS * 3];
	int n_stubs;
};

/* Emits one guest instruction (lower.c). */
void lower(struct tr *t, int i);
/* Has it host code of its own in this mode? Else C executes it. */
bool can_inline(const struct tr *t, const struct insn *in);
/* To be called for each instruction, before the next two. */
void group_effect(const struct insn *in, struct effect *e);
/* How instruction i's access is checked, and its group. */
enum group_role group_role(struct tr *t, int i, struct group **g);
void groups_end(struct tr *t);
/* To be called after each instruction. */
void group_after(struct tr *t, int i);

/* Emits the interpretation of whatever is at the block's beginning. */
void lower_step(struct tr *t);
/* Emits a jump to the first byte of the next page. */
void lower_next_page(struct tr *t);

/* report.c: with options dump and profile. */
void dump_block(struct tr *t, const struct block *b);
void profile_report(const struct engine *e);

/* A direct exit to an offset in the same page. */
void tr_exit_jcc(struct tr *t, unsigned cc, uint16_t target);
void tr_exit_jmp(struct tr *t, uint16_t target);

/* ahead.c: what the next block may need of memory. */
void translate_ahead(struct engine *e);

#endif
