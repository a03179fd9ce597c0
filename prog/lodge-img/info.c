/* SPDX-License-Identifier: MIT */
/*
 * lodge-img info: what an image is. It reads headers and tables, and no data. The image behind it is named and not looked at, but
 * for --backing-chain.
 */
#include "prog/lodge-img/img.h"

#include "base/err.h"
#include "base/json.h"
#include "base/scoped.h"
#include "block/node.h"
#include "block/qcow2.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "prog/lodge-img/snapshots.h"

#define CHAIN_MAX 17u

struct info {
	const char *path, *format, *output;
	bool chain, shares, follow;
};

static const struct option options[] = {
	OPTION_FORMAT(offsetof(struct info, format)),
	{"--backing-chain", NULL, "all those behind it, too", OPTION_FLAG, offsetof(struct info, chain), 0, 0, NULL},
	OPTION_OUTPUT(offsetof(struct info, output)),
	OPTION_FOLLOW(offsetof(struct info, follow)),
	OPTION_SHARE(offsetof(struct info, shares)),
	{0},
};

/* One image of a chain. */
struct one {
	struct image image;
	const char *path;
	uint64_t size, on_disk;
	char behind[1024], behind_format[16], full[PATH_MAX];
	struct qcow2_form form;
};

static int look(struct one *o, const struct info *i, const char *path, const char *format, struct err *err)
{
	struct want want = {.path = path, .format = format, .how = img_how(i->shares, false) | IMAGE_BARE};
	struct stat st;
	int rc = img_open(&o->image, &want, err);

	if (rc < 0)
		return rc;
	o->path = path;
	o->size = img_size(&o->image);
	if (fstat(o->image.fd, &st) == 0)
		o->on_disk = (uint64_t)st.st_blocks * 512;
	if (o->image.format != DISK_QCOW2)
		return 0;
	qcow2_form(o->image.node, &o->form);
	rc = qcow2_backing_of(o->image.node, o->behind, o->behind_format, err);
	if (rc < 0)
		return err_at(err, rc, "'%s'", path);
	img_join(o->full, path, o->behind);
	return 0;
}

/* -- JSON ------------------------------------------------------------------------------ */

static void put_form(struct json *j, const struct qcow2_form *f)
{
	json_open(j, "format-specific", '{');
	json_str(j, "type", "qcow2");
	json_open(j, "data", '{');
	json_str(j, "compat", f->version >= 3 ? "1.1" : "0.10");
	json_str(j, "compression-type", f->zstd ? "zstd" : "zlib");
	if (f->version >= 3)
		json_bool(j, "lazy-refcounts", f->lazy);
	json_uint(j, "refcount-bits", 1u << f->order);
	if (f->version >= 3) {
		json_bool(j, "corrupt", f->corrupt);
		json_bool(j, "extended-l2", false);
	}
	json_close(j);
	json_close(j);
}

static void put_json(struct json *j, const struct one *o)
{
	bool is_qcow2 = o->image.format == DISK_QCOW2;

	json_open(j, NULL, '{');
	if (is_qcow2 && qcow2_snapshots(o->image.node))
		snapshots_put(j, o->image.node);
	json_uint(j, "virtual-size", o->size);
	json_str(j, "filename", o->path);
	if (is_qcow2)
		json_uint(j, "cluster-size", o->form.cluster);
	json_str(j, "format", disk_formats[o->image.format]);
	json_uint(j, "actual-size", o->on_disk);
	if (is_qcow2)
		put_form(j, &o->form);
	if (o->behind[0]) {
		json_str(j, "backing-filename", o->behind);
		json_str(j, "full-backing-filename", o->full);
		if (o->behind_format[0])
			json_str(j, "backing-filename-format", o->behind_format);
	}
	json_bool(j, "dirty-flag", is_qcow2 && o->form.dirty);
	json_close(j);
}

/* -- For people ------------------------------------------------------------------------ */

static void say(const char *what, const char *text)
{
	char shown[2 * PATH_MAX];

	snprintf(shown, sizeof(shown), "%s", text);
	err_harmless(shown);
	printf("%s: %s\n", what, shown);
}

static void say_form(const struct qcow2_form *f)
{
	printf("Format specific information:\n    compat: %s\n    compression type: %s\n", f->version >= 3 ? "1.1" : "0.10",
	       f->zstd ? "zstd" : "zlib");
	if (f->version >= 3)
		printf("    lazy refcounts: %s\n", f->lazy ? "true" : "false");
	printf("    refcount bits: %u\n", 1u << f->order);
	if (f->version >= 3)
		printf("    corrupt: %s\n    extended l2: false\n", f->corrupt ? "true" : "false");
}

static void put_human(const struct one *o)
{
	char text[32];
	bool is_qcow2 = o->image.format == DISK_QCOW2;

	say("image", o->path);
	printf("file format: %s\n", disk_formats[o->image.format]);
	printf("virtual size: %s (%llu bytes)\n", img_size_text(text, o->size), (unsigned long long)o->size);
	printf("disk size: %s\n", img_size_text(text, o->on_disk));
	if (is_qcow2 && o->form.dirty)
		printf("cleanly shut down: no\n");
	if (is_qcow2)
		printf("cluster_size: %llu\n", (unsigned long long)o->form.cluster);
	if (o->behind[0]) {
		char both[2 * PATH_MAX - 1];

		snprintf(both, sizeof(both), strcmp(o->behind, o->full) ? "%s (actual path: %s)" : "%s", o->behind, o->full);
		say("backing file", both);
	}
	if (o->behind_format[0])
		say("backing file format", o->behind_format);
	if (is_qcow2 && qcow2_snapshots(o->image.node))
		snapshots_list(o->image.node);
	if (is_qcow2)
		say_form(&o->form);
}

/* -- All of it ------------------------------------------------------------------------- */

/* Where the next one is; 1: there is none. */
static int next(const struct info *i, const struct one *o, char name[PATH_MAX], enum disk_format *format, struct err *err)
{
	int rc;

	if (!i->chain || !o->behind[0])
		return 1;
	rc = img_behind(o->path, img_how(i->shares, i->follow), name, format, err);
	return rc < 0 ? err_at(err, rc, "'%s'", o->path) : 0;
}

static int tell(const struct info *i, struct json *j, const struct one *o, unsigned n)
{
	if (wants_json(i->output)) {
		put_json(j, o);
		return 0;
	}
	if (n)
		printf("\n");
	put_human(o);
	return 0;
}

static int look_at_all(const struct info *i, struct json *j, struct err *err)
{
	char names[2][PATH_MAX];
	const char *path = i->path, *said = i->format;
	enum disk_format format;
	int rc = 0;

	for (unsigned n = 0; rc == 0; n++) {
		scoped_mem struct one *o = calloc(1, sizeof(*o));

		if (n == CHAIN_MAX)
			return err_set(err, ELOOP, "'%s' has more than %u images behind it", i->path, CHAIN_MAX - 1);
		if (!o)
			return err_set(err, ENOMEM, "no memory");
		rc = look(o, i, path, said, err);
		if (rc == 0)
			rc = tell(i, j, o, n);
		if (rc == 0)
			rc = next(i, o, names[n % 2], &format, err);
		node_close(o->image.node);
		path = names[n % 2];
		said = rc == 0 ? disk_formats[format] : NULL;
	}
	return rc < 0 ? rc : 0;
}

static int info_main(void *parsed)
{
	const struct info *i = parsed;
	struct json j = {.out = stdout};
	struct err err = {0};
	char *text = NULL;
	size_t len;
	int rc;

	j.out = open_memstream(&text, &len); /* nothing is said unless all can be */
	if (!j.out)
		return EXIT_FAILED;
	if (i->chain && wants_json(i->output))
		json_open(&j, NULL, '[');
	rc = look_at_all(i, &j, &err);
	while (j.depth)
		json_close(&j);
	fclose(j.out);
	if (rc == 0)
		fwrite(text, 1, len, stdout);
	free(text);
	return rc < 0 ? img_fail(&err) : EXIT_OK;
}

const struct verb verb_info = {
	.name = "info",
	.summary = "what an image is: its format, sizes and snapshots, and what is behind it",
	.text = FORMAT_TEXT,
	.operand = "FILE",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct info),
	.main = info_main,
};
