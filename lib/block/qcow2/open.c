/* SPDX-License-Identifier: MIT */
/* From a file to a node; what it writes is for later (rule 7 of qcow2.h). */
#include "block/qcow2.h"

#include "base/bytes.h"
#include "base/err.h"
#include "base/macros.h"
#include "block/qcow2/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct qcow2 *new_node(struct node *file, const char *path)
{
	struct qcow2 *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->node.ops = &qcow2_ops;
	q->file = file;
	pthread_mutex_init(&q->lock, NULL);
	pthread_mutex_init(&q->unpacked_lock, NULL);
	pthread_cond_init(&q->released, NULL);
	q->path = strdup(path);
	return q;
}

#define CACHE_BYTES (2 * MiB)

static int open_it(struct qcow2 *q, const struct qcow2_config *config, struct err *err)
{
	int rc = q->path ? header_read(q, &config->tree, err) : err_set(err, ENOMEM, "out of memory");

	if (rc < 0)
		return rc;
	q->virgin = q->end;
	q->virgin_is_zero = true;
	if (cache_init(&q->cache, config->pages ? config->pages : (unsigned)(CACHE_BYTES / q->unit)) < 0)
		return err_set(err, ENOMEM, "out of memory");
	rc = snapshots_read(q, err);
	if (rc == 0 && config->snapshot)
		rc = q->node.readonly ? snapshot_enter(q, config->snapshot, err)
				      : err_set(err, EROFS, "what it was at a snapshot is only read");
	return rc < 0 || q->node.readonly || q->unchecked ? rc : refcounts_check(q, err);
}

int qcow2_open(struct node **node, const struct qcow2_config *config, struct err *err)
{
	struct qcow2 *q = new_node(config->file, config->path);
	int rc;

	*node = NULL;
	if (!q) {
		node_close(config->file);
		node_close(config->backing);
		return err_set(err, ENOMEM, "out of memory");
	}
	q->backing = config->backing;
	q->node.behind = config->backing;
	q->node.readonly = config->readonly;
	q->unchecked = config->unchecked;
	rc = open_it(q, config, err);
	if (rc < 0)
		node_close(&q->node);
	else
		*node = &q->node;
	return rc;
}

bool qcow2_is(struct node *file)
{
	uint8_t magic[4];

	return node_get(file, 0, magic, sizeof(magic)) == 0 && be32_get(magic) == QCOW2_MAGIC;
}

int qcow2_backing(struct node *file, char name[BACKING_NAME_MAX + 1], char format[16], struct err *err)
{
	struct qcow2 *q = new_node(file, "");
	int rc;

	if (!q)
		return err_set(err, ENOMEM, "out of memory");
	q->node.readonly = true;
	rc = header_read(q, &(struct qcow2_tree){0}, err);
	if (rc == 0)
		rc = header_backing(q, name, format, err);
	q->file = NULL;
	node_close(&q->node);
	return rc;
}
