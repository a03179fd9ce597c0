/* SPDX-License-Identifier: MIT */
/*
 * softkvm: the KVM ABI in user space.
 *
 * The first five calls are to a softkvm descriptor what open, ioctl, mmap, munmap and close are
 * to /dev/kvm and the descriptors that come from it. The requests and the structures are
 * those of <linux/kvm.h>, unchanged; what each means is written in the kernel's API
 * document, and where softkvm differs ERRATA.md says so. There are the same three kinds of
 * descriptors: the system (softkvm_open), a VM (KVM_CREATE_VM on it), a vCPU
 * (KVM_CREATE_VCPU on that). They are numbers of real descriptors of this process, so none
 * can collide with a file, but nothing other than these calls may be done with them.
 *
 *	int sys = softkvm_open();
 *	int vm = softkvm_ioctl(sys, KVM_CREATE_VM, NULL);
 *	int vcpu = softkvm_ioctl(vm, KVM_CREATE_VCPU, (void *)0);
 *	int len = softkvm_ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, NULL);
 *	struct kvm_run *run = softkvm_mmap(vcpu, len, 0);
 *	softkvm_ioctl(vcpu, KVM_RUN, NULL);
 *
 * Threads: as with the kernel, a vCPU's ioctls belong to one thread at a time, and VM
 * ioctls may come from any thread. softkvm_kick() makes KVM_RUN return -EINTR, as a signal
 * does to the kernel's. kvm_run.immediate_exit does so for a KVM_RUN that is about to begin;
 * to one that is under way it says nothing before a kick.
 */
#ifndef SOFTKVM_SOFTKVM_H
#define SOFTKVM_SOFTKVM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What a vCPU's code cache maps to be executed, in one piece; for calls.def. */
#define SOFTKVM_CODE_SIZE (128u << 20)

/* Opens the engine: as open("/dev/kvm"). Returns a system descriptor, or -errno if this computer or
 * this process cannot carry it:
 *
 *	-ENODEV      the CPU lacks something
 *	-EADDRINUSE  there is memory above 47 bits of address, where there are 57: docs/why/tlb.md
 *	-ENOMEM      address space is limited
 *	-EACCES      no memory may be executed that was written through another mapping
 *	-EAGAIN      no timer can be made
 *
 * or what the kernel said where it would not make a memfd or a timer at all.
 */
int softkvm_open(void);

/* What softkvm_open() would return, 0 for a descriptor; and if it fails because of the computer or the
 * process the reason, one sentence of less than 256 bytes that names what to do, else "". */
int softkvm_check(char *why, size_t size);

/* As ioctl(2), except that failure is -errno and errno is left alone. Requests whose
 * argument is a number (KVM_CREATE_VCPU, KVM_CHECK_EXTENSION) take it cast to a pointer. */
int softkvm_ioctl(int fd, unsigned long request, void *arg);

/* Maps a vCPU's struct kvm_run; offset is 0. MAP_FAILED on failure, never NULL. */
void *softkvm_mmap(int fd, size_t len, off_t offset);

/* Ends such a mapping; 0 or -errno. */
int softkvm_munmap(void *addr, size_t len);

/* Closes any softkvm descriptor; 0 or -errno. A VM lives until its vCPUs are closed too. */
int softkvm_close(int fd);

/*
 * What a signal does to a thread in the kernel's KVM_RUN: makes KVM_RUN of this vCPU return
 * -EINTR soon. Any thread, and signal handlers too. A linked client calls this instead of
 * (or besides) sending the signal, because only a preloaded library could see its handlers.
 * As with the kernel, kvm_run.immediate_exit is set first, so that a kick which comes just
 * before KVM_RUN is not lost.
 */
void softkvm_kick(int vcpu_fd);

/*
 * Memory that is filled in when it is touched: layers. A page of a memory slot can have its content in another
 * mapping of the client's, which nobody writes, until the guest writes it: then it gets a copy of its own in the
 * slot's memory. So a guest runs before its memory is there, and many share what none of them has written.
 *
 *	at = mmap(NULL, size, PROT_READ, MAP_SHARED, file, offset);     // as large as slot 0
 *	softkvm_layer(vm, 0, at, pages);          // bit i: page i of the slot is there
 *	...
 *	softkvm_take(vm, gpa, len);               // before the client looks at memory or writes it
 *
 * The slot's own memory is not looked at for pages of a layer, but must be there. A slot has at most 31 layers, the slots and
 * layers of a process together at most 2 TiB (else -EINVAL), and each page is in one of them, the first that named it, or in none. The mapping may be unmapped after the call. With KVM_MEM_READONLY, or
 * memory of which the engine has no views (a device's), -EOPNOTSUPP; -EINVAL for a mapping that is not
 * shared; -EBUSY while a vCPU runs. softkvm_take() is for any thread but one in KVM_RUN; -EFAULT: that is not
 * memory, or its layer's file has been cut.
 */
int softkvm_layer(int vm_fd, uint32_t slot, const void *at, const uint64_t *pages);
int softkvm_take(int vm_fd, uint64_t gpa, uint64_t len);

/* The layer of each page, by the order of the calls, from 1; 0: the slot's own. */
int softkvm_layers_of(int vm_fd, uint32_t slot, uint8_t *pages);

/* How the engine works on this host, and what it would rather have (docs/why/gsbase.md). Static
 * strings; SOFTKVM's words count. */
struct softkvm_ways {
	const char *gs_base;     /* "kept"; "repaired", as fast; "unused", a little slower */
	const char *page_number; /* "bextr"; "shifts", a little slower */
	const char *vectors;     /* "xsave"; "fxsave", without AVX for guests */
};
void softkvm_ways(struct softkvm_ways *ways);

/* A capability of <linux/kvm.h>: its number, what KVM_CHECK_EXTENSION answers, its name without KVM_CAP_, and how it differs from
 * the kernel's, or why there is none; "": it does not. Static; how many there are. */
struct softkvm_cap {
	long number;
	int value;
	const char *name, *text;
};
unsigned softkvm_caps(const struct softkvm_cap **table);

/* One counter. The name is a static string in snake_case ("exit_io", "blocks"); stats.def has
 * them all, with what they count. */
struct softkvm_stat {
	const char *name;
	unsigned long long value;
};

/* What the engine counted since the VM was created: of one vCPU, or summed over a VM. Fills at
 * most max entries and returns how many there are, or -errno. Any thread may call while the
 * vCPUs run; each value is exact, the set is not from one instant. */
int softkvm_stats(int fd, struct softkvm_stat *out, int max);

#endif
