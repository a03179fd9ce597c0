/* SPDX-License-Identifier: MIT */
/*
 * The software engine: lib/softkvm behind the same face as /dev/kvm.
 *
 * softkvm already returns -errno and takes the kernel's requests, so this file only turns
 * its open failure into a sentence. What softkvm wants of the host CPU is its own business;
 * here it is one number, ENODEV, and engine/probe.c looks for the cause.
 */
#include "engine/kvm.h"

#include "base/err.h"
#include "softkvm/softkvm.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static int open_soft(struct err *err)
{
	int fd = softkvm_open();

	if (fd == -ENODEV)
		return err_set(err, ENODEV,
			       "this CPU lacks something that softkvm is built on");
	if (fd < 0)
		return err_set(err, -fd, "softkvm does not start: %s", strerror(-fd));
	return fd;
}

static void *map_run(int fd, size_t len)
{
	void *p = softkvm_mmap(fd, len, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int soft_stats(int fd, struct kvm_stat *out, int max)
{
	struct softkvm_stat stats[128];
	int n = softkvm_stats(fd, stats, (int)(sizeof(stats) / sizeof(stats[0])));

	if (n < 0)
		return n;
	if (n > (int)(sizeof(stats) / sizeof(stats[0])))
		n = (int)(sizeof(stats) / sizeof(stats[0]));
	if (n > max)
		n = max;
	for (int i = 0; i < n; i++)
		out[i] = (struct kvm_stat){.name = stats[i].name, .value = stats[i].value};
	return n;
}

const struct kvm_face kvm_soft = {
	.name = "soft",
	.open = open_soft,
	.ioctl = softkvm_ioctl,
	.mmap = map_run,
	.munmap = softkvm_munmap,
	.close = softkvm_close,
	.kick = softkvm_kick,
	.stats = soft_stats,
};
