/* SPDX-License-Identifier: MIT */
/*
 * The user's directories, where the XDG base directory specification has them:
 *
 *	rc = userdir_find(path, "XDG_CACHE_HOME", ".cache", "lodge/templates", &err);    ~/.cache/lodge/templates
 *	rc = userdir_make(path, &err);                                                 it is there
 */
#ifndef LODGE_USERDIR_H
#define LODGE_USERDIR_H

#include <limits.h>

struct err;

/* `below` the directory of that variable, or, where it is none, below `home` of the user's. */
int userdir_find(char path[PATH_MAX], const char *variable, const char *home, const char *below, struct err *err);

/* With all on the way to it, for this user alone. -EPERM: it is there, and another user may write there. */
int userdir_make(char *path, struct err *err);

#endif
