/* SPDX-License-Identifier: MIT */
/*
 * Which CPU a guest sees: a model and what is added to it or taken from it.
 *
 *	struct cpu_model model;
 *
 *	if (cpu_model_parse(&model, "v3,+aes,-movbe", &err) < 0)
 *		return err.code;
 *	machine_create(&m, &(struct machine_config){.cpu = &model, ...}, &err);
 *
 * `host` is all that the engine offers on this computer. A level of the x86-64 psABI, v1 to v4,
 * is the same CPU wherever it can be had: docs/why/cpu-model.md says what is constant in it.
 * A zeroed model is `host`.
 */
#ifndef MACHINE_CPU_CPU_H
#define MACHINE_CPU_CPU_H

#include <stdio.h>

#include "x86/feature.h"

struct cpu_table;
struct err;
struct kvm_face;

struct cpu_model {
	unsigned level; /* 0: host */
	struct cpu_set added, removed; /* nothing is in both */
	const char *text; /* as it was asked for */
};

/* "host" or a level, then ",+feature" and ",-feature" from left to right. An added feature brings
 * what it needs, a removed one takes along what needs it. The text must outlive the model.
 * -EINVAL and a sentence for what is none. */
int cpu_model_parse(struct cpu_model *out, const char *text, struct err *err);

/* Makes the table of what an engine offers into the one that a guest of this model gets, all but
 * what differs from vCPU to vCPU. phys_bits: so many has a physical address of a level's.
 * -ERANGE if the engine does not offer what the model has; `engine` is its name. */
int cpu_model_apply(const struct cpu_model *model, unsigned phys_bits, const char *engine,
		    struct cpu_table *table, struct err *err);

/* The highest level of which all is offered; 0: not even v1 is. */
unsigned cpu_highest_level(const struct cpu_set *offered);

/* The models and features, with a mark at those that the engine offers: --cpu help. */
int cpu_list(const struct kvm_face *face, FILE *out, struct err *err);

#endif
