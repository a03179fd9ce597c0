/* SPDX-License-Identifier: MIT */
/* lodge-img snapshot: lists, makes, applies and removes the snapshots in a qcow2 image. */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/json.h"
#include "block/node.h"
#include "block/qcow2.h"
#include "prog/lodge-img/snapshots.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct snapshot {
	const char *path, *format;
	const char *apply, *create, *delete;
	bool list, quiet, shares;
};

static const struct option options[] = {
	{"-l", NULL, "lists them, which is what it does if nothing is said", OPTION_FLAG, offsetof(struct snapshot, list), 0, 0, NULL},
	{"-c", "NAME", "makes one", OPTION_TEXT, offsetof(struct snapshot, create), 0, 0, NULL},
	{"-a", "NAME", "the disk is what it was then", OPTION_TEXT, offsetof(struct snapshot, apply), 0, 0, NULL},
	{"-d", "NAME", "removes one", OPTION_TEXT, offsetof(struct snapshot, delete), 0, 0, NULL},
	{"-f", "FORMAT", "of the image: qcow2", OPTION_TEXT, offsetof(struct snapshot, format), 0, 0, NULL},
	OPTION_QUIET(offsetof(struct snapshot, quiet)),
	OPTION_SHARE(offsetof(struct snapshot, shares)),
	{0},
};

/* -- Listing --------------------------------------------------------------------------- */

void snapshots_put(struct json *j, struct node *node)
{
	json_open(j, "snapshots", '[');
	for (unsigned i = 0; i < qcow2_snapshots(node); i++) {
		struct qcow2_snapshot s;

		qcow2_snapshot_look(node, i, &s);
		json_open(j, NULL, '{');
		if (s.icount != UINT64_MAX)
			json_uint(j, "icount", s.icount);
		json_uint(j, "vm-clock-nsec", s.clock % 1000000000);
		json_str(j, "name", s.name);
		json_uint(j, "date-sec", s.seconds);
		json_uint(j, "date-nsec", s.ns);
		json_uint(j, "vm-clock-sec", s.clock / 1000000000);
		json_str(j, "id", s.id);
		json_uint(j, "vm-state-size", s.state_len);
		json_close(j);
	}
	json_close(j);
}

static void list_one(const struct qcow2_snapshot *s)
{
	uint64_t seconds = s->clock / 1000000000;
	char name[256], id[64], size[32], date[32] = "", icount[24] = "";
	time_t when = s->seconds;
	struct tm tm;

	snprintf(name, sizeof(name), "%s", s->name);
	snprintf(id, sizeof(id), "%s", s->id);
	err_harmless(name);
	err_harmless(id);
	if (localtime_r(&when, &tm))
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
	if (s->icount != UINT64_MAX)
		snprintf(icount, sizeof(icount), "%llu", (unsigned long long)s->icount);
	printf("%-10s%-17s%8s%20s %02llu:%02llu:%02llu.%03llu%11s\n", id, name, img_size_text(size, s->state_len), date,
	       (unsigned long long)(seconds / 3600), (unsigned long long)(seconds / 60 % 60),
	       (unsigned long long)(seconds % 60), (unsigned long long)(s->clock / 1000000 % 1000), icount);
}

void snapshots_list(struct node *node)
{
	printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT");
	for (unsigned i = 0; i < qcow2_snapshots(node); i++) {
		struct qcow2_snapshot s;

		qcow2_snapshot_look(node, i, &s);
		list_one(&s);
	}
}

/* -- Doing ----------------------------------------------------------------------------- */

static int act(const struct snapshot *s, struct node *node, struct err *err)
{
	if (s->create)
		return qcow2_snapshot_create(node, s->create, err);
	if (!s->apply && !s->delete) {
		if (qcow2_snapshots(node) && !s->quiet)
			snapshots_list(node);
		return 0;
	}
	return s->apply ? qcow2_snapshot_apply_said(node, s->apply, err) : qcow2_snapshot_delete_said(node, s->delete, err);
}

static int snapshot_main(void *parsed)
{
	const struct snapshot *s = parsed;
	unsigned n = s->list + !!s->apply + !!s->create + !!s->delete;
	bool writes = s->apply || s->create || s->delete;
	struct want want = {.path = s->path, .format = s->format, .writes = writes,
			    .how = img_how(s->shares, false) | IMAGE_BARE};
	struct err err = {0};
	struct image image;
	int rc = 0;

	if (n > 1)
		rc = err_set(&err, EINVAL, "-l, -c, -a and -d are one at a time");
	else if (s->shares && writes)
		rc = err_set(&err, EINVAL, "-U is for reading");
	if (rc < 0 || (rc = img_open(&image, &want, &err)) < 0)
		return img_fail(&err);
	rc = image.format == DISK_QCOW2 ? act(s, image.node, &err)
					: err_set(&err, ENOTSUP, "'%s' is %s, which has no snapshots", s->path, disk_formats[image.format]);
	if (rc < 0)
		node_close(image.node);
	else
		rc = img_close(&image, s->path, true, &err);
	return rc < 0 ? img_fail(&err) : EXIT_OK;
}

const struct verb verb_snapshot = {
	.name = "snapshot",
	.summary = "lists, makes, applies and removes the snapshots in an image",
	.text = FORMAT_TEXT,
	.operand = "FILE",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct snapshot),
	.main = snapshot_main,
};
