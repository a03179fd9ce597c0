/* SPDX-License-Identifier: MIT */
/*
 * The few macros that C forgot.
 *
 *	for (unsigned i = 0; i < ARRAY_SIZE(table); i++)
 *		...
 *	struct request *r = container_of(disk_req, struct request, disk);
 *	uint64_t end = align_up(at, 4 * KiB);
 *
 * Arguments are evaluated more than once: no side effects in them.
 */
#ifndef BASE_MACROS_H
#define BASE_MACROS_H

#include <stddef.h>
#include <stdint.h>

/* Bytes, as uint64_t. */
#define KiB (UINT64_C(1) << 10)
#define MiB (UINT64_C(1) << 20)
#define GiB (UINT64_C(1) << 30)

/* The number of elements; does not compile for a pointer. */
#define ARRAY_SIZE(a)                                                                      \
	(sizeof(a) / sizeof((a)[0]) +                                                      \
	 0 * sizeof(char[__builtin_types_compatible_p(__typeof__(a), __typeof__(&(a)[0]))  \
				 ? -1                                                      \
				 : 1]))

/* From a member back to the struct that holds it. */
#define container_of(ptr, type, member)                                                    \
	((type *)(void *)((char *)(ptr) - offsetof(type, member)))

/* To a multiple of `to`, a power of two. */
#define align_down(n, to) ((n) & ~((__typeof__(n))(to) - 1))
#define align_up(n, to)   align_down((n) + (__typeof__(n))(to) - 1, to)

#endif
