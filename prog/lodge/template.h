/* SPDX-License-Identifier: MIT */
/*
 * lodge run OPTIONS --template NAME: a machine that was booted already.
 *
 * The first time it boots, in the background, until its agent answers, and is saved; this time, and whenever the same machine is asked for
 * again, a guest goes on from there. It is another machine, and is booted anew, when an option is another one, or a file that it names.
 */
#ifndef LODGE_TEMPLATE_H
#define LODGE_TEMPLATE_H

#include "launch.h"

struct template {
	const char *name;
	const char *recipe; /* what the machine is, all of it; NULL: whatever the template of that name is */
	launch_source *source;
	void *ctx; /* for source */
};

/* Runs one of it to its end. The program's exit code. */
int template_run(const struct template *t, const struct launch *l);

#endif
