/* SPDX-License-Identifier: MIT */
/*
 * query-qmp-schema: the tables of commands, events and types in the shape that QMP's clients know. Each entry has a name and a kind, and
 * says the names of others. What has no name in the tables gets one here: the arguments of a command that of the command and "-arg",
 * an array "[element]", and what is empty "empty".
 */
#include "base/json.h"
#include "command.h"
#include "types.h"

#include <stdio.h>
#include <string.h>

#define EMPTY "empty"

static void open_entry(struct json *j, const char *name, const char *kind)
{
	json_open(j, NULL, '{');
	json_str(j, "name", name);
	json_str(j, "meta-type", kind);
}

/* -- Types --------------------------------------------------------------------------------- */

static void write_members(struct json *j, const char *text)
{
	struct qmp_member m;

	json_open(j, "members", '[');
	while (qmp_next(&text, &m)) {
		json_open(j, NULL, '{');
		json_str(j, "name", m.name);
		json_str(j, "type", m.type);
		if (m.optional)
			json_str(j, "default", NULL);
		json_close(j);
	}
	json_close(j);
}

static void write_object(struct json *j, const char *name, const char *text)
{
	open_entry(j, name, "object");
	write_members(j, text);
	json_close(j);
}

static void write_union(struct json *j, const struct qmp_type *t)
{
	const char *at = t->cases;
	struct qmp_member m;

	open_entry(j, t->name, "object");
	write_members(j, t->text);
	qmp_tag(t, &m);
	json_str(j, "tag", m.name);
	json_open(j, "variants", '[');
	while (qmp_next(&at, &m)) {
		json_open(j, NULL, '{');
		json_str(j, "case", m.name);
		json_str(j, "type", m.type);
		json_close(j);
	}
	json_close(j);
	json_close(j);
}

static void write_enum(struct json *j, const struct qmp_type *t)
{
	char word[QMP_WORD];
	const char *w;

	open_entry(j, t->name, "enum");
	json_open(j, "members", '[');
	for (unsigned i = 0; (w = qmp_word(t, i, word)); i++) {
		json_open(j, NULL, '{');
		json_str(j, "name", w);
		json_close(j);
	}
	json_close(j);
	json_open(j, "values", '[');
	for (unsigned i = 0; (w = qmp_word(t, i, word)); i++)
		json_str(j, NULL, w);
	json_close(j);
	json_close(j);
}

static void write_type(struct json *j, const struct qmp_type *t)
{
	if (t->kind == QMP_ENUM)
		write_enum(j, t);
	else if (t->kind == QMP_UNION)
		write_union(j, t);
	else
		write_object(j, t->name, t->text);
}

/* -- Arrays --------------------------------------------------------------------------------- */

static bool has_text(const char *text, const char *part)
{
	return text && strstr(text, part);
}

static bool is_used(const char *array)
{
	for (const struct qmp_command *c = qmp_commands; c->name; c++)
		if (has_text(c->args, array) || has_text(c->returns, array))
			return true;
	for (const struct qmp_type *t = qmp_types; t->name; t++)
		if (has_text(t->text, array))
			return true;
	return false;
}

static void write_array(struct json *j, const char *element)
{
	char name[QMP_WORD + 2];

	snprintf(name, sizeof(name), "[%s]", element);
	if (!is_used(name))
		return;
	open_entry(j, name, "array");
	json_str(j, "element-type", element);
	json_close(j);
}

/* -- Commands and events ---------------------------------------------------------------------- */

static void write_command(struct json *j, const struct qmp_command *c)
{
	bool is_type = c->args && !strchr(c->args, ':');
	char arg[QMP_WORD];

	snprintf(arg, sizeof(arg), "%s-arg", c->name);
	open_entry(j, c->name, "command");
	json_str(j, "arg-type", is_type ? c->args : c->args ? arg : EMPTY);
	json_str(j, "ret-type", c->returns ? c->returns : EMPTY);
	json_close(j);
	if (c->args && !is_type)
		write_object(j, arg, c->args);
}

static void write_event(struct json *j, const struct qmp_event *e)
{
	open_entry(j, e->name, "event");
	json_str(j, "arg-type", e->data ? e->data : EMPTY);
	json_close(j);
}

void qmp_write_schema(struct json *j)
{
	for (const struct qmp_command *c = qmp_commands; c->name; c++)
		write_command(j, c);
	for (const struct qmp_event *e = qmp_events; e->name; e++)
		write_event(j, e);
	write_object(j, EMPTY, NULL);
	for (const struct qmp_type *t = qmp_types; t->name; t++) {
		write_type(j, t);
		write_array(j, t->name);
	}
	for (const struct qmp_builtin *b = qmp_builtins; b->name; b++) {
		open_entry(j, b->name, "builtin");
		json_str(j, "json-type", b->json);
		json_close(j);
		write_array(j, b->name);
	}
}
