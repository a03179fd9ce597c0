/* SPDX-License-Identifier: MIT */
/* The tables of command.h, and what can be said about them without a guest. */
#include "command.h"

#include "base/json.h"

#include <stdio.h>
#include <string.h>

#define ANYBODY false
#define OWNER   true

const struct qmp_command qmp_commands[] = {
#define COMMAND(name, args, returns, who, function, help) {name, args, returns, who, help},
#define EVENT(name, data, help)
#include "commands.def"
#undef COMMAND
#undef EVENT
	{0},
};

const struct qmp_event qmp_events[] = {
#define COMMAND(name, args, returns, who, function, help)
#define EVENT(name, data, help) {name, data, help},
#include "commands.def"
#undef COMMAND
#undef EVENT
	{0},
};

const struct qmp_command *qmp_command_find(const char *name)
{
	for (const struct qmp_command *c = qmp_commands; c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

void qmp_write_commands(struct json *j)
{
	for (const struct qmp_command *c = qmp_commands; c->name; c++) {
		json_open(j, NULL, '{');
		json_str(j, "name", c->name);
		json_close(j);
	}
}

void qmp_list(void)
{
	printf("commands at a guest's control socket, which speaks QMP (docs/control.md); what has a '*' may be left out,\n"
	       "and what has a '!' is not for others while the guest is kept for a client\n");
	for (const struct qmp_command *c = qmp_commands; c->name; c++)
		printf("\n  %s(%s)%s%s%s\n    %s\n", c->name, c->args ? c->args : "", c->returns ? " -> " : "", c->returns ? c->returns : "",
		       c->changes ? " !" : "", c->help);
	printf("\nand its events\n");
	for (const struct qmp_event *e = qmp_events; e->name; e++)
		printf("\n  %s%s%s\n    %s\n", e->name, e->data ? " -> " : "", e->data ? e->data : "", e->help);
}
