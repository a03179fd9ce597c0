/* SPDX-License-Identifier: MIT */
/*
 * Which firmware a guest has, by the options of lodge run.
 *
 *	struct firmware_options o = {.image = "uefi", .variables = "web.vars"};
 *	rc = firmware_configure(&o, &config, &err);
 */
#ifndef LODGE_FIRMWARE_H
#define LODGE_FIRMWARE_H

#include "machine/machine.h"

struct err;

struct firmware_options {
	const char *image;     /* bios, uefi, or a file; NULL: there is none, and a kernel */
	const char *variables; /* a file that is made if it is not there; NULL: they end with the guest */
	const char *log;       /* NULL: none */
	enum machine_card card; /* what it boots from by the network */
};

/* Fills in board, firmware, firmware_log, variables and keep_variables, and opens what they need. Nothing without an image. 0, or
 * -errno with err. */
int firmware_configure(const struct firmware_options *o, struct machine_config *config, struct err *err);

/* Fills in net.rom, if config->boot has the network. -ENOENT: firmware cannot boot from it without, and it is not there. */
int firmware_configure_net(const struct firmware_options *o, struct machine_config *config, struct err *err);

#endif
