/* SPDX-License-Identifier: MIT */
/*
 * Where the control sockets of running guests are: $XDG_RUNTIME_DIR/lodge, or /tmp/lodge-UID where that is
 * not set.
 *
 *	PID.sock    the socket of the guest in that process
 *	NAME.sock   a link to it, if the guest has a name
 *
 * Who may connect: whoever may enter the directory, which is the user alone (0700). In /tmp anybody can
 * make that name first, and would be the guest whose counters are shown; so it is used, by both ends, only
 * if it is a directory of this user that nobody else may enter.
 *
 * What a killed lodge has left, or one whose sandbox could not let it clean up, is removed by whom it
 * meets: a socket that nobody listens to, a name that leads nowhere.
 */
#ifndef LODGE_PLACE_H
#define LODGE_PLACE_H

#include <stdbool.h>

#define PLACE_MAX     80 /* so that a socket's name fits behind it */
#define PLACE_NAME_MAX 64 /* a guest's, with its zero byte */

struct err;

/* Writes the directory; made if it is not there and `make` is set. 0, or -errno with err. */
int place_find(char dir[PLACE_MAX], bool make, struct err *err);

/* Letters, digits, '.', '_' and '-', with a letter first. */
bool place_is_name(const char *text);

/* The socket of this process, listening, and the name as a link to it (NULL: none). -EBUSY and err if
 * another guest has the name. */
int place_open(const char *dir, const char *name, struct err *err);

/* Removes both, as long as the socket is open still. */
void place_leave(const char *dir, const char *name);

/* A connected socket, with `flags` of socket(). -ECONNREFUSED or -ENOENT: nobody is there. */
int place_connect(const char *dir, long pid, int flags);

/* The process of a name; 0: none has it. */
long place_pid(const char *dir, const char *name);

/* All processes that have a socket there, in order; returns how many, or -errno. free() *pids. */
int place_list(const char *dir, long **pids);

#endif
