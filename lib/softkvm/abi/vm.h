/* SPDX-License-Identifier: MIT */
/*
 * VMs and vCPUs as the ABI's face keeps them: making, ending, locking, and the tables of
 * requests. abi/softkvm.c finds the object and the table; each request is one function.
 */
#ifndef SOFTKVM_ABI_VM_H
#define SOFTKVM_ABI_VM_H

#include <pthread.h>
#include <signal.h>

#include "softkvm/abi/object.h"

/* The face's own part of a VM: vm->abi. */
struct vm_abi {
	_Atomic int refs;
	pthread_mutex_t lock;  /* slots, making of vCPUs and chips */
	uint32_t max_ids;      /* KVM_CAP_MAX_VCPU_ID as the client has lowered it, 0: it has not */
	_Atomic uint32_t mmu_pages; /* KVM_SET_NR_MMU_PAGES */
};

/* Its part of a vCPU: vcpu->abi. */
struct vcpu_abi {
	pthread_mutex_t lock; /* held through every ioctl, KVM_RUN too */
	sigset_t sigmask;     /* of the thread while in KVM_RUN */
	bool has_sigmask;
};

static inline struct vm_abi *vm_abi(struct vm *vm)
{
	return vm->abi;
}

/* A VM with one reference, or -errno. vm_put() of the last one ends it and its vCPUs. */
int vm_create(struct vm **out);
void vm_get(struct vm *vm);
void vm_put(struct vm *vm);

static inline struct vcpu_abi *vcpu_abi(struct vcpu *c)
{
	return c->abi;
}

/* Pages behind a vCPU's descriptor: struct kvm_run, port data, and the coalesced ring's. */
#define RUN_BYTES (3 * 4096)

/* KVM_CHECK_EXTENSION (abi/caps.c): the same answer from the system and from a VM. */
int cap_check(long cap);

/* Requests. 0 or more, or -errno; -ENOTTY: no such request. */
int system_ioctl(struct object *o, unsigned long request, void *arg);
int vm_ioctl(struct object *o, unsigned long request, void *arg);
int vcpu_ioctl(struct object *o, unsigned long request, void *arg);

/* One row of a table of requests. Not indexed by number: some have two meanings (0xa3 is
 * KVM_ENABLE_CAP and KVM_GET_TSC_KHZ). What is called often stands first. */
struct request {
	unsigned long request;
	int (*call)(struct object *o, void *arg);
};

/* Calls the row of that request; `unknown` if there is none. */
int request_call(const struct request *table, unsigned n, struct object *o,
		 unsigned long request, void *arg, int unknown);

#define REQUEST(name, function) {.request = name, .call = function}

#endif
