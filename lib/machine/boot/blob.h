/* SPDX-License-Identifier: MIT */
/*
 * A blob: a file that a loader reads from, at any place, with nothing assumed about it.
 *
 *	struct blob kernel;
 *	rc = blob_open(&kernel, "kernel", path, &err);
 *	rc = blob_read(&kernel, 0x1f1, header, sizeof(header), &err);
 *	blob_close(&kernel);
 *
 * Files are read, never mapped: a mapped file that somebody cuts short kills its reader. A
 * blob may also be bytes in memory, which is how tests and fuzz targets make them.
 */
#ifndef MACHINE_BOOT_BLOB_H
#define MACHINE_BOOT_BLOB_H

#include <stddef.h>
#include <stdint.h>

struct err;

struct blob {
	const char *role;     /* "kernel", "initrd": for messages */
	const char *path;     /* the caller's; must outlive the blob */
	uint64_t size;        /* when it was opened, in bytes */
	int fd;               /* -1: see bytes */
	const uint8_t *bytes; /* NULL: see fd */
};

/* Opens a regular file. The error names role and path. */
int blob_open(struct blob *blob, const char *role, const char *path, struct err *err);

/* Exactly len bytes from `at`, or -EINVAL: the file ends before. */
int blob_read(const struct blob *blob, uint64_t at, void *to, uint64_t len,
	      struct err *err);

/* The same to a place in another file. To fill guest RAM so is twice as fast as through its
 * mapping, where each page is a fault. */
int blob_copy(const struct blob *blob, uint64_t at, int to, uint64_t to_at, uint64_t len,
	      struct err *err);

/* Closing a zeroed or closed blob is fine. */
void blob_close(struct blob *blob);

#endif
