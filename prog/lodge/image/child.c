/* SPDX-License-Identifier: MIT */
/* See child.h. */
#include "child.h"

#include "base/err.h"
#include "base/macros.h"
#include "progress.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define FILES     3 /* the first descriptor of files */
#define FILES_MAX 8

/* -- Signals ------------------------------------------------------------------------------ */

static volatile sig_atomic_t group, ended_by;

/* It is in a process group of its own, so that Ctrl-C is ours, and what it has started ends, too. */
static void on_end(int sig)
{
	ended_by = sig;
	if (group > 0)
		kill(-(pid_t)group, SIGTERM);
}

static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

static void watch(struct sigaction before[ARRAY_SIZE(ends)])
{
	const struct sigaction sa = {.sa_handler = on_end};

	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
		sigaction(ends[i], NULL, &before[i]);
		if (before[i].sa_handler != SIG_IGN) /* nohup */
			sigaction(ends[i], &sa, NULL);
	}
}

static void unwatch(const struct sigaction before[ARRAY_SIZE(ends)])
{
	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++)
		sigaction(ends[i], &before[i], NULL);
}

/* -- The child ---------------------------------------------------------------------------- */

/* By way of high numbers, for one's place may be another's: those that nobody has, for who has started lodge may have had any open. */
static void place_files(const int *files)
{
	int high[FILES_MAX], n = 0;

	for (; files && n < FILES_MAX && files[n] >= 0; n++) {
		high[n] = fcntl(files[n], F_DUPFD, FILES + FILES_MAX);
		if (high[n] < 0)
			_exit(126);
	}
	for (int i = 0; i < n; i++)
		dup2(high[i], FILES + i);
	closefrom(FILES + n);
}

static void become(const char *const argv[], const int *files, int out, int log, pid_t parent)
{
	int nothing = open("/dev/null", O_RDONLY);

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++)
		signal(ends[i], SIG_DFL);
	if (getppid() != parent || nothing < 0)
		_exit(126);
	dup2(nothing, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	place_files(files);
	execv(argv[0], (char *const *)argv);
	dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* -- What it says --------------------------------------------------------------------------- */

static void take_line(const char *line, struct progress *p, void (*said)(void *, const char *), void *ctx)
{
	char *rest;
	unsigned long percent = strtoul(line, &rest, 10);

	if (isdigit((unsigned char)line[0]) && percent <= 100 && *rest == ' ')
		progress_show(p, (unsigned)percent, rest + 1);
	else if (said)
		said(ctx, line);
}

static void listen_to(int fd, struct progress *p, void (*said)(void *, const char *), void *ctx)
{
	FILE *in = fdopen(fd, "r");
	char line[4200];

	if (!in) {
		close(fd);
		return;
	}
	while (!ended_by && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\r\n")] = 0;
		take_line(line, p, said, ctx);
	}
	fclose(in);
}

/* The last line of its log. */
static int failed(int log, const char *name, struct err *err)
{
	char text[4096], *line;
	off_t len = lseek(log, 0, SEEK_END), at = len > (off_t)sizeof(text) - 1 ? len - (off_t)sizeof(text) + 1 : 0;
	ssize_t n = pread(log, text, sizeof(text) - 1, at);

	text[n > 0 ? n : 0] = 0;
	while (n > 0 && text[n - 1] == '\n')
		text[--n] = 0;
	line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	err_printable(line);
	return line[0] ? err_set(err, EIO, "%.400s", line) : err_set(err, EIO, "%s ended without a word", name);
}

int child_run(const char *const argv[], const int *files, int log, struct progress *p,
	      void (*said)(void *ctx, const char *line), void *ctx, struct err *err)
{
	struct sigaction before[ARRAY_SIZE(ends)];
	pid_t pid, parent = getpid();
	int out[2], status = 0;

	if (pipe2(out, O_CLOEXEC) < 0)
		return err_sys(err, errno, "a pipe");
	ended_by = 0;
	group = 0;
	watch(before);
	pid = fork();
	if (pid == 0)
		become(argv, files, out[1], log, parent);
	close(out[1]);
	if (pid > 0) {
		setpgid(pid, pid);
		group = pid;
		if (ended_by)
			kill(-pid, SIGTERM);
		listen_to(out[0], p, said, ctx);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
	} else {
		close(out[0]);
	}
	progress_end(p);
	unwatch(before);
	if (ended_by)
		return err_set(err, EINTR, "was ended by signal %d", (int)ended_by);
	if (pid < 0)
		return err_sys(err, errno, "a process");
	return status ? failed(log, argv[0], err) : 0;
}

void child_end_likewise(void)
{
	if (ended_by)
		raise((int)ended_by);
}
