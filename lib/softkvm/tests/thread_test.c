/* SPDX-License-Identifier: MIT */
/*
 * Threads that end in KVM_RUN: nobody waits for them, and what is left can be ended. Through the preload library a
 * cancelled thread has left KVM_RUN first, so that its vCPU goes on in another one.
 */
#include "softkvm/softkvm.h"

#include "base/macros.h"
#include "tests/tap.h"

#include <errno.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern int by_system;
__attribute__((weak)) int by_system;

static int sys, vm, cpu;
static uint8_t *ram;

static void begin(void)
{
	struct kvm_userspace_memory_region region = {.memory_size = MiB};
	struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
	struct kvm_sregs sregs;

	memset(ram, 0, MiB);
	memcpy(ram + 0x1000, "\xff\x06\x00\x20\xeb\xfa", 6); /* inc word [2000h] ; and again */
	region.userspace_addr = (uintptr_t)ram;
	vm = softkvm_ioctl(sys, KVM_CREATE_VM, NULL);
	softkvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region);
	cpu = softkvm_ioctl(vm, KVM_CREATE_VCPU, NULL);
	softkvm_ioctl(cpu, KVM_GET_SREGS, &sregs);
	sregs.cs.base = sregs.cs.selector = 0;
	softkvm_ioctl(cpu, KVM_SET_SREGS, &sregs);
	softkvm_ioctl(cpu, KVM_SET_REGS, &regs);
}

static void *run(void *asynchronous)
{
	if (asynchronous)
		pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
	for (;;)
		softkvm_ioctl(cpu, KVM_RUN, NULL);
	return NULL;
}

static void wait_for_guest(void)
{
	while (!*(volatile uint16_t *)(void *)(ram + 0x2000))
		usleep(1000);
}

/* Waits for vCPUs that run. */
static void test_slot(const char *who)
{
	struct kvm_userspace_memory_region region = {.slot = 1, .guest_phys_addr = 16 * MiB, .memory_size = 4096};

	region.userspace_addr = (uintptr_t)ram;
	is_int(softkvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), 0, "%s: nobody waits for the vCPU", who);
}

static void end(const char *who)
{
	is_int(softkvm_close(cpu), 0, "%s: the vCPU ends", who);
	is_int(softkvm_close(vm), 0, "%s: so does the VM", who);
}

static void leave(int sig)
{
	(void)sig;
	pthread_exit(NULL);
}

static void test_exit(void)
{
	pthread_t t;

	begin();
	signal(SIGUSR2, leave);
	pthread_create(&t, NULL, run, NULL);
	wait_for_guest();
	pthread_kill(t, SIGUSR2);
	pthread_join(t, NULL);
	test_slot("pthread_exit() in a handler");
	is_int(softkvm_ioctl(cpu, KVM_RUN, NULL), -EIO, "its vCPU is lost");
	is_int(softkvm_ioctl(cpu, KVM_GET_REGS, &(struct kvm_regs){0}), 0, "but can be asked");
	end("pthread_exit() in a handler");
}

static void test_cancel(void)
{
	struct kvm_vcpu_events events;
	struct kvm_regs regs;
	void *value;
	pthread_t t;

	if (!by_system)
		return; /* who links softkvm knows what to do instead */
	begin();
	pthread_create(&t, NULL, run, ram);
	wait_for_guest();
	pthread_cancel(t);
	pthread_join(t, &value);
	ok(value == PTHREAD_CANCELED, "a thread in KVM_RUN is cancelled");
	test_slot("pthread_cancel()");
	softkvm_ioctl(cpu, KVM_GET_REGS, &regs);
	ok(regs.rip == 0x1000 || regs.rip == 0x1004, "its vCPU is between two instructions");
	memcpy(ram + 0x1004, "\xe6\x80", 2); /* out 80h, al */
	is_int(softkvm_ioctl(cpu, KVM_GET_VCPU_EVENTS, &events), 0, "its state can be had");
	is_int(softkvm_ioctl(cpu, KVM_RUN, NULL), 0, "and it goes on in another thread");
	end("pthread_cancel()");
}

int main(void)
{
	ram = mmap(NULL, MiB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sys = softkvm_open();
	if (!ok(sys >= 0, "opens"))
		return done_testing();
	test_exit();
	for (int i = 0; i < 5; i++)
		test_cancel();
	return done_testing();
}
