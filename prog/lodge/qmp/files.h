/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that a client has handed over, by SCM_RIGHTS, for commands to come. Lodge opens no file once its guest runs: who wants one
 * read or written opens it, and sends it.
 *
 *	getfd {"fdname": "here"}       is "here" to commands that take an "fd", of which the first takes it away
 *	add-fd                         is /dev/fdset/1 to commands that take a "filename", until remove-fd
 */
#ifndef QMP_FILES_H
#define QMP_FILES_H

#include <stdint.h>

struct err;

#define QMP_FILES     8  /* of a client */
#define QMP_FILE_NAME 32
#define QMP_SET_PLACE "/dev/fdset/"

struct qmp_file {
	int fd;                   /* -1: none */
	char name[QMP_FILE_NAME]; /* by getfd; "": by add-fd, */
	uint64_t set;             /* with this number */
	char *path;               /* and what the client says it is called; NULL: nothing */
};

struct qmp_files {
	int came; /* with the bytes that were read last, and was not asked for yet; -1: none */
	struct qmp_file file[QMP_FILES];
};

void qmp_files_init(struct qmp_files *f);
void qmp_files_close(struct qmp_files *f);

/* One has come; it takes the place of one that nobody asked for. */
void qmp_files_came(struct qmp_files *f, int fd);

/* Keeps what came under a name, instead of what had it. 0 or -ERANGE, -EBUSY. */
int qmp_files_keep(struct qmp_files *f, const char *name, struct err *err);

/* What has the name, which is the caller's from here on. -ERANGE. */
int qmp_files_take(struct qmp_files *f, const char *name, struct err *err);

/* Keeps what came as a set; any number that is free if *set is UINT64_MAX. The entry, or NULL and err. */
struct qmp_file *qmp_files_add(struct qmp_files *f, uint64_t set, const char *path, struct err *err);

/* By its number; or by "/dev/fdset/1". NULL and err (-ERANGE) if there is none. */
struct qmp_file *qmp_files_set(struct qmp_files *f, uint64_t set, struct err *err);
struct qmp_file *qmp_files_named(struct qmp_files *f, const char *filename, struct err *err);

void qmp_file_close(struct qmp_file *file);

#endif
