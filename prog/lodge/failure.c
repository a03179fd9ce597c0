/* SPDX-License-Identifier: MIT */
/* The table of failure.h. */
#include "failure.h"

#include "base/err.h"
#include "base/log.h"
#include "base/macros.h"
#include "lodge.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The first row of a kind has the number that stands for it; the last one is for all others. */
static const struct {
	int code;
	const char *kind;
	enum exit_code exit;
} rows[] = {
	{ERANGE, "usage", EXIT_USAGE},
	{ENOENT, "not-found", EXIT_NOT_FOUND},
	{EBUSY, "conflict", EXIT_CONFLICT},
	{EAGAIN, "conflict", EXIT_CONFLICT},
	{ENODEV, "engine", EXIT_ENGINE},
	{ESHUTDOWN, "guest", EXIT_FAILED},
	{EIO, "host", EXIT_FAILED},
};

static unsigned find(int code)
{
	unsigned i = 0;

	while (i + 1 < ARRAY_SIZE(rows) && rows[i].code != code)
		i++;
	return i;
}

const char *failure_kind(int code)
{
	return rows[find(code)].kind;
}

int failure_code(const char *kind)
{
	unsigned i = 0;

	while (i + 1 < ARRAY_SIZE(rows) && strcmp(rows[i].kind, kind) != 0)
		i++;
	return rows[i].code;
}

/* By way of log_line(), for which stderr may be full. */
int report_failure(const struct err *err)
{
	char line[sizeof(err->text) + 16];

	snprintf(line, sizeof(line), "lodge: %s\n",
		 err->text[0] ? err->text : strerror(err->code));
	log_line(line);
	return (int)rows[find(err->code)].exit;
}
