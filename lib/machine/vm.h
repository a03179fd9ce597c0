/* SPDX-License-Identifier: MIT */
/*
 * A VM of an engine, as a board needs it: memory slots, interrupt controllers, ways to raise
 * interrupts. The vCPUs are in vcpu.h.
 */
#ifndef MACHINE_VM_H
#define MACHINE_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bus/bus.h"

struct err;
struct guest_mem;
struct kvm_face;

struct vm {
	const struct kvm_face *face;
	int sys;         /* the engine's descriptor, -1: none */
	int fd;          /* the VM's, -1: none */
	size_t run_size; /* of a vCPU's shared area */
	bool logs;       /* vm_log() */
};

/* Opens the engine, for any number of VMs one after the other. */
int vm_engine_open(struct vm *vm, const struct kvm_face *face, struct err *err);
void vm_engine_close(struct vm *vm);

/* Makes a VM with that memory, PIC, IOAPIC, PIT and their routing, and 16 KiB from `pages` on for the kernel's KVM, which
 * are no memory. On failure it is closed. */
int vm_open(struct vm *vm, const struct guest_mem *mem, uint64_t pages, struct err *err);

/* Takes all memory out of a VM, and gives it memory: the same, or other at the same places. Nothing in KVM_RUN. */
int vm_remove_memory(const struct vm *vm, const struct guest_mem *mem, struct err *err);
int vm_add_memory(const struct vm *vm, const struct guest_mem *mem, struct err *err);

/* The same of region i. vCPUs may run; between the two they find nothing there. */
int vm_remove_region(const struct vm *vm, const struct guest_mem *mem, unsigned i, struct err *err);
int vm_add_region(const struct vm *vm, const struct guest_mem *mem, unsigned i, struct err *err);

/* From here on, or no more, the engine notes which pages vCPUs write. vm_dirty() fills a bit for each page of a region, and
 * begins anew. */
int vm_log(struct vm *vm, const struct guest_mem *mem, bool on, struct err *err);
int vm_dirty(const struct vm *vm, unsigned region, uint64_t *pages, struct err *err);

/* Its vCPUs are closed already. One that is closed is fine. */
void vm_close(struct vm *vm);

/* The board's side of irq_line and msi_sink; ctx is a struct vm. Any thread, while the VM is
 * open; without one they do nothing. */
void vm_irq(void *ctx, unsigned gsi, bool level);
/* Whether the PIT's interrupt is somebody else's. Any thread; without a VM nothing. */
void vm_replace_pit(const struct vm *vm, bool on);
void vm_msi(void *ctx, uint64_t addr, uint32_t data);

#endif
