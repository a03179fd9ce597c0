/* SPDX-License-Identifier: MIT */
/*
 * See place.h.
 *
 * A name belongs to one guest. It is taken, and what is dead is removed, with the directory locked, so
 * that nobody removes a socket between its bind() and its listen(), or a name that another one has just
 * taken. Leaving needs no lock (which the sandbox would not give): a guest removes its name and then its
 * socket while it still listens, and until it does not, nobody touches them.
 */
#include "place.h"

#include "base/err.h"
#include "base/scoped.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SUFFIX ".sock"
#define WAITING 16 /* clients that may wait to be let in */

/* -- The directory ------------------------------------------------------------------------ */

static int check_dir(const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_sys(err, errno, "%s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return err_set(err, EPERM, "%s is not a directory that is yours alone",
			       path);
	return 0;
}

int place_find(char dir[PLACE_MAX], bool make, struct err *err)
{
	const char *base = getenv("XDG_RUNTIME_DIR");
	int n;

	if (base && base[0] == '/')
		n = snprintf(dir, PLACE_MAX, "%s/lodge", base);
	else
		n = snprintf(dir, PLACE_MAX, "/tmp/lodge-%u", (unsigned)geteuid());
	if (n < 0 || n >= PLACE_MAX)
		return err_set(err, ENAMETOOLONG, "XDG_RUNTIME_DIR is too long");
	if (make && mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_sys(err, errno, "%s", dir);
	return check_dir(dir, err);
}

/* Closing it is the end of it. */
static int lock_dir(const char *dir)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	while (fd >= 0 && flock(fd, LOCK_EX) < 0 && errno == EINTR)
		;
	return fd;
}

/* -- Names -------------------------------------------------------------------------------- */

bool place_is_name(const char *text)
{
	size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

	return isalpha((unsigned char)text[0]) && !text[n] && n < PLACE_NAME_MAX;
}

static void name_path(char path[PATH_MAX], const char *dir, const char *name)
{
	snprintf(path, PATH_MAX, "%s/%s" SUFFIX, dir, name);
}

static void pid_addr(struct sockaddr_un *addr, const char *dir, long pid)
{
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(addr->sun_path, sizeof(addr->sun_path), "%.*s/%ld" SUFFIX, PLACE_MAX, dir, pid);
}

/* The process whose socket has this name; 0: it is no socket's. */
static long pid_of(const char *file)
{
	char *end;
	long pid = strtol(file, &end, 10);

	return isdigit((unsigned char)file[0]) && pid > 0 && strcmp(end, SUFFIX) == 0 ? pid : 0;
}

long place_pid(const char *dir, const char *name)
{
	char path[PATH_MAX], target[PLACE_NAME_MAX];
	ssize_t n;

	name_path(path, dir, name);
	n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return 0;
	target[n] = 0;
	return pid_of(target);
}

static int compare_pids(const void *a, const void *b)
{
	long x = *(const long *)a, y = *(const long *)b;

	return x < y ? -1 : x > y;
}

int place_list(const char *dir, long **pids)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	int n = 0;

	*pids = NULL;
	if (!d)
		return errno == ENOENT ? 0 : -errno;
	while ((e = readdir(d))) {
		long pid = pid_of(e->d_name), *more;

		if (!pid)
			continue;
		more = realloc(*pids, (size_t)(n + 1) * sizeof(**pids));
		if (!more)
			break;
		*pids = more;
		more[n++] = pid;
	}
	closedir(d);
	if (n)
		qsort(*pids, (size_t)n, sizeof(**pids), compare_pids);
	return n;
}

/* -- The dead ----------------------------------------------------------------------------- */

static int connect_to(const char *dir, long pid, int flags)
{
	scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	struct sockaddr_un addr;

	if (fd < 0)
		return -errno;
	pid_addr(&addr, dir, pid);
	return connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 ? keep_fd(&fd) : -errno;
}

static void remove_dead_sockets(const char *dir)
{
	scoped_mem long *pids = NULL;
	int n = place_list(dir, &pids);

	for (int i = 0; i < n; i++) {
		int fd = connect_to(dir, pids[i], SOCK_NONBLOCK);
		struct sockaddr_un addr;

		pid_addr(&addr, dir, pids[i]);
		if (fd >= 0)
			close(fd);
		else if (fd == -ECONNREFUSED)
			unlink(addr.sun_path);
	}
}

static void remove_dead_names(const char *dir)
{
	DIR *d = opendir(dir);
	const struct dirent *e;
	char path[PATH_MAX];

	while (d && (e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (pid_of(e->d_name) || n < sizeof(SUFFIX) ||
		    strcmp(e->d_name + n - strlen(SUFFIX), SUFFIX) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		if (access(path, F_OK) < 0 && errno == ENOENT)
			unlink(path);
	}
	if (d)
		closedir(d);
}

/* With the directory locked. */
static void sweep(const char *dir)
{
	remove_dead_sockets(dir);
	remove_dead_names(dir);
}

int place_connect(const char *dir, long pid, int flags)
{
	int fd = connect_to(dir, pid, flags);

	if (fd == -ECONNREFUSED) {
		scoped_fd int lock = lock_dir(dir);

		if (lock >= 0)
			sweep(dir);
	}
	return fd;
}

/* -- A guest's own ------------------------------------------------------------------------ */

static int open_socket(const char *dir, struct err *err)
{
	scoped_fd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;

	pid_addr(&addr, dir, getpid());
	unlink(addr.sun_path); /* of a process that had our number before */
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, WAITING) < 0)
		return err_sys(err, errno, "%s", addr.sun_path);
	return keep_fd(&fd);
}

static int take_name(const char *dir, const char *name, struct err *err)
{
	char path[PATH_MAX], target[32];

	name_path(path, dir, name);
	snprintf(target, sizeof(target), "%d" SUFFIX, (int)getpid());
	if (symlink(target, path) == 0)
		return 0;
	if (errno == EEXIST)
		return err_set(err, EBUSY, "the guest in process %ld has the name '%s'",
			       place_pid(dir, name), name);
	return err_sys(err, errno, "%s", path);
}

int place_open(const char *dir, const char *name, struct err *err)
{
	scoped_fd int lock = lock_dir(dir);
	scoped_fd int fd = -1;

	if (lock < 0)
		return err_sys(err, errno, "%s", dir);
	sweep(dir);
	fd = open_socket(dir, err);
	if (fd >= 0 && name) {
		int rc = take_name(dir, name, err);

		if (rc < 0) {
			place_leave(dir, NULL);
			return rc;
		}
	}
	return fd >= 0 ? keep_fd(&fd) : -err->code;
}

void place_leave(const char *dir, const char *name)
{
	struct sockaddr_un addr;
	char path[PATH_MAX];

	if (name) {
		name_path(path, dir, name);
		unlink(path);
	}
	pid_addr(&addr, dir, getpid());
	unlink(addr.sun_path);
}
