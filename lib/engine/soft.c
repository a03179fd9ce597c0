/* SPDX-License-Identifier: MIT */
/*
 * The software engine: lib/softkvm behind the same face as /dev/kvm.
 *
 * softkvm already returns -errno, takes the kernel's requests, and knows in words why it does not
 * start, so there is little left to do.
 */
#include "base/err.h"
#include "base/macros.h"
#include "engine/kvm.h"
#include "softkvm/softkvm.h"

#include <string.h>
#include <sys/mman.h>

static int open_soft(struct err *err)
{
	int fd = softkvm_open();
	char why[256];

	if (fd >= 0)
		return fd;
	softkvm_check(why, sizeof(why));
	return err_set(err, -fd, "%s", why[0] ? why : strerror(-fd));
}

static void *map_run(int fd, size_t len)
{
	void *p = softkvm_mmap(fd, len, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int soft_stats(int fd, struct kvm_stat *out, int max)
{
	struct softkvm_stat stats[128];
	int n = softkvm_stats(fd, stats, ARRAY_SIZE(stats));

	if (n > (int)ARRAY_SIZE(stats))
		n = ARRAY_SIZE(stats);
	if (n > max)
		n = max;
	for (int i = 0; i < n; i++)
		out[i] = (struct kvm_stat){.name = stats[i].name,
					   .value = stats[i].value};
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
	.layer = softkvm_layer,
	.take = softkvm_take,
	.layers_of = softkvm_layers_of,
};
