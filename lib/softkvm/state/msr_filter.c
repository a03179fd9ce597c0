/* SPDX-License-Identifier: MIT */
/*
 * MSRs that the client keeps from its guest (KVM_X86_SET_MSR_FILTER): ranges with a bit for each register, set
 * for those that are allowed, and what holds for all others. The first range that is for this kind of access decides.
 *
 * vCPUs read a filter while they run; a new one takes its place as a whole, and the old one ends when they have all
 * been at a point where they use none (slots_changed()). x2APIC's registers are never filtered.
 * Source: the kernel's KVM API document.
 */
#include "softkvm/state/msr_filter.h"

#include "softkvm/hooks.h"
#include "softkvm/state/msr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct msr_filter {
	bool allow; /* what is in no range */
	unsigned n;
	struct {
		uint32_t flags, base, n;
		uint8_t bits[KVM_MSR_FILTER_MAX_BITMAP_SIZE];
	} range[KVM_MSR_FILTER_MAX_RANGES];
};

bool msr_filter_allows(struct vm *vm, uint32_t msr, uint32_t kind)
{
	const struct msr_filter *f = atomic_load_explicit(&vm->msr_filter, memory_order_acquire);

	if (!f || (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST))
		return true;
	for (unsigned i = 0; i < f->n; i++) {
		uint32_t bit = msr - f->range[i].base;

		if (msr >= f->range[i].base && bit < f->range[i].n && f->range[i].flags & kind)
			return f->range[i].bits[bit / 8] >> (bit % 8) & 1;
	}
	return f->allow;
}

static int filter_range(struct msr_filter *f, const struct kvm_msr_filter_range *r)
{
	size_t bytes = ((size_t)r->nmsrs + 63) / 64 * 8;

	if (!r->nmsrs)
		return 0;
	if (r->flags & ~(KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE) || !r->flags)
		return -EINVAL;
	if (bytes > sizeof(f->range[0].bits))
		return -EINVAL;
	f->range[f->n].flags = r->flags;
	f->range[f->n].base = r->base;
	f->range[f->n].n = r->nmsrs;
	memcpy(f->range[f->n].bits, r->bitmap, bytes);
	f->n++;
	return 0;
}

static int filter_fill(struct msr_filter *f, const struct kvm_msr_filter *args)
{
	int rc = 0;

	if (args->flags & ~KVM_MSR_FILTER_DEFAULT_DENY)
		return -EINVAL;
	f->allow = !(args->flags & KVM_MSR_FILTER_DEFAULT_DENY);
	for (unsigned i = 0; i < KVM_MSR_FILTER_MAX_RANGES && !rc; i++)
		rc = filter_range(f, &args->ranges[i]);
	return !rc && !f->n && !f->allow ? -EINVAL : rc; /* a guest without any */
}

int msr_filter_set(struct vm *vm, const struct kvm_msr_filter *args)
{
	struct msr_filter *f = calloc(1, sizeof(*f)), *old;
	int rc = f ? filter_fill(f, args) : -ENOMEM;

	if (rc) {
		free(f);
		return rc;
	}
	old = atomic_exchange(&vm->msr_filter, f);
	slots_changed(vm);
	free(old);
	return 0;
}

void msr_filter_destroy(struct vm *vm)
{
	free(vm->msr_filter);
}
