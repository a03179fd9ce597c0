/* SPDX-License-Identifier: MIT */
/*
 * Which files libslirp's TFTP server may open for the guest. libslirp puts the guest's name behind the directory's and calls open(): a pipe
 * would hold us up until somebody writes to it, and a link may lead to what else we can read, for the resolver's sake. So its open() is
 * this one, which wins because it is the program's. The guest hears "File not found".
 *
 * Links are good that stay in the directory, as those of Debian's netboot.tar.gz do: where a file really is the kernel says when it is open.
 */
#include "nat.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *directory; /* as libslirp names it; NULL: there is no server */
static char really[PATH_MAX]; /* where that is; "": nowhere, so nothing is below it */

void tftp_serve(const char *path)
{
	directory = path;
	if (!path || !realpath(path, really))
		really[0] = 0;
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strcmp(dir, "/") == 0 ? 0 : strlen(dir);

	return strncmp(path, dir, n) == 0 && path[n] == '/';
}

static bool may_read(int fd)
{
	char link[40], path[PATH_MAX];
	struct stat st;
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	path[n] = 0;
	return really[0] && is_below(path, really);
}

int open64(const char *path, int flags, ...)
{
	int fd;

	if (!directory || !is_below(path, directory))
		return openat(AT_FDCWD, path, flags & ~O_CREAT);
	fd = openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || may_read(fd))
		return fd;
	close(fd);
	errno = EACCES;
	return -1;
}
