/* SPDX-License-Identifier: MIT */
/* See beside.h: what a program beside lodge says to it. */
#include "beside.h"

#include "base/err.h"

#include <stdio.h>
#include <unistd.h>

void beside_answer(const struct err *err)
{
	char text[sizeof(err->text) + 16];
	int len = err->code ? snprintf(text, sizeof(text), "%d %s", err->code, err->text) : snprintf(text, sizeof(text), "0");
	ssize_t n = write(STDOUT_FILENO, text, (size_t)len);

	(void)n; /* nobody waits */
	close(STDOUT_FILENO);
}
