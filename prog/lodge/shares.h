/* SPDX-License-Identifier: MIT */
/*
 * Directories that a guest may use: --share. Which they are is not the machine's, but of who starts
 * it: a saved machine says which its guest knows, by their tags, and gets none by itself, for it
 * may be a stranger's. Only one that comes from a guest that runs here has that guest's.
 */
#ifndef LODGE_SHARES_H
#define LODGE_SHARES_H

#include <stdbool.h>

#include "machine/machine.h"

struct err;

struct shares {
	struct machine_share dirs[MACHINE_SHARES_MAX]; /* path as it was said; tag NULL: by the directory's name */
	unsigned n;
};

/* The option's value: DIR[:TAG][,ro]. -EINVAL. */
int shares_set(void *shares, char *value, struct err *err);

/* Starts lodge-share for each, and fills in config->shares; config->saved is set if the guest goes on from somewhere, `known` if it is one
 * that runs here. What was opened shares_close() closes, after the machine is destroyed. */
int shares_open(const struct shares *shares, bool known, struct machine_config *config, struct err *err);
void shares_close(struct machine_config *config);

#endif
