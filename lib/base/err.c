/* SPDX-License-Identifier: MIT */
/*
 * Errors that explain themselves: see err.h for how they are used.
 *
 * A message is born at the place that knows what is wrong ("not a multiple of 512 bytes") and
 * grows to the left on its way out, each caller adding what it was busy with ("disk
 * '/srv/a.img'"). Nothing is allocated: a text that does not fit is cut at its end, so the
 * part that names the place is the one that survives.
 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (err) {
		va_start(ap, fmt);
		vsnprintf(err->text, sizeof(err->text), fmt, ap);
		va_end(ap);
		err->code = code;
	}
	return -code;
}

int err_sys(struct err *err, int code, const char *fmt, ...)
{
	char what[sizeof(err->text) / 2];
	va_list ap;

	if (!err)
		return -code;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	return err_set(err, code, "%s: %s%s", what, strerror(code),
		       code == EMFILE ? " (ulimit -n)" : "");
}

int err_at(struct err *err, int rc, const char *fmt, ...)
{
	char text[sizeof(err->text)];
	va_list ap;
	int n;

	if (!err)
		return rc;
	/* A callee that returned a number without a sentence still gets one. */
	if (!err->code)
		err_set(err, rc < 0 ? -rc : EIO, "%s", strerror(rc < 0 ? -rc : EIO));
	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(text))
		snprintf(text + n, sizeof(text) - n, ": %.*s", (int)sizeof(text) - n,
			 err->text);
	memcpy(err->text, text, sizeof(text));
	return rc;
}

/* How many bytes the letter there has; 0: it is none, or a control character (C0, DEL, C1). */
static unsigned letter(const unsigned char *c)
{
	unsigned n = c[0] < 0x80 ? 1 : c[0] >= 0xc2 && c[0] < 0xe0 ? 2 : c[0] >= 0xe0 && c[0] < 0xf0 ? 3 : c[0] >= 0xf0 && c[0] < 0xf5 ? 4 : 0;

	if (c[0] < ' ' || c[0] == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0))
		return 0;
	for (unsigned i = 1; i < n; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

void err_harmless(char *text)
{
	while (*text) {
		unsigned n = letter((const unsigned char *)text);

		if (!n)
			*text = '?';
		text += n ? n : 1;
	}
}

void err_printable(char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~') /* a char above 127 is below 0, or above */
			*text = '?';
}
