/* SPDX-License-Identifier: MIT */
/*
 * The requests that a control socket takes, as a table: what `lodge help control` prints, what the answer
 * to "help" is, and what a request is checked against before its function sees it.
 */
#ifndef LODGE_REQUEST_H
#define LODGE_REQUEST_H

#include "base/json_read.h"
#include "block/disk.h"
#include "machine/layer.h"
#include "machine/machine.h"

#include <stdbool.h>

struct err;
struct json;
struct session;

struct request_arg {
	const char *name;
	enum json_type type;
	bool optional;
	const char *help;
};

#define CALL_GIVE (RAM_LAYERS_MAX + 2 + MACHINE_DISKS_MAX * DISK_LAYERS_MAX) /* a fork has as many */

/* One that is being served. */
struct call {
	struct session *session;
	const struct json_value *args; /* the object, checked */
	struct json *answer;           /* an object that is open */
	int file;                      /* what came with it; -1: nothing, or it was kept. The caller closes it */
	int give[CALL_GIVE];           /* what goes with the answer, and is closed then */
	unsigned n_give;
	bool keeps;      /* the client keeps the guest paused, because it was saved for it; may be changed */
	bool was_paused; /* before that */
	bool later;      /* the answer comes when what was begun has ended */
};

struct request {
	const char *name, *help;
	bool changes; /* the guest's life: not while another client keeps it */
	bool file;    /* a descriptor comes with it */
	struct request_arg args[4];
	int (*serve)(struct call *c, struct err *err);
};

extern const struct request requests[]; /* ends with a NULL name */

/* The request that a line asks for, with all arguments checked. NULL and err (-ERANGE) if there is
 * none. */
const struct request *request_find(const struct json_value *line, struct err *err);

/* For `lodge help control`. */
void request_list(void);

#endif
