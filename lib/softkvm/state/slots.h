/* SPDX-License-Identifier: MIT */
/*
 * Memory slots: the client's memory that is the guest's RAM.
 *
 * Slots change under the VM's lock, rarely; vCPUs look them up all the time. vm_slot() (light)
 * takes no lock: it searches a table that never changes. A change publishes a new table; the
 * old one is freed after slots_changed(), when every vCPU has given up what it derived from it
 * (TLB entries, pointers).
 */
#ifndef SOFTKVM_SLOTS_H
#define SOFTKVM_SLOTS_H

#include "softkvm/vcpu.h"

/* KVM_SET_USER_MEMORY_REGION: 0 or -errno. With the VM's lock held. */
int slots_set(struct vm *vm, const struct kvm_userspace_memory_region *region);

/* KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG: 0 or -errno. With the VM's lock held. */
int slots_dirty_get(struct vm *vm, const struct kvm_dirty_log *log);
int slots_dirty_clear(struct vm *vm, const struct kvm_clear_dirty_log *log);

/* Gives the slot the engine's views: `rw`, and `ro` without permission to write, whose address
 * differs in the bit SLOT_VIEW_RO only; or hva for both where some of the client's memory cannot
 * be mapped twice. May replace the client's private mapping by a shared one with the same
 * content (views.c). */
int slot_views(struct slot *slot);
void slot_views_remove(struct slot *slot);

/* A view of another mapping of the client's, which is shared; NULL: it cannot be had. It may be read, and its
 * address has SLOT_VIEW_RO. */
const uint8_t *base_view(const void *hva, uint64_t size);
void base_view_remove(const uint8_t *view, uint64_t size);

/* Reserves the address space of all views, once a process: when the engine is opened. False: there is
 * not as much. Any thread. */
bool views_reserve(void);
#define VIEWS_SPACE (4 * SLOT_VIEW_RO) /* half of it to find a place in */

/* The slot with this number, NULL: none. With the VM's lock held. */
struct slot *slots_find(struct vm *vm, uint32_t id);

/* An empty table at the VM's start (0 or -ENOMEM); unmaps everything at its end. */
int slots_create(struct vm *vm);
void slots_destroy(struct vm *vm);

#endif
