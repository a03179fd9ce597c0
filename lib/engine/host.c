/* SPDX-License-Identifier: MIT */
/*
 * The hardware engine: /dev/kvm as the kernel provides it.
 *
 * Nothing here but the change of convention, from -1 with errno set to -errno. The node is
 * opened with O_CLOEXEC; a VMM that starts helpers must not hand its guests to them. The
 * text of a failure names the node and the system's reason; engine/probe.c turns the number
 * into one of its typed reasons.
 */
#include "engine/kvm.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int open_node(struct err *err)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	return fd >= 0 ? fd : err_sys(err, errno, "/dev/kvm");
}

static int host_ioctl(int fd, unsigned long request, void *arg)
{
	int rc = ioctl(fd, request, arg);

	return rc >= 0 ? rc : -errno;
}

static void *map_run(int fd, size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int unmap_run(void *addr, size_t len)
{
	return munmap(addr, len) == 0 ? 0 : -errno;
}

static int close_fd(int fd)
{
	return close(fd) == 0 ? 0 : -errno;
}

/* The kernel counts in debugfs and its own statistics descriptors; the run loop's own
 * counters say what Lodge needs, so there is nothing to add here. */
static int no_stats(int fd, struct kvm_stat *out, int max)
{
	(void)fd, (void)out, (void)max;
	return 0;
}

const struct kvm_face kvm_host = {
	.name = "kvm",
	.open = open_node,
	.ioctl = host_ioctl,
	.mmap = map_run,
	.munmap = unmap_run,
	.close = close_fd,
	.stats = no_stats,
};
