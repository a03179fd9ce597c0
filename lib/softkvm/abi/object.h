/* SPDX-License-Identifier: MIT */
/*
 * What stands behind a softkvm descriptor: a table from descriptor numbers to objects.
 *
 *	struct object *o = object_get(fd);
 *	if (!o)
 *		return -EBADF;
 *	... o->kind, o->vm, o->vcpu ...
 *	object_put(o);
 *
 * object_get() and object_put_later() may be called in signal handlers and never wait.
 */
#ifndef SOFTKVM_OBJECT_H
#define SOFTKVM_OBJECT_H

#include <stdatomic.h>
#include <stddef.h>

#include "softkvm/vcpu.h"

enum object_kind { OBJECT_SYSTEM, OBJECT_VM, OBJECT_VCPU };

struct object {
	enum object_kind kind;
	struct vm *vm;     /* OBJECT_VM, OBJECT_VCPU: one reference on vm_get() */
	struct vcpu *vcpu; /* OBJECT_VCPU */
	_Atomic int refs;  /* 0: not in use */
	uint32_t home;     /* see object_is_home() */
	struct object *next;
};

/* Makes an object with a descriptor; size: of the memory behind it (a vCPU's kvm_run), which
 * mmap() of the descriptor gives. The fd or -errno. On success the object holds the
 * reference on vm that the caller had. */
int object_open(enum object_kind kind, struct vm *vm, struct vcpu *c, size_t size);

/* The object of fd with a reference, or NULL. */
struct object *object_get(int fd);

/* Gives the reference back; the last one ends the object. */
void object_put(struct object *o);

/* The same where nothing may be freed (signal handlers): the end comes with a later open or
 * close. */
void object_put_later(struct object *o);

/* False in a child of fork(), which has a copy of the object but not the VM: its threads and their
 * state stayed with the parent. */
bool object_is_home(const struct object *o);

/* Forgets fd and closes it: 0 or -EBADF. Away from home the object itself is left alone. */
int object_close(int fd);

/* The number is another file's now. */
void object_forget(int fd);

/* Another descriptor for the same object, as dup() made it: 0 or -errno. */
int object_dup(int fd, int fd2);

#endif
