/* SPDX-License-Identifier: MIT */
/*
 * The translator's tables from inside, after an attack: the invariants that docs/why/tlb.md
 * builds its argument on.
 *
 *	an entry      plus an address of its own page is the beginning of a page of a slot, in one
 *	              of the two views; never in the writable one if the slot is ROM
 *	a slot        (what a site predicts) looks like an entry, or is 1, which none is
 *	jump cache    leads into the code cache
 *	the view      is the supervisor's unless the CPU is in ring 3 with paging, and then that of
 *	              this CR3
 */
#include "tests/hostile/hostile.h"

#include <stdio.h>

#include "softkvm/abi/object.h"
#include "softkvm/state/slots.h"
#include "softkvm/translate/engine.h"

static bool in_view(const uint8_t *view, uint64_t size, uint64_t host)
{
	return host - (uint64_t)(uintptr_t)view < size;
}

static bool is_sound(const struct vm *vm, uint64_t vpn, uint64_t addend)
{
	uint64_t lin = (uint64_t)((int64_t)(vpn << 28) >> 16), host = lin + addend;
	const struct slot_table *t = vm->slots;

	if (!addend)
		return true;
	if (host % PAGE)
		return false;
	for (unsigned i = 0; i < t->n; i++) {
		const struct slot *s = t->slot[i];

		if (in_view(s->rw, s->size, host))
			return !(s->flags & KVM_MEM_READONLY) && !(host & SLOT_VIEW_RO);
		if (in_view(s->ro, s->size, host))
			return host & SLOT_VIEW_RO;
	}
	return false;
}

static bool check_log(const struct vm *vm, const struct view *v, const uint64_t *log, uint32_t n)
{
	for (uint32_t i = 0; i < n && n < VIEW_LOG; i++)
		if (log[i] >= VIEW_ENTRIES || !is_sound(vm, log[i], v->table[log[i]])) {
			printf("# entry %llx is %llx\n", (unsigned long long)log[i],
			       (unsigned long long)v->table[log[i] % VIEW_ENTRIES]);
			return false;
		}
	return true;
}

static bool check_view(const struct vm *vm, const struct engine *e, const struct view *v)
{
	for (unsigned i = 0; v->jc_tag[0] && i < JC_SIZE; i++) /* else never selected */
		if (v->jc_code[i] - code_addr(e, 0) >= CODE_SIZE) {
			printf("# a jump cache leads to %llx\n", (unsigned long long)v->jc_code[i]);
			return false;
		}
	return check_log(vm, v, v->log, v->n_log) &&
	       check_log(vm, v, v->global_log, v->n_global);
}

static bool is_right_view(const struct vcpu *c)
{
	const struct engine *e = c->engine;
	bool user = c->cpl == 3 && c->cr0 & CR0_PG;

	if (!e->view || (!user && e->view == &e->kernel))
		return true;
	if (user && e->view != &e->kernel && e->view->valid &&
	    e->view->cr3 == (c->cr3 & ~0xfffull))
		return true;
	printf("# a view of another privilege or address space\n");
	return false;
}

bool tables_sound(struct enemy *enemy, int n)
{
	struct object *o = object_get(enemy->cpu[n].fd);
	const struct engine *e = o->vcpu->engine;
	bool fine = is_right_view(o->vcpu) && check_view(o->vm, e, &e->kernel);

	for (unsigned i = 0; i < USER_VIEWS; i++)
		fine = fine && check_view(o->vm, e, &e->user[i]);
	for (uint32_t i = 1; i < e->n_slots && fine; i++)
		if (e->slots[i] % PAGE && e->slots[i] != 1) {
			printf("# a site predicts %llx\n", (unsigned long long)e->slots[i]);
			fine = false;
		}
	object_put(o);
	return fine;
}
