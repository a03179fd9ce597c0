/* SPDX-License-Identifier: MIT */
/* See uri.h. */
#include "uri.h"

#include "base/err.h"
#include "beside.h"
#include "between.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char *after(const char *uri, const char *scheme)
{
	size_t n = strlen(scheme);

	return strncmp(uri, scheme, n) == 0 && uri[n] ? uri + n : NULL;
}

static int address(struct sockaddr_un *at, const char *path, struct err *err)
{
	*at = (struct sockaddr_un){.sun_family = AF_UNIX};
	if (strlen(path) >= sizeof(at->sun_path))
		return err_set(err, ERANGE, "unix:%s: the path of a socket has at most %zu bytes", path,
			       sizeof(at->sun_path) - 1);
	strcpy(at->sun_path, path); /* SAFE: it has room */
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

static int connect_unix(const char *path, struct err *err)
{
	struct sockaddr_un at;
	int fd = address(&at, path, err), why;

	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0)
		return fd;
	why = errno;
	close(fd);
	return err_sys(err, why, "unix:%s", path);
}

/* -- To ---------------------------------------------------------------------------- */

int uri_connect(const char *uri, const char *certificates, bool *direct, struct err *err)
{
	const char *path = after(uri, "unix:"), *command = after(uri, "exec:");

	*direct = path;
	if (path)
		return connect_unix(path, err);
	if (command)
		return beside_shell(command, err);
	if (after(uri, "tls:"))
		return between_tls("connect", after(uri, "tls:"), certificates, err);
	return err_set(err, ERANGE, "'%s': a guest migrates to unix:PATH, tls:HOST:PORT or exec:COMMAND", uri);
}

/* -- From -------------------------------------------------------------------------- */

/* A socket that is there, and nobody listens to: somebody was killed while he waited. */
static bool is_left_behind(const struct sockaddr_un *at)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool left = fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof(*at)) < 0 &&
		    errno == ECONNREFUSED;

	if (fd >= 0)
		close(fd);
	return left;
}

/* For its user alone. */
static int bind_to(int fd, const struct sockaddr_un *at)
{
	mode_t before = umask(0177);
	int rc = bind(fd, (const struct sockaddr *)at, sizeof(*at)), why;

	if (rc < 0 && errno == EADDRINUSE && is_left_behind(at) && unlink(at->sun_path) == 0)
		rc = bind(fd, (const struct sockaddr *)at, sizeof(*at));
	why = errno;
	umask(before);
	errno = why;
	return rc;
}

static int wait_for_one(int fd, const struct sockaddr_un *at, struct err *err)
{
	int rc = bind_to(fd, at), one = -1, why;

	if (rc == 0 && listen(fd, 1) == 0) {
		do
			one = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		while (one < 0 && (errno == EINTR || errno == ECONNABORTED));
	}
	why = errno;
	if (rc == 0)
		unlink(at->sun_path);
	close(fd);
	return one >= 0 ? one : err_sys(err, why, "unix:%s", at->sun_path);
}

int uri_listen(const char *path, struct err *err)
{
	struct sockaddr_un at;
	int fd = address(&at, path, err), why;

	if (fd < 0 || (bind_to(fd, &at) == 0 && listen(fd, 16) == 0))
		return fd;
	why = errno;
	close(fd);
	return err_sys(err, why, "unix:%s", path);
}

int uri_accept(const char *uri, const char *certificates, int *answer, struct err *err)
{
	const char *path = after(uri, "unix:");
	struct sockaddr_un at;
	int fd = -1;

	if (strcmp(uri, "-") == 0) {
		*answer = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
		return fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	}
	if (after(uri, "tls:"))
		fd = between_tls("listen", after(uri, "tls:"), certificates, err);
	else if (!path)
		return err_set(err, ERANGE, "--incoming '%s': a guest comes from unix:PATH, tls:ADDRESS:PORT or -", uri);
	else if ((fd = address(&at, path, err)) >= 0)
		fd = wait_for_one(fd, &at, err);
	if (fd >= 0)
		*answer = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return fd;
}
