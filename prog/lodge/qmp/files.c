/* SPDX-License-Identifier: MIT */
/* See files.h; and the commands of a client that fill the table. */
#include "files.h"

#include "base/err.h"
#include "base/json.h"
#include "base/json_read.h"
#include "serve.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


void qmp_files_init(struct qmp_files *f)
{
	*f = (struct qmp_files){.came = -1};
	for (unsigned i = 0; i < QMP_FILES; i++)
		f->file[i].fd = -1;
}

void qmp_file_close(struct qmp_file *file)
{
	if (file->fd >= 0)
		close(file->fd);
	free(file->path);
	*file = (struct qmp_file){.fd = -1};
}

void qmp_files_close(struct qmp_files *f)
{
	if (f->came >= 0)
		close(f->came);
	f->came = -1;
	for (unsigned i = 0; i < QMP_FILES; i++)
		qmp_file_close(&f->file[i]);
}

void qmp_files_came(struct qmp_files *f, int fd)
{
	if (f->came >= 0)
		close(f->came);
	f->came = fd;
}

/* -- Finding -------------------------------------------------------------------------------- */

static struct qmp_file *find_name(struct qmp_files *f, const char *name)
{
	for (unsigned i = 0; i < QMP_FILES; i++)
		if (f->file[i].fd >= 0 && f->file[i].name[0] && strcmp(f->file[i].name, name) == 0)
			return &f->file[i];
	return NULL;
}

static struct qmp_file *find_set(struct qmp_files *f, uint64_t set)
{
	for (unsigned i = 0; i < QMP_FILES; i++)
		if (f->file[i].fd >= 0 && !f->file[i].name[0] && f->file[i].set == set)
			return &f->file[i];
	return NULL;
}

struct qmp_file *qmp_files_set(struct qmp_files *f, uint64_t set, struct err *err)
{
	struct qmp_file *file = find_set(f, set);

	if (!file)
		err_set(err, ERANGE, "there is no " QMP_SET_PLACE "%llu: add-fd makes one", (unsigned long long)set);
	return file;
}

struct qmp_file *qmp_files_named(struct qmp_files *f, const char *filename, struct err *err)
{
	size_t len = strlen(QMP_SET_PLACE);
	char *end = NULL;
	uint64_t set = 0;

	if (strncmp(filename, QMP_SET_PLACE, len) == 0 && filename[len] >= '0' && filename[len] <= '9')
		set = strtoull(filename + len, &end, 10);
	if (end && !*end)
		return qmp_files_set(f, set, err);
	err_set(err, ERANGE, "'%.200s' is not opened here: send it with add-fd, and say " QMP_SET_PLACE "ID", filename);
	return NULL;
}

/* -- Keeping --------------------------------------------------------------------------------- */

/* What came moves there, if it did and there is room. */
static struct qmp_file *move_in(struct qmp_files *f, struct qmp_file *old, struct err *err)
{
	struct qmp_file *free_one = old;

	for (unsigned i = 0; i < QMP_FILES && !free_one; i++)
		if (f->file[i].fd < 0)
			free_one = &f->file[i];
	if (f->came < 0)
		err_set(err, ERANGE, "no descriptor came with it (SCM_RIGHTS)");
	else if (!free_one)
		err_set(err, EBUSY, "%d descriptors of this client are kept already", QMP_FILES);
	if (f->came < 0 || !free_one)
		return NULL;
	qmp_file_close(free_one);
	free_one->fd = f->came;
	f->came = -1;
	return free_one;
}

int qmp_files_keep(struct qmp_files *f, const char *name, struct err *err)
{
	struct qmp_file *file;

	if (!name[0] || strlen(name) >= QMP_FILE_NAME)
		return err_set(err, ERANGE, "'%.40s' is no name for a descriptor: 1 to %d bytes", name, QMP_FILE_NAME - 1);
	file = move_in(f, find_name(f, name), err);
	if (!file)
		return -err->code;
	strcpy(file->name, name); /* SAFE: it was measured */
	return 0;
}

int qmp_files_take(struct qmp_files *f, const char *name, struct err *err)
{
	struct qmp_file *file = find_name(f, name);
	int fd;

	if (!file)
		return err_set(err, ERANGE, "there is no descriptor '%.40s': getfd makes one", name);
	fd = file->fd;
	*file = (struct qmp_file){.fd = -1};
	return fd;
}

struct qmp_file *qmp_files_add(struct qmp_files *f, uint64_t set, const char *path, struct err *err)
{
	bool any = set == UINT64_MAX;
	struct qmp_file *file;

	for (set = any ? 1 : set; any && find_set(f, set); set++)
		;
	if (find_set(f, set)) {
		err_set(err, EBUSY, QMP_SET_PLACE "%llu has a descriptor already", (unsigned long long)set);
		return NULL;
	}
	file = move_in(f, NULL, err);
	if (!file)
		return NULL;
	file->set = set;
	file->path = path ? strdup(path) : NULL;
	return file;
}

/* -- Commands --------------------------------------------------------------------------------- */

int do_getfd(struct call *c, struct err *err)
{
	return qmp_files_keep(c->files, call_str(c, "fdname"), err);
}

int do_closefd(struct call *c, struct err *err)
{
	int fd = qmp_files_take(c->files, call_str(c, "fdname"), err);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

int do_add_fd(struct call *c, struct err *err)
{
	uint64_t set = UINT64_MAX;
	struct qmp_file *file;

	if (call_str(c, "opaque") && strlen(call_str(c, "opaque")) >= PATH_MAX) /* it is a file's name, in answers to all clients */
		return err_set(err, ERANGE, "'opaque' has at most %d bytes, and this one %zu", PATH_MAX - 1, strlen(call_str(c, "opaque")));
	if (json_find(c->args, "fdset-id") && call_uint(c, "fdset-id", INT64_MAX, &set, err) < 0)
		return -ERANGE;
	file = qmp_files_add(c->files, set, call_str(c, "opaque"), err);
	if (!file)
		return -err->code;
	json_uint(c->answer, "fdset-id", file->set);
	json_uint(c->answer, "fd", (uint64_t)file->fd);
	return 0;
}

int do_remove_fd(struct call *c, struct err *err)
{
	struct qmp_file *file;
	uint64_t set, fd;

	if (call_uint(c, "fdset-id", INT64_MAX, &set, err) < 0)
		return -ERANGE;
	file = qmp_files_set(c->files, set, err);
	if (!file)
		return -err->code;
	if (json_find(c->args, "fd") && (json_get_uint(c->args, "fd", INT32_MAX, &fd, err) < 0 || fd != (uint64_t)file->fd))
		return err_set(err, ERANGE, "that is not the descriptor of " QMP_SET_PLACE "%llu", (unsigned long long)set);
	qmp_file_close(file);
	return 0;
}

static void write_set(struct json *j, const struct qmp_file *file)
{
	json_open(j, NULL, '{');
	json_uint(j, "fdset-id", file->set);
	json_open(j, "fds", '[');
	json_open(j, NULL, '{');
	json_uint(j, "fd", (uint64_t)file->fd);
	if (file->path)
		json_str(j, "opaque", file->path);
	json_close(j);
	json_close(j);
	json_close(j);
}

int do_fdsets(struct call *c, struct err *err)
{
	(void)err;
	for (unsigned i = 0; i < QMP_FILES; i++)
		if (c->files->file[i].fd >= 0 && !c->files->file[i].name[0])
			write_set(c->answer, &c->files->file[i]);
	return 0;
}
