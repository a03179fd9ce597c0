/* SPDX-License-Identifier: MIT */
/* From a row of commands.def to its function: see serve.h. And the few commands that are about the tables. */
#include "base/err.h"
#include "base/json.h"
#include "base/json_read.h"
#include "command.h"
#include "prog/lodge/told.h"
#include "request.h"
#include "serve.h"

#include <errno.h>
#include <string.h>

/* In the order of qmp_commands. */
static int (*const functions[])(struct call *c, struct err *err) = {
#define COMMAND(name, args, returns, who, function, help) function,
#define EVENT(name, data, help)
#include "commands.def"
#undef COMMAND
#undef EVENT
};

/* What an error's number means to clients that know only classes. */
static const char *class_of(int code)
{
	return code == ENOENT ? QMP_NO_DEVICE : QMP_GENERIC;
}

static bool is_scalar(const char *returns)
{
	return returns && (strcmp(returns, "any") == 0 || strcmp(returns, "str") == 0);
}

int qmp_serve(struct call *c, const struct qmp_command *command, struct err *err)
{
	bool is_open = !is_scalar(command->returns);
	int rc;

	if (is_open)
		json_open(c->answer, CALL_RETURN, command->returns && command->returns[0] == '[' ? '[' : '{');
	rc = functions[command - qmp_commands](c, err);
	if (is_open)
		json_close(c->answer);
	if (rc < 0 && !c->class)
		c->class = class_of(-rc);
	return rc;
}

const char *call_str(const struct call *c, const char *name)
{
	const struct json_value *v = json_find(c->args, name);

	return v ? v->text : NULL;
}

bool call_bool(const struct call *c, const char *name)
{
	const char *text = call_str(c, name);

	return text && text[0] == 't';
}

int call_uint(const struct call *c, const char *name, uint64_t most, uint64_t *value, struct err *err)
{
	return json_get_uint(c->args, name, most, value, err) < 0 ? call_usage(err) : 0;
}

int call_usage(struct err *err)
{
	err->code = ERANGE;
	return -ERANGE;
}

void call_give(struct call *c, int fd)
{
	if (fd >= 0)
		c->give[c->n_give++] = fd;
}

/* The client's connection notes that it was said; what happened before is no news. */
int do_capabilities(struct call *c, struct err *err)
{
	(void)err;
	told_trays(c->session);
	return 0;
}

int do_commands(struct call *c, struct err *err)
{
	(void)err;
	qmp_write_commands(c->answer);
	return 0;
}

int do_schema(struct call *c, struct err *err)
{
	(void)err;
	qmp_write_schema(c->answer);
	return 0;
}
