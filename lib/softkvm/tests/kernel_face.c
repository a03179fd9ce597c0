/* SPDX-License-Identifier: MIT */
/*
 * softkvm's calls made of the system's: what a client that knows only /dev/kvm does. With it
 * abi_test runs on the preload library, and, started by hand without it, on the kernel's KVM.
 */
#include "softkvm/softkvm.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

extern int by_system;
int by_system = 1;

static pthread_t main_thread;

static void wake(int sig)
{
	(void)sig;
}

int softkvm_open(void)
{
	struct sigaction sa = {.sa_handler = wake};
	int fd;

	main_thread = pthread_self();
	sigaction(SIGUSR1, &sa, NULL);
	fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int softkvm_ioctl(int fd, unsigned long request, void *arg)
{
	int rc = ioctl(fd, request, arg);

	return rc < 0 ? -errno : rc;
}

void *softkvm_mmap(int fd, size_t len, off_t offset)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
}

int softkvm_munmap(void *addr, size_t len)
{
	return munmap(addr, len) ? -errno : 0;
}

int softkvm_close(int fd)
{
	return close(fd) ? -errno : 0;
}

void softkvm_kick(int vcpu_fd)
{
	(void)vcpu_fd;
	pthread_kill(main_thread, SIGUSR1);
}

/* Nothing of the kind in the ABI. */
int softkvm_stats(int fd, struct softkvm_stat *out, int max)
{
	(void)fd;
	(void)out;
	(void)max;
	return -ENOTTY;
}
