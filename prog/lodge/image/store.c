/* SPDX-License-Identifier: MIT */
/*
 * See store.h. Half-made images have no name at all, or are in a directory of the cache, build/XXXXXX, that its maker holds by a lock
 * (flock), which the kernel gives up for who is killed: then the next one removes it.
 */
#include "store.h"

#include "base/err.h"
#include "base/log.h"
#include "base/scoped.h"
#include "prog/lodge/userdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const endings[] = {[DISK_RAW] = ".img", [DISK_QCOW2] = ".qcow2"};

int store_find(char dir[PATH_MAX], struct err *err)
{
	int rc = userdir_find(dir, "XDG_DATA_HOME", ".local/share", "lodge/images", err);

	return rc < 0 ? rc : userdir_make(dir, err);
}

static bool file_of(char path[PATH_MAX], const char *dir, const char *name, enum disk_format format)
{
	int n = snprintf(path, PATH_MAX, "%s/%s%s", dir, name, endings[format]);

	return n < PATH_MAX && access(path, F_OK) == 0;
}

bool store_has(const char *name, char path[PATH_MAX])
{
	char dir[PATH_MAX];
	struct err none;

	return place_is_name(name) && userdir_find(dir, "XDG_DATA_HOME", ".local/share", "lodge/images", &none) == 0 &&
	       (file_of(path, dir, name, DISK_QCOW2) || file_of(path, dir, name, DISK_RAW));
}

/* -- Facts -------------------------------------------------------------------------------- */

static void look(struct image_facts *f)
{
	struct disk *disk;
	struct stat st = {0};
	struct err err;

	stat(f->path, &st);
	f->stored = (uint64_t)st.st_blocks * 512;
	f->made = st.st_mtim.tv_sec;
	if (disk_open(&disk, &(struct disk_config){.path = f->path, .format = f->format, .readonly = true, .threads = 1}, &err) < 0) {
		snprintf(f->why, sizeof(f->why), "%.150s", err.text);
		return;
	}
	f->size = disk_info(disk)->size;
	disk_close(disk);
}

/* The image whose file this is, if it is one. */
static bool take_name(struct image_facts *f, const char *file)
{
	for (enum disk_format k = DISK_RAW; k <= DISK_QCOW2; k++) {
		size_t n = strlen(file), end = strlen(endings[k]);

		if (n <= end || n - end >= sizeof(f->name) || strcmp(file + n - end, endings[k]) != 0)
			continue;
		snprintf(f->name, sizeof(f->name), "%.*s", (int)(n - end), file);
		f->format = k;
		return place_is_name(f->name);
	}
	return false;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct image_facts *)a)->name, ((const struct image_facts *)b)->name);
}

int store_list(struct image_facts **facts, struct err *err)
{
	char dir[PATH_MAX];
	DIR *d;
	const struct dirent *e;
	int n = 0;

	*facts = NULL;
	if (store_find(dir, err) < 0)
		return -err->code;
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		struct image_facts f = {.name = ""}, *more;

		if (!take_name(&f, e->d_name))
			continue;
		more = realloc(*facts, (size_t)(n + 1) * sizeof(f));
		if (!more)
			break;
		file_of(f.path, dir, f.name, f.format);
		look(&f);
		*facts = more;
		more[n++] = f;
	}
	if (d)
		closedir(d);
	if (n)
		qsort(*facts, (size_t)n, sizeof(**facts), by_name);
	return n;
}

int store_look(struct image_facts *f, const char *name, struct err *err)
{
	int rc = store_find(f->path, err); /* whose is it? */

	if (rc < 0)
		return rc;
	*f = (struct image_facts){.format = DISK_QCOW2};
	if (!store_has(name, f->path))
		return err_set(err, ENOENT, "there is no image '%s': lodge image list", name);
	snprintf(f->name, sizeof(f->name), "%s", name);
	if (f->path[strlen(f->path) - 1] == 'g')
		f->format = DISK_RAW;
	look(f);
	return 0;
}

/* -- Making ------------------------------------------------------------------------------- */

int store_lock(const char *name, struct err *err)
{
	char dir[PATH_MAX], path[PATH_MAX + NAME_MAX];
	int rc = store_find(dir, err), fd;

	if (rc < 0)
		return rc;
	snprintf(path, sizeof(path), "%s/.%s.lock", dir, name);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys(err, errno, "'%s'", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		log_note("image", "another lodge makes '%s': waiting for it", name);
		while (flock(fd, LOCK_EX) < 0 && errno == EINTR)
			;
	}
	return fd;
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
	(void)st;
	(void)flag;
	(void)at;
	remove(path);
	return 0;
}

void store_remove_dir(const char *dir)
{
	nftw(dir, remove_one, 20, FTW_DEPTH | FTW_PHYS);
}

/* Those whose makers were killed. */
static void sweep(const char *base)
{
	DIR *d = opendir(base);
	const struct dirent *e;
	char path[PATH_MAX + NAME_MAX + 2];

	while (d && (e = readdir(d))) {
		scoped_fd int fd = -1;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", base, e->d_name);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
			store_remove_dir(path);
	}
	if (d)
		closedir(d);
}

int store_work(char dir[PATH_MAX], int *lock, struct err *err)
{
	char base[PATH_MAX];
	scoped_fd int all = -1;
	int rc = userdir_find(base, "XDG_CACHE_HOME", ".cache", "lodge/build", err);

	if (rc == 0)
		rc = userdir_make(base, err);
	if (rc < 0)
		return rc;
	all = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	flock(all, LOCK_EX); /* between making one and locking it nobody sweeps */
	sweep(base);
	if (snprintf(dir, PATH_MAX, "%s/XXXXXX", base) >= PATH_MAX || !mkdtemp(dir))
		return err_sys(err, errno, "'%s'", dir);
	*lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*lock < 0 || flock(*lock, LOCK_EX | LOCK_NB) < 0)
		return err_sys(err, errno, "'%s'", dir);
	return 0;
}
