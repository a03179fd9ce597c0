/* SPDX-License-Identifier: MIT */
/*
 * --cloud-init and --ssh-key: what a guest's first boot is told, as a disk (seed.h).
 *
 *	DIR or FILE of the user's       user-data, meta-data, network-config, vendor-data
 *	--ssh-key                       public-keys of meta-data; and lodge-keys, a line each, for who reads no YAML
 *
 * The disk is a file in ~/.cache/lodge/seeds, by the checksum of what is in it: a saved machine finds it there again, and who removes it
 * loses nothing else.
 */
#ifndef LODGE_IMAGE_CLOUD_H
#define LODGE_IMAGE_CLOUD_H

#include <limits.h>
#include <stdbool.h>

struct err;

#define CLOUD_KEYS_MAX 16

struct cloud_options {
	const char *data;                 /* --cloud-init; NULL */
	const char *keys[CLOUD_KEYS_MAX]; /* --ssh-key: files */
	unsigned n_keys;
	const char *own_key;              /* one of lodge's own, if there is a place for it; NULL */
	const char *host;                 /* the guest's name for itself; NULL: lodge */
};

/* -EINVAL: too many. */
int cloud_set_key(void *options, char *value, struct err *err);

/* Makes the disk; path is its. 0 or -errno. */
int cloud_make(const struct cloud_options *o, char path[PATH_MAX], struct err *err);

/* The public half of a key of lodge's own, with which `lodge ssh` enters guests; it is made when it is not there. "": there is no
 * ssh-keygen. */
int cloud_own_key(char path[PATH_MAX], struct err *err);

/* Whether that is there, and its secret half. */
bool cloud_has_own_key(char path[PATH_MAX]);

#endif
