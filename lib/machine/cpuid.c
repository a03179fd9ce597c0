/* SPDX-License-Identifier: MIT */
/*
 * What CPUID says inside the guest.
 *
 * The engine offers what it can do (KVM_GET_SUPPORTED_CPUID); that list is taken as it is,
 * and only what depends on *which* processor of *how many* this is gets written here. All
 * vCPUs are cores of one package, without hyperthreads, and the APIC id is the index:
 *
 *	leaf 1            initial APIC id, number of ids, HTT, hypervisor, TSC deadline
 *	leaf 4            cores in the package (Intel)
 *	leaf 0xb, 0x1f    the levels: one thread a core, n cores
 *	leaf 0x80000008   cores in the package (AMD)
 *	leaf 0x8000001d   how many share a cache (AMD)
 *	leaf 0x8000001e   APIC id, core id, node (AMD)
 *
 * Some leaves have many subleaves of which the engine listed those of the *host's*
 * processor, so the topology leaves are taken out and written anew.
 */
#include "machine/vcpu.h"

#include "base/err.h"
#include "base/macros.h"
#include "engine/kvm.h"
#include "machine/vm.h"

#include <errno.h>
#include <string.h>

#define ENTRIES_MAX 256

union table {
	struct kvm_cpuid2 head; /* with its entries behind it */
	uint8_t room[sizeof(struct kvm_cpuid2) +
		     ENTRIES_MAX * sizeof(struct kvm_cpuid_entry2)];
};

/* Which processor this is. */
struct place {
	unsigned id, n;
	unsigned id_bits; /* an APIC id has so many */
	bool deadline;    /* the engine has the TSC-deadline timer */
};

static unsigned bits_for(unsigned n)
{
	unsigned bits = 0;

	while ((1u << bits) < n)
		bits++;
	return bits;
}

static struct kvm_cpuid_entry2 *find(union table *t, uint32_t leaf)
{
	for (unsigned i = 0; i < t->head.nent; i++)
		if (t->head.entries[i].function == leaf)
			return &t->head.entries[i];
	return NULL;
}

static void drop(union table *t, uint32_t leaf)
{
	unsigned n = 0;

	for (unsigned i = 0; i < t->head.nent; i++)
		if (t->head.entries[i].function != leaf)
			t->head.entries[n++] = t->head.entries[i];
	t->head.nent = n;
}

static void add_level(union table *t, uint32_t leaf, uint32_t sub,
		      const struct place *p)
{
	/* level types: 1 thread, 2 core, 0 the end of the list */
	uint32_t shift = sub == 1 ? p->id_bits : 0;
	uint32_t count = sub == 0 ? 1 : sub == 1 ? p->n : 0;
	uint32_t type = sub < 2 ? sub + 1 : 0;

	if (t->head.nent < ENTRIES_MAX)
		t->head.entries[t->head.nent++] = (struct kvm_cpuid_entry2){
			.function = leaf,
			.index = sub,
			.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.eax = shift,
			.ebx = count,
			.ecx = sub | type << 8,
			.edx = p->id,
		};
}

static void fix_levels(union table *t, uint32_t leaf, const struct place *p)
{
	struct kvm_cpuid_entry2 *basic = find(t, 0);

	drop(t, leaf);
	if (!basic || basic->eax < leaf)
		return;
	for (uint32_t sub = 0; sub < 3; sub++)
		add_level(t, leaf, sub, p);
}

static void fix_one(struct kvm_cpuid_entry2 *e, const struct place *p)
{
	switch (e->function) {
	case 1:
		e->ebx = (e->ebx & 0x0000ffff) | (1u << p->id_bits) << 16 | p->id << 24;
		e->edx = (e->edx & ~(1u << 28)) | (p->n > 1 ? 1u << 28 : 0);
		e->ecx |= 1u << 31;
		if (p->deadline)
			e->ecx |= 1u << 24;
		break;
	case 4:
		e->eax &= 0x3fff; /* sharing and core counts away */
		if ((e->eax & 0x1f) != 0)
			e->eax |= ((1u << p->id_bits) - 1) << 26;
		if ((e->eax >> 5 & 7) == 3) /* the last level is everybody's */
			e->eax |= ((1u << p->id_bits) - 1) << 14;
		break;
	case 0x80000008:
		e->ecx = (e->ecx & ~0xf0ffu) | (p->n - 1) | p->id_bits << 12;
		break;
	case 0x8000001d:
		e->eax &= ~(0xfffu << 14);
		if ((e->eax >> 5 & 7) == 3)
			e->eax |= (p->n - 1) << 14;
		break;
	case 0x8000001e:
		e->eax = p->id;
		e->ebx = (e->ebx & ~0xffffu) | (p->id & 0xff); /* one thread a core */
		e->ecx = 0;                                    /* one node */
		break;
	}
}

static int get_supported(const struct vm *vm, union table *t, struct err *err)
{
	int rc;

	memset(t, 0, sizeof(*t));
	t->head.nent = ENTRIES_MAX;
	rc = vm->face->ioctl(vm->sys, KVM_GET_SUPPORTED_CPUID, t);
	if (rc >= 0 && t->head.nent > ENTRIES_MAX)
		rc = -E2BIG;
	if (rc < 0)
		return err_set(err, -rc,
			       "engine '%s' does not say what its CPU can do: %s",
			       vm->face->name, strerror(-rc));
	return 0;
}

static unsigned phys_bits(union table *t)
{
	const struct kvm_cpuid_entry2 *e = find(t, 0x80000008);
	unsigned bits = e ? e->eax & 0xff : 0;

	return bits >= 32 && bits <= 52 ? bits : 36; /* what it is where CPUID does not say */
}

int vcpu_set_cpuid(struct vcpu *v, unsigned n, struct err *err)
{
	const struct kvm_face *face = v->vm->face;
	struct place p = {
		.id = v->id,
		.n = n,
		.id_bits = bits_for(n),
		.deadline = kvm_has(face, v->vm->fd, KVM_CAP_TSC_DEADLINE_TIMER) > 0,
	};
	union table t;
	int rc = get_supported(v->vm, &t, err);

	if (rc < 0)
		return rc;
	drop(&t, 0x80000026);
	fix_levels(&t, 0xb, &p);
	fix_levels(&t, 0x1f, &p);
	for (unsigned i = 0; i < t.head.nent; i++)
		fix_one(&t.head.entries[i], &p);
	v->phys_bits = phys_bits(&t);
	rc = face->ioctl(v->fd, KVM_SET_CPUID2, &t);
	if (rc < 0)
		return err_set(err, -rc, "engine '%s' refuses its own CPUID: %s",
			       face->name, strerror(-rc));
	return 0;
}
