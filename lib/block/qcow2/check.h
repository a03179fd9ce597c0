/* SPDX-License-Identifier: MIT */
/*
 * A look at an image: how often each cluster of the file is used, counted by going through all that leads to
 * one. check.c looks, repair.c mends.
 */
#ifndef BLOCK_QCOW2_CHECK_H
#define BLOCK_QCOW2_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "block/qcow2.h"
#include "block/qcow2/inside.h"

struct look {
	struct qcow2 *q;
	uint64_t n;      /* clusters of the file */
	uint32_t *used;  /* how often each is */
	uint8_t *seen;   /* a bit each: it is a table of the tree that we are in */
	uint8_t *table;  /* a cluster, for an L2 table or a refcount block */
	struct qcow2_check found;
	uint64_t low;    /* counts that are less than is used */
	bool bad_blocks; /* the refcount table leads nowhere, or to what is something else, too */
	uint64_t beyond; /* entries lead to clusters behind the file's end, up to this one; less than n: none does */
	void (*say)(const char *line);
	unsigned said;
};

/* Looks at all of it. */
int look_at_image(struct look *l);

/* Those that the refcount table and its blocks use, once more or once less. */
void look_at_refs(struct look *l, int by);

/* What a stored count is; 0 if there is none. */
int look_count(struct look *l, uint64_t cluster, uint64_t *count);

/* One block of counts into l->table; zeros if there is none. */
int look_block(struct look *l, uint64_t i);

/* Whether an entry's COPIED bit is right, by the stored counts; tables are those of the active tree. */
int look_at_copied(struct look *l, bool mend);

/* Clusters that are in the file, once more or once less; and what leads nowhere, one corruption. */
void look_use(struct look *l, uint64_t first, uint64_t n, int by);
void look_corrupt(struct look *l, const char *what, uint64_t at);

/* -- bitmaps.c ----------------------------------------------------------------------- */

/* Whether it has bitmaps that are right, which it would lose if it were written. */
bool has_bitmaps(const struct qcow2 *q);

/* Counts what they use. */
int use_bitmaps(struct look *l);

/* -- repair.c ------------------------------------------------------------------------ */

/* Counts that are more than is used become what is used. Only that: so there is no order to keep. */
int mend_leaks(struct look *l);

/* New counts for all, beside the old ones (rule 5 of qcow2.h). */
int mend_counts(struct look *l, struct err *err);

/* An image that has been found right is not marked as anything else. */
int mend_marks(struct qcow2 *q);

#endif
