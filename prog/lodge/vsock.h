/* SPDX-License-Identifier: MIT */
/*
 * Sockets between programs in the guest and programs here: --vsock. Where they are here is not the machine's, but of who starts
 * it: a saved machine says that its guest has them, and the guest's number.
 */
#ifndef LODGE_VSOCK_H
#define LODGE_VSOCK_H

#include <stdint.h>

struct err;
struct machine_config;

struct vsock_options {
	const char *path; /* NULL: nothing was said */
	uint32_t cid;     /* 0: nothing was said of that */
};

/* The option's value: PATH[,cid=N]. -EINVAL. */
int vsock_set(void *options, char *value, struct err *err);

/* Starts lodge-vsock, and fills in config->vsock; config->saved is set if the guest goes on from somewhere. What was opened vsock_close() closes,
 * after the machine is destroyed. */
int vsock_open(const struct vsock_options *options, struct machine_config *config, struct err *err);
void vsock_close(struct machine_config *config);

#endif
