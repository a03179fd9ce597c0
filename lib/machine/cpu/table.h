/* SPDX-License-Identifier: MIT */
/*
 * A table of CPUID leaves, as KVM_GET_SUPPORTED_CPUID gives it and KVM_SET_CPUID2 takes it.
 *
 *	struct cpu_table t;
 *	struct kvm_cpuid_entry2 *e;
 *
 *	rc = cpu_table_offered(face, sys, &t, &err);
 *	e = cpu_table_find(&t, 7, 0);
 */
#ifndef MACHINE_CPU_TABLE_H
#define MACHINE_CPU_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm.h>

#include "x86/feature.h"

#define CPU_TABLE_ENTRIES 256

/* The kernel's struct kvm_cpuid2 with its entries. */
struct cpu_table {
	uint32_t n, padding;
	struct kvm_cpuid_entry2 entries[CPU_TABLE_ENTRIES];
};

struct err;
struct kvm_face;

/* What the engine can give: its own list, and the two bits that KVM lets its client set without
 * listing them. sys is the engine's system descriptor. */
int cpu_table_offered(const struct kvm_face *face, int sys, struct cpu_table *t, struct err *err);

/* A leaf that has sub-leaves is found by both numbers; NULL if it is not there. */
struct kvm_cpuid_entry2 *cpu_table_find(const struct cpu_table *t, uint32_t leaf, uint32_t sub);

/* CPU_EAX to CPU_EDX. */
uint32_t *cpu_table_reg(struct kvm_cpuid_entry2 *e, unsigned reg);

/* With all of its sub-leaves. */
void cpu_table_drop(struct cpu_table *t, uint32_t leaf);

/* At the end, if there is room, which there is. */
void cpu_table_add(struct cpu_table *t, const struct kvm_cpuid_entry2 *e);

/* The named features that are set in it. */
struct cpu_set cpu_table_features(const struct cpu_table *t);

/* Sets or clears a feature's bit; nothing, if its leaf is not there. */
void cpu_table_put(struct cpu_table *t, const struct cpu_feature *f, bool value);

/* The vendor is AMD, or Hygon. */
bool cpu_table_is_amd(const struct cpu_table *t);

/* How many bits its physical addresses have. */
unsigned cpu_table_phys_bits(const struct cpu_table *t);

/* No more than that many. */
void cpu_table_limit_phys_bits(struct cpu_table *t, unsigned bits);

#endif
