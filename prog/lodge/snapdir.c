/* SPDX-License-Identifier: MIT */
/* See snapdir.h. */
#include "snapdir.h"

#include "base/err.h"
#include "place.h"
#include "userdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* -- The directory ------------------------------------------------------------------ */

/* Of all guests, if it is NULL. */
static int find(char path[PATH_MAX], const char *guest, struct err *err)
{
	char below[sizeof("lodge/snapshots/") + PLACE_NAME_MAX];

	snprintf(below, sizeof(below), "lodge/snapshots%s%s", guest ? "/" : "", guest ? guest : "");
	return userdir_find(path, "XDG_DATA_HOME", ".local/share", below, err);
}

int snapdir_open(struct snapdir *d, const char *guest, enum snapdir_use use, struct err *err)
{
	int rc;

	d->lock = -1;
	if (!place_is_name(guest))
		return err_set(err, ENOENT, "'%s' is no guest's name", guest);
	rc = find(d->path, guest, err);
	if (rc == 0 && use == SNAPDIR_CHANGE)
		rc = userdir_make(d->path, err);
	if (rc < 0)
		return rc;
	d->lock = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->lock < 0 && errno == ENOENT)
		return err_set(err, ENOENT, "guest '%s' has no snapshots", guest);
	if (d->lock < 0)
		return err_sys(err, errno, "%s", d->path);
	while ((rc = flock(d->lock, use == SNAPDIR_CHANGE ? LOCK_EX : LOCK_SH)) < 0 && errno == EINTR)
		;
	return rc < 0 ? err_sys(err, errno, "%s", d->path) : 0;
}

void snapdir_close(struct snapdir *d)
{
	if (d->lock >= 0)
		close(d->lock);
	d->lock = -1;
}

/* -- Names -------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add(struct snapdir_names *names, const char *name, size_t len)
{
	char **more = realloc(names->name, (names->n + 1) * sizeof(*more));

	if (!more)
		return -ENOMEM;
	names->name = more;
	more[names->n] = strndup(name, len);
	return more[names->n] ? (int)names->n++ : -ENOMEM;
}

/* What is in a directory and ends so, by its name without that. */
static int list(const char *path, const char *suffix, struct snapdir_names *names, struct err *err)
{
	DIR *d = opendir(path);
	const struct dirent *e;
	int rc = 0;

	*names = (struct snapdir_names){.n = 0};
	if (!d)
		return errno == ENOENT ? 0 : err_sys(err, errno, "%s", path);
	while (rc >= 0 && (e = readdir(d))) {
		size_t len = strlen(e->d_name), end = strlen(suffix);

		if (e->d_name[0] != '.' && len > end && strcmp(e->d_name + len - end, suffix) == 0)
			rc = add(names, e->d_name, len - end);
	}
	closedir(d);
	if (rc < 0)
		return err_set(err, ENOMEM, "no memory");
	if (names->n)
		qsort(names->name, names->n, sizeof(*names->name), compare);
	return 0;
}

int snapdir_names(const struct snapdir *d, const char *suffix, struct snapdir_names *names, struct err *err)
{
	return list(d->path, suffix, names, err);
}

void snapdir_free(struct snapdir_names *names)
{
	for (unsigned i = 0; i < names->n; i++)
		free(names->name[i]);
	free(names->name);
	*names = (struct snapdir_names){.n = 0};
}

static bool has_any(const char *guest)
{
	struct snapdir_names names = {.n = 0};
	char path[PATH_MAX];
	bool any = place_is_name(guest) && find(path, guest, NULL) == 0 &&
		   list(path, SNAPDIR_SNAPSHOT, &names, NULL) == 0 && names.n;

	snapdir_free(&names);
	return any;
}

int snapdir_guests(struct snapdir_names *guests, struct err *err)
{
	char path[PATH_MAX];
	int rc = find(path, NULL, err);
	unsigned n = 0;

	*guests = (struct snapdir_names){.n = 0};
	if (rc == 0)
		rc = list(path, "", guests, err);
	for (unsigned i = 0; i < guests->n; i++)
		if (has_any(guests->name[i]))
			guests->name[n++] = guests->name[i];
		else
			free(guests->name[i]);
	guests->n = n;
	return rc;
}

char *snapdir_file(const struct snapdir *d, const char *name, const char *suffix, struct err *err)
{
	char *path;

	if (asprintf(&path, "%s/%s%s", d->path, name, suffix) >= 0)
		return path;
	err_set(err, ENOMEM, "no memory");
	return NULL;
}

/* -- Files -------------------------------------------------------------------------- */

static int open_file(const struct snapdir *d, const char *name, const char *suffix, char **path, struct err *err)
{
	int fd;

	*path = snapdir_file(d, name, suffix, err);
	if (!*path)
		return -ENOMEM;
	fd = open(*path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	return fd < 0 ? err_sys(err, errno, "'%s'", *path) : fd;
}

int snapdir_layer(const struct snapdir *d, const char *id, struct layer *l, char **path, struct err *err)
{
	int fd = open_file(d, id, SNAPDIR_LAYER, path, err);

	*l = (struct layer){.file = {.fd = -1}};
	return fd < 0 ? fd : layer_open(l, fd, *path, err);
}

int snapfiles_open(struct snapfiles *s, const struct snapdir *d, const char *name, struct err *err)
{
	int rc = 0, fd;

	*s = (struct snapfiles){.snapshot.file.fd = -1};
	fd = open_file(d, name, SNAPDIR_SNAPSHOT, &s->path, err);
	if (fd < 0)
		return fd;
	if ((rc = snapshot_open(&s->snapshot, fd, s->path, err)) < 0)
		return rc;
	for (unsigned i = 0; rc == 0 && i < s->snapshot.n; i++) {
		char id[17];

		snprintf(id, sizeof(id), "%016" PRIx64, s->snapshot.ids[i]);
		rc = snapdir_layer(d, id, &s->layers[i], &s->paths[i], err);
	}
	return rc < 0 ? rc : snapshot_check(&s->snapshot, s->layers, err);
}

void snapfiles_close(struct snapfiles *s)
{
	snapshot_close(&s->snapshot);
	free(s->path);
	for (unsigned i = 0; i < RAM_LAYERS_MAX; i++) {
		layer_close(&s->layers[i]);
		free(s->paths[i]);
	}
	*s = (struct snapfiles){.snapshot.file.fd = -1};
}

/* -- Sweeping ----------------------------------------------------------------------- */

struct wanted {
	uint64_t *ids;
	size_t n;
};

/* False: it cannot be said of all snapshots which layers they want, and then none may go. */
static bool add_wanted(const struct snapdir *d, const char *name, struct wanted *w)
{
	struct snapshot s = {.file.fd = -1};
	char *path = NULL;
	int fd = open_file(d, name, SNAPDIR_SNAPSHOT, &path, NULL);
	bool fine = fd >= 0 && snapshot_open(&s, fd, path, NULL) == 0;
	uint64_t *more = fine ? realloc(w->ids, (w->n + RAM_LAYERS_MAX) * sizeof(*more)) : NULL;

	if (more) {
		w->ids = more;
		memcpy(more + w->n, s.ids, s.n * sizeof(*more));
		w->n += s.n;
	}
	snapshot_close(&s);
	free(path);
	return more;
}

static bool find_wanted(const struct snapdir *d, struct wanted *w)
{
	struct snapdir_names names;
	bool fine = snapdir_names(d, SNAPDIR_SNAPSHOT, &names, NULL) == 0;

	for (unsigned i = 0; fine && i < names.n; i++)
		fine = add_wanted(d, names.name[i], w);
	snapdir_free(&names);
	return fine;
}

static bool is_wanted(const struct wanted *w, uint64_t id)
{
	for (size_t i = 0; i < w->n; i++)
		if (w->ids[i] == id)
			return true;
	return false;
}

static void sweep_layers(const struct snapdir *d)
{
	struct wanted w = {.n = 0};
	struct snapdir_names names = {.n = 0};
	bool fine = find_wanted(d, &w) && snapdir_names(d, SNAPDIR_LAYER, &names, NULL) == 0;

	for (unsigned i = 0; fine && i < names.n; i++) {
		char *path = snapdir_file(d, names.name[i], SNAPDIR_LAYER, NULL);

		if (path && !is_wanted(&w, strtoull(names.name[i], NULL, 16)))
			unlink(path);
		free(path);
	}
	snapdir_free(&names);
	free(w.ids);
}

/* A name with a dot first is one on the way (newfile.c), and whoever was under way is dead: we have the lock. */
static void sweep_unnamed(const struct snapdir *d)
{
	DIR *dir = opendir(d->path);
	const struct dirent *e;

	while (dir && (e = readdir(dir)))
		if (e->d_name[0] == '.' && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			unlinkat(d->lock, e->d_name, 0);
	if (dir)
		closedir(dir);
}

void snapdir_sweep(const struct snapdir *d)
{
	sweep_unnamed(d);
	sweep_layers(d);
}
