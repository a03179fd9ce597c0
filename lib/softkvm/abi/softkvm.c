/* SPDX-License-Identifier: MIT */
/*
 * softkvm's public face: descriptor in, object and table of requests out.
 *
 *	softkvm_ioctl(fd, request, arg)
 *	   `- object_get(fd)            which of the three kinds?
 *	     `- its table of requests   abi/system.c, abi/vm.c, abi/vcpu.c
 *	          `- one function a request
 *
 * Differences from the kernel's face that cannot be avoided are in ERRATA.md: a bad pointer
 * from the client is a SIGSEGV, not -EFAULT, and a vCPU belongs to this process only.
 */
#include "softkvm/softkvm.h"

#include "base/macros.h"
#include "softkvm/abi/vm.h"
#include "softkvm/hooks.h"
#include "softkvm/state/clock.h"
#include "softkvm/state/host.h"
#include "softkvm/state/layers.h"
#include "softkvm/state/xsave.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

int softkvm_open(void)
{
	char why[HOST_WHY];
	int rc = host_check(why);

	if (rc)
		return rc;
	vec_features();
	clock_begin();
	return object_open(OBJECT_SYSTEM, NULL, NULL, 0);
}

int softkvm_check(char *why, size_t size)
{
	char text[HOST_WHY];
	int rc = host_check(text);

	snprintf(why, size, "%s", text);
	return rc;
}

int request_call(const struct request *table, unsigned n, struct object *o,
		 unsigned long request, void *arg, int unknown)
{
	request &= 0xffffffff; /* an int request sign-extends */
	for (unsigned i = 0; i < n; i++)
		if (table[i].request == request)
			return table[i].call(o, arg);
	return unknown;
}

static int (*const ioctls[])(struct object *o, unsigned long request, void *arg) = {
	[OBJECT_SYSTEM] = system_ioctl,
	[OBJECT_VM] = vm_ioctl,
	[OBJECT_VCPU] = vcpu_ioctl,
};

int softkvm_ioctl(int fd, unsigned long request, void *arg)
{
	struct object *o = object_get(fd);
	int rc;

	if (!o)
		return -EBADF;
	/* As in the kernel: a VM is of the process that made it. */
	if (o->kind != OBJECT_SYSTEM && !object_is_home(o))
		rc = -EIO;
	else
		rc = ioctls[o->kind](o, request, arg);
	object_put(o);
	return rc;
}

void *softkvm_mmap(int fd, size_t len, off_t offset)
{
	struct object *o = object_get(fd);
	void *p = MAP_FAILED;

	if (!o)
		errno = EBADF;
	else if (o->kind != OBJECT_VCPU || offset < 0 || offset > RUN_BYTES ||
		 len > RUN_BYTES - (size_t)offset)
		errno = EINVAL;
	else
		p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
	if (o)
		object_put(o);
	return p;
}

int softkvm_munmap(void *addr, size_t len)
{
	return munmap(addr, len) ? -errno : 0;
}

int softkvm_close(int fd)
{
	return object_close(fd);
}

void softkvm_kick(int vcpu_fd)
{
	struct object *o = object_get(vcpu_fd);

	if (!o)
		return;
	if (o->kind == OBJECT_VCPU && object_is_home(o))
		vcpu_kick(o->vcpu, REQ_EXIT);
	object_put_later(o);
}

/* -- layers ------------------------------------------------------------------------------ */

/* The VM behind a descriptor, with its lock; NULL, and *rc says why. */
static struct object *vm_lock(int fd, int *rc)
{
	struct object *o = object_get(fd);

	*rc = !o ? -EBADF : o->kind != OBJECT_VM ? -EINVAL : object_is_home(o) ? 0 : -EIO;
	if (*rc == 0)
		pthread_mutex_lock(&vm_abi(o->vm)->lock);
	else if (o)
		object_put(o);
	return *rc == 0 ? o : NULL;
}

static void vm_unlock(struct object *o)
{
	pthread_mutex_unlock(&vm_abi(o->vm)->lock);
	object_put(o);
}

int softkvm_layer(int vm_fd, uint32_t slot, const void *at, const uint64_t *pages)
{
	int rc;
	struct object *o = vm_lock(vm_fd, &rc);

	if (!o)
		return rc;
	rc = layers_add(o->vm, slot, at, pages);
	vm_unlock(o);
	return rc;
}

int softkvm_take(int vm_fd, uint64_t gpa, uint64_t len)
{
	int rc;
	struct object *o = vm_lock(vm_fd, &rc);

	if (!o)
		return rc;
	rc = layers_take(o->vm, gpa, len);
	vm_unlock(o);
	return rc;
}

int softkvm_layers_of(int vm_fd, uint32_t slot, uint8_t *pages)
{
	int rc;
	struct object *o = vm_lock(vm_fd, &rc);

	if (!o)
		return rc;
	rc = layers_get(o->vm, slot, pages);
	vm_unlock(o);
	return rc;
}

/* -- counters ---------------------------------------------------------------------------- */

static const struct {
	const char *name;
	size_t at;
} stats[] = {
#define STAT(field, text) {#field, offsetof(struct vcpu_stats, field)},
#include "softkvm/stats.def"
#undef STAT
};

static uint64_t stat_of(struct vcpu *c, size_t at)
{
	return __atomic_load_n((uint64_t *)((char *)&c->stat + at), __ATOMIC_RELAXED);
}

static uint64_t stat_sum(struct vm *vm, size_t at)
{
	uint64_t sum = 0;

	for (int i = 0; i < atomic_load(&vm->n_vcpus); i++)
		sum += stat_of(vm->vcpu[i], at);
	return sum;
}

int softkvm_stats(int fd, struct softkvm_stat *out, int max)
{
	struct object *o = object_get(fd);
	int n = ARRAY_SIZE(stats);

	if (!o)
		return -EBADF;
	if (o->kind == OBJECT_SYSTEM)
		n = -EINVAL;
	for (int i = 0; i < n && i < max; i++) {
		out[i].name = stats[i].name;
		out[i].value = o->kind == OBJECT_VCPU ? stat_of(o->vcpu, stats[i].at)
						      : stat_sum(o->vm, stats[i].at);
	}
	object_put(o);
	return n;
}
