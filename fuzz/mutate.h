/* SPDX-License-Identifier: MIT */
/*
 * Saved state with bytes changed as an input says: random bytes are no sections, these are, nearly.
 *
 *	[number of changes: 1, modulo 8]   each: [where: 3, modulo the length] [what is added: 1]
 */
#ifndef FUZZ_MUTATE_H
#define FUZZ_MUTATE_H

#include "base/bytes.h"

#include <stddef.h>
#include <stdint.h>

/* Returns how much of the input was used. */
static inline size_t mutate(uint8_t *bytes, size_t len, const uint8_t *data, size_t size)
{
	size_t used = size ? 1 : 0;

	for (unsigned n = size ? data[0] % 8 : 0; n && size - used >= 4; n--, used += 4) {
		size_t where = (le16_get(data + used) | (size_t)data[used + 2] << 16) % len;

		bytes[where] = (uint8_t)(bytes[where] + data[used + 3]);
	}
	return used;
}

#endif
