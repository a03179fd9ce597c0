/* SPDX-License-Identifier: MIT */
/*
 * The translator's tables from inside, after an attack: the invariants that docs/why/tlb.md
 * builds its argument on.
 *
 *	an entry      plus an address of its own page is the beginning of a page of a slot, in one
 *	              of the two views; never in the writable one if the slot is ROM, if the page is
 *	              clean in the dirty log, or if a vCPU may hold translations of it
 *	a slot        (what a site predicts) looks like an entry, or is 1, which none is
 *	the view      is the supervisor's unless the CPU is in ring 3 with paging, and then that of
 *	              this CR3 and PCID
 */
#include "tests/hostile/hostile.h"

#include <stdio.h>

#include "softkvm/abi/object.h"
#include "softkvm/engine.h"
#include "softkvm/state/slots.h"

static bool in_view(const uint8_t *view, uint64_t size, uint64_t host)
{
	return host - (uint64_t)(uintptr_t)view < size;
}

/* Stores to the page go unseen. What others have asked for and was not served yet counts as done:
 * it will be before the guest goes on. Another vCPU may be just about to ask. */
static bool may_be_written(const struct vcpu *c, const struct slot *s, uint64_t page)
{
	const struct page_note *note = &s->note[page];

	if (s->flags & KVM_MEM_READONLY)
		return false;
	for (unsigned i = 0; i < 1000; i++) {
		if (c->requests & (REQ_TLB_FLUSH | REQ_MMU_SYNC))
			return true;
		if (!note->code && note->writers & vcpu_bit(c) &&
		    (!s->dirty || s->dirty[page / 64] >> (page % 64) & 1))
			return true;
		wait_us(1000);
	}
	return false;
}

static bool is_sound(const struct vcpu *c, uint64_t vpn, uint64_t addend)
{
	uint64_t lin = (uint64_t)((int64_t)(vpn << 28) >> 16), host = lin + addend;
	const struct slot_table *t = c->vm->slots;

	if (!addend)
		return true;
	if (host % PAGE)
		return false;
	for (unsigned i = 0; i < t->n; i++) {
		const struct slot *s = t->slot[i];

		if (in_view(s->rw, s->size, host))
			return !(host & SLOT_VIEW_RO) &&
			       may_be_written(c, s, (host - (uintptr_t)s->rw) / PAGE);
		if (in_view(s->ro, s->size, host))
			return host & SLOT_VIEW_RO;
	}
	return false;
}

static bool check_log(const struct vcpu *c, const struct view *v, const uint64_t *log, uint32_t n)
{
	for (uint32_t i = 0; i < n && n < VIEW_LOG; i++)
		if (log[i] >= VIEW_ENTRIES || !is_sound(c, log[i], v->table[log[i]])) {
			printf("# entry %llx is %llx\n", (unsigned long long)log[i],
			       (unsigned long long)v->table[log[i] % VIEW_ENTRIES]);
			return false;
		}
	return true;
}

static bool check_view(const struct vcpu *c, const struct view *v)
{
	return check_log(c, v, v->log, v->n_log) && check_log(c, v, v->global_log, v->n_global);
}

static bool is_right_view(const struct vcpu *c)
{
	const struct engine *e = c->engine;
	bool user = c->cpl == 3 && c->cr0 & CR0_PG;
	uint32_t pcid = c->cr4 & CR4_PCIDE ? c->cr3 & 0xfff : 0;

	if (!e->view || (!user && e->view == &e->kernel))
		return true;
	if (user && e->view != &e->kernel && e->view->valid &&
	    e->view->cr3 == (c->cr3 & ~0xfffull) && e->view->pcid == pcid)
		return true;
	printf("# a view of another privilege or address space\n");
	return false;
}

bool entries_sound(struct enemy *enemy, int n)
{
	struct object *o = object_get(enemy->cpu[n].fd);
	const struct engine *e = o->vcpu->engine;
	bool fine = is_right_view(o->vcpu) && check_view(o->vcpu, &e->kernel);

	for (unsigned i = 0; i < USER_VIEWS; i++)
		fine = fine && check_view(o->vcpu, &e->user[i]);
	object_put(o);
	return fine;
}

bool tables_sound(struct enemy *enemy, int n)
{
	struct object *o = object_get(enemy->cpu[n].fd);
	struct engine *e = o->vcpu->engine;
	bool fine = entries_sound(enemy, n) && code_sound(e);

	for (uint32_t i = 1; i < e->n_slots && fine; i++)
		if (e->slots[i] % PAGE && e->slots[i] != 1) {
			printf("# a site predicts %llx\n", (unsigned long long)e->slots[i]);
			fine = false;
		}
	object_put(o);
	return fine;
}
