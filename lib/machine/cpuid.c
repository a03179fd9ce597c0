/* SPDX-License-Identifier: MIT */
/*
 * What CPUID says of the place that a vCPU has among the others.
 *
 * The CPU model (cpu/cpu.h) has made one table for all; only what depends on *which* processor of
 * *how many* this is gets written here. All vCPUs are cores of one package, without hyperthreads,
 * and the APIC id is the index:
 *
 *	leaf 1            initial APIC id, number of ids, HTT
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
#include "engine/kvm.h"
#include "machine/cpu/table.h"
#include "machine/vm.h"

#include <string.h>

/* Which processor this is. */
struct place {
	unsigned id, n;
	unsigned id_bits; /* an APIC id has so many */
};

static unsigned bits_for(unsigned n)
{
	unsigned bits = 0;

	while ((1u << bits) < n)
		bits++;
	return bits;
}

static void add_level(struct cpu_table *t, uint32_t leaf, uint32_t sub,
		      const struct place *p)
{
	/* level types: 1 thread, 2 core, 0 the end of the list */
	uint32_t shift = sub == 1 ? p->id_bits : 0;
	uint32_t count = sub == 0 ? 1 : sub == 1 ? p->n : 0;
	uint32_t type = sub < 2 ? sub + 1 : 0;

	cpu_table_add(t, &(struct kvm_cpuid_entry2){
		.function = leaf,
		.index = sub,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = shift,
		.ebx = count,
		.ecx = sub | type << 8,
		.edx = p->id,
	});
}

static void fix_levels(struct cpu_table *t, uint32_t leaf, const struct place *p)
{
	const struct kvm_cpuid_entry2 *basic = cpu_table_find(t, 0, 0);

	cpu_table_drop(t, leaf);
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

int vcpu_set_cpuid(struct vcpu *v, unsigned n, const struct cpu_table *model, struct err *err)
{
	const struct kvm_face *face = v->vm->face;
	struct place p = {.id = v->id, .n = n, .id_bits = bits_for(n)};
	struct cpu_table t = *model;
	int rc;

	cpu_table_drop(&t, 0x80000026);
	fix_levels(&t, 0xb, &p);
	fix_levels(&t, 0x1f, &p);
	for (unsigned i = 0; i < t.n; i++)
		fix_one(&t.entries[i], &p);
	v->phys_bits = cpu_table_phys_bits(&t);
	rc = face->ioctl(v->fd, KVM_SET_CPUID2, &t);
	if (rc < 0)
		return err_set(err, -rc, "engine '%s' refuses its own CPUID: %s",
			       face->name, strerror(-rc));
	return 0;
}
