/* SPDX-License-Identifier: MIT */
/* See beside.h. */
#include "beside.h"

#include "base/err.h"
#include "base/scoped.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX 80

/* -- A process ---------------------------------------------------------------------------- */

static void become(const char *const argv[], int in, int out, int given)
{
	int fds[3] = {fcntl(in, F_DUPFD, 10), fcntl(out, F_DUPFD, 10), given < 0 ? -1 : fcntl(given, F_DUPFD, 10)};

	signal(SIGPIPE, SIG_DFL);
	dup2(fds[0], STDIN_FILENO);
	dup2(fds[1], STDOUT_FILENO);
	if (given >= 0)
		dup2(fds[2], BESIDE_GIVEN);
	execv(argv[0], (char *const *)argv);
	_exit(127);
}

/* It reads one end; it writes there too, or to `out`, if that is none of -1. It is nobody's child: who guards a guest may wait for none. */
static int start(const char *const argv[], int out, int given, struct err *err)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return err_sys(err, errno, "a pair of sockets");
	pid = fork();
	if (pid == 0) {
		if (fork() == 0)
			become(argv, ends[1], out < 0 ? ends[1] : out, given);
		_exit(0);
	}
	close(ends[1]);
	if (pid > 0) {
		waitpid(pid, NULL, 0);
		return ends[0];
	}
	close(ends[0]);
	return err_sys(err, errno, "a process");
}

int beside_shell(const char *command, struct err *err)
{
	return start((const char *const[]){"/bin/sh", "-c", command, NULL}, -1, -1, err);
}

/* -- A program of ours -------------------------------------------------------------------- */

const char *beside_program(char path[PATH_MAX], const char *name)
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - NAME_MAX);
	char *slash;

	path[n > 0 ? n : 0] = 0;
	slash = strrchr(path, '/');
	strcpy(slash ? slash + 1 : path, name); /* SAFE: room was left, and it is one of ours */
	if (access(path, X_OK) < 0)
		strcat(strcpy(path, LODGE_LIBEXEC "/"), name); /* SAFE: as above */
	return path;
}

/* "0", or the number of an error and a sentence. */
int beside_hear(int says, const char *name, struct err *err)
{
	scoped_fd int from = says;
	char text[sizeof(err->text)], *why;
	size_t n = 0;
	ssize_t got;
	long code;

	do {
		got = read(from, text + n, sizeof(text) - 1 - n);
		n += got > 0 ? (size_t)got : 0;
	} while (got > 0 || (got < 0 && errno == EINTR));
	text[n] = 0;
	code = strtol(text, &why, 10);
	if (!n)
		return err_set(err, EIO, "%s ended without a word", name);
	return code == 0 ? 0 : err_set(err, (int)code, "%s", why + (*why == ' '));
}

int beside_start(const char *name, const char *const words[], int given, int *says, struct err *err)
{
	const char *argv[WORDS_MAX + 2];
	char path[PATH_MAX];
	int ends[2], fd;
	unsigned n = 0;

	argv[n++] = beside_program(path, name);
	while (*words && n <= WORDS_MAX)
		argv[n++] = *words++;
	argv[n] = NULL;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, errno, "a pipe");
	fd = start(argv, ends[1], given, err);
	close(ends[1]);
	if (fd < 0)
		close(ends[0]);
	else
		*says = ends[0];
	return fd;
}
