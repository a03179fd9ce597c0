/* SPDX-License-Identifier: MIT */
/*
 * Little-endian fields in byte buffers, aligned or not; and big-endian ones, by be32_get() and the like.
 *
 * Anything with a layout of its own (a kernel header, a virtqueue descriptor, an ACPI table)
 * is read and written by these, never by casting a buffer to a struct: no alignment rule,
 * no aliasing rule and no forgotten conversion. Each compiles to one move.
 *
 *	uint8_t header[64];
 *
 *	size = le32_get(header + 0x14);
 *	le16_put(header + 0x1fe, 0xaa55);
 *
 * The caller sees to it that 2, 4 or 8 bytes are there. Any thread; not atomic.
 */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Nothing but zeros; n is not 0. Each byte is the one before it, and the first is 0. */
static inline bool is_all_zero(const void *at, size_t n)
{
	const uint8_t *p = at;

	return !p[0] && !__builtin_memcmp(p, p + 1, n - 1);
}

static inline uint16_t le16_get(const void *at)
{
	uint16_t v;

	__builtin_memcpy(&v, at, sizeof(v));
	return le16toh(v);
}

static inline uint32_t le32_get(const void *at)
{
	uint32_t v;

	__builtin_memcpy(&v, at, sizeof(v));
	return le32toh(v);
}

static inline uint64_t le64_get(const void *at)
{
	uint64_t v;

	__builtin_memcpy(&v, at, sizeof(v));
	return le64toh(v);
}

static inline void le16_put(void *at, uint16_t v)
{
	v = htole16(v);
	__builtin_memcpy(at, &v, sizeof(v));
}

static inline void le32_put(void *at, uint32_t v)
{
	v = htole32(v);
	__builtin_memcpy(at, &v, sizeof(v));
}

static inline void le64_put(void *at, uint64_t v)
{
	v = htole64(v);
	__builtin_memcpy(at, &v, sizeof(v));
}

static inline uint16_t be16_get(const void *at)
{
	uint16_t v;

	__builtin_memcpy(&v, at, sizeof(v));
	return be16toh(v);
}

static inline uint32_t be32_get(const void *at)
{
	uint32_t v;

	__builtin_memcpy(&v, at, sizeof(v));
	return be32toh(v);
}

static inline uint64_t be64_get(const void *at)
{
	uint64_t v;

	__builtin_memcpy(&v, at, sizeof(v));
	return be64toh(v);
}

static inline void be16_put(void *at, uint16_t v)
{
	v = htobe16(v);
	__builtin_memcpy(at, &v, sizeof(v));
}

static inline void be32_put(void *at, uint32_t v)
{
	v = htobe32(v);
	__builtin_memcpy(at, &v, sizeof(v));
}

static inline void be64_put(void *at, uint64_t v)
{
	v = htobe64(v);
	__builtin_memcpy(at, &v, sizeof(v));
}

#endif
