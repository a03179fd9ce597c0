/* SPDX-License-Identifier: MIT */
/*
 * The other side of a control socket: verbs that ask a running guest.
 *
 *	fd = client_connect("web", &err);
 *	rc = client_ask(fd, "{\"do\": \"pause\"}\n", -1, &answer, &err);
 *	free(answer);
 */
#ifndef LODGE_CLIENT_H
#define LODGE_CLIENT_H

#include <stddef.h>

#include "block/disk.h"
#include "machine/layer.h"
#include "machine/machine.h"

struct err;
struct json_value;

#define CLIENT_FILES (RAM_LAYERS_MAX + 2 + MACHINE_DISKS_MAX * DISK_LAYERS_MAX) /* at most, with one answer: a fork has as many */

/* The guest of this name or PID; NULL: the only one. A connected socket, or -errno with err. */
int client_connect(const char *vm, struct err *err);

/* Sends a line, with a file if it is none of -1, and reads the answer. What the guest's lodge says is an
 * error is one here. -ESHUTDOWN if it went away, -EAGAIN if the socket has a timeout and it is over. */
int client_ask(int fd, const char *line, int file, struct json_value **answer, struct err *err);

/* Descriptors that come with an answer. The caller closes them. */
struct client_files {
	int fd[CLIENT_FILES];
	unsigned n;
};

/* client_ask() for an answer with files; none, if it is an error. */
int client_ask_files(int fd, const char *line, struct client_files *files,
		     struct json_value **answer, struct err *err);

/* Connects, asks, and closes. */
int client_do(const char *vm, const char *line, struct json_value **answer, struct err *err);

/* Waits until the guest's lodge is gone, and its disks are free. -ETIMEDOUT after so many ms; -1: never. */
int client_wait_end(int fd, int ms, struct err *err);

/* "key              value" for people, on stdout; nothing in it moves their cursor. */
void client_print(const char *key, const char *value);

/* A whole answer for programs, on stdout. */
void client_print_json(const struct json_value *answer);

#endif
