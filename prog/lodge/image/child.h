/* SPDX-License-Identifier: MIT */
/*
 * A program that makes an image, or fetches one. It says how far it is on its standard output, a line each, as "40 installing packages",
 * and what went wrong on standard error, of which the last line is the sentence. Who ends lodge ends it first.
 */
#ifndef LODGE_IMAGE_CHILD_H
#define LODGE_IMAGE_CHILD_H

struct err;
struct progress;

/* Runs it to its end, with files[0] as its descriptor 3, files[1] as 4, and so on to -1. `log`: where standard error goes. 0 or -errno.
 * What it says and is no progress is given to `said`, if that is not NULL, as "redirect URL": a word, and the rest. */
int child_run(const char *const argv[], const int *files, int log, struct progress *p,
	      void (*said)(void *ctx, const char *line), void *ctx, struct err *err);

/* If a signal ended it, ends lodge by the same, when what it had made is removed. */
void child_end_likewise(void);

#endif
