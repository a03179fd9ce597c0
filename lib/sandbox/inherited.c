/* SPDX-License-Identifier: MIT */
/*
 * See inherited.h. They are not closed at once because a user may have passed one on purpose: a disk
 * named /dev/fd/5 is opened through it, and then it has done its service.
 */
#include "sandbox/inherited.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static int *fds;
static unsigned n_fds;

static void note(int fd)
{
	int *more;

	if (fd <= STDERR_FILENO || fcntl(fd, F_GETFD) < 0)
		return;
	more = realloc(fds, (n_fds + 1) * sizeof(*fds));
	if (!more)
		return;
	fds = more;
	fds[n_fds++] = fd;
}

/* Without /proc: each number that there may be. */
static void ask_all(void)
{
	struct rlimit limit = {.rlim_cur = 1024};

	getrlimit(RLIMIT_NOFILE, &limit);
	for (int fd = 0; (rlim_t)fd < limit.rlim_cur && fd < 1 << 20; fd++)
		note(fd);
}

void inherited_note(void)
{
	DIR *dir = opendir("/proc/self/fd");
	const struct dirent *e;

	if (!dir) {
		ask_all();
		return;
	}
	while ((e = readdir(dir)))
		if (atoi(e->d_name) != dirfd(dir))
			note(atoi(e->d_name));
	closedir(dir);
}

void inherited_close(void)
{
	for (unsigned i = 0; i < n_fds; i++)
		close(fds[i]);
	free(fds);
	fds = NULL;
	n_fds = 0;
}
