/* SPDX-License-Identifier: MIT */
/*
 * The software TLB: its views, their entries, and the note of which pages of a view's table were touched
 * (engine.h has the layout). What instructions want of it is in mmu.h; this is for who fills it.
 */
#ifndef SOFTKVM_TLB_H
#define SOFTKVM_TLB_H

#include "softkvm/engine.h"
#include "softkvm/mmu/mmu.h"

/* touched.c */
void view_touch_new(struct engine *e, struct view *v, uint64_t vpn);
void view_advise(void *table, uint64_t len);
/* All entries are 0, and their memory is the host's again. */
void view_empty(struct view *v);

/* The page number of a linear address: its bits 12 to 47. */
static inline uint64_t vpn_of(uint64_t lin)
{
	return lin << 16 >> 28;
}

static inline bool view_touched(const struct view *v, uint64_t vpn)
{
	return v->touched[vpn >> 15] >> (vpn >> 9 & 63) & 1;
}

/* The entry of this page number was read, or is to be written. May empty all views. */
static inline void view_touch(struct engine *e, struct view *v, uint64_t vpn)
{
	if (!view_touched(v, vpn))
		view_touch_new(e, v, vpn);
}

/* tlb.c */
int tlb_create(struct engine *e);
void tlb_destroy(struct engine *e);
/* Makes an entry for lin; false: not possible (fault in c->fault if *step), access in C. */
bool tlb_fill(struct vcpu *c, uint64_t lin, bool write, enum step *step);
/* Where paging is off: code is compared with its bytes before it runs again (smc.c: case 3). What its addresses lead to stays. */
void mmu_flush_code(struct vcpu *c);
void tlb_select(struct vcpu *c);
/* The view has something of this page, data or code: what INVLPG will have to know. */
void view_note(struct view *v, const struct walk *w, uint64_t lin);
void tlb_drop_writable(struct vcpu *c, struct slot *slot, uint64_t gpa);

#endif
