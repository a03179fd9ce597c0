/* SPDX-License-Identifier: MIT */
/*
 * Where snapshots are: $XDG_DATA_HOME/lodge/snapshots, or ~/.local/share/lodge/snapshots; in it a directory for each
 * guest's name, with
 *
 *	NAME.snapshot    what it is, and which layers it has
 *	ID.layer         memory that snapshots share; ID is 16 hexadecimal digits
 *
 *	rc = snapdir_open(&d, "web", SNAPDIR_CHANGE, &err);
 *	...
 *	snapdir_close(&d);
 *
 * A file has its name when all of it is on the disk, layers before the snapshot that wants them; and a layer is removed when
 * no snapshot is left that does. So whatever ends when, a snapshot that is there is whole. What is left of others is
 * removed by the next change. The directory is locked while it is open, by many to be read, by one to be changed.
 */
#ifndef LODGE_SNAPDIR_H
#define LODGE_SNAPDIR_H

#include <limits.h>
#include <stdint.h>

#include "machine/layer.h"
#include "machine/snapshot.h"

struct err;
struct newfile;

#define SNAPDIR_SNAPSHOT ".snapshot"
#define SNAPDIR_LAYER    ".layer"

enum snapdir_use { SNAPDIR_READ, SNAPDIR_CHANGE };

struct snapdir {
	char path[PATH_MAX];
	int lock;
};

/* Names, in order. */
struct snapdir_names {
	char **name;
	unsigned n;
};

/* Of one guest. To be changed it is made; else -ENOENT with a sentence if it is not there. */
int snapdir_open(struct snapdir *d, const char *guest, enum snapdir_use use, struct err *err);
void snapdir_close(struct snapdir *d);

/* Guests that have snapshots. */
int snapdir_guests(struct snapdir_names *guests, struct err *err);

/* Files that end so; the names are without that. */
int snapdir_names(const struct snapdir *d, const char *suffix, struct snapdir_names *names, struct err *err);
void snapdir_free(struct snapdir_names *names);

/* "/DIRECTORY/NAME.snapshot", to be freed, or NULL with err. */
char *snapdir_file(const struct snapdir *d, const char *name, const char *suffix, struct err *err);

/* Removes layers that no snapshot wants, and files that never got their name. */
void snapdir_sweep(const struct snapdir *d);

/* -- A snapshot with its layers ----------------------------------------------------- */

struct snapfiles {
	char *path, *paths[RAM_LAYERS_MAX];
	struct snapshot snapshot;
	struct layer layers[RAM_LAYERS_MAX];
};

/* Opens and checks all but memory. Close it, whatever comes. */
int snapfiles_open(struct snapfiles *s, const struct snapdir *d, const char *name, struct err *err);
void snapfiles_close(struct snapfiles *s);

/* One layer's file. `path` is to be freed. */
int snapdir_layer(const struct snapdir *d, const char *id, struct layer *l, char **path, struct err *err);

#endif
