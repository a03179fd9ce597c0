/* SPDX-License-Identifier: MIT */
/* A host that cannot write, while a test says so: in one source of a test's program. */
#ifndef BLOCK_LOSSY_H
#define BLOCK_LOSSY_H

#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool sync_fails;

/* Stands before the C library's. */
int fdatasync(int fd)
{
	if (!sync_fails)
		return (int)syscall(SYS_fdatasync, fd);
	errno = EIO;
	return -1;
}

#endif
