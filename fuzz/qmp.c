/* SPDX-License-Identifier: MIT */
/*
 * Any bytes as what a client of the control socket says (prog/lodge/qmp: split.c, request.c, check.c).
 *
 * What must hold: bytes are cut in the same way however many come at once, and not one is lost; a text is a command with arguments that are
 * what its row says, or an error with a class and a sentence; what was accepted can be taken by its type without another look.
 *
 * The input: its first byte says whether the others are bytes of the client, or numbers of words that requests are made of.
 */
#include "prog/lodge/qmp/request.h"

#include "base/err.h"
#include "base/json_read.h"
#include "base/macros.h"
#include "prog/lodge/qmp/command.h"
#include "prog/lodge/qmp/split.h"
#include "prog/lodge/qmp/types.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool fine)
{
	if (!fine)
		abort();
}

/* -- What was accepted -------------------------------------------------------------------- */

static void check_members(const struct json_value *v, const char *members, const char *more);

static void check_value(const struct json_value *v, const char *type)
{
	const struct qmp_type *t = qmp_type_find(type);
	struct qmp_member tag, one;
	char element[QMP_WORD];

	if (type[0] == '[') {
		must(v->type == JSON_ARRAY && strlen(type) < sizeof(element));
		strcpy(element, type + 1); /* SAFE: it was measured */
		element[strlen(element) - 1] = 0;
		for (const struct json_value *e = v->first; e; e = e->next)
			check_value(e, element);
	} else if (!t) {
		must(strcmp(type, "str") != 0 || v->type == JSON_STRING);
		must(strcmp(type, "bool") != 0 || v->type == JSON_BOOL);
		must(strcmp(type, "int") != 0 || (v->type == JSON_NUMBER && !strpbrk(v->text, ".eE")));
	} else if (t->kind == QMP_ENUM) {
		must(v->type == JSON_STRING && v->text[0]);
	} else if (t->kind == QMP_OBJECT) {
		check_members(v, t->text, NULL);
	} else {
		qmp_tag(t, &tag);
		must(qmp_case(t, json_find(v, tag.name)->text, &one));
		check_members(v, t->text, qmp_type_find(one.type)->text);
	}
}

static unsigned count(const struct json_value *v, const char *members)
{
	struct qmp_member m;
	unsigned n = 0;

	while (qmp_next(&members, &m)) {
		const struct json_value *part = json_find(v, m.name);

		must(part || m.optional);
		if (part)
			check_value(part, m.type);
		n += part != NULL;
	}
	return n;
}

static void check_members(const struct json_value *v, const char *members, const char *more)
{
	unsigned n = 0;

	must(v->type == JSON_OBJECT);
	for (const struct json_value *part = v->first; part; part = part->next)
		n++;
	must(n == count(v, members) + count(v, more));
}

static void check_request(const char *text, size_t len)
{
	for (int negotiated = 0; negotiated < 2; negotiated++) {
		struct err err = {0};
		struct qmp_request r;
		int rc = qmp_request_read(&r, text, len, negotiated, &err);

		if (rc == 0) {
			must(r.command && (strcmp(r.command->name, QMP_NEGOTIATE) == 0) == !negotiated);
			check_members(r.args, r.command->args, NULL);
		} else {
			must((rc == -ERANGE || rc == -ENOMEM) && err.code == -rc && err.text[0] && r.class);
		}
		qmp_request_free(&r);
	}
}

/* -- How it is cut ------------------------------------------------------------------------- */

/* As control.c does it, `step` bytes at a time. Where pieces end is added up. */
static uint64_t cut(const char *bytes, size_t size, size_t step, bool reads)
{
	struct qmp_split s = {0};
	size_t begin = 0, have = 0, len;
	uint64_t sum = 0;

	while (begin < size) {
		enum qmp_piece piece = qmp_split(&s, bytes + begin, have - begin, &len);

		must(len <= have - begin && (piece == QMP_MORE) == !len);
		if (piece == QMP_MORE && have == size)
			break;
		if (piece == QMP_MORE)
			have = size - have < step ? size : have + step;
		if (piece == QMP_REQUEST) {
			sum = sum * 31 + begin + len;
			if (reads)
				check_request(bytes + begin, len);
		}
		begin += len;
	}
	return sum;
}

/* -- Words ---------------------------------------------------------------------------------- */

static const char *const words[] = {
	"{", "}", "[", "]", ",", ":", "{\"execute\": ", "\"arguments\": {", "\"id\": ", "\"keys\": [", "\"events\": [", "{\"type\": ", "\"data\": ",
	"{\"key\": ", "\"down\": ", "\"axis\": ", "\"value\": ", "\"name\": ", "\"up\": ", "\"fdname\": ", "\"fd\": ", "\"filename\": ", "\"enable\": [",
	"\"key\"", "\"rel\"", "\"btn\"", "\"qcode\"", "\"number\"", "\"a\"", "\"x\"", "\"left\"", "1", "-1", "1.5", "true", "null", "\xff", "\n",
	"18446744073709551616", "\"", "\\", "{\"execute\": \"send-key\", \"arguments\": {\"keys\": [{\"type\": \"qcode\", \"data\": \"",
	"{\"execute\": \"input-send-event\", \"arguments\": {\"events\": [{\"type\": \"rel\", \"data\": {\"axis\": \"x\", ", "}}]}}", "}]}}",
};

static const char *word(unsigned n, char quoted[QMP_WORD + 2])
{
	unsigned commands = 0;

	while (qmp_commands[commands].name)
		commands++;
	if (n % 2)
		return words[n / 2 % ARRAY_SIZE(words)];
	quoted[0] = '"';
	strcpy(quoted + 1, qmp_commands[n / 2 % commands].name); /* SAFE: names are shorter than words */
	return strcat(quoted, "\"");
}

/* malloc()ed, of its own size. */
static char *spell(const uint8_t *data, size_t size, size_t *len)
{
	char quoted[QMP_WORD + 2], *text;

	*len = 0;
	for (size_t i = 0; i < size; i++)
		*len += strlen(word(data[i], quoted));
	text = malloc(*len + 1);
	must(text != NULL);
	*len = 0;
	for (size_t i = 0; i < size; i++) {
		const char *w = word(data[i], quoted);

		memcpy(text + *len, w, strlen(w));
		*len += strlen(w);
	}
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = NULL;
	size_t len = size ? size - 1 : 0;
	const char *bytes = (const char *)data + 1;
	uint64_t sum;

	if (!size)
		return 0;
	if (data[0] & 1)
		bytes = text = spell(data + 1, size - 1, &len);
	sum = cut(bytes, len, len, true);
	must(cut(bytes, len, 1, false) == sum && cut(bytes, len, 7, false) == sum);
	free(text);
	return 0;
}
