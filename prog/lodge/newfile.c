/* SPDX-License-Identifier: MIT */
/*
 * See newfile.h. Where the file system can make a file without a name (O_TMPFILE), it has one only when
 * all of it is there, and who is killed leaves nothing. It gets a name beside the wanted one and is
 * renamed over that, because link() replaces nothing. Elsewhere it has that name from the beginning, and
 * signals that end us remove it first; kill -9 leaves it.
 */
#include "newfile.h"

#include "base/err.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRIES 100

/* For the handler. */
static const struct newfile *named;

static void on_end(int sig)
{
	if (named)
		unlinkat(named->dir, named->temporary, 0);
	signal(sig, SIG_DFL);
	raise(sig);
}

static void remove_at_end(const struct newfile *n)
{
	static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

	named = n;
	for (unsigned i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (signal(ends[i], n ? on_end : SIG_DFL) == SIG_IGN)
			signal(ends[i], SIG_IGN); /* nohup, or a shell's background */
}

/* ".vm.lodge.12345.0", cut to what a name may be. */
static void name_temporary(struct newfile *n, unsigned number)
{
	snprintf(n->temporary, sizeof(n->temporary), ".%.200s.%d.%u", n->name, (int)getpid(),
		 number);
}

/* No signal comes before the handler knows of the file. */
static int open_named(struct newfile *n)
{
	sigset_t all, before;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	for (unsigned i = 0; i < TRIES; i++) {
		name_temporary(n, i);
		n->fd = openat(n->dir, n->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (n->fd >= 0)
			remove_at_end(n);
		if (n->fd >= 0 || errno != EEXIST)
			break;
	}
	if (n->fd < 0)
		n->temporary[0] = 0;
	sigprocmask(SIG_SETMASK, &before, NULL);
	return n->fd;
}

static int split(struct newfile *n, char *path, const char **dir)
{
	char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (!name[0] || strlen(name) > NAME_MAX)
		return -1;
	strcpy(n->name, name); /* SAFE: it has room for NAME_MAX */
	*dir = slash == path ? "/" : slash ? path : ".";
	if (slash)
		*slash = 0;
	return 0;
}

int newfile_open(struct newfile *n, const char *path, struct err *err)
{
	scoped_mem char *full = realpath(path, NULL);
	const char *dir;

	*n = (struct newfile){.fd = -1, .dir = -1};
	if (!full)
		full = strdup(path);
	if (!full || split(n, full, &dir) < 0)
		return err_set(err, ERANGE, "'%s' is no name for a file", path);
	n->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (n->dir < 0)
		return err_sys(err, errno, "'%s'", path);
	n->fd = openat(n->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (n->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL))
		open_named(n);
	return n->fd < 0 ? err_sys(err, errno, "'%s'", path) : 0;
}

static int link_temporary(struct newfile *n)
{
	char self[40];

	snprintf(self, sizeof(self), "/proc/self/fd/%d", n->fd);
	for (unsigned i = 0; i < TRIES; i++) {
		name_temporary(n, i);
		if (linkat(AT_FDCWD, self, n->dir, n->temporary, AT_SYMLINK_FOLLOW) == 0)
			return 0;
		if (errno != EEXIST)
			break;
	}
	n->temporary[0] = 0;
	return -1;
}

/* Nobody is to end us between the two names. */
static int rename_over(struct newfile *n)
{
	sigset_t all, before;
	int rc = 0, why = 0;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	if (!n->temporary[0])
		rc = link_temporary(n);
	if (rc == 0)
		rc = renameat(n->dir, n->temporary, n->dir, n->name);
	why = errno;
	if (rc < 0 && n->temporary[0])
		unlinkat(n->dir, n->temporary, 0);
	n->temporary[0] = 0;
	remove_at_end(NULL);
	sigprocmask(SIG_SETMASK, &before, NULL);
	errno = why;
	return rc;
}

int newfile_publish(struct newfile *n, struct err *err)
{
	if (fsync(n->fd) < 0 || rename_over(n) < 0)
		return err_sys(err, errno, "'%s'", n->name);
	fsync(n->dir); /* some file systems cannot */
	return 0;
}

void newfile_close(struct newfile *n)
{
	if (n->temporary[0]) {
		unlinkat(n->dir, n->temporary, 0);
		remove_at_end(NULL);
	}
	if (n->fd >= 0)
		close(n->fd);
	if (n->dir >= 0)
		close(n->dir);
}
