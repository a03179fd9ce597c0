/* SPDX-License-Identifier: MIT */
/* See between.h. */
#include "between.h"

#include "base/err.h"
#include "base/scoped.h"
#include "userdir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* -- A process ---------------------------------------------------------------------------- */

static void become(const char *const argv[], int in, int out)
{
	signal(SIGPIPE, SIG_DFL);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	execv(argv[0], (char *const *)argv);
	_exit(127);
}

/* It reads one end; it writes there too, or to `out`, if that is none of -1. It is nobody's child: who guards a guest may wait for none. */
static int start(const char *const argv[], int out, struct err *err)
{
	int ends[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return err_sys(err, errno, "a pair of sockets");
	pid = fork();
	if (pid == 0) {
		if (fork() == 0)
			become(argv, ends[1], out < 0 ? ends[1] : out);
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

int between_shell(const char *command, struct err *err)
{
	return start((const char *const[]){"/bin/sh", "-c", command, NULL}, -1, err);
}

/* -- TLS ---------------------------------------------------------------------------------- */

/* Is beside us, or where it was installed. */
static const char *find_program(char path[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - sizeof("lodge-tls"));
	char *slash;

	path[n > 0 ? n : 0] = 0;
	slash = strrchr(path, '/');
	strcpy(slash ? slash + 1 : path, "lodge-tls"); /* SAFE: room was left */
	return access(path, X_OK) == 0 ? path : LODGE_LIBEXEC "/lodge-tls";
}

/* What it says when it has found the other side, or that it has not, and why. */
static int hear(int from, const char *address, struct err *err)
{
	char text[sizeof(err->text)];
	size_t n = 0;
	ssize_t got;

	do {
		got = read(from, text + n, sizeof(text) - 1 - n);
		n += got > 0 ? (size_t)got : 0;
	} while (got > 0 || (got < 0 && errno == EINTR));
	text[n] = 0;
	if (strcmp(text, "ok") == 0)
		return 0;
	return err_set(err, EIO, "tls:%s: %s", address, n ? text : "lodge-tls ended without a word");
}

int between_tls(const char *how, const char *address, const char *certificates, struct err *err)
{
	char path[PATH_MAX], home[PATH_MAX];
	scoped_fd int says = -1;
	int ends[2], fd, rc;

	if (!certificates && (rc = userdir_find(home, "XDG_CONFIG_HOME", ".config", "lodge/tls", err)) < 0)
		return rc;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_sys(err, errno, "a pipe");
	says = ends[0];
	fd = start((const char *const[]){find_program(path), how, address, certificates ? certificates : home, NULL},
		   ends[1], err);
	close(ends[1]);
	if (fd < 0 || (rc = hear(says, address, err)) == 0)
		return fd;
	close(fd);
	return rc;
}
