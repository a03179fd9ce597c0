/* SPDX-License-Identifier: MIT */
/* See userdir.h. */
#include "userdir.h"

#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

/* What is there may be another user's, where XDG_..._HOME is a place for all, as /tmp: who could write there could say which file of ours is
 * written over, and what is in an image. Root could anyway. */
static int check(const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_sys(err, errno, "%s", path);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, ENOTDIR, "%s is no directory", path);
	if ((st.st_uid != geteuid() && st.st_uid != 0) || st.st_mode & S_IWOTH)
		return err_set(err, EPERM, "%s is not to be trusted: another user may write there", path);
	return 0;
}

/* The last two are ours: lodge, and what is in it. */
int userdir_make(char *path, struct err *err)
{
	char *last = NULL;
	int rc;

	for (char *c = path + 1; *c; c++)
		if (*c == '/') {
			*c = 0;
			mkdir(path, 0700);
			*c = '/';
			last = c;
		}
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(err, errno, "%s", path);
	if (last) {
		*last = 0;
		rc = check(path, err);
		*last = '/';
		if (rc < 0)
			return rc;
	}
	return check(path, err);
}
