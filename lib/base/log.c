/* SPDX-License-Identifier: MIT */
/*
 * Notices on stderr.
 *
 * While a guest's console has the terminal, the terminal is in raw mode and a bare newline
 * would leave the cursor where it is: so a line ends in "\r\n" whenever stderr is a terminal.
 * A line longer than the buffer is cut.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static void write_all(const char *p, size_t n)
{
	while (n) {
		ssize_t done = write(STDERR_FILENO, p, n);

		if (done < 0 && errno == EINTR)
			continue;
		if (done <= 0)
			return; /* nobody listens */
		p += done;
		n -= done;
	}
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
	write_all(line, strlen(line));
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
