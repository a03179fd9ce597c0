/* SPDX-License-Identifier: MIT */
/*
 * Reading the command line by a verb's table.
 *
 * "--name value" and "--name=value" are the same. There are no abbreviations: a script that
 * says --mem today must not mean something else when --memmap arrives. What is not known is
 * refused with the nearest known name, if there is one that is near.
 */
#include "lodge.h"

#include "base/err.h"
#include "base/near.h"

#include <errno.h>
#include <string.h>

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
	return err_set(err, EINVAL, "unknown option '%s': see lodge help %s", word,
		       verb->name);
}

/* One option; *used says how many words it took. */
static int take(const struct verb *verb, void *into, int argc, char **argv, int *used,
		struct err *err)
{
	char *word = argv[0], *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word);
	const struct option *o = find(verb, word, len);
	char *value = equals ? equals + 1 : NULL;

	*used = 1;
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
	return o->set(into, value, err);
}

int options_parse(const struct verb *verb, void *into, int argc, char **argv,
		  struct err *err)
{
	const char **operand = into;
	int used, rc;

	for (int i = 0; i < argc; i += used) {
		used = 1;
		if (argv[i][0] == '-' && argv[i][1]) {
			rc = take(verb, into, argc - i, argv + i, &used, err);
			if (rc < 0)
				return rc;
			continue;
		}
		if (!verb->operand || *operand)
			return err_set(err, EINVAL, "'%s' is one word too many: see lodge help %s",
				       argv[i], verb->name);
		*operand = argv[i];
	}
	return 0;
}
