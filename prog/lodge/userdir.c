/* SPDX-License-Identifier: MIT */
/* See userdir.h. */
#include "userdir.h"

#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int userdir_find(char path[PATH_MAX], const char *variable, const char *home, const char *below, struct err *err)
{
	const char *base = getenv(variable), *user = getenv("HOME");
	int n;

	if (base && base[0] == '/')
		n = snprintf(path, PATH_MAX, "%s/%s", base, below);
	else if (user && user[0] == '/')
		n = snprintf(path, PATH_MAX, "%s/%s/%s", user, home, below);
	else
		return err_set(err, ENOENT, "neither %s nor HOME says where %s is", variable, below);
	return n < 0 || n >= PATH_MAX ? err_set(err, ENAMETOOLONG, "%s is too long", variable) : 0;
}

int userdir_make(char *path, struct err *err)
{
	for (char *c = path + 1; *c; c++)
		if (*c == '/') {
			*c = 0;
			mkdir(path, 0700);
			*c = '/';
		}
	return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : err_sys(err, errno, "%s", path);
}
