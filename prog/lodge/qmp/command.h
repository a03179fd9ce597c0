/* SPDX-License-Identifier: MIT */
/*
 * The commands and events of a control socket, as tables: commands.def has their rows, docs/control.md tells clients of them.
 */
#ifndef QMP_COMMAND_H
#define QMP_COMMAND_H

#include <stdbool.h>

struct json;

struct qmp_command {
	const char *name;
	const char *args, *returns; /* of types.h; NULL: nothing */
	bool changes;               /* the guest's life: not while another client keeps it */
	const char *help;
};

struct qmp_event {
	const char *name, *data, *help;
};

extern const struct qmp_command qmp_commands[]; /* both end with a NULL name */
extern const struct qmp_event qmp_events[];

/* NULL: there is none. */
const struct qmp_command *qmp_command_find(const char *name);

/* What query-commands and query-qmp-schema answer, into an array that is open. */
void qmp_write_commands(struct json *j);
void qmp_write_schema(struct json *j);

/* For `lodge help control`. */
void qmp_list(void);

#endif
