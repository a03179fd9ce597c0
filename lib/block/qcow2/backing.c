/* SPDX-License-Identifier: MIT */
/*
 * Another image behind an image, or none. Name and format are in the first cluster, in different places:
 *
 *	header, extensions (one has the format), their end      in the first sector
 *	the name                                                where the header says
 *
 * The first sector is written by one write that is done or not done; it says where the name is. So the new name is put where the old
 * one is not, and flushed, and then the sector leads to it. If name and all are in the first sector, that write does it alone.
 *
 * For this the extensions must fit in the first sector. The list of what features are called, which is only for sentences, makes room; if
 * that is not enough, we refuse.
 */
#include "block/qcow2.h"
#include "block/qcow2/inside.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "base/scoped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct rewriting {
	uint8_t sector[HEADER_SECTOR]; /* as it is to be */
	uint32_t at;                   /* where the next extension goes */
	uint32_t old_end;              /* of extensions as they are: the header leads there until it is written */
	bool full, without_names;
};

static void put_extension(struct rewriting *w, uint32_t type, const void *bytes, uint32_t len)
{
	uint32_t whole = 8 + ((len + 7) & ~7u);

	if (w->full || len > HEADER_SECTOR || w->at + whole + 8 > HEADER_SECTOR) {
		w->full = true;
		return;
	}
	be32_put(w->sector + w->at, type);
	be32_put(w->sector + w->at + 4, len);
	if (len)
		memcpy(w->sector + w->at + 8, bytes, len);
	w->at += whole;
}

static bool keep_extension(uint32_t type, const uint8_t *bytes, uint32_t len, void *ctx)
{
	struct rewriting *w = ctx;

	w->old_end += 8 + ((len + 7) & ~7u);
	if (type != EXTENSION_BACKING_FORMAT && !(type == EXTENSION_FEATURES && w->without_names))
		put_extension(w, type, bytes, len);
	return false;
}

static int build(struct qcow2 *q, struct rewriting *w, const char *format, struct err *err)
{
	uint32_t header = q->version >= 3 ? be32_get(q->header + AT_HEADER_LEN) : HEADER_V2;
	int rc;

	memset(w->sector, 0, sizeof(w->sector));
	w->full = header > HEADER_SECTOR - 8;
	if (w->full)
		return 0;
	memcpy(w->sector, q->header, header);
	w->at = header;
	w->old_end = header + 8; /* and the end of them */
	rc = header_extensions(q, keep_extension, w, err);
	if (rc == 0 && format)
		put_extension(w, EXTENSION_BACKING_FORMAT, format, (uint32_t)strlen(format));
	w->at += 8; /* the end of them: zeros */
	return rc;
}

/* Where the name goes; 0: there is no room. At the cluster's end, far from extensions, or else in front of the old name there. */
static uint64_t find_room(const struct qcow2 *q, const struct rewriting *w, uint64_t len)
{
	uint64_t old = be64_get(q->header + AT_BACKING), old_end = old + be32_get(q->header + AT_BACKING_LEN);
	uint64_t at;

	if (w->at + len <= HEADER_SECTOR)
		return w->at;
	if (q->cluster < HEADER_SECTOR + len)
		return 0;
	at = align_down(q->cluster - len, UINT64_C(8));
	if (old && at < old_end)
		at = old > len ? align_down(old - len, UINT64_C(8)) : 0;
	return at >= HEADER_SECTOR && at >= w->old_end ? at : 0;
}

static int write_it(struct qcow2 *q, struct rewriting *w, const char *name, uint64_t len)
{
	uint64_t at = len ? find_room(q, w, len) : 0;
	int rc = 0;

	if (len && !at)
		return -ENOSPC;
	be64_put(w->sector + AT_BACKING, at);
	be32_put(w->sector + AT_BACKING_LEN, (uint32_t)len);
	if (len && at < HEADER_SECTOR)
		memcpy(w->sector + at, name, len);
	else if (len)
		rc = node_put(q->file, at, name, len);
	if (rc < 0 || (rc = node_flush(q->file)) < 0)
		return rc;
	memcpy(q->header, w->sector, HEADER_SECTOR);
	if ((rc = header_write(q)) < 0 || (rc = node_flush(q->file)) < 0)
		q->corrupt = true;
	return rc;
}

int qcow2_set_backing(struct node *node, const char *name, const char *format, struct err *err)
{
	struct qcow2 *q = qcow2_of(node);
	uint64_t len = name ? strlen(name) : 0;
	struct rewriting w = {.full = false};
	int rc;

	scoped_lock(&q->lock);
	if (len > BACKING_NAME_MAX || (format && strlen(format) > 15))
		return err_set(err, EINVAL, "the name of the image behind it has %llu bytes, and %u are the most",
			       (unsigned long long)len, BACKING_NAME_MAX);
	rc = begin_writing(q);
	if (rc == 0)
		rc = commit(q);
	if (rc < 0)
		return err_sys(err, -rc, "changing what is behind it");
	rc = build(q, &w, len ? format : NULL, err);
	if (rc == 0 && w.full) {
		w = (struct rewriting){.without_names = true};
		rc = build(q, &w, len ? format : NULL, err);
	}
	if (rc < 0)
		return rc;
	if (w.full)
		return err_set(err, ENOSPC, "its header has extensions that leave no room for another format behind it");
	rc = write_it(q, &w, name, len);
	if (rc == -ENOSPC)
		return err_set(err, ENOSPC, "there is no room in its first cluster for a name of %llu bytes beside the old one",
			       (unsigned long long)len);
	return rc < 0 ? err_sys(err, -rc, "changing what is behind it") : 0;
}
