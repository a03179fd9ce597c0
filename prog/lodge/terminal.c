/* SPDX-License-Identifier: MIT */
/*
 * Raw mode, and the ways out of it.
 *
 * A terminal that is left raw is a broken terminal to most people, so there are three ways
 * back: the normal one (terminal_give_back()), atexit() for any other exit(), and handlers
 * for the signals of a crash, and those that nobody should send us but that end a process, which
 * restore it and then die of the same signal. Signals that ask us to end are not handled here;
 * the session reads them from a descriptor.
 *
 * A lodge in the background neither changes the terminal nor reads from it. Nothing here waits for
 * output to drain: a terminal that nobody reads would hold us for ever, with all signals blocked.
 */
#include "terminal.h"

#include "base/log.h"
#include "base/macros.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static volatile sig_atomic_t taken;

void terminal_give_back(void)
{
	if (!taken)
		return;
	taken = 0;
	tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

static void on_crash(int sig)
{
	if (taken)
		tcsetattr(STDIN_FILENO, TCSANOW, &before);
	taken = 0;
	/* The default, a core dump with the right name. Not by SA_RESETHAND: we may have been called
	 * by the engine's handler. */
	signal(sig, SIG_DFL);
	raise(sig);
}

void terminal_prepare(void)
{
	static const int crashes[] = {
		SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP,
		SIGXCPU, SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2,
	};
	struct sigaction sa = {
		.sa_handler = on_crash,
		.sa_flags = SA_NODEFER | SA_ONSTACK,
	};

	if (!isatty(STDIN_FILENO))
		return;
	for (unsigned i = 0; i < ARRAY_SIZE(crashes); i++)
		sigaction(crashes[i], &sa, NULL);
	atexit(terminal_give_back);
}

/* A terminal that does not control us (after setsid(), say) stops nobody who reads it. */
static bool in_foreground(void)
{
	pid_t group = tcgetpgrp(STDIN_FILENO);

	return group == getpgrp() || (group < 0 && errno == ENOTTY);
}

bool terminal_take(void)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || !in_foreground() ||
	    (!taken && tcgetattr(STDIN_FILENO, &before) < 0))
		return false;
	raw = before;
	cfmakeraw(&raw);
	taken = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
	return taken;
}

/* A terminal that nobody reads takes a part of a write and makes the writer wait for the rest,
 * whatever poll() said. O_NONBLOCK on the descriptor itself would be our parent's, too; so it is opened
 * once more. */
int terminal_output(int fd)
{
	char path[32];
	int own = -1;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (isatty(fd))
		own = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	return own >= 0 ? own : fd;
}

void terminal_note(const char *fmt, ...)
{
	char text[400], line[sizeof(text) + 16];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), taken ? "\r\nlodge: %s\r\n" : "lodge: %s\n", text);
	log_line(line);
}
