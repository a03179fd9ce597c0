/* SPDX-License-Identifier: MIT */
/* See images.h. */
#include "images.h"

#include "base/err.h"
#include "files.h"
#include "names.h"
#include "prog/lodge/session.h"
#include "serve.h"

#include <errno.h>
#include <fcntl.h>

/* Who has the file already: the name of a device, or of an image without one. */
static const char *user_of(struct call *c, int fd, bool readonly, bool is_cd, char name[QMP_NAME])
{
	const struct machine_config *config = c->session->config;
	const struct parts *parts = &c->session->parts;

	for (unsigned i = 0; i < config->n_disks; i++)
		if (disk_bars(config->disks[i], fd, readonly))
			return qmp_disk_name(name, config, i);
	for (unsigned i = 0; i < PARTS_MAX; i++)
		if (parts->part[i].disk && disk_bars(parts->part[i].disk, fd, readonly))
			return parts->part[i].name;
	for (unsigned i = 0; i < config->n_cds && !is_cd; i++)
		if (config->cds[i] && disk_bars(config->cds[i], fd, readonly))
			return qmp_cd_name(name, i);
	return NULL;
}

/* Nothing is written where it belongs then: pwrite(2) appends. */
static bool appends(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || flags & O_APPEND;
}

static const struct qmp_file *find(struct call *c, const char *filename, bool readonly, bool is_cd, struct err *err)
{
	const struct qmp_file *file = qmp_files_named(c->files, filename, err);
	const char *user;
	char name[QMP_NAME];

	if (!file)
		return NULL;
	if (file->path && file->path[0] != '/') {
		err_set(err, ERANGE, "'opaque' of %.40s is '%.200s': an image is looked for there again, so it is a path from the root on", filename, file->path);
		return NULL;
	}
	if (!readonly && appends(file->fd)) {
		err_set(err, ERANGE, "'%.200s' is open to be appended to (O_APPEND): an image is written at any place", file->path ? file->path : filename);
		return NULL;
	}
	user = user_of(c, file->fd, readonly, is_cd, name);
	if (user)
		err_set(err, EBUSY, "'%.200s': '%s' of this guest is using it", file->path ? file->path : filename, user);
	return user ? NULL : file;
}

const struct qmp_file *image_for_disk(struct call *c, const char *filename, bool readonly, struct err *err)
{
	return find(c, filename, readonly, false, err);
}

const struct qmp_file *image_for_cd(struct call *c, const char *filename, struct err *err)
{
	return find(c, filename, true, true, err);
}
