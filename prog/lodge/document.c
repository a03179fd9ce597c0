/* SPDX-License-Identifier: MIT */
/*
 * See document.h.
 *
 * The file comes from somebody who may run machines as this user, so it can say what options can; it is still bounded, and each error
 * names the file and the place in it. Names of files in it are as on the command line: from the current directory.
 */
#include "document.h"

#include "base/err.h"
#include "base/json.h"
#include "base/json_read.h"
#include "base/macros.h"
#include "base/near.h"
#include "base/scoped.h"
#include "lodge.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPERAND "from"

/* -- The table ---------------------------------------------------------------------------- */

/* Options that are no part of a machine. */
static bool is_of_machine(const struct option *o)
{
	static const char *const others[] = {
		"--machine", "--incoming", "--tls", "--template", "--device", "--sandbox", "--paused", "--no-reboot", "--stats", "--trace",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
		if (strcmp(o->name, others[i]) == 0)
			return false;
	return true;
}

/* Those whose function adds to a list. */
static bool is_list(const struct option *o)
{
	static const char *const lists[] = {"--disk", "--cdrom", "--share", "--ssh-key", "-p"};

	for (unsigned i = 0; i < ARRAY_SIZE(lists); i++)
		if (strcmp(o->name, lists[i]) == 0)
			return true;
	return false;
}

static const char *key_of(const struct option *o)
{
	return strcmp(o->name, "-p") == 0 ? "forward" : o->name + 2;
}

static const struct option *find(const struct verb *verb, const char *key)
{
	for (const struct option *o = verb->options; o->name; o++)
		if (is_of_machine(o) && strcmp(key_of(o), key) == 0)
			return o;
	return NULL;
}

/* -- Noting ------------------------------------------------------------------------------- */

int document_note(struct document *d, const struct option *o, const char *value, struct err *err)
{
	char *copy = NULL;

	if (o && !is_of_machine(o))
		return 0;
	if (d->n == DOCUMENT_MAX)
		return err_set(err, E2BIG, "a machine has %d options at most", DOCUMENT_MAX);
	if (value && !(copy = strdup(value)))
		return err_set(err, ENOMEM, "no memory");
	d->said[d->n++] = (struct said){o, copy, NULL};
	return 0;
}

/* -- Reading ------------------------------------------------------------------------------ */

static int unknown(const struct verb *verb, const char *key, struct err *err)
{
	const char *best = NULL;
	size_t least = near_limit(key) + 1;

	for (const struct option *o = verb->options; o->name; o++) {
		size_t d = is_of_machine(o) ? near_distance(key_of(o), key) : least;

		if (d < least) {
			least = d;
			best = key_of(o);
		}
	}
	if (best)
		return err_set(err, EINVAL, "'%s' is nothing that a machine has: did you mean '%s'?", key, best);
	return err_set(err, EINVAL, "'%s' is nothing that a machine has: see lodge help machine", key);
}

static enum json_type type_of(const struct option *o)
{
	if (!o)
		return JSON_STRING;
	return o->kind == OPTION_FLAG ? JSON_BOOL : o->kind == OPTION_NUMBER ? JSON_NUMBER : JSON_STRING;
}

/* Sizes may be numbers, too: bytes. */
static bool fits(const struct option *o, const struct json_value *v)
{
	return v->type == type_of(o) || (o && o->kind == OPTION_SIZE && v->type == JSON_NUMBER);
}

static int set(struct document *d, const struct option *o, void *into, const struct json_value *v, struct err *err)
{
	char *value;
	int rc;

	if (!fits(o, v))
		return err_set(err, EINVAL, "it is %s, and must be %s", json_type_text(v->type), json_type_text(type_of(o)));
	if (v->type == JSON_BOOL && strcmp(v->text, "true") != 0)
		return 0;
	rc = document_note(d, o, v->type == JSON_BOOL ? NULL : v->text, err);
	if (rc < 0)
		return rc;
	value = d->said[d->n - 1].given = strdup(v->text);
	if (!value)
		return err_set(err, ENOMEM, "no memory");
	if (o)
		return option_set(o, into, value, err);
	*(const char **)into = value;
	return 0;
}

static int set_all(struct document *d, const struct option *o, void *into, const struct json_value *v, struct err *err)
{
	unsigned i = 1;
	int rc = 0;

	if (v->type != JSON_ARRAY || !o || !is_list(o)) {
		rc = set(d, o, into, v, err);
		return rc < 0 ? err_at(err, rc, "'%s'", v->key) : 0;
	}
	for (const struct json_value *e = v->first; e && rc == 0; e = e->next, i++) {
		rc = set(d, o, into, e, err);
		if (rc < 0)
			return err_at(err, rc, "'%s', number %u", v->key, i);
	}
	return rc;
}

static int read_members(struct document *d, const struct verb *verb, void *into, const struct json_value *root, struct err *err)
{
	int rc = 0;

	if (root->type != JSON_OBJECT)
		return err_set(err, EINVAL, "it is %s: a machine is an object", json_type_text(root->type));
	for (const struct json_value *v = root->first; v && rc == 0; v = v->next) {
		const struct option *o = find(verb, v->key);

		if (!o && strcmp(v->key, OPERAND) != 0)
			return unknown(verb, v->key, err);
		rc = set_all(d, o, into, v, err);
	}
	return rc;
}

/* NULL with err. */
static char *read_text(const char *file, size_t *len, struct err *err)
{
	scoped_mem char *text = malloc(JSON_TEXT_MAX + 1);
	FILE *in = fopen(file, "re");
	char *whole = NULL;

	if (!in) {
		err_sys(err, errno, "machine '%s'", file);
		return NULL;
	}
	if (text) {
		*len = fread(text, 1, JSON_TEXT_MAX + 1, in);
		if (ferror(in))
			err_sys(err, errno, "machine '%s'", file);
		else if (*len > JSON_TEXT_MAX)
			err_set(err, E2BIG, "machine '%s': a text is %u bytes at most", file, JSON_TEXT_MAX);
		else
			whole = text;
	} else {
		err_set(err, ENOMEM, "no memory");
	}
	fclose(in);
	if (whole)
		text = NULL;
	return whole;
}

int document_load(struct document *d, const struct verb *verb, void *into, const char *file, struct err *err)
{
	struct json_value *root = NULL;
	size_t len = 0;
	char *text = read_text(file, &len, err);
	int rc;

	if (!text)
		return -EINVAL;
	rc = json_parse(&root, text, len, err);
	free(text);
	if (rc == 0)
		rc = read_members(d, verb, into, root, err);
	free(root);
	return rc < 0 ? err_at(err, rc, "machine '%s'", file) : 0;
}

/* -- Writing ------------------------------------------------------------------------------ */

static void put_value(const struct option *o, const char *key, const char *value, struct json *j)
{
	if (!value)
		json_bool(j, key, true);
	else if (type_of(o) == JSON_NUMBER)
		json_uint(j, key, strtoul(value, NULL, 10));
	else
		json_str(j, key, value);
}

/* Is said[i] of a list, which stands where its first is, or was it said anew later? */
static bool is_elsewhere(const struct document *d, unsigned i)
{
	const struct option *o = d->said[i].option;
	bool list = o && is_list(o);

	for (unsigned k = list ? 0 : i + 1; k < (list ? i : d->n); k++)
		if (d->said[k].option == o)
			return true;
	return false;
}

void document_put(const struct document *d, struct json *j)
{
	if (!d->n)
		return;
	json_open(j, "machine", '{');
	for (unsigned i = 0; i < d->n; i++) {
		const struct option *o = d->said[i].option;

		if (is_elsewhere(d, i))
			continue;
		if (!o || !is_list(o)) {
			put_value(o, o ? key_of(o) : OPERAND, d->said[i].value, j);
			continue;
		}
		json_open(j, key_of(o), '[');
		for (unsigned k = i; k < d->n; k++)
			if (d->said[k].option == o)
				put_value(o, NULL, d->said[k].value, j);
		json_close(j);
	}
	json_close(j);
}

/* -- What there is ------------------------------------------------------------------------ */

void document_list(const struct verb *verb)
{
	printf("members of a machine's document (docs/machine.md), which are options of lodge %s\n\n", verb->name);
	printf("  %-14s %-8s %s\n", OPERAND, "string", "a disk, a CD's image or the name of an image: what lodge run takes as its operand");
	for (const struct option *o = verb->options; o->name; o++)
		if (is_of_machine(o))
			printf("  %-14s %-8s %s\n", key_of(o), is_list(o) ? "strings" : type_of(o) == JSON_BOOL ? "boolean" :
			       type_of(o) == JSON_NUMBER ? "number" : "string", o->help);
}

/* "auto|kvm|soft" */
static void put_words(const char *words, struct json *j)
{
	char word[32];

	json_open(j, "enum", '[');
	for (size_t n; *words; words += n + (words[n] == '|')) {
		n = strcspn(words, "|");
		snprintf(word, sizeof(word), "%.*s", (int)n, words);
		json_str(j, NULL, word);
	}
	json_close(j);
}

static void put_type(const struct option *o, struct json *j)
{
	switch (type_of(o)) {
	case JSON_BOOL:
		json_str(j, "type", "boolean");
		break;
	case JSON_NUMBER:
		json_str(j, "type", "integer");
		json_uint(j, "minimum", o->least);
		json_uint(j, "maximum", o->most);
		break;
	default:
		if (o->kind == OPTION_SIZE) {
			json_open(j, "type", '[');
			json_str(j, NULL, "string");
			json_str(j, NULL, "integer");
			json_close(j);
		} else {
			json_str(j, "type", "string");
		}
		if (o->kind == OPTION_WORD)
			put_words(o->arg, j);
		break;
	}
}

static void put_option(const struct option *o, struct json *j)
{
	json_open(j, key_of(o), '{');
	json_str(j, "description", o->help);
	if (is_list(o)) {
		json_str(j, "type", "array");
		json_open(j, "items", '{');
		json_str(j, "type", "string");
		json_close(j);
	} else {
		put_type(o, j);
	}
	json_close(j);
}

void document_schema(const struct verb *verb)
{
	struct json j = {.out = stdout};

	json_open(&j, NULL, '{');
	json_str(&j, "$schema", "https://json-schema.org/draft/2020-12/schema");
	json_str(&j, "title", "a machine, as lodge run --machine takes it");
	json_str(&j, "type", "object");
	json_bool(&j, "additionalProperties", false);
	json_open(&j, "properties", '{');
	json_open(&j, OPERAND, '{');
	json_str(&j, "description", "a disk, a CD's image or the name of an image");
	json_str(&j, "type", "string");
	json_close(&j);
	for (const struct option *o = verb->options; o->name; o++)
		if (is_of_machine(o))
			put_option(o, &j);
	json_close(&j);
	json_close(&j);
	printf("\n");
}
