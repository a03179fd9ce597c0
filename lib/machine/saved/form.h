/* SPDX-License-Identifier: MIT */
/* The forms of the files that saved.h and snapshot.h describe, for who writes them and who reads them. */
#ifndef MACHINE_SAVED_FORM_H
#define MACHINE_SAVED_FORM_H

#include "base/bytes.h"
#include "base/macros.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SAVED_MAGIC   "LODGE VM"
#define SAVED_VERSION 1u
#define SAVED_CHUNK   (2 * MiB) /* what one checksum is of; where memory may begin */
#define SAVED_PAGE    4096u
#define SAVED_HEADER  64u

#define SAVED_SECTIONS_MAX (64 * MiB) /* 64 vCPUs and all devices have 2 */

/* Where in the header. */
enum {
	AT_VERSION = 8, AT_DESCRIPTION = 12, AT_SECTIONS = 16, AT_MEMORY = 24, AT_MEMORY_LEN = 32,
	AT_BODY_SUM = 40, AT_HEADER_SUM = 56,

	AT_SNAPSHOT_LAYERS = 12, AT_SNAPSHOT_STATE = 16, AT_SNAPSHOT_LEN = 24, AT_SNAPSHOT_CREATED = 32,
	AT_LAYER_LEN = 16, AT_LAYER_MEMORY = 24, AT_LAYER_STORED = 32,
};

#define SNAPSHOT_MAGIC   "LODGE SN"
#define SNAPSHOT_VERSION 1u
#define LAYER_MAGIC      "LODGE LY"
#define LAYER_VERSION    1u

/* Never 0, which stands for a chunk of zeros. */
static inline uint64_t saved_sum(const void *bytes, size_t len)
{
	uint64_t sum = XXH64(bytes, len, 0);

	return sum ? sum : 1;
}

static inline uint64_t saved_chunks(uint64_t memory)
{
	return align_up(memory, SAVED_CHUNK) / SAVED_CHUNK;
}

#endif
