/* SPDX-License-Identifier: MIT */
/* Landlock (Linux 5.13): a thread gives up the file system, by its own will and without privilege. */
#ifndef SANDBOX_LANDLOCK_H
#define SANDBOX_LANDLOCK_H

#include <stdbool.h>

/* What is left: directories in which files may be removed, or read, or one that is open and somebody else's to use, or NULL; whether TCP is
 * bound and connected. */
struct landlock_left {
	const char *removes, *reads[2];
	const int *shares;
	bool readonly, network;
};

/*
 * From here on this thread, and those that it starts, reach no file by its name; of what is open
 * nothing changes. Nor do they bind or connect TCP (Linux 6.7), or reach others by signals and abstract
 * sockets (6.12). The kernel goes on to write core dumps, if ulimit -c says that they are wanted. 0 or -errno.
 */
int landlock_enter(const struct landlock_left *left);

#endif
