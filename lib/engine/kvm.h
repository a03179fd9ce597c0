/* SPDX-License-Identifier: MIT */
/*
 * The face of an engine: the KVM ABI behind a few function pointers.
 *
 * Everything above (the board, the run loop, the programs) speaks to "what runs guest
 * instructions" through one of these, in the requests and structures of <linux/kvm.h>.
 * There are two: kvm_host is the kernel's /dev/kvm, kvm_soft is lib/softkvm. A caller never
 * asks which one it has; what an engine cannot do it says through KVM_CHECK_EXTENSION.
 *
 *	struct err err = {0};
 *	int sys = kvm_soft.open(&err);
 *	int vm = kvm_soft.ioctl(sys, KVM_CREATE_VM, KVM_ARG(0));
 *	...
 *	kvm_soft.close(vm);
 *	kvm_soft.close(sys);
 *
 * Which of the two a user gets is decided in engine/choose.h, after engine/probe.h has run
 * a guest on it.
 */
#ifndef ENGINE_KVM_H
#define ENGINE_KVM_H

#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>

struct err;

/* A number as the argument of an ioctl that takes one. */
#define KVM_ARG(n) ((void *)(uintptr_t)(n))

/* One counter; the name is a static string: of an exit as kvm_exit_name() gives it, of an
 * engine's own counters in snake_case. */
struct kvm_stat {
	const char *name;
	unsigned long long value;
};

/* What it counts, in a few words; "" for a name that this build has not heard of. */
const char *kvm_stat_text(const char *name);

struct kvm_face {
	const char *name; /* "kvm" or "soft": what --engine takes and every listing shows */

	/* Returns a system descriptor, or -errno with the reason in err. */
	int (*open)(struct err *err);

	/* Returns what the kernel would, or -errno; errno itself means nothing. */
	int (*ioctl)(int fd, unsigned long request, void *arg);

	/* The struct kvm_run of a vCPU descriptor; NULL on failure. */
	void *(*mmap)(int fd, size_t len);
	int (*munmap)(void *addr, size_t len);

	int (*close)(int fd);

	/* Makes KVM_RUN of this vCPU return -EINTR soon, where a signal to its thread alone
	 * does not; NULL where it does. Async-signal-safe. */
	void (*kick)(int vcpu);

	/* Fills at most max counters of a VM or vCPU; returns how many, 0 if it has none. */
	int (*stats)(int fd, struct kvm_stat *out, int max);

	/* Memory that is filled in when it is touched, as softkvm.h explains it; NULL: the engine has none. */
	int (*layer)(int vm, uint32_t slot, const void *at, const uint64_t *pages);
	int (*take)(int vm, uint64_t gpa, uint64_t len);
	int (*layers_of)(int vm, uint32_t slot, uint8_t *pages);
};

extern const struct kvm_face kvm_host;
extern const struct kvm_face kvm_soft;

/* What KVM_CHECK_EXTENSION answers for cap: 0 if the engine has not heard of it. */
int kvm_has(const struct kvm_face *face, int fd, long cap);

/* "IO" for KVM_EXIT_IO, and so on; NULL for a reason this build has not heard of. */
const char *kvm_exit_name(uint32_t reason);

#endif
