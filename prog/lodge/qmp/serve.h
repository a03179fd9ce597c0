/* SPDX-License-Identifier: MIT */
/*
 * A command that is being served, for the files of this directory that do what commands say.
 *
 * What a command returns is written into c->answer: members, if its row of the table says an object; elements, if that says an array;
 * else one value, with the key CALL_RETURN. Functions return 0, or -errno with a sentence; nothing that they have written is sent then.
 */
#ifndef QMP_SERVE_H
#define QMP_SERVE_H

#include "block/disk.h"
#include "machine/layer.h"
#include "machine/machine.h"

#include <stdbool.h>
#include <stdint.h>

struct err;
struct json;
struct json_value;
struct qmp_command;
struct qmp_files;
struct session;

#define CALL_RETURN "return"
#define CALL_GIVE (RAM_LAYERS_MAX + 2 + MACHINE_DISKS_MAX * DISK_LAYERS_MAX) /* a fork has as many */

struct call {
	struct session *session;
	const struct json_value *args; /* checked */
	struct json *answer;
	struct qmp_files *files;       /* the client's */
	int give[CALL_GIVE];           /* what goes with the answer, and is closed then */
	unsigned n_give;
	const char *class; /* of the error, if it is not what its number says */
	bool keeps;        /* the client keeps the guest paused, because it was saved for it; may be changed */
	bool was_paused;   /* before that */
	bool later;        /* the answer comes when what was begun has ended */
};

/* Calls the command's function, with c->answer inside of an object; the class of an error is in c->class. */
int qmp_serve(struct call *c, const struct qmp_command *command, struct err *err);

#define COMMAND(name, args, returns, who, function, help) int function(struct call *c, struct err *err);
#define EVENT(name, data, help)
#include "commands.def"
#undef COMMAND
#undef EVENT

/* An argument that was checked; NULL, false, 0 if it was left out. */
const char *call_str(const struct call *c, const char *name);
bool call_bool(const struct call *c, const char *name);

/* A whole number that the table cannot bound: -ERANGE with what json_get_uint() says. */
int call_uint(const struct call *c, const char *name, uint64_t most, uint64_t *value, struct err *err);

/* The error that was set is the client's. -ERANGE. */
int call_usage(struct err *err);

/* A descriptor to go with the answer; -1 is fine. */
void call_give(struct call *c, int fd);

#endif
