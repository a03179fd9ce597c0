/* SPDX-License-Identifier: MIT */
/*
 * Notices on stderr.
 *
 * While a guest's console has the terminal, the terminal is in raw mode and a bare newline
 * would leave the cursor where it is: so a line ends in "\r\n" whenever stderr is a terminal.
 * A line longer than the buffer is cut.
 *
 * A guest can be the cause of as many lines as it likes, and stderr may be a pipe that nobody
 * reads. Who writes them holds a device's lock, or is the thread that takes signals; so a line
 * that finds no room for a second is lost. A pipe with room takes a whole line, and one thread
 * writes at a time.
 */
#include "base/log.h"

#include "base/scoped.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024
#define PATIENCE_MS 1000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool log_line(const char *p)
{
	struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
	size_t n = strlen(p);

	scoped_lock(&lock);
	while (n) {
		ssize_t done;

		if (poll(&room, 1, PATIENCE_MS) == 0)
			return false;
		done = write(STDERR_FILENO, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return false; /* nobody listens */
		p += done;
		n -= done;
	}
	return true;
}

static void say(const char *kind, const char *component, const char *fmt, va_list ap)
{
	const char *end = isatty(STDERR_FILENO) ? "\r\n" : "\n";
	char line[LINE_MAX_BYTES + 3];
	size_t n;

	snprintf(line, LINE_MAX_BYTES, "%s: %s%s: ", program_invocation_short_name, kind,
		 component);
	n = strlen(line);
	vsnprintf(line + n, LINE_MAX_BYTES - n, fmt, ap);
	strcat(line, end); /* SAFE: three bytes are kept for it */
	log_line(line);
}

void log_note(const char *component, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("", component, fmt, ap);
	va_end(ap);
}

void log_warn(const char *component, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say("warning: ", component, fmt, ap);
	va_end(ap);
}
