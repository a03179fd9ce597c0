/* SPDX-License-Identifier: MIT */
/*
 * The states a processor starts in: power-on, INIT, and a start-up IPI.
 * Source: Intel SDM volume 3, table "IA-32 and Intel 64 processor states following power-up,
 * reset, or INIT".
 */
#ifndef SOFTKVM_RESET_H
#define SOFTKVM_RESET_H

#include "softkvm/vcpu.h"

/* Power-on: all state. Outside KVM_RUN. vCPU 0 is runnable, the others wait for SIPI when the
 * VM has an in-kernel irqchip. */
void vcpu_reset(struct vcpu *c);

/* The INIT signal, taken by the vCPU's thread in KVM_RUN: like reset, but memory types,
 * vector state, TSC and most MSRs stay. An application processor then waits for SIPI. */
void vcpu_init_signal(struct vcpu *c);

/* A start-up IPI to a vCPU that waits for one: real mode at vector << 12. Ignored otherwise. */
void vcpu_sipi(struct vcpu *c, uint8_t vector);

/* What power-on and INIT have in common. */
void reset_architecture(struct vcpu *c);

static inline bool vcpu_is_bsp(const struct vcpu *c)
{
	return c->id == c->vm->boot_cpu_id;
}

#endif
