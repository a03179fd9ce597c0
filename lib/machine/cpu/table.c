/* SPDX-License-Identifier: MIT */
/* Tables of CPUID leaves: asked for, searched, changed. */
#include "machine/cpu/table.h"

#include "base/err.h"
#include "engine/kvm.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

_Static_assert(offsetof(struct cpu_table, entries) == offsetof(struct kvm_cpuid2, entries),
	       "struct cpu_table is the kernel's");

struct kvm_cpuid_entry2 *cpu_table_find(const struct cpu_table *t, uint32_t leaf, uint32_t sub)
{
	for (unsigned i = 0; i < t->n; i++) {
		const struct kvm_cpuid_entry2 *e = &t->entries[i];

		if (e->function == leaf &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == sub))
			return (struct kvm_cpuid_entry2 *)e;
	}
	return NULL;
}

uint32_t *cpu_table_reg(struct kvm_cpuid_entry2 *e, unsigned reg)
{
	uint32_t *regs[] = {&e->eax, &e->ebx, &e->ecx, &e->edx};

	return regs[reg];
}

void cpu_table_drop(struct cpu_table *t, uint32_t leaf)
{
	unsigned n = 0;

	for (unsigned i = 0; i < t->n; i++)
		if (t->entries[i].function != leaf)
			t->entries[n++] = t->entries[i];
	t->n = n;
}

void cpu_table_add(struct cpu_table *t, const struct kvm_cpuid_entry2 *e)
{
	if (t->n < CPU_TABLE_ENTRIES)
		t->entries[t->n++] = *e;
}

struct cpu_set cpu_table_features(const struct cpu_table *t)
{
	struct cpu_set s = {0};

	for (unsigned i = 0; i < CPU_FEATURES; i++) {
		const struct cpu_feature *f = &cpu_features[i];
		struct kvm_cpuid_entry2 *e = cpu_table_find(t, f->leaf, f->sub);

		if (e && *cpu_table_reg(e, f->reg) >> f->bit & 1)
			cpu_set_add(&s, i);
	}
	return s;
}

void cpu_table_put(struct cpu_table *t, const struct cpu_feature *f, bool value)
{
	struct kvm_cpuid_entry2 *e = cpu_table_find(t, f->leaf, f->sub);
	uint32_t bit = 1u << f->bit;

	if (e && value)
		*cpu_table_reg(e, f->reg) |= bit;
	else if (e)
		*cpu_table_reg(e, f->reg) &= ~bit;
}

bool cpu_table_is_amd(const struct cpu_table *t)
{
	const struct kvm_cpuid_entry2 *e = cpu_table_find(t, 0, 0);

	return e && cpu_is_amd(e->ebx);
}

unsigned cpu_table_phys_bits(const struct cpu_table *t)
{
	const struct kvm_cpuid_entry2 *e = cpu_table_find(t, 0x80000008, 0);
	unsigned bits = e ? e->eax & 0xff : 0;

	return bits >= 32 && bits <= 52 ? bits : 36; /* what it is where CPUID does not say */
}

void cpu_table_limit_phys_bits(struct cpu_table *t, unsigned bits)
{
	struct kvm_cpuid_entry2 *e = cpu_table_find(t, 0x80000008, 0);

	if (e && (e->eax & 0xff) > bits)
		e->eax = (e->eax & ~0xffu) | bits;
}

int cpu_table_offered(const struct kvm_face *face, int sys, struct cpu_table *t, struct err *err)
{
	struct kvm_cpuid_entry2 *one;
	int rc;

	memset(t, 0, sizeof(*t));
	t->n = CPU_TABLE_ENTRIES;
	rc = face->ioctl(sys, KVM_GET_SUPPORTED_CPUID, t);
	if (rc >= 0 && t->n > CPU_TABLE_ENTRIES)
		rc = -E2BIG;
	if (rc < 0)
		return err_set(err, -rc, "engine '%s' does not say what its CPU can do: %s",
			       face->name, strerror(-rc));
	one = cpu_table_find(t, 1, 0);
	if (one) {
		one->ecx |= 1u << 31; /* a hypervisor */
		if (kvm_has(face, sys, KVM_CAP_TSC_DEADLINE_TIMER) > 0)
			one->ecx |= 1u << 24;
	}
	return 0;
}
