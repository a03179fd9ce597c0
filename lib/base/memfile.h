/* SPDX-License-Identifier: MIT */
/*
 * Memory that has a descriptor, so that it can be mapped more than once.
 *
 *	scoped_fd int fd = memfile_create("lodge-ram", size);
 *
 *	rw = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
 *	ro = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
 *
 * It is a memfd. Nobody is to execute it as a program, and it says so, because a host may refuse
 * those that do not (vm.memfd_noexec). Mapping it with PROT_EXEC is another matter, and allowed.
 */
#ifndef BASE_MEMFILE_H
#define BASE_MEMFILE_H

#include <stdint.h>

/* A descriptor, closed on exec, to which seals can be added; or -errno. -EFBIG: more than ulimit -f
 * allows (of which the kernel would tell by a signal). Its bytes are 0, and exist when they are touched. */
int memfile_create(const char *name, uint64_t size);

#endif
