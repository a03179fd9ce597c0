/* SPDX-License-Identifier: MIT */
/* See build.h: a directory for the recipe, the recipe, a disk of what it has left there, and its name. */
#include "build.h"

#include "base/err.h"
#include "base/log.h"
#include "base/scoped.h"
#include "child.h"
#include "disk.h"
#include "progress.h"
#include "prog/lodge/beside.h"
#include "prog/lodge/newfile.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What is to be read when it went wrong: the last lines of its log, but for the very last, which is the error. */
static void show_log(int log)
{
	char text[4096], *from = text, *last;
	off_t len = lseek(log, 0, SEEK_END), at = len < (off_t)sizeof(text) ? 0 : len - (off_t)sizeof(text) + 1;
	ssize_t n = pread(log, text, sizeof(text) - 1, at);

	while (n > 0 && text[n - 1] == '\n')
		n--;
	text[n > 0 ? n : 0] = 0;
	if (at && strchr(text, '\n'))
		from = strchr(text, '\n') + 1;
	last = strrchr(from, '\n');
	if (last)
		fprintf(stderr, "%.*s\n", (int)(last - from), from);
}

static int run_recipe(const struct build *b, const char *work, struct progress *p, struct err *err)
{
	char program[PATH_MAX], name[64], size[24], log_path[PATH_MAX + 8];
	const char *argv[] = {b->recipe, work, size, b->suite ? b->suite : "", b->include ? b->include : "", NULL};
	scoped_fd int log = -1;
	int rc;

	if (b->recipe[0] != '/') {
		snprintf(name, sizeof(name), "lodge-image-%.40s", b->recipe);
		argv[0] = beside_program(program, name);
	}
	if (access(argv[0], X_OK) < 0)
		return err_sys(err, errno, "the recipe '%s'", b->recipe);
	snprintf(size, sizeof(size), "%llu", (unsigned long long)parts_root_size(b->size));
	snprintf(log_path, sizeof(log_path), "%s/.log", work);
	log = open(log_path, O_RDWR | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
	if (log < 0)
		return err_sys(err, errno, "'%s'", log_path);
	rc = child_run(argv, NULL, log, p, NULL, NULL, err);
	if (rc < 0 && err->code != EINTR)
		show_log(log);
	return rc;
}

static int make(const struct build *b, const char *work, struct err *err)
{
	char dir[PATH_MAX], path[PATH_MAX + NAME_MAX];
	struct progress p = {.what = b->name};
	struct newfile file;
	int rc = store_find(dir, err);

	if (rc == 0)
		rc = run_recipe(b, work, &p, err);
	if (rc < 0)
		return rc;
	snprintf(path, sizeof(path), "%s/%s.qcow2", dir, b->name);
	rc = newfile_open(&file, path, err);
	if (rc == 0) {
		progress_show(&p, 97, "writing the image");
		rc = parts_write(work, file.fd, b->size, err);
	}
	if (rc == 0)
		rc = newfile_publish(&file, err);
	newfile_close(&file);
	progress_end(&p);
	if (rc == 0)
		log_note("image", "'%s' is made: %s", b->name, path);
	return rc;
}

int build_run(const struct build *b, struct err *err)
{
	char work[PATH_MAX];
	scoped_fd int lock = -1;
	int rc = store_work(work, &lock, err);

	if (rc < 0)
		return rc;
	rc = make(b, work, err);
	store_remove_dir(work);
	child_end_likewise();
	return rc < 0 ? err_at(err, rc, "image '%s'", b->name) : 0;
}
