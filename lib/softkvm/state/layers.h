/* SPDX-License-Identifier: MIT */
/*
 * Layers: memory of a slot that has its content elsewhere until it is written, seen from the client's side; the
 * vCPUs' is mmu/layer.c. softkvm.h says what a client does with it.
 */
#ifndef SOFTKVM_LAYERS_H
#define SOFTKVM_LAYERS_H

#include "softkvm/vcpu.h"

/* See softkvm_layer() and softkvm_take(), softkvm_layers_of(). With the VM's lock held. */
int layers_add(struct vm *vm, uint32_t slot, const void *at, const uint64_t *pages);
int layers_take(struct vm *vm, uint64_t gpa, uint64_t len);
int layers_get(struct vm *vm, uint32_t slot, uint8_t *page);

/* Unmaps what a slot has of them. */
void layers_destroy(struct slot *slot);

#endif
