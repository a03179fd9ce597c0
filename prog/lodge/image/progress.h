/* SPDX-License-Identifier: MIT */
/*
 * How far something is that takes a while, on stderr: on a terminal one line, written anew each time; elsewhere a line when something
 * else is done, or ten more percent of it.
 *
 *	struct progress p = {.what = "debian"};
 *
 *	progress_show(&p, 40, "installing packages");       lodge: image: debian: 40 % installing packages
 *	progress_end(&p);                                   what comes next begins a line
 */
#ifndef LODGE_IMAGE_PROGRESS_H
#define LODGE_IMAGE_PROGRESS_H

#include <stdbool.h>

#define PROGRESS_TEXT 100

struct progress {
	const char *what;
	bool begun, shown;
	unsigned percent;
	char text[PROGRESS_TEXT];
};

void progress_show(struct progress *p, unsigned percent, const char *text);
void progress_end(struct progress *p);

#endif
