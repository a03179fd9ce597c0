/* SPDX-License-Identifier: MIT */
/*
 * The client's side of layers: it adds one, and takes pages out of them before it touches them itself.
 *
 * A layer is added while no vCPU runs, so that memory has one content at any time; and all vCPUs forget
 * what they derived from the slot.
 */
#include "softkvm/state/layers.h"

#include "softkvm/engine.h"
#include "softkvm/hooks.h"
#include "softkvm/mmu/mmu.h"
#include "softkvm/os/space.h"
#include "softkvm/state/slots.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

static uint64_t pages_of(const struct slot *s)
{
	return s->size / 4096;
}

static bool anybody_runs(struct vm *vm)
{
	int n = atomic_load(&vm->n_vcpus);

	for (int i = 0; i < n; i++)
		if (vm->vcpu[i]->engine && atomic_load(&vm->vcpu[i]->engine->running))
			return true;
	return false;
}

static struct slot_layers *create(const struct slot *s)
{
	struct slot_layers *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->page = space_create(pages_of(s));
	if (l->page)
		return l;
	free(l);
	return NULL;
}

/* The pages that are the slot's own, and named, are the layer's from now on. */
static void give(struct slot *s, const uint64_t *pages, uint8_t layer)
{
	for (uint64_t i = 0; i < pages_of(s); i++)
		if (pages[i / 64] >> (i % 64) & 1 && !s->layers->page[i])
			s->layers->page[i] = layer;
}

/* Blocks of code are compared with their bytes when they are entered again; until then their pages have to be found
 * anew, which the flush sees to. */
int layers_add(struct vm *vm, uint32_t id, const void *at, const uint64_t *pages)
{
	struct slot *s = slots_find(vm, id);
	struct slot_layers *l;
	const uint8_t *base;

	if (!s || (uintptr_t)at & 4095)
		return -EINVAL;
	if (s->ro == s->hva || s->flags & KVM_MEM_READONLY)
		return -EOPNOTSUPP;
	if (anybody_runs(vm))
		return -EBUSY;
	l = s->layers ? s->layers : create(s);
	if (!l)
		return -ENOMEM;
	if (l->n == LAYERS_MAX)
		return -ENOSPC;
	base = base_view(at, s->size);
	if (!base) {
		if (!s->layers) {
			munmap((void *)l->page, pages_of(s));
			free(l);
		}
		return -EINVAL;
	}
	l->base[++l->n] = base;
	s->layers = l;
	give(s, pages, (uint8_t)l->n);
	slots_changed(vm);
	return 0;
}

int layers_take(struct vm *vm, uint64_t gpa, uint64_t len)
{
	uint64_t end = gpa + len;

	if (end < gpa)
		return -EFAULT;
	for (uint64_t at = gpa & ~4095ull; at < end; at += 4096) {
		struct slot *s = vm_slot(vm, at);

		if (!s)
			return -EFAULT;
		if (s->layers && !page_move(vm, NULL, s, at))
			return -EFAULT;
	}
	return 0;
}

int layers_get(struct vm *vm, uint32_t id, uint8_t *page)
{
	const struct slot *s = slots_find(vm, id);

	if (!s)
		return -EINVAL;
	for (uint64_t i = 0; i < pages_of(s); i++)
		page[i] = s->layers ? atomic_load(&s->layers->page[i]) & ~LAYER_MOVING : 0;
	return 0;
}

void layers_destroy(struct slot *s)
{
	if (!s->layers)
		return;
	for (unsigned i = 1; i <= s->layers->n; i++)
		base_view_remove(s->layers->base[i], s->size);
	munmap((void *)s->layers->page, pages_of(s));
	free(s->layers);
	s->layers = NULL;
}
