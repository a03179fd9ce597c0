/* SPDX-License-Identifier: MIT */
/*
 * See space.h. Of a file's memory MADV_REMOVE frees the pages; for private memory it fails. The host's
 * page tables go only with the mapping, so the memory is mapped anew.
 */
#include "softkvm/os/space.h"

#include <linux/mman.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/memfile.h"
#include "softkvm/os/syscall.h"

#define PAGE 4096

static void *private_space(size_t len)
{
	return mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

static void *file_space(size_t len)
{
	int fd = memfile_create("softkvm-space", len);
	void *p;

	if (fd < 0)
		return MAP_FAILED;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	close(fd);
	if (p != MAP_FAILED && madvise(p, PAGE, MADV_REMOVE)) { /* space_clear() could not */
		munmap(p, len);
		p = MAP_FAILED;
	}
	return p;
}

void *space_create(size_t len)
{
	void *p;

	len = (len + PAGE - 1) & ~(size_t)(PAGE - 1);
	p = private_space(len);
	if (p == MAP_FAILED)
		p = file_space(len);
	return p == MAP_FAILED ? NULL : p;
}

static bool advise(void *at, size_t len, int advice)
{
	return sys_call3(SYS_madvise, (long)at, (long)len, advice) == 0;
}

void space_wants_huge(void *at, size_t len)
{
	advise(at, len, MADV_HUGEPAGE);
}

void *space_create_huge(size_t len)
{
	size_t all = len + SPACE_HUGE;
	uint8_t *p = space_create(all), *at;

	if (!p)
		return NULL;
	at = (uint8_t *)(((uintptr_t)p + SPACE_HUGE - 1) & ~(SPACE_HUGE - 1));
	if (at > p)
		munmap(p, (size_t)(at - p));
	munmap(at + len, (size_t)(p + all - (at + len)));
	space_wants_huge(at, len);
	return at;
}

void space_touch(void *at, size_t len)
{
	advise(at, len, MADV_POPULATE_WRITE);
}

void space_look(void *at, size_t len)
{
	advise(at, len, MADV_POPULATE_READ);
}

/* A file's memory mapped once more, and that moved to where it was: the page tables are new. */
static void map_again(void *at, size_t len)
{
	long other = sys_call6(SYS_mremap, (long)at, 0, (long)len, MREMAP_MAYMOVE, 0, 0);

	if (other > 0 && sys_call6(SYS_mremap, other, (long)len, (long)len,
				   MREMAP_MAYMOVE | MREMAP_FIXED, (long)at, 0) != (long)at)
		sys_call3(SYS_munmap, other, (long)len, 0);
}

void space_clear(void *at, size_t len)
{
	if (advise(at, len, MADV_REMOVE))
		map_again(at, len);
	else if (sys_call6(SYS_mmap, (long)at, (long)len, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) !=
		 (long)at)
		__builtin_trap(); /* what stays may be wrong by now */
}
