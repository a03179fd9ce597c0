/* SPDX-License-Identifier: MIT */
/*
 * The code cache: its blocks, the ways into them, and when they are stale.
 *
 *	uint64_t host = dispatch(c);  // the block for c->rip, translated if there is none
 *
 *	translated_run(c, host);      // until something is C's to do: e->leave
 *
 * The vCPU's thread, guest vector state live; what the parts below may call of it is in hooks.h.
 */
#ifndef SOFTKVM_CODE_H
#define SOFTKVM_CODE_H

#include "softkvm/engine.h"
#include "softkvm/hooks.h"

/* cache.c */
int cache_create(struct engine *e);
void cache_destroy(struct engine *e);
void cache_flush(struct engine *e);
struct block *block_find(struct engine *e, const struct code_page *p, uint16_t at, uint16_t mode);
void block_add(struct engine *e, struct block *b);
void block_drop(struct engine *e, struct block *b);
struct code_page *page_find(struct engine *e, uint64_t gpa);
struct code_page *page_get(struct engine *e, uint64_t gpa, uint8_t *hva);
void exit_chain(struct engine *e, struct exit_rec *x, struct block *to);
struct region *region_at(struct engine *e, uint32_t offset);
struct block *block_at_host(struct engine *e, uint32_t offset);
/* The same where there must be one: else this process ends. */
struct block *block_here(struct engine *e, uint32_t offset);
unsigned insn_at_host(const struct engine *e, const struct block *b, uint32_t offset);

/* dispatch.c: the way from C into translated code */
/* Finds or translates; NULL: *step says what happened, STEP_OK: C must execute what is there. */
enum variant { PLAIN_BLOCK, GATE_BLOCK /* if it is made, with an entry for indirect jumps */,
	       SINGLE_BLOCK /* MODE_SINGLE */ };
struct block *block_get(struct vcpu *c, uint64_t rip, enum variant which, enum step *step);
uint64_t dispatch(struct vcpu *c);  /* host address for c->rip, or the leave thunk */
uint64_t dispatch_single(struct vcpu *c); /* the same, of a SINGLE_BLOCK */
uint64_t dispatch_gate(struct vcpu *c);   /* the same, by the jump cache: rip is one of few */
/* The same for an indirect jump to c->rip: flags are in vcpu.arith, and the jump caches learn it. */
uint64_t dispatch_jump(struct vcpu *c);
/* The leave thunk, with the reason; STEP_OK: C must execute what is at rip. */
uint64_t dispatch_leave(struct engine *e, enum step why);

/* translate.c */
/* `next`: the linear address that follows the page is in it, NULL: nobody knows. */
struct block *translate(struct engine *e, struct code_page *page, struct code_page *next,
			uint16_t at, uint16_t mode, bool gate);

/* gates.c */
/* Its offset; 0: the cache is full, do without (the next translation flushes it). */
uint32_t entry_get(struct engine *e, struct block *b, enum entry which);

/* thunks.c */
void thunks_emit(struct engine *e);
void translated_run(struct vcpu *c, uint64_t host);
void flags_to_memory(struct vcpu *c);   /* rflags -> vcpu.arith, before going to translated code */
void flags_from_memory(struct vcpu *c); /* back */

/* smc.c */
void code_requests(struct vcpu *c, uint32_t requests); /* REQ_CODE, REQ_MMU_SYNC */
void post_changes(struct vcpu *c);
void page_claim_code(struct vcpu *c, struct slot *slot, uint64_t gpa);
void page_drop_blocks(struct engine *e, struct code_page *p, uint16_t from, uint16_t to);
void page_check(struct engine *e, struct code_page *p);

#endif
