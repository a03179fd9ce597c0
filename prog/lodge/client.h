/* SPDX-License-Identifier: MIT */
/*
 * The other side of a control socket: verbs that ask a running guest, by QMP (docs/control.md).
 *
 *	fd = client_connect("web", &err);
 *	rc = client_ask(fd, "set_link", "{\"name\": \"net0\", \"up\": true}", -1, &answer, &err);
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

/* The guest of this name or PID; NULL: the only one. A connected socket that takes commands, or -errno with err. */
int client_connect(const char *vm, struct err *err);

/* The same in two steps, for who has something to do in between that may fail, or last: finds and connects; and hears the greeting, and
 * answers it, as client_ask() does. */
int client_find(const char *vm, struct err *err);
int client_greet(int fd, struct err *err);

#define CLIENT_FILE "file" /* by which name a command's arguments have the file that comes with it */

/* Sends a command, with its arguments in JSON (NULL: none), and a file if it is none of -1; and reads what it returns. What the guest's
 * lodge says is an error is one here. -ESHUTDOWN if it went away, -EAGAIN if the socket has a timeout and it is over. */
int client_ask(int fd, const char *command, const char *args, int file, struct json_value **answer, struct err *err);

/* The same of a command that is for the file itself: it comes with the command. */
int client_give(int fd, const char *command, const char *args, int file, struct json_value **answer, struct err *err);

/* Descriptors that come with an answer. The caller closes them. */
struct client_files {
	int fd[CLIENT_FILES];
	unsigned n;
};

/* client_ask() for an answer with files; none, if it is an error. */
int client_ask_files(int fd, const char *command, const char *args, struct client_files *files,
		     struct json_value **answer, struct err *err);

/* Connects, asks, and closes. */
int client_do(const char *vm, const char *command, const char *args, struct json_value **answer, struct err *err);

/* Waits for an event of that name whose data has "device": what it says. -ESHUTDOWN if the guest's lodge went away first. */
int client_wait_device(int fd, const char *event, const char *device, struct err *err);

/* Waits until the guest's lodge is gone, and its disks are free. -ETIMEDOUT after so many ms; -1: never. */
int client_wait_end(int fd, int ms, struct err *err);

/* "key              value" for people, on stdout; nothing in it moves their cursor. */
void client_print(const char *key, const char *value);

/* A whole answer for programs, on stdout. */
void client_print_json(const struct json_value *answer);

#endif
