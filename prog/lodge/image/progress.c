/* SPDX-License-Identifier: MIT */
/* See progress.h. */
#include "progress.h"

#include "base/err.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define EACH 10 /* percent, where it is no terminal */

/* A line that wraps could not be written anew. */
static unsigned columns(void)
{
	struct winsize size;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20 ? size.ws_col : 80;
}

void progress_show(struct progress *p, unsigned percent, const char *text)
{
	char words[PROGRESS_TEXT], line[PROGRESS_TEXT * 3];
	bool same;

	snprintf(words, sizeof(words), "%s", text);
	err_printable(words);
	same = p->begun && strcmp(words, p->text) == 0;
	if (same && (percent == p->percent || (!isatty(STDERR_FILENO) && percent < p->percent + EACH)))
		return;
	p->begun = true;
	p->percent = percent;
	strcpy(p->text, words); /* SAFE: they are of one size */
	if (!isatty(STDERR_FILENO)) {
		log_note("image", "%s: %u %% %s", p->what, percent, words);
		return;
	}
	snprintf(line, sizeof(line), "lodge: image: %s: %u %% %s", p->what, percent, words);
	line[columns() < sizeof(line) ? columns() - 1 : sizeof(line) - 1] = 0;
	p->shown = true;
	fprintf(stderr, "\r%s\033[K", line);
	fflush(stderr);
}

void progress_end(struct progress *p)
{
	if (p->shown)
		fputs("\r\033[K", stderr);
	p->shown = false;
}
