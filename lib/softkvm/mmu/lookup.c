/* SPDX-License-Identifier: MIT */
/*
 * Which slot holds a guest-physical address: what every walk of the page tables and every fill
 * of the TLB asks, so it takes no lock.
 *
 * The table is sorted by address and its slots do not overlap (state/slots.c sees to that), so
 * the last slot that begins at or below the address is the only candidate. It may be read
 * without a lock because a published table never changes, and a thread that read the pointer
 * may use table and slots until it next looks at its requests: slots_changed() waits for that.
 */
#include "softkvm/vcpu.h"

#include <stddef.h>

struct slot *vm_slot(struct vm *vm, uint64_t gpa)
{
	struct slot_table *t = atomic_load_explicit(&vm->slots, memory_order_acquire);
	unsigned low = 0, high = t->n;

	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (t->slot[mid]->gpa <= gpa)
			low = mid + 1;
		else
			high = mid;
	}
	if (!low)
		return NULL;
	return gpa - t->slot[low - 1]->gpa < t->slot[low - 1]->size ? t->slot[low - 1] : NULL;
}
