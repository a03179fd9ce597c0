/* SPDX-License-Identifier: MIT */
/*
 * The software engine: lib/softkvm behind the same face as /dev/kvm.
 *
 * softkvm already returns -errno and takes the kernel's requests, so this file only says in
 * words why it does not start. What its translated code is made of is a table here: a CPU or
 * a kernel without one of these rows would end the first guest with an illegal instruction,
 * which is no way to tell anybody.
 */
#include "engine/soft.h"

#include "base/err.h"
#include "base/macros.h"
#include "engine/kvm.h"
#include "softkvm/softkvm.h"

#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

/* -- What the host must have -------------------------------------------------------------- */

static const struct {
	size_t word; /* which of struct soft_host */
	unsigned bit;
	const char *name;
} needed[] = {
	{offsetof(struct soft_host, leaf1_ecx), 13, "CMPXCHG16B"},
	{offsetof(struct soft_host, leaf80000001_ecx), 0, "LAHF in 64-bit mode"},
};

const char *soft_lacks(const struct soft_host *host)
{
	for (unsigned i = 0; i < ARRAY_SIZE(needed); i++) {
		uint32_t word;

		memcpy(&word, (const char *)host + needed[i].word, sizeof(word));
		if (!(word >> needed[i].bit & 1))
			return needed[i].name;
	}
	return NULL;
}

static struct soft_host this_host(void)
{
	struct soft_host host = {0};
	uint32_t a, b, d;

	__get_cpuid(1, &a, &b, &host.leaf1_ecx, &d);
	__get_cpuid(0x80000001, &a, &b, &host.leaf80000001_ecx, &d);
	return host;
}

/* Address space, of which little is ever touched: a vCPU's software TLB, and room for views of guest
 * memory (softkvm/state/views.c), without which all accesses would be slow. */
#define TLB_SPACE   (UINT64_C(4) << 40)
#define VIEWS_SPACE (UINT64_C(16) << 40)

static bool can_reserve(void)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *views = mmap(NULL, VIEWS_SPACE, PROT_NONE, flags, -1, 0);
	void *tlb = mmap(NULL, TLB_SPACE, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (views != MAP_FAILED)
		munmap(views, VIEWS_SPACE);
	if (tlb != MAP_FAILED)
		munmap(tlb, TLB_SPACE);
	return views != MAP_FAILED && tlb != MAP_FAILED;
}

/* Each vCPU has a timer, and each timer counts as a signal that waits. */
static bool can_time(void)
{
	struct sigevent none = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGURG};
	timer_t timer;

	return timer_create(CLOCK_MONOTONIC, &none, &timer) == 0 && timer_delete(timer) == 0;
}

/* -- The face ----------------------------------------------------------------------------- */

static int open_soft(struct err *err)
{
	struct soft_host host = this_host();
	const char *lacks = soft_lacks(&host);
	int fd;

	if (lacks)
		return err_set(err, ENODEV, "this computer lacks %s", lacks);
	if (!can_reserve())
		return err_set(err, ENOMEM,
			       "%llu TiB of address space cannot be reserved: ulimit -v or "
			       "-d, or vm.overcommit_memory is 2",
			       (unsigned long long)(TLB_SPACE + VIEWS_SPACE) >> 40);
	if (!can_time())
		return err_set(err, errno, "no timer can be made (ulimit -i): %s",
			       strerror(errno));
	fd = softkvm_open();
	if (fd == -ENODEV)
		return err_set(err, ENODEV,
			       "this CPU lacks something that softkvm is built on");
	if (fd == -EADDRINUSE)
		return err_set(err, EADDRINUSE,
			       "this process has memory above 47 bits of address, where a guest "
			       "could reach it");
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
};
