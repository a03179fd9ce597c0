/* SPDX-License-Identifier: MIT */
/*
 * Tables of which little is touched.
 *
 * The engine's tables are as large as they could ever have to be, some of them terabytes; what
 * exists is the pages that were touched. Private memory does this best, because a page that is
 * only read costs nothing. But where a process's private memory is counted as it is mapped
 * (ulimit -d, vm.overcommit_memory = 2) no such table fits. There it is the memory of a file
 * without a name, which is counted as it is touched.
 *
 *	uint64_t *table = space_create(n * 8);
 *
 *	space_clear(table, n * 8);
 *	munmap(table, n * 8);
 */
#ifndef SOFTKVM_SPACE_H
#define SOFTKVM_SPACE_H

#include <stddef.h>

/* Zeros; NULL: no room. */
void *space_create(size_t len);

/* The same, at a multiple of SPACE_HUGE, and the host is told that a page of that size suits: for what is touched all
 * over, and soon. The second tells it so of whole such pages of a space. */
#define SPACE_HUGE (2ul << 20)
void *space_create_huge(size_t len);
void space_wants_huge(void *at, size_t len);

/* Whole pages of it will be written, all and soon: one system call instead of a fault for each. Nothing
 * happens on hosts before Linux 5.14. Also while vector state is live. */
void space_touch(void *at, size_t len);

/* The same of memory that may not be written. */
void space_look(void *at, size_t len);

/* Whole pages of it are zeros again, and neither they nor the host's page tables for them take memory; what
 * madvise() was told is forgotten. Also while vector state is live. */
void space_clear(void *at, size_t len);

#endif
