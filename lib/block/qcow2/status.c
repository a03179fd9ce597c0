/* SPDX-License-Identifier: MIT */
/*
 * What an image says of itself, without reading the guest's data: where each part of the disk is, which form the image
 * has, what its snapshots are called.
 */
#include "block/qcow2.h"
#include "block/qcow2/inside.h"

#include "base/bytes.h"
#include "base/scoped.h"

#include <string.h>

/* -- Places ---------------------------------------------------------------------------- */

/* What is behind the image says it, as far as that goes; from there on nobody does, and it is zeros. */
static int status_behind(struct qcow2 *q, uint64_t at, struct node_status *s)
{
	uint64_t there = !q->backing || at >= q->backing->size ? 0 : q->backing->size - at;
	int rc;

	s->zero = true;
	if (!there)
		return 0;
	rc = q->backing->ops->status(q->backing, at, s->len < there ? s->len : there, s);
	s->depth++;
	return rc;
}

int status_qcow2(struct node *n, uint64_t at, uint64_t len, struct node_status *s)
{
	struct qcow2 *q = qcow2_of(n);
	uint64_t in = at & (q->cluster - 1), clusters = clusters_of(q, in + len);
	struct run run;
	int rc;

	*s = (struct node_status){.len = len};
	pthread_mutex_lock(&q->lock);
	rc = map_find(q, at >> q->cluster_bits, clusters, false, &run);
	pthread_mutex_unlock(&q->lock);
	if (rc < 0)
		return rc;
	if ((run.n << q->cluster_bits) - in < len)
		s->len = (run.n << q->cluster_bits) - in;
	if (run.what == UNALLOCATED)
		return status_behind(q, at, s);
	s->here = true;
	s->zero = run.what == ZEROES;
	s->data = !s->zero;
	s->packed = run.what == PACKED;
	s->has_place = run.what == DATA;
	s->place = s->has_place ? (run.entry & ENTRY_OFFSET) + in : 0;
	return 0;
}

/* -- The form -------------------------------------------------------------------------- */

void qcow2_form(struct node *node, struct qcow2_form *f)
{
	const struct qcow2 *q = qcow2_of(node);
	uint64_t wanted = q->version >= 3 ? be64_get(q->header + AT_INCOMPATIBLE) : 0;
	uint64_t may = q->version >= 3 ? be64_get(q->header + AT_COMPATIBLE) : 0;

	*f = (struct qcow2_form){
		.version = q->version, .cluster = q->cluster, .order = q->order, .zstd = q->zstd,
		.dirty = wanted & INCOMPATIBLE_DIRTY, .corrupt = q->corrupt || (wanted & INCOMPATIBLE_CORRUPT),
		.lazy = may & COMPATIBLE_LAZY,
	};
}

int qcow2_backing_of(struct node *node, char name[BACKING_NAME_MAX + 1], char format[16], struct err *err)
{
	return header_backing(qcow2_of(node), name, format, err);
}

void qcow2_snapshot_look(struct node *node, unsigned i, struct qcow2_snapshot *s)
{
	const struct snapshot *from = &qcow2_of(node)->snapshots[i];

	snapshot_look(from, s);
}
