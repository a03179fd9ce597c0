/* SPDX-License-Identifier: MIT */
/*
 * Pages whose content is not yet the slot's own (state/layers.h): where their bytes are, and how a page
 * gets a copy of its own.
 *
 *	page's layer    n            n | MOVING                    0
 *	                base[n]      base[n], and being copied     the slot's own memory
 *	                read by      read by who had found it so   read and written
 *	                everybody
 *
 * A page moves once, when somebody is about to write it:
 *
 *  1. n becomes n | MOVING by compare-and-exchange, so one does it; others who want to write wait.
 *  2. The bytes are copied.
 *  3. Every vCPU that may have a TLB entry, or a code page, that leads to base[n] gives it up. One that is not
 *     in KVM_RUN is not waited for: it does so before it runs again, when the layer is perhaps 0 already.
 *  4. The layer becomes 0, and from here on the page can be written.
 *
 * Nobody sees an older value after a newer one: until 4 there is only one value, and after 3 only those
 * read the base who have looked at the layer before 4 and read at once, as if they had read then.
 *
 * Who enters base[n] into its TLB says so in page_note.writers first and looks at the layer again then;
 * who moves a page marks it first and looks at writers then. So one of them sees the other. (A page that
 * is not the slot's own has no writers in the other sense.) The notes of entries, by which a vCPU finds its
 * own quickly, are the same as well (tlb.c).
 */
#include "softkvm/mmu/mmu.h"

#include "softkvm/mmu/guarded.h"

static _Atomic uint8_t *layer_of(const struct slot *slot, uint64_t gpa)
{
	return &slot->layers->page[(gpa - slot->gpa) >> 12];
}

/* Step 2. */
static bool copy(const struct slot *slot, uint64_t gpa, unsigned n)
{
	uint64_t at = (gpa - slot->gpa) & ~4095ull;

	return guarded_copy(slot->rw + at, slot->layers->base[n] + at, 4096);
}

bool page_move(struct vm *vm, struct vcpu *c, struct slot *slot, uint64_t gpa)
{
	_Atomic uint8_t *layer = layer_of(slot, gpa);
	uint8_t n = atomic_load(layer);
	unsigned turn = 0;

	for (;;) {
		if (!n)
			return true;
		if (!(n & LAYER_MOVING)) {
			if (atomic_compare_exchange_strong(layer, &n, n | LAYER_MOVING))
				break;
			continue;
		}
		sync_turn(c, turn++);
		n = atomic_load(layer);
	}
	if (!copy(slot, gpa, n)) {
		atomic_store(layer, n);
		return false;
	}
	sync_readers(vm, c, slot, gpa & ~4095ull);
	atomic_store(layer, 0);
	if (c)
		c->stat.moved_pages++;
	return true;
}

uint8_t *slot_to_write(struct vm *vm, struct vcpu *c, struct slot *slot, uint64_t gpa)
{
	if (slot->layers && !page_move(vm, c, slot, gpa))
		return NULL;
	return slot->rw + (gpa - slot->gpa);
}

uint8_t *slot_to_keep(struct vcpu *c, struct slot *slot, uint64_t gpa)
{
	uint8_t n;

	if (!slot->layers)
		return slot->rw + (gpa - slot->gpa);
	atomic_fetch_or(&slot->note[(gpa - slot->gpa) >> 12].writers, vcpu_bit(c));
	n = atomic_load(layer_of(slot, gpa));
	if (n & LAYER_MOVING)
		return slot_to_write(c->vm, c, slot, gpa);
	/* SAFE: nobody writes through it: its address says so (SLOT_VIEW_RO). */
	return (n ? (uint8_t *)(uintptr_t)slot->layers->base[n] : slot->rw) + (gpa - slot->gpa);
}
