/* SPDX-License-Identifier: MIT */
/*
 * Persistent bitmaps: what has changed in a disk, for backups. We do not have them: the first change to an image strikes out the
 * bit that says that they are right (qcow2.h, rule 7). But as long as that is there, what they use is used:
 *
 *	header extension -> directory, entries of 24 bytes and a name -> a bitmap's table -> clusters of bits
 *
 * All of it is a stranger's: the directory has a bound, and tables, which are read, are together not longer than the file.
 */
#include "block/qcow2/check.h"

#include "base/bytes.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DIRECTORY_MAX (UINT32_C(16) << 20)
#define TABLE_READ    512u /* bytes of a table at a time: no cluster is smaller */

enum { X_N = 0, X_LEN = 8, X_AT = 16, X_BYTES = 24 };                            /* the extension */
enum { B_TABLE = 0, B_TABLE_N = 8, B_NAME_LEN = 18, B_EXTRA_LEN = 20, B_FIXED = 24 }; /* an entry of the directory */

struct directory {
	uint64_t at, len;
	uint32_t n;
};

static bool see_bitmaps(uint32_t type, const uint8_t *bytes, uint32_t len, void *ctx)
{
	struct directory *d = ctx;

	if (type != EXTENSION_BITMAPS || len < X_BYTES)
		return false;
	*d = (struct directory){be64_get(bytes + X_AT), be64_get(bytes + X_LEN), be32_get(bytes + X_N)};
	return true;
}

bool has_bitmaps(const struct qcow2 *q)
{
	return q->version >= 3 && (be64_get(q->header + AT_AUTOCLEAR) & AUTOCLEAR_BITMAPS);
}

static bool is_place(const struct look *l, uint64_t at, uint64_t len)
{
	uint64_t end = l->n << l->q->cluster_bits;

	return at % l->q->cluster == 0 && at >= l->q->cluster && at < end && len <= end - at;
}

static void use_bits(struct look *l, uint64_t entry)
{
	uint64_t at = entry & ENTRY_OFFSET;

	if (at && is_place(l, at, l->q->cluster))
		look_use(l, at >> l->q->cluster_bits, 1, 1);
	else if (at)
		look_corrupt(l, "an entry of a bitmap's table", at);
}

static int use_bitmap_table(struct look *l, uint64_t at, uint64_t len)
{
	uint8_t bytes[TABLE_READ];
	int rc = 0;

	look_use(l, at >> l->q->cluster_bits, clusters_of(l->q, len), 1);
	for (uint64_t done = 0; rc == 0 && done < len; done += TABLE_READ) {
		uint64_t n = len - done < TABLE_READ ? len - done : TABLE_READ;

		rc = node_get(l->q->file, at + done, bytes, n);
		for (uint64_t i = 0; rc == 0 && i < n; i += 8)
			use_bits(l, be64_get(bytes + i));
	}
	return rc;
}

/* Length of an entry, or 0 if it is not all there. */
static uint64_t entry_len(const uint8_t *at, uint64_t left)
{
	uint64_t len;

	if (left < B_FIXED)
		return 0;
	len = (B_FIXED + (uint64_t)be32_get(at + B_EXTRA_LEN) + be16_get(at + B_NAME_LEN) + 7) & ~UINT64_C(7);
	return len <= left ? len : 0;
}

static int use_directory(struct look *l, const struct directory *d, const uint8_t *bytes)
{
	uint64_t at = 0, room = l->n << l->q->cluster_bits, one;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < d->n; i++, at += one) {
		uint64_t table, len;

		one = entry_len(bytes + at, d->len - at);
		table = one ? be64_get(bytes + at + B_TABLE) : 0;
		len = one ? be32_get(bytes + at + B_TABLE_N) * UINT64_C(8) : 0;
		if (!one || len > room || !is_place(l, table, len)) {
			look_corrupt(l, one ? "a bitmap" : "a bitmap that is cut off", one ? table : d->at + at);
			return 0;
		}
		room -= len;
		rc = use_bitmap_table(l, table, len);
	}
	return rc;
}

int use_bitmaps(struct look *l)
{
	struct directory d = {0};
	scoped_mem uint8_t *bytes = NULL;
	int rc = header_extensions(l->q, see_bitmaps, &d, NULL);

	if (rc < 0 || !d.n)
		return rc == -EINVAL ? 0 : rc; /* extensions that run out of their cluster: none */
	if (d.len > DIRECTORY_MAX || !is_place(l, d.at, d.len)) {
		look_corrupt(l, "the extension for bitmaps", d.at);
		return 0;
	}
	look_use(l, d.at >> l->q->cluster_bits, clusters_of(l->q, d.len), 1);
	bytes = malloc(d.len + 1);
	rc = bytes ? node_get(l->q->file, d.at, bytes, d.len) : -ENOMEM;
	return rc < 0 ? rc : use_directory(l, &d, bytes);
}
