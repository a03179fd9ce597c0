/* SPDX-License-Identifier: MIT */
/*
 * lodge console: a running guest's console, on this terminal.
 *
 * The guest's lodge is given one end of a socket pair; what is typed goes in at the other, and what the guest prints
 * comes out. Whoever leaves closes it, and the console is as it was before.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/log.h"
#include "base/scoped.h"
#include "client.h"
#include "failure.h"
#include "terminal.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct attach {
	const char *vm;
};

/* One end, if the guest's lodge has taken the other. */
static int attach(const char *vm, struct err *err)
{
	struct json_value *answer = NULL;
	int ends[2], fd = client_connect(vm, err), rc;

	if (fd < 0)
		return fd;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
		close(fd);
		return err_sys(err, errno, "a pair of sockets");
	}
	rc = client_ask(fd, "x-lodge-console", "{\"fd\": \"" CLIENT_FILE "\"}", ends[1], &answer, err);
	free(answer);
	close(fd);
	close(ends[1]);
	if (rc == 0)
		return ends[0];
	close(ends[0]);
	return rc;
}

static bool put_all(int fd, const char *bytes, ssize_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, bytes, (size_t)n);

		if (done < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		bytes += done > 0 ? done : 0;
		n -= done > 0 ? done : 0;
	}
	return true;
}

/* From one to the other; false at the end. */
static bool pass(int from, int to, bool escapes)
{
	char bytes[PIPE_BUF], *escape;
	ssize_t n = read(from, bytes, sizeof(bytes));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (n <= 0)
		return false;
	escape = escapes ? memchr(bytes, TERMINAL_ESCAPE, (size_t)n) : NULL;
	return put_all(to, bytes, escape ? escape - bytes : n) && !escape;
}

/* Until the guest's end is closed, stdout is, or somebody leaves. */
static void talk(int fd, bool raw)
{
	struct pollfd p[2] = {{fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};

	for (;;) {
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents && !pass(fd, STDOUT_FILENO, false))
			return;
		if (p[1].revents && !pass(STDIN_FILENO, fd, raw)) {
			if (raw)
				return;
			p[1].fd = -1; /* nobody types any more */
		}
	}
}

static void on_end(int sig)
{
	terminal_give_back();
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Unless it is ignored here: nohup. */
static void end_on(int sig)
{
	if (signal(sig, on_end) == SIG_IGN)
		signal(sig, SIG_IGN);
}

static int attach_main(void *parsed)
{
	const struct attach *a = parsed;
	struct err err = {0};
	int fd = attach(a->vm, &err);
	bool raw;

	if (fd < 0)
		return report_failure(&err);
	if (isatty(STDIN_FILENO))
		log_note("console", "Ctrl-] leaves, and the guest goes on");
	end_on(SIGTERM);
	end_on(SIGHUP);
	raw = terminal_take();
	talk(fd, raw);
	terminal_give_back();
	close(fd);
	return EXIT_OK;
}

const struct verb verb_console = {
	.name = "console",
	.summary = "the console of a guest in the background, on this terminal",
	.text = VM_TEXT
		"Ctrl-] leaves, and the guest goes on; so it does when its console is closed otherwise. A guest\n"
		"that was started on a terminal has its console there, and nowhere else.\n",
	.operand = "[VM]",
	.n_operands = 1,
	.size = sizeof(struct attach),
	.main = attach_main,
};
