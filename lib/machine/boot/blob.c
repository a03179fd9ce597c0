/* SPDX-License-Identifier: MIT */
/*
 * Reading kernel files and initrds.
 *
 * What can be wrong with a path is sorted out here, in words, so that loaders only see
 * bytes: missing, unreadable, a directory, a pipe, empty. A file that shrinks after it was
 * opened fails in blob_read(), with the place where it ended.
 */
#include "machine/boot/blob.h"

#include "base/err.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One read() moves less than 2 GiB on Linux, whatever was asked. */
#define READ_MAX (1u << 30)

/* What is copied at a time: small enough to stay in a CPU's cache. */
#define PIECE (256u << 10)

static int check_kind(const struct blob *blob, const struct stat *st, struct err *err)
{
	if (S_ISDIR(st->st_mode))
		return err_set(err, EISDIR, "%s '%s' is a directory", blob->role,
			       blob->path);
	if (!S_ISREG(st->st_mode))
		return err_set(err, EINVAL, "%s '%s' is not a regular file", blob->role,
			       blob->path);
	if (st->st_size == 0)
		return err_set(err, EINVAL, "%s '%s' is empty", blob->role, blob->path);
	return 0;
}

int blob_open(struct blob *blob, const char *role, const char *path, struct err *err)
{
	struct stat st;
	int rc;

	*blob = (struct blob){.role = role, .path = path, .fd = -1};
	/* O_NONBLOCK: opening a FIFO must not wait for somebody to write to it. */
	blob->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (blob->fd < 0)
		return err_sys(err, errno, "%s '%s'", role, path);
	if (fstat(blob->fd, &st) < 0)
		rc = err_sys(err, errno, "%s '%s'", role, path);
	else
		rc = check_kind(blob, &st, err);
	if (rc < 0) {
		blob_close(blob);
		return rc;
	}
	blob->size = (uint64_t)st.st_size;
	return 0;
}

static int cut_off(const struct blob *blob, uint64_t at, uint64_t len, struct err *err)
{
	return err_set(err, EINVAL,
		       "%s '%s' is cut off: %llu bytes at %llu are wanted, it has %llu",
		       blob->role, blob->path, (unsigned long long)len,
		       (unsigned long long)at, (unsigned long long)blob->size);
}

int blob_read(const struct blob *blob, uint64_t at, void *to, uint64_t len,
	      struct err *err)
{
	if (at > blob->size || len > blob->size - at)
		return cut_off(blob, at, len, err);
	if (blob->bytes) {
		memcpy(to, blob->bytes + at, len);
		return 0;
	}
	for (uint64_t done = 0; done < len;) {
		uint64_t want = len - done < READ_MAX ? len - done : READ_MAX;
		ssize_t n = pread(blob->fd, (uint8_t *)to + done, want,
				  (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(err, errno, "%s '%s'", blob->role, blob->path);
		if (n == 0)
			return cut_off(blob, at, len, err);
		done += (uint64_t)n;
	}
	return 0;
}

static int write_all(int to, const uint8_t *from, uint64_t len, uint64_t at)
{
	while (len) {
		ssize_t n = pwrite(to, from, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ENOSPC;
		from += n;
		at += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

int blob_copy(const struct blob *blob, uint64_t at, int to, uint64_t to_at, uint64_t len,
	      struct err *err)
{
	scoped_mem uint8_t *piece = malloc(PIECE);
	int rc = piece ? 0 : err_set(err, ENOMEM, "no memory to read a file");

	while (rc == 0 && len) {
		uint64_t n = len < PIECE ? len : PIECE;

		rc = blob_read(blob, at, piece, n, err);
		if (rc == 0 && (rc = write_all(to, piece, n, to_at)) < 0)
			err_set(err, -rc, "%s '%s' does not get into guest memory: %s",
				blob->role, blob->path, strerror(-rc));
		at += n;
		to_at += n;
		len -= n;
	}
	return rc;
}

void blob_close(struct blob *blob)
{
	if (blob->path && !blob->bytes && blob->fd >= 0)
		close(blob->fd);
	*blob = (struct blob){.fd = -1};
}
