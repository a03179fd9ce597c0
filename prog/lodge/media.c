/* SPDX-License-Identifier: MIT */
/*
 * lodge media and lodge eject: what lies in a guest's CD drives.
 *
 * The guest's lodge opens no file: it is opened here and sent, with the name that it has.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/json.h"
#include "base/json_read.h"
#include "base/scoped.h"
#include "client.h"
#include "failure.h"
#include "machine/machine.h"
#include "qmp/names.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct media {
	const char *operands[2];
	unsigned drive;
	bool force;
};

/* Arguments: of add-fd, if there is a path to tell; else of what changes a drive. NULL: no memory. */
static char *arguments(const struct media *m, const char *path, const char *filename)
{
	char *text = NULL, name[QMP_NAME];
	size_t len = 0;
	struct json j = {.out = open_memstream(&text, &len), .one_line = true};

	if (!j.out)
		return NULL;
	json_open(&j, NULL, '{');
	if (path) {
		json_uint(&j, "fdset-id", 1);
		json_str(&j, "opaque", path);
	} else {
		json_str(&j, "id", qmp_cd_name(name, m->drive));
		json_bool(&j, "force", m->force);
	}
	if (filename)
		json_str(&j, "filename", filename);
	json_close(&j);
	if (fclose(j.out) == 0)
		return text;
	free(text);
	return NULL;
}

static int ask(const struct media *m, int fd, const char *command, const char *filename, struct err *err)
{
	scoped_mem char *args = arguments(m, NULL, filename);
	scoped_mem struct json_value *answer = NULL;

	return args ? client_ask(fd, command, args, -1, &answer, err) : err_set(err, ENOMEM, "no memory");
}

static int hand_over(const struct media *m, int fd, const char *path, int file, struct err *err)
{
	scoped_mem char *args = arguments(m, path, NULL);
	scoped_mem struct json_value *answer = NULL;

	return args ? client_give(fd, "add-fd", args, file, &answer, err) : err_set(err, ENOMEM, "no memory");
}

static int put(const struct media *m, const char *vm, const char *path, struct err *err)
{
	scoped_fd int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), fd = -1;
	char real[PATH_MAX];
	int rc;

	if (file < 0 || !realpath(path, real))
		return err_sys(err, errno, "'%s'", path);
	rc = fd = client_connect(vm, err);
	if (rc >= 0)
		rc = hand_over(m, fd, real, file, err);
	return rc < 0 ? rc : ask(m, fd, "blockdev-change-medium", "/dev/fdset/1", err);
}

static int media_main(void *parsed)
{
	const struct media *m = parsed;
	const char *path = m->operands[1] ? m->operands[1] : m->operands[0];
	struct err err = {0};
	int rc;

	if (path)
		rc = put(m, m->operands[1] ? m->operands[0] : NULL, path, &err);
	else
		rc = err_set(&err, ERANGE, "the file is missing: lodge media [VM] FILE");
	return rc < 0 ? report_failure(&err) : EXIT_OK;
}

static int eject_main(void *parsed)
{
	const struct media *m = parsed;
	struct err err = {0};
	scoped_fd int fd = client_connect(m->operands[0], &err);

	return fd < 0 || ask(m, fd, "eject", NULL, &err) < 0 ? report_failure(&err) : EXIT_OK;
}

static const struct option options[] = {
	{"--drive", "N", "which CD drive, from 0 in the order of --cdrom (default: 0)", OPTION_NUMBER, offsetof(struct media, drive), 0,
	 MACHINE_CDS_MAX - 1, NULL},
	{"--force", NULL, "also if the guest uses the CD that is in it", OPTION_FLAG, offsetof(struct media, force), 0, 0, NULL},
	{0},
};

const struct verb verb_media = {
	.name = "media",
	.summary = "put a CD into a guest's drive",
	.text = VM_TEXT "FILE is an image (.iso) or a device, and takes the place of what is in the drive. While the guest holds that, it\n"
		"hears that somebody wants it out, and may let go: then try again.\n",
	.operand = "[VM] FILE",
	.n_operands = 2,
	.options = options,
	.size = sizeof(struct media),
	.main = media_main,
};

const struct verb verb_eject = {
	.name = "eject",
	.summary = "take the CD out of a guest's drive",
	.text = VM_TEXT "While the guest holds the CD, it hears that somebody wants it out, and may let go: then try again.\n",
	.operand = "[VM]",
	.n_operands = 1,
	.options = options,
	.size = sizeof(struct media),
	.main = eject_main,
};
