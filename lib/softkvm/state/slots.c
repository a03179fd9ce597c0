/* SPDX-License-Identifier: MIT */
/*
 * Memory slots: KVM_SET_USER_MEMORY_REGION and the dirty log.
 *
 *	client's mapping  hva  [--------------]
 *	engine's views    rw   [--------------]      the same pages (views.c)
 *	                  ro   [--------------]
 *	notes                  [n n n n n n n n]     one a page: who may write, who holds code
 *	dirty bitmap           [1 0 0 1 ...    ]     only while logging
 *
 * Changing slots is copy, publish, wait, free:
 *  1. a new table is built from the old one and from the request, all checks done on it;
 *  2. it is published with one store; vm_slot() sees it from now on;
 *  3. slots_changed() returns when no vCPU holds anything derived from the old one;
 *  4. what only the old one used is unmapped and freed.
 *
 * Who looks at slots or at guest memory is a vCPU's thread with engine.running set, and gives up
 * what it found when it serves its requests or clears `running`. The two sides, each with a full
 * barrier between its two accesses:
 *
 *	vCPU:   running = 1;    look at the table
 *	here:   publish it;     REQ_TLB_FLUSH; wait while that is there and running is 1
 *
 * If the vCPU saw the old table, then we see it running, and wait. KVM_RUN runs; of the other
 * requests KVM_TRANSLATE does, for its walk. Those that mean the guest's kvmclock page
 * (KVM_SET_MSRS, KVM_KVMCLOCK_CTRL, KVM_SET_CLOCK) set REQ_CLOCK, and KVM_RUN writes the page:
 * after it has served REQ_TLB_FLUSH, by a table that it then looks up.
 *
 * A slot whose flags alone change keeps views, notes and a bitmap that stays, by pointer.
 *
 * The rules are those of the kernel's API document: page alignment, no overlap (-EEXIST), a
 * slot may be moved in the guest's address space but not resized, nor its read-only flag or
 * client address changed.
 */
#include "softkvm/state/slots.h"

#include "softkvm/hooks.h"
#include "softkvm/os/space.h"
#include "softkvm/state/layers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096ull
#define FLAGS (KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)
#define SLOT_IDS 32767u /* what KVM_CAP_NR_MEMSLOTS would be for the kernel */
#define SIZE_MAX_PAGES ((1ull << 31) - 1)

static uint64_t pages(const struct slot *s)
{
	return s->size / PAGE;
}

static size_t dirty_bytes(const struct slot *s)
{
	return (pages(s) + 63) / 64 * 8;
}

/* -- parts of a slot --------------------------------------------------------------------- */

static int slot_create(struct slot *s)
{
	int rc = slot_views(s); /* first: it may have to keep addresses from being used */

	if (rc)
		return rc;
	s->note = space_create(pages(s) * sizeof(*s->note));
	return s->note ? 0 : -ENOMEM;
}

static int dirty_create(struct slot *s)
{
	s->dirty = space_create(dirty_bytes(s));
	return s->dirty ? 0 : -ENOMEM;
}

static void dirty_destroy(struct slot *s)
{
	if (s->dirty)
		munmap((void *)s->dirty, dirty_bytes(s));
	s->dirty = NULL;
}

static void slot_destroy(struct slot *s)
{
	dirty_destroy(s);
	layers_destroy(s);
	if (s->ro && s->ro != s->hva)
		slot_views_remove(s);
	if (s->note)
		munmap(s->note, pages(s) * sizeof(*s->note));
	free(s);
}

/* -- tables ------------------------------------------------------------------------------ */

static struct slot *find_id(const struct slot_table *t, uint32_t id)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->slot[i]->id == id)
			return t->slot[i];
	return NULL;
}

static bool overlaps(const struct slot_table *t, const struct slot *s)
{
	for (unsigned i = 0; i < t->n; i++)
		if (t->slot[i]->id != s->id && t->slot[i]->gpa < s->gpa + s->size &&
		    s->gpa < t->slot[i]->gpa + t->slot[i]->size)
			return true;
	return false;
}

static void table_remove(struct slot_table *t, const struct slot *s)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < t->n; i++)
		if (t->slot[i] != s)
			t->slot[kept++] = t->slot[i];
	t->n = kept;
}

/* SAFE: the caller saw that t->n < SLOTS_MAX. */
static void table_insert(struct slot_table *t, struct slot *s)
{
	unsigned at = t->n++;

	for (; at && t->slot[at - 1]->gpa > s->gpa; at--)
		t->slot[at] = t->slot[at - 1];
	t->slot[at] = s;
}

/* Replaces old (NULL: none) by new (NULL: none) in the table that everybody sees, and waits
 * until nobody depends on the old table. */
static int publish(struct vm *vm, struct slot *old, struct slot *new)
{
	struct slot_table *before = atomic_load(&vm->slots);
	struct slot_table *after = malloc(sizeof(*after));

	if (!after)
		return -ENOMEM;
	*after = *before;
	if (old)
		table_remove(after, old);
	if (new && after->n == SLOTS_MAX) {
		free(after);
		return -EINVAL;
	}
	if (new)
		table_insert(after, new);
	atomic_store_explicit(&vm->slots, after, memory_order_release);
	slots_changed(vm);
	free(before);
	return 0;
}

/* -- KVM_SET_USER_MEMORY_REGION ------------------------------------------------------------ */

static int check_region(const struct kvm_userspace_memory_region *r)
{
	if (r->flags & ~FLAGS || r->slot >= SLOT_IDS)
		return -EINVAL;
	if ((r->memory_size | r->guest_phys_addr | r->userspace_addr) & (PAGE - 1))
		return -EINVAL;
	if (r->memory_size / PAGE > SIZE_MAX_PAGES)
		return -EINVAL;
	if (r->guest_phys_addr + r->memory_size < r->guest_phys_addr ||
	    r->userspace_addr + r->memory_size < r->userspace_addr ||
	    r->guest_phys_addr + r->memory_size > 1ull << 52)
		return -EINVAL;
	if (r->userspace_addr + r->memory_size > 1ull << 47)
		return -EINVAL;
	return 0;
}

static int region_delete(struct vm *vm, struct slot *old)
{
	int rc = old ? publish(vm, old, NULL) : -EINVAL;

	if (!rc)
		slot_destroy(old);
	return rc;
}

static int region_create(struct vm *vm, struct slot *s)
{
	int rc = slot_create(s);

	if (!rc && s->flags & KVM_MEM_LOG_DIRTY_PAGES)
		rc = dirty_create(s);
	if (!rc)
		rc = publish(vm, NULL, s);
	if (rc)
		slot_destroy(s);
	return rc;
}

/* Another address or other flags: s takes over what old has, and old is emptied. */
static int region_change(struct vm *vm, struct slot *old, struct slot *s)
{
	bool logged = s->flags & KVM_MEM_LOG_DIRTY_PAGES;
	int rc = 0;

	s->rw = old->rw;
	s->ro = old->ro;
	s->note = old->note;
	s->layers = old->layers;
	s->dirty = logged ? old->dirty : NULL;
	if (logged && !s->dirty)
		rc = dirty_create(s);
	if (!rc)
		rc = publish(vm, old, s);
	if (rc) {
		if (s->dirty != old->dirty)
			dirty_destroy(s);
		free(s);
		return rc;
	}
	if (old->dirty != s->dirty)
		dirty_destroy(old);
	free(old);
	return 0;
}

int slots_set(struct vm *vm, const struct kvm_userspace_memory_region *r)
{
	struct slot_table *t = atomic_load(&vm->slots);
	struct slot *old, *s;
	int rc = check_region(r);

	if (rc)
		return rc;
	old = find_id(t, r->slot);
	if (!r->memory_size)
		return region_delete(vm, old);
	if (old && (old->size != r->memory_size || old->hva != (void *)r->userspace_addr ||
		    (old->flags ^ r->flags) & KVM_MEM_READONLY))
		return -EINVAL;
	if (old && old->gpa == r->guest_phys_addr && old->flags == r->flags)
		return 0;

	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->gpa = r->guest_phys_addr;
	s->size = r->memory_size;
	s->hva = (uint8_t *)r->userspace_addr;
	s->flags = r->flags;
	s->id = r->slot;
	if (overlaps(t, s)) {
		free(s);
		return -EEXIST;
	}
	return old ? region_change(vm, old, s) : region_create(vm, s);
}

/* -- the dirty log ------------------------------------------------------------------------- */

/*
 * Taking the log clears bits first and then makes every vCPU give up its writable entries: a
 * store through an entry that was still there went to a page whose bit the client already got,
 * and it reads that page later than now. The client's copy must be complete before vCPUs run on
 * without entries, which slots_changed() orders.
 */
int slots_dirty_get(struct vm *vm, const struct kvm_dirty_log *log)
{
	struct slot *s = find_id(atomic_load(&vm->slots), log->slot & 0xffff);
	uint64_t *out = log->dirty_bitmap;
	uint64_t any = 0;

	if (log->slot >= SLOT_IDS)
		return -EINVAL;
	if (!s || !s->dirty)
		return -ENOENT;
	for (size_t i = 0; i < dirty_bytes(s) / 8; i++) {
		out[i] = atomic_load_explicit(&s->dirty[i], memory_order_relaxed)
				 ? atomic_exchange(&s->dirty[i], 0) : 0;
		any |= out[i];
	}
	if (any)
		slots_changed(vm);
	return 0;
}

int slots_dirty_clear(struct vm *vm, const struct kvm_clear_dirty_log *log)
{
	struct slot *s = find_id(atomic_load(&vm->slots), log->slot & 0xffff);
	const uint64_t *in = log->dirty_bitmap;
	uint64_t any = 0;

	if (log->slot >= SLOT_IDS)
		return -EINVAL;
	if (!s || !s->dirty)
		return -ENOENT;
	if (log->first_page & 63 || log->first_page > pages(s) ||
	    log->num_pages > pages(s) - log->first_page ||
	    (log->num_pages & 63 && log->num_pages < pages(s) - log->first_page))
		return -EINVAL;
	for (uint64_t i = 0; i < (log->num_pages + 63) / 64; i++) {
		uint64_t was = atomic_fetch_and(&s->dirty[log->first_page / 64 + i], ~in[i]);

		any |= was & in[i];
	}
	if (any)
		slots_changed(vm);
	return 0;
}

struct slot *slots_find(struct vm *vm, uint32_t id)
{
	return find_id(atomic_load(&vm->slots), id);
}

int slots_create(struct vm *vm)
{
	struct slot_table *t = calloc(1, sizeof(*t));

	atomic_store(&vm->slots, t);
	return t ? 0 : -ENOMEM;
}

void slots_destroy(struct vm *vm)
{
	struct slot_table *t = atomic_load(&vm->slots);

	for (unsigned i = 0; t && i < t->n; i++)
		slot_destroy(t->slot[i]);
	free(t);
	atomic_store(&vm->slots, NULL);
}
