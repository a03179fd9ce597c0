/* SPDX-License-Identifier: MIT */
/* See check.h. It goes as deep as the JSON reader lets a value be. */
#include "check.h"

#include "base/err.h"
#include "base/json_read.h"
#include "types.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PATH 128 /* of a member, "events[2].data.key": what is longer is cut */
#define WORDS_TOLD 8 /* of an enumeration, in a sentence */

static int check(const struct json_value *v, const char *type, const char *path, struct err *err);

static void join(char path[PATH], const char *of, const char *name)
{
	snprintf(path, PATH, "%s%s%s", of, *of ? "." : "", name);
}

/* -- Simple ones ----------------------------------------------------------------------------- */

static bool is_int(const struct json_value *v)
{
	char *end;

	if (v->type != JSON_NUMBER)
		return false;
	errno = 0;
	if (v->text[0] == '-')
		strtoll(v->text, &end, 10);
	else
		strtoull(v->text, &end, 10);
	return !*end && !errno;
}

static int wrong(const struct json_value *v, const char *path, const char *right, struct err *err)
{
	return err_set(err, ERANGE, "'%s' is %s%.40s: it must be %s", path, v->type == JSON_NUMBER ? "" : json_type_text(v->type),
		       v->type == JSON_NUMBER ? v->text : "", right);
}

/* False: it is none of these. */
static bool check_builtin(const struct json_value *v, const char *type, const char *path, int *rc, struct err *err)
{
	static const struct {
		const char *name, *right;
		enum json_type type;
	} rows[] = {{"str", "a string", JSON_STRING}, {"number", "a number", JSON_NUMBER}, {"bool", "true or false", JSON_BOOL}};

	*rc = 0;
	if (strcmp(type, "any") == 0)
		return true;
	if (strcmp(type, "int") == 0) {
		if (!is_int(v))
			*rc = wrong(v, path, "a whole number of at most 64 bits", err);
		return true;
	}
	for (unsigned i = 0; i < 3; i++)
		if (strcmp(type, rows[i].name) == 0) {
			if (v->type != rows[i].type)
				*rc = wrong(v, path, rows[i].right, err);
			return true;
		}
	return false;
}

static int check_array(const struct json_value *v, const char *type, const char *path, struct err *err)
{
	char element[QMP_WORD], at[PATH];
	unsigned i = 0;
	int rc = 0;

	if (v->type != JSON_ARRAY)
		return wrong(v, path, "an array", err);
	snprintf(element, sizeof(element), "%.*s", (int)strlen(type) - 2, type + 1);
	for (const struct json_value *e = v->first; e && rc == 0; e = e->next) {
		snprintf(at, sizeof(at), "%s[%u]", path, i++);
		rc = check(e, element, at, err);
	}
	return rc;
}

/* -- Enumerations ----------------------------------------------------------------------------- */

static int no_word(const struct qmp_type *t, const char *said, const char *path, struct err *err)
{
	char text[256] = "", word[QMP_WORD];
	const char *w;
	size_t n = 0;
	unsigned i;

	for (i = 0; i <= WORDS_TOLD && (w = qmp_word(t, i, word)); i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", i ? ", " : "", w);
	if (i == 0)
		return err_set(err, ERANGE, "'%s' is '%.40s': there is no such %s", path, said, t->name);
	if (i > WORDS_TOLD)
		return err_set(err, ERANGE, "'%s' is '%.40s': that is no %s of query-qmp-schema", path, said, t->name);
	return err_set(err, ERANGE, "'%s' is '%.40s': it must be one of %s", path, said, text);
}

static int check_enum(const struct json_value *v, const struct qmp_type *t, const char *path, struct err *err)
{
	char word[QMP_WORD];
	const char *w;

	if (v->type != JSON_STRING)
		return wrong(v, path, "a string", err);
	for (unsigned i = 0; (w = qmp_word(t, i, word)); i++)
		if (strcmp(w, v->text) == 0)
			return 0;
	return no_word(t, v->text, path, err);
}

/* -- Objects -------------------------------------------------------------------------------------- */

static bool has(const char *members, const char *name)
{
	struct qmp_member m;

	while (qmp_next(&members, &m))
		if (strcmp(m.name, name) == 0)
			return true;
	return false;
}

static int check_present(const struct json_value *v, const char *members, const char *path, struct err *err)
{
	struct qmp_member m;
	char at[PATH];
	int rc = 0;

	while (rc == 0 && qmp_next(&members, &m)) {
		const struct json_value *part = json_find(v, m.name);

		join(at, path, m.name);
		if (part)
			rc = check(part, m.type, at, err);
		else if (!m.optional)
			rc = err_set(err, ERANGE, "'%s' is missing", at);
	}
	return rc;
}

/* `more` are members as well; NULL: there are none. */
static int check_object(const struct json_value *v, const char *members, const char *more, const char *path, struct err *err)
{
	char at[PATH];
	int rc = check_present(v, members, path, err);

	if (rc == 0)
		rc = check_present(v, more, path, err);
	for (const struct json_value *part = v->first; part && rc == 0; part = part->next)
		if (!has(members, part->key) && !has(more, part->key)) {
			join(at, path, part->key);
			rc = err_set(err, ERANGE, "'%s' is none of its members", at);
		}
	return rc;
}

static int check_union(const struct json_value *v, const struct qmp_type *t, const char *path, struct err *err)
{
	const struct json_value *word;
	struct qmp_member tag, one;
	int rc = check_present(v, t->text, path, err);

	if (rc < 0)
		return rc;
	qmp_tag(t, &tag);
	word = json_find(v, tag.name);
	return check_object(v, t->text, qmp_case(t, word->text, &one) ? qmp_type_find(one.type)->text : NULL, path, err);
}

static int check(const struct json_value *v, const char *type, const char *path, struct err *err)
{
	const struct qmp_type *t;
	int rc;

	if (type[0] == '[')
		return check_array(v, type, path, err);
	if (check_builtin(v, type, path, &rc, err))
		return rc;
	t = qmp_type_find(type);
	if (t->kind == QMP_ENUM)
		return check_enum(v, t, path, err);
	if (v->type != JSON_OBJECT)
		return wrong(v, path, "an object", err);
	return t->kind == QMP_UNION ? check_union(v, t, path, err) : check_object(v, t->text, NULL, path, err);
}

int qmp_check_members(const struct json_value *object, const char *members, struct err *err)
{
	if (members && !strchr(members, ':')) /* a type has them */
		return check(object, members, "", err);
	return check_object(object, members, NULL, "", err);
}
