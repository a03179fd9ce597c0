/* SPDX-License-Identifier: MIT */
/* See request.h. */
#include "request.h"

#include "base/err.h"
#include "base/json_read.h"
#include "check.h"
#include "command.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct json_value no_args = {.type = JSON_OBJECT};

static int find_command(struct qmp_request *r, const char *name, bool negotiated, struct err *err)
{
	bool negotiates = strcmp(name, QMP_NEGOTIATE) == 0;

	r->class = QMP_NO_COMMAND;
	r->command = qmp_command_find(name);
	if (!negotiates && !negotiated)
		return err_set(err, ERANGE, "'%.40s' comes too early: the first command is " QMP_NEGOTIATE, name);
	if (negotiates && negotiated)
		return err_set(err, ERANGE, "'%s' was said already", name);
	if (!r->command)
		return err_set(err, ERANGE, "there is no command '%.40s': see query-commands", name);
	r->class = QMP_GENERIC;
	return 0;
}

/* What else stands in the object is refused: one day it may mean something. */
static int check_members(const struct json_value *root, struct err *err)
{
	for (const struct json_value *v = root->first; v; v = v->next)
		if (strcmp(v->key, "execute") && strcmp(v->key, "arguments") && strcmp(v->key, "id"))
			return err_set(err, ERANGE, "'%.40s' is no member of a request: it has execute, arguments and id", v->key);
	return 0;
}

static int read_request(struct qmp_request *r, bool negotiated, struct err *err)
{
	const char *name;
	int rc;

	r->id = json_find(r->root, "id");
	if (r->root->type != JSON_OBJECT)
		return err_set(err, ERANGE, "a request is an object: {\"execute\": \"query-commands\"}");
	if ((rc = check_members(r->root, err)) < 0 || (rc = json_get_str(r->root, "execute", &name, err)) < 0 ||
	    (rc = find_command(r, name, negotiated, err)) < 0)
		return rc;
	r->args = &no_args;
	if (json_find(r->root, "arguments") && (rc = json_get(r->root, "arguments", JSON_OBJECT, &r->args, err)) < 0)
		return rc;
	rc = qmp_check_members(r->args, r->command->args, err);
	return rc < 0 ? err_at(err, rc, "'%s'", r->command->name) : 0;
}

int qmp_request_read(struct qmp_request *r, const char *text, size_t len, bool negotiated, struct err *err)
{
	int rc;

	*r = (struct qmp_request){.class = QMP_GENERIC};
	rc = json_parse(&r->root, text, len, err);
	if (rc == 0)
		rc = read_request(r, negotiated, err);
	if (rc < 0 && rc != -ENOMEM) {
		err->code = ERANGE; /* usage */
		rc = -ERANGE;
	}
	return rc;
}

void qmp_request_free(struct qmp_request *r)
{
	free(r->root);
	*r = (struct qmp_request){0};
}
