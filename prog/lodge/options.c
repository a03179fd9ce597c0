/* SPDX-License-Identifier: MIT */
/*
 * Reading the command line by a verb's table.
 *
 * "--name value" and "--name=value" are the same, as are "-f raw" and "-fraw", and "-c -p" and "-cp".
 * There are no abbreviations: a script that says --mem today must not mean something else when --memmap
 * arrives. What is not known is refused with the nearest known name, if there is one that is near.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/near.h"
#include "base/size.h"
#include "base/word.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- Values ------------------------------------------------------------------------------- */

/* "auto|kvm|soft" as people say it: "auto, kvm or soft". */
static void list_words(const char *words, char *text, size_t len)
{
	size_t n = 0;

	for (const char *c = words; *c && n + 5 < len; c++) {
		if (*c != '|')
			text[n++] = *c;
		else
			n += (size_t)snprintf(text + n, len - n, "%s", strchr(c + 1, '|') ? ", " : " or ");
	}
	text[n] = 0;
}

static int set_word(const struct option *o, const char **member, const char *value,
		    struct err *err)
{
	char words[80];

	*member = value;
	if (word_in(value, o->arg, '|'))
		return 0;
	list_words(o->arg, words, sizeof(words));
	return err_set(err, EINVAL, "%s is %s, not '%s'", o->name, words, value);
}

static int set_number(const struct option *o, unsigned *member, const char *value,
		      struct err *err)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (value[0] < '0' || value[0] > '9' || *end || n < o->least || n > o->most)
		return err_set(err, EINVAL, "%s is a number from %u to %u, not '%s'", o->name,
			       o->least, o->most, value);
	*member = (unsigned)n;
	return 0;
}

int option_set(const struct option *o, void *into, char *value, struct err *err)
{
	void *member = (char *)into + o->at;
	int rc = 0;

	switch (o->kind) {
	case OPTION_FLAG:
		*(bool *)member = true;
		break;
	case OPTION_TEXT:
		*(const char **)member = value;
		break;
	case OPTION_WORD:
		return set_word(o, member, value, err);
	case OPTION_NUMBER:
		return set_number(o, member, value, err);
	case OPTION_SIZE:
		rc = size_parse(member, value, err);
		return rc < 0 ? err_at(err, rc, "%s", o->name) : 0;
	case OPTION_OTHER:
		return o->set(member, value, err);
	}
	return rc;
}

int wants_json(const char *format)
{
	return format && strcmp(format, "json") == 0;
}

/* -- Words of the command line ------------------------------------------------------------ */

static const char *nearest(const struct verb *verb, const char *name)
{
	const char *best = NULL;
	size_t least = near_limit(name) + 1;

	for (const struct option *o = verb->options; o && o->name; o++) {
		size_t d = near_distance(o->name, name);

		if (d < least) {
			least = d;
			best = o->name;
		}
	}
	return best;
}

static const struct option *find(const struct verb *verb, const char *word, size_t len)
{
	for (const struct option *o = verb->options; o && o->name; o++)
		if (strlen(o->name) == len && memcmp(o->name, word, len) == 0)
			return o;
	return NULL;
}

static int unknown(const struct verb *verb, const char *word, struct err *err)
{
	const char *near = nearest(verb, word);

	if (near)
		return err_set(err, EINVAL, "unknown option '%s': did you mean %s?",
			       word, near);
	return err_set(err, EINVAL, "unknown option '%s': see %s help %s", word, program_name, verb->name);
}

/* Letters in one word: each is an option, and the last may have the rest for its value. 0: it is no such word. */
static int take_letters(const struct verb *verb, void *into, char *word, struct err *err)
{
	char name[3] = "-";
	int rc;

	if (word[1] == '-' || !word[2] || find(verb, word, strcspn(word, "=")))
		return 0;
	for (char *c = word + 1; *c; c++) {
		const struct option *o;

		name[1] = *c;
		o = find(verb, name, 2);
		if (!o || (o->arg && !c[1]))
			return 0;
		rc = verb->note ? verb->note(into, o, o->arg ? c + 1 : NULL, err) : 0;
		if (rc == 0)
			rc = option_set(o, into, o->arg ? c + 1 : NULL, err);
		if (rc < 0)
			return rc;
		if (o->arg)
			break;
	}
	return 1;
}

/* One option; *used says how many words it took. */
static int take(const struct verb *verb, void *into, int argc, char **argv, int *used,
		struct err *err)
{
	char *word = argv[0], *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word);
	const struct option *o = find(verb, word, len);
	char *value = equals ? equals + 1 : NULL;
	int rc = take_letters(verb, into, word, err);

	*used = 1;
	if (rc)
		return rc < 0 ? rc : 0;
	if (!o)
		return unknown(verb, word, err);
	if (!o->arg && value)
		return err_set(err, EINVAL, "%s takes no value", o->name);
	if (o->arg && !value) {
		if (argc < 2)
			return err_set(err, EINVAL, "%s needs a value: %s %s", o->name,
				       o->name, o->arg);
		value = argv[1];
		*used = 2;
	}
	rc = verb->note ? verb->note(into, o, value, err) : 0; /* first: set() may change the text */
	return rc < 0 ? rc : option_set(o, into, value, err);
}

int options_parse(const struct verb *verb, void *into, int argc, char **argv,
		  struct err *err)
{
	const char **operands = into;
	unsigned n = 0;
	int used, rc;

	if (verb->defaults)
		memcpy(into, verb->defaults, verb->size);
	for (int i = 0; i < argc; i += used) {
		used = 1;
		if (verb->rest && strcmp(argv[i], "--") == 0) {
			*(char ***)((char *)into + verb->rest) = argv + i + 1;
			return 0;
		}
		if (argv[i][0] == '-' && argv[i][1] && !isdigit((unsigned char)argv[i][1])) {
			rc = take(verb, into, argc - i, argv + i, &used, err);
			if (rc < 0)
				return rc;
			continue;
		}
		if (n == verb->n_operands)
			return err_set(err, EINVAL, "'%s' is one word too many: see %s help %s",
				       argv[i], program_name, verb->name);
		rc = verb->note ? verb->note(into, NULL, argv[i], err) : 0;
		if (rc < 0)
			return rc;
		operands[n++] = argv[i];
	}
	return 0;
}
