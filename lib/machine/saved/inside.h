/* SPDX-License-Identifier: MIT */
/* A saved machine that is open, and pieces of such files, for the files of this directory and who makes a machine of it. */
#ifndef MACHINE_SAVED_INSIDE_H
#define MACHINE_SAVED_INSIDE_H

#include <stddef.h>
#include <stdint.h>

#include "machine/boot/blob.h"
#include "machine/machine.h"
#include "machine/saved.h"

struct saved {
	struct blob file;
	uint64_t description_len, sections_len, memory_at, memory_len, body_sum;
	uint8_t *body; /* description, sections, checksums of memory */
	size_t body_len;
	struct json_value *description;
	struct saved_disk disks[MACHINE_DISKS_MAX];
	unsigned n_disks;
	struct saved_disk cds[MACHINE_CDS_MAX];
	unsigned n_cds;
};

/* Calls take() for each piece of guest memory that the file has, in order, until one returns other than 0. What
 * the file system does not know as a hole is a piece, too. */
int saved_memory(const struct saved *s, int (*take)(void *ctx, uint64_t at, uint64_t len),
		 void *ctx);

/* Of which kind a file says that it is. */
struct saved_kind {
	const char *name, *magic;
	uint32_t version;
};

/* The first SAVED_HEADER bytes of a file, if they are whole and of that kind; file->size, too. */
int saved_read_header(struct blob *file, const struct saved_kind *kind, uint8_t *header, struct err *err);

/* Memory as it lies at `begin` of a file, beside its checksums: -EINVAL names the first place that differs. */
int saved_check_memory(const struct blob *file, uint64_t begin, uint64_t memory, const uint8_t *sums,
		       struct err *err);

/* Writes all of it. */
int saved_put(int fd, const void *bytes, size_t len, uint64_t at, struct err *err);

/* Writes the pages of a chunk that are not zeros, and adds to `stored` how many bytes those are. */
int saved_put_chunk(int fd, const uint8_t *chunk, size_t len, uint64_t at, uint64_t *stored,
		    struct err *err);

#endif
