/* SPDX-License-Identifier: MIT */
/*
 * Moving bytes without libc, for C that runs while the guest's vector registers are live.
 *
 * Copies of 1, 2, 4 and 8 bytes are one load and one store each, so that a guest's ordinary
 * accesses stay whole (single-copy atomic) as they are on a CPU. Others go in units of 8.
 * The volatile accesses keep the compiler from turning the loops into calls of memcpy.
 */
#ifndef SOFTKVM_BYTES_H
#define SOFTKVM_BYTES_H

#include <stdbool.h>
#include <stdint.h>

typedef uint16_t __attribute__((may_alias, aligned(1))) bytes_u16;
typedef uint32_t __attribute__((may_alias, aligned(1))) bytes_u32;
typedef uint64_t __attribute__((may_alias, aligned(1))) bytes_u64;

/* The areas may overlap only if dst lies below src. */
static inline void bytes_copy(void *dst, const void *src, unsigned long n)
{
	volatile uint8_t *d = dst;
	const volatile uint8_t *s = src;

	if (n > 256) {
		__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
		return;
	}
	for (; n >= 8; n -= 8, d += 8, s += 8)
		*(volatile bytes_u64 *)d = *(const volatile bytes_u64 *)s;
	if (n & 4) {
		*(volatile bytes_u32 *)d = *(const volatile bytes_u32 *)s;
		d += 4;
		s += 4;
	}
	if (n & 2) {
		*(volatile bytes_u16 *)d = *(const volatile bytes_u16 *)s;
		d += 2;
		s += 2;
	}
	if (n & 1)
		*d = *s;
}

static inline void bytes_set(void *dst, uint8_t value, unsigned long n)
{
	volatile uint8_t *d = dst;
	uint64_t v = 0x0101010101010101ull * value;

	if (n > 256) {
		__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(value) : "memory");
		return;
	}
	for (; n >= 8; n -= 8, d += 8)
		*(volatile bytes_u64 *)d = v;
	for (; n; n--)
		*d++ = value;
}

static inline void bytes_zero(void *dst, unsigned long n)
{
	bytes_set(dst, 0, n);
}

static inline bool bytes_equal(const void *a, const void *b, unsigned long n)
{
	const uint8_t *x = a, *y = b;

	for (; n >= 8; n -= 8, x += 8, y += 8)
		if (*(const bytes_u64 *)x != *(const bytes_u64 *)y)
			return false;
	for (; n; n--)
		if (*x++ != *y++)
			return false;
	return true;
}

/* Little-endian numbers of 1, 2, 4 or 8 bytes at any address. */
static inline uint64_t bytes_load(const void *src, unsigned n)
{
	switch (n) {
	case 1:
		return *(const volatile uint8_t *)src;
	case 2:
		return *(const volatile bytes_u16 *)src;
	case 4:
		return *(const volatile bytes_u32 *)src;
	default:
		return *(const volatile bytes_u64 *)src;
	}
}

static inline void bytes_store(void *dst, uint64_t value, unsigned n)
{
	switch (n) {
	case 1:
		*(volatile uint8_t *)dst = (uint8_t)value;
		break;
	case 2:
		*(volatile bytes_u16 *)dst = (uint16_t)value;
		break;
	case 4:
		*(volatile bytes_u32 *)dst = (uint32_t)value;
		break;
	default:
		*(volatile bytes_u64 *)dst = value;
		break;
	}
}

#endif
